#include "io/summary_kernel.hpp"

#include "core/cpu.hpp"
#include "core/inline.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace thinwire {
namespace {

template <class Wide> struct Format;

template <> struct Format<float> {
  using Int = std::int32_t;
  static constexpr int kSignBit = 31;
  static constexpr Int kMagnitude = 0x7fffffff, kInfinity = 0x7f800000;
};

template <> struct Format<double> {
  using Int = std::int64_t;
  static constexpr int kSignBit = 63;
  static constexpr Int kMagnitude = 0x7fffffffffffffff, kInfinity = 0x7ff0000000000000;
};

template <class Wide> using Int = typename Format<Wide>::Int;

template <class T, std::size_t Bytes> struct VectorOf {
  typedef T Type __attribute__((vector_size(Bytes)));
};
// What fills a register of AVX2, and four of whatever there is.
template <class T> using Vector = typename VectorOf<T, 32>::Type;
template <class T> using Quad = typename VectorOf<T, 4 * sizeof(T)>::Type;

// Eight sums, which are added up in one order on every CPU target.
struct Sums {
  Quad<double> parts[2]{};

  THINWIRE_INLINE double total() const {
    const Quad<double> sums = parts[0] + parts[1];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
  }
};
constexpr std::size_t kStep = 8;

template <class V, class T> THINWIRE_INLINE void load(const T* from, V& lanes) {
  std::memcpy(&lanes, from, sizeof lanes);
}

// An integer that is ordered as the value is: an infinity beyond all finite ones, a NaN beyond it.
template <class Wide, class I> THINWIRE_INLINE void to_key(I& bits) {
  bits ^= (bits >> Format<Wide>::kSignBit) & Format<Wide>::kMagnitude;
}

template <class Wide> struct Extremes {
  Int<Wide> least = std::numeric_limits<Int<Wide>>::max();
  Int<Wide> greatest = std::numeric_limits<Int<Wide>>::min();

  THINWIRE_INLINE void add(Int<Wide> low, Int<Wide> high) {
    least = std::min(least, low);
    greatest = std::max(greatest, high);
  }
  bool are_finite() const {
    return greatest < Format<Wide>::kInfinity && least > ~Format<Wide>::kInfinity;
  }
  static double value(Int<Wide> key) {
    to_key<Wide>(key); // which is its own inverse
    return static_cast<double>(std::bit_cast<Wide>(key));
  }
};

template <class Wide> struct FirstPass {
  Extremes<Wide> extremes;
  std::uint64_t zeros = 0;
  double sum = 0;
};

// Takes all values for finite ones; where they are not, the extremes tell.
template <class Wide>
THINWIRE_INLINE FirstPass<Wide> first_pass(const Wide* block, std::size_t count) {
  constexpr std::size_t kLanes = sizeof(Vector<Wide>) / sizeof(Wide);
  Vector<Int<Wide>> least = Vector<Int<Wide>>{} + Extremes<Wide>{}.least, zeros{};
  Vector<Int<Wide>> greatest = Vector<Int<Wide>>{} + Extremes<Wide>{}.greatest;
  Sums sums;
  std::size_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    for (std::size_t k = 0; k < kStep; k += kLanes) {
      Vector<Int<Wide>> key;
      load(block + i + k, key);
      zeros += (key & Format<Wide>::kMagnitude) == 0;
      to_key<Wide>(key);
      least = key < least ? key : least;
      greatest = key > greatest ? key : greatest;
    }
    for (std::size_t k = 0; k < 2; ++k) {
      Quad<Wide> x;
      load(block + i + 4 * k, x);
      sums.parts[k] += __builtin_convertvector(x, Quad<double>);
    }
  }
  FirstPass<Wide> found;
  for (std::size_t k = 0; k < kLanes; ++k) {
    found.extremes.add(least[k], greatest[k]);
    found.zeros -= static_cast<std::uint64_t>(zeros[k]);
  }
  found.sum = sums.total();
  for (; i < count; ++i) {
    auto key = std::bit_cast<Int<Wide>>(block[i]);
    to_key<Wide>(key);
    found.extremes.add(key, key);
    found.zeros += block[i] == 0;
    found.sum += static_cast<double>(block[i]);
  }
  return found;
}

template <class Wide>
THINWIRE_INLINE double squared_deviations(const Wide* block, std::size_t count, double mean) {
  Sums sums;
  std::size_t i = 0;
  for (; i + kStep <= count; i += kStep)
    for (std::size_t k = 0; k < 2; ++k) {
      Quad<Wide> x;
      load(block + i + 4 * k, x);
      const Quad<double> apart = __builtin_convertvector(x, Quad<double>) - mean;
      sums.parts[k] += apart * apart;
    }
  double squares = sums.total();
  for (; i < count; ++i) {
    const double apart = static_cast<double>(block[i]) - mean;
    squares += apart * apart;
  }
  return squares;
}

using BinNumber = std::uint16_t;
static_assert(kBins <= std::size_t{1} << 16);

THINWIRE_INLINE void find_bins(const float* block, std::size_t count, BinNumber* numbers) {
  for (std::size_t i = 0; i < count; ++i)
    numbers[i] = static_cast<BinNumber>(bin_of_bits(std::bit_cast<std::uint32_t>(block[i])));
}

THINWIRE_INLINE void find_bins(const double* block, std::size_t count, BinNumber* numbers) {
  for (std::size_t i = 0; i < count; ++i) {
    const auto rounded = static_cast<float>(block[i]);
    const bool away = std::fabs(static_cast<double>(rounded)) > std::fabs(block[i]);
    numbers[i] = static_cast<BinNumber>(
        bin_of_bits(std::bit_cast<std::uint32_t>(rounded) - static_cast<std::uint32_t>(away)));
  }
}

// Equal values, of which some fields have nothing else, would wait for each other; so four of them
// are counted at once.
THINWIRE_INLINE void count_bins(const BinNumber* numbers, std::size_t count, std::uint64_t* bins) {
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    std::uint64_t four;
    std::memcpy(&four, numbers + i, sizeof four);
    if (four == std::rotl(four, 16)) {
      bins[numbers[i]] += 4;
      continue;
    }
    for (std::size_t k = 0; k < 4; ++k)
      ++bins[numbers[i + k]];
  }
  for (; i < count; ++i)
    ++bins[numbers[i]];
}

// Counts what is not finite and moves the rest together; returns how much that is.
template <class Wide>
THINWIRE_INLINE std::size_t keep_finite(Wide* block, std::size_t count, Counters& counters) {
  std::size_t kept = 0, nan = 0, positive = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Wide x = block[i];
    const auto magnitude = std::bit_cast<Int<Wide>>(x) & Format<Wide>::kMagnitude;
    block[kept] = x;
    kept += magnitude < Format<Wide>::kInfinity;
    nan += magnitude > Format<Wide>::kInfinity;
    positive += x == std::numeric_limits<Wide>::infinity();
  }
  counters.nan += nan;
  counters.positive_infinity += positive;
  counters.negative_infinity += count - kept - nan - positive;
  return kept;
}

template <class Wide>
THINWIRE_INLINE void summarise(Wide* block, std::size_t count, Counters& counters,
                               std::uint64_t* bins) {
  counters.values += count;
  FirstPass<Wide> found = first_pass(block, count);
  if (!found.extremes.are_finite()) {
    count = keep_finite(block, count, counters);
    found = first_pass(block, count);
  }
  if (count == 0)
    return;
  const double mean = found.sum / static_cast<double>(count);
  counters.moments.merge({count, mean, squared_deviations(block, count, mean)});
  counters.zeros += found.zeros;
  counters.least = std::min(counters.least, found.extremes.value(found.extremes.least));
  counters.greatest = std::max(counters.greatest, found.extremes.value(found.extremes.greatest));
  BinNumber numbers[kSummaryBlock];
  find_bins(block, count, numbers);
  count_bins(numbers, count, bins);
}

template <class Wide>
void summarise_baseline(Wide* block, std::size_t count, Counters& counters, std::uint64_t* bins) {
  summarise(block, count, counters, bins);
}

#if defined(__x86_64__)
template <class Wide>
__attribute__((target("avx2"))) void summarise_avx2(Wide* block, std::size_t count,
                                                    Counters& counters, std::uint64_t* bins) {
  summarise(block, count, counters, bins);
}

template <class Wide>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) void
summarise_avx512(Wide* block, std::size_t count, Counters& counters, std::uint64_t* bins) {
  summarise(block, count, counters, bins);
}
#endif

template <class Wide>
void summarise_for_target(Wide* block, std::size_t count, Counters& counters, std::uint64_t* bins) {
#if defined(__x86_64__)
  if (active_target() == Target::avx512)
    return summarise_avx512(block, count, counters, bins);
  if (active_target() == Target::avx2)
    return summarise_avx2(block, count, counters, bins);
#endif
  summarise_baseline(block, count, counters, bins);
}

} // namespace

void summarise_block(float* block, std::size_t count, Counters& counters, std::uint64_t* bins) {
  summarise_for_target(block, count, counters, bins);
}

void summarise_block(double* block, std::size_t count, Counters& counters, std::uint64_t* bins) {
  summarise_for_target(block, count, counters, bins);
}

} // namespace thinwire
