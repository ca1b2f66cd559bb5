/* The register tile: the only hand-written C, and the only place that knows a vector's width.

   tile: C[m][n] = start + sum over b < batch, k < K of  rows[m][a_offset[b] + k*a_step] * B[b_offset[b] + k*ldb + n]
   where start is C itself (accumulate), a bias vector, or zero. Rows of A and C are given by pointers, so a tile may
   run over the end of an image line and on to the next image; A may be an image in place, its transpose, or a matrix.
   Scalars of A are broadcast, B and C are vectors. k is unrolled twice: one load of a row's pointer serves two steps. */

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
  INLINE void tile_body_##T(const int M, const int V, ptrdiff_t batch, ptrdiff_t K, const T *const *rows,          \
                            const ptrdiff_t *a_offset, ptrdiff_t a_step, const T *B, const ptrdiff_t *b_offset,    \
                            ptrdiff_t ldb, T *const *c_rows, ptrdiff_t c_offset, ptrdiff_t columns,                \
                            const T *bias, int accumulate) {                                                       \
    const ptrdiff_t L = LANES(T);                                                                                  \
    const int partial = columns < V * L;                                                                           \
    vector_##T c[TILE_ROWS][TILE_VECTORS];                                                                         \
    T edge[TILE_ROWS][TILE_VECTORS * (VECTOR_BYTES / sizeof(T))];                                                  \
    if (accumulate && partial)                                                                                     \
      for (int m = 0; m < M; m++) memcpy(edge[m], c_rows[m] + c_offset, columns * sizeof(T));                      \
    UNROLL for (int m = 0; m < M; m++)                                                                             \
      UNROLL for (int v = 0; v < V; v++)                                                                           \
        c[m][v] = accumulate ? *(const vector_##T *)((partial ? edge[m] : c_rows[m] + c_offset) + v * L)           \
                  : bias     ? *(const vector_##T *)(bias + v * L)                                                 \
                             : (vector_##T){0};                                                                    \
    for (ptrdiff_t b = 0; b < batch; b++) {                                                                        \
      const T *restrict w = B + b_offset[b];                                                                       \
      ptrdiff_t a = a_offset[b], k = 0;                                                                            \
      for (; k + 1 < K; k += 2, a += 2 * a_step, w += 2 * ldb) {                                                   \
        vector_##T w0[TILE_VECTORS], w1[TILE_VECTORS];                                                             \
        UNROLL for (int v = 0; v < V; v++) w0[v] = *(const vector_##T *)(w + v * L);                               \
        UNROLL for (int m = 0; m < M; m++) {                                                                       \
          const T scalar = rows[m][a];                                                                             \
          UNROLL for (int v = 0; v < V; v++) c[m][v] += scalar * w0[v];                                            \
        }                                                                                                          \
        UNROLL for (int v = 0; v < V; v++) w1[v] = *(const vector_##T *)(w + ldb + v * L);                         \
        UNROLL for (int m = 0; m < M; m++) {                                                                       \
          const T scalar = rows[m][a + a_step];                                                                    \
          UNROLL for (int v = 0; v < V; v++) c[m][v] += scalar * w1[v];                                            \
        }                                                                                                          \
      }                                                                                                            \
      if (k < K) {                                                                                                 \
        vector_##T w0[TILE_VECTORS];                                                                               \
        UNROLL for (int v = 0; v < V; v++) w0[v] = *(const vector_##T *)(w + v * L);                               \
        UNROLL for (int m = 0; m < M; m++) {                                                                       \
          const T scalar = rows[m][a];                                                                             \
          UNROLL for (int v = 0; v < V; v++) c[m][v] += scalar * w0[v];                                            \
        }                                                                                                          \
      }                                                                                                            \
    }                                                                                                              \
    UNROLL for (int m = 0; m < M; m++)                                                                             \
      UNROLL for (int v = 0; v < V; v++)                                                                           \
        *(vector_##T *)((partial ? edge[m] : c_rows[m] + c_offset) + v * L) = c[m][v];                             \
    if (partial)                                                                                                   \
      for (int m = 0; m < M; m++) memcpy(c_rows[m] + c_offset, edge[m], columns * sizeof(T));                      \
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

#endif
