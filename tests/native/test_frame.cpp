// Frames: what is written is read, and any change of any bit is found.
#include "check.hpp"
#include "core/error.hpp"
#include "data.hpp"
#include "wire/frame.hpp"

namespace {

using namespace thinwire;

constexpr std::size_t kPayload = 48;

FrameHeader every_field() {
  FrameHeader header;
  header.group = 0x0102030405060708;
  header.step = 0x1112131415161718;
  header.bucket = 0x21222324;
  header.slice = 0x31323334;
  header.sender = 0x41424344;
  header.param = 0x51525354;
  header.codec = kPlanCodecId;
  header.dtype = 2;
  header.phase = 1;
  header.flags = kFlagNonfinite;
  header.weight = 0.125;
  header.control = 0x6162636465666768;
  header.count = 70;
  header.payload_bytes = kPayload;
  return header;
}

data::Memory sealed(const FrameHeader& header) {
  data::Memory frame(kHeaderBytes + kPayload);
  seal_frame(header, frame.span().data());
  return frame;
}

TEST(fields_are_read_as_written) {
  for (std::size_t skew : {0, 1, 7}) {
    const FrameHeader written = every_field();
    data::Memory frame(kHeaderBytes + kPayload, skew);
    seal_frame(written, frame.span().data());
    FrameHeader read = open_frame(frame.span());
    read.checksum = 0;
    CHECK(std::memcmp(&read, &written, sizeof read) == 0);
  }
}

TEST(every_flipped_bit_is_found) {
  data::Memory frame = sealed(every_field());
  for (std::size_t bit = 0; bit < 8 * frame.size(); ++bit) {
    check::context = "bit " + std::to_string(bit);
    frame.data()[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
    if (bit / 8 == 4 || bit / 8 == 5)
      CHECK_THROWS(InvalidArgument, "wire version", open_frame(frame.span()));
    else
      CHECK_THROWS(CorruptFrame, "corrupt frame: ", open_frame(frame.span()));
    frame.data()[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
  }
  open_frame(frame.span());
}

// A header whose checksum is right, and which must be refused all the same.
template <class Error, class Change> void refused(const char* part, Change&& change) {
  FrameHeader header = every_field();
  change(header);
  data::Memory frame = sealed(header);
  CHECK_THROWS(Error, part, open_frame(frame.span()));
}

TEST(fields_that_cannot_be_are_refused_behind_a_right_checksum) {
  refused<CorruptFrame>("magic", [](FrameHeader& h) { h.magic ^= 1; });
  refused<InvalidArgument>("wire version 2, this thinwire speaks version 1",
                           [](FrameHeader& h) { h.version = 2; });
  refused<CorruptFrame>("header_bytes is 97", [](FrameHeader& h) { h.header_bytes = 97; });
  refused<CorruptFrame>("reserved", [](FrameHeader& h) { h.reserved0 = 1; });
  refused<CorruptFrame>("reserved", [](FrameHeader& h) { h.reserved1 = 1; });
  refused<CorruptFrame>("unknown flags 4", [](FrameHeader& h) { h.flags |= 4; });
}

TEST(a_payload_that_is_not_there_is_refused_before_it_is_hashed) {
  for (std::uint64_t bytes : {std::uint64_t{kPayload} + 1, std::uint64_t{1} << 40,
                              ~std::uint64_t{0}, ~std::uint64_t{0} - 95}) {
    data::Memory frame = sealed(every_field());
    std::memcpy(frame.data() + offsetof(FrameHeader, payload_bytes), &bytes, sizeof bytes);
    CHECK_THROWS(CorruptFrame, "cut off", open_frame(frame.span()));
  }
}

TEST(a_frame_cut_off_anywhere_is_refused) {
  const data::Memory whole = sealed(every_field());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    data::Memory cut(length);
    std::memcpy(cut.data(), whole.data(), length);
    CHECK_THROWS(CorruptFrame, length < kHeaderBytes ? "a header alone" : "cut off",
                 open_frame(cut.span()));
  }
}

TEST(a_buffer_may_go_on_behind_its_frame) {
  const data::Memory frame = sealed(every_field());
  data::Memory longer(frame.size() + 5);
  std::memcpy(longer.data(), frame.data(), frame.size());
  CHECK(open_frame(longer.span()).payload_bytes == kPayload);
}

TEST(an_aborted_frame_says_why_as_far_as_it_fits) {
  const std::string message = "rank 3 lost its link";
  for (std::size_t room : {std::size_t{0}, std::size_t{1}, message.size(), message.size() + 50}) {
    data::Memory frame(kHeaderBytes + room);
    const std::size_t bytes = write_abort(every_field(), 3, message, frame.span());
    const FrameHeader header = open_frame(frame.span());
    CHECK(header.flags == kFlagAborted);
    CHECK(header.param == 3 && header.count == 0 && header.step == every_field().step);
    CHECK(bytes == kHeaderBytes + header.payload_bytes);
    const std::string read(reinterpret_cast<const char*>(frame.data()) + kHeaderBytes,
                           header.payload_bytes);
    CHECK(read == message.substr(0, room));
  }
  data::Memory small(kHeaderBytes - 1);
  CHECK_THROWS(InvalidArgument, "at least 96 bytes", write_abort({}, 3, message, small.span()));
}

} // namespace
