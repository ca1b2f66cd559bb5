/* A vector's worth of dot products with one vector: sums[n] = sum over k < K of a[k] * b[n * b_row + k].

   Vectors run along k, so the matrix is read once, in place; lines of it share what they load of `a`. What is left of K
   are the last lanes of a vector that ends there, the others set to zero. Each line adds up its lanes in the end; all
   have the same order of additions, wherever they stand. */

#ifndef CYCONV_GEMM_H
#define CYCONV_GEMM_H

#include "simd.h"

#define DOT_ROWS 8 /* accumulators that hide the latency of an addition */

#define DEFINE_DOT_LINES(T, I)                                                                                          \
  INLINE void some_dot_lines_##T(const int R, const T *a, const T *const *lines, ptrdiff_t K, vector_##T *sums) {  \
    const ptrdiff_t L = LANES(T), rest = K % L;                                                                    \
    UNROLL for (int r = 0; r < R; r++) sums[r] = (vector_##T){0};                                                  \
    for (ptrdiff_t k0 = 0; k0 + L <= K; k0 += SUM_BLOCK * L) {                                                     \
      const ptrdiff_t stop = K - k0 < SUM_BLOCK * L ? K : k0 + SUM_BLOCK * L;                                      \
      vector_##T c[DOT_ROWS];                                                                                      \
      UNROLL for (int r = 0; r < R; r++) c[r] = (vector_##T){0};                                                   \
      for (ptrdiff_t k = k0; k + L <= stop; k += L) {                                                              \
        const vector_##T x = AT(T, a + k);                                                                         \
        UNROLL for (int r = 0; r < R; r++) c[r] += x * AT(T, lines[r] + k);                                        \
      }                                                                                                            \
      UNROLL for (int r = 0; r < R; r++) sums[r] += c[r];                                                          \
    }                                                                                                              \
    if (rest && K >= L) {                                                                                          \
      index_##T kept;                                                                                              \
      for (int i = 0; i < (int)L; i++) ((I *)&kept)[i] = i < L - rest ? 0 : -1;                                    \
      const vector_##T x = (vector_##T)((index_##T)AT(T, a + K - L) & kept);                                       \
      UNROLL for (int r = 0; r < R; r++) sums[r] += x * (vector_##T)((index_##T)AT(T, lines[r] + K - L) & kept);   \
    }                                                                                                              \
  }                                                                                                                \
                                                                                                                   \
  static __attribute__((noinline)) void cyconv_dot_lines_##T(const T *a, ptrdiff_t K, const T *b, ptrdiff_t b_row,      \
                                                        ptrdiff_t rows, T *sums) {                                 \
    enum { L = VECTOR_BYTES / sizeof(T), R = L < DOT_ROWS ? L : DOT_ROWS };                                        \
    vector_##T lanes[L], turned[L];                                                                                \
    const T *lines[L];                                                                                             \
    for (ptrdiff_t n = 0; n < L; n++) lines[n] = b + (n < rows ? n : rows - 1) * b_row;                            \
    for (ptrdiff_t n = 0; n < L; n += R) some_dot_lines_##T(R, a, lines + n, K, lanes + n);                             \
    cyconv_transpose_##T((const T *)lanes, L, (T *)turned, L);                                                     \
    UNROLL for (int i = L / 2; i > 0; i /= 2)                                                                      \
      UNROLL for (int j = 0; j < i; j++) turned[j] += turned[j + i];                                               \
    if (K < L)                                                                                                     \
      for (ptrdiff_t n = 0; n < rows; n++)                                                                         \
        for (ptrdiff_t k = 0; k < K; k++) ((T *)turned)[n] += a[k] * lines[n][k];                                  \
    memcpy(sums, turned, rows * sizeof(T));                                                                        \
  }

DEFINE_DOT_LINES(float, int)
DEFINE_DOT_LINES(double, long long)

#endif
