// The launches that encode or decode the payload of a frame. A `Launcher` has
//   zero(address, bytes)
//   launch(batch, kernel)  kernel(team, item, unit, scratch) for all units, in any order
// whose calls take effect one after the other.
#pragma once

#include "dispatch/frame_steps.hpp"
#include "dispatch/warp_topk.hpp"

#include <span>
#include <vector>

namespace thinwire::lane {

// Segments of a launch. All of it fits into the parameters of a CUDA kernel.
inline constexpr std::size_t kBatch = 32;

template <class Args> struct Batch {
  Item<Args> items[kBatch];
  std::size_t ends[kBatch]; // units of the items up to this one
  std::size_t count = 0;

  THINWIRE_HD std::size_t units() const { return ends[count - 1]; }
};

// What warp number `warp` of `warps` does in a launch.
template <class Team, class Args, class Kernel>
THINWIRE_TEAM void run_units(const Team& team, const Batch<Args>& batch, const Kernel& kernel,
                             std::size_t warp, std::size_t warps, float* scratch) {
  std::size_t item = 0, begin = 0;
  for (std::size_t unit = warp; unit < batch.units(); unit += warps) {
    for (; unit >= batch.ends[item]; ++item)
      begin = batch.ends[item];
    kernel(team, batch.items[item], unit - begin, scratch);
  }
}

template <class Launcher, class Kernel, class Args>
void run(Launcher& launcher, const Kernel& kernel, const std::vector<Item<Args>>& items) {
  Batch<Args> batch;
  for (const Item<Args>& item : items) {
    const std::size_t units = kernel.units(item.args);
    if (units == 0)
      continue;
    if (batch.count == kBatch) {
      launcher.launch(batch, kernel);
      batch.count = 0;
    }
    batch.items[batch.count] = item;
    batch.ends[batch.count] = units + (batch.count == 0 ? 0 : batch.ends[batch.count - 1]);
    ++batch.count;
  }
  if (batch.count != 0)
    launcher.launch(batch, kernel);
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
void run_topk(Launcher& launcher, const std::vector<Item<EncodeArgs>>& items,
              std::uint64_t* nonfinite) {
  run(launcher, ClearTopK{}, items);
  run(launcher, CountMagnitudes<0>{}, items);
  run(launcher, PickBin<0>{}, items);
  run(launcher, CountMagnitudes<1>{}, items);
  run(launcher, PickBin<1>{}, items);
  run(launcher, TallyEntries{}, items);
  run(launcher, SumGroups{}, items);
  run(launcher, SumSpans{}, items);
  for_each_values(items, [&]<TopKValues V>(const auto& some) {
    run(launcher, WriteGroups<V>{nonfinite}, some);
  });
}

template <class Launcher>
void run_topk(Launcher& launcher, const std::vector<Item<DecodeArgs>>& items) {
  run(launcher, TallyCounts{}, items);
  run(launcher, SumGroups{}, items);
  run(launcher, SumSpans{}, items);
  for_each_values(items,
                  [&]<TopKValues V>(const auto& some) { run(launcher, ReadGroups<V>{}, some); });
}

template <class C, class Launcher>
void run_blocks(Launcher& launcher, const std::vector<Item<EncodeArgs>>& items,
                std::uint64_t* nonfinite) {
  const auto with = [&](Rounding r) {
    return chosen(items, [=](const CodecSpec& s) { return s.rounding == r; });
  };
  run(launcher, EncodeBlock<C, false>{{}, nonfinite}, with(Rounding::nearest));
  if constexpr (C::kHasRounding)
    run(launcher, EncodeBlock<C, true>{{}, nonfinite}, with(Rounding::stochastic));
}

// Encodes all items. Adds the number of blocks (values, for cast codecs) that were not finite.
template <class Launcher>
void encode_items(Launcher& launcher, const std::vector<Item<EncodeArgs>>& items,
                  std::uint64_t* nonfinite) {
  Codecs::for_each([&]<class C>() {
    const auto mine = chosen(items, [](const CodecSpec& s) { return s.wire_id == C::kWireId; });
    if constexpr (CastCodec<C>)
      run(launcher, EncodeCast<C>{{}, nonfinite}, mine);
    else if constexpr (BlockCodec<C>)
      run_blocks<C>(launcher, mine, nonfinite);
    else
      run_topk(launcher, mine, nonfinite);
  });
}

template <class Launcher>
void decode_items(Launcher& launcher, const std::vector<Item<DecodeArgs>>& items) {
  Codecs::for_each([&]<class C>() {
    const auto mine = chosen(items, [](const CodecSpec& s) { return s.wire_id == C::kWireId; });
    if constexpr (CastCodec<C>)
      run(launcher, DecodeCast<C>{}, mine);
    else if constexpr (BlockCodec<C>)
      run(launcher, DecodeBlock<C>{}, mine);
    else
      run_topk(launcher, mine);
  });
}

// Working memory of all segments of a frame, one after another.
inline std::size_t work_bytes(const Segment& segment) {
  return segment.codec.has_density() ? topk_work_bytes(segment.count) : 0;
}

inline std::size_t work_bytes(const Layout& layout) {
  std::size_t bytes = 0;
  for (const Segment& segment : layout.segments())
    bytes += work_bytes(segment);
  return bytes;
}

// One item a segment; args(i) makes the arguments of segment i.
template <class Args, class Fn>
std::vector<Item<Args>> items_of(const Layout& layout, std::byte* work, Fn&& args) {
  std::vector<Item<Args>> items;
  for (std::size_t i = 0; i < layout.segments().size(); ++i) {
    items.push_back({args(i), work});
    work += work_bytes(layout.segments()[i]);
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
  const auto args = [&](std::size_t i) {
    return encode_args(layout, i, values, key, step, frame + kHeaderBytes);
  };
  encode_items(launcher, items_of<EncodeArgs>(layout, work, args), nonfinite);
}

// The payload must have passed check_frame().
template <class Launcher>
void decode_payload(Launcher& launcher, const Layout& layout, const std::byte* frame, void* out,
                    DType dtype, bool accumulate, std::byte* work) {
  const auto args = [&](std::size_t i) {
    return decode_args(layout, i, frame + kHeaderBytes, out, dtype, accumulate);
  };
  decode_items(launcher, items_of<DecodeArgs>(layout, work, args));
}

} // namespace thinwire::lane
