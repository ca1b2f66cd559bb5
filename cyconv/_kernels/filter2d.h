/* Weighted sums of lines: out[i] = sum over t < TERMS of weight[t] * x[t][i].

   Every pass of an image filter is one of these: lines of a column of pixels, or one line at several offsets, or both.
   Whole vectors are read and written: COUNT numbers, and what fills the last vector. Lines need no alignment. The last
   block of vectors overlaps the one before, so `out` must lie apart from the lines. */

#ifndef CYCONV_FILTER2D_H
#define CYCONV_FILTER2D_H

#include "simd.h"

#define SUM_VECTORS 8 /* independent sums that hide the latency of a multiply-add, with one broadcast in 16 registers */

#define DEFINE_WEIGHTED_SUM(T)                                                                                     \
  INLINE void weighted_body_##T(const int V, ptrdiff_t TERMS, const T *const *x, const T *weight, ptrdiff_t i,     \
                                T *out) {                                                                          \
    const ptrdiff_t L = LANES(T);                                                                                  \
    vector_##T sum[SUM_VECTORS];                                                                                   \
    UNROLL for (int v = 0; v < V; v++) sum[v] = (vector_##T){0};                                                   \
    for (ptrdiff_t t = 0; t < TERMS; t++) {                                                                        \
      const T *line = x[t] + i;                                                                                    \
      const T factor = weight[t];                                                                                  \
      UNROLL for (int v = 0; v < V; v++) sum[v] += factor * AT(T, line + v * L);                                   \
    }                                                                                                              \
    UNROLL for (int v = 0; v < V; v++) *(vector_##T *)(out + i + v * L) = sum[v];                                  \
  }                                                                                                                \
  static __attribute__((noinline)) void cyconv_weighted_sum_##T(ptrdiff_t TERMS, const T *const *x,                \
                                                                const T *weight, ptrdiff_t COUNT, T *out) {        \
    const ptrdiff_t L = LANES(T), BLOCK = SUM_VECTORS * L, whole = (COUNT + L - 1) / L * L;                        \
    if (whole < BLOCK)                                                                                             \
      for (ptrdiff_t i = 0; i < whole; i += L) weighted_body_##T(1, TERMS, x, weight, i, out);                     \
    else                                                                                                           \
      for (ptrdiff_t i = 0; i < whole; i += BLOCK)                                                                 \
        weighted_body_##T(SUM_VECTORS, TERMS, x, weight, i + BLOCK > whole ? whole - BLOCK : i, out);              \
  }

DEFINE_WEIGHTED_SUM(float)
DEFINE_WEIGHTED_SUM(double)

#endif
