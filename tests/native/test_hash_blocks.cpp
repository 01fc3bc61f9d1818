// Digests of many blocks at once are those of each by itself, on every CPU target, in memory that
// ends where the data end.
#include "check.hpp"
#include "core/cpu.hpp"
#include "core/error.hpp"
#include "data.hpp"
#include "hash/blake3_blocks.hpp"
#include "hash/xxh3.hpp"

namespace {

using namespace thinwire;

data::Memory random_bytes(std::size_t length) {
  data::Memory made(length);
  data::Random random(length);
  for (std::size_t i = 0; i < length; ++i)
    made.data()[i] = static_cast<std::uint8_t>(random.next());
  return made;
}

std::vector<std::int64_t> ends_of(const std::vector<std::size_t>& lengths) {
  std::vector<std::int64_t> ends;
  std::int64_t end = 0;
  for (std::size_t length : lengths)
    ends.push_back(end += static_cast<std::int64_t>(length));
  return ends;
}

void check_blocks(const std::vector<std::size_t>& lengths, unsigned threads) {
  const auto ends = ends_of(lengths);
  data::Memory bytes = random_bytes(static_cast<std::size_t>(ends.back()));
  data::Memory secret = random_bytes(200);
  const Blocks blocks(bytes.span(), ends);
  Blake3Key key{};
  key[3] = std::byte{7};
  std::vector<Blake3Digest> plain(lengths.size()), keyed(lengths.size());
  std::vector<Xxh3Digest> fast(lengths.size()), secretly(lengths.size());
  blake3_blocks(blocks, nullptr, threads, plain.data());
  blake3_blocks(blocks, &key, threads, keyed.data());
  xxh3_128_blocks(blocks, std::nullopt, threads, fast.data());
  xxh3_128_blocks(blocks, secret.span(), threads, secretly.data());
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    check::context = std::string(name(active_target())) + ", block " + std::to_string(i) + " of " +
                     std::to_string(lengths[i]) + " bytes";
    CHECK(plain[i] == blake3(blocks[i]));
    CHECK(keyed[i] == blake3_keyed(key, blocks[i]));
    CHECK(fast[i] == xxh3_128(blocks[i]));
    CHECK(secretly[i] == xxh3_128_secret(blocks[i], secret.span()));
  }
}

TEST(ragged_blocks_on_every_target) {
  std::vector<std::size_t> ragged;
  for (std::size_t edge : {1, 17, 64, 129, 241, 960, 1024, 2048, 3072, 5120, 16384, 17408})
    for (std::size_t step : {0, 1, 2})
      ragged.push_back(edge + step - (edge > 1 ? 1 : 0));
  for (Target target : available_targets()) {
    force_target(name(target));
    check_blocks(ragged, 1);
    check_blocks({1}, 1);
    check_blocks({3, (1 << 20) + 1, 1 << 20, 70'000, 5}, 3);
  }
  force_target("");
}

TEST(ends_that_cannot_be) {
  data::Memory bytes(10);
  const auto blocks = [&](const std::vector<std::int64_t>& ends) { Blocks(bytes.span(), ends); };
  CHECK_THROWS(InvalidArgument, "but is 0", blocks({}));
  CHECK_THROWS(InvalidArgument, "but is 9", blocks({4, 9}));
  CHECK_THROWS(InvalidArgument, "block 1 goes from 4 to 4", blocks({4, 4, 10}));
  CHECK_THROWS(InvalidArgument, "block 0 goes from 0 to -1", blocks({-1, 10}));
}

TEST(a_secret_that_is_too_short) {
  data::Memory bytes(10), secret(135);
  CHECK_THROWS(InvalidArgument, "this one has 135", xxh3_128_secret(bytes.span(), secret.span()));
}

} // namespace
