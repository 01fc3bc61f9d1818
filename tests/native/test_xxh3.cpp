// XXH3-64 against values of the xxhash package, around every length where the algorithm changes.
#include "check.hpp"
#include "core/cpu.hpp"
#include "data.hpp"
#include "hash/xxh3.hpp"

namespace {

using namespace thinwire;

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

std::uint32_t mix(std::uint32_t x) { // conventions.md
  x = (x ^ (x >> 16)) * 0x7feb352d;
  x = (x ^ (x >> 15)) * 0x846ca68b;
  return x ^ (x >> 16);
}

TEST(known_values_of_all_length_classes) {
  for (Target target : available_targets()) {
    force_target(name(target));
    for (const Known& known : kKnown)
      for (std::size_t skew : {0, 1}) {
        check::context = std::string(name(target)) + ", length " + std::to_string(known.length);
        data::Memory bytes(known.length, skew);
        for (std::size_t i = 0; i < known.length; ++i)
          bytes.data()[i] = static_cast<std::uint8_t>(mix(static_cast<std::uint32_t>(i)));
        for (std::size_t s = 0; s < 3; ++s)
          CHECK(xxh3_64(bytes.data(), known.length, kSeeds[s]) == known.hash[s]);
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
