// The launches that fingerprint data in the memory of a device. A `Device` has
//   Memory<T>(device, count)      memory on it for as long as the object lives; get()
//   launch(kernel, threads)       kernel(i) for every i below `threads`, in any order
//   upload(to, from, bytes), download(to, from, bytes)
// whose calls take effect one after the other; download() waits.
#pragma once

#include "core/error.hpp"
#include "dedup/device_hashing.hpp"
#include "dedup/device_selection.hpp"
#include "dedup/fingerprint.hpp"

#include <algorithm>
#include <optional>
#include <span>

namespace thinwire::device {

// Positions between two selections, a multiple of kGroup. It bounds the memory that is needed: a
// quarter of it for candidates, and for hashing 1/32 of the chunks that end in it and 72 bytes a
// chunk.
inline constexpr u64 kRound = 128 << 20;

inline constexpr u64 kAveragesOfSegment = 64; // chains of cuts meet within far fewer

inline u64 ceil_divided(u64 a, u64 b) { return (a + b - 1) / b; }

// Profile "native".
template <class Device> class Cutter {
public:
  Cutter(Device& device, std::span<const std::byte> data, const Profile& profile, u64 round)
      : device_(device), data_(data), profile_(profile), rule_(profile.average),
        segment_bytes_(kAveragesOfSegment * profile.average),
        most_positions_(std::min(round + kGroup, data.size() + 1)),
        marks_(device, marks_of(most_positions_)),
        exits_(device, ceil_divided(most_positions_, segment_bytes_)),
        segments_(device, ceil_divided(most_positions_, segment_bytes_)) {}

  // Appends the ends among the positions from `from` to before `known`, at most `round` and a
  // group; a chunk starts at `start`.
  void cut(u64 from, u64 known, u64 start, Ends& ends) {
    const Segments segments{
        {find(from, known), profile_.min, profile_.average, profile_.max, known},
        from,
        segment_bytes_};
    const u64 count = ceil_divided(known - from, segment_bytes_);
    device_.launch(GuessExits{segments, start, exits_.get()}, count);
    device_.launch(FollowGuesses{segments, start, exits_.get(), segments_.get()}, count);
    device_.launch(JoinSegments{segments, start, count, segments_.get()}, 1);
    Segment last;
    device_.download(&last, segments_.get() + count - 1, sizeof last);
    const u64 found = last.before + last.count;
    if (found == 0)
      return;
    const Memory<std::int64_t> written(device_, found);
    device_.launch(WriteEnds{segments, segments_.get(), written.get()}, count);
    ends.resize(ends.size() + found);
    device_.download(ends.data() + ends.size() - found, written.get(), found * sizeof ends[0]);
  }

private:
  template <class T> using Memory = typename Device::template Memory<T>;

  static u64 marks_of(u64 positions) {
    u64 marks = 0;
    for (unsigned level = 0; level < CandidateMap::kLevels; ++level)
      marks += positions = ceil_divided(positions, kGroup);
    return marks;
  }

  CandidateMap find(u64 from, u64 known) {
    CandidateMap map{from, {}, {}};
    Marks* marks = marks_.get();
    for (u64 level = 0, below = known - from; level < CandidateMap::kLevels; ++level) {
      const u64 words = ceil_divided(below, kGroup);
      if (level == 0)
        device_.launch(FindCandidates{reinterpret_cast<const std::uint8_t*>(data_.data()),
                                      data_.size(), rule_, rule_.polynomial_bound(), from / kGroup,
                                      marks},
                       words);
      else
        device_.launch(MarkGroups{map.levels[level - 1], below, marks}, words);
      map.levels[level] = marks;
      map.words[level] = below = words;
      marks += words;
    }
    return map;
  }

  Device& device_;
  const std::span<const std::byte> data_;
  const Profile profile_;
  const CandidateRule rule_;
  const u64 segment_bytes_, most_positions_;
  const Memory<Marks> marks_;
  const Memory<u64> exits_;
  const Memory<Segment> segments_;
};

// The profiles of one size.
inline void cut_blocks(u64 bytes, u64 known, u64 start, Ends& ends) {
  for (u64 end = start + bytes; end < known; end += bytes)
    ends.push_back(static_cast<std::int64_t>(end));
}

// What thinwire::fingerprint gives for data in the memory of the device.
template <class Device>
Fingerprint fingerprint(Device& device, std::span<const std::byte> data, const Profile& profile,
                        const Blake3Key* key, u64 round = kRound) {
  if (profile.cutting == Cutting::fastcdc2020)
    throw NotBuilt("profile fastcdc2020 is not built for CUDA devices; use profile native, or pass "
                   "a copy in host memory");
  const TreeStart tree = blake3_detail::tree_start(key);
  std::optional<Cutter<Device>> cutter;
  if (profile.cutting == Cutting::native)
    cutter.emplace(device, data, profile, round);
  Fingerprint found;
  Ends& ends = found.ends;
  const u64 size = data.size();
  for (u64 from = 0, known; size != 0 && from <= size; from = known) {
    // Few positions behind a round, such as the end itself, are worth no round of their own.
    known = size - from < round + kGroup ? size + 1 : from + round;
    const std::size_t hashed = ends.size();
    const u64 start = hashed == 0 ? 0 : static_cast<u64>(ends.back());
    if (cutter)
      cutter->cut(from, known, start, ends);
    else
      cut_blocks(profile.average, known, start, ends);
    if (known > size && (ends.empty() || static_cast<u64>(ends.back()) != size))
      ends.push_back(static_cast<std::int64_t>(size));
    found.digests.resize(ends.size());
    hash_chunks(device, reinterpret_cast<const std::uint8_t*>(data.data()), start,
                std::span(ends).subspan(hashed), tree, found.digests.data() + hashed);
  }
  return found;
}

} // namespace thinwire::device
