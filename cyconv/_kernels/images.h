/* Two register tiles whose vectors hold as many images, each number of an image being a line of its own.

   images_tile: C[v][m] = relu?(bias[m] + sum over b < batch, k < K of
                                B[b*b_step + v*pixel + k] * A[b*a_step + k*M + m]): lines of C and B, scalars of A
   and bias, if there is one; V pixels of M channels. As in simd.h, C takes in the sums of some lines b at a time.
   sums_tile: C[m][v] += sum over b < batch, k < K of A[b*a_step + k*a_pixel + m] * B[b*b_step + k*b_pixel + v]:
   all are lines, whose lanes are left to be added up. */

#ifndef CYCONV_IMAGES_H
#define CYCONV_IMAGES_H

#include "simd.h"

#if VECTOR_BYTES == 64
  #define IMAGES_ROWS 8
  #define IMAGES_VECTORS(M) ((M) <= 4 ? 6 : (M) == 5 ? 5 : (M) == 6 ? 4 : 3)
  #define SUMS_ROWS 4
  #define SUMS_VECTORS 6
#else
  #define IMAGES_ROWS 4
  #define IMAGES_VECTORS(M) 3
  #define SUMS_ROWS 3
  #define SUMS_VECTORS 3
#endif
static inline ptrdiff_t cyconv_images_vectors(ptrdiff_t M) { return IMAGES_VECTORS(M); }
#define IMAGES_ARGUMENTS(T)                                                                                        \
  ptrdiff_t batch, ptrdiff_t K, const T *A, ptrdiff_t a_step, const T *B, ptrdiff_t b_step, ptrdiff_t pixel,       \
      const T *bias, int relu, T *C
#define IMAGES_PASS batch, K, A, a_step, B, b_step, pixel, bias, relu, C
#define SUMS_ARGUMENTS(T)                                                                                          \
  ptrdiff_t batch, ptrdiff_t K, const T *A, ptrdiff_t a_step, ptrdiff_t a_pixel, const T *B, ptrdiff_t b_step,     \
      ptrdiff_t b_pixel, T *C, ptrdiff_t c_row
#define SUMS_PASS batch, K, A, a_step, a_pixel, B, b_step, b_pixel, C, c_row
#define VECTOR_CASES(F, T, M) F(T, M, 1) F(T, M, 2) F(T, M, 3) MORE_VECTOR_CASES(F, T, M)
#if VECTOR_BYTES == 64
  #define MORE_VECTOR_CASES(F, T, M) F(T, M, 4) F(T, M, 5) F(T, M, 6)
#else
  #define MORE_VECTOR_CASES(F, T, M)
#endif
#define IMAGES_CASE(T, M, V) case V: if (V <= IMAGES_VECTORS(M)) images_body_##T(M, V, c_pixel, IMAGES_PASS); break;
#define SUMS_CASE(T, M, V) case V: sums_body_##T(M, V, SUMS_PASS); break;
#define IMAGES_ROW(T, M)                                                                                           \
  static __attribute__((noinline)) void images_##T##_##M(ptrdiff_t V, ptrdiff_t c_pixel, IMAGES_ARGUMENTS(T)) {    \
    switch (V) { VECTOR_CASES(IMAGES_CASE, T, M) }                                                                 \
  }
#define SUMS_ROW(T, M)                                                                                             \
  static __attribute__((noinline)) void sums_##T##_##M(ptrdiff_t V, SUMS_ARGUMENTS(T)) {                           \
    switch (V) { VECTOR_CASES(SUMS_CASE, T, M) }                                                                   \
  }
#define DEFINE_IMAGE_TILES(T)                                                                                      \
  INLINE void images_body_##T(const int M, const int V, ptrdiff_t c_pixel, IMAGES_ARGUMENTS(T)) {                  \
    const ptrdiff_t L = LANES(T);                                                                                  \
    vector_##T c[IMAGES_ROWS][6];                                                                                  \
    UNROLL for (int m = 0; m < M; m++)                                                                             \
      UNROLL for (int v = 0; v < V; v++) c[m][v] = (vector_##T){0};                                                \
    ptrdiff_t terms = 0;                                                                                           \
    int carried = 0;                                                                                               \
    for (ptrdiff_t b = 0; b < batch; b++, terms += K) {                                                            \
      const T *a = A + b * a_step, *line = B + b * b_step;                                                         \
      if (b && terms + K > SUM_BLOCK) {                                                                            \
        UNROLL for (int v = 0; v < V; v++)                                                                         \
          UNROLL for (int m = 0; m < M; m++) {                                                                     \
            vector_##T *sum = (vector_##T *)(C + v * c_pixel + m * L);                                             \
            if (carried) c[m][v] += *sum;                                                                          \
            *sum = c[m][v];                                                                                        \
            c[m][v] = (vector_##T){0};                                                                             \
          }                                                                                                        \
        carried = 1;                                                                                               \
        terms = 0;                                                                                                 \
      }                                                                                                            \
      for (ptrdiff_t k = 0; k < K; k++, a += M, line += L) {                                                       \
        vector_##T x[6];                                                                                           \
        UNROLL for (int v = 0; v < V; v++) x[v] = AT(T, line + v * pixel);                                         \
        UNROLL for (int m = 0; m < M; m++)                                                                         \
          UNROLL for (int v = 0; v < V; v++) c[m][v] += a[m] * x[v];                                               \
      }                                                                                                            \
    }                                                                                                              \
    UNROLL for (int v = 0; v < V; v++)                                                                             \
      UNROLL for (int m = 0; m < M; m++) {                                                                         \
        if (carried) c[m][v] += AT(T, C + v * c_pixel + m * L);                                                    \
        if (bias) c[m][v] += bias[m];                                                                              \
        *(vector_##T *)(C + v * c_pixel + m * L) = relu ? relu_##T(c[m][v]) : c[m][v];                             \
      }                                                                                                            \
  }                                                                                                                \
  INLINE void sums_body_##T(const int M, const int V, SUMS_ARGUMENTS(T)) {                                         \
    const ptrdiff_t L = LANES(T);                                                                                  \
    vector_##T c[SUMS_ROWS][SUMS_VECTORS];                                                                         \
    UNROLL for (int m = 0; m < M; m++)                                                                             \
      UNROLL for (int v = 0; v < V; v++) c[m][v] = (vector_##T){0};                                                \
    for (ptrdiff_t b = 0; b < batch; b++) {                                                                        \
      const T *a = A + b * a_step, *line = B + b * b_step;                                                         \
      for (ptrdiff_t k = 0; k < K; k++, a += a_pixel, line += b_pixel) {                                           \
        vector_##T g[SUMS_ROWS];                                                                                   \
        UNROLL for (int m = 0; m < M; m++) g[m] = AT(T, a + m * L);                                                \
        UNROLL for (int v = 0; v < V; v++) {                                                                       \
          const vector_##T x = AT(T, line + v * L);                                                                \
          UNROLL for (int m = 0; m < M; m++) c[m][v] += g[m] * x;                                                  \
        }                                                                                                          \
      }                                                                                                            \
    }                                                                                                              \
    UNROLL for (int m = 0; m < M; m++)                                                                             \
      UNROLL for (int v = 0; v < V; v++) *(vector_##T *)(C + m * c_row + v * L) += c[m][v];                        \
  }                                                                                                                \
  FOR_IMAGES_ROWS(IMAGES_ROW, T)                                                                                   \
  FOR_SUMS_ROWS(SUMS_ROW, T)                                                                                       \
  static inline void cyconv_images_tile_##T(ptrdiff_t M, ptrdiff_t V, ptrdiff_t c_pixel, IMAGES_ARGUMENTS(T)) {    \
    switch (M) { FOR_IMAGES_ROWS(IMAGES_CALL, T) }                                                                 \
  }                                                                                                                \
  static inline void cyconv_sums_tile_##T(ptrdiff_t M, ptrdiff_t V, SUMS_ARGUMENTS(T)) {                           \
    switch (M) { FOR_SUMS_ROWS(SUMS_CALL, T) }                                                                     \
  }
#define IMAGES_CALL(T, M) case M: images_##T##_##M(V, c_pixel, IMAGES_PASS); break;
#define SUMS_CALL(T, M) case M: sums_##T##_##M(V, SUMS_PASS); break;
#define FOR_FOUR_ROWS(F, T) F(T, 1) F(T, 2) F(T, 3) F(T, 4)
#if VECTOR_BYTES == 64
  #define FOR_IMAGES_ROWS(F, T) FOR_FOUR_ROWS(F, T) F(T, 5) F(T, 6) F(T, 7) F(T, 8)
  #define FOR_SUMS_ROWS(F, T) FOR_FOUR_ROWS(F, T)
#else
  #define FOR_IMAGES_ROWS(F, T) FOR_FOUR_ROWS(F, T)
  #define FOR_SUMS_ROWS(F, T) F(T, 1) F(T, 2) F(T, 3)
#endif

DEFINE_IMAGE_TILES(float)
DEFINE_IMAGE_TILES(double)

#endif
