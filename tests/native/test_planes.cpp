// Byte planes of every short length, on every CPU target, in memory that ends where the data end.
#include "check.hpp"
#include "core/cpu.hpp"
#include "core/error.hpp"
#include "data.hpp"
#include "dedup/planes.hpp"

namespace {

using namespace thinwire;

data::Memory random_bytes(std::size_t length, std::size_t skew) {
  data::Memory made(length, skew);
  data::Random random(length + 1);
  for (std::size_t i = 0; i < length; ++i)
    made.data()[i] = static_cast<std::uint8_t>(random.next());
  return made;
}

TEST(planes_hold_the_bytes_of_elements_and_go_back) {
  for (Target target : available_targets()) {
    force_target(name(target));
    for (std::size_t width : {2, 4})
      for (std::size_t length = 0; length < 700; length += 1 + length / 90)
        for (std::size_t skew : {0, 1}) {
          check::context = std::string(name(target)) + ", " + std::to_string(length) +
                           " bytes by " + std::to_string(width);
          data::Memory bytes = random_bytes(length, skew), planes(length, 1 - skew),
                       merged(length, skew);
          split_planes(bytes.span(), width, planes.span());
          merge_planes(planes.span(), width, merged.span());
          CHECK(merged == bytes);
          const std::size_t elements = length / width;
          bool right = true;
          for (std::size_t i = 0; i < length; ++i) {
            const bool is_rest = i >= elements * width;
            const std::size_t at = is_rest ? i : i % width * elements + i / width;
            right = right && planes.data()[at] == bytes.data()[i];
          }
          CHECK(right);
        }
  }
  force_target("");
}

TEST(entropies_read_within_the_data) {
  for (std::size_t width : {2, 4})
    for (std::size_t length : {0, 1, 5, 1023, 65535, 65536, 65537, 65541, 200'003}) {
      check::context = std::to_string(length) + " bytes by " + std::to_string(width);
      data::Memory bytes = random_bytes(length, 0);
      const auto entropies = plane_entropies(bytes.span(), width);
      for (std::size_t k = 0; k < kWidestElement; ++k) {
        CHECK(entropies[k] >= 0 && entropies[k] <= 8);
        if (length > 65'000)
          CHECK(k < width ? entropies[k] > 7.9 : entropies[k] == 0);
      }
    }
}

TEST(what_is_refused) {
  data::Memory bytes(8), short_memory(7);
  CHECK_THROWS(InvalidArgument, "not of 3", split_planes(bytes.span(), 3, bytes.span()));
  CHECK_THROWS(InvalidArgument, "not 7", merge_planes(bytes.span(), 2, short_memory.span()));
}

} // namespace
