/* Register tiles of convolution in small groups and of depthwise: a vector holds the channels of one or several groups.

   A tile's pixels are given by address, a table for each line of the image, so that those outside lie in zeros and no
   border is special. Each is loaded once for all taps that read it. Each lane must find the inputs of its own group:
   in depthwise convolution they are in the image's vector as it is. Otherwise either the tile picks them from there, or
   lines are spread first, to a plane of vectors for each of the IC inputs of a group.

   spread:   target[ic*plane + j*L + l] = source[j*step + index[ic*L + l]], L lanes; the index is at most sources*L
   copy:     the same for several vectors, from `origin`, but lanes stay as they are
   convolve: out[i*out_step + l] = bias[l] + sum over r < rows, ic < IC, k < KW of
             pixel(r, ic, i*S + k)[l] * w[filter[r] + (k*IC + ic)*L + l]
             and then as `finish` and `addend` say (simd.h)
   multiply: sums[((r*KW + k)*IC + ic)*L + l] += sum over i < pixels of pixel(r, ic, i*S + k)[l] * g[i*out_step + l];
             rows without a line are left out

   where pixel(r, ic, j)[l] is line[r][j][shift + ic*plane + l] or, with an index, line[r][j][shift + index[ic*L + l]],
   all for several vectors, whose outputs begin at `place`. A single tap (KW = 1) has any `step` for S. A line of
   `pixels` i is done tile by tile: for `multiply` they are a multiple of the tile's, for `convolve` at least one tile,
   and the last may do some again, which must not be where an array is added; nor must the channels before `done`. Of a
   vector, `convolve` stores `channels` lanes. What lies `ahead` of the outputs will be needed soon, and so will the S
   lines of the image from `next` on, if any. */

#ifndef CYCONV_GROUPED_H
#define CYCONV_GROUPED_H

#include "simd.h"

/* Keeps a value in its register: gcc would load it again for each use. */
#if defined(__AVX512F__)
  #define HOLD_VECTOR(v) __asm__("" : "+v"(v))
#elif defined(__x86_64__)
  #define HOLD_VECTOR(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
  #define HOLD_VECTOR(v) __asm__("" : "+w"(v))
#else
  #define HOLD_VECTOR(v) ((void)0)
#endif
#define UNROLL_TAPS _Pragma("GCC unroll 40")
#define GROUPED_BLOCK 24 /* products that an accumulator adds up before a sum in memory takes it in, in whole lines */

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

#ifdef __clang__ /* shuffles by constants alone, so that a tile had better not pick */
  #define PICK(T, a, b, index)                                                                                     \
    ({                                                                                                             \
      vector_##T result;                                                                                           \
      UNROLL for (int l = 0; l < LANES(T); l++)                                                                    \
        result[l] = index[l] < LANES(T) ? (a)[index[l]] : (b)[index[l] - LANES(T)];                                \
      result;                                                                                                      \
    })
  #define PICK_ONE(T, a, index) PICK(T, a, a, index)
  #define PICKS(KW, S) 0
#else
  #define PICK(T, a, b, index) __builtin_shuffle(a, b, index)
  #define PICK_ONE(T, a, index) __builtin_shuffle(a, index)
  #define PICKS(KW, S) ((KW) <= 3 || ((KW) == 5 && (S) == 1)) /* others are too rare for code of their own */
#endif
#define SPREAD(T, S, N)                                                                                            \
  if (sources == S && some == N)                                                                                   \
    j = spread_body_##T(S, N, count, source, step, end, index + ic * LANES(T), target + ic * plane, plane);

/* What is to be done, but for the numbers themselves. */
struct cyconv_walk {
  ptrdiff_t rows, step, spacing, IC, vectors, plane, pixels, channels, w_step, out_step, ahead;
  ptrdiff_t next_line, next_step, addend, done;
  const ptrdiff_t *filter, *shift, *origin, *place;
  int finish;
};

/* Pixel j of a tile, from the table or, between KW/2 pixels on either side, from its constant distance to the last. */
#define LOAD_PIXEL(T, pixel, inner, j, at)                                                                         \
  ({                                                                                                               \
    const int edge = (j) < KW / 2 || (j) >= (P - 1) * S + KW - KW / 2;                                             \
    vector_##T loaded = *(const vector_##T *)(edge ? (pixel)[j] + (at) : inner);                                   \
    if (!edge) {                                                                                                   \
      inner += spacing;                                                                                            \
      HOLD_ADDRESS(inner);                                                                                         \
    }                                                                                                              \
    loaded;                                                                                                        \
  })
#define FOR_TILE(BODY, PASS, ...)                                                                                  \
  if (tile == TILE_ROWS) BODY(TILE_ROWS, __VA_ARGS__, PASS);                                                       \
  else if (tile == TILE_ROWS / 2) BODY(TILE_ROWS / 2, __VA_ARGS__, PASS);                                          \
  else if (tile == TILE_ROWS / 4) BODY(TILE_ROWS / 4, __VA_ARGS__, PASS);                                          \
  else BODY(1, __VA_ARGS__, PASS);
#define CONVOLVE_ARGUMENTS(T, I)                                                                                   \
  const struct cyconv_walk *walk, const T ***line, const I *index, const T *w, const T *bias, T *out, const T *next
#define CONVOLVE_PASS walk, line, index, w, bias, out, next
#define MULTIPLY_ARGUMENTS(T, I)                                                                                   \
  const struct cyconv_walk *walk, const T ***line, const I *index, const T *g, T *sums, const T *next
#define MULTIPLY_PASS walk, line, index, g, sums, next
/* A function for each kind: in a larger one gcc would keep the sums in memory. */
#define CONVOLVE_KIND(T, I, KW, S)                                                                                 \
  static __attribute__((noinline)) void convolve_##T##_##KW##_##S(ptrdiff_t tile, CONVOLVE_ARGUMENTS(T, I)) {      \
    if (PICKS(KW, S) && index) { FOR_TILE(convolve_body_##T, CONVOLVE_PASS, 1, KW, S) }                       \
    else { FOR_TILE(convolve_body_##T, CONVOLVE_PASS, 0, KW, S) }                                                  \
  }
#define MULTIPLY_KIND(T, I, R, KW, S)                                                                              \
  static __attribute__((noinline)) void multiply_##T##_##R##_##KW##_##S(ptrdiff_t tile, MULTIPLY_ARGUMENTS(T, I)) { \
    if (PICKS(KW, S) && index) { FOR_TILE(multiply_body_##T, MULTIPLY_PASS, 1, R, KW, S) }                    \
    else { FOR_TILE(multiply_body_##T, MULTIPLY_PASS, 0, R, KW, S) }                                               \
  }
#define CONVOLVE_CASE(T, I, KW, S) case KW + 8 * S: convolve_##T##_##KW##_##S(tile, CONVOLVE_PASS); break;
#define MULTIPLY_CASE(T, I, KW, S) case KW + 8 * S: multiply_##T##_1_##KW##_##S(tile, MULTIPLY_PASS); break;
#define MULTIPLY_ROW(T, I, KW, S) MULTIPLY_KIND(T, I, 1, KW, S)

#define DEFINE_GROUPED(T, I)                                                                                       \
  static void cyconv_copy_##T(ptrdiff_t vectors, ptrdiff_t count, const T *source, ptrdiff_t step,                 \
                              const ptrdiff_t *origin, T *target, const ptrdiff_t *shift) {                        \
    for (ptrdiff_t v = 0; v < vectors; v++)                                                                        \
      for (ptrdiff_t j = 0; j < count; j++)                                                                        \
        *(vector_##T *)(target + shift[v] + j * LANES(T)) = *(const vector_##T *)(source + origin[v] + j * step);  \
  }                                                                                                                \
                                                                                                                   \
  INLINE void spread_each_##T(ptrdiff_t IC, ptrdiff_t count, const T *source, ptrdiff_t step, const I *index,      \
                              T *target, ptrdiff_t plane) {                                                        \
    for (ptrdiff_t j = 0; j < count; j++, source += step, target += LANES(T))                                      \
      for (ptrdiff_t ic = 0; ic < IC; ic++)                                                                        \
        for (int l = 0; l < LANES(T); l++) target[ic * plane + l] = source[index[ic * LANES(T) + l]];              \
  }                                                                                                                \
  /* `count` pixels, or as many as lie before the end as whole vectors; IC may be a constant, that the indices stay in \
     registers. Returns how many. */                                                                               \
  INLINE ptrdiff_t spread_body_##T(const int sources, const ptrdiff_t IC, ptrdiff_t count, const T *source,        \
                                   ptrdiff_t step, const T *end, const I *indices, T *target, ptrdiff_t plane) {   \
    index_##T index[8];                                                                                            \
    UNROLL for (ptrdiff_t ic = 0; ic < IC; ic++) memcpy(&index[ic], indices + ic * LANES(T), sizeof(index[ic]));   \
    ptrdiff_t j = 0;                                                                                               \
    for (; j < count && end - source >= sources * LANES(T); j++, source += step, target += LANES(T)) {             \
      const vector_##T a = *(const vector_##T *)source;                                                            \
      UNROLL for (ptrdiff_t ic = 0; ic < IC; ic++) {                                                               \
        if (sources == 1) *(vector_##T *)(target + ic * plane) = PICK_ONE(T, a, index[ic]);                        \
        else                                                                                                       \
          *(vector_##T *)(target + ic * plane) = PICK(T, a, *(const vector_##T *)(source + LANES(T)), index[ic]);  \
      }                                                                                                            \
    }                                                                                                              \
    return j;                                                                                                      \
  }                                                                                                                \
  static void cyconv_spread_##T(ptrdiff_t sources, ptrdiff_t IC, ptrdiff_t count, const T *source, ptrdiff_t step, \
                                const T *end, const I *index, T *target, ptrdiff_t plane) {                        \
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
  INLINE void convolve_body_##T(const int P, const int picks, const int KW, const int S, CONVOLVE_ARGUMENTS(T, I)) { \
    const int sets = 2 * P <= TILE_ROWS && KW > 1 ? 2 : 1; /* of accumulators, whose chains hide the latency */    \
    const ptrdiff_t IC = walk->IC, plane = walk->plane, step = KW == 1 ? walk->step : S;                           \
    const ptrdiff_t spacing = KW == 1 ? step * walk->spacing : walk->spacing;                                      \
    const ptrdiff_t pixels = walk->pixels, out_step = walk->out_step, next_step = walk->next_step;                 \
    for (ptrdiff_t first = 0; first < pixels; first += P) {                                                        \
      if (first > pixels - P) first = pixels - P;                                                                  \
      for (ptrdiff_t v = 0; v < walk->vectors; v++) {                                                              \
        vector_##T total[TILE_ROWS];                                                                               \
        UNROLL for (int i = 0; i < sets * P; i++)                                                                  \
          total[i] = i < P ? *(const vector_##T *)(bias + walk->place[v]) : (vector_##T){0};                       \
        const T *soon = next + walk->origin[v] + first * step * next_step;                                         \
        T sums[TILE_ROWS * VECTOR_BYTES / sizeof(T)], *carried = NULL;                                             \
        ptrdiff_t terms = 0;                                                                                       \
        for (ptrdiff_t r = 0; r < walk->rows; r++, terms += IC * KW) {                                             \
          if (picks && terms >= GROUPED_BLOCK) { /* depthwise sums are short, and code costs registers */          \
            UNROLL for (int i = 0; i < P; i++) {                                                                   \
              if (sets == 2) total[i] += total[P + i];                                                             \
              if (carried) total[i] += AT(T, carried + i * LANES(T));                                              \
            }                                                                                                      \
            carried = sums;                                                                                        \
            HOLD_ADDRESS(carried);                                                                                 \
            UNROLL for (int i = 0; i < P; i++) *(vector_##T *)(carried + i * LANES(T)) = total[i];                 \
            UNROLL for (int i = 0; i < sets * P; i++) total[i] = (vector_##T){0};                                  \
            terms = 0;                                                                                             \
          }                                                                                                        \
          const T *const *pixel = line[r] + first * step, *weights = w + v * walk->w_step + walk->filter[r];       \
          const I *lanes = index + v * IC * LANES(T);                                                              \
          ptrdiff_t at = walk->shift[v];                                                                           \
          if (next && (KW > 1 || r == 0)) {                                                                        \
            UNROLL for (int i = 0; i < (P * S + KW - 1) / KW; i++) {                                               \
              __builtin_prefetch(soon, 0, 2);                                                                      \
              if (S == 2) __builtin_prefetch(soon + walk->next_line, 0, 2);                                        \
              soon += KW == 1 ? step * next_step : next_step;                                                      \
              HOLD_ADDRESS(soon);                                                                                  \
            }                                                                                                      \
          }                                                                                                        \
          for (ptrdiff_t ic = 0; ic < IC; ic++, weights += LANES(T)) {                                             \
            vector_##T taps[7];                                                                                    \
            UNROLL for (int k = 0; k < KW; k++) taps[k] = *(const vector_##T *)(weights + k * IC * LANES(T));      \
            index_##T choice;                                                                                      \
            if (picks) memcpy(&choice, lanes, sizeof(choice));                                                     \
            const T *inner = pixel[KW / 2] + at;                                                                   \
            UNROLL_TAPS for (int j = 0; j < (P - 1) * S + KW; j++) {                                               \
              vector_##T value = LOAD_PIXEL(T, pixel, inner, j, at);                                               \
              if (picks) value = PICK_ONE(T, value, choice);                                                       \
              if (KW > 1) HOLD_VECTOR(value);                                                                      \
              UNROLL for (int k = 0; k < KW; k++)                                                                  \
                if (j >= k && (j - k) % S == 0 && (j - k) / S < P)                                                 \
                  total[k % sets * P + (j - k) / S] += value * taps[k];                                            \
            }                                                                                                      \
            if (picks) lanes += LANES(T);                                                                          \
            else at += plane;                                                                                      \
          }                                                                                                        \
        }                                                                                                          \
        if (sets == 2) UNROLL for (int i = 0; i < P; i++) total[i] += total[P + i];                                \
        if (picks && carried) UNROLL for (int i = 0; i < P; i++) total[i] += AT(T, carried + i * LANES(T));        \
        T *target = out + walk->place[v] + first * out_step;                                                       \
        if (walk->finish == RELU) UNROLL for (int i = 0; i < P; i++) total[i] = relu_##T(total[i]);                \
        if (walk->channels < LANES(T) || walk->finish & ADD_ARRAY) {                                               \
          T buffer[TILE_ROWS * VECTOR_BYTES / sizeof(T)];                                                          \
          UNROLL for (int i = 0; i < P; i++) *(vector_##T *)(buffer + i * LANES(T)) = total[i];                    \
          const ptrdiff_t skip = walk->done + v * LANES(T) - walk->place[v]; /* channels of the vector before */   \
          store_line_##T(P, buffer, skip, walk->channels, walk->addend, walk->finish, target, out_step);           \
        } else {                                                                                                   \
          const ptrdiff_t ahead = walk->ahead;                                                                     \
          UNROLL for (int i = 0; i < P; i++) {                                                                     \
            *(vector_##T *)target = total[i];                                                                      \
            if (ahead) __builtin_prefetch(target + ahead, 1, 2);                                                   \
            target += out_step;                                                                                    \
            HOLD_ADDRESS(target);                                                                                  \
          }                                                                                                        \
        }                                                                                                          \
      }                                                                                                            \
    }                                                                                                              \
  }                                                                                                                \
                                                                                                                   \
  INLINE void multiply_body_##T(const int P, const int picks, const int R, const int KW, const int S,              \
                                MULTIPLY_ARGUMENTS(T, I)) {                                                        \
    const int sets = R * KW >= 9 ? 1 : R * KW >= 4 ? 2 : 4; /* of accumulators: nine chains hide the latency */    \
    const ptrdiff_t IC = walk->IC, step = KW == 1 ? walk->step : S, pixels = walk->pixels;                         \
    const ptrdiff_t spacing = KW == 1 ? step * walk->spacing : walk->spacing;                                      \
    const ptrdiff_t g_step = walk->out_step, ahead = walk->ahead, next_step = walk->next_step;                     \
    for (ptrdiff_t v = 0; v < walk->vectors; v++, sums += walk->w_step)                                            \
      for (ptrdiff_t ic = 0; ic < IC; ic++) {                                                                      \
        index_##T choice;                                                                                          \
        if (picks) memcpy(&choice, index + (v * IC + ic) * LANES(T), sizeof(choice));                              \
        vector_##T total[2 * 7];                                                                                   \
        UNROLL_TAPS for (int t = 0; t < sets * R * KW; t++) total[t] = (vector_##T){0};                            \
        const ptrdiff_t at = walk->shift[v] + (picks ? 0 : ic * walk->plane);                                      \
        const T *source = g + walk->place[v], *soon = next + walk->origin[v];                                      \
        for (ptrdiff_t first = 0; first < pixels; first += P) {                                                    \
          vector_##T gradient[TILE_ROWS];                                                                          \
          UNROLL for (int i = 0; i < P; i++) {                                                                     \
            gradient[i] = *(const vector_##T *)source;                                                             \
            if (next && ic == 0) __builtin_prefetch(source + ahead, 0, 2);                                         \
            source += g_step;                                                                                      \
            HOLD_ADDRESS(source);                                                                                  \
          }                                                                                                        \
          if (next && ic == 0) {                                                                                   \
            UNROLL for (int i = 0; i < P * S; i++) {                                                               \
              __builtin_prefetch(soon, 0, 2);                                                                      \
              if (S == 2) __builtin_prefetch(soon + walk->next_line, 0, 2);                                        \
              soon += KW == 1 ? step * next_step : next_step;                                                      \
              HOLD_ADDRESS(soon);                                                                                  \
            }                                                                                                      \
          }                                                                                                        \
          const T *inner[3];                                                                                       \
          UNROLL_TAPS for (int j = 0; j < (P - 1) * S + KW; j++)                                                   \
            UNROLL for (int r = 0; r < R; r++) {                                                                   \
              const T *const *pixel = line[r] + first * step;                                                      \
              if (j == 0) inner[r] = pixel[KW / 2] + at;                                                           \
              vector_##T value = LOAD_PIXEL(T, pixel, inner[r], j, at);                                            \
              if (picks) value = PICK_ONE(T, value, choice);                                                       \
              if (KW > 1) HOLD_VECTOR(value);                                                                      \
              UNROLL for (int k = 0; k < KW; k++)                                                                  \
                if (j >= k && (j - k) % S == 0 && (j - k) / S < P)                                                 \
                  total[(j - k) / S % sets * R * KW + r * KW + k] += value * gradient[(j - k) / S];                \
            }                                                                                                      \
        }                                                                                                          \
        UNROLL for (int t = 0; t < R * KW; t++) {                                                                  \
          UNROLL for (int i = 1; i < sets; i++) total[t] += total[i * R * KW + t];                                 \
          *(vector_##T *)(sums + (t * IC + ic) * LANES(T)) += total[t];                                            \
        }                                                                                                          \
      }                                                                                                            \
  }                                                                                                                \
                                                                                                                   \
  FOR_EACH_KIND(CONVOLVE_KIND, T, I)                                                                               \
  FOR_EACH_KIND(MULTIPLY_ROW, T, I)                                                                                \
  MULTIPLY_KIND(T, I, 3, 3, 1)                                                                                     \
  MULTIPLY_KIND(T, I, 3, 3, 2)                                                                                     \
  /* `kind` is KW + 8*S, of the list above. */                                                                \
  static void cyconv_convolve_##T(ptrdiff_t kind, ptrdiff_t tile, CONVOLVE_ARGUMENTS(T, I)) {                      \
    switch (kind) { FOR_EACH_KIND(CONVOLVE_CASE, T, I) }                                                           \
  }                                                                                                                \
  static void cyconv_multiply_##T(ptrdiff_t kind, ptrdiff_t tile, MULTIPLY_ARGUMENTS(T, I)) {                      \
    const ptrdiff_t run_sums = kind % 8 * walk->IC * LANES(T);                                                     \
    for (ptrdiff_t rows = walk->rows; rows > 0; rows--, line++, sums += run_sums) {                                \
      if (!*line) continue;                                                                                        \
      if (rows >= 3 && line[1] && line[2] && (kind == 3 + 8 || kind == 3 + 16)) {                                  \
        if (kind == 3 + 8) multiply_##T##_3_3_1(tile, MULTIPLY_PASS);                                              \
        else multiply_##T##_3_3_2(tile, MULTIPLY_PASS);                                                            \
        rows -= 2, line += 2, sums += 2 * run_sums;                                                                \
      } else                                                                                                       \
        switch (kind) { FOR_EACH_KIND(MULTIPLY_CASE, T, I) }                                                       \
      next = NULL;                                                                                                 \
    }                                                                                                              \
  }

static int cyconv_tile_picks(ptrdiff_t kind) { return PICKS(kind % 8, kind / 8); }
DEFINE_GROUPED(float, int)
DEFINE_GROUPED(double, long long)

#endif
