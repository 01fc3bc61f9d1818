// BLAKE3 against known answers, on every CPU target, in one piece and in many.
#include "check.hpp"
#include "core/cpu.hpp"
#include "data.hpp"
#include "hash/blake3.hpp"

#include <cstring>
#include <string_view>

namespace {

using namespace thinwire;
using data::hex;

struct KnownAnswer {
  std::size_t bytes;
  std::string_view plain, keyed;
};

// Of the input 0, 1, ... 250, 0, 1, ...; computed with the blake3 package 1.0.11 of PyPI.
constexpr KnownAnswer kKnownAnswers[] = {
    {0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
     "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26"},
    {1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
     "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b"},
    {63, "e9bc37a594daad83be9470df7f7b3798297c3d834ce80ba85d6e207627b7db7b",
     "bb1eb5d4afa793c1ebdd9fb08def6c36d10096986ae0cfe148cd101170ce37ae"},
    {64, "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98",
     "ba8ced36f327700d213f120b1a207a3b8c04330528586f414d09f2f7d9ccb7e6"},
    {65, "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6b263dee",
     "c0a4edefa2d2accb9277c371ac12fcdbb52988a86edc54f0716e1591b4326e72"},
    {1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
     "c951ecdf03288d0fcc96ee3413563d8a6d3589547f2c2fb36d9786470f1b9d6e"},
    {1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
     "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4"},
    {1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
     "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69"},
    {2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
     "879cf1fa2ea0e79126cb1063617a05b6ad9d0b696d0d757cf053439f60a99dd1"},
    {2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030",
     "9f29700902f7c86e514ddc4df1e3049f258b2472b6dd5267f61bf13983b78dd5"},
    {3072, "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2",
     "044a0e7b172a312dc02a4c9a818c036ffa2776368d7f528268d2e6b5df191770"},
    {4096, "015094013f57a5277b59d8475c0501042c0b642e531b0a1c8f58d2163229e969",
     "befc660aea2f1718884cd8deb9902811d332f4fc4a38cf7c7300d597a081bfc0"},
    {5120, "9cadc15fed8b5d854562b26a9536d9707cadeda9b143978f319ab34230535833",
     "2c493e48e9b9bf31e0553a22b23503c0a3388f035cece68eb438d22fa1943e20"},
    {8192, "aae792484c8efe4f19e2ca7d371d8c467ffb10748d8a5a1ae579948f718a2a63",
     "dc9637c8845a770b4cbf76b8daec0eebf7dc2eac11498517f08d44c8fc00d58a"},
    {16384, "f875d6646de28985646f34ee13be9a576fd515f76b5b0a26bb324735041ddde4",
     "9e9fc4eb7cf081ea7c47d1807790ed211bfec56aa25bb7037784c13c4b707b0d"},
    {31744, "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
     "efa53b389ab67c593dba624d898d0f7353ab99e4ac9d42302ee64cbf9939a419"},
    {102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
     "1c35d1a5811083fd7119f5d5d1ba027b4d01c0c6c49fb6ff2cf75393ea5db4a7"}};

constexpr std::size_t kExtendedInput = 2049;
constexpr std::string_view kExtended =
    "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b687952256303096de31d71d741034"
    "03822a2e0bc1eb193e7aecc9643a76b7bbc0c9f9c52e8783aae98764ca468962b5c2ec92f0c74eb5"
    "448d519713e09413719431c802f948dd5d90425a4ecdadece9eb178d80f26efccae630734dff6334"
    "0285adec2aed3b51073ad3";
constexpr std::string_view kExtendedKeyed =
    "9f29700902f7c86e514ddc4df1e3049f258b2472b6dd5267f61bf13983b78dd5f9a88abfefdfa1e0"
    "0b418971f2b39c64ca621e8eb37fceac57fd0c8fc8e117d43b81447be22d5d8186f8f5919ba6bcc6"
    "846bd7d50726c06d245672c2ad4f61702c646499ee1173daa061ffe15bf45a631e2946d616a4c345"
    "822f1151284712f76b2b0e";

Blake3Key test_key() {
  Blake3Key key;
  std::memcpy(key.data(), "whats the Elvish word for friend", key.size());
  return key;
}

std::vector<std::byte> input(std::size_t bytes) {
  std::vector<std::byte> data(bytes);
  for (std::size_t i = 0; i < bytes; ++i)
    data[i] = static_cast<std::byte>(i % 251);
  return data;
}

std::string hash_in_pieces(Blake3 hasher, std::span<const std::byte> data, std::size_t piece) {
  while (!data.empty()) {
    const std::size_t bytes = std::min(piece, data.size());
    hasher.update(data.first(bytes));
    data = data.subspan(bytes);
  }
  Blake3Digest digest;
  hasher.finish(digest);
  return hex(digest);
}

TEST(known_answers_on_every_target) {
  for (const Target target : available_targets()) {
    force_target(name(target));
    for (const KnownAnswer& known : kKnownAnswers) {
      check::context = std::string(name(target)) + ", " + std::to_string(known.bytes) + " bytes";
      const auto data = input(known.bytes);
      CHECK(hex(blake3(data)) == known.plain);
      CHECK(hex(blake3_keyed(test_key(), data)) == known.keyed);
    }
  }
  force_target("");
}

TEST(pieces_do_not_matter) {
  for (const KnownAnswer& known : kKnownAnswers) {
    const auto data = input(known.bytes);
    for (const std::size_t piece : {1, 63, 96, 1000, 1024, 1025, 16384, 17000}) {
      check::context = std::to_string(known.bytes) + " bytes by " + std::to_string(piece);
      CHECK(hash_in_pieces(Blake3(), data, piece) == known.plain);
      CHECK(hash_in_pieces(Blake3(test_key()), data, piece) == known.keyed);
    }
  }
}

TEST(a_header_before_the_payload_shifts_every_chunk) {
  const KnownAnswer& known = kKnownAnswers[std::size(kKnownAnswers) - 1];
  const auto data = input(known.bytes);
  Blake3 hasher;
  hasher.update(std::span(data).first(96)).update(std::span(data).subspan(96));
  Blake3Digest digest;
  hasher.finish(digest);
  CHECK(hex(digest) == known.plain);
}

TEST(output_of_any_length) {
  const auto data = input(kExtendedInput);
  for (const std::size_t bytes : {0, 1, 31, 32, 63, 64, 65, 128, 131}) {
    check::context = std::to_string(bytes) + " bytes";
    std::vector<std::byte> out(bytes);
    Blake3().update(data).finish(out);
    CHECK(hex(out) == kExtended.substr(0, 2 * bytes));
    Blake3(test_key()).update(data).finish(out);
    CHECK(hex(out) == kExtendedKeyed.substr(0, 2 * bytes));
  }
}

TEST(finish_changes_nothing) {
  const auto data = input(3072);
  Blake3 hasher;
  Blake3Digest digest;
  hasher.update(std::span(data).first(1025)).finish(digest);
  hasher.update(std::span(data).subspan(1025)).finish(digest);
  CHECK(digest == blake3(data));
}

} // namespace
