/* Windows of images whose channels lie innermost: vectors run along the channels and stay in registers while all taps
   of a window pass. Each function does one window, or one input pixel, and its C channels.

   The last vector is moved back to end at the last channel, which costs less than a scalar tail. Fewer channels than a
   vector holds are done as one all the same, which goes on into the pixels that follow: what it writes to them is wrong
   until they are done. Where there is no room for that, the window is not `whole`, and only C numbers are touched.
   `part` says so in a block: 0 for a vector, HALF for one of which half is stored, else how many numbers.

   What later windows will read, and where they will write, is asked for AHEAD: channels make short streams of the pixels
   of a window, which processors do not foresee. From main memory this takes a third to a half off the time. */

#ifndef CYCONV_POOLING_H
#define CYCONV_POOLING_H

#include <stdint.h>
#include "simd.h"

#define AHEAD 2048 /* numbers */
#define HALF (-1)  /* what few channels store: the less of it lies across cache lines, the better */
#define BLOCK 4    /* vectors, where there are as many channels */

/* Bytes as whole numbers of a vector's width, and back. gcc converts vectors in one step only by a factor of two. */
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  #include <immintrin.h>
  #define WIDEN_float(b) ((index_float)_mm512_cvtepu8_epi32((__m128i)(b)))
  #define WIDEN_double(b) ((index_double)_mm512_cvtepu8_epi64(_mm_cvtsi64_si128((int64_t)(b))))
  #define NARROW_float(i) ((bytes_float)_mm512_cvtepi32_epi8((__m512i)(i)))
  #define NARROW_double(i) ((bytes_double)_mm_cvtsi128_si64(_mm512_cvtepi64_epi8((__m512i)(i))))
#else
  #define WIDEN_float(b) __builtin_convertvector(__builtin_convertvector(b, halves_float), index_float)
  #define WIDEN_double(b) \
    __builtin_convertvector(__builtin_convertvector(__builtin_convertvector(b, halves_double), words_double), index_double)
  #define NARROW_float(i) __builtin_convertvector(__builtin_convertvector(i, halves_float), bytes_float)
  #define NARROW_double(i) \
    __builtin_convertvector(__builtin_convertvector(__builtin_convertvector(i, words_double), halves_double), bytes_double)
#endif
#define WIDEN(T, b) WIDEN_##T(b)
#define NARROW(T, i) NARROW_##T(i)

#define DEFINE_POOLING(T, I)                                                                                           \
  typedef uint16_t halves_##T __attribute__((vector_size(VECTOR_BYTES / sizeof(T) * 2)));                              \
  typedef uint8_t bytes_##T __attribute__((vector_size(VECTOR_BYTES / sizeof(T)), aligned(1), may_alias));             \
  typedef int32_t words_##T __attribute__((vector_size(VECTOR_BYTES / sizeof(T) * 4), aligned(4), may_alias));         \
                                                                                                                       \
  INLINE ptrdiff_t next_##T(ptrdiff_t c, ptrdiff_t C) { /* where the vector after the one at c begins */               \
    return c + LANES(T) < C && c + 2 * LANES(T) > C ? C - LANES(T) : c + LANES(T);                                     \
  }                                                                                                                    \
  INLINE ptrdiff_t part_##T(ptrdiff_t C, int whole) { /* of the only block of C channels, fewer than a vector holds */ \
    return !whole ? C : 2 * C <= LANES(T) ? HALF : 0;                                                                  \
  }                                                                                                                    \
  INLINE vector_##T load_##T(const T *source, ptrdiff_t part) {                                                        \
    vector_##T line = {0};                                                                                             \
    if (part <= 0) return AT(T, source);                                                                               \
    memcpy(&line, source, part * sizeof(T));                                                                           \
    return line;                                                                                                       \
  }                                                                                                                    \
  INLINE void store_##T(T *target, vector_##T line, ptrdiff_t part) {                                                  \
    if (part)                                                                                                          \
      memcpy(target, &line, part > 0 ? part * sizeof(T) : VECTOR_BYTES / 2);                                           \
    else                                                                                                               \
      *(vector_##T *)target = line;                                                                                    \
  }                                                                                                                    \
  INLINE index_##T choose_##T(index_##T condition, index_##T a, index_##T b) { return b ^ ((a ^ b) & condition); }     \
  INLINE index_##T taps_##T(const uint8_t *bytes, const int32_t *words, ptrdiff_t part) {                              \
    bytes_##T few = {0};                                                                                               \
    words_##T many = {0};                                                                                              \
    if (bytes) return memcpy(&few, bytes, part > 0 ? part : LANES(T)), WIDEN(T, few);                                  \
    if (words) memcpy(&many, words, (part > 0 ? part : LANES(T)) * 4);                                                 \
    return __builtin_convertvector(many, index_##T);                                                                   \
  }                                                                                                                    \
  INLINE void store_taps_##T(index_##T taps, uint8_t *bytes, int32_t *words, ptrdiff_t part) {                         \
    if (bytes) {                                                                                                       \
      const bytes_##T few = NARROW(T, taps);                                                                           \
      memcpy(bytes, &few, part > 0 ? part : LANES(T));                                                                 \
    } else if (words) {                                                                                                \
      const words_##T many = __builtin_convertvector(taps, words_##T);                                                 \
      memcpy(words, &many, (part > 0 ? part : LANES(T)) * 4);                                                          \
    }                                                                                                                  \
  }                                                                                                                    \
                                                                                                                       \
  INLINE void max_block_##T(const int V, ptrdiff_t part, const T *image, ptrdiff_t step_h, ptrdiff_t step_w,           \
                            ptrdiff_t first_h, ptrdiff_t stop_h, ptrdiff_t first_w, ptrdiff_t stop_w, ptrdiff_t KW,    \
                            ptrdiff_t fresh, T *output, uint8_t *bytes, int32_t *words) {                              \
    vector_##T best[BLOCK];                                                                                            \
    index_##T winner[BLOCK];                                                                                           \
    UNROLL for (int v = 0; v < V; v++) {                                                                               \
      best[v] = (vector_##T){0} - (T)__builtin_inf();                                                                  \
      winner[v] = (index_##T){0} + (I)(first_h * KW + first_w);                                                        \
      if (!part) __builtin_prefetch(output + v * LANES(T) + AHEAD / 4, 1, 2);                                          \
    }                                                                                                                  \
    for (ptrdiff_t kh = first_h; kh < stop_h; kh++)                                                                    \
      for (ptrdiff_t kw = first_w; kw < stop_w; kw++) {                                                                \
        const T *pixel = image + kh * step_h + kw * step_w;                                                            \
        const index_##T tap = (index_##T){0} + (I)(kh * KW + kw);                                                      \
        UNROLL for (int v = 0; v < V; v++) {                                                                           \
          const vector_##T value = load_##T(pixel + v * LANES(T), part);                                               \
          const index_##T wins = (index_##T)(value > best[v]) | (index_##T)(value != value);                           \
          best[v] = (vector_##T)choose_##T(wins, (index_##T)value, (index_##T)best[v]);                                \
          winner[v] = choose_##T(wins, tap, winner[v]);                                                                \
          if (!part && kh >= fresh) __builtin_prefetch(pixel + v * LANES(T) + AHEAD, 0, 2);                            \
        }                                                                                                              \
      }                                                                                                                \
    UNROLL for (int v = 0; v < V; v++) {                                                                               \
      store_##T(output + v * LANES(T), best[v], part);                                                                 \
      store_taps_##T(winner[v], bytes ? bytes + v * LANES(T) : NULL, words ? words + v * LANES(T) : NULL, part);       \
    }                                                                                                                  \
  }                                                                                                                    \
  INLINE void max_channels_##T(const int two, const T *image, ptrdiff_t step_h, ptrdiff_t step_w, const ptrdiff_t *h,  \
                               const ptrdiff_t *w, ptrdiff_t KW, ptrdiff_t fresh, ptrdiff_t C, int whole, T *output,   \
                               uint8_t *bytes, int32_t *words) {                                                       \
    const ptrdiff_t first_h = two ? 0 : h[1], stop_h = two ? 2 : h[2];                                                 \
    const ptrdiff_t first_w = two ? 0 : w[1], stop_w = two ? 2 : w[2];                                                 \
    if (C < LANES(T)) {                                                                                                \
      const ptrdiff_t part = part_##T(C, whole);                                                                       \
      if (part == HALF)                                                                                                \
        max_block_##T(1, HALF, image, step_h, step_w, first_h, stop_h, first_w, stop_w, KW, fresh, output, bytes,      \
                      words);                                                                                          \
      else if (part == 0)                                                                                              \
        max_block_##T(1, 0, image, step_h, step_w, first_h, stop_h, first_w, stop_w, KW, fresh, output, bytes, words); \
      else                                                                                                             \
        max_block_##T(1, C, image, step_h, step_w, first_h, stop_h, first_w, stop_w, KW, fresh, output, bytes, words); \
      return;                                                                                                          \
    }                                                                                                                  \
    for (ptrdiff_t c = 0; c < C;) {                                                                                    \
      uint8_t *const to_bytes = bytes ? bytes + c : NULL;                                                              \
      int32_t *const to_words = words ? words + c : NULL;                                                              \
      if (c + BLOCK * LANES(T) <= C) {                                                                                 \
        max_block_##T(BLOCK, 0, image + c, step_h, step_w, first_h, stop_h, first_w, stop_w, KW, fresh, output + c,    \
                      to_bytes, to_words);                                                                             \
        c = next_##T(c + (BLOCK - 1) * LANES(T), C);                                                                   \
      } else {                                                                                                         \
        max_block_##T(1, 0, image + c, step_h, step_w, first_h, stop_h, first_w, stop_w, KW, fresh, output + c,        \
                      to_bytes, to_words);                                                                             \
        c = next_##T(c, C);                                                                                            \
      }                                                                                                                \
    }                                                                                                                  \
  }                                                                                                                    \
  /* `h`, `w`: origin, first and last + 1 tap of a window. Rows from `fresh` on are read for the first time. */        \
  INLINE void cyconv_max_window_##T(const T *image, ptrdiff_t step_h, ptrdiff_t step_w, const ptrdiff_t *h,            \
                                    const ptrdiff_t *w, ptrdiff_t KW, ptrdiff_t fresh, ptrdiff_t C, int whole,         \
                                    T *output, uint8_t *bytes, int32_t *words) {                                       \
    if (!words && KW == 2 && h[1] == 0 && h[2] == 2 && w[1] == 0 && w[2] == 2) /* constants: no loops are left */      \
      max_channels_##T(1, image, step_h, step_w, h, w, 2, fresh, C, whole, output, bytes, NULL);                       \
    else                                                                                                               \
      max_channels_##T(0, image, step_h, step_w, h, w, KW, fresh, C, whole, output, bytes, words);                     \
  }                                                                                                                    \
                                                                                                                       \
  INLINE void route_block_##T(const int V, ptrdiff_t part, const T *grad, const uint8_t *bytes, const int32_t *words,  \
                              const ptrdiff_t ROWS, ptrdiff_t LENGTH, const ptrdiff_t count, ptrdiff_t step,           \
                              ptrdiff_t tap, ptrdiff_t KW, T *grad_x) {                                                \
    vector_##T g[BLOCK];                                                                                               \
    index_##T winner[BLOCK];                                                                                           \
    UNROLL for (int v = 0; v < V; v++) {                                                                               \
      const ptrdiff_t c = v * LANES(T);                                                                                \
      g[v] = load_##T(grad + c, part);                                                                                 \
      winner[v] = taps_##T(bytes ? bytes + c : NULL, words ? words + c : NULL, part);                                  \
      if (!part) __builtin_prefetch(grad + c + AHEAD / 4, 0, 2);                                                       \
    }                                                                                                                  \
    for (ptrdiff_t i = 0; i < ROWS; i++)                                                                               \
      for (ptrdiff_t k = 0; k < count; k++) {                                                                          \
        const index_##T here = (index_##T){0} + (I)(tap + i * KW + k);                                                 \
        T *pixel = grad_x + i * LENGTH + k * step;                                                                     \
        UNROLL for (int v = 0; v < V; v++) {                                                                           \
          if (!part) __builtin_prefetch(pixel + v * LANES(T) + AHEAD, 1, 2);                                           \
          store_##T(pixel + v * LANES(T), (vector_##T)((index_##T)g[v] & (index_##T)(winner[v] == here)), part);       \
        }                                                                                                              \
      }                                                                                                                \
  }                                                                                                                    \
  INLINE void route_channels_##T(const int two, const T *grad, const uint8_t *bytes, const int32_t *words,             \
                                 ptrdiff_t ROWS, ptrdiff_t LENGTH, ptrdiff_t count, ptrdiff_t step, ptrdiff_t tap,     \
                                 ptrdiff_t KW, ptrdiff_t C, int whole, T *grad_x) {                                    \
    if (two) ROWS = count = 2;                                                                                         \
    if (C < LANES(T)) {                                                                                                \
      const ptrdiff_t part = part_##T(C, whole);                                                                       \
      if (part == HALF)                                                                                                \
        route_block_##T(1, HALF, grad, bytes, words, ROWS, LENGTH, count, step, tap, KW, grad_x);                      \
      else if (part == 0)                                                                                              \
        route_block_##T(1, 0, grad, bytes, words, ROWS, LENGTH, count, step, tap, KW, grad_x);                         \
      else                                                                                                             \
        route_block_##T(1, C, grad, bytes, words, ROWS, LENGTH, count, step, tap, KW, grad_x);                         \
      return;                                                                                                          \
    }                                                                                                                  \
    for (ptrdiff_t c = 0; c < C;) {                                                                                    \
      const uint8_t *const from_bytes = bytes ? bytes + c : NULL;                                                      \
      const int32_t *const from_words = words ? words + c : NULL;                                                      \
      if (c + BLOCK * LANES(T) <= C) {                                                                                 \
        route_block_##T(BLOCK, 0, grad + c, from_bytes, from_words, ROWS, LENGTH, count, step, tap, KW, grad_x + c);   \
        c = next_##T(c + (BLOCK - 1) * LANES(T), C);                                                                   \
      } else {                                                                                                         \
        route_block_##T(1, 0, grad + c, from_bytes, from_words, ROWS, LENGTH, count, step, tap, KW, grad_x + c);       \
        c = next_##T(c, C);                                                                                            \
      }                                                                                                                \
    }                                                                                                                  \
  }                                                                                                                    \
  /* To each tap of a window, `count` in each of ROWS rows of which the first is `tap`, the gradients that it won. */  \
  INLINE void cyconv_route_window_##T(const T *grad, const uint8_t *bytes, const int32_t *words,                       \
                                      ptrdiff_t ROWS, ptrdiff_t LENGTH, ptrdiff_t count, ptrdiff_t step,               \
                                      ptrdiff_t tap, ptrdiff_t KW, ptrdiff_t C, int whole, T *grad_x) {                \
    if (bytes && ROWS == 2 && count == 2)                                                                              \
      route_channels_##T(1, grad, bytes, NULL, 2, LENGTH, 2, step, tap, KW, C, whole, grad_x);                         \
    else                                                                                                               \
      route_channels_##T(0, grad, bytes, words, ROWS, LENGTH, count, step, tap, KW, C, whole, grad_x);                 \
  }                                                                                                                    \
                                                                                                                       \
  INLINE void collect_block_##T(const int V, const T *grad, const uint8_t *bytes, const int32_t *words,                \
                                const ptrdiff_t *h, ptrdiff_t H, const ptrdiff_t *w, ptrdiff_t W, ptrdiff_t LENGTH,    \
                                ptrdiff_t C, ptrdiff_t KW, T *grad_x) {                                                \
    vector_##T sum[BLOCK];                                                                                             \
    UNROLL for (int v = 0; v < V; v++) sum[v] = (vector_##T){0};                                                       \
    for (ptrdiff_t i = 0; i < H; i++)                                                                                  \
      for (ptrdiff_t k = 0; k < W; k++) {                                                                              \
        const ptrdiff_t at = h[2 * i] * LENGTH + w[2 * k] * C;                                                         \
        const index_##T here = (index_##T){0} + (I)(h[2 * i + 1] * KW + w[2 * k + 1]);                                 \
        UNROLL for (int v = 0; v < V; v++) {                                                                           \
          const ptrdiff_t c = at + v * LANES(T);                                                                       \
          const index_##T winner = taps_##T(bytes ? bytes + c : NULL, words ? words + c : NULL, 0);                    \
          sum[v] += (vector_##T)((index_##T)AT(T, grad + c) & (index_##T)(winner == here));                            \
        }                                                                                                              \
      }                                                                                                                \
    UNROLL for (int v = 0; v < V; v++) *(vector_##T *)(grad_x + v * LANES(T)) = sum[v];                                \
  }                                                                                                                    \
  /* One input pixel's share of the windows that read it, H rows and W columns of (window, tap); C >= LANES. */        \
  INLINE void cyconv_collect_pixel_##T(const T *grad, const uint8_t *bytes, const int32_t *words,                      \
                                       const ptrdiff_t *h, ptrdiff_t H, const ptrdiff_t *w, ptrdiff_t W,               \
                                       ptrdiff_t LENGTH, ptrdiff_t C, ptrdiff_t KW, T *grad_x) {                       \
    for (ptrdiff_t c = 0; c < C;) {                                                                                    \
      const uint8_t *const from_bytes = bytes ? bytes + c : NULL;                                                      \
      const int32_t *const from_words = words ? words + c : NULL;                                                      \
      if (bytes && c + BLOCK * LANES(T) <= C) {                                                                        \
        collect_block_##T(BLOCK, grad + c, from_bytes, NULL, h, H, w, W, LENGTH, C, KW, grad_x + c);                   \
        c = next_##T(c + (BLOCK - 1) * LANES(T), C);                                                                   \
      } else if (bytes) {                                                                                              \
        collect_block_##T(1, grad + c, from_bytes, NULL, h, H, w, W, LENGTH, C, KW, grad_x + c);                       \
        c = next_##T(c, C);                                                                                            \
      } else if (c + BLOCK * LANES(T) <= C) {                                                                          \
        collect_block_##T(BLOCK, grad + c, from_bytes, from_words, h, H, w, W, LENGTH, C, KW, grad_x + c);             \
        c = next_##T(c + (BLOCK - 1) * LANES(T), C);                                                                   \
      } else {                                                                                                         \
        collect_block_##T(1, grad + c, from_bytes, from_words, h, H, w, W, LENGTH, C, KW, grad_x + c);                 \
        c = next_##T(c, C);                                                                                            \
      }                                                                                                                \
    }                                                                                                                  \
  }                                                                                                                    \
                                                                                                                       \
  INLINE void mean_block_##T(const int V, ptrdiff_t part, const T *image, ptrdiff_t step_h, ptrdiff_t step_w,          \
                             ptrdiff_t first_h, ptrdiff_t stop_h, ptrdiff_t first_w, ptrdiff_t stop_w,                 \
                             ptrdiff_t fresh, T scale, T *output) {                                                    \
    vector_##T total[BLOCK], line[BLOCK];                                                                              \
    UNROLL for (int v = 0; v < V; v++) {                                                                               \
      total[v] = (vector_##T){0};                                                                                      \
      if (!part) __builtin_prefetch(output + v * LANES(T) + AHEAD / 4, 1, 2);                                          \
    }                                                                                                                  \
    for (ptrdiff_t kh = first_h; kh < stop_h; kh++) {                                                                  \
      UNROLL for (int v = 0; v < V; v++) line[v] = (vector_##T){0};                                                    \
      for (ptrdiff_t kw = first_w; kw < stop_w; kw++) {                                                                \
        const T *pixel = image + kh * step_h + kw * step_w;                                                            \
        UNROLL for (int v = 0; v < V; v++) {                                                                           \
          line[v] += load_##T(pixel + v * LANES(T), part);                                                             \
          if (!part && kh >= fresh) __builtin_prefetch(pixel + v * LANES(T) + AHEAD, 0, 2);                            \
        }                                                                                                              \
      }                                                                                                                \
      UNROLL for (int v = 0; v < V; v++) total[v] += line[v];                                                          \
    }                                                                                                                  \
    UNROLL for (int v = 0; v < V; v++) store_##T(output + v * LANES(T), total[v] * scale, part);                       \
  }                                                                                                                    \
  INLINE void mean_channels_##T(const int two, const T *image, ptrdiff_t step_h, ptrdiff_t step_w, const ptrdiff_t *h, \
                                const ptrdiff_t *w, ptrdiff_t fresh, T scale, ptrdiff_t C, int whole, T *output) {     \
    const ptrdiff_t first_h = two ? 0 : h[1], stop_h = two ? 2 : h[2];                                                 \
    const ptrdiff_t first_w = two ? 0 : w[1], stop_w = two ? 2 : w[2];                                                 \
    if (C < LANES(T)) {                                                                                                \
      const ptrdiff_t part = part_##T(C, whole);                                                                       \
      if (part == HALF)                                                                                                \
        mean_block_##T(1, HALF, image, step_h, step_w, first_h, stop_h, first_w, stop_w, fresh, scale, output);        \
      else if (part == 0)                                                                                              \
        mean_block_##T(1, 0, image, step_h, step_w, first_h, stop_h, first_w, stop_w, fresh, scale, output);           \
      else                                                                                                             \
        mean_block_##T(1, C, image, step_h, step_w, first_h, stop_h, first_w, stop_w, fresh, scale, output);           \
      return;                                                                                                          \
    }                                                                                                                  \
    for (ptrdiff_t c = 0; c < C;)                                                                                      \
      if (c + BLOCK * LANES(T) <= C) {                                                                                 \
        mean_block_##T(BLOCK, 0, image + c, step_h, step_w, first_h, stop_h, first_w, stop_w, fresh, scale,            \
                       output + c);                                                                                    \
        c = next_##T(c + (BLOCK - 1) * LANES(T), C);                                                                   \
      } else {                                                                                                         \
        mean_block_##T(1, 0, image + c, step_h, step_w, first_h, stop_h, first_w, stop_w, fresh, scale, output + c);   \
        c = next_##T(c, C);                                                                                            \
      }                                                                                                                \
  }                                                                                                                    \
  INLINE void cyconv_mean_window_##T(const T *image, ptrdiff_t step_h, ptrdiff_t step_w, const ptrdiff_t *h,           \
                                     const ptrdiff_t *w, ptrdiff_t fresh, T scale, ptrdiff_t C, int whole,             \
                                     T *output) {                                                                      \
    if (h[1] == 0 && h[2] == 2 && w[1] == 0 && w[2] == 2)                                                              \
      mean_channels_##T(1, image, step_h, step_w, h, w, fresh, scale, C, whole, output);                               \
    else                                                                                                               \
      mean_channels_##T(0, image, step_h, step_w, h, w, fresh, scale, C, whole, output);                               \
  }                                                                                                                    \
                                                                                                                       \
  INLINE void spread_channels_##T(const int two, const T *grad, T scale, ptrdiff_t ROWS, ptrdiff_t LENGTH,             \
                                  ptrdiff_t count, ptrdiff_t C, ptrdiff_t part, T *grad_x) {                           \
    if (two) ROWS = count = 2;                                                                                         \
    for (ptrdiff_t c = 0; c < C;) {                                                                                    \
      const vector_##T g = load_##T(grad + c, part) * scale;                                                           \
      if (!part) __builtin_prefetch(grad + c + AHEAD / 4, 0, 2);                                                       \
      for (ptrdiff_t i = 0; i < ROWS; i++)                                                                             \
        for (ptrdiff_t k = 0; k < count; k++) {                                                                        \
          T *pixel = grad_x + i * LENGTH + k * C + c;                                                                  \
          if (!part) __builtin_prefetch(pixel + AHEAD, 1, 2);                                                          \
          store_##T(pixel, g, part);                                                                                   \
        }                                                                                                              \
      c = next_##T(c, C);                                                                                              \
    }                                                                                                                  \
  }                                                                                                                    \
  /* To each tap of a window, `count` in each of ROWS rows, the same. */                                               \
  INLINE void cyconv_spread_window_##T(const T *grad, T scale, ptrdiff_t ROWS, ptrdiff_t LENGTH,                       \
                                       ptrdiff_t count, ptrdiff_t C, int whole, T *grad_x) {                           \
    if (C < LANES(T) && !whole)                                                                                        \
      spread_channels_##T(0, grad, scale, ROWS, LENGTH, count, C, C, grad_x);                                          \
    else if (2 * C <= LANES(T) && ROWS == 2 && count == 2)                                                             \
      spread_channels_##T(1, grad, scale, 2, LENGTH, 2, C, HALF, grad_x);                                              \
    else if (ROWS == 2 && count == 2)                                                                                  \
      spread_channels_##T(1, grad, scale, 2, LENGTH, 2, C, 0, grad_x);                                                 \
    else                                                                                                               \
      spread_channels_##T(0, grad, scale, ROWS, LENGTH, count, C, 0, grad_x);                                          \
  }                                                                                                                    \
                                                                                                                       \
  /* One input pixel: the sum of the W windows that read it, of a row that is summed over the windows' rows. */        \
  INLINE void cyconv_gather_pixel_##T(const T *total, const double *scale, ptrdiff_t W, ptrdiff_t C, int whole,        \
                                      T *grad_x) {                                                                     \
    const ptrdiff_t part = C < LANES(T) && !whole ? C : 0;                                                             \
    for (ptrdiff_t c = 0; c < C;) {                                                                                    \
      vector_##T sum = {0};                                                                                            \
      for (ptrdiff_t k = 0; k < W; k++) sum += load_##T(total + k * C + c, part) * (T)scale[k];                        \
      store_##T(grad_x + c, sum, part);                                                                                \
      c = next_##T(c, C);                                                                                              \
    }                                                                                                                  \
  }

DEFINE_POOLING(float, int32_t)
DEFINE_POOLING(double, int64_t)

#endif
