/* The register tile: the only hand-written C, and the only place that knows a vector's width.

   tile: C[m][n] = start + sum over b < batch, k < K of  rows[m][a_offset[b] + k*a_step] * B[b_offset[b] + k*ldb + n]
   where start is C itself (accumulate), a bias vector, or zero; it is added last, so that the accumulators begin as
   constants: with anything else gcc spills them. Rows of A and C are given by pointers, so a tile may
   run over the end of an image line and on to the next image; A may be an image in place, its transpose, or a matrix.
   Scalars of A are broadcast, B and C are vectors. k is unrolled: one load of a row's pointer serves several steps. */

#ifndef CYCONV_SIMD_H
#define CYCONV_SIMD_H

#include <stddef.h>
#include <string.h>

#if defined(__AVX512F__)
  #define VECTOR_BYTES 64
  #define TILE_ROWS 14 /* 14 x 2 accumulators + 2 of B + broadcasts fill 32 registers */
#elif defined(__AVX__)
  #define VECTOR_BYTES 32
  #define TILE_ROWS 6 /* 16 registers */
#elif defined(__aarch64__)
  #define VECTOR_BYTES 16
  #define TILE_ROWS 12 /* 32 registers */
#else
  #define VECTOR_BYTES 16
  #define TILE_ROWS 6
#endif
#define TILE_VECTORS 2
#define LANES(T) ((ptrdiff_t)(VECTOR_BYTES / sizeof(T)))
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#define DEFINE_TILE(T)                                                                                             \
  typedef T vector_##T __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));                 \
                                                                                                                   \
  static __attribute__((noinline)) void store_edge_##T(const T *line, ptrdiff_t columns, int accumulate, T *target) { \
    for (ptrdiff_t n = 0; n < columns; n++) target[n] = accumulate ? target[n] + line[n] : line[n];                \
  }                                                                                                                \
                                                                                                                   \
  INLINE void tile_body_##T(const int M, const int V, ptrdiff_t batch, ptrdiff_t K, const T *const *rows,          \
                            const ptrdiff_t *a_offset, ptrdiff_t a_step, const T *B, const ptrdiff_t *b_offset,    \
                            ptrdiff_t ldb, T *const *c_rows, ptrdiff_t c_offset, ptrdiff_t columns,                \
                            const T *bias, int accumulate) {                                                       \
    const ptrdiff_t L = LANES(T);                                                                                  \
    const int U = V == 1 ? 4 : 2; /* steps of k to one load of the rows' pointers */                               \
    vector_##T c[TILE_ROWS][TILE_VECTORS];                                                                         \
    UNROLL for (int m = 0; m < M; m++)                                                                             \
      UNROLL for (int v = 0; v < V; v++) c[m][v] = (vector_##T){0};                                                \
    for (ptrdiff_t b = 0; b < batch; b++) {                                                                        \
      const T *restrict w = B + b_offset[b];                                                                       \
      ptrdiff_t a = a_offset[b];                                                                                   \
      for (ptrdiff_t k = 0; k + U <= K; k += U, a += U * a_step, w += U * ldb)                                     \
        UNROLL for (int u = 0; u < U; u++) {                                                                       \
          vector_##T line[TILE_VECTORS];                                                                           \
          UNROLL for (int v = 0; v < V; v++) line[v] = *(const vector_##T *)(w + u * ldb + v * L);                 \
          UNROLL for (int m = 0; m < M; m++) {                                                                     \
            const T scalar = rows[m][a + u * a_step];                                                              \
            UNROLL for (int v = 0; v < V; v++) c[m][v] += scalar * line[v];                                        \
          }                                                                                                        \
        }                                                                                                          \
    }                                                                                                              \
    for (ptrdiff_t k = K - K % U; k < K; k++) /* apart from the loop above, where it would make gcc spill */       \
      for (ptrdiff_t b = 0; b < batch; b++) {                                                                      \
        vector_##T line[TILE_VECTORS];                                                                             \
        UNROLL for (int v = 0; v < V; v++) line[v] = *(const vector_##T *)(B + b_offset[b] + k * ldb + v * L);     \
        UNROLL for (int m = 0; m < M; m++) {                                                                       \
          const T scalar = rows[m][a_offset[b] + k * a_step];                                                      \
          UNROLL for (int v = 0; v < V; v++) c[m][v] += scalar * line[v];                                          \
        }                                                                                                          \
      }                                                                                                            \
    if (bias)                                                                                                      \
      UNROLL for (int v = 0; v < V; v++) {                                                                         \
        const vector_##T start = *(const vector_##T *)(bias + v * L);                                              \
        UNROLL for (int m = 0; m < M; m++) c[m][v] += start;                                                       \
      }                                                                                                            \
    if (columns == V * L) {                                                                                        \
      UNROLL for (int m = 0; m < M; m++)                                                                           \
        UNROLL for (int v = 0; v < V; v++) {                                                                       \
          vector_##T *target = (vector_##T *)(c_rows[m] + c_offset + v * L);                                       \
          if (accumulate) c[m][v] += *target;                                                                      \
          *target = c[m][v];                                                                                       \
        }                                                                                                          \
    } else {                                                                                                       \
      T edge[TILE_ROWS][TILE_VECTORS * (VECTOR_BYTES / sizeof(T))];                                                \
      UNROLL for (int m = 0; m < M; m++)                                                                           \
        UNROLL for (int v = 0; v < V; v++) *(vector_##T *)(edge[m] + v * L) = c[m][v];                             \
      for (int m = 0; m < M; m++) store_edge_##T(edge[m], columns, accumulate, c_rows[m] + c_offset);              \
    }                                                                                                              \
  }

#define TILE_ARGUMENTS(T)                                                                                          \
  ptrdiff_t batch, ptrdiff_t K, const T *const *rows, const ptrdiff_t *a_offset, ptrdiff_t a_step, const T *B,     \
      const ptrdiff_t *b_offset, ptrdiff_t ldb, T *const *c_rows, ptrdiff_t c_offset, ptrdiff_t columns,           \
      const T *bias, int accumulate
#define TILE_PASS                                                                                                  \
  batch, K, rows, a_offset, a_step, B, b_offset, ldb, c_rows, c_offset, columns, bias, accumulate

#define TILE_ROW(T, M)                                                                                             \
  static __attribute__((noinline)) void tile_##T##_##M##_1(TILE_ARGUMENTS(T)) { tile_body_##T(M, 1, TILE_PASS); }  \
  static __attribute__((noinline)) void tile_##T##_##M##_2(TILE_ARGUMENTS(T)) { tile_body_##T(M, 2, TILE_PASS); }
#define TILE_ENTRY(T, M) {tile_##T##_##M##_1, tile_##T##_##M##_2}

#if TILE_ROWS == 14
  #define FOR_EACH_ROW(F, T, S) F(T, 1) S F(T, 2) S F(T, 3) S F(T, 4) S F(T, 5) S F(T, 6) S F(T, 7) S              \
    F(T, 8) S F(T, 9) S F(T, 10) S F(T, 11) S F(T, 12) S F(T, 13) S F(T, 14)
#elif TILE_ROWS == 12
  #define FOR_EACH_ROW(F, T, S) F(T, 1) S F(T, 2) S F(T, 3) S F(T, 4) S F(T, 5) S F(T, 6) S F(T, 7) S              \
    F(T, 8) S F(T, 9) S F(T, 10) S F(T, 11) S F(T, 12)
#else
  #define FOR_EACH_ROW(F, T, S) F(T, 1) S F(T, 2) S F(T, 3) S F(T, 4) S F(T, 5) S F(T, 6)
#endif
#define COMMA ,
#define NOTHING

/* `rows` rows and at most two vectors of columns; picks the unrolled body of that size. */
#define DEFINE_TILES(T)                                                                                            \
  DEFINE_TILE(T)                                                                                                   \
  FOR_EACH_ROW(TILE_ROW, T, NOTHING)                                                                               \
  static void (*const tiles_##T[TILE_ROWS][TILE_VECTORS])(TILE_ARGUMENTS(T)) = {FOR_EACH_ROW(TILE_ENTRY, T, COMMA)};\
  static inline void cyconv_tile_##T(ptrdiff_t M, TILE_ARGUMENTS(T)) {                                             \
    tiles_##T[M - 1][columns > LANES(T)](TILE_PASS);                                                               \
  }

DEFINE_TILES(float)
DEFINE_TILES(double)

/* Depthwise tiles: channels lie along vectors, one filter a channel, nothing is broadcast.

   pixels: out[i*out_step + c] = bias[c] + sum over t of x[i*x_step + offset[t] + c] * weight[t*weight_step + c]
           for i < count and vectors of channels, in register tiles of P pixels by one vector
   products: sums[t*sums_step + c] += sum over l < lines, i < count of
             x[l*x_line + i*x_step + offset[t] + c] * g[l*g_line + i*g_step + c]
             for N taps and one vector of channels; g is loaded once for all of them */
#define DEPTHWISE_TAPS 9
#define PIXELS_PASS                                                                                                \
  taps, x + i * x_step + c, x_step, offset, weight + c, weight_step, bias + c, out + i * out_step + c, out_step
#define PRODUCTS_PASS lines, count, x, x_line, x_step, offset, g, g_line, g_step, sums, sums_step

#define DEFINE_DEPTHWISE(T)                                                                                        \
  INLINE void pixels_body_##T(const int P, ptrdiff_t taps, const T *x, ptrdiff_t x_step, const ptrdiff_t *offset,  \
                              const T *weight, ptrdiff_t weight_step, const T *bias, T *out, ptrdiff_t out_step) { \
    vector_##T total[TILE_ROWS];                                                                                   \
    UNROLL for (int i = 0; i < P; i++) total[i] = *(const vector_##T *)bias;                                       \
    for (ptrdiff_t t = 0; t < taps; t++, weight += weight_step) {                                                  \
      const vector_##T filter = *(const vector_##T *)weight;                                                       \
      const T *source = x + offset[t];                                                                             \
      UNROLL for (int i = 0; i < P; i++) total[i] += *(const vector_##T *)(source + i * x_step) * filter;          \
    }                                                                                                              \
    UNROLL for (int i = 0; i < P; i++) *(vector_##T *)(out + i * out_step) = total[i];                             \
  }                                                                                                                \
  static void cyconv_pixels_##T(ptrdiff_t vectors, ptrdiff_t count, ptrdiff_t taps, const T *x, ptrdiff_t x_step,  \
                                const ptrdiff_t *offset, const T *weight, ptrdiff_t weight_step, const T *bias,    \
                                T *out, ptrdiff_t out_step) {                                                      \
    ptrdiff_t i = 0;                                                                                               \
    for (; i + TILE_ROWS <= count; i += TILE_ROWS)                                                                 \
      for (ptrdiff_t c = 0; c < vectors * LANES(T); c += LANES(T)) pixels_body_##T(TILE_ROWS, PIXELS_PASS);        \
    for (; i + TILE_ROWS / 2 <= count; i += TILE_ROWS / 2)                                                         \
      for (ptrdiff_t c = 0; c < vectors * LANES(T); c += LANES(T)) pixels_body_##T(TILE_ROWS / 2, PIXELS_PASS);    \
    for (; i + 2 <= count; i += 2)                                                                                 \
      for (ptrdiff_t c = 0; c < vectors * LANES(T); c += LANES(T)) pixels_body_##T(2, PIXELS_PASS);                \
    for (; i < count; i++)                                                                                         \
      for (ptrdiff_t c = 0; c < vectors * LANES(T); c += LANES(T)) pixels_body_##T(1, PIXELS_PASS);                \
  }                                                                                                                \
                                                                                                                   \
  INLINE void products_body_##T(const int N, ptrdiff_t lines, ptrdiff_t count, const T *x, ptrdiff_t x_line,       \
                                ptrdiff_t x_step, const ptrdiff_t *offset, const T *g, ptrdiff_t g_line,           \
                                ptrdiff_t g_step, T *sums, ptrdiff_t sums_step) {                                  \
    vector_##T total[DEPTHWISE_TAPS];                                                                              \
    UNROLL for (int t = 0; t < N; t++) total[t] = (vector_##T){0};                                                 \
    for (ptrdiff_t l = 0; l < lines; l++) {                                                                        \
      const T *source[DEPTHWISE_TAPS];                                                                             \
      UNROLL for (int t = 0; t < N; t++) source[t] = x + l * x_line + offset[t];                                   \
      for (ptrdiff_t i = 0; i < count; i++) {                                                                      \
        const vector_##T gradient = *(const vector_##T *)(g + l * g_line + i * g_step);                            \
        UNROLL for (int t = 0; t < N; t++) total[t] += *(const vector_##T *)(source[t] + i * x_step) * gradient;   \
      }                                                                                                            \
    }                                                                                                              \
    UNROLL for (int t = 0; t < N; t++) *(vector_##T *)(sums + t * sums_step) += total[t];                          \
  }                                                                                                                \
  static void cyconv_products_##T(ptrdiff_t taps, ptrdiff_t lines, ptrdiff_t count, const T *x, ptrdiff_t x_line,  \
                                  ptrdiff_t x_step, const ptrdiff_t *offset, const T *g, ptrdiff_t g_line,         \
                                  ptrdiff_t g_step, T *sums, ptrdiff_t sums_step) {                                \
    switch (taps) {                                                                                                \
      case 1: products_body_##T(1, PRODUCTS_PASS); break;                                                          \
      case 2: products_body_##T(2, PRODUCTS_PASS); break;                                                          \
      case 3: products_body_##T(3, PRODUCTS_PASS); break;                                                          \
      case 4: products_body_##T(4, PRODUCTS_PASS); break;                                                          \
      case 5: products_body_##T(5, PRODUCTS_PASS); break;                                                          \
      case 6: products_body_##T(6, PRODUCTS_PASS); break;                                                          \
      case 7: products_body_##T(7, PRODUCTS_PASS); break;                                                          \
      case 8: products_body_##T(8, PRODUCTS_PASS); break;                                                          \
      default: products_body_##T(9, PRODUCTS_PASS);                                                                \
    }                                                                                                              \
  }

DEFINE_DEPTHWISE(float)
DEFINE_DEPTHWISE(double)

#endif
