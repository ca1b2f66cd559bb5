/* Dot products of pixels with a few filters, vectors along channels:

   out[m*out_step + i] = sum over c < C of x[i*C + c] * w[m*C + c] for a vector's number of pixels i

   C is a multiple of that number. The sums' lanes are added up last, for all pixels at once. */

#ifndef CYCONV_DOTS_H
#define CYCONV_DOTS_H

#include "simd.h"

#define DEFINE_DOTS(T)                                                                                             \
  INLINE void dots_body_##T(const int M, ptrdiff_t C, const T *x, const T *w, T *out, ptrdiff_t out_step) {        \
    T sums[4][VECTOR_BYTES / sizeof(T) * VECTOR_BYTES / sizeof(T)], turned[VECTOR_BYTES / sizeof(T) * VECTOR_BYTES / sizeof(T)]; \
    for (ptrdiff_t i = 0; i < LANES(T); i++, x += C) {                                                             \
      for (ptrdiff_t first = 0; first < C; first += SUM_BLOCK * LANES(T)) {                                        \
        const ptrdiff_t stop = C - first < SUM_BLOCK * LANES(T) ? C : first + SUM_BLOCK * LANES(T);                \
        vector_##T total[4];                                                                                       \
        UNROLL for (int m = 0; m < M; m++) total[m] = (vector_##T){0};                                             \
        for (ptrdiff_t c = first; c < stop; c += LANES(T)) {                                                       \
          const vector_##T pixel = AT(T, x + c);                                                                   \
          UNROLL for (int m = 0; m < M; m++) total[m] += pixel * AT(T, w + m * C + c);                             \
        }                                                                                                          \
        UNROLL for (int m = 0; m < M; m++) {                                                                       \
          vector_##T *sum = (vector_##T *)(sums[m] + i * LANES(T));                                                \
          if (first) total[m] += *sum;                                                                             \
          *sum = total[m];                                                                                         \
        }                                                                                                          \
      }                                                                                                            \
    }                                                                                                              \
    UNROLL for (int m = 0; m < M; m++) {                                                                           \
      cyconv_transpose_##T(sums[m], LANES(T), turned, LANES(T));                                                   \
      vector_##T sum = *(const vector_##T *)turned;                                                                \
      for (ptrdiff_t i = 1; i < LANES(T); i++) sum += *(const vector_##T *)(turned + i * LANES(T));                \
      *(vector_##T *)(out + m * out_step) = sum;                                                                   \
    }                                                                                                              \
  }                                                                                                                \
  static void cyconv_dots_##T(ptrdiff_t M, ptrdiff_t C, const T *x, const T *w, T *out, ptrdiff_t out_step) {      \
    for (; M >= 4; M -= 4, w += 4 * C, out += 4 * out_step) dots_body_##T(4, C, x, w, out, out_step);              \
    if (M >= 2) {                                                                                                  \
      dots_body_##T(2, C, x, w, out, out_step);                                                                    \
      M -= 2, w += 2 * C, out += 2 * out_step;                                                                     \
    }                                                                                                              \
    if (M) dots_body_##T(1, C, x, w, out, out_step);                                                               \
  }

DEFINE_DOTS(float)
DEFINE_DOTS(double)

#endif
