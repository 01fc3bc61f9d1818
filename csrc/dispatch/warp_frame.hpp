// The launches that encode or decode the payload of a frame.
#pragma once

#include "dispatch/frame_steps.hpp"
#include "dispatch/warp_basis.hpp"
#include "dispatch/warp_cast.hpp"
#include "dispatch/warp_launch.hpp"
#include "dispatch/warp_topk_decode.hpp"
#include "dispatch/warp_topk_encode.hpp"

#include <span>

namespace thinwire::lane {

inline Frames frames_of(std::span<const std::byte* const> frames) {
  Frames found = {};
  for (const std::byte* frame : frames)
    found.from_first[found.number++] = frame - frames[0];
  return found;
}

template <class Args, class Fn>
std::vector<Item<Args>> chosen(const std::vector<Item<Args>>& items, Fn&& fits) {
  std::vector<Item<Args>> found;
  for (const Item<Args>& item : items)
    if (fits(item.args.spec))
      found.push_back(item);
  return found;
}

// f.operator()<V>(items) for the items with each way of coding topk's values.
template <class Args, class Fn> void for_each_values(const std::vector<Item<Args>>& items, Fn&& f) {
  const auto with = [&](TopKValues v) {
    return chosen(items, [=](const CodecSpec& s) { return s.values == v; });
  };
  f.template operator()<TopKValues::sign>(with(TopKValues::sign));
  f.template operator()<TopKValues::int8>(with(TopKValues::int8));
  f.template operator()<TopKValues::fp16>(with(TopKValues::fp16));
}

template <class Launcher>
void run_topk(Runner<Launcher>& runner, const std::vector<Item<EncodeArgs>>& items,
              std::uint64_t* nonfinite) {
  runner.run(ClearTopK{}, items);
  runner.run(FindThreshold<0>{}, items);
  runner.run(FindThreshold<1>{}, items);
  for_each_values(items, [&]<TopKValues V>(const auto& some) {
    runner.run(TakeEntries<V>{nonfinite}, some);
    runner.run(PlaceEntries<V>{nonfinite}, some);
  });
}

template <class Launcher>
void run_topk(Runner<Launcher>& runner, const std::vector<Item<DecodeArgs>>& items,
              const Frames& frames) {
  runner.run(TallyCounts{{}, frames}, items);
  for_each_values(items,
                  [&]<TopKValues V>(const auto& some) { runner.run(ReadGroups<V>{frames}, some); });
}

template <class C, class Launcher>
void run_blocks(Runner<Launcher>& runner, const std::vector<Item<EncodeArgs>>& items,
                std::uint64_t* nonfinite) {
  for_each_encoding<C>([&]<class Coding>() {
    runner.run(EncodeBlock<Coding>{nonfinite}, chosen(items, Coding::encodes));
  });
}

template <class C, class Launcher>
void run_blocks(Runner<Launcher>& runner, const std::vector<Item<DecodeArgs>>& items,
                const Frames& frames) {
  for_each_decoding<C>([&]<class Coding>() {
    runner.run(DecodeBlock<Coding>{frames}, chosen(items, Coding::decodes));
  });
}

// Encodes all items. Adds the number of blocks (values, for cast codecs) that were not finite.
template <class Launcher>
void encode_items(Runner<Launcher>& runner, const std::vector<Item<EncodeArgs>>& items,
                  std::uint64_t* nonfinite) {
  Codecs::for_each([&]<class C>() {
    const auto mine = chosen(items, [](const CodecSpec& s) { return s.wire_id == C::kWireId; });
    if constexpr (CastCodec<C>)
      runner.run(EncodeCast<C>{{}, nonfinite}, mine);
    else if constexpr (BlockCodec<C>)
      run_blocks<C>(runner, mine, nonfinite);
    else
      run_topk(runner, mine, nonfinite);
  });
}

template <class Launcher>
void decode_items(Runner<Launcher>& runner, const std::vector<Item<DecodeArgs>>& items,
                  const Frames& frames) {
  Codecs::for_each([&]<class C>() {
    const auto mine = chosen(items, [](const CodecSpec& s) { return s.wire_id == C::kWireId; });
    if constexpr (CastCodec<C>)
      runner.run(DecodeCast<C>{{}, frames}, mine);
    else if constexpr (BlockCodec<C>)
      run_blocks<C>(runner, mine, frames);
    else
      run_topk(runner, mine, frames);
  });
}

// Working memory of a segment: what topk needs for each frame of those decoded together, or to
// encode one, then what a basis does.
inline std::size_t topk_work_bytes(const Segment& segment, std::size_t frames) {
  if (!segment.codec.has_density())
    return 0;
  const std::size_t of_frame = topk_work_bytes(segment.count);
  return std::max(frames * of_frame,
                  of_frame + topk_aside_bytes(segment.count, segment.codec.density));
}

inline std::size_t coefficient_work_bytes(const Segment& segment) {
  return basis::coefficients_in(segment.basis, segment.count) * sizeof(float);
}

inline std::size_t work_bytes(const Segment& segment, std::size_t frames) {
  const std::size_t topk = topk_work_bytes(segment, frames);
  if (segment.basis.rank == 0)
    return topk;
  return topk + frames * (coefficient_work_bytes(segment) +
                          basis::rest_stride(segment.count) * sizeof(float));
}

// How many frames are decoded in one pass. Beside a basis, each takes working memory as large as
// the values.
inline std::size_t frames_at_once(const Layout& layout, std::size_t frames) {
  std::size_t most = kMostFrames;
  for (const Segment& segment : layout.segments())
    if (segment.basis.rank != 0)
      most = basis::kFramesAtOnce;
  return std::min(frames, most);
}

inline std::size_t table_bytes(const Layout& layout, std::size_t frames) {
  return table_bytes<EncodeArgs, DecodeArgs, basis::RowArgs, basis::SumArgs>(
      layout.segments().size() * frames);
}

// Of frames: a table of the segments, then theirs one after another.
inline std::size_t work_bytes(const Layout& layout, std::size_t frames = 1) {
  const std::size_t some = frames_at_once(layout, frames);
  std::size_t bytes = table_bytes(layout, some);
  for (const Segment& segment : layout.segments())
    bytes += work_bytes(segment, some);
  return bytes;
}

// The working memory of a segment with a basis: of each frame the coefficients, then of each the
// rest.
struct BasisWork {
  float *coefficients, *rests;
};

inline BasisWork basis_work(const Segment& segment, std::byte* work, std::size_t frames) {
  std::byte* coefficients = work + topk_work_bytes(segment, frames);
  return {reinterpret_cast<float*>(coefficients),
          reinterpret_cast<float*>(coefficients + frames * coefficient_work_bytes(segment))};
}

// What the codecs' kernels have to do, one item a segment, and what those of the basis have to do
// before, one item a segment that has one.
struct EncodeItems {
  std::vector<Item<EncodeArgs>> codecs;
  std::vector<Item<basis::RowArgs>> bases;
};

inline EncodeItems encode_items_of(const Layout& layout, const FrameValues& values,
                                   std::uint64_t key, std::uint64_t step, std::byte* payload,
                                   std::byte* work) {
  EncodeItems items;
  work += table_bytes(layout, 1);
  for (std::size_t i = 0; i < layout.segments().size(); ++i) {
    const Segment& segment = layout.segments()[i];
    EncodeArgs args = encode_args(layout, i, values, key, step, payload);
    if (segment.basis.rank != 0) {
      const auto [coefficients, rest] = basis_work(segment, work, 1);
      items.bases.push_back(
          {{input_args(args, 0, args.n, rest), segment.basis, coefficients, args.payload},
           nullptr});
      args = rest_args(segment.basis, args, rest);
    }
    items.codecs.push_back({args, work});
    work += work_bytes(segment, 1);
  }
  return items;
}

// The same for frames decoded together. The rests beside a basis are decoded apart, one item a
// segment and frame, since what the coefficients stand for is added between them.
struct DecodeItems {
  std::vector<Item<DecodeArgs>> codecs, rests;
  std::vector<Item<basis::SumArgs>> bases;
};

inline DecodeItems decode_items_of(const Layout& layout, const Frames& frames,
                                   const std::byte* payload, void* out, DType dtype,
                                   bool accumulate, std::byte* work) {
  DecodeItems items;
  work += table_bytes(layout, frames.count());
  for (std::size_t i = 0; i < layout.segments().size(); ++i) {
    const Segment& segment = layout.segments()[i];
    const DecodeArgs args = decode_args(layout, i, payload, out, dtype, accumulate);
    if (segment.basis.rank == 0) {
      items.codecs.push_back({args, work});
    } else {
      const auto [coefficients, rests] = basis_work(segment, work, frames.count());
      items.bases.push_back({{args, segment.basis, coefficients, rests}, nullptr});
      for (unsigned f = 0; f < frames.count(); ++f) {
        DecodeArgs rest =
            rest_args(segment.basis, args, rests + f * basis::rest_stride(segment.count));
        rest.payload += frames.from_first[f];
        rest.accumulate = false; // basis::Add does that
        items.rests.push_back({rest, work + f * topk_work_bytes(segment.count)});
      }
    }
    work += work_bytes(segment, frames.count());
  }
  return items;
}

// `frame` has layout.frame_bytes(). Its payload is written; the first eight bytes of its header
// become the number of blocks (values, for the cast codecs) that were not finite. `work` has
// work_bytes(layout). Both are aligned to 16 bytes.
template <class Launcher>
void encode_payload(Launcher& launcher, const Layout& layout, const FrameValues& values,
                    std::uint64_t key, std::uint64_t step, std::byte* frame, std::byte* work) {
  auto* nonfinite = reinterpret_cast<std::uint64_t*>(frame);
  launcher.zero(nonfinite, sizeof *nonfinite);
  const auto items = encode_items_of(layout, values, key, step, frame + kHeaderBytes, work);
  Runner runner(launcher, work);
  runner.run(basis::Project{}, items.bases);
  runner.run(basis::CodeGroups{{nonfinite}}, items.bases);
  runner.run(basis::Subtract{}, items.bases);
  encode_items(runner, items.codecs, nonfinite);
}

// Decodes frames one after another, the second and later ones added. Contributions are summed on
// the way, so that `out` is written once for all that are decoded in one pass. The payloads must
// have passed check_frame(). `work` has work_bytes(layout, frames.size()).
template <class Launcher>
void decode_payloads(Launcher& launcher, const Layout& layout,
                     std::span<const std::byte* const> frames, void* out, DType dtype,
                     bool accumulate, std::byte* work) {
  Runner runner(launcher, work);
  while (!frames.empty()) {
    const auto some = frames.first(frames_at_once(layout, frames.size()));
    const Frames together = frames_of(some);
    const DecodeItems items =
        decode_items_of(layout, together, some[0] + kHeaderBytes, out, dtype, accumulate, work);
    decode_items(runner, items.codecs, together);
    decode_items(runner, items.rests, frames_of(some.first(1)));
    runner.run(basis::ReadGroups{{}, together}, items.bases);
    runner.run(basis::Add{{}, together.count()}, items.bases);
    frames = frames.subspan(some.size());
    accumulate = true;
  }
}

template <class Launcher>
void decode_payload(Launcher& launcher, const Layout& layout, const std::byte* frame, void* out,
                    DType dtype, bool accumulate, std::byte* work) {
  decode_payloads(launcher, layout, std::span(&frame, 1), out, dtype, accumulate, work);
}

} // namespace thinwire::lane
