// The shared basis (docs/basis.md). Every sum has a written order: sum16 along columns, from the
// first to the last along rows and along vectors. Products are added without being rounded first.

template <std::size_t kValue> struct Count {
  static constexpr std::size_t value = kValue;
};

template <DType D = DType::fp32> F load_upto(const void* p, std::size_t count) {
  return count >= kLanes ? load<D>(p) : load_some<D>(p, count);
}
template <DType D = DType::fp32> void store_upto(void* p, F v, std::size_t count) {
  if (count >= kLanes)
    store<D>(p, v);
  else
    store_some<D>(p, v, count);
}

// Calls f with a Count, the number of vectors to take together, and the first of them.
template <class Function> void by_vectors(std::size_t rank, Function f) {
  std::size_t k = 0;
  for (; k + 8 <= rank; k += 8)
    f(Count<8>{}, k);
  for (; k + 4 <= rank; k += 4)
    f(Count<4>{}, k);
  for (; k < rank; ++k)
    f(Count<1>{}, k);
}

// out[k * stride] = tree_sum(sums[k]), for kCount of them.
template <std::size_t kCount> void store_sums(const F* sums, float* out, std::size_t stride) {
  float totals[kCount];
  if constexpr (kCount == 8) {
    tree_sums(sums, totals);
  } else {
    for (std::size_t k = 0; k < kCount; ++k)
      totals[k] = tree_sum(sums[k]);
  }
  for (std::size_t k = 0; k < kCount; ++k)
    out[k * stride] = totals[k];
}

// products[k * kGroupRows + i] = row i * vector k, for kCount vectors.
template <std::size_t kCount>
void project_rows(const float* matrix, std::size_t rows, const float* vectors, std::size_t columns,
                  float* products) {
  const std::size_t whole = columns / kLanes * kLanes;
  for (std::size_t i = 0; i < rows; ++i, matrix += columns) {
    F sum[kCount];
    for (std::size_t k = 0; k < kCount; ++k)
      sum[k] = F::splat(0.0f);
    for (std::size_t j = 0; j < whole; j += kLanes) {
      const F v = load<DType::fp32>(matrix + j);
      for (std::size_t k = 0; k < kCount; ++k)
        sum[k] = multiply_add(v, load<DType::fp32>(vectors + k * columns + j), sum[k]);
    }
    if (whole < columns) {
      const std::size_t left = columns - whole;
      const F v = load_some<DType::fp32>(matrix + whole, left);
      for (std::size_t k = 0; k < kCount; ++k)
        sum[k] =
            multiply_add(v, load_some<DType::fp32>(vectors + k * columns + whole, left), sum[k]);
    }
    store_sums<kCount>(sum, products + i, kGroupRows);
  }
}

void project(const Basis& basis, const float* matrix, std::size_t rows, float* coefficients) {
  by_vectors(basis.rank, [&](auto count, std::size_t k) THINWIRE_LAMBDA {
    float* products = coefficients + k * kGroupRows;
    project_rows<count.value>(matrix, rows, basis.vectors + k * basis.columns, basis.columns,
                              products);
    for (std::size_t v = 0; v < count.value; ++v)
      for (std::size_t i = rows; i < kGroupRows; ++i)
        products[v * kGroupRows + i] = 0;
  });
}

// row i += coefficient[k * kGroupRows + i] * vector k, for kCount vectors one after another.
template <std::size_t kCount, bool kSubtract>
void expand_rows(const float* vectors, std::size_t columns, const float* coefficients,
                 std::size_t rows, float* matrix) {
  const std::size_t whole = columns / kLanes * kLanes;
  for (std::size_t i = 0; i < rows; ++i, matrix += columns) {
    F factor[kCount];
    for (std::size_t k = 0; k < kCount; ++k) {
      const float c = coefficients[k * kGroupRows + i];
      factor[k] = F::splat(kSubtract ? -c : c);
    }
    for (std::size_t j = 0; j < whole; j += kLanes) {
      F sum = load<DType::fp32>(matrix + j);
      for (std::size_t k = 0; k < kCount; ++k)
        sum = multiply_add(factor[k], load<DType::fp32>(vectors + k * columns + j), sum);
      store<DType::fp32>(matrix + j, kSubtract ? sum : canonical(sum));
    }
    if (whole < columns) {
      const std::size_t left = columns - whole;
      F sum = load_some<DType::fp32>(matrix + whole, left);
      for (std::size_t k = 0; k < kCount; ++k)
        sum = multiply_add(factor[k], load_some<DType::fp32>(vectors + k * columns + whole, left),
                           sum);
      store_some<DType::fp32>(matrix + whole, kSubtract ? sum : canonical(sum), left);
    }
  }
}

template <bool kSubtract>
void expand(const Basis& basis, const float* coefficients, std::size_t rows, float* matrix) {
  by_vectors(basis.rank, [&](auto count, std::size_t k) THINWIRE_LAMBDA {
    expand_rows<count.value, kSubtract>(basis.vectors + k * basis.columns, basis.columns,
                                        coefficients + k * kGroupRows, rows, matrix);
  });
}

// moments[k] += products[k * kGroupRows + i] * row i, for kCount vectors.
template <std::size_t kCount>
void add_moments(const float* matrix, std::size_t rows, std::size_t columns, const float* products,
                 float* moments) {
  for (std::size_t j = 0; j < columns; j += kLanes) {
    const std::size_t left = columns - j;
    F sum[kCount];
    for (std::size_t k = 0; k < kCount; ++k)
      sum[k] = load_upto(moments + k * columns + j, left);
    for (std::size_t i = 0; i < rows; ++i) {
      const F v = load_upto(matrix + i * columns + j, left);
      for (std::size_t k = 0; k < kCount; ++k)
        sum[k] = multiply_add(F::splat(products[k * kGroupRows + i]), v, sum[k]);
    }
    for (std::size_t k = 0; k < kCount; ++k)
      store_upto(moments + k * columns + j, sum[k], left);
  }
}

void combine(std::size_t rank, std::size_t columns, const float* coefficients, const float* matrix,
             std::size_t rows, float* sums) {
  by_vectors(rank, [&](auto count, std::size_t k) THINWIRE_LAMBDA {
    add_moments<count.value>(matrix, rows, columns, coefficients + k * kGroupRows,
                             sums + k * columns);
  });
}

void learn(const Basis& basis, const float* matrix, std::size_t rows, float* moments) {
  const std::size_t columns = basis.columns;
  float products[8 * kGroupRows];
  for (std::size_t first = 0; first < rows; first += kGroupRows) {
    const std::size_t some = smaller(kGroupRows, rows - first);
    const float* part = matrix + first * columns;
    by_vectors(basis.rank, [&](auto count, std::size_t k) THINWIRE_LAMBDA {
      project_rows<count.value>(part, some, basis.vectors + k * columns, columns, products);
      add_moments<count.value>(part, some, columns, products, moments + k * columns);
    });
  }
}

// t = v + before; after = bf16(t * rest); v = t - after. What is not finite is not kept.
void keep_for_later(float* v, const std::uint16_t* before, std::uint16_t* after, float rest,
                    std::size_t count) {
  for (std::size_t j = 0; j < count; j += kLanes) {
    const F t = load_upto(v + j, count - j) + load_upto<DType::bf16>(before + j, count - j);
    store_upto<DType::bf16>(after + j, zero_where_nonfinite(t * F::splat(rest), t), count - j);
    store_upto(v + j, t - load_upto<DType::bf16>(after + j, count - j), count - j);
  }
}

void spread(const Basis& basis, float* matrix, std::size_t rows, float share,
            const std::uint16_t* before, std::uint16_t* after) {
  float coefficients[kGreatestRank * kGroupRows];
  project(basis, matrix, rows, coefficients);
  expand<true>(basis, coefficients, rows, matrix);
  keep_for_later(matrix, before, after, 1 - share, rows * basis.columns);
  expand<false>(basis, coefficients, rows, matrix);
}

// sum16 of the products.
float dot(const float* a, const float* b, std::size_t count) {
  F sum = F::splat(0.0f);
  for (std::size_t j = 0; j < count; j += kLanes)
    sum = multiply_add(load_upto(a + j, count - j), load_upto(b + j, count - j), sum);
  return tree_sum(sum);
}

// v = v * scale
void scale_by(float* v, float scale, std::size_t count) {
  for (std::size_t j = 0; j < count; j += kLanes)
    store_upto(v + j, load_upto(v + j, count - j) * F::splat(scale), count - j);
}

// v = v + w * factor
void add_multiple(float* v, const float* w, float factor, std::size_t count) {
  for (std::size_t j = 0; j < count; j += kLanes)
    store_upto(
        v + j,
        multiply_add(load_upto(w + j, count - j), F::splat(factor), load_upto(v + j, count - j)),
        count - j);
}

// Gram-Schmidt of vector k, after those before it. Returns false where it vanishes.
bool orthonormalise_one(float* vectors, std::size_t columns, std::size_t k) {
  float* v = vectors + k * columns;
  for (std::size_t l = 0; l < k; ++l) {
    const float* w = vectors + l * columns;
    add_multiple(v, w, -dot(v, w, columns), columns);
  }
  const float square = dot(v, v, columns);
  if (!(square >= kVanished))
    return false;
  scale_by(v, 1 / __builtin_sqrtf(square), columns);
  return true;
}

// Returns false where one vanishes.
bool orthonormalise(float* vectors, std::size_t columns, std::size_t rank) {
  for (std::size_t k = 0; k < rank; ++k)
    if (!orthonormalise_one(vectors, columns, k))
      return false;
  return true;
}

// Magnitude bits of the greatest.
std::uint32_t greatest_of(const float* v, std::size_t count) {
  I most = I::splat(0);
  for (std::size_t j = 0; j < count; j += kLanes)
    most = max_int(most, bits(load_upto(v + j, count - j)) & I::splat(kMagnitudeMask));
  return greatest(most);
}

// v = v * 3/4 + (moments / their length) / 4
void turn_vector(float* v, const float* moments, float about_one, std::size_t count) {
  F squares = F::splat(0.0f);
  for (std::size_t j = 0; j < count; j += kLanes) {
    const F m = load_upto(moments + j, count - j) * F::splat(about_one);
    squares = multiply_add(m, m, squares);
  }
  const F weight = F::splat((1 - kKeptOfVector) / __builtin_sqrtf(tree_sum(squares)));
  for (std::size_t j = 0; j < count; j += kLanes) {
    const F m = load_upto(moments + j, count - j) * F::splat(about_one);
    store_upto(v + j, load_upto(v + j, count - j) * F::splat(kKeptOfVector) + m * weight,
               count - j);
  }
}

// Whether anything was turned.
bool turn_vectors(const Basis& basis, const float* moments, float* next) {
  bool turned = false;
  for (std::size_t k = 0; k < basis.rank; ++k) {
    const float* found = moments + k * basis.columns;
    const std::uint32_t most = greatest_of(found, basis.columns);
    if (most >= kInfinityBits)
      return false;
    if (most >> 23 == 0) // nothing, or next to it
      continue;
    turn_vector(next + k * basis.columns, found, to_about_one(most), basis.columns);
    turned = true;
  }
  return turned && orthonormalise(next, basis.columns, basis.rank);
}

void turn(const Basis& basis, const float* moments, float* next) {
  const std::size_t bytes = basis.rank * basis.columns * sizeof(float);
  __builtin_memcpy(next, basis.vectors, bytes);
  if (!turn_vectors(basis, moments, next))
    __builtin_memcpy(next, basis.vectors, bytes);
}

// v = numbers between -0.5 and 0.5, those of the key from `first` on.
void fill_random(float* v, std::size_t first, std::size_t count, std::uint64_t key) {
  for (std::size_t i = 0; i < count; i += kLanes) {
    const I index = I::lanes() + I::splat(static_cast<std::uint32_t>(first + i));
    store_upto(v + i, uniform<F>(index, key) - F::splat(0.5f), count - i);
  }
}

void begin(std::size_t columns, std::size_t rank, std::uint64_t key, float* vectors) {
  const std::size_t count = rank * columns;
  fill_random(vectors, 0, count, key);
  if (orthonormalise(vectors, columns, rank))
    return;
  for (std::size_t i = 0; i < count; ++i) // the first unit vectors
    vectors[i] = i % (columns + 1) == 0 ? 1.0f : 0.0f;
}

// v = found, brought to a length of one
void copy_unit(float* v, const float* found, std::uint32_t most, std::size_t count) {
  __builtin_memcpy(v, found, count * sizeof(float));
  scale_by(v, to_about_one(most), count);
  scale_by(v, 1 / __builtin_sqrtf(dot(v, v, count)), count);
}

bool orthonormal(std::size_t columns, std::size_t rank, const float* found, float* next) {
  const std::uint32_t greatest = greatest_of(found, rank * columns);
  if (greatest >= kInfinityBits || greatest >> 23 == 0)
    return false;
  for (std::size_t k = 0; k < rank; ++k) {
    float* v = next + k * columns;
    const std::uint32_t most = greatest_of(found + k * columns, columns);
    const bool is_there = most >> 23 != 0;
    if (is_there)
      copy_unit(v, found + k * columns, most, columns);
    if (is_there && orthonormalise_one(next, columns, k))
      continue;
    fill_random(v, k * columns, columns, 0);
    if (!orthonormalise_one(next, columns, k))
      __builtin_memset(v, 0, columns * sizeof(float));
  }
  return true;
}
