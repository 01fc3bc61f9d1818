// XXH3-64 and XXH3-128 against values of the xxhash package, around every length where the
// algorithm changes.
#include "check.hpp"
#include "core/cpu.hpp"
#include "data.hpp"
#include "hash/xxh3.hpp"

#include <string_view>

namespace {

using namespace thinwire;
using data::hex;

constexpr std::uint64_t kSeeds[3] = {0, 1, ~std::uint64_t{0}};

struct Known {
  std::size_t length;
  std::uint64_t hash[3]; // with each of the seeds
};

// xxhash.xxh3_64_intdigest(data[:length], seed), data as in the test below.
constexpr Known kKnown[] = {
    {0, {0x2d06800538d394c2, 0x4dc5b0cc826f6703, 0x4c093276ae47a555}},
    {1, {0xc44bdff4074eecdb, 0x5eaac1f7b17ef730, 0x77b2df5ff42aab88}},
    {2, {0xc942e13ebb523c0b, 0x4d79d3b227ff0254, 0x7c88ecae17292ebf}},
    {3, {0x538aa10a9cb9dbc2, 0x799462c7a80fcfb6, 0xe6ee3c86fc470214}},
    {4, {0xf8945f1dfa782f0b, 0x3f881e19df60de5e, 0x301842690576072c}},
    {5, {0x27ad04607dbb8ac7, 0xa91e34d83f9151af, 0x69234b37656a7c96}},
    {7, {0xad90e72bf2334747, 0x498f7309bdc60c0a, 0x81331571f06d38a5}},
    {8, {0xfbd957b89538b84d, 0x0a7c3a091019b775, 0xa3bbf80eb15674db}},
    {9, {0x399b26d5fb59744f, 0xa62b72140c4f3005, 0x1707c5424757e6d2}},
    {12, {0xb6137f24538c3e2d, 0x850fdfefe371eac4, 0xe0388d76324fe145}},
    {15, {0x3bd00fabe996664d, 0x86d14c6888959def, 0xa2a9c1c0e06c0052}},
    {16, {0x5932259552860a58, 0xb17ab343d5cde11d, 0x47a6a1f2dfa3cb9f}},
    {17, {0x2bddafcd217b1aaa, 0x10197b5a806871fd, 0x521177ee2b32e8ba}},
    {31, {0x51eec6abae9e16bc, 0xf5a31b1dac186ebd, 0xfebcca37a0693738}},
    {32, {0x509c966f099abb0a, 0x428152b2be4c1938, 0xa777b9028e0ffb98}},
    {33, {0x7072335a5bab630e, 0x08c97a9893688896, 0xc8c413dc2ffc6324}},
    {63, {0xd4250d80e3e09d01, 0xb2bf061dbaad7bc5, 0xffdb9e54da575943}},
    {64, {0xbc11a1250c3c1afe, 0x0f2158fcd8ac463b, 0x3dc9d2d54fa6ec91}},
    {65, {0x1eb27e0e47551506, 0xa42b068c87e90f0b, 0xb5daee3a8a18789d}},
    {96, {0x14e7320463e959fd, 0xc80391dcd190ac07, 0x8080583f95f2c8c8}},
    {97, {0xa643658d10594dc5, 0x9debd7b175a7bd75, 0xd8e940c4e7176a72}},
    {127, {0xd4376e8005328317, 0xf371400162f802e2, 0xfd98506c94a41c9a}},
    {128, {0xed67d2fa8b2ef34a, 0x2679432b9721942c, 0x4f71101ea2b4688b}},
    {129, {0x9c59321c96deef54, 0x4215abe1db23e55e, 0xa28539ff521866f0}},
    {143, {0x5d950ba8f9def7ec, 0xedb10177d4674d66, 0x334568fce06b6d88}},
    {144, {0xaebddf9fc18ab5ae, 0x6102597d75986bae, 0x54b4f36cabdf4759}},
    {145, {0x83cce3ad33a7a33d, 0xe6f7bc990cf7a586, 0x5977d5679035cae7}},
    {192, {0x12d3541900507ff4, 0xb447d8ab43244e94, 0x5e11e900baac3544}},
    {239, {0x7765076a39cc7653, 0x30f508425ffbff68, 0x8ba94fd51f37578f}},
    {240, {0xb56df1d2a52293b4, 0x5a344e44ed2e50ac, 0x37c1bb6d25d09dd5}},
    {241, {0x0a9d67a5590d9c64, 0x5069e6893900af2c, 0x1df8d139d147b54f}},
    {255, {0x3f020a86471503a6, 0x4d4d3b49591b1424, 0xe7c80394f028cd3d}},
    {256, {0x35a7ee5a3d13375d, 0xb18ee89898fc064e, 0xab16ead3a1881d6b}},
    {257, {0xa15b28938f697c40, 0x066ea059bf1ac5f3, 0x63b8c12dfbe2a282}},
    {511, {0x58637d1b268ba715, 0x00d308f8ea2f2a1d, 0x8808fb78f268ff54}},
    {512, {0x3c1561379cc39c1f, 0xc54634a625c34df0, 0x6b5bdfe72aad7550}},
    {513, {0x3f0a0f7841922957, 0x24abf80833f9c693, 0x299d25e0e9af8ef1}},
    {1023, {0x4e0da49870aa673b, 0xff7266ac9d6c741f, 0x60aa2c2ddcb52e26}},
    {1024, {0x3235eca52947f78b, 0xca15ee69a5a52295, 0xc2ca8dbfa7d1313f}},
    {1025, {0x3cc5a50330b33fdc, 0x7e2189a874e67ab9, 0x436d4b9d4b15a319}},
    {1087, {0x336428c806ccf52c, 0xbf84904afe7d12a8, 0x081e3132bfedcf18}},
    {1088, {0x65b67b7aa41b3c86, 0xd0f4d79e78f57f75, 0xb57d3d4508087fac}},
    {1089, {0x3494a4fa18c59b84, 0x8c3454ae7e24156c, 0x7a927e216381979b}},
    {2047, {0xc001bc7407198826, 0x26183a9374292cc4, 0x18e46da5db72a167}},
    {2048, {0xf0b9d9d597d0ebdc, 0xafc035350137f2d7, 0xfc85bcc7ba9cc910}},
    {2049, {0xa97ee1cf7a667aa9, 0x821827b9d5afbf0b, 0x4cc9ca71928d22a6}},
    {4096, {0x69b9e68d58a09673, 0x02bf0f753f41a715, 0x698848e206ae27d2}},
    {10007, {0x1ed336b9cbf529b5, 0x05819ce39479b2c5, 0xe850c1a6fd12d5e4}},
};

struct KnownWide {
  std::size_t length;
  std::string_view digest[3]; // with each of the seeds
};

// xxhash.xxh3_128_hexdigest(data[:length], seed).
constexpr KnownWide kKnownWide[] = {
    {0,
     {"99aa06d3014798d86001c324468d497f", "d9265cc53bb2b9ae6131b78f753823cd",
      "5334ec22748b5fcd2d10110a247d19dd"}},
    {1,
     {"a6cd5e9392000f6ac44bdff4074eecdb", "3b3052d680068ad35eaac1f7b17ef730",
      "4084b473dcc29b5977b2df5ff42aab88"}},
    {3,
     {"b32ce4dde2411ab0538aa10a9cb9dbc2", "da33ee5e5c419e4e799462c7a80fcfb6",
      "68168e144b897651e6ee3c86fc470214"}},
    {4,
     {"e0cabf84f56c3b9bf225c2defee1a066", "ae77c2d614e3a95570ca97a0f44528d8",
      "e2a21146a2ab24e09bea820ca1221125"}},
    {8,
     {"98dd140ad8b23a1e3a627160d0b13420", "7c61bf5ee494a338c8b6f61acbc0f5ed",
      "8f6aff64c74d680d60e5f14175ec2cac"}},
    {9,
     {"ebbc94b9de1d97cda25d18641da702c3", "aa1f0875caaae1cbfd5a93d561c61fcb",
      "ed75485da8a35d974eb694e3b1b6db53"}},
    {16,
     {"a2009ba972a1f0922a78581d2324a09e", "9f8493af5bc3c3d9c8f2c48aeb7ec817",
      "d721779f3506c290daa4d55ec953006f"}},
    {17,
     {"147b1da9f881a5319afd8cc9e81c62be", "661957a39b1710398e4c86b2b643c293",
      "fea6715fc253dad0160193b4ea97e7a2"}},
    {64,
     {"a3216ad3021f36ee4853a276bc1ff6b5", "c78155c501293e3f8fcc7ac19ab83f6d",
      "e8922df2fd618a5e037261ee10562053"}},
    {128,
     {"3188da351a4427a60ee5f7166b7de4a3", "f904d546e5807934059b2b883fa01952",
      "74e3c2888823639e7d3567d712877cf4"}},
    {129,
     {"37af2db284f40b14224b040ab6a4d60a", "f7fda30081cd99b3735f05bd7da82980",
      "7124ffb085beda7c3a7822dde30779af"}},
    {192,
     {"10762e8a1ea0a3a96e007a30288777df", "0da543e5f6df2d7e79441ca28ddef7d5",
      "983ab46ed7f4099f2d8e3b399bf15f1a"}},
    {240,
     {"253cee9e007d3e79f6218f4b79413afd", "152c5270e4557c40ab83da61be9f5b9c",
      "2d9d4d548f93e2e477af16ada74cd1d8"}},
    {241,
     {"b27722e9ebf05d1e0a9d67a5590d9c64", "dc8cc4ab9c9243565069e6893900af2c",
      "dad4b11f67cffc641df8d139d147b54f"}},
    {256,
     {"e604673896d69e5435a7ee5a3d13375d", "f740773d4fa6af3fb18ee89898fc064e",
      "e8697783cda4e50eab16ead3a1881d6b"}},
    {1023,
     {"22d91a66bc87f10d4e0da49870aa673b", "32e4be0e5e5d7d71ff7266ac9d6c741f",
      "d9aebe71b188207b60aa2c2ddcb52e26"}},
    {1024,
     {"c6b93c3fdb1bf93a3235eca52947f78b", "933502696eebc062ca15ee69a5a52295",
      "5e933cc74d65ec0cc2ca8dbfa7d1313f"}},
    {1025,
     {"23c1b706bc20545f3cc5a50330b33fdc", "154141a3575c9a577e2189a874e67ab9",
      "5a8f30f0fe317906436d4b9d4b15a319"}},
    {1088,
     {"b0473045dc934a0e65b67b7aa41b3c86", "c1086f77c36a6213d0f4d79e78f57f75",
      "25085bc567930d19b57d3d4508087fac"}},
    {2048,
     {"812c203c2ef05e2cf0b9d9d597d0ebdc", "74493eb990f0358fafc035350137f2d7",
      "ec8954880e0286d7fc85bcc7ba9cc910"}},
    {10007,
     {"cd098387aac6dc711ed336b9cbf529b5", "9f619252f7e2fd9705819ce39479b2c5",
      "6d24bab33f46fde9e850c1a6fd12d5e4"}},
};

std::uint32_t mix(std::uint32_t x) { // conventions.md
  x = (x ^ (x >> 16)) * 0x7feb352d;
  x = (x ^ (x >> 15)) * 0x846ca68b;
  return x ^ (x >> 16);
}

data::Memory test_bytes(std::size_t length, std::size_t skew) {
  data::Memory bytes(length, skew);
  for (std::size_t i = 0; i < length; ++i)
    bytes.data()[i] = static_cast<std::uint8_t>(mix(static_cast<std::uint32_t>(i)));
  return bytes;
}

TEST(known_values_of_all_length_classes) {
  for (Target target : available_targets()) {
    force_target(name(target));
    for (const Known& known : kKnown)
      for (std::size_t skew : {0, 1}) {
        check::context = std::string(name(target)) + ", length " + std::to_string(known.length);
        const data::Memory bytes = test_bytes(known.length, skew);
        for (std::size_t s = 0; s < 3; ++s)
          CHECK(xxh3_64(bytes.data(), known.length, kSeeds[s]) == known.hash[s]);
      }
  }
  force_target("");
}

TEST(known_wide_values_of_all_length_classes) {
  for (Target target : available_targets()) {
    force_target(name(target));
    for (const KnownWide& known : kKnownWide) {
      check::context = std::string(name(target)) + ", length " + std::to_string(known.length);
      data::Memory bytes = test_bytes(known.length, 1);
      for (std::size_t s = 0; s < 3; ++s)
        CHECK(hex(xxh3_128(bytes.span(), kSeeds[s])) == known.digest[s]);
    }
  }
  force_target("");
}

TEST(targets_agree_on_every_length) {
  const data::Memory bytes = data::tensor(data::Kind::any_bits, DType::fp32, 1100, 3);
  for (std::size_t length = 0; length < bytes.size(); length += 1 + length / 64) {
    check::context = "length " + std::to_string(length);
    data::Memory exact(length);
    std::memcpy(exact.data(), bytes.data(), length);
    force_target("scalar");
    const std::uint64_t expected = xxh3_64(exact.data(), length, length);
    for (Target target : available_targets()) {
      force_target(name(target));
      CHECK(xxh3_64(exact.data(), length, length) == expected);
    }
  }
  force_target("");
}

} // namespace
