// Frames that somebody made up: damaged at random and sealed again, so that the checks behind the
// checksum are reached. Each is refused with `out` untouched, or decodes to some values; nothing
// outside the arrays is accessed.
#include "check.hpp"
#include "core/cpu.hpp"
#include "core/error.hpp"
#include "data.hpp"
#include "dispatch/basis_codec.hpp"
#include "dispatch/frame_codec.hpp"

#include <optional>

namespace {

using namespace thinwire;
using data::Memory;
using data::Random;

Memory valid_frame(const Layout& layout, std::uint64_t seed) {
  const data::Kind kind = data::kKinds[seed % std::size(data::kKinds)];
  const Memory x = data::tensor(kind, DType::fp32, layout.count(), seed);
  Memory frame(layout.frame_bytes());
  encode_frame(layout, {}, {.x = x.data(), .dtype = DType::fp32}, seed, frame.span());
  return frame;
}

// Gives a frame, whatever it holds, the checksum of its header and of as much payload as there is.
void seal_again(Memory& frame) {
  if (frame.size() < kHeaderBytes)
    return;
  FrameHeader header;
  std::memcpy(&header, frame.data(), kHeaderBytes);
  if (header.payload_bytes <= frame.size() - kHeaderBytes)
    seal_frame(header, frame.span().data());
}

std::uint8_t hostile_byte(Random& random) {
  constexpr std::uint8_t kExtremes[] = {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff};
  return random.below(2) ? kExtremes[random.below(std::size(kExtremes))]
                         : static_cast<std::uint8_t>(random.next());
}

void damage_header(Memory& frame, Random& random) {
  struct Field {
    std::size_t offset, bytes;
  };
  constexpr Field kFields[] = {
      {offsetof(FrameHeader, param), 4}, {offsetof(FrameHeader, codec), 1},
      {offsetof(FrameHeader, dtype), 1}, {offsetof(FrameHeader, flags), 1},
      {offsetof(FrameHeader, count), 8}, {offsetof(FrameHeader, payload_bytes), 8}};
  const Field field = kFields[random.below(std::size(kFields))];
  for (std::size_t i = random.below(field.bytes); i < field.bytes; i += 1 + random.below(4))
    frame.data()[field.offset + i] = hostile_byte(random);
}

// Changes a few bytes of the payload, more often near its start, where counts and scales lie.
void damage_payload(Memory& frame, Random& random) {
  const std::size_t payload = frame.size() - kHeaderBytes;
  if (payload == 0)
    return;
  for (std::size_t left = 1 + random.below(8); left > 0; --left) {
    const std::size_t range = random.below(2) ? payload : 1 + random.below(payload);
    frame.data()[kHeaderBytes + random.below(range)] = hostile_byte(random);
  }
}

// The damaged frame in memory of its own length, perhaps cut off or longer than it was.
Memory damaged(const Memory& frame, Random& random) {
  std::size_t size = frame.size();
  if (random.below(8) == 0)
    size = random.below(2) ? random.below(frame.size()) : frame.size() + random.below(64);
  Memory made(size);
  std::memcpy(made.data(), frame.data(), size < frame.size() ? size : frame.size());
  if (size >= kHeaderBytes) {
    if (random.below(4) == 0)
      damage_header(made, random);
    if (random.below(8) != 0)
      damage_payload(made, random);
  }
  seal_again(made);
  return made;
}

// Decodes on every target; they must agree on whether it can be. Returns whether it could.
bool decodes(const Layout& layout, Memory& frame, DType dtype, bool accumulate) {
  std::optional<bool> agreed;
  for (Target target : available_targets()) {
    force_target(name(target));
    Memory out(layout.count() * element_bytes(dtype));
    const Memory before = out;
    bool accepted = true;
    try {
      const FrameHeader header = decode_frame(layout, frame.span(), out.data(), dtype, accumulate);
      if (header.flags & kFlagAborted)
        CHECK(out == before);
    } catch (const CorruptFrame&) {
      accepted = false;
    } catch (const InvalidArgument&) {
      accepted = false;
    }
    if (!accepted)
      CHECK(out == before);
    CHECK(accepted == agreed.value_or(accepted));
    agreed = accepted;
  }
  force_target("");
  return *agreed;
}

constexpr DType kDTypes[] = {DType::fp32, DType::fp16, DType::bf16};

void attack(const Layout& layout, std::size_t rounds, std::uint64_t seed) {
  Random random(seed);
  std::size_t accepted = 0;
  for (std::size_t round = 0; round < rounds; ++round) {
    check::context = "seed " + std::to_string(seed) + ", round " + std::to_string(round);
    Memory frame = damaged(valid_frame(layout, seed + round % 16), random);
    accepted += decodes(layout, frame, kDTypes[round % 3], round % 2 != 0);
  }
  check::context = "seed " + std::to_string(seed);
  CHECK(accepted > 0 && accepted < rounds); // else the damage misses one of the two sides
}

TEST(single_segments) {
  std::uint64_t seed = 1000;
  for (const CodecSpec& spec : data::every_spec())
    for (std::size_t n : {1u, 300u, 2085u})
      attack(Layout(n, spec), 150, seed += 1000);
}

TEST(plans) {
  std::vector<SegmentSpec> segments;
  for (const CodecSpec& spec : data::every_spec())
    segments.push_back({100 + 61 * segments.size(), spec});
  attack(Layout(segments, 7), 300, 1);
}

TEST(frames_along_a_basis) {
  constexpr std::size_t kRows = 70, kColumns = 33, kRank = 9; // two groups of rows, odd columns
  Memory vectors(kRank * kColumns * sizeof(float));
  begin_basis(kColumns, kRank, 7, reinterpret_cast<float*>(vectors.data()));
  const Basis basis{kColumns, kRank, reinterpret_cast<const float*>(vectors.data())};
  std::vector<SegmentSpec> segments;
  for (const CodecSpec& spec : data::every_spec()) {
    segments.push_back({kRows * kColumns, spec, basis});
    attack(Layout({segments.back()}, 7), 100, segments.size());
  }
  attack(Layout(segments, 7), 100, 1);
}

TEST(a_frame_of_another_layout_is_refused) {
  const std::vector<CodecSpec> specs = data::every_spec();
  for (std::size_t i = 0; i < specs.size(); ++i) {
    Memory frame = valid_frame(Layout(5000, specs[i]), i);
    for (std::size_t j = 0; j < specs.size(); ++j) {
      const Layout layout(5000, specs[j]);
      check::context = data::text(specs[i]) + " read as " + data::text(specs[j]);
      CHECK(decodes(layout, frame, DType::fp32, false) ==
            (specs[i].wire_id == specs[j].wire_id && specs[i].param() == specs[j].param()));
      CHECK(!decodes(Layout(5001, specs[j]), frame, DType::fp32, false));
    }
  }
}

// A topk frame of 300 values (a row of 256 and one of 44) with room for one entry, its payload
// changed.
template <class Change> void refused_topk(const char* part, Change&& change) {
  const CodecSpec spec = CodecSpec::make("topk", 0, "", 0.000001);
  const Layout layout(300, spec);
  const TopKSections sections = topk_sections(300, spec.density, spec.values);
  Memory frame = valid_frame(layout, 0), out(1200);
  change(frame.data() + kHeaderBytes, frame.data() + kHeaderBytes + sections.offsets);
  seal_again(frame);
  CHECK_THROWS(CorruptFrame, part,
               decode_frame(layout, frame.span(), out.data(), DType::fp32, false));
}

TEST(topk_counts_and_offsets_are_checked) {
  refused_topk("counts 255 entries, 1 is the most",
               [](std::uint8_t* counts, std::uint8_t* offsets) {
                 counts[0] = 255;
                 counts[1] = 0;
                 for (std::uint8_t i = 0; i < 32; ++i) // rising to the end of the payload
                   offsets[i] = i;
               });
  refused_topk("counts 2 entries", [](std::uint8_t* counts, std::uint8_t* offsets) {
    counts[0] = 2;
    counts[1] = 0;
    offsets[1] = 255;
  });
  refused_topk("offset 44 in row 1 is out of", [](std::uint8_t* counts, std::uint8_t* offsets) {
    counts[0] = 0;
    counts[1] = 1;
    offsets[0] = 44;
  });
}

TEST(ternary_codes_are_checked) {
  const Layout layout(300, CodecSpec::make("ternary"));
  for (unsigned byte : {242u, 243u, 255u})
    for (std::size_t at : {0u, 63u}) { // the first and the last of the codes
      Memory frame = valid_frame(layout, 0);
      frame.data()[kHeaderBytes + 16 + at] = static_cast<std::uint8_t>(byte);
      seal_again(frame);
      CHECK(decodes(layout, frame, DType::fp32, false) == (byte == 242));
    }
}

TEST(an_aborted_frame_leaves_out_as_it_is) {
  const Layout layout(300, CodecSpec::make("int8"));
  Memory frame(layout.frame_bytes()), out(1200);
  write_abort({}, 4, "too late", frame.span());
  const Memory before = out;
  CHECK(decode_frame(layout, frame.span(), out.data(), DType::fp32, true).flags == kFlagAborted);
  CHECK(out == before);
}

TEST(noise_is_no_frame) {
  Random random(5);
  const Layout layout(300, CodecSpec::make("topk"));
  for (std::size_t size = 0; size < 300; ++size) {
    Memory noise(size);
    for (std::size_t i = 0; i < size; ++i)
      noise.data()[i] = static_cast<std::uint8_t>(random.next());
    CHECK(!decodes(layout, noise, DType::fp32, false));
  }
}

} // namespace
