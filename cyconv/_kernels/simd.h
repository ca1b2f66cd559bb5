/* The register tile, and the only place that knows a vector's width; depthwise.h and winograd.h build on it.

   tile: C[m][n] = sum over b < batch, k < K of  rows[m][a_offset[b] + k*a_step] * B[b_offset[b] + k*ldb + n]
   and then what `finish` asks for, in this order: a bias vector is added, if given; ADD_ARRAY, what lies `addend` bytes
   from C's own element (at 0, C itself, which so accumulates); RELU, which lets NaN pass. All that comes last, so that
   the accumulators begin as constants: with anything else gcc spills them. Rows of A and C are given by pointers, so a
   tile may run over the end of an image line and on to the next image; A may be an image in place, its transpose, or a
   matrix. Scalars of A are broadcast, B and C are vectors. k is unrolled: one load of a row's pointer serves several
   steps. Each step also asks for a cache line at `ahead`, ahead_step bytes after the last one, which a later tile will
   read: asked for all at once, they would stall it. */

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
/* Of a tile with few rows, whose scalars are few and whose vectors lie across cache lines. */
#if VECTOR_BYTES == 64
  #define WIDE_ROWS 8
  #define WIDE_VECTORS(M) ((M) <= 4 ? 6 : (M) <= 6 ? 4 : 3)
#elif TILE_ROWS == 12
  #define WIDE_ROWS 6
  #define WIDE_VECTORS(M) ((M) <= 4 ? 6 : 4)
#else
  #define WIDE_ROWS 4
  #define WIDE_VECTORS(M) 3
#endif
#define MOST_VECTORS 6
#define MOST_STEPS 9
#define LANES(T) ((ptrdiff_t)(VECTOR_BYTES / sizeof(T)))
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
enum { ADD_ARRAY = 1, RELU = 2 };

#define DEFINE_TILE(T, I)                                                                                          \
  typedef T vector_##T __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));                  \
  typedef I index_##T __attribute__((vector_size(VECTOR_BYTES)));                                                  \
                                                                                                                   \
  /* What lies `bytes` from an element, in an array of the same shape. */                                          \
  INLINE const T *beside_##T(const T *element, ptrdiff_t bytes) {                                                  \
    return (const T *)((const char *)element + bytes);                                                             \
  }                                                                                                                \
  INLINE vector_##T relu_##T(vector_##T x) { return (vector_##T)((index_##T)x & ~(index_##T)(x < 0)); }            \
                                                                                                                   \
  static __attribute__((noinline)) void store_edge_##T(const T *line, ptrdiff_t columns, T *target,                \
                                                       ptrdiff_t addend, int finish) {                             \
    for (ptrdiff_t n = 0; n < columns; n++) {                                                                      \
      const T sum = finish & ADD_ARRAY ? line[n] + *beside_##T(target + n, addend) : line[n];                      \
      target[n] = finish & RELU && sum < 0 ? 0 : sum;                                                              \
    }                                                                                                              \
  }                                                                                                                \
                                                                                                                   \
  INLINE void tile_body_##T(const int M, const int V, const int U, const int unit, ptrdiff_t batch, ptrdiff_t K,   \
                            const T *const *rows, const ptrdiff_t *a_offset, ptrdiff_t a_step, const T *B,         \
                            const ptrdiff_t *b_offset, ptrdiff_t ldb, T *const *c_rows, ptrdiff_t c_offset,        \
                            ptrdiff_t columns, const T *bias, ptrdiff_t addend, int finish,                        \
                            const char *ahead, ptrdiff_t ahead_step) {                                             \
    const ptrdiff_t L = LANES(T);                                                                                  \
    const ptrdiff_t step = unit ? 1 : a_step;                                                                      \
    vector_##T c[TILE_ROWS][MOST_VECTORS];                                                                         \
    UNROLL for (int m = 0; m < M; m++)                                                                             \
      UNROLL for (int v = 0; v < V; v++) {                                                                         \
        c[m][v] = (vector_##T){0};                                                                                 \
        __builtin_prefetch(c_rows[m] + c_offset + v * L, 1, 3);                                                    \
      }                                                                                                            \
    for (ptrdiff_t b = 0; b < batch; b++) {                                                                        \
      const T *restrict w = B + b_offset[b];                                                                       \
      ptrdiff_t a = a_offset[b];                                                                                   \
      for (ptrdiff_t k = 0; k + U <= K; k += U, a += U * step, w += U * ldb) {                                     \
        if (V == 1) {                                                                                              \
          vector_##T line[MOST_STEPS];                                                                             \
          UNROLL for (int u = 0; u < U; u++) line[u] = *(const vector_##T *)(w + u * ldb);                         \
          UNROLL for (int m = 0; m < M; m++) {                                                                     \
            const T *row = rows[m] + a;                                                                            \
            UNROLL for (int u = 0; u < U; u++) c[m][0] += row[u * step] * line[u];                                 \
          }                                                                                                        \
        } else                                                                                                     \
          UNROLL for (int u = 0; u < U; u++) {                                                                     \
            vector_##T line[MOST_VECTORS];                                                                         \
            UNROLL for (int v = 0; v < V; v++) line[v] = *(const vector_##T *)(w + u * ldb + v * L);               \
            __builtin_prefetch(ahead, 0, 2);                                                                       \
            ahead += ahead_step;                                                                                   \
            UNROLL for (int m = 0; m < M; m++) {                                                                   \
              const T scalar = rows[m][a + u * step];                                                              \
              UNROLL for (int v = 0; v < V; v++) c[m][v] += scalar * line[v];                                      \
            }                                                                                                      \
          }                                                                                                        \
      }                                                                                                            \
    }                                                                                                              \
    for (ptrdiff_t k = K - K % U; k < K; k++) /* apart from the loop above, where it would make gcc spill */       \
      for (ptrdiff_t b = 0; b < batch; b++) {                                                                      \
        vector_##T line[MOST_VECTORS];                                                                             \
        UNROLL for (int v = 0; v < V; v++) line[v] = *(const vector_##T *)(B + b_offset[b] + k * ldb + v * L);     \
        UNROLL for (int m = 0; m < M; m++) {                                                                       \
          const T scalar = rows[m][a_offset[b] + k * step];                                                      \
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
          if (finish & ADD_ARRAY) c[m][v] += *(const vector_##T *)beside_##T((const T *)target, addend);           \
          if (finish & RELU) c[m][v] = relu_##T(c[m][v]);                                                          \
          *target = c[m][v];                                                                                       \
        }                                                                                                          \
    } else {                                                                                                       \
      T edge[TILE_ROWS][MOST_VECTORS * (VECTOR_BYTES / sizeof(T))];                                                \
      UNROLL for (int m = 0; m < M; m++)                                                                           \
        UNROLL for (int v = 0; v < V; v++) *(vector_##T *)(edge[m] + v * L) = c[m][v];                             \
      for (int m = 0; m < M; m++) store_edge_##T(edge[m], columns, c_rows[m] + c_offset, addend, finish);          \
    }                                                                                                              \
  }

/* target[j][i] = source[i][j] for a square of a vector's side, in log2(side) rounds that deal rows i and i + side/2
   alternately: after all of them row j holds column j. */
#if VECTOR_BYTES == 64
  #define DEAL_float(h) h, h + 16, h + 1, h + 17, h + 2, h + 18, h + 3, h + 19, \
                        h + 4, h + 20, h + 5, h + 21, h + 6, h + 22, h + 7, h + 23
  #define DEAL_double(h) h, h + 8, h + 1, h + 9, h + 2, h + 10, h + 3, h + 11
#elif VECTOR_BYTES == 32
  #define DEAL_float(h) h, h + 8, h + 1, h + 9, h + 2, h + 10, h + 3, h + 11
  #define DEAL_double(h) h, h + 4, h + 1, h + 5
#else
  #define DEAL_float(h) h, h + 4, h + 1, h + 5
  #define DEAL_double(h) h, h + 2
#endif
#ifdef __clang__
  #define DEAL(T, a, b, h) __builtin_shufflevector(a, b, DEAL_##T(h))
#else
  #define DEAL(T, a, b, h) __builtin_shuffle(a, b, (index_##T){DEAL_##T(h)})
#endif

#define DEFINE_TRANSPOSE(T)                                                                                        \
  static inline void cyconv_transpose_##T(const T *source, ptrdiff_t source_step, T *target, ptrdiff_t target_step) { \
    enum { SIDE = VECTOR_BYTES / sizeof(T) };                                                                      \
    vector_##T a[SIDE], b[SIDE];                                                                                   \
    UNROLL for (int i = 0; i < SIDE; i++) a[i] = *(const vector_##T *)(source + i * source_step);                  \
    UNROLL for (int side = 1; side < SIDE; side *= 2) {                                                            \
      UNROLL for (int i = 0; i < SIDE / 2; i++) {                                                                  \
        b[2 * i] = DEAL(T, a[i], a[i + SIDE / 2], 0);                                                           \
        b[2 * i + 1] = DEAL(T, a[i], a[i + SIDE / 2], SIDE / 2);                                                \
      }                                                                                                            \
      UNROLL for (int i = 0; i < SIDE; i++) a[i] = b[i];                                                           \
    }                                                                                                              \
    UNROLL for (int i = 0; i < SIDE; i++) *(vector_##T *)(target + i * target_step) = a[i];                        \
  }

#define TILE_ARGUMENTS(T)                                                                                          \
  ptrdiff_t batch, ptrdiff_t K, const T *const *rows, const ptrdiff_t *a_offset, ptrdiff_t a_step, const T *B,     \
      const ptrdiff_t *b_offset, ptrdiff_t ldb, T *const *c_rows, ptrdiff_t c_offset, ptrdiff_t columns,           \
      const T *bias, ptrdiff_t addend, int finish, const char *ahead, ptrdiff_t ahead_step
#define TILE_PASS                                                                                                  \
  batch, K, rows, a_offset, a_step, B, b_offset, ldb, c_rows, c_offset, columns, bias, addend, finish, ahead, ahead_step

/* U steps of k share one load of the rows' pointers. With one vector a row, loads are what the tile waits for. Filters
   of three channels have lines of 9 or 21 numbers. */
#define TILE_ROW(T, M)                                                                                             \
  static __attribute__((noinline)) void tile_##T##_##M##_1(TILE_ARGUMENTS(T)) {                                    \
    if (a_step != 1) tile_body_##T(M, 1, 4, 0, TILE_PASS);                                                         \
    else if (K % 9 == 0) tile_body_##T(M, 1, 9, 1, TILE_PASS);                                                     \
    else tile_body_##T(M, 1, 8, 1, TILE_PASS);                                                                     \
  }                                                                                                                \
  static __attribute__((noinline)) void tile_##T##_##M##_2(TILE_ARGUMENTS(T)) {                                    \
    if (K % 6 == 3) tile_body_##T(M, 2, 3, 0, TILE_PASS);                                                          \
    else tile_body_##T(M, 2, 2, 0, TILE_PASS);                                                                     \
  }
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
#define DEFINE_TILES(T, I)                                                                                         \
  DEFINE_TILE(T, I)                                                                                                \
  FOR_EACH_ROW(TILE_ROW, T, NOTHING)                                                                               \
  static void (*const tiles_##T[TILE_ROWS][TILE_VECTORS])(TILE_ARGUMENTS(T)) = {FOR_EACH_ROW(TILE_ENTRY, T, COMMA)};\
  static inline void cyconv_tile_##T(ptrdiff_t M, TILE_ARGUMENTS(T)) {                                             \
    tiles_##T[M - 1][columns > LANES(T)](TILE_PASS);                                                               \
  }

/* At most WIDE_ROWS rows, all of WIDE_VECTORS(M) vectors of columns. */
static inline ptrdiff_t cyconv_wide_vectors(ptrdiff_t M) { return WIDE_VECTORS(M); }
#define WIDE_CASE(T, M) case M: tile_body_##T(M, WIDE_VECTORS(M), 2, 0, TILE_PASS); break;
#define DEFINE_WIDE_TILE(T)                                                                                        \
  static void cyconv_wide_tile_##T(ptrdiff_t M, TILE_ARGUMENTS(T)) {                                               \
    switch (M) {                                                                                                   \
      WIDE_CASE(T, 1) WIDE_CASE(T, 2) WIDE_CASE(T, 3) WIDE_CASE(T, 4)                                              \
      MORE_WIDE_CASES(T)                                                                                           \
    }                                                                                                              \
  }
#if WIDE_ROWS == 8
  #define MORE_WIDE_CASES(T) WIDE_CASE(T, 5) WIDE_CASE(T, 6) WIDE_CASE(T, 7) WIDE_CASE(T, 8)
#elif WIDE_ROWS == 6
  #define MORE_WIDE_CASES(T) WIDE_CASE(T, 5) WIDE_CASE(T, 6)
#else
  #define MORE_WIDE_CASES(T)
#endif

DEFINE_TILES(float, int)
DEFINE_TILES(double, long long)
DEFINE_WIDE_TILE(float)
DEFINE_WIDE_TILE(double)
DEFINE_TRANSPOSE(float)
DEFINE_TRANSPOSE(double)

#endif
