// Launches over the matrices of a bucket that travel as factors: a few a bucket, however many
// matrices there are.
#pragma once

#include "dispatch/warp_low_rank.hpp"
#include "dispatch/warp_sums.hpp"

namespace thinwire::lane::low_rank {

inline std::size_t coefficient_bytes(const MatrixArgs& a) {
  return basis::coefficients_in(a.basis(nullptr), a.values()) * sizeof(float);
}
inline std::size_t take_bytes(const MatrixArgs& a) {
  return a.is_left() ? coefficient_bytes(a)
                     : align16(a.groups() * a.factor_values() * sizeof(float));
}
inline std::size_t give_bytes(const MatrixArgs& a) {
  return coefficient_bytes(a) * (a.is_left() ? 2 : 1);
}
inline std::size_t flag_bytes(std::size_t matrices) {
  return align16(matrices * sizeof(std::uint32_t));
}
inline std::size_t table_bytes(std::size_t matrices, std::size_t copied) {
  return lane::table_bytes<MatrixArgs, EncodeArgs, DecodeArgs>(std::max(matrices, copied));
}

// Without working memory.
inline std::vector<MatrixArgs> matrices_of(const FactoredBucket& bucket) {
  std::vector<MatrixArgs> made;
  for (const FactoredMatrix& m : bucket.matrices) {
    const Contribution y = {m.values, bucket.dtype, bucket.scale, m.residual_in,
                            bucket.residual_dtype};
    made.push_back({m, y, bucket.which, nullptr, nullptr, nullptr});
  }
  return made;
}
inline std::vector<MatrixArgs> matrices_of(std::span<const FactorLesson> lessons, Factor which,
                                           DType dtype) {
  std::vector<MatrixArgs> made;
  for (const FactorLesson& lesson : lessons) {
    FactoredMatrix m = {};
    m.matrix = lesson.matrix;
    m.next = lesson.next;
    made.push_back(
        {m, {lesson.values, dtype, 1, nullptr, DType::fp32}, which, nullptr, nullptr, nullptr});
  }
  return made;
}

// Of working memory.
inline std::size_t work_bytes(const FactoredBucket& bucket) {
  const std::size_t count = bucket.matrices.size();
  std::size_t bytes = table_bytes(count, bucket.copied.size()) + flag_bytes(count);
  for (const MatrixArgs& a : matrices_of(bucket))
    bytes += std::max(take_bytes(a), give_bytes(a));
  return bytes;
}
inline std::size_t work_bytes(std::span<const FactorLesson> lessons, Factor which) {
  std::size_t bytes = table_bytes(lessons.size(), 0);
  for (const MatrixArgs& a : matrices_of(lessons, which, DType::fp32))
    bytes += take_bytes(a) + align16(a.factor_values() * sizeof(float));
  return bytes;
}

// The matrices with flags, zeroed, and so many bytes each of working memory.
template <class Launcher, class Bytes>
std::vector<Item<MatrixArgs>> items_of(Launcher& launcher, const FactoredBucket& bucket,
                                       std::byte* work, Bytes bytes) {
  std::vector<Item<MatrixArgs>> items;
  auto* flags = reinterpret_cast<std::uint32_t*>(work);
  const std::size_t all_flags = flag_bytes(bucket.matrices.size());
  if (all_flags != 0)
    launcher.zero(work, all_flags);
  work += all_flags;
  for (MatrixArgs& a : matrices_of(bucket)) {
    a.flag = flags++;
    a.sums = reinterpret_cast<float*>(work);
    a.received = a.is_left() ? a.sums + coefficient_bytes(a) / sizeof(float) : a.sums;
    items.push_back({a, nullptr});
    work += bytes(a);
  }
  return items;
}

inline std::vector<Item<EncodeArgs>> copied_to(const FactoredBucket& bucket) {
  std::vector<Item<EncodeArgs>> items;
  for (const CopiedValues& copied : bucket.copied) {
    EncodeArgs args = {};
    args.x = copied.values;
    args.dtype = bucket.dtype;
    args.n = copied.count;
    args.scale = 1;
    args.payload = reinterpret_cast<std::uint8_t*>(copied.stand_in);
    items.push_back({args, nullptr});
  }
  return items;
}

inline std::vector<Item<DecodeArgs>> copied_back(const FactoredBucket& bucket) {
  std::vector<Item<DecodeArgs>> items;
  for (const CopiedValues& copied : bucket.copied)
    items.push_back({{.payload = reinterpret_cast<const std::uint8_t*>(copied.stand_in),
                      .n = copied.count,
                      .spec = CodecSpec{},
                      .out = copied.values,
                      .dtype = bucket.dtype,
                      .accumulate = false},
                     nullptr});
  return items;
}

// Fills the stand-in. `work` has work_bytes(bucket), aligned to 16 bytes.
template <class Launcher>
void take(Launcher& launcher, const FactoredBucket& bucket, std::byte* work) {
  Runner runner(launcher, work);
  work += table_bytes(bucket.matrices.size(), bucket.copied.size());
  const auto items = items_of(launcher, bucket, work, take_bytes);
  runner.run(FoldValues{}, copied_to(bucket));
  runner.run(ProjectRows{}, items);
  runner.run(CombineRows{}, items);
  runner.run(Send{}, items);
}

// Puts what the means stand for into the bucket, keeps what was not sent, works out the next
// factors. `nonfinite`, zero before, is set where not all of that is finite.
template <class Launcher>
void give(Launcher& launcher, const FactoredBucket& bucket, std::uint32_t* nonfinite,
          std::byte* work) {
  Runner runner(launcher, work);
  work += table_bytes(bucket.matrices.size(), bucket.copied.size());
  const auto items = items_of(launcher, bucket, work, give_bytes);
  runner.run(DecodeCast<Raw>{{}, {{0}, 1}}, copied_back(bucket));
  runner.run(Settle{{}, nonfinite}, items);
  runner.run(GatherRows{}, items);
  runner.run(Deliver{{}, nonfinite}, items);
  runner.run(Renew{}, items);
}

// Works out the next factors from gradients. `work` has work_bytes(lessons, which), aligned to 16
// bytes.
template <class Launcher>
void learn(Launcher& launcher, std::span<const FactorLesson> lessons, Factor which, DType dtype,
           std::byte* work) {
  Runner runner(launcher, work);
  work += table_bytes(lessons.size(), 0);
  std::vector<Item<MatrixArgs>> items;
  for (MatrixArgs& a : matrices_of(lessons, which, dtype)) {
    a.sums = reinterpret_cast<float*>(work);
    work += take_bytes(a);
    a.of.sent = a.of.mean = reinterpret_cast<float*>(work);
    work += align16(a.factor_values() * sizeof(float));
    items.push_back({a, nullptr});
  }
  runner.run(ProjectRows{}, items);
  runner.run(CombineRows{}, items);
  runner.run(Send{}, items);
  runner.run(Renew{}, items);
}

} // namespace thinwire::lane::low_rank
