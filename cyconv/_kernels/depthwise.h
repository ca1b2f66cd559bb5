/* Register tiles of depthwise convolution: vectors along channels, nothing is broadcast.

   A tile covers P pixels of an output line. Its input pixels are given by address, columns to a line, so that pixels
   outside the image may lie in a line of zeros and no border is special. Each pixel is loaded once for all the KW taps
   that read it:

   filter:   out[i*out_step + c] = bias[c] + sum over r < rows, k < KW of x[r*columns + i*S + k][c] * w[r][k*w_step + c]
             and then as `finish` and `addend` say (simd.h)
   products: sums[c][r*KW + k] += sum over i < P of x[r*columns + i*S + k][c] * g[i*g_step + c]

   with columns = (P - 1)*S + KW. Channels that do not fill the last vector are covered by one that ends with them. The
   filter asks for the cache lines `ahead` of those it writes, the next row's; 0 asks for none. The first `done`
   channels have their results already; where an array is added, they must not get it twice. */

#ifndef CYCONV_DEPTHWISE_H
#define CYCONV_DEPTHWISE_H

#include "lines.h"

#define FOR_VECTORS(T, c)                                                                                          \
  for (ptrdiff_t next = 0, c; next < channels && (c = next + LANES(T) > channels ? channels - LANES(T) : next, 1); \
       next += LANES(T))

#define DEFINE_DEPTHWISE(T)                                                                                        \
  INLINE void filter_body_##T(const int P, const int KW, const int S, ptrdiff_t rows, const T *const *x,           \
                              const T *const *w, ptrdiff_t w_step, ptrdiff_t channels, ptrdiff_t done,             \
                              const T *bias, ptrdiff_t addend, int finish, T *out, ptrdiff_t out_step,             \
                              ptrdiff_t ahead) {                                                                   \
    FOR_VECTORS(T, c) {                                                                                            \
      vector_##T total[TILE_ROWS];                                                                                 \
      UNROLL for (int i = 0; i < P; i++) total[i] = *(const vector_##T *)(bias + c);                               \
      const T *const *line = x;                                                                                    \
      for (ptrdiff_t r = 0; r < rows; r++, line += (P - 1) * S + KW) {                                             \
        vector_##T taps[7];                                                                                        \
        UNROLL for (int k = 0; k < KW; k++) taps[k] = *(const vector_##T *)(w[r] + k * w_step + c);                \
        UNROLL_TAPS for (int j = 0; j < (P - 1) * S + KW; j++) {                                                   \
          vector_##T pixel = *(const vector_##T *)(line[j] + c);                                                   \
          HOLD_VECTOR(pixel);                                                                                      \
          UNROLL for (int k = 0; k < KW; k++)                                                                      \
            if (j >= k && (j - k) % S == 0 && (j - k) / S < P) total[(j - k) / S] += pixel * taps[k];              \
        }                                                                                                          \
      }                                                                                                            \
      T *target = out + c;                                                                                         \
      if (finish) {                                                                                                \
        const ptrdiff_t skip = finish & ADD_ARRAY ? (next > done ? next : done) - c : 0;                           \
        finish_##T(P, total, skip, addend, finish, target, out_step);                                              \
        continue;                                                                                                  \
      }                                                                                                            \
      UNROLL for (int i = 0; i < P; i++) {                                                                         \
        *(vector_##T *)target = total[i];                                                                          \
        if (ahead) __builtin_prefetch(target + ahead, 1, 2);                                                       \
        target += out_step;                                                                                        \
        HOLD_ADDRESS(target);                                                                                      \
      }                                                                                                            \
    }                                                                                                              \
  }                                                                                                                \
                                                                                                                   \
  INLINE void products_body_##T(const int P, const int R, const int KW, const int S, const T *const *x,            \
                                ptrdiff_t channels, const T *g, ptrdiff_t g_step, T *sums, ptrdiff_t sums_step) {  \
    const int columns = (P - 1) * S + KW;                                                                          \
    const int sets = R * KW >= 9 ? 1 : R * KW >= 4 ? 2 : 4; /* of accumulators: nine chains hide the latency */    \
    FOR_VECTORS(T, c) {                                                                                            \
      vector_##T total[4 * 9], gradient[TILE_ROWS];                                                                \
      UNROLL_TAPS for (int t = 0; t < sets * R * KW; t++) total[t] = (vector_##T){0};                              \
      const T *source = g + c;                                                                                     \
      UNROLL for (int i = 0; i < P; i++) {                                                                         \
        gradient[i] = *(const vector_##T *)source;                                                                 \
        source += g_step;                                                                                          \
        HOLD_ADDRESS(source);                                                                                      \
      }                                                                                                            \
      UNROLL_TAPS for (int j = 0; j < columns; j++)                                                                \
        UNROLL for (int r = 0; r < R; r++) {                                                                       \
          vector_##T pixel = *(const vector_##T *)(x[r * columns + j] + c);                                        \
          HOLD_VECTOR(pixel);                                                                                      \
          UNROLL for (int k = 0; k < KW; k++)                                                                      \
            if (j >= k && (j - k) % S == 0 && (j - k) / S < P)                                                     \
              total[(j - k) / S % sets * R * KW + r * KW + k] += pixel * gradient[(j - k) / S];                    \
        }                                                                                                          \
      T *target = sums + next / LANES(T) * sums_step;                                                              \
      UNROLL for (int t = 0; t < R * KW; t++) {                                                                    \
        UNROLL for (int i = 1; i < sets; i++) total[t] += total[i * R * KW + t];                                   \
        *(vector_##T *)(target + t * LANES(T)) += total[t];                                                        \
      }                                                                                                            \
    }                                                                                                              \
  }                                                                                                                \
                                                                                                                   \
  /* `kind` is KW + 8*S, of the list below. */                                                                     \
  static void cyconv_filter_##T(ptrdiff_t kind, ptrdiff_t pixels, ptrdiff_t rows, const T *const *x,               \
                                const T *const *w, ptrdiff_t w_step, ptrdiff_t channels, ptrdiff_t done,           \
                                const T *bias, ptrdiff_t addend, int finish, T *out, ptrdiff_t out_step,           \
                                ptrdiff_t ahead) {                                                                 \
    switch (kind) { FOR_EACH_KIND(FILTER_CASE, T) }                                                                \
  }                                                                                                                \
  static void cyconv_products_##T(ptrdiff_t kind, ptrdiff_t pixels, ptrdiff_t rows, const T *const *x,             \
                                  ptrdiff_t channels, const T *g, ptrdiff_t g_step, T *sums,                       \
                                  ptrdiff_t sums_step) {                                                           \
    ptrdiff_t r = 0;                                                                                               \
    if (kind == 3 + 8)                                                                                             \
      for (; r + 3 <= rows; r += 3) PRODUCTS(T, 3, 3, 1)                                                           \
    if (kind == 3 + 16)                                                                                            \
      for (; r + 3 <= rows; r += 3) PRODUCTS(T, 3, 3, 2)                                                           \
    for (; r < rows; r++) switch (kind) { FOR_EACH_KIND(PRODUCTS_CASE, T) }                                        \
  }

#define FILTER_CASE(T, KW, S)                                                                                      \
  case KW + 8 * S: {                                                                                               \
    if (pixels == TILE_ROWS) filter_body_##T(TILE_ROWS, KW, S, FILTER_PASS);                                       \
    else if (pixels == TILE_ROWS / 2) filter_body_##T(TILE_ROWS / 2, KW, S, FILTER_PASS);                          \
    else if (pixels == TILE_ROWS / 4) filter_body_##T(TILE_ROWS / 4, KW, S, FILTER_PASS);                          \
    else filter_body_##T(1, KW, S, FILTER_PASS);                                                                   \
    break;                                                                                                         \
  }
#define FILTER_PASS rows, x, w, w_step, channels, done, bias, addend, finish, out, out_step, ahead
#define PRODUCTS(T, R, KW, S)                                                                                      \
  {                                                                                                                \
    if (pixels == TILE_ROWS) products_body_##T(TILE_ROWS, R, KW, S, PRODUCTS_PASS(T, KW, S));                      \
    else if (pixels == TILE_ROWS / 2) products_body_##T(TILE_ROWS / 2, R, KW, S, PRODUCTS_PASS(T, KW, S));         \
    else if (pixels == TILE_ROWS / 4) products_body_##T(TILE_ROWS / 4, R, KW, S, PRODUCTS_PASS(T, KW, S));         \
    else products_body_##T(1, R, KW, S, PRODUCTS_PASS(T, KW, S));                                                  \
  }
#define PRODUCTS_CASE(T, KW, S) case KW + 8 * S: PRODUCTS(T, 1, KW, S) break;
#define PRODUCTS_PASS(T, KW, S)                                                                                    \
  x + r * ((pixels - 1) * S + KW), channels, g, g_step, sums + r * KW * LANES(T), sums_step

DEFINE_DEPTHWISE(float)
DEFINE_DEPTHWISE(double)

#endif
