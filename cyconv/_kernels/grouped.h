/* Register tiles of convolution in small groups: a vector holds the output channels of several groups.

   A line of the image is spread first: for each of the IC inputs of a group, a plane of pixels whose lanes each hold
   that input of their own group. Nothing is broadcast then, and each spread pixel serves all taps that read it:

   spread:   target[ic*plane + j*L + l] = source[j*step + index[ic*L + l]], L lanes; the index is at most sources*L
   convolve: out[i*out_step + l] = bias[l] + sum over r < rows, ic < IC, k < KW of
             x[r][ic*plane + (i*S + k)*L + l] * w[r][(k*IC + ic)*L + l]
             and then as `finish` and `addend` say (simd.h)
   multiply: sums[((r*KW + k)*IC + ic)*L + l] += sum over i < P of x[r][ic*plane + (i*S + k)*L + l] * g[i*g_step + l]

   for a tile of P pixels i; a single tap (KW = 1) has any `step` for S. Of the tile, `convolve` stores the first
   `pixels` and of these the first `channels`. What lies `ahead` will be needed soon; 0 is nothing. */

#ifndef CYCONV_GROUPED_H
#define CYCONV_GROUPED_H

#include "lines.h"

#ifdef __clang__ /* shuffles by constants alone */
  #define PICK(T, a, b, index)                                                                                     \
    ({                                                                                                             \
      vector_##T result;                                                                                           \
      UNROLL for (int l = 0; l < LANES(T); l++)                                                                    \
        result[l] = index[l] < LANES(T) ? (a)[index[l]] : (b)[index[l] - LANES(T)];                                \
      result;                                                                                                      \
    })
  #define PICK_ONE(T, a, index) PICK(T, a, a, index)
#else
  #define PICK(T, a, b, index) __builtin_shuffle(a, b, index)
  #define PICK_ONE(T, a, index) __builtin_shuffle(a, index)
#endif
#define SPREAD(T, S, N)                                                                                            \
  if (sources == S && some == N)                                                                                   \
    j = spread_body_##T(S, N, count, source, step, end, index + ic * LANES(T), target + ic * plane, plane,         \
                          ic ? 0 : ahead);

#define CONVOLVE_ARGUMENTS(T)                                                                                      \
  ptrdiff_t step, ptrdiff_t rows, ptrdiff_t IC, const T *const *x, ptrdiff_t plane, const T *const *w,             \
      const T *bias, ptrdiff_t addend, int finish, T *out, ptrdiff_t out_step, ptrdiff_t pixels,                   \
      ptrdiff_t channels, ptrdiff_t ahead
#define CONVOLVE_PASS step, rows, IC, x, plane, w, bias, addend, finish, out, out_step, pixels, channels, ahead
#define MULTIPLY_ARGUMENTS(T)                                                                                      \
  ptrdiff_t step, ptrdiff_t IC, const T *const *x, ptrdiff_t plane, const T *g, ptrdiff_t g_step, T *sums
#define MULTIPLY_PASS step, IC, x, plane, g, g_step, sums
#define FOR_TILE(BODY, PASS, ...)                                                                                  \
  if (tile == TILE_ROWS) BODY(TILE_ROWS, __VA_ARGS__, PASS);                                                       \
  else if (tile == TILE_ROWS / 2) BODY(TILE_ROWS / 2, __VA_ARGS__, PASS);                                          \
  else if (tile == TILE_ROWS / 4) BODY(TILE_ROWS / 4, __VA_ARGS__, PASS);                                          \
  else BODY(1, __VA_ARGS__, PASS);
#define CONVOLVE_CASE(T, KW, S) case KW + 8 * S: { FOR_TILE(convolve_body_##T, CONVOLVE_PASS, KW, S) break; }
#define MULTIPLY(T, R, KW, S) { FOR_TILE(multiply_body_##T, MULTIPLY_PASS, R, KW, S) }
#define MULTIPLY_CASE(T, KW, S) case KW + 8 * S: MULTIPLY(T, 1, KW, S) break;

#define DEFINE_GROUPED(T, I)                                                                                       \
  INLINE void spread_each_##T(ptrdiff_t IC, ptrdiff_t count, const T *source, ptrdiff_t step, const I *index,      \
                              T *target, ptrdiff_t plane) {                                                        \
    for (ptrdiff_t j = 0; j < count; j++, source += step, target += LANES(T))                                      \
      for (ptrdiff_t ic = 0; ic < IC; ic++)                                                                        \
        for (int l = 0; l < LANES(T); l++) target[ic * plane + l] = source[index[ic * LANES(T) + l]];              \
  }                                                                                                                \
  /* `count` pixels, or as many as lie before the end as whole vectors; IC may be a constant, that the indices stay in \
     registers. Returns how many. */                                                                               \
  INLINE ptrdiff_t spread_body_##T(const int sources, const ptrdiff_t IC, ptrdiff_t count, const T *source,        \
                                   ptrdiff_t step, const T *end, const I *indices, T *target, ptrdiff_t plane,     \
                                   ptrdiff_t ahead) {                                                              \
    index_##T index[8];                                                                                            \
    UNROLL for (ptrdiff_t ic = 0; ic < IC; ic++) memcpy(&index[ic], indices + ic * LANES(T), sizeof(index[ic]));   \
    ptrdiff_t j = 0;                                                                                               \
    for (; j < count && end - source >= sources * LANES(T); j++, source += step, target += LANES(T)) {             \
      const vector_##T a = *(const vector_##T *)source;                                                            \
      if (ahead) __builtin_prefetch(source + ahead, 0, 3);                                                         \
      UNROLL for (ptrdiff_t ic = 0; ic < IC; ic++) {                                                               \
        if (sources == 1) *(vector_##T *)(target + ic * plane) = PICK_ONE(T, a, index[ic]);                        \
        else                                                                                                       \
          *(vector_##T *)(target + ic * plane) = PICK(T, a, *(const vector_##T *)(source + LANES(T)), index[ic]);  \
      }                                                                                                            \
    }                                                                                                              \
    return j;                                                                                                      \
  }                                                                                                                \
  static void cyconv_spread_##T(ptrdiff_t sources, ptrdiff_t IC, ptrdiff_t count, const T *source, ptrdiff_t step, \
                                const T *end, const void *indices, T *target, ptrdiff_t plane, ptrdiff_t ahead) {  \
    const I *index = indices;                                                                                      \
    for (ptrdiff_t ic = 0; ic < IC && sources < 3;) {                                                              \
      const ptrdiff_t some = IC - ic >= 8 ? 8 : IC - ic >= 4 ? 4 : IC - ic >= 2 ? 2 : 1;                           \
      ptrdiff_t j = 0;                                                                                             \
      SPREAD(T, 1, 1) SPREAD(T, 1, 2) SPREAD(T, 1, 4) SPREAD(T, 1, 8)                                              \
      SPREAD(T, 2, 1) SPREAD(T, 2, 2) SPREAD(T, 2, 4) SPREAD(T, 2, 8)                                              \
      spread_each_##T(some, count - j, source + j * step, step, index + ic * LANES(T),                             \
                      target + ic * plane + j * LANES(T), plane);                                                  \
      ic += some;                                                                                                  \
    }                                                                                                              \
    if (sources == 3) spread_each_##T(IC, count, source, step, index, target, plane);                              \
  }                                                                                                                \
                                                                                                                   \
  INLINE void convolve_body_##T(const int P, const int KW, const int S, CONVOLVE_ARGUMENTS(T)) {                   \
    const int sets = P < 8 && KW > 1 ? 2 : 1; /* of accumulators: eight chains hide the latency */                 \
    vector_##T total[TILE_ROWS];                                                                                   \
    UNROLL for (int i = 0; i < sets * P; i++) total[i] = i < P ? *(const vector_##T *)bias : (vector_##T){0};      \
    for (ptrdiff_t r = 0; r < rows; r++) {                                                                         \
      const T *line = x[r], *filter = w[r];                                                                        \
      for (ptrdiff_t ic = 0; ic < IC; ic++, line += plane, filter += LANES(T)) {                                   \
        vector_##T taps[7];                                                                                        \
        UNROLL for (int k = 0; k < KW; k++) taps[k] = *(const vector_##T *)(filter + k * IC * LANES(T));           \
        UNROLL_TAPS for (int j = 0; j < (P - 1) * S + KW; j++) {                                                   \
          vector_##T pixel = *(const vector_##T *)(line + j * (KW == 1 ? step : 1) * LANES(T));                    \
          if (KW > 1) HOLD_VECTOR(pixel);                                                                          \
          UNROLL for (int k = 0; k < KW; k++)                                                                      \
            if (j >= k && (j - k) % S == 0 && (j - k) / S < P) total[k % sets * P + (j - k) / S] += pixel * taps[k]; \
        }                                                                                                          \
      }                                                                                                            \
    }                                                                                                              \
    if (sets == 2) UNROLL for (int i = 0; i < P; i++) total[i] += total[P + i];                                    \
    if (pixels == P && channels == LANES(T)) {                                                                     \
      if (ahead)                                                                                                   \
        UNROLL for (int i = 0; i < P; i++) __builtin_prefetch(out + ahead + i * out_step, 1, 2);                   \
      finish_##T(P, total, 0, addend, finish, out, out_step);                                                      \
      return;                                                                                                      \
    }                                                                                                              \
    T edge[TILE_ROWS][VECTOR_BYTES / sizeof(T)];                                                                   \
    UNROLL for (int i = 0; i < P; i++) *(vector_##T *)edge[i] = total[i];                                          \
    for (ptrdiff_t i = 0; i < pixels; i++)                                                                         \
      store_edge_##T(edge[i], channels, out + i * out_step, addend, finish);                                       \
  }                                                                                                                \
                                                                                                                   \
  INLINE void multiply_body_##T(const int P, const int R, const int KW, const int S, MULTIPLY_ARGUMENTS(T)) {      \
    const int sets = R * KW >= 9 ? 1 : R * KW >= 4 ? 2 : 4; /* of accumulators: nine chains hide the latency */    \
    vector_##T gradient[TILE_ROWS];                                                                                \
    UNROLL for (int i = 0; i < P; i++) gradient[i] = *(const vector_##T *)(g + i * g_step);                        \
    for (ptrdiff_t ic = 0; ic < IC; ic++) {                                                                        \
      vector_##T total[4 * 9];                                                                                     \
      UNROLL_TAPS for (int t = 0; t < sets * R * KW; t++) total[t] = (vector_##T){0};                              \
      UNROLL_TAPS for (int j = 0; j < (P - 1) * S + KW; j++)                                                       \
        UNROLL for (int r = 0; r < R; r++) {                                                                       \
          vector_##T pixel = *(const vector_##T *)(x[r] + ic * plane + j * (KW == 1 ? step : 1) * LANES(T));       \
          if (KW > 1) HOLD_VECTOR(pixel);                                                                          \
          UNROLL for (int k = 0; k < KW; k++)                                                                      \
            if (j >= k && (j - k) % S == 0 && (j - k) / S < P)                                                     \
              total[(j - k) / S % sets * R * KW + r * KW + k] += pixel * gradient[(j - k) / S];                    \
        }                                                                                                          \
      UNROLL for (int t = 0; t < R * KW; t++) {                                                                    \
        UNROLL for (int i = 1; i < sets; i++) total[t] += total[i * R * KW + t];                                   \
        *(vector_##T *)(sums + (t * IC + ic) * LANES(T)) += total[t];                                              \
      }                                                                                                            \
    }                                                                                                              \
  }                                                                                                                \
                                                                                                                   \
  /* `kind` is KW + 8*S, of the list in lines.h. */                                                                \
  static void cyconv_convolve_##T(ptrdiff_t kind, ptrdiff_t tile, CONVOLVE_ARGUMENTS(T)) {                         \
    switch (kind) { FOR_EACH_KIND(CONVOLVE_CASE, T) }                                                              \
  }                                                                                                                \
  static void cyconv_multiply_##T(ptrdiff_t kind, ptrdiff_t tile, ptrdiff_t rows, MULTIPLY_ARGUMENTS(T)) {         \
    const ptrdiff_t run_sums = kind % 8 * IC * LANES(T);                                                           \
    if (kind == 3 + 8)                                                                                             \
      for (; rows >= 3; rows -= 3, x += 3, sums += 3 * run_sums) MULTIPLY(T, 3, 3, 1)                              \
    if (kind == 3 + 16)                                                                                            \
      for (; rows >= 3; rows -= 3, x += 3, sums += 3 * run_sums) MULTIPLY(T, 3, 3, 2)                              \
    for (; rows > 0; rows--, x++, sums += run_sums) switch (kind) { FOR_EACH_KIND(MULTIPLY_CASE, T) }              \
  }

DEFINE_GROUPED(float, int)
DEFINE_GROUPED(double, long long)

#endif
