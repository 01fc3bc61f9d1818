// The launches that encode or decode the payload of a frame.
#pragma once

#include "dispatch/frame_steps.hpp"
#include "dispatch/frame_work.hpp"
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

// The first alone.
inline constexpr Frames kOneFrame = {{0}, 1};

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
void run_topk(Runner<Launcher>& runner, const std::vector<Item<EncodeArgs>>& items) {
  runner.run(ClearTopK{}, items);
  runner.run(FindThreshold<0>{}, items);
  runner.run(FindThreshold<1>{}, items);
  for_each_values(items, [&]<TopKValues V>(const auto& some) {
    runner.run(TakeEntries<V>{}, some);
    runner.run(PlaceEntries<V>{}, some);
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
void run_blocks(Runner<Launcher>& runner, const std::vector<Item<EncodeArgs>>& items) {
  for_each_encoding<C>(
      [&]<class Coding>() { runner.run(EncodeBlock<Coding>{}, chosen(items, Coding::encodes)); });
}

template <class C, class Launcher>
void run_blocks(Runner<Launcher>& runner, const std::vector<Item<DecodeArgs>>& items,
                const Frames& frames) {
  for_each_decoding<C>([&]<class Coding>() {
    runner.run(DecodeBlock<Coding>{frames}, chosen(items, Coding::decodes));
  });
}

// What is not finite in a frame is counted from 0 on.
struct CountArgs {
  std::uint64_t* nonfinite;
};

struct ClearCount : NoScratch {
  static THINWIRE_HD std::size_t units(const CountArgs&) { return 1; }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<CountArgs>& item, std::size_t,
                                float*) const {
    once(team, [&] { *item.args.nonfinite = 0; });
  }
};

template <class Launcher>
void encode_items(Runner<Launcher>& runner, const std::vector<Item<EncodeArgs>>& items) {
  Codecs::for_each([&]<class C>() {
    const auto mine = chosen(items, [](const CodecSpec& s) { return s.wire_id == C::kWireId; });
    if constexpr (CastCodec<C>)
      runner.run(EncodeCast<C>{}, mine);
    else if constexpr (BlockCodec<C>)
      run_blocks<C>(runner, mine);
    else
      run_topk(runner, mine);
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

inline std::size_t frame_table_bytes(std::size_t items) {
  return table_bytes<EncodeArgs, DecodeArgs, basis::RowArgs, basis::SumArgs, CountArgs>(items);
}

// Of the segments of frames of one layout, without the table.
inline std::size_t segment_work_bytes(const Layout& layout, std::size_t frames) {
  std::size_t bytes = 0;
  for (const Segment& segment : layout.segments())
    bytes += work_bytes(segment, frames);
  return bytes;
}

// Of frames that are decoded to one place: a table of the segments, then theirs one after another.
inline std::size_t work_bytes(const Layout& layout, std::size_t frames = 1) {
  const std::size_t some = frames_at_once(layout, frames);
  return frame_table_bytes(layout.segments().size() * some) + segment_work_bytes(layout, some);
}

// Of frames of several layouts: items of theirs, or of themselves.
template <class Work> std::size_t items_in(std::span<const Work> all) {
  return std::max(segments_in(all), all.size());
}

template <class Work> std::size_t work_bytes(std::span<const Work> all) {
  std::size_t bytes = frame_table_bytes(items_in(all));
  for (const Work& one : all)
    bytes += segment_work_bytes(*one.layout, 1);
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
// before, one item a segment that has one. One item a frame is its count.
struct EncodeItems {
  std::vector<Item<CountArgs>> counts;
  std::vector<Item<EncodeArgs>> codecs;
  std::vector<Item<basis::RowArgs>> bases;
};

inline EncodeItems encode_items_of(std::span<const Encoding> all, std::byte* work) {
  EncodeItems items;
  work += frame_table_bytes(items_in(all));
  for (const auto& [layout, values, key, step, frame, nonfinite] : all) {
    items.counts.push_back({{nonfinite}, nullptr});
    for (std::size_t i = 0; i < layout->segments().size(); ++i) {
      const Segment& segment = layout->segments()[i];
      EncodeArgs args = encode_args(*layout, i, values, key, step, frame + kHeaderBytes);
      args.nonfinite = nonfinite;
      if (segment.basis.rank != 0) {
        const auto [coefficients, rest] = basis_work(segment, work, 1);
        items.bases.push_back({{input_args(args, 0, args.n, rest), segment.basis, coefficients,
                                args.payload, nonfinite},
                               nullptr});
        args = rest_args(segment.basis, args, rest);
      }
      items.codecs.push_back({args, work});
      work += work_bytes(segment, 1);
    }
  }
  return items;
}

// The same for frames decoded together. The rests beside a basis are decoded apart, one item a
// segment and frame, since what the coefficients stand for is added between them.
struct DecodeItems {
  std::vector<Item<DecodeArgs>> codecs, rests;
  std::vector<Item<basis::SumArgs>> bases;
};

inline void add_decode_items(DecodeItems& items, const Decoding& decoding, const Frames& frames,
                             std::byte*& work) {
  const Layout& layout = *decoding.layout;
  for (std::size_t i = 0; i < layout.segments().size(); ++i) {
    const Segment& segment = layout.segments()[i];
    const DecodeArgs args = decode_args(layout, i, decoding.frame + kHeaderBytes, decoding.out,
                                        decoding.dtype, decoding.accumulate);
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
}

template <class Launcher>
void run_decoding(Launcher& launcher, const DecodeItems& items, const Frames& together,
                  std::byte* work) {
  Runner runner(launcher, work);
  decode_items(runner, items.codecs, together);
  decode_items(runner, items.rests, kOneFrame);
  runner.run(basis::ReadGroups{{}, together}, items.bases);
  runner.run(basis::Add{{}, together.count()}, items.bases);
}

// `work` has work_bytes(all), and is aligned to 16 bytes.
template <class Launcher>
void encode_payloads(Launcher& launcher, std::span<const Encoding> all, std::byte* work) {
  const auto items = encode_items_of(all, work);
  Runner runner(launcher, work);
  runner.run(ClearCount{}, items.counts);
  runner.run(basis::Project{}, items.bases);
  runner.run(basis::CodeGroups{}, items.bases);
  runner.run(basis::Subtract{}, items.bases);
  encode_items(runner, items.codecs);
}

// Decodes frames, each to a place of its own. The payloads must have passed check_frame(). `work`
// has work_bytes(all).
template <class Launcher>
void decode_payloads(Launcher& launcher, std::span<const Decoding> all, std::byte* work) {
  DecodeItems items;
  std::byte* next = work + frame_table_bytes(items_in(all));
  for (const Decoding& one : all)
    add_decode_items(items, one, kOneFrame, next);
  run_decoding(launcher, items, kOneFrame, work);
}

// Decodes frames one after another to one place, the second and later ones added. Contributions are
// summed on the way, so that `out` is written once for all that are decoded in one pass. `work` has
// work_bytes(layout, frames.size()).
template <class Launcher>
void decode_payloads(Launcher& launcher, const Layout& layout,
                     std::span<const std::byte* const> frames, void* out, DType dtype,
                     bool accumulate, std::byte* work) {
  while (!frames.empty()) {
    const auto some = frames.first(frames_at_once(layout, frames.size()));
    const Frames together = frames_of(some);
    DecodeItems items;
    std::byte* next = work + frame_table_bytes(layout.segments().size() * some.size());
    add_decode_items(items, {&layout, some[0], out, dtype, accumulate}, together, next);
    run_decoding(launcher, items, together, work);
    frames = frames.subspan(some.size());
    accumulate = true;
  }
}

} // namespace thinwire::lane
