// The launches that hash data in the memory of a device; see device_fingerprint.hpp for what a
// `Device` has.
#pragma once

#include "dedup/chunker.hpp"
#include "dedup/device_digests.hpp"
#include "hash/blake3.hpp"

#include <algorithm>
#include <span>
#include <vector>

namespace thinwire::device {

// Digests of the chunks of a forest, whose `data`, `origins`, `begin`, `chunks` and `start` are set
// already.
template <class Device>
void hash_forest(Device& device, Forest forest, std::span<const std::int64_t> ends,
                 Blake3Digest* digests) {
  const u64 bytes = static_cast<u64>(ends.back()) - forest.begin;
  u64 longest = 0;
  for (std::size_t i = 0; i < ends.size(); ++i)
    longest = std::max(longest, static_cast<u64>(ends[i]) -
                                    (i == 0 ? forest.begin : static_cast<u64>(ends[i - 1])));
  const u64 leaves = Forest::slots_of(bytes, ends.size(), 0);
  const typename Device::template Memory<std::int64_t> device_ends(device, ends.size());
  const typename Device::template Memory<TreeNode> nodes(device, leaves),
      roots(device, ends.size());
  device.upload(device_ends.get(), ends.data(), ends.size_bytes());
  forest.ends = device_ends.get();
  forest.nodes = nodes.get();
  forest.digests = roots.get();
  device.launch(HashLeaves{forest}, leaves);
  for (unsigned level = 1; Forest::nodes_of(longest, level - 1) > 1; ++level)
    device.launch(HashParents{forest, level}, Forest::slots_of(bytes, ends.size(), level));
  static_assert(sizeof(TreeNode) == sizeof *digests);
  device.download(digests, roots.get(), ends.size() * sizeof *digests);
}

// Digests of consecutive chunks of `data`, of which the first begins at `begin`.
template <class Device>
void hash_chunks(Device& device, const std::uint8_t* data, u64 begin,
                 std::span<const std::int64_t> ends, const TreeStart& start,
                 Blake3Digest* digests) {
  if (ends.empty())
    return;
  hash_forest(device, {.data = data, .begin = begin, .chunks = ends.size(), .start = start}, ends,
              digests);
}

// Digests of the blocks of `block_bytes` that each piece is cut into from its start, its last one
// shorter: those of the first piece, of the second, and so on. Pieces may lie anywhere in the
// device's memory; every `round` bytes take the same few launches, however many pieces they are.
template <class Device>
std::vector<Blake3Digest> block_digests(Device& device,
                                        std::span<const std::span<const std::byte>> pieces,
                                        u64 block_bytes, const Blake3Key* key, u64 round) {
  const TreeStart start = blake3_detail::tree_start(key);
  std::vector<Blake3Digest> digests;
  std::vector<const std::uint8_t*> origins;
  Ends ends;
  u64 bytes = 0;
  const auto hash = [&] {
    if (ends.empty())
      return;
    const typename Device::template Memory<const std::uint8_t*> device_origins(device,
                                                                               origins.size());
    device.upload(device_origins.get(), origins.data(), origins.size() * sizeof origins[0]);
    digests.resize(digests.size() + ends.size());
    hash_forest(device, {.origins = device_origins.get(), .chunks = ends.size(), .start = start},
                ends, digests.data() + digests.size() - ends.size());
    origins.clear();
    ends.clear();
    bytes = 0;
  };
  for (const std::span<const std::byte> piece : pieces)
    for (u64 at = 0; at < piece.size(); at += block_bytes) {
      origins.push_back(reinterpret_cast<const std::uint8_t*>(piece.data()) + at);
      bytes += std::min<u64>(block_bytes, piece.size() - at);
      ends.push_back(static_cast<std::int64_t>(bytes));
      if (bytes >= round)
        hash();
    }
  hash();
  return digests;
}

} // namespace thinwire::device
