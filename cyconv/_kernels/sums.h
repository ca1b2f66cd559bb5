/* Sums and maxima of rows of K numbers in vectors, in an order that K alone decides: in T for SHORT numbers at a time,
   then in double. A last vector that is not whole is read so that it ends with the row. */

#ifndef CYCONV_SUMS_H
#define CYCONV_SUMS_H

#include <math.h>

#include "simd.h"

#define SHORT 4096 /* numbers */
#define CHAINS 4   /* of additions, which hide their latency */

/* From entry r on, the last r lanes are kept. */
static const int keep_float[2 * VECTOR_BYTES / sizeof(float)] = {
  [VECTOR_BYTES / sizeof(float) ... 2 * VECTOR_BYTES / sizeof(float) - 1] = -1};
static const long long keep_double[2 * VECTOR_BYTES / sizeof(double)] = {
  [VECTOR_BYTES / sizeof(double) ... 2 * VECTOR_BYTES / sizeof(double) - 1] = -1};

#define DEFINE_SUMS(T)                                                                                             \
  /* What the lanes have together: halves are added to halves. */                                                  \
  INLINE T across_##T(vector_##T sum) {                                                                            \
    T half[VECTOR_BYTES / sizeof(T)];                                                                              \
    memcpy(half, &sum, sizeof(sum));                                                                               \
    UNROLL for (ptrdiff_t n = LANES(T) / 2; n > 0; n /= 2)                                                         \
      for (ptrdiff_t l = 0; l < n; l++) half[l] += half[l + n];                                                    \
    return half[0];                                                                                                \
  }                                                                                                                \
  INLINE T largest_across_##T(vector_##T most) {                                                                   \
    T half[VECTOR_BYTES / sizeof(T)];                                                                              \
    memcpy(half, &most, sizeof(most));                                                                             \
    UNROLL for (ptrdiff_t n = LANES(T) / 2; n > 0; n /= 2)                                                         \
      for (ptrdiff_t l = 0; l < n; l++) half[l] = half[l + n] > half[l] ? half[l + n] : half[l];                   \
    return half[0];                                                                                                \
  }                                                                                                                \
  INLINE vector_##T larger_##T(vector_##T a, vector_##T b) { /* a where it is, b where not and for NaN in a */     \
    const index_##T choice = (index_##T)(a > b);                                                                   \
    return (vector_##T)((choice & (index_##T)a) | (~choice & (index_##T)b));                                       \
  }                                                                                                                \
  /* The last vector of a row of K numbers, which it has, with zeros for those that other vectors have too. */     \
  INLINE vector_##T last_of_##T(vector_##T end, ptrdiff_t K) {                                                     \
    vector_##T kept;                                                                                               \
    memcpy(&kept, keep_##T + K % LANES(T), sizeof(kept));                                                          \
    return (vector_##T)((index_##T)end & (index_##T)kept);                                                         \
  }                                                                                                                \
  INLINE vector_##T product_at_##T(const T *a, const T *b, ptrdiff_t j) {                                          \
    vector_##T value = *(const vector_##T *)(a + j);                                                               \
    if (b) value *= *(const vector_##T *)(b + j);                                                                  \
    return value;                                                                                                  \
  }                                                                                                                \
  /* The sum of a * b, or of a alone. */                                                                           \
  INLINE double cyconv_sum_##T(const T *a, const T *b, ptrdiff_t K) {                                              \
    double total = 0;                                                                                              \
    if (K < LANES(T)) {                                                                                            \
      for (ptrdiff_t j = 0; j < K; j++) total += b ? a[j] * b[j] : a[j];                                           \
      return total;                                                                                                \
    }                                                                                                              \
    for (ptrdiff_t start = 0; start < K; start += SHORT) {                                                         \
      const ptrdiff_t stop = K - start < SHORT ? K : start + SHORT;                                                \
      vector_##T sum[CHAINS] = {{0}};                                                                              \
      ptrdiff_t j = start;                                                                                         \
      for (; j + CHAINS * LANES(T) <= stop; j += CHAINS * LANES(T))                                                \
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] += product_at_##T(a, b, j + i * LANES(T));                  \
      for (; j + LANES(T) <= stop; j += LANES(T)) sum[0] += product_at_##T(a, b, j);                               \
      if (j < stop) sum[1] += last_of_##T(product_at_##T(a, b, K - LANES(T)), K);                                  \
      total += across_##T((sum[0] + sum[1]) + (sum[2] + sum[3]));                                                  \
    }                                                                                                              \
    return total;                                                                                                  \
  }                                                                                                                \
  /* The largest number; NaN is passed over. */                                                                    \
  INLINE T cyconv_largest_##T(const T *a, ptrdiff_t K) {                                                           \
    if (K < LANES(T)) {                                                                                            \
      T most = -(T)INFINITY;                                                                                       \
      for (ptrdiff_t j = 0; j < K; j++) most = a[j] > most ? a[j] : most;                                          \
      return most;                                                                                                 \
    }                                                                                                              \
    vector_##T most[2] = {(vector_##T){0} - (T)INFINITY, (vector_##T){0} - (T)INFINITY};                           \
    ptrdiff_t j = 0;                                                                                               \
    for (; j + 2 * LANES(T) <= K; j += 2 * LANES(T))                                                               \
      UNROLL for (int i = 0; i < 2; i++)                                                                           \
        most[i] = larger_##T(*(const vector_##T *)(a + j + i * LANES(T)), most[i]);                                \
    if (j + LANES(T) <= K) most[0] = larger_##T(*(const vector_##T *)(a + j), most[0]);                            \
    most[1] = larger_##T(*(const vector_##T *)(a + K - LANES(T)), most[1]);                                        \
    return largest_across_##T(larger_##T(most[0], most[1]));                                                       \
  }                                                                                                                \
  static void cyconv_softmax_backward_##T(const T *restrict grad, const T *restrict y, ptrdiff_t rows, ptrdiff_t K,\
                                          T *restrict grad_x) {                                                    \
    for (; rows > 0; rows--, grad += K, y += K, grad_x += K) {                                                     \
      const T inner = (T)cyconv_sum_##T(grad, y, K);                                                               \
      for (ptrdiff_t j = 0; j < K; j++) grad_x[j] = (grad[j] - inner) * y[j];                                      \
    }                                                                                                              \
  }

DEFINE_SUMS(float)
DEFINE_SUMS(double)

#endif
