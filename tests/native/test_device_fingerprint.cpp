// The code of the CUDA kernels that cut and hash, run thread by thread on the host: the cuts and
// digests of the CPU, whatever the order of threads, and no access outside the data.
#include "check.hpp"
#include "chunk_data.hpp"
#include "core/error.hpp"
#include "dedup/device_fingerprint.hpp"
#include "hash/xxh3.hpp"

#include <algorithm>
#include <optional>

namespace {

using namespace thinwire;
using data::Content;
using data::Memory;
using data::Random;

class HostDevice {
public:
  explicit HostDevice(bool backward) : backward_(backward) {}

  template <class T> class Memory {
  public:
    Memory(HostDevice&, std::uint64_t count) : bytes_(count * sizeof(T)) {} // junk at first
    T* get() const { return reinterpret_cast<T*>(bytes_.data()); }

  private:
    mutable data::Memory bytes_;
  };

  template <class Kernel> void launch(const Kernel& kernel, std::uint64_t threads) {
    for (std::uint64_t i = 0; i < threads; ++i)
      kernel(backward_ ? threads - 1 - i : i);
  }

  void upload(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

private:
  bool backward_;
};

constexpr std::uint64_t kSmallRound = 9 * 64, kUsualRound = device::kRound;

Blake3Key made_key() {
  Blake3Key key;
  for (std::size_t i = 0; i < key.size(); ++i)
    key[i] = static_cast<std::byte>(3 * i + 1);
  return key;
}

// Both orders of threads, and short rounds too where the data are not long.
void compare(Memory& data, const Profile& profile, const Blake3Key* key) {
  const Fingerprint want = fingerprint(data.span(), profile, key, 1);
  for (const std::uint64_t round : {kUsualRound, kSmallRound, std::uint64_t{5 * 4096}}) {
    HostDevice device(round == kSmallRound);
    const Fingerprint got = device::fingerprint(device, data.span(), profile, key, round);
    CHECK(got.ends == want.ends);
    CHECK(got.digests == want.digests);
  }
}

void set_context(const Profile& profile, Content content, std::size_t size) {
  check::context = "sizes " + std::to_string(profile.min) + "," + std::to_string(profile.average) +
                   "," + std::to_string(profile.max) + " content " +
                   std::to_string(static_cast<int>(content)) + " size " + std::to_string(size);
}

std::vector<Profile> profiles() {
  return {Profile::make("native", 0, 256),        Profile::make("native", 64, 1000, 1001),
          Profile::make("native", 700, 700, 700), Profile::make("native", 100, 300, 100'000),
          Profile::make("native", 0, 16384),      Profile::make("fixed", 0, 333),
          Profile::make("aligned", 0, 64)};
}

TEST(xxh3_of_words_is_xxh3) {
  Random random(1);
  for (int turn = 0; turn < 1000; ++turn) {
    std::uint32_t words[16];
    for (auto& word : words)
      word = static_cast<std::uint32_t>(random.next());
    CHECK(xxh3_64_of_words(words) == xxh3_64(words, sizeof words));
  }
}

TEST(every_size_of_data) {
  for (const Profile& profile : profiles())
    for (const Content content : data::kContents)
      for (const std::size_t size :
           {0,   1,   63,  64,  65,   127,  128,  129,  191,  192,  255,  256,  257,   575,   576,
            577, 640, 699, 700, 1023, 1024, 1025, 1031, 2047, 2048, 2049, 4096, 5'000, 20'480}) {
        set_context(profile, content, size);
        Memory data = data::made(content, size, size, size % 4);
        compare(data, profile, nullptr);
      }
}

// More than one segment, so that threads guess, rightly in random data and wrongly in zeros.
TEST(segments_join) {
  const Blake3Key key = made_key();
  for (const Profile& profile : profiles())
    for (const Content content : data::kContents) {
      set_context(profile, content, 300'001);
      Memory data = data::made(content, 300'001, 7, 1);
      compare(data, profile, &key);
    }
}

TEST(a_chunk_of_many_rounds_and_levels) {
  Memory data = data::made(Content::random, 1'100'003, 3);
  for (const Profile& profile :
       {Profile::make("native", 0, 1 << 20), Profile::make("fixed", 0, 1 << 19)})
    compare(data, profile, nullptr);
}

// Data of two letters in turn, of which every other position is a candidate.
std::optional<Memory> many_candidates(const CandidateRule& rule) {
  for (unsigned letters = 0; letters < 1 << 16; ++letters) {
    Memory data(10'001);
    for (std::size_t i = 0; i < data.size(); ++i)
      data.data()[i] = static_cast<std::uint8_t>(letters >> 8 * (i % 2));
    device::Marks marks;
    device::FindCandidates{data.data(), data.size(), rule, rule.polynomial_bound(), 1, &marks}(0);
    if (std::popcount(marks.loose) == device::kGroup / 2)
      return data;
  }
  return {};
}

TEST(very_many_candidates) {
  const Profile profile = Profile::make("native", 64, 256);
  auto data = many_candidates(CandidateRule(profile.average));
  CHECK(data.has_value());
  if (data)
    compare(*data, profile, nullptr);
}

TEST(blocks_of_pieces_that_lie_anywhere) {
  constexpr std::size_t kBlock = 4096;
  const Blake3Key key = made_key();
  constexpr std::size_t kSizes[] = {1, 5000, 4096, 0, 1023, 70'001, 8192, 1025, 0, 3};
  std::vector<Memory> memories;
  memories.reserve(std::size(kSizes)); // so that they stay where they are
  std::vector<std::span<const std::byte>> pieces;
  std::vector<Blake3Digest> want;
  for (const std::size_t size : kSizes) {
    memories.push_back(data::made(Content::random, size, memories.size(), size % 4));
    const std::span<const std::byte> piece = memories.back().span();
    pieces.push_back(piece);
    for (std::size_t at = 0; at < size; at += kBlock)
      want.push_back(blake3_keyed(key, piece.subspan(at, std::min(kBlock, size - at))));
  }
  for (const std::uint64_t round : {std::uint64_t{1}, std::uint64_t{10'000}, kUsualRound})
    for (const bool backward : {false, true}) {
      HostDevice device(backward);
      CHECK(device::block_digests(device, pieces, kBlock, &key, round) == want);
    }
  HostDevice device(false);
  CHECK(device::block_digests(device, {}, kBlock, &key, kUsualRound).empty());
}

TEST(a_map_far_from_the_start) {
  constexpr std::uint64_t kFrom = std::uint64_t{1} << 40, kWords = 70'000;
  std::vector<device::Marks> words(kWords), groups((kWords + 63) / 64),
      tops((groups.size() + 63) / 64);
  const std::uint64_t positions[] = {3, 64, 65, 4095, 4096, 300'000, 64 * kWords - 1};
  for (const std::uint64_t p : positions)
    words[p / 64].loose |= std::uint64_t{1} << p % 64;
  HostDevice device(false);
  device.launch(device::MarkGroups{words.data(), kWords, groups.data()}, groups.size());
  device.launch(device::MarkGroups{groups.data(), groups.size(), tops.data()}, tops.size());
  const device::CandidateMap map{
      kFrom, {words.data(), groups.data(), tops.data()}, {kWords, groups.size(), tops.size()}};
  const std::uint64_t behind = kFrom + 64 * kWords;
  for (const std::uint64_t p : positions)
    for (const std::uint64_t begin : {p, p + 1}) {
      const auto* next = std::ranges::lower_bound(positions, begin);
      const std::uint64_t found = next == std::end(positions) ? behind : kFrom + *next;
      for (const std::uint64_t end : {kFrom, found - 1, found, std::min(found + 1, behind), behind})
        CHECK(map.first<&device::Marks::loose>(kFrom + begin, end) == std::min(found, end));
    }
  CHECK(map.first<&device::Marks::loose>(0, behind) == kFrom + 3);
  CHECK(map.first<&device::Marks::strict>(kFrom, behind) == behind);
}

TEST(slots_of_chunks_far_from_the_start) {
  constexpr std::uint64_t kBegin = (std::uint64_t{1} << 40) - 5;
  Random random(4);
  Ends ends;
  for (std::uint64_t end = kBegin, i = 0; i < 1000; ++i)
    ends.push_back(
        static_cast<std::int64_t>(end += 1 + random.below(i % 50 == 0 ? 1u << 31 : 5000)));
  const device::Forest forest{.begin = kBegin, .ends = ends.data(), .chunks = ends.size()};
  for (unsigned level = 0; level < 22; ++level) {
    std::uint64_t free = 0;
    for (std::uint64_t chunk = 0; chunk < ends.size(); ++chunk) {
      const std::uint64_t first = forest.first_slot(chunk, level);
      const std::uint64_t last =
          first + device::Forest::nodes_of(forest.bytes_of(chunk), level) - 1;
      CHECK(first >= free);
      CHECK(forest.chunk_at(first, level) == chunk && forest.chunk_at(last, level) == chunk);
      free = last + 1;
    }
    CHECK(free <= device::Forest::slots_of(static_cast<std::uint64_t>(ends.back()) - kBegin,
                                           ends.size(), level));
  }
}

TEST(what_cannot_be_cut_there_is_refused) {
  HostDevice device(false);
  Memory data(100);
  CHECK_THROWS(NotBuilt, "profile fastcdc2020 is not built for CUDA devices",
               device::fingerprint(device, data.span(), Profile::make("fastcdc2020"), nullptr));
}

} // namespace
