// Kernels that learn a basis and hand matrices over in parts (lesson.hpp; see warp_kernel.hpp for
// what a kernel is), in the order in which they run: basis::Project, then these.
#pragma once

#include "dispatch/lesson.hpp"
#include "dispatch/warp_frame.hpp"

#include <span>

namespace thinwire::lane::basis {

struct LessonArgs {
  Lesson lesson;
  float* coefficients; // as in RowArgs; not rounded
  float* moments;
  std::uint32_t* seen; // a word for kWarp columns, 0 if all are zero; Turn makes it one for all
};

THINWIRE_HD std::size_t seen_words(const Basis& basis) { return ceil_div(basis.columns, kWarp); }

struct Factors {
  F a, b;
};

// use(i, read(i)) for i = first, first + stride, ... below n, in this order, several reads before
// the first is used: what has to be added one after another shall not wait for memory each time.
template <class Read, class Use>
THINWIRE_TEAM void read_ahead(std::size_t first, std::size_t stride, std::size_t n, Read read,
                              Use use) {
  constexpr unsigned kAhead = 16;
  std::size_t i = first;
  for (; i + (kAhead - 1) * stride < n; i += kAhead * stride) {
    decltype(read(i)) values[kAhead];
    THINWIRE_UNROLL
    for (unsigned s = 0; s < kAhead; ++s)
      values[s] = read(i + s * stride);
    THINWIRE_UNROLL
    for (unsigned s = 0; s < kAhead; ++s)
      use(i + s * stride, values[s]);
  }
  for (; i < n; i += stride)
    use(i, read(i));
}

// M[k][j]: one unit is 32 columns of one vector, neighbouring units have the same columns.
struct AddMoments : NoScratch {
  static THINWIRE_HD std::size_t units(const LessonArgs& a) {
    return seen_words(a.lesson.basis) * a.lesson.basis.rank;
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<LessonArgs>& item, std::size_t unit,
                                float*) const {
    const LessonArgs& a = item.args;
    const std::size_t columns = a.lesson.basis.columns, rank = a.lesson.basis.rank, k = unit % rank;
    with_dtype(a.lesson.dtype, [&]<DType D>() {
      const auto seen = team.lanes([&](unsigned lane) -> std::uint32_t {
        const std::size_t j = unit / rank * kWarp + lane;
        if (j >= columns)
          return 0;
        const Moment found = moment<D>(a, k, j);
        a.moments[k * columns + j] = found.sum.v;
        return found.seen;
      });
      if (k != 0) // the other vectors have seen the same
        return;
      const std::uint32_t most = greatest(team, seen);
      once(team, [&] { a.seen[unit / rank] = most; });
    });
  }

private:
  struct Moment {
    F sum;
    std::uint32_t seen; // the bits of the column's values
  };

  template <DType D>
  static THINWIRE_TEAM Moment moment(const LessonArgs& a, std::size_t k, std::size_t j) {
    const Basis& basis = a.lesson.basis;
    const float* products = a.coefficients + k * kGroupRows;
    Moment found = {F::splat(0.0f), 0};
    read_ahead(
        0, 1, a.lesson.rows,
        [&](std::size_t i) {
          return Factors{F::splat(products[coefficient_at(basis, i)]),
                         load<D>(a.lesson.matrix, i * basis.columns + j)};
        },
        [&](std::size_t, Factors f) {
          found.sum = multiply_add(f.a, f.b, found.sum);
          found.seen |= magnitude(f.b);
        });
    return found;
  }
};

// dot16 of conventions.md over a(i) and b(i) for i below n. Both halves of the warp compute it.
template <class Team, class A, class B>
THINWIRE_TEAM float dot16(const Team& team, std::size_t n, A a, B b) {
  const auto sums = team.lanes([&](unsigned lane) {
    F sum = F::splat(0.0f);
    const auto add = [&](std::size_t, Factors f) { sum = multiply_add(f.a, f.b, sum); };
    read_ahead(
        lane % kSumLanes, kSumLanes, n, [&](std::size_t i) { return Factors{a(i), b(i)}; }, add);
    if (is_filled(n, lane))
      add(n, Factors{});
    return sum.v;
  });
  return team.agreed(tree_sums(team, sums));
}

// v[i] = f(i) for i below n; f may read v[i].
template <class Team, class Fn>
THINWIRE_TEAM void assign(const Team& team, float* v, std::size_t n, Fn f) {
  team.lanes([&](unsigned lane) {
    read_ahead(lane, kWarp, n, f, [=](std::size_t i, F found) { v[i] = found.v; });
  });
}

// The greatest magnitude, as bits.
template <class Team>
THINWIRE_TEAM std::uint32_t greatest_of(const Team& team, const float* v, std::size_t n) {
  return greatest(team, n, [=](std::size_t i) { return magnitude(F::splat(v[i])); });
}

// Gram-Schmidt of vector k, after those before it. Returns false where it vanishes.
template <class Team>
THINWIRE_TEAM bool orthonormalise_one(const Team& team, float* vectors, std::size_t columns,
                                      std::size_t k) {
  float* v = vectors + k * columns;
  const auto of_v = [=](std::size_t j) { return F::splat(v[j]); };
  for (std::size_t l = 0; l < k; ++l) {
    const float* w = vectors + l * columns;
    const auto of_w = [=](std::size_t j) { return F::splat(w[j]); };
    const F factor = F::splat(-dot16(team, columns, of_v, of_w));
    assign(team, v, columns, [=](std::size_t j) { return multiply_add(of_w(j), factor, of_v(j)); });
  }
  const float square = dot16(team, columns, of_v, of_v);
  if (!(square >= kVanished))
    return false;
  const F scale = F::splat(1 / square_root(F::splat(square)).v);
  assign(team, v, columns, [=](std::size_t j) { return of_v(j) * scale; });
  return true;
}

// The vectors, turned towards the moments and made orthonormal again; and whether the matrix has
// anything. One unit is a matrix.
struct Turn : NoScratch {
  static THINWIRE_HD std::size_t units(const LessonArgs&) { return 1; }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<LessonArgs>& item, std::size_t,
                                float*) const {
    const LessonArgs& a = item.args;
    const Basis& basis = a.lesson.basis;
    if (!turn_vectors(team, basis, a.moments, a.lesson.next))
      assign(team, a.lesson.next, basis.rank * basis.columns,
             [&](std::size_t i) { return F::splat(basis.vectors[i]); });
    const std::uint32_t most =
        greatest(team, seen_words(basis), [&](std::size_t i) { return a.seen[i]; });
    once(team, [&] { a.seen[0] = most; });
  }

private:
  // Returns false where the vectors have to stay as they are; `next` then is junk.
  template <class Team>
  static THINWIRE_TEAM bool turn_vectors(const Team& team, const Basis& basis, const float* moments,
                                         float* next) {
    const std::size_t columns = basis.columns;
    bool turned = false;
    for (std::size_t k = 0; k < basis.rank; ++k) {
      const float* found = moments + k * columns;
      const std::uint32_t most = greatest_of(team, found, columns);
      if (most >= kInfinityBits)
        return false;
      const bool turns = most >> 23 != 0; // else nothing, or next to it
      turn_vector(team, basis.vectors + k * columns, found, columns, turns ? most : 0,
                  next + k * columns);
      turned = turned || turns;
    }
    return turned && orthonormalise(team, next, columns, basis.rank);
  }

  // next = v * 3/4 + (moments / their length) / 4; v where `most`, their greatest magnitude, is 0.
  template <class Team>
  static THINWIRE_TEAM void turn_vector(const Team& team, const float* v, const float* moments,
                                        std::size_t count, std::uint32_t most, float* next) {
    if (most == 0)
      return assign(team, next, count, [=](std::size_t j) { return F::splat(v[j]); });
    const F about_one = F::splat(to_about_one(most));
    const auto m = [=](std::size_t j) { return F::splat(moments[j]) * about_one; };
    const F weight =
        F::splat((1 - kKeptOfVector) / square_root(F::splat(dot16(team, count, m, m))).v);
    assign(team, next, count,
           [=](std::size_t j) { return F::splat(v[j]) * F::splat(kKeptOfVector) + m(j) * weight; });
  }

  // Returns false where one vanishes.
  template <class Team>
  static THINWIRE_TEAM bool orthonormalise(const Team& team, float* vectors, std::size_t columns,
                                           std::size_t rank) {
    for (std::size_t k = 0; k < rank; ++k)
      if (!orthonormalise_one(team, vectors, columns, k))
        return false;
    return true;
  }
};

// Leaves in the matrix what is handed over now. One unit is a tile.
struct Spread : NoScratch {
  static THINWIRE_HD std::size_t units(const LessonArgs& a) {
    return a.lesson.after == nullptr ? 0 : tiles_in(a.lesson.basis, a.lesson.rows);
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<LessonArgs>& item, std::size_t tile,
                                float*) const {
    const LessonArgs& a = item.args;
    const Lesson& lesson = a.lesson;
    if (a.seen[0] == 0)
      return each_column(team, lesson.basis, lesson.rows, tile, [&](TileColumn column) {
        column.each([&](std::size_t i, F&) { lesson.after[i] = lesson.before[i]; });
      });
    with_dtype(lesson.dtype, [&]<DType D>() {
      each_column(team, lesson.basis, lesson.rows, tile, [&](TileColumn column) {
        column.each([&](std::size_t i, F& v) { v = load<D>(lesson.matrix, i); });
        expand<true>(lesson.basis, a.coefficients, column);
        column.each([&](std::size_t i, F& v) { v = keep_for_later(lesson, i, v); });
        expand<false>(lesson.basis, a.coefficients, column);
        column.each([&](std::size_t i, F& v) { store<D>(lesson.matrix, i, canonical(v)); });
      });
    });
  }

private:
  // t = v + before; after = bf16(t * (1 - share)); returns t - after. What is not finite is not
  // kept.
  static THINWIRE_TEAM F keep_for_later(const Lesson& lesson, std::size_t i, F v) {
    const F t = v + load<DType::bf16>(lesson.before, i);
    const F later = is_finite(t) ? t * F::splat(1 - lesson.share) : F::splat(0.0f);
    store<DType::bf16>(lesson.after, i, later);
    return t - load<DType::bf16>(lesson.after, i);
  }
};

// Working memory of a lesson: its coefficients, its moments, what was seen.
inline std::size_t coefficient_work_bytes(const Lesson& lesson) {
  return coefficients_in(lesson.basis, lesson.rows * lesson.basis.columns) * sizeof(float);
}

inline std::size_t moment_work_bytes(const Lesson& lesson) {
  return align16(lesson.basis.rank * lesson.basis.columns * sizeof(float));
}

inline std::size_t work_bytes(const Lesson& lesson) {
  return coefficient_work_bytes(lesson) + moment_work_bytes(lesson) +
         align16(seen_words(lesson.basis) * sizeof(std::uint32_t));
}

inline std::size_t table_bytes(std::span<const Lesson> lessons) {
  return lane::table_bytes<RowArgs, LessonArgs>(lessons.size());
}

// Of all: a table of the lessons, then theirs one after another.
inline std::size_t work_bytes(std::span<const Lesson> lessons) {
  std::size_t bytes = table_bytes(lessons);
  for (const Lesson& lesson : lessons)
    bytes += work_bytes(lesson);
  return bytes;
}

// Learns from all matrices, then leaves in them what is handed over now. `work` has
// work_bytes(lessons), aligned to 16 bytes.
template <class Launcher>
void learn(Launcher& launcher, std::span<const Lesson> lessons, std::byte* work) {
  Runner runner(launcher, work);
  work += table_bytes(lessons);
  std::vector<Item<RowArgs>> rows;
  std::vector<Item<LessonArgs>> items;
  for (const Lesson& lesson : lessons) {
    auto* coefficients = reinterpret_cast<float*>(work);
    std::byte* after = work + coefficient_work_bytes(lesson);
    auto* moments = reinterpret_cast<float*>(after);
    auto* seen = reinterpret_cast<std::uint32_t*>(after + moment_work_bytes(lesson));
    const FoldArgs input = {.x = lesson.matrix,
                            .dtype = lesson.dtype,
                            .n = lesson.rows * lesson.basis.columns,
                            .scale = 1,
                            .residual = nullptr,
                            .residual_dtype = DType::fp32,
                            .out = nullptr};
    rows.push_back({{input, lesson.basis, coefficients, nullptr}, nullptr});
    items.push_back({{lesson, coefficients, moments, seen}, nullptr});
    work += work_bytes(lesson);
  }
  runner.run(Project{}, rows);
  runner.run(AddMoments{}, items);
  runner.run(Turn{}, items);
  runner.run(Spread{}, items);
}

} // namespace thinwire::lane::basis
