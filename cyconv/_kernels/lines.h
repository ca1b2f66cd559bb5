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
#define FOR_EACH_KIND(F, T, I) F(T, I, 1, 1) F(T, I, 2, 1) F(T, I, 3, 1) F(T, I, 4, 1) F(T, I, 5, 1) F(T, I, 7, 1) \
  F(T, I, 3, 2) F(T, I, 5, 2) F(T, I, 7, 2)

#define DEFINE_STORE_LINE(T)                                                                                       \
  /* Stores the lanes from `skip` to `channels` of a line of vectors, each a pixel's. */                           \
  static __attribute__((noinline)) void store_line_##T(ptrdiff_t pixels, const T *line, ptrdiff_t skip,            \
                                                       ptrdiff_t channels, ptrdiff_t addend, int finish, T *out,   \
                                                       ptrdiff_t out_step) {                                       \
    for (ptrdiff_t i = 0; i < pixels; i++, line += LANES(T), out += out_step) {                                    \
      if (skip || channels < LANES(T)) {                                                                           \
        store_edge_##T(line + skip, channels - skip, out + skip, addend, finish);                                  \
        continue;                                                                                                  \
      }                                                                                                            \
      vector_##T sum = *(const vector_##T *)line;                                                                  \
      if (finish & ADD_ARRAY) sum += *(const vector_##T *)beside_##T(out, addend);                                 \
      *(vector_##T *)out = finish & RELU ? relu_##T(sum) : sum;                                                    \
    }                                                                                                              \
  }

DEFINE_STORE_LINE(float)
DEFINE_STORE_LINE(double)

#endif
