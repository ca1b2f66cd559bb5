/* The register tile, and the only place that knows a vector's width; grouped.h and winograd.h build on it.

   tile: C[m][n] = sum over b < batch, k < K of  rows[m][a_offset[b] + k*a_step] * B[b_offset[b] + k*ldb + n]
   and then what `finish` asks for, in this order: a bias vector is added, if given; ADD_ARRAY, what lies `addend` bytes
   from C's own element (at 0, C itself, which so accumulates); RELU, which lets NaN pass. All that comes last, so that
   the accumulators begin as constants: with anything else gcc spills them. Rows of A and C are given by pointers, so a
   tile may run over the end of an image line and on to the next image; A may be an image in place, its transpose, or a
   matrix. Scalars of A are broadcast, B and C are vectors. k is unrolled: one load of a row's pointer serves several
   steps. An accumulator adds up SUM_BLOCK products, then a sum of such blocks in memory takes it in: a rounding error
   grows with the square root of the number of additions, n, and so with that of SUM_BLOCK/2 + n/SUM_BLOCK/2 instead of
   n/2 (Higham, The accuracy of floating point summation, 1993). Each step also asks for a cache line at `ahead`, ahead_step bytes after the last one, which a later tile will
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
#define LOOSE_STEPS (TILE_ROWS > 8 ? 2 : 4) /* where a row's numbers do not follow each other */
#define SHORT_RUN 32   /* below that, what is left of so many steps weighs too much */
#define SUM_BLOCK 144 /* steps of k that one accumulator adds up: a multiple of all numbers of steps that are unrolled */
#define LANES(T) ((ptrdiff_t)(VECTOR_BYTES / sizeof(T)))
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
/* Keeps an address in a register of its own: gcc would keep that of every line, or the memory's contents. */
#define HOLD_ADDRESS(p) __asm__("" : "+r"(p))
#define AT(T, address) (*(const vector_##T *)(address))
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
    const ptrdiff_t whole = K - K % U;                                                                             \
    vector_##T c[TILE_ROWS][MOST_VECTORS];                                                                         \
    T sums[TILE_ROWS * MOST_VECTORS * (VECTOR_BYTES / sizeof(T))], *carried = NULL;                                \
    UNROLL for (int m = 0; m < M; m++)                                                                             \
      UNROLL for (int v = 0; v < V; v++) {                                                                         \
        c[m][v] = (vector_##T){0};                                                                                 \
        __builtin_prefetch(c_rows[m] + c_offset + v * L, 1, 3);                                                    \
      }                                                                                                            \
    /* Blocks are whole numbers of runs, or parts of one. */                                                       \
    const ptrdiff_t runs = whole < SUM_BLOCK && whole ? SUM_BLOCK / whole : 1;                                     \
    for (ptrdiff_t b0 = 0; b0 < batch; b0 += runs) {                                                               \
      const ptrdiff_t stop = batch - b0 < runs ? batch : b0 + runs;                                                \
      for (ptrdiff_t k0 = 0; k0 < whole; k0 += SUM_BLOCK) {                                                        \
        if (b0 + k0 > 0) {                                                                                         \
          if (carried)                                                                                             \
            UNROLL for (int m = 0; m < M; m++)                                                                     \
              UNROLL for (int v = 0; v < V; v++) c[m][v] += AT(T, carried + (m * V + v) * L);                      \
          carried = sums;                                                                                          \
          HOLD_ADDRESS(carried); /* or gcc would keep some of the sums in registers, which the loop below needs */ \
          UNROLL for (int m = 0; m < M; m++)                                                                       \
            UNROLL for (int v = 0; v < V; v++) {                                                                   \
              *(vector_##T *)(carried + (m * V + v) * L) = c[m][v];                                                \
              c[m][v] = (vector_##T){0};                                                                           \
            }                                                                                                      \
        }                                                                                                          \
        const ptrdiff_t last = whole - k0 < SUM_BLOCK ? whole : k0 + SUM_BLOCK;                                    \
        for (ptrdiff_t b = b0; b < stop; b++) {                                                                    \
          const T *restrict w = B + b_offset[b] + k0 * ldb;                                                        \
          ptrdiff_t a = a_offset[b] + k0 * step;                                                                   \
          for (ptrdiff_t k = k0; k < last; k += U, a += U * step, w += U * ldb) {                                  \
            if (V == 1) {                                                                                          \
              vector_##T line[MOST_STEPS];                                                                         \
              UNROLL for (int u = 0; u < U; u++) line[u] = AT(T, w + u * ldb);                                     \
              UNROLL for (int m = 0; m < M; m++) {                                                                 \
                const T *row = rows[m] + a;                                                                        \
                UNROLL for (int u = 0; u < U; u++) c[m][0] += row[u * step] * line[u];                             \
              }                                                                                                    \
            } else                                                                                                 \
              UNROLL for (int u = 0; u < U; u++) {                                                                 \
                vector_##T line[MOST_VECTORS];                                                                     \
                UNROLL for (int v = 0; v < V; v++) line[v] = AT(T, w + u * ldb + v * L);                           \
                __builtin_prefetch(ahead, 0, 2);                                                                   \
                ahead += ahead_step;                                                                               \
                UNROLL for (int m = 0; m < M; m++) {                                                               \
                  const T scalar = rows[m][a + u * step];                                                          \
                  UNROLL for (int v = 0; v < V; v++) c[m][v] += scalar * line[v];                                  \
                }                                                                                                  \
              }                                                                                                    \
          }                                                                                                        \
        }                                                                                                          \
      }                                                                                                            \
    }                                                                                                              \
    for (ptrdiff_t k = whole; k < K; k++) /* apart from the loop above, where it would make gcc spill */           \
      for (ptrdiff_t b = 0; b < batch; b++) {                                                                      \
        vector_##T line[MOST_VECTORS];                                                                             \
        UNROLL for (int v = 0; v < V; v++) line[v] = AT(T, B + b_offset[b] + k * ldb + v * L);                     \
        UNROLL for (int m = 0; m < M; m++) {                                                                       \
          const T scalar = rows[m][a_offset[b] + k * step];                                                        \
          UNROLL for (int v = 0; v < V; v++) c[m][v] += scalar * line[v];                                          \
        }                                                                                                          \
      }                                                                                                            \
    if (carried)                                                                                                   \
      UNROLL for (int m = 0; m < M; m++)                                                                           \
        UNROLL for (int v = 0; v < V; v++) c[m][v] += AT(T, carried + (m * V + v) * L);                            \
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

/* Lists of a vector's lanes: LANES_16(F, W, h) is F(0, W, h, 16), F(1, W, h, 16), ... */
#define LANES_2(F, W, h, L) F(0, W, h, L), F(1, W, h, L)
#define LANES_4(F, W, h, L) LANES_2(F, W, h, L), F(2, W, h, L), F(3, W, h, L)
#define LANES_8(F, W, h, L) LANES_4(F, W, h, L), F(4, W, h, L), F(5, W, h, L), F(6, W, h, L), F(7, W, h, L)
#define LANES_16(F, W, h, L) LANES_8(F, W, h, L), F(8, W, h, L), F(9, W, h, L), F(10, W, h, L), F(11, W, h, L),    \
  F(12, W, h, L), F(13, W, h, L), F(14, W, h, L), F(15, W, h, L)
/* Of each piece of W lanes, deal those from h on of two vectors alternately; join the first W lanes of two vectors. */
#define DEALT(k, W, h, L) (k) / (W) * (W) + (h) + (k) % (W) / 2 + (k) % 2 * (L)
#define JOINED(k, W, h, L) (k) % (W) + (k) / (W) % 2 * (L)
#ifdef __clang__
  #define SHUFFLE(T, N, a, b, F, W, h) __builtin_shufflevector(a, b, LANES_##N(F, W, h, N))
#else
  #define SHUFFLE(T, N, a, b, F, W, h) __builtin_shuffle(a, b, (index_##T){LANES_##N(F, W, h, N)})
#endif

/* Between lines of W numbers and W lines of a whole vector: to_planes reads N lines, of which the first `count` columns
   become lines of their own, and to_pixels the reverse, in rising order, writing W numbers a line even if only some
   have a meaning. P = N/W pieces of W lanes lie side by side in a vector; in each, log2(W) rounds that deal rows i and
   i + W/2 alternately leave column j in row j. */
#define DEAL_ROUNDS(T, N, W)                                                                                       \
  UNROLL for (int side = 1; side < W; side *= 2) {                                                                 \
    UNROLL for (int i = 0; i < W / 2; i++) {                                                                       \
      b[2 * i] = SHUFFLE(T, N, a[i], a[i + W / 2], DEALT, W, 0);                                                   \
      b[2 * i + 1] = SHUFFLE(T, N, a[i], a[i + W / 2], DEALT, W, W / 2);                                           \
    }                                                                                                              \
    UNROLL for (int i = 0; i < W; i++) a[i] = b[i];                                                                \
  }
#define DEFINE_PLANES(T, N, W, NAME)                                                                               \
  INLINE void to_planes_##NAME##_##T(const T *source, ptrdiff_t step, T *target, ptrdiff_t plane, ptrdiff_t count) { \
    vector_##T a[W], b[W];                                                                                         \
    UNROLL for (int i = 0; i < W; i++) {                                                                           \
      a[i] = AT(T, source + i * step);                                                                             \
      if (N / W >= 2) a[i] = SHUFFLE(T, N, a[i], AT(T, source + (i + W) * step), JOINED, W, 0);                    \
      if (N / W == 4) {                                                                                            \
        b[i] = SHUFFLE(T, N, AT(T, source + (i + 2 * W) * step), AT(T, source + (i + 3 * W) * step), JOINED, W, 0);\
        a[i] = SHUFFLE(T, N, a[i], b[i], JOINED, 2 * W, 0);                                                        \
      }                                                                                                            \
    }                                                                                                              \
    DEAL_ROUNDS(T, N, W)                                                                                           \
    UNROLL for (int i = 0; i < W; i++)                                                                             \
      if (i < count) *(vector_##T *)(target + i * plane) = a[i];                                                   \
  }                                                                                                                \
  INLINE void to_pixels_##NAME##_##T(const T *source, ptrdiff_t plane, ptrdiff_t count, const T *bias, int relu,   \
                                     T *target, ptrdiff_t step) {                                                  \
    vector_##T a[W], b[W];                                                                                         \
    UNROLL for (int i = 0; i < W; i++) {                                                                           \
      const ptrdiff_t c = i < count ? i : 0;                                                                       \
      a[i] = AT(T, source + c * plane);                                                                            \
      if (bias) a[i] += bias[c];                                                                                   \
      if (relu) a[i] = relu_##T(a[i]);                                                                             \
    }                                                                                                              \
    DEAL_ROUNDS(T, N, W)                                                                                           \
    UNROLL for (int p = 0; p < N / W; p++)                                                                         \
      UNROLL for (int i = 0; i < W; i++)                                                                           \
        memcpy(target + (p * W + i) * step, (const T *)&a[i] + p * W, W * sizeof(T));                              \
  }

/* A line's numbers that to_pixels writes for `count` columns: the smallest piece that holds them. */
#define DEFINE_TRANSPOSES(T, N, HALF, QUARTER)                                                                     \
  DEFINE_PLANES(T, N, N, full)                                                                                     \
  DEFINE_PLANES(T, N, HALF, half)                                                                                  \
  DEFINE_PLANES(T, N, QUARTER, quarter)                                                                            \
  static inline ptrdiff_t cyconv_piece_##T(ptrdiff_t count) {                                                      \
    return 2 * count > N ? N : 4 * count > N ? HALF : QUARTER;                                                     \
  }                                                                                                                \
  static __attribute__((noinline)) void cyconv_to_planes_##T(const T *source, ptrdiff_t step, T *target,           \
                                                             ptrdiff_t plane, ptrdiff_t count) {                   \
    if (count == 1 && step == 1) *(vector_##T *)target = AT(T, source);                                            \
    else if (2 * count > N) to_planes_full_##T(source, step, target, plane, count);                                \
    else if (4 * count > N) to_planes_half_##T(source, step, target, plane, count);                                \
    else to_planes_quarter_##T(source, step, target, plane, count);                                                \
  }                                                                                                                \
  static __attribute__((noinline)) void cyconv_to_pixels_##T(const T *source, ptrdiff_t plane, ptrdiff_t count,    \
                                                             const T *bias, int relu, T *target, ptrdiff_t step) { \
    if (2 * count > N) to_pixels_full_##T(source, plane, count, bias, relu, target, step);                         \
    else if (4 * count > N) to_pixels_half_##T(source, plane, count, bias, relu, target, step);                    \
    else to_pixels_quarter_##T(source, plane, count, bias, relu, target, step);                                    \
  }                                                                                                                \
  static inline void cyconv_transpose_##T(const T *source, ptrdiff_t step, T *target, ptrdiff_t target_step) {     \
    to_planes_full_##T(source, step, target, target_step, N);                                                      \
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
    if (K % 6 == 3) tile_body_##T(M, 2, 3, 1, TILE_PASS);                                                          \
    else tile_body_##T(M, 2, 2, 1, TILE_PASS);                                                                     \
  }                                                                                                                \
  static __attribute__((noinline)) void tile_##T##_##M##_loose(TILE_ARGUMENTS(T)) {                                \
    tile_body_##T(M, 2, LOOSE_STEPS, 0, TILE_PASS);                                                                \
  }                                                                                                                \
  static __attribute__((noinline)) void tile_##T##_##M##_short(TILE_ARGUMENTS(T)) {                                \
    tile_body_##T(M, 2, 2, 0, TILE_PASS);                                                                          \
  }
#define TILE_ENTRY(T, M) {tile_##T##_##M##_1, tile_##T##_##M##_2, tile_##T##_##M##_loose, tile_##T##_##M##_short}

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
  static void (*const tiles_##T[TILE_ROWS][4])(TILE_ARGUMENTS(T)) = {FOR_EACH_ROW(TILE_ENTRY, T, COMMA)}; \
  static inline void cyconv_tile_##T(ptrdiff_t M, TILE_ARGUMENTS(T)) {                                             \
    const int kind = columns <= LANES(T) ? 0 : a_step == 1 ? 1 : K % LOOSE_STEPS && K < SHORT_RUN ? 3 : 2;         \
    tiles_##T[M - 1][kind](TILE_PASS);                                                                             \
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
#if VECTOR_BYTES == 64
DEFINE_TRANSPOSES(float, 16, 8, 4)
DEFINE_TRANSPOSES(double, 8, 4, 2)
#elif VECTOR_BYTES == 32
DEFINE_TRANSPOSES(float, 8, 4, 2)
DEFINE_TRANSPOSES(double, 4, 2, 1)
#else
DEFINE_TRANSPOSES(float, 4, 2, 1)
DEFINE_TRANSPOSES(double, 2, 1, 1)
#endif

#endif
