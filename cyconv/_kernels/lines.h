/* What register tiles over pixels of an output line have in common: their widths, the filters they are unrolled for,
   and how results are stored. */

#ifndef CYCONV_LINES_H
#define CYCONV_LINES_H

#include "simd.h"

/* Keeps a value in its register: gcc would load it again for each use, or keep the address of every line. */
#if defined(__AVX512F__)
  #define HOLD_VECTOR(v) __asm__("" : "+v"(v))
#elif defined(__x86_64__)
  #define HOLD_VECTOR(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
  #define HOLD_VECTOR(v) __asm__("" : "+w"(v))
#else
  #define HOLD_VECTOR(v) ((void)0)
#endif
#define HOLD_ADDRESS(p) __asm__("" : "+r"(p))
#define UNROLL_TAPS _Pragma("GCC unroll 40")

/* Pixels of a tile, widest first: the caller takes the widest that the line has room for. */
static const ptrdiff_t cyconv_tile_pixels[] = {TILE_ROWS, TILE_ROWS / 2, TILE_ROWS / 4, 1};

/* A filter's KW taps in a row that share pixels, and the step S between the pixels of the tile. */
#define FOR_EACH_KIND(F, T) F(T, 1, 1) F(T, 2, 1) F(T, 3, 1) F(T, 4, 1) F(T, 5, 1) F(T, 7, 1) \
  F(T, 3, 2) F(T, 5, 2) F(T, 7, 2)

#define DEFINE_FINISH(T)                                                                                           \
  /* Stores P pixels, but for the lanes before `skip`. */                                                          \
  INLINE void finish_##T(const int P, const vector_##T *total, ptrdiff_t skip, ptrdiff_t addend, int finish,       \
                         T *out, ptrdiff_t out_step) {                                                             \
    UNROLL for (int i = 0; i < P; i++, out += out_step) {                                                          \
      vector_##T sum = total[i];                                                                                   \
      if (finish & ADD_ARRAY) sum += *(const vector_##T *)beside_##T(out, addend);                                 \
      if (finish & RELU) sum = relu_##T(sum);                                                                      \
      if (skip)                                                                                                    \
        memcpy(out + skip, (const T *)&sum + skip, (LANES(T) - skip) * sizeof(T));                                 \
      else                                                                                                         \
        *(vector_##T *)out = sum;                                                                                  \
    }                                                                                                              \
  }

DEFINE_FINISH(float)
DEFINE_FINISH(double)

#endif
