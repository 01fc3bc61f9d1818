// Kernels of matrices that travel as factors (docs/powersgd.md; see warp_kernel.hpp for what a
// kernel is), in the order in which they run.
//
// Bytes that must move, a value of an fp32 matrix with an fp32 residual: 8 to take its factor, 16
// to deliver the mean; 6 and 12 where x has 16 bits. The sums of groups add rank / 8 to right
// factors. The factors are small beside that. To take a factor of more than 8 vectors, values are
// read again, out of a cache, for every 8 more. Operations: rank multiply-adds a value to take a
// factor, twice as many to deliver.
#pragma once

#include "dispatch/factored_bucket.hpp"
#include "dispatch/warp_lesson.hpp"

namespace thinwire::lane::low_rank {

using thinwire::kGroupRows; // topk has groups too

// A matrix and working memory, which serves first to take its factor, later to give the mean.
struct MatrixArgs {
  FactoredMatrix of;
  Contribution y;
  Factor which;
  float* sums;         // taking: of groups of rows. Giving: coefficients of what was sent
  float* received;     // giving: those of the mean, the same for right factors
  std::uint32_t* flag; // taking: whether x is not all zero; null where nobody asks.
                       // Giving: whether the mean is not all finite

  THINWIRE_HD bool is_left() const { return which == Factor::left; }
  THINWIRE_HD std::size_t length() const { return is_left() ? of.matrix.rows : of.matrix.columns; }
  THINWIRE_HD std::size_t factor_values() const { return of.matrix.rank * length(); }
  THINWIRE_HD std::size_t values() const { return of.matrix.rows * of.matrix.columns; }
  THINWIRE_HD std::size_t groups() const { return ceil_div(of.matrix.rows, kGroupRows); }
  THINWIRE_HD Basis basis(const float* vectors) const {
    return {of.matrix.columns, of.matrix.rank, vectors};
  }
};

// f(y): y(i, seen) is value i of the matrix, and adds the bits of x there to `seen`.
template <class Fn> THINWIRE_TEAM auto with_watched(const Contribution& c, Fn f) {
  const F scale = F::splat(c.scale);
  return with_dtype(c.dtype, [&]<DType X>() {
    const auto x = [=](std::size_t i, std::uint32_t& seen) {
      const F v = load<X>(c.x, i);
      seen |= magnitude(v);
      return v * scale;
    };
    if (!c.residual)
      return f(x);
    return with_residual_dtype(c.residual_dtype, [&]<DType R>() {
      return f(
          [=](std::size_t i, std::uint32_t& seen) { return x(i, seen) + load<R>(c.residual, i); });
    });
  });
}

// Notes that x is not all zero where a lane has seen it.
template <class Team, class Each>
THINWIRE_TEAM void note_seen(const Team& team, std::uint32_t* flag, const Each& found) {
  const std::uint32_t lanes = total(team, team.lanes([&](unsigned lane) -> std::uint32_t {
    return team.own(found, lane).seen != 0;
  }));
  once(team, [&] {
    if (flag != nullptr && lanes != 0)
      team.set_bits(flag, 1);
  });
}

// Left factors, to `sums` in the layout of a basis' coefficients. One unit is a tile of rows.
struct ProjectRows : basis::Project {
  static THINWIRE_HD std::size_t units(const MatrixArgs& a) {
    return a.is_left() ? Project::units(rows_of(a)) : 0;
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<MatrixArgs>& item, std::size_t unit,
                                float*) const {
    const MatrixArgs& a = item.args;
    const basis::RowArgs rows = rows_of(a);
    for (std::size_t k = 0; k < a.of.matrix.rank; k += kVectors) {
      const auto found = with_watched(a.y, [&](auto y) {
        return team.lanes([&](unsigned lane) {
          std::uint32_t seen = 0;
          const auto watched = [&](std::size_t i) { return y(i, seen); };
          const Sums sums = products(rows, first_row(unit, lane), k, lane % kSumLanes, watched);
          return Found{sums, seen};
        });
      });
      write(team, rows, unit, k, found);
      note_seen(team, a.flag, found);
    }
  }

private:
  struct Found : Sums {
    std::uint32_t seen;
  };

  static THINWIRE_HD basis::RowArgs rows_of(const MatrixArgs& a) {
    const FoldArgs input = {.x = nullptr,
                            .dtype = a.y.dtype,
                            .n = a.values(),
                            .scale = 1,
                            .residual = nullptr,
                            .residual_dtype = DType::fp32,
                            .out = nullptr};
    return {input, a.basis(a.of.matrix.right), a.sums, nullptr};
  }
};

// What each group of rows adds to right factors, to `sums`: a factor a group. One unit is 32
// columns of a group, whose rows' coefficients lie in fast memory.
struct CombineRows {
  static THINWIRE_HD std::size_t units(const MatrixArgs& a) {
    return a.is_left() ? 0 : a.groups() * blocks(a);
  }
  static THINWIRE_HD std::size_t scratch(const MatrixArgs&) { return kGroupRows * kVectors; }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<MatrixArgs>& item, std::size_t unit,
                                float* scratch) const {
    const MatrixArgs& a = item.args;
    const std::size_t group = unit / blocks(a), first = unit % blocks(a) * kWarp;
    auto* coefficients = reinterpret_cast<Coefficients*>(scratch);
    for (std::size_t k = 0; k < a.of.matrix.rank; k += kVectors) {
      fetch(team, a, group, k, scratch);
      const auto found = with_watched(a.y, [&](auto y) {
        return team.lanes([&](unsigned lane) {
          Found one = {};
          if (first + lane < a.of.matrix.columns)
            add_rows(a, group, first + lane, k, coefficients, y, one);
          return one;
        });
      });
      note_seen(team, a.flag, found);
    }
  }

private:
  static constexpr unsigned kVectors = 8; // that are taken together
  struct alignas(16) Coefficients {       // of a row
    float of[kVectors];
  };
  struct Found {
    std::uint32_t seen;
  };

  static THINWIRE_HD std::size_t blocks(const MatrixArgs& a) {
    return ceil_div(a.of.matrix.columns, kWarp);
  }
  static THINWIRE_HD std::size_t rows_in(const MatrixArgs& a, std::size_t group) {
    return smaller(kGroupRows, a.of.matrix.rows - group * kGroupRows);
  }

  // The coefficients of a group along some vectors. The last vector, and the last row, take the
  // place of those that are not there, for nothing.
  template <class Team>
  static THINWIRE_TEAM void fetch(const Team& team, const MatrixArgs& a, std::size_t group,
                                  std::size_t vector, float* scratch) {
    const LowRank& matrix = a.of.matrix;
    each(team, kGroupRows * kVectors, [&](std::size_t t) {
      const std::size_t v = t / kGroupRows, i = t % kGroupRows;
      scratch[i * kVectors + v] = matrix.left[smaller(vector + v, matrix.rank - 1) * matrix.rows +
                                              smaller(group * kGroupRows + i, matrix.rows - 1)];
    });
  }

  template <class Input>
  static THINWIRE_TEAM void add_rows(const MatrixArgs& a, std::size_t group, std::size_t column,
                                     std::size_t vector, const Coefficients* coefficients, Input y,
                                     Found& found) {
    const std::size_t columns = a.of.matrix.columns, rank = a.of.matrix.rank,
                      first = group * kGroupRows * columns + column;
    F sums[kVectors] = {};
    basis::read_ahead(
        0, 1, rows_in(a, group), [&](std::size_t i) { return y(first + i * columns, found.seen); },
        [&](std::size_t i, F value) {
          const Coefficients c = coefficients[i];
          THINWIRE_UNROLL
          for (unsigned v = 0; v < kVectors; ++v)
            sums[v] = multiply_add(F::splat(c.of[v]), value, sums[v]);
        });
    float* to = a.sums + (group * rank + vector) * columns + column;
    THINWIRE_UNROLL
    for (unsigned v = 0; v < kVectors; ++v)
      if (vector + v < rank)
        to[v * columns] = sums[v].v;
  }
};

// The factor as it is sent: zeros where the gradient is all zero, so that its residual stays. One
// unit is 32 values of it.
struct Send : NoScratch {
  static THINWIRE_HD std::size_t units(const MatrixArgs& a) {
    return ceil_div(a.factor_values(), kWarp);
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<MatrixArgs>& item, std::size_t unit,
                                float*) const {
    const MatrixArgs& a = item.args;
    const bool is_used = a.flag == nullptr || *a.flag != 0;
    team.lanes([&](unsigned lane) {
      const std::size_t i = unit * kWarp + lane;
      if (i >= a.factor_values())
        return;
      const float value = is_used ? factor(a, i) : 0.0f;
      a.of.sent[i] = value;
      if (a.of.losses == nullptr)
        return;
      a.of.losses[i] = value;
      a.of.mean[i] = 0;
    });
  }

private:
  static THINWIRE_TEAM float factor(const MatrixArgs& a, std::size_t i) {
    const std::size_t n = a.factor_values(), rows = a.of.matrix.rows;
    if (a.is_left())
      return a.sums[basis::coefficient_at(a.basis(nullptr), i % rows) + i / rows * kGroupRows];
    F sum = F::splat(a.sums[i]);
    basis::read_ahead(
        1, 1, a.groups(), [&](std::size_t group) { return F::splat(a.sums[group * n + i]); },
        [&](std::size_t, F more) { sum = sum + more; });
    return sum.v;
  }
};

// What was sent, as others take it, and whether the mean is finite. One unit is 32 values.
struct Settle : NoScratch {
  std::uint32_t* nonfinite; // whether any mean is not

  static THINWIRE_HD std::size_t units(const MatrixArgs& a) { return Send::units(a); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<MatrixArgs>& item, std::size_t unit,
                                float*) const {
    const MatrixArgs& a = item.args;
    team.lanes([&](unsigned lane) {
      const std::size_t i = unit * kWarp + lane;
      if (i >= a.factor_values())
        return;
      a.of.sent[i] = (F::splat(a.of.sent[i]) - F::splat(a.of.losses[i])).v;
      if (is_finite(F::splat(a.of.mean[i])))
        return;
      team.set_bits(a.flag, 1);
      team.set_bits(nonfinite, 1);
    });
  }
};

// The coefficients of rows in the layout of a basis', +0 for rows that are not there. One unit is a
// group.
struct GatherRows : NoScratch {
  static THINWIRE_HD std::size_t units(const MatrixArgs& a) { return a.groups(); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<MatrixArgs>& item, std::size_t group,
                                float*) const {
    const MatrixArgs& a = item.args;
    const std::size_t rows = a.of.matrix.rows, count = a.of.matrix.rank * kGroupRows;
    const auto gather = [&](const float* factor, float* to) {
      each(team, count, [&](std::size_t i) {
        const std::size_t row = group * kGroupRows + i % kGroupRows;
        to[group * count + i] = row < rows ? factor[i / kGroupRows * rows + row] : 0.0f;
      });
    };
    gather(a.is_left() ? a.of.sent : a.of.matrix.left, a.sums);
    if (a.is_left())
      gather(a.of.mean, a.received);
  }
};

// Keeps what was not sent, and puts what was received in the place of the gradient. One unit is a
// tile.
struct Deliver : NoScratch {
  std::uint32_t* nonfinite; // whether a finite mean stands for values that are not, as x holds them

  static THINWIRE_HD std::size_t units(const MatrixArgs& a) {
    return basis::tiles_in(a.basis(nullptr), a.of.matrix.rows);
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<MatrixArgs>& item, std::size_t tile,
                                float*) const {
    const MatrixArgs& a = item.args;
    with_dtype(a.y.dtype, [&]<DType X>() {
      with_residual_dtype(a.y.residual_dtype, [&]<DType R>() {
        basis::each_column(team, a.basis(nullptr), a.of.matrix.rows, tile,
                           [&](basis::TileColumn column) {
                             if (a.of.residual_out != nullptr && *a.flag == 0)
                               keep<X, R>(a, column);
                             if (!receive<X>(a, column) && *a.flag == 0)
                               team.set_bits(nonfinite, 1);
                           });
      });
    });
  }

private:
  template <DType X, DType R>
  static THINWIRE_TEAM void keep(const MatrixArgs& a, basis::TileColumn column) {
    const F scale = F::splat(a.y.scale);
    column.each([&](std::size_t i, F& v) {
      v = load<X>(a.y.x, i) * scale;
      if (a.y.residual != nullptr)
        v = v + load<R>(a.y.residual, i);
    });
    const float* vectors = a.is_left() ? a.of.matrix.right : a.of.sent;
    basis::expand<true>(a.basis(vectors), a.sums, column);
    column.each([&](std::size_t i, F& v) {
      store<R>(a.of.residual_out, i, is_finite(v) ? v : F::splat(0.0f));
    });
  }

  // Returns whether all of it is finite.
  template <DType X>
  static THINWIRE_TEAM bool receive(const MatrixArgs& a, basis::TileColumn column) {
    const float* vectors = a.is_left() ? a.of.matrix.right : a.of.mean;
    basis::expand<false>(a.basis(vectors), a.received, column);
    bool finite = true;
    column.each([&](std::size_t i, F& v) {
      finite = finite && is_finite(stored<X>(v));
      store<X>(a.of.values, i, canonical(v));
    });
    return finite;
  }
};

// The next steps' factor: the mean, made orthonormal, or the factor there is where the mean is zero
// or not finite. One unit is a matrix.
struct Renew : NoScratch {
  static THINWIRE_HD std::size_t units(const MatrixArgs&) { return 1; }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<MatrixArgs>& item, std::size_t,
                                float*) const {
    const MatrixArgs& a = item.args;
    const float* now = a.is_left() ? a.of.matrix.left : a.of.matrix.right;
    if (!orthonormal(team, a.length(), a.of.matrix.rank, a.of.mean, a.of.next))
      basis::assign(team, a.of.next, a.factor_values(),
                    [=](std::size_t i) { return F::splat(now[i]); });
  }

private:
  // Returns false where the factor is zero or not finite.
  template <class Team>
  static THINWIRE_TEAM bool orthonormal(const Team& team, std::size_t length, std::size_t rank,
                                        const float* found, float* next) {
    const std::uint32_t most = basis::greatest_of(team, found, rank * length);
    if (most >= kInfinityBits || most >> 23 == 0)
      return false;
    for (std::size_t k = 0; k < rank; ++k)
      if (!take(team, length, k, found, next))
        replace(team, length, k, next);
    return true;
  }

  // Returns false where vector k vanishes, beside those before it or altogether.
  template <class Team>
  static THINWIRE_TEAM bool take(const Team& team, std::size_t length, std::size_t k,
                                 const float* found, float* next) {
    found += k * length;
    const std::uint32_t most = basis::greatest_of(team, found, length);
    if (most >> 23 == 0)
      return false;
    const F about_one = F::splat(to_about_one(most));
    const auto v = [=](std::size_t i) { return F::splat(found[i]) * about_one; };
    const F scale = F::splat(1 / square_root(F::splat(basis::dot16(team, length, v, v))).v);
    basis::assign(team, next + k * length, length, [=](std::size_t i) { return v(i) * scale; });
    return basis::orthonormalise_one(team, next, length, k);
  }

  // By random numbers, or by zeros where these vanish too.
  template <class Team>
  static THINWIRE_TEAM void replace(const Team& team, std::size_t length, std::size_t k,
                                    float* next) {
    float* v = next + k * length;
    basis::assign(team, v, length, [=](std::size_t i) {
      const auto index = static_cast<std::uint32_t>(k * length + i);
      return uniform<F>(I::splat(index), 0) - F::splat(0.5f);
    });
    if (!basis::orthonormalise_one(team, next, length, k))
      basis::assign(team, v, length, [](std::size_t) { return F::splat(0.0f); });
  }
};

} // namespace thinwire::lane::low_rank
