/* Winograd's minimal filtering, float32 only, on Q x Q points: F(4x4, 3x3) and F(2x2, 5x5) on 6x6, F(4x4, 2x2) on 5x5,
   and the weight gradients F(3x3, 4x4), F(5x5, 2x2) and F(2x2, 4x4). M outputs a side and n taps a side, M + n = Q + 1.

   6 evaluate polynomials at the points 0, 1, -1, 1/2, -2 and infinity, 5 at 0, 1, -1/2, -2 and infinity, which keep the
   rounding error of such transforms lowest (Lavin and Gray, Fast algorithms for convolutional neural networks, 2016;
   Barabasz et al., Error analysis and improving the accuracy of Winograd convolution, 2020):
     image patch  V = B^T d B, QxQ -> QxQ     filter or gradient tile  U = G g G^T, nxn or MxM -> QxQ
     output or weight gradient  Y = A^T (U . V) A, QxQ -> MxM or nxn
   Points are worked on row by row, so that what lies between the transforms stays in L1. Vectors go along channels; L
   is their length. */

#ifndef CYCONV_WINOGRAD_H
#define CYCONV_WINOGRAD_H

#include "simd.h"

typedef vector_float vf;
#define LOAD(address) (*(const vf *)(address))
#define STORE(address, value) (*(vf *)(address) = (value))
#define L LANES(float)

/* Rows of the register tile for two vectors of columns; for one, twice as many. Times three points: 24 or 12 sums. */
#if TILE_ROWS >= 12
  #define WINOGRAD_ROWS 4
#else
  #define WINOGRAD_ROWS 2
#endif

#define WINOGRAD_AHEAD 64 /* bytes from a cache line that is asked for to the next, where these are consecutive */

static const float cyconv_halves[] = {1, 0.5f, 0.25f, 0.125f, 0.0625f}, cyconv_twos[] = {1, -2, 4, -8, 16},
                   cyconv_minus_halves[] = {1, -0.5f, 0.25f, -0.125f};

/* B^T: row i holds the coefficients of the product of (x - p) over all points p but the i-th; the last, over all. */
INLINE void image_line(const int Q, const vf *d, vf *v) {
  if (Q == 5) {
    v[0] = d[0] - d[3] + 1.5f * (d[1] - d[2]);
    v[1] = d[3] + d[1] + 2.5f * d[2];
    v[2] = d[3] + d[2] - 2.0f * d[1];
    v[3] = d[3] - 0.5f * (d[2] + d[1]);
    v[4] = d[4] - d[1] + 1.5f * (d[3] - d[2]);
    return;
  }
  const vf p = d[4] - d[2], q = d[3] - d[1];
  v[0] = d[0] - d[2] + p + 1.5f * q;
  v[1] = d[4] + 0.5f * d[2] + 2.5f * d[3] - d[1];
  v[2] = d[4] - 2.5f * d[2] + 0.5f * d[3] + d[1];
  v[3] = p + 2.0f * q;
  v[4] = p - 0.5f * q;
  v[5] = d[5] - d[3] - q + 1.5f * p;
}

/* One row of it, times a column of pixels. */
INLINE vf image_row(const int Q, const int i, const float *d, ptrdiff_t step) {
#define D(k) LOAD(d + (k) * step)
  switch (i + (Q == 5) * 6) {
    case 0: return D(0) - D(2) + (D(4) - D(2)) + 1.5f * (D(3) - D(1));
    case 1: return D(4) + 0.5f * D(2) + 2.5f * D(3) - D(1);
    case 2: return D(4) - 2.5f * D(2) + 0.5f * D(3) + D(1);
    case 3: return D(4) - D(2) + 2.0f * (D(3) - D(1));
    case 4: return D(4) - D(2) - 0.5f * (D(3) - D(1));
    case 5: return D(5) - D(3) - (D(3) - D(1)) + 1.5f * (D(4) - D(2));
    case 6: return D(0) - D(3) + 1.5f * (D(1) - D(2));
    case 7: return D(3) + D(1) + 2.5f * D(2);
    case 8: return D(3) + D(2) - 2.0f * D(1);
    case 9: return D(3) - 0.5f * (D(2) + D(1));
    default: return D(4) - D(1) + 1.5f * (D(3) - D(2));
  }
#undef D
}

/* G: powers 0..n-1 of each point over the product of its distances from the others. */
INLINE vf filter_point(const int Q, const int i, const int n, const vf *g) {
  if (i == 0) return g[0];
  if (i == Q - 1) return g[n - 1];
  vf even = g[0], odd = g[1];
  if (i == 1 || (i == 2 && Q == 6)) {
    UNROLL for (int k = 2; k < n; k++)
      if (k % 2) odd += g[k];
      else even += g[k];
    return i == 1 ? (Q == 5 ? 2.0f / 9 : 1.0f / 3) * (even + odd) : (-1.0f / 3) * (even - odd);
  }
  vf sum = g[0];
  UNROLL for (int k = 1; k < n; k++)
    sum += (i == Q - 2 ? cyconv_twos : Q == 5 ? cyconv_minus_halves : cyconv_halves)[k] * g[k];
  if (Q == 5) return (i == 2 ? 8.0f / 9 : -1.0f / 9) * sum;
  return (i == 3 ? -16.0f / 15 : 1.0f / 15) * sum;
}
INLINE void filter_line(const int Q, const int n, const vf *g, vf *u) {
  UNROLL for (int i = 0; i < Q; i++) u[i] = filter_point(Q, i, n, g);
}

/* A^T: powers 0..n-1 of the points; the first three points' share, and what the others add. */
INLINE vf first_points(const int Q, const int r, const vf m0, const vf m1, const vf m2) {
  const float power = Q == 5 ? cyconv_minus_halves[r] : r % 2 ? -1 : 1;
  if (r == 0) return m1 + power * m2 + m0;
  return m1 + power * m2;
}
INLINE void output_line(const int Q, const int n, const vf *m, vf *y) {
  UNROLL for (int r = 0; r < n; r++) {
    y[r] = first_points(Q, r, m[0], m[1], m[2]);
    if (Q == 6) y[r] += cyconv_halves[r] * m[3];
    y[r] += cyconv_twos[r] * m[Q - 2];
    if (r == n - 1) y[r] += m[Q - 1];
  }
}

/* Row i of a patch's points, C channels: V[(c / L * Q + j) * point_step]. Pixels and lines have any distance. */
INLINE void image_points(const int Q, const int i, const float *d, ptrdiff_t line, ptrdiff_t pixel, ptrdiff_t C,
                         float *V, ptrdiff_t point_step) {
  for (ptrdiff_t c = 0; c < C; c += L, V += Q * point_step) {
    vf column[6], v[6];
    UNROLL for (int j = 0; j < Q; j++) column[j] = image_row(Q, i, d + j * pixel + c, line);
    image_line(Q, column, v);
    UNROLL for (int j = 0; j < Q; j++) STORE(V + j * point_step, v[j]);
  }
}
static __attribute__((noinline)) void image_patch(int Q_i, const float *d, ptrdiff_t line, ptrdiff_t pixel,
                                                  ptrdiff_t C, float *V, ptrdiff_t point_step) {
#define IMAGE_CASE(Q, i) case Q * 8 + i: image_points(Q, i, d, line, pixel, C, V, point_step); break;
  switch (Q_i) {
    IMAGE_CASE(6, 0) IMAGE_CASE(6, 1) IMAGE_CASE(6, 2) IMAGE_CASE(6, 3) IMAGE_CASE(6, 4) IMAGE_CASE(6, 5)
    IMAGE_CASE(5, 0) IMAGE_CASE(5, 1) IMAGE_CASE(5, 2) IMAGE_CASE(5, 3) IMAGE_CASE(5, 4)
  }
}

/* The same of many patches, of each the S x S phases whose pixels are S apart:
     V[tile / rows][phase * C / L + c / L][j][tile % rows][L] */
INLINE void winograd_image(int Q, int i, ptrdiff_t S, const float *const *corners, ptrdiff_t count, ptrdiff_t line,
                           ptrdiff_t pixel, ptrdiff_t C, const ptrdiff_t rows, float *V) {
  for (ptrdiff_t tile = 0; tile < count; tile += rows)
    for (ptrdiff_t h = 0; h < S; h++)
      for (ptrdiff_t w = 0; w < S; w++, V += rows * Q * C)
        for (ptrdiff_t row = 0; row < rows; row++)
          image_patch(Q * 8 + i, corners[tile + row] + h * line + w * pixel, S * line, S * pixel, C, V + row * L,
                      rows * L);
}

/* Row i of the points of gradient tiles of M x M pixels, D channels, two vectors at a time or the one that is left:
     points[pair of vectors][tile][j][W][L] */
#define GRADIENT_ARGUMENTS                                                                                         \
  const float *const *corners, ptrdiff_t count, ptrdiff_t line, ptrdiff_t pixel, ptrdiff_t D, float *points
INLINE void gradient_points(const int Q, const int i, const int M, GRADIENT_ARGUMENTS) {
  for (ptrdiff_t tile = 0; tile < count; tile++)
    for (ptrdiff_t c = 0; c < D; c += L) {
      const ptrdiff_t pair = c / (2 * L) * (2 * L), step = D - pair > L ? 2 * L : L;
      float *target = points + pair * count * Q + tile * Q * step + (c - pair);
      vf row[4], d[6];
      UNROLL for (int j = 0; j < M; j++) {
        vf column[4];
        UNROLL for (int k = 0; k < M; k++) column[k] = LOAD(corners[tile] + k * line + j * pixel + c);
        row[j] = filter_point(Q, i, M, column);
      }
      filter_line(Q, M, row, d);
      UNROLL for (int j = 0; j < Q; j++) STORE(target + j * step, d[j]);
    }
}
static void winograd_gradient(int Q, int i, int M, GRADIENT_ARGUMENTS) {
#define GRADIENT_CASE(Q, M, i)                                                                                     \
  case Q * 64 + M * 8 + i: gradient_points(Q, i, M, corners, count, line, pixel, D, points); break;
#define GRADIENT_CASES(Q, M)                                                                                       \
  GRADIENT_CASE(Q, M, 0) GRADIENT_CASE(Q, M, 1) GRADIENT_CASE(Q, M, 2) GRADIENT_CASE(Q, M, 3) GRADIENT_CASE(Q, M, 4)
  switch (Q * 64 + M * 8 + i) {
    GRADIENT_CASES(6, 4) GRADIENT_CASE(6, 4, 5)
    GRADIENT_CASES(6, 2) GRADIENT_CASE(6, 2, 5)
    GRADIENT_CASES(5, 4)
  }
}

/* n x n taps of one vector of columns -> U[i * row_step + j / 3 * half_step + j % 3 * point_step]. */
INLINE void filter_points(const int Q, const int n, const float *taps, ptrdiff_t step, float *U, ptrdiff_t row_step,
                          ptrdiff_t half_step, ptrdiff_t point_step) {
  vf t[6][5], u[6];
  UNROLL for (int j = 0; j < n; j++) {
    vf g[5];
    UNROLL for (int i = 0; i < n; i++) g[i] = LOAD(taps + (i * n + j) * step);
    filter_line(Q, n, g, u);
    UNROLL for (int i = 0; i < Q; i++) t[i][j] = u[i];
  }
  UNROLL for (int i = 0; i < Q; i++) {
    filter_line(Q, n, t[i], u);
    UNROLL for (int j = 0; j < Q; j++) STORE(U + i * row_step + j / 3 * half_step + j % 3 * point_step, u[j]);
  }
}
static void winograd_filter(ptrdiff_t n, const float *taps, ptrdiff_t step, float *U, ptrdiff_t row_step,
                            ptrdiff_t half_step, ptrdiff_t point_step) {
  if (n == 2) filter_points(5, 2, taps, step, U, row_step, half_step, point_step);
  else if (n == 3) filter_points(6, 3, taps, step, U, row_step, half_step, point_step);
  else filter_points(6, 5, taps, step, U, row_step, half_step, point_step);
}

/* The register tile, half a row of points, three or the two that are left of five, so that few channels keep it busy:
     sums[r][j][w] += sum over k < K of a(r)[j * point_step + k] * B[k][j][w]
   for W vectors w. Rows r come in one or two groups, at a and b, row_step apart. A's k runs along a vector and goes on
   a_jump after its end (forward), or has steps of a_jump throughout (`along` 0, the weight gradient). Each step also
   asks for a cache line from `ahead` on, ahead_step bytes after the one before. */
#define PRODUCT_ARGUMENTS                                                                                          \
  const float *a, const float *b, ptrdiff_t a_jump, const float *B, ptrdiff_t b_step, ptrdiff_t K, float *sums,    \
      int start, const char *ahead
#define PRODUCT_PASS a, b, a_jump, B, b_step, K, sums, start, ahead

INLINE void add_products(const int W, const int points, const int along, vf m[][3][2], PRODUCT_ARGUMENTS,
                         ptrdiff_t ahead_step) {
  const int rows = WINOGRAD_ROWS * (3 - W), steps = along ? L : 1;
  const ptrdiff_t row_step = along ? L : 1, point_step = along ? WINOGRAD_ROWS * L : L;
  UNROLL for (int r = 0; r < rows; r++)
    UNROLL for (int j = 0; j < points; j++)
      UNROLL for (int w = 0; w < W; w++) m[r][j][w] = (vf){0};
  for (ptrdiff_t k0 = 0; k0 < K; k0 += steps, a += a_jump, b += a_jump) {
    _Pragma("GCC unroll 2") for (int k = 0; k < steps; k++, a += along, b += along, B += b_step) {
      __builtin_prefetch(ahead, 0, 2);
      ahead += ahead_step;
      UNROLL for (int j = 0; j < points; j++) {
        vf line[2];
        UNROLL for (int w = 0; w < W; w++) line[w] = LOAD(B + (j * W + w) * L);
        UNROLL for (int r = 0; r < rows; r++) {
          const float scalar = (r < WINOGRAD_ROWS ? a : b)[j * point_step + r % WINOGRAD_ROWS * row_step];
          UNROLL for (int w = 0; w < W; w++) m[r][j][w] += scalar * line[w];
        }
      }
    }
  }
  if (!start) /* after the products: short sums round less */
    UNROLL for (int r = 0; r < rows; r++)
      UNROLL for (int j = 0; j < points; j++)
        UNROLL for (int w = 0; w < W; w++) m[r][j][w] += LOAD(sums + ((r * 3 + j) * W + w) * L);
}

INLINE void store_sums(const int W, const int points, vf m[][3][2], float *sums) {
  UNROLL for (int r = 0; r < WINOGRAD_ROWS * (3 - W); r++)
    UNROLL for (int j = 0; j < points; j++)
      UNROLL for (int w = 0; w < W; w++) STORE(sums + ((r * 3 + j) * W + w) * L, m[r][j][w]);
}

/* Tiles of an image: after the last k their points are transformed to M columns, which the row's other half completes:
   t[r * tile_step + w * vector_step + column * L]. */
INLINE void multiply_body(const int W, const int Q, const int M, const int half, PRODUCT_ARGUMENTS, int end, float *t,
                          ptrdiff_t tile_step, ptrdiff_t vector_step) {
  const int points = half ? Q - 3 : 3;
  vf m[2 * WINOGRAD_ROWS][3][2];
  add_products(W, points, 1, m, PRODUCT_PASS, WINOGRAD_AHEAD);
  if (!end) {
    store_sums(W, points, m, sums);
    return;
  }
  UNROLL for (int r = 0; r < WINOGRAD_ROWS * (3 - W); r++)
    UNROLL for (int w = 0; w < W; w++) {
      float *y = t + r * tile_step + w * vector_step;
      const vf m0 = m[r][0][w], m1 = m[r][1][w], last = m[r][points - 1][w];
      if (half == 0) {
        UNROLL for (int k = 0; k < M; k++)
          if (Q == 5 || k < 3) STORE(y + k * L, first_points(Q, k, m0, m1, last)); /* of 6, column 3 is as column 1 */
      } else {
        vf before[4];
        UNROLL for (int k = 0; k < M; k++) before[k] = LOAD(y + (Q == 6 && k == 3 ? 1 : k) * L);
        UNROLL for (int k = 0; k < M; k++) {
          if (Q == 6) before[k] += cyconv_halves[k] * m0;
          before[k] += cyconv_twos[k] * (Q == 6 ? m1 : m0);
          if (k == M - 1) before[k] += last;
          STORE(y + k * L, before[k]);
        }
      }
    }
}
#define MULTIPLY(W, Q, M, half)                                                                                    \
  static __attribute__((noinline)) void multiply_##W##_##Q##_##M##_##half(                                         \
      PRODUCT_ARGUMENTS, int end, float *t, ptrdiff_t tile_step, ptrdiff_t vector_step) {                          \
    multiply_body(W, Q, M, half, PRODUCT_PASS, end, t, tile_step, vector_step);                                    \
  }
#define MULTIPLY_ALL(W, Q, M) MULTIPLY(W, Q, M, 0) MULTIPLY(W, Q, M, 1)
MULTIPLY_ALL(1, 6, 4) MULTIPLY_ALL(1, 6, 2) MULTIPLY_ALL(1, 5, 4)
MULTIPLY_ALL(2, 6, 4) MULTIPLY_ALL(2, 6, 2) MULTIPLY_ALL(2, 5, 4)
static void (*const multiply_bodies[2][3][2])(PRODUCT_ARGUMENTS, int end, float *t, ptrdiff_t tile_step,
                                              ptrdiff_t vector_step) = {
  {{multiply_1_6_4_0, multiply_1_6_4_1}, {multiply_1_6_2_0, multiply_1_6_2_1}, {multiply_1_5_4_0, multiply_1_5_4_1}},
  {{multiply_2_6_4_0, multiply_2_6_4_1}, {multiply_2_6_2_0, multiply_2_6_2_1}, {multiply_2_5_4_0, multiply_2_5_4_1}},
};
INLINE void winograd_multiply(ptrdiff_t W, ptrdiff_t Q, ptrdiff_t M, ptrdiff_t half, PRODUCT_ARGUMENTS, int end,
                              float *t, ptrdiff_t tile_step, ptrdiff_t vector_step) {
  multiply_bodies[W - 1][Q == 5 ? 2 : M == 2][half](PRODUCT_PASS, end, t, tile_step, vector_step);
}

/* Rows are input channels, k tiles: the weight gradient's sums stay points until all tiles are added. */
#define ADD_PRODUCTS(W, points)                                                                                    \
  static __attribute__((noinline)) void add_products_##W##_##points(PRODUCT_ARGUMENTS, ptrdiff_t ahead_step) {     \
    vf m[2 * WINOGRAD_ROWS][3][2];                                                                                 \
    add_products(W, points, 0, m, PRODUCT_PASS, ahead_step);                                                       \
    store_sums(W, points, m, sums);                                                                                \
  }
ADD_PRODUCTS(1, 3) ADD_PRODUCTS(2, 3) ADD_PRODUCTS(1, 2) ADD_PRODUCTS(2, 2)
INLINE void winograd_add_products(ptrdiff_t W, ptrdiff_t points, PRODUCT_ARGUMENTS, ptrdiff_t ahead_step) {
  if (points == 3) (W == 2 ? add_products_2_3 : add_products_1_3)(PRODUCT_PASS, ahead_step);
  else (W == 2 ? add_products_2_2 : add_products_1_2)(PRODUCT_PASS, ahead_step);
}

/* t[Q][M][L], columns transformed already -> rows x columns pixels, at most M x M, of `lanes` channels. */
INLINE void output_body(const int Q, const int M, const int plain, const float *t, const float *bias, ptrdiff_t addend,
                        int finish, float *out, ptrdiff_t out_h, ptrdiff_t out_w, ptrdiff_t rows, ptrdiff_t columns,
                        ptrdiff_t lanes) {
  const vf start = LOAD(bias);
  UNROLL for (int k = 0; k < M; k++) {
    vf m[6], y[4];
    UNROLL for (int i = 0; i < Q; i++) m[i] = LOAD(t + (i * M + k) * L);
    output_line(Q, M, m, y);
    UNROLL for (int r = 0; r < M; r++)
      if (plain || (r < rows && k < columns)) {
        float *target = out + r * out_h + k * out_w;
        y[r] += start;
        if (!plain && lanes < L) {
          store_edge_float((const float *)&y[r], lanes, target, addend, finish);
          continue;
        }
        if (!plain && finish & ADD_ARRAY) y[r] += LOAD(beside_float(target, addend));
        if (!plain && finish & RELU) y[r] = relu_float(y[r]);
        STORE(target, y[r]);
      }
  }
}
static void winograd_output(ptrdiff_t Q, ptrdiff_t M, const float *t, const float *bias, ptrdiff_t addend, int finish,
                            float *out, ptrdiff_t out_h, ptrdiff_t out_w, ptrdiff_t rows, ptrdiff_t columns,
                            ptrdiff_t lanes) {
#define OUTPUT_PASS t, bias, addend, finish, out, out_h, out_w, rows, columns, lanes
  const int plain = rows == M && columns == M && lanes == L && !finish;
  if (Q == 5) plain ? output_body(5, 4, 1, OUTPUT_PASS) : output_body(5, 4, 0, OUTPUT_PASS);
  else if (M == 4) plain ? output_body(6, 4, 1, OUTPUT_PASS) : output_body(6, 4, 0, OUTPUT_PASS);
  else plain ? output_body(6, 2, 1, OUTPUT_PASS) : output_body(6, 2, 0, OUTPUT_PASS);
}

/* Sums of the points, each at its offset -> n x n taps of one vector of columns, weights[i * line + j * step]. */
INLINE void weight_body(const int Q, const int n, const float *sums, const ptrdiff_t *offset, float *weights,
                        ptrdiff_t line, ptrdiff_t step) {
  vf t[5][6], y[5];
  UNROLL for (int j = 0; j < Q; j++) {
    vf m[6];
    UNROLL for (int i = 0; i < Q; i++) m[i] = LOAD(sums + offset[i * 6 + j]);
    output_line(Q, n, m, y);
    UNROLL for (int i = 0; i < n; i++) t[i][j] = y[i];
  }
  UNROLL for (int i = 0; i < n; i++) {
    output_line(Q, n, t[i], y);
    UNROLL for (int j = 0; j < n; j++) STORE(weights + i * line + j * step, y[j]);
  }
}
static void winograd_weight(ptrdiff_t n, const float *sums, const ptrdiff_t *offset, float *weights, ptrdiff_t line,
                            ptrdiff_t step) {
  if (n == 2) weight_body(5, 2, sums, offset, weights, line, step);
  else if (n == 3) weight_body(6, 3, sums, offset, weights, line, step);
  else weight_body(6, 5, sums, offset, weights, line, step);
}

#undef L
#endif
