// Kernels of values along a shared basis (docs/basis.md; see warp_kernel.hpp for what a kernel is),
// in the order in which they run.
//
// Encoding: project the rows, code the coefficients, take what these stand for from the values;
// then the codec's kernels over the rest. Of an fp32 matrix with a residual 16 bytes a value are
// read for this and 4 written, beside what the codec moves of an fp32 tensor that has only a
// residual to write; what must move is 12 and the payload. The codec's kernels could work the rest
// out of the values themselves, but they would read each vector for one row where a tile does for
// four. Operations: 4 a value and vector.
//
// Decoding: the codec's kernels, one frame apart from the other, read the coefficients, add what
// they stand for. Of p frames 8 p bytes a value for their rests, 4 for the sum and 4 more to
// accumulate; what must move is the payloads and the sum. Operations: 2 a value, vector and frame.
#pragma once

#include "dispatch/basis_codec.hpp"
#include "dispatch/warp_blocks.hpp"

namespace thinwire::lane::basis {

using thinwire::kGroupRows; // topk has groups too

// Rows that a warp takes together, so that it reads a vector once for all of them.
inline constexpr std::size_t kTileRows = 4;
static_assert(kGroupRows % kTileRows == 0);
// Columns of such a tile, where columns do not depend on each other.
inline constexpr std::size_t kTileColumns = 512;
// Frames that are decoded in one pass; the rest of each takes four bytes a value.
inline constexpr std::size_t kFramesAtOnce = 4;

// The rows of a matrix, and in working memory their coefficients: group after group, in the order
// of the payload, +0 for rows that are not there.
struct RowArgs {
  FoldArgs input; // `out`: where the rest goes
  Basis basis;
  float* coefficients;                // aligned to 16 bytes
  std::uint8_t* payload;              // of the coefficients; null where they do not travel
  std::uint64_t* nonfinite = nullptr; // as in EncodeArgs; null where payload is
};

THINWIRE_TEAM void settle(RowArgs& a) { lane::settle(a.input); }

// The rests of frames as the codec decoded them, and where their sums with the parts along the
// basis go. Those of the next frame lie behind those of one.
struct SumArgs {
  DecodeArgs whole; // its payload: the first frame's
  Basis basis;
  float* coefficients; // as in RowArgs
  const float* rests;
};

THINWIRE_HD constexpr std::size_t rows_in(const Basis& basis, std::size_t values) {
  return values / basis.columns;
}
THINWIRE_HD constexpr std::size_t groups_in(const Basis& basis, std::size_t values) {
  return ceil_div(rows_in(basis, values), kGroupRows);
}
THINWIRE_HD constexpr std::size_t coefficients_in(const Basis& basis, std::size_t values) {
  return groups_in(basis, values) * basis.rank * kGroupRows;
}
// Floats from one frame's rest to the next one's.
THINWIRE_HD constexpr std::size_t rest_stride(std::size_t values) {
  return align16(values * sizeof(float)) / sizeof(float);
}
// Where a row's coefficient along the first vector lies; that along the next is kGroupRows behind.
THINWIRE_HD constexpr std::size_t coefficient_at(const Basis& basis, std::size_t row) {
  return row / kGroupRows * basis.rank * kGroupRows + row % kGroupRows;
}

// f(y), where y(i) is the encoder's input: made for the dtypes there are, so that a loop over y
// does not ask for them.
template <class Fn> THINWIRE_TEAM auto with_input(const FoldArgs& a, Fn f) {
  const F scale = F::splat(a.scale);
  return with_dtype(a.dtype, [&]<DType X>() {
    if (!a.residual)
      return f([=](std::size_t i) { return load<X>(a.x, i) * scale; });
    return with_residual_dtype(a.residual_dtype, [&]<DType R>() {
      return f([=](std::size_t i) { return load<X>(a.x, i) * scale + load<R>(a.residual, i); });
    });
  });
}

// Whether the last of n columns, filled up with zeros, are no columns in this lane of a sum.
THINWIRE_HD bool is_filled(std::size_t n, unsigned lane) {
  return n % kSumLanes != 0 && lane % kSumLanes >= n % kSumLanes;
}

// C[k][i] = dot16(y[i], q[k]). One unit is a tile of rows. Each half of the warp takes half of
// them, and its lanes are those of the sum.
struct Project : NoScratch {
  static THINWIRE_HD std::size_t units(const RowArgs& a) {
    return groups_in(a.basis, a.input.n) * (kGroupRows / kTileRows);
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<RowArgs>& item, std::size_t unit,
                                float*) const {
    const RowArgs& a = item.args;
    for (std::size_t k = 0; k < a.basis.rank; k += kVectors) {
      const auto sums = with_input(a.input, [&](auto y) {
        return team.lanes([&](unsigned lane) {
          return products(a, first_row(unit, lane), k, lane % kSumLanes, y);
        });
      });
      write(team, a, unit, k, sums);
    }
  }

protected:
  static constexpr unsigned kRows = kTileRows * kSumLanes / kWarp, kVectors = 8;
  struct Sums {
    F of[kRows][kVectors];
  };
  struct Column {
    F y[kRows], q[kVectors];
  };

  static THINWIRE_TEAM std::size_t first_row(std::size_t unit, unsigned lane) {
    return unit * kTileRows + lane / kSumLanes * kRows;
  }

  // One lane's part of the products of rows and vectors. In place of those that are not there it
  // takes the last, for nothing.
  template <class Input>
  static THINWIRE_TEAM Sums products(const RowArgs& a, std::size_t row, std::size_t vector,
                                     unsigned lane, Input y) {
    const std::size_t columns = a.basis.columns, last_row = rows_in(a.basis, a.input.n) - 1,
                      last_vector = a.basis.rank - 1;
    unsigned vectors[kVectors]; // where each begins
    THINWIRE_UNROLL
    for (unsigned v = 0; v < kVectors; ++v)
      vectors[v] = static_cast<unsigned>(smaller(vector + v, last_vector) * columns);
    Sums sums = {};
    const auto add = [&](const Column& column) {
      THINWIRE_UNROLL
      for (unsigned r = 0; r < kRows; ++r) {
        THINWIRE_UNROLL
        for (unsigned v = 0; v < kVectors; ++v)
          sums.of[r][v] = multiply_add(column.y[r], column.q[v], sums.of[r][v]);
      }
    };
    for (std::size_t j = lane; j < columns; j += kSumLanes) {
      Column column;
      THINWIRE_UNROLL
      for (unsigned r = 0; r < kRows; ++r)
        column.y[r] = y(smaller(row + r, last_row) * columns + j);
      THINWIRE_UNROLL
      for (unsigned v = 0; v < kVectors; ++v)
        column.q[v] = F::splat(a.basis.vectors[vectors[v] + static_cast<unsigned>(j)]);
      add(column);
    }
    if (is_filled(columns, lane))
      add({});
    return sums;
  }

  // Coefficients of rows that are not there are +0.
  template <class Team, class Each>
  static THINWIRE_TEAM void write(const Team& team, const RowArgs& a, std::size_t unit,
                                  std::size_t vector, const Each& sums) {
    const std::size_t rows = rows_in(a.basis, a.input.n);
    THINWIRE_UNROLL
    for (unsigned r = 0; r < kRows; ++r) {
      THINWIRE_UNROLL
      for (unsigned v = 0; v < kVectors; ++v) {
        const auto total = tree_sums(
            team, team.lanes([&](unsigned lane) { return team.own(sums, lane).of[r][v].v; }));
        team.lanes([&](unsigned lane) {
          const std::size_t row = first_row(unit, lane) + r;
          if (lane % kSumLanes == 0 && vector + v < a.basis.rank)
            a.coefficients[coefficient_at(a.basis, row) + (vector + v) * kGroupRows] =
                row < rows ? team.own(total, lane) : 0.0f;
        });
      }
    }
  }
};

using CoefficientCoding = BlockCoding<Int8, false, false>;

// Decodes the coefficients of a group of rows.
template <class Team>
THINWIRE_TEAM void read_group(const Team& team, std::size_t rank, std::size_t group,
                              const std::uint8_t* payload, float* coefficients, float* scratch) {
  const DecodeBlock<CoefficientCoding, OneFrame> decode{};
  const DecodeArgs args = coefficient_args(rank, payload + group * group_bytes(rank),
                                           coefficients + group * rank * kGroupRows);
  for (std::size_t unit = 0; unit < decode.units(args); ++unit)
    decode(team, {args, nullptr}, unit, scratch);
}

// Rounds the coefficients as they travel. One unit is a group.
struct CodeGroups {
  static THINWIRE_HD std::size_t units(const RowArgs& a) { return groups_in(a.basis, a.input.n); }
  static THINWIRE_HD std::size_t scratch(const RowArgs& a) {
    return EncodeBlock<CoefficientCoding>::scratch(
        coefficient_args(a.basis.rank, a.coefficients, a.payload));
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<RowArgs>& item, std::size_t group,
                                float* scratch) const {
    const RowArgs& a = item.args;
    const std::size_t rank = a.basis.rank;
    EncodeArgs args = coefficient_args(rank, a.coefficients + group * rank * kGroupRows,
                                       a.payload + group * group_bytes(rank));
    args.nonfinite = a.nonfinite;
    const EncodeBlock<CoefficientCoding> encode{};
    for (std::size_t unit = 0; unit < encode.units(args); ++unit)
      encode(team, {args, nullptr}, unit, scratch);
    read_group(team, rank, group, a.payload, a.coefficients, scratch);
  }
};

// One unit is a group of one frame.
struct ReadGroups : NoScratch {
  Frames frames;

  std::size_t units(const SumArgs& a) const {
    return frames.count() * groups_in(a.basis, a.whole.n);
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<SumArgs>& item, std::size_t unit,
                                float* scratch) const {
    const SumArgs& a = item.args;
    const std::size_t groups = groups_in(a.basis, a.whole.n), frame = unit / groups;
    read_group(team, a.basis.rank, unit % groups,
               frames.payload(a.whole.payload, static_cast<unsigned>(frame)),
               a.coefficients + frame * coefficients_in(a.basis, a.whole.n), scratch);
  }
};

// Tiles of kTileRows rows and kTileColumns columns in so many rows.
THINWIRE_HD constexpr std::size_t tiles_in(const Basis& basis, std::size_t rows) {
  return ceil_div(rows, kTileRows) * ceil_div(basis.columns, kTileColumns);
}

// The values of one column of a tile, of which only the first `rows` are there.
struct TileColumn {
  std::size_t row, rows, first, columns; // first: index of the first value in the matrix
  F of[kTileRows];

  THINWIRE_TEAM std::size_t column() const { return first - row * columns; }

  // f(i, of[r]) for each value that is there, i its index in the matrix.
  template <class Fn> THINWIRE_TEAM void each(Fn f) {
    THINWIRE_UNROLL
    for (unsigned r = 0; r < kTileRows; ++r)
      if (r < rows)
        f(first + r * columns, of[r]);
  }
};

// f(column) for each column of a tile.
template <class Team, class Fn>
THINWIRE_TEAM void each_column(const Team& team, const Basis& basis, std::size_t rows,
                               std::size_t tile, Fn f) {
  const std::size_t columns = basis.columns, across = ceil_div(columns, kTileColumns),
                    row = tile / across * kTileRows, from = tile % across * kTileColumns;
  each(team, smaller(kTileColumns, columns - from), [&](std::size_t j) {
    f(TileColumn{row, smaller(kTileRows, rows - row), row * columns + from + j, columns, {}});
  });
}

// column += what its coefficients stand for, or -= that: vector after vector.
template <bool kSubtract>
THINWIRE_TEAM void expand(const Basis& basis, const float* coefficients, TileColumn& column) {
  struct alignas(16) Factors {
    float of[kTileRows];
  };
  const float* vector = basis.vectors + column.column();
  const float* factors = coefficients + coefficient_at(basis, column.row);
  for (std::size_t k = 0; k < basis.rank; ++k) {
    const F q = F::splat(vector[k * basis.columns]);
    const Factors c = *reinterpret_cast<const Factors*>(factors + k * kGroupRows);
    THINWIRE_UNROLL
    for (unsigned r = 0; r < kTileRows; ++r)
      column.of[r] = multiply_add(F::splat(kSubtract ? -c.of[r] : c.of[r]), q, column.of[r]);
  }
}

// The rest: the values without what their coefficients stand for. One unit is a tile.
struct Subtract : NoScratch {
  static THINWIRE_HD std::size_t units(const RowArgs& a) {
    return tiles_in(a.basis, rows_in(a.basis, a.input.n));
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<RowArgs>& item, std::size_t tile,
                                float*) const {
    const RowArgs& a = item.args;
    with_input(a.input, [&](auto y) {
      each_column(team, a.basis, rows_in(a.basis, a.input.n), tile, [&](TileColumn column) {
        column.each([&](std::size_t i, F& v) { v = y(i); });
        expand<true>(a.basis, a.coefficients, column);
        column.each([&](std::size_t i, F& v) { a.input.out[i] = v.v; });
      });
    });
  }
};

// For each frame its rest, or the sum plus that, and what its coefficients stand for. One unit is a
// tile.
struct Add : NoScratch {
  unsigned frames;

  static THINWIRE_HD std::size_t units(const SumArgs& a) {
    return tiles_in(a.basis, rows_in(a.basis, a.whole.n));
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<SumArgs>& item, std::size_t tile,
                                float*) const {
    const SumArgs& a = item.args;
    const DecodeArgs& whole = a.whole;
    with_dtype(whole.dtype, [&]<DType D>() {
      each_column(team, a.basis, rows_in(a.basis, whole.n), tile, [&](TileColumn column) {
        if (whole.accumulate)
          column.each([&](std::size_t i, F& v) { v = load<D>(whole.out, i); });
        for (unsigned f = 0; f < frames; ++f)
          add<D>(a, f, column);
        column.each([&](std::size_t i, F& v) { store<D>(whole.out, i, v); });
      });
    });
  }

private:
  // The bits are those of a sum that was stored to `out`, and read again.
  template <DType D>
  static THINWIRE_TEAM void add(const SumArgs& a, unsigned frame, TileColumn& column) {
    const bool added = a.whole.accumulate || frame != 0;
    const float* rest = a.rests + frame * rest_stride(a.whole.n);
    column.each([&](std::size_t i, F& v) {
      v = added ? canonical(v + F::splat(rest[i])) : F::splat(rest[i]);
    });
    expand<false>(a.basis, a.coefficients + frame * coefficients_in(a.basis, a.whole.n), column);
    column.each([&](std::size_t, F& v) { v = stored<D>(canonical(v)); });
  }
};

} // namespace thinwire::lane::basis
