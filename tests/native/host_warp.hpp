// CUDA's side of dispatch/warp.hpp, emulated: one thread runs the lanes of a warp in turn, and the
// warps of a launch.
#pragma once

#include "check.hpp"
#include "data.hpp"
#include "dispatch/warp_frame.hpp"

#include <array>
#include <type_traits>
#include <utility>

namespace emulation {

using thinwire::lane::kWarp;

class Warp {
public:
  // Backward or not, the lanes' order must make no difference.
  explicit Warp(bool backward) : backward_(backward) {}

  template <class Fn> auto lanes(Fn f) const {
    using T = decltype(f(0u));
    if constexpr (std::is_void_v<T>) {
      for (unsigned i = 0; i < kWarp; ++i)
        f(lane(i));
    } else {
      std::array<T, kWarp> each;
      for (unsigned i = 0; i < kWarp; ++i)
        each[lane(i)] = f(lane(i));
      return each;
    }
  }

  template <class Each> auto& own(Each& each, unsigned lane) const { return each[lane]; }

  template <class Each, class Fn> Each gather(const Each& each, Fn source) const {
    Each found;
    for (unsigned i = 0; i < kWarp; ++i)
      found[i] = each[source(i) % kWarp];
    return found;
  }

  // Which NaN an addition gives is not specified.
  template <class T> T agreed(const std::array<T, kWarp>& each) const {
    const T first = each[0];
    for (T value : each)
      CHECK(value == first || (value != value && first != first));
    return first;
  }

  template <class Fn> std::uint32_t ballot(Fn f) const {
    std::uint32_t mask = 0;
    for (unsigned i = 0; i < kWarp; ++i)
      mask |= std::uint32_t{f(lane(i))} << lane(i);
    return mask;
  }

  static void add(std::uint32_t* address, std::uint32_t value) { *address += value; }
  static void add(std::uint64_t* address, std::uint64_t value) { *address += value; }
  static void set_bits(std::uint32_t* address, std::uint32_t mask) { *address |= mask; }

  static std::uint64_t take(std::uint64_t* counter, std::uint64_t n) {
    return std::exchange(*counter, *counter + n);
  }

  template <class Fn> void tally(std::uint32_t* bins, Fn f) const {
    lanes([&](unsigned lane) {
      const std::uint32_t bin = f(lane);
      if (bin != thinwire::lane::kNowhere)
        ++bins[bin];
    });
  }
  static bool last_of(std::uint32_t* counter, std::size_t n) { return ++*counter == n; }

private:
  unsigned lane(unsigned i) const { return backward_ ? kWarp - 1 - i : i; }
  bool backward_;
};

class Launcher {
public:
  Launcher(std::size_t warps, bool backward) : warps_(warps), backward_(backward) {}

  void zero(void* address, std::size_t bytes) { std::memset(address, 0, bytes); }

  void store(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

  template <class Args, class Kernel>
  void launch(const thinwire::lane::Batch<Args>& batch, const Kernel& kernel, std::size_t floats) {
    CHECK(floats <= thinwire::lane::kMostScratch);
    for (std::size_t i = 0; i < warps_; ++i) {
      data::Memory scratch(floats * sizeof(float)); // junk at first
      const std::size_t warp = backward_ ? warps_ - 1 - i : i;
      run_units(Warp(backward_), batch, kernel, warp, warps_,
                reinterpret_cast<float*>(scratch.data()));
    }
  }

private:
  std::size_t warps_;
  bool backward_;
};

} // namespace emulation

// Compiled once, in host_warp.cpp.
namespace thinwire::lane {
extern template void encode_payloads(emulation::Launcher&, std::span<const Encoding>, std::byte*);
extern template void decode_payloads(emulation::Launcher&, std::span<const Decoding>, std::byte*);
extern template void decode_payloads(emulation::Launcher&, const Layout&,
                                     std::span<const std::byte* const>, void*, DType, bool,
                                     std::byte*);
} // namespace thinwire::lane
