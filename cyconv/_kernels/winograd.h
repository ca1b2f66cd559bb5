/* Winograd's minimal filtering on 6x6 points, float32 only: F(4x4, 3x3) and F(2x2, 5x5), and the weight gradients
   F(3x3, 4x4) and F(5x5, 2x2). M outputs a side and n taps a side, M + n = 7.

   All evaluate polynomials at the points 0, 1, -1, 1/2, -2 and infinity, which keep the rounding error of 6-point
   transforms lowest (Lavin and Gray, Fast algorithms for convolutional neural networks, 2016; Barabasz et al., Error
   analysis and improving the accuracy of Winograd convolution, 2020):
     image patch  V = B^T d B, 6x6 -> 6x6     filter or gradient tile  U = G g G^T, nxn or MxM -> 6x6
     output or weight gradient  Y = A^T (U . V) A, 6x6 -> MxM or nxn
   Points are worked on row by row, six at a time, so that what lies between the transforms stays in L1. Vectors go
   along channels; L is their length. */

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

#define WINOGRAD_AHEAD 64 /* bytes from a cache line that is asked for to the next */

static const float cyconv_halves[] = {1, 0.5f, 0.25f, 0.125f, 0.0625f}, cyconv_twos[] = {1, -2, 4, -8, 16};

/* B^T: row i holds the coefficients of the product of (x - p) over all points p but the i-th; the last, over all. */
INLINE void image_line(const vf *d, vf *v) {
  const vf p = d[4] - d[2], q = d[3] - d[1];
  v[0] = d[0] - d[2] + p + 1.5f * q;
  v[1] = d[4] + 0.5f * d[2] + 2.5f * d[3] - d[1];
  v[2] = d[4] - 2.5f * d[2] + 0.5f * d[3] + d[1];
  v[3] = p + 2.0f * q;
  v[4] = p - 0.5f * q;
  v[5] = d[5] - d[3] - q + 1.5f * p;
}

/* One row of it, times a column of pixels. */
INLINE vf image_row(const int i, const float *d, ptrdiff_t step) {
#define D(k) LOAD(d + (k) * step)
  switch (i) {
    case 0: return D(0) - D(2) + (D(4) - D(2)) + 1.5f * (D(3) - D(1));
    case 1: return D(4) + 0.5f * D(2) + 2.5f * D(3) - D(1);
    case 2: return D(4) - 2.5f * D(2) + 0.5f * D(3) + D(1);
    case 3: return D(4) - D(2) + 2.0f * (D(3) - D(1));
    case 4: return D(4) - D(2) - 0.5f * (D(3) - D(1));
    default: return D(5) - D(3) - (D(3) - D(1)) + 1.5f * (D(4) - D(2));
  }
#undef D
}

/* G: powers 0..n-1 of each point over the product of its distances from the others. */
INLINE vf filter_point(const int i, const int n, const vf *g) {
  if (i == 0) return g[0];
  if (i == 5) return g[n - 1];
  vf even = g[0], odd = g[1];
  if (i <= 2) {
    UNROLL for (int k = 2; k < n; k++)
      if (k % 2) odd += g[k];
      else even += g[k];
    return i == 1 ? (1.0f / 3) * (even + odd) : (-1.0f / 3) * (even - odd);
  }
  vf sum = g[0];
  UNROLL for (int k = 1; k < n; k++) sum += (i == 3 ? cyconv_halves[k] : cyconv_twos[k]) * g[k];
  return (i == 3 ? -16.0f / 15 : 1.0f / 15) * sum;
}
INLINE void filter_line(const int n, const vf *g, vf *u) {
  UNROLL for (int i = 0; i < 6; i++) u[i] = filter_point(i, n, g);
}

/* A^T: powers 0..n-1 of the points; the first three points' share, and what the others add. */
INLINE void output_line(const int n, const vf *m, vf *y) {
  const vf sum = m[1] + m[2], difference = m[1] - m[2];
  UNROLL for (int r = 0; r < n; r++) {
    y[r] = r % 2 ? difference : sum;
    if (r == 0) y[r] += m[0];
    y[r] += cyconv_halves[r] * m[3];
    y[r] += cyconv_twos[r] * m[4];
    if (r == n - 1) y[r] += m[5];
  }
}

/* Row i of a patch's points, C channels: V[c / L * vector_step + j * point_step]. Pixels and lines have any distance. */
INLINE void image_points(const int i, const float *d, ptrdiff_t line, ptrdiff_t pixel, ptrdiff_t C, float *V,
                         ptrdiff_t vector_step, ptrdiff_t point_step) {
  for (ptrdiff_t c = 0; c < C; c += L, V += vector_step) {
    vf column[6], v[6];
    UNROLL for (int j = 0; j < 6; j++) column[j] = image_row(i, d + j * pixel + c, line);
    image_line(column, v);
    UNROLL for (int j = 0; j < 6; j++) STORE(V + j * point_step, v[j]);
  }
}
static void winograd_image(int i, const float *d, ptrdiff_t line, ptrdiff_t pixel, ptrdiff_t C, float *V,
                           ptrdiff_t vector_step, ptrdiff_t point_step) {
#define IMAGE_CASE(i) case i: image_points(i, d, line, pixel, C, V, vector_step, point_step); break;
  switch (i) { IMAGE_CASE(0) IMAGE_CASE(1) IMAGE_CASE(2) IMAGE_CASE(3) IMAGE_CASE(4) IMAGE_CASE(5) }
}

/* Row i of the points of a gradient tile of n x n pixels, one vector of channels: D[j * point_step]. */
INLINE void gradient_points(const int i, const int n, const float *g, ptrdiff_t line, ptrdiff_t pixel, float *D,
                            ptrdiff_t point_step) {
  vf row[4], d[6];
  UNROLL for (int j = 0; j < n; j++) {
    vf column[4];
    UNROLL for (int k = 0; k < n; k++) column[k] = LOAD(g + k * line + j * pixel);
    row[j] = filter_point(i, n, column);
  }
  filter_line(n, row, d);
  UNROLL for (int j = 0; j < 6; j++) STORE(D + j * point_step, d[j]);
}
static void winograd_gradient(int i, int n, const float *g, ptrdiff_t line, ptrdiff_t pixel, float *D,
                              ptrdiff_t point_step) {
#define GRADIENT_CASE(i)                                                                                           \
  case i:                                                                                                          \
    if (n == 4) gradient_points(i, 4, g, line, pixel, D, point_step);                                              \
    else gradient_points(i, 2, g, line, pixel, D, point_step);                                                     \
    break;
  switch (i) {
    GRADIENT_CASE(0) GRADIENT_CASE(1) GRADIENT_CASE(2) GRADIENT_CASE(3) GRADIENT_CASE(4) GRADIENT_CASE(5)
  }
}

/* n x n taps of one vector of columns -> U[i * row_step + j / 3 * half_step + j % 3 * point_step]. */
INLINE void filter_points(const int n, const float *taps, ptrdiff_t step, float *U, ptrdiff_t row_step,
                          ptrdiff_t half_step, ptrdiff_t point_step) {
  vf t[6][5], u[6];
  UNROLL for (int j = 0; j < n; j++) {
    vf g[5];
    UNROLL for (int i = 0; i < n; i++) g[i] = LOAD(taps + (i * n + j) * step);
    filter_line(n, g, u);
    UNROLL for (int i = 0; i < 6; i++) t[i][j] = u[i];
  }
  UNROLL for (int i = 0; i < 6; i++) {
    filter_line(n, t[i], u);
    UNROLL for (int j = 0; j < 6; j++) STORE(U + i * row_step + j / 3 * half_step + j % 3 * point_step, u[j]);
  }
}
static void winograd_filter(int n, const float *taps, ptrdiff_t step, float *U, ptrdiff_t row_step,
                            ptrdiff_t half_step, ptrdiff_t point_step) {
  if (n == 3) filter_points(3, taps, step, U, row_step, half_step, point_step);
  else filter_points(5, taps, step, U, row_step, half_step, point_step);
}

/* The register tile, three points (half of a row of them) at once so that few channels keep it busy:
     sums[r][j][w] += sum over k < K of a(r)[j * point_step + k] * B[k][j][w]
   for W vectors w. Rows r come in one or two groups, at a and b, row_step apart. A's k runs along a vector and goes on
   a_jump after its end (forward), or has steps of a_jump throughout (`along` 0, the weight gradient). Each step also
   asks for a cache line from `ahead` on. */
#define PRODUCT_ARGUMENTS                                                                                          \
  const float *a, const float *b, ptrdiff_t a_jump, const float *B, ptrdiff_t b_step, ptrdiff_t K, float *sums,    \
      int start, const char *ahead
#define PRODUCT_PASS a, b, a_jump, B, b_step, K, sums, start, ahead

INLINE void add_products(const int W, const int along, vf m[][3][2], PRODUCT_ARGUMENTS) {
  const int rows = WINOGRAD_ROWS * (3 - W), steps = along ? L : 1;
  const ptrdiff_t row_step = along ? L : 1, point_step = along ? WINOGRAD_ROWS * L : L;
  if (start)
    UNROLL for (int r = 0; r < rows; r++)
      UNROLL for (int j = 0; j < 3; j++)
        UNROLL for (int w = 0; w < W; w++) m[r][j][w] = (vf){0};
  else
    UNROLL for (int r = 0; r < rows; r++)
      UNROLL for (int j = 0; j < 3; j++)
        UNROLL for (int w = 0; w < W; w++) m[r][j][w] = LOAD(sums + ((r * 3 + j) * W + w) * L);
  for (ptrdiff_t k0 = 0; k0 < K; k0 += steps, a += a_jump, b += a_jump) {
    _Pragma("GCC unroll 2") for (int k = 0; k < steps; k++, a += along, b += along, B += b_step) {
      __builtin_prefetch(ahead, 0, 2);
      ahead += WINOGRAD_AHEAD;
      UNROLL for (int j = 0; j < 3; j++) {
        vf line[2];
        UNROLL for (int w = 0; w < W; w++) line[w] = LOAD(B + (j * W + w) * L);
        UNROLL for (int r = 0; r < rows; r++) {
          const float scalar = (r < WINOGRAD_ROWS ? a : b)[j * point_step + r % WINOGRAD_ROWS * row_step];
          UNROLL for (int w = 0; w < W; w++) m[r][j][w] += scalar * line[w];
        }
      }
    }
  }
}

INLINE void store_sums(const int W, vf m[][3][2], float *sums) {
  UNROLL for (int r = 0; r < WINOGRAD_ROWS * (3 - W); r++)
    UNROLL for (int j = 0; j < 3; j++)
      UNROLL for (int w = 0; w < W; w++) STORE(sums + ((r * 3 + j) * W + w) * L, m[r][j][w]);
}

/* Tiles of an image: after the last k their three points are transformed to M columns, which the row's other half
   completes: t[r * tile_step + w * vector_step + column * L]. */
INLINE void multiply_body(const int W, const int M, const int half, PRODUCT_ARGUMENTS, int end, float *t,
                          ptrdiff_t tile_step, ptrdiff_t vector_step) {
  vf m[2 * WINOGRAD_ROWS][3][2];
  add_products(W, 1, m, PRODUCT_PASS);
  if (!end) {
    store_sums(W, m, sums);
    return;
  }
  UNROLL for (int r = 0; r < WINOGRAD_ROWS * (3 - W); r++)
    UNROLL for (int w = 0; w < W; w++) {
      float *y = t + r * tile_step + w * vector_step;
      const vf m0 = m[r][0][w], m1 = m[r][1][w], m2 = m[r][2][w];
      if (half == 0) {
        const vf sum = m1 + m2;
        STORE(y, sum + m0);
        STORE(y + L, m1 - m2);
        if (M == 4) STORE(y + 2 * L, sum);
      } else {
        vf before[4];
        UNROLL for (int k = 0; k < M; k++) before[k] = LOAD(y + (k == 3 ? 1 : k) * L);
        UNROLL for (int k = 0; k < M; k++) {
          before[k] += cyconv_halves[k] * m0;
          before[k] += cyconv_twos[k] * m1;
          if (k == M - 1) before[k] += m2;
          STORE(y + k * L, before[k]);
        }
      }
    }
}
#define MULTIPLY(W, M, half)                                                                                       \
  static __attribute__((noinline)) void multiply_##W##_##M##_##half(                                               \
      PRODUCT_ARGUMENTS, int end, float *t, ptrdiff_t tile_step, ptrdiff_t vector_step) {                          \
    multiply_body(W, M, half, PRODUCT_PASS, end, t, tile_step, vector_step);                                       \
  }
MULTIPLY(1, 4, 0) MULTIPLY(1, 4, 1) MULTIPLY(2, 4, 0) MULTIPLY(2, 4, 1)
MULTIPLY(1, 2, 0) MULTIPLY(1, 2, 1) MULTIPLY(2, 2, 0) MULTIPLY(2, 2, 1)
static void (*const multiply_bodies[2][2][2])(PRODUCT_ARGUMENTS, int end, float *t, ptrdiff_t tile_step,
                                              ptrdiff_t vector_step) = {
  {{multiply_1_4_0, multiply_1_4_1}, {multiply_1_2_0, multiply_1_2_1}},
  {{multiply_2_4_0, multiply_2_4_1}, {multiply_2_2_0, multiply_2_2_1}},
};
INLINE void winograd_multiply(ptrdiff_t W, ptrdiff_t M, ptrdiff_t half, PRODUCT_ARGUMENTS, int end, float *t,
                              ptrdiff_t tile_step, ptrdiff_t vector_step) {
  multiply_bodies[W - 1][M == 2][half](PRODUCT_PASS, end, t, tile_step, vector_step);
}

/* Rows are input channels, k tiles: the weight gradient's sums stay points until all tiles are added. */
static __attribute__((noinline)) void add_products_1(PRODUCT_ARGUMENTS) {
  vf m[2 * WINOGRAD_ROWS][3][2];
  add_products(1, 0, m, PRODUCT_PASS);
  store_sums(1, m, sums);
}
static __attribute__((noinline)) void add_products_2(PRODUCT_ARGUMENTS) {
  vf m[2 * WINOGRAD_ROWS][3][2];
  add_products(2, 0, m, PRODUCT_PASS);
  store_sums(2, m, sums);
}
INLINE void winograd_add_products(ptrdiff_t W, PRODUCT_ARGUMENTS) {
  (W == 2 ? add_products_2 : add_products_1)(PRODUCT_PASS);
}

/* t[6][M][L], columns transformed already -> rows x columns pixels, at most M x M, of `lanes` channels. */
INLINE void output_body(const int M, const int plain, const float *t, const float *bias, ptrdiff_t addend, int finish,
                        float *out, ptrdiff_t out_h, ptrdiff_t out_w, ptrdiff_t rows, ptrdiff_t columns,
                        ptrdiff_t lanes) {
  const vf start = LOAD(bias);
  UNROLL for (int k = 0; k < M; k++) {
    vf m[6], y[4];
    UNROLL for (int i = 0; i < 6; i++) m[i] = LOAD(t + (i * M + k) * L);
    output_line(M, m, y);
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
static void winograd_output(ptrdiff_t M, const float *t, const float *bias, ptrdiff_t addend, int finish, float *out,
                            ptrdiff_t out_h, ptrdiff_t out_w, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t lanes) {
#define OUTPUT_PASS t, bias, addend, finish, out, out_h, out_w, rows, columns, lanes
  const int plain = rows == M && columns == M && lanes == L && !finish;
  if (M == 4) plain ? output_body(4, 1, OUTPUT_PASS) : output_body(4, 0, OUTPUT_PASS);
  else plain ? output_body(2, 1, OUTPUT_PASS) : output_body(2, 0, OUTPUT_PASS);
}

/* Sums of the 36 points, each at its offset -> n x n taps of one vector of columns, weights[tap * step]. */
INLINE void weight_body(const int n, const float *sums, const ptrdiff_t *offset, float *weights, ptrdiff_t step) {
  vf t[5][6], y[5];
  UNROLL for (int j = 0; j < 6; j++) {
    vf m[6];
    UNROLL for (int i = 0; i < 6; i++) m[i] = LOAD(sums + offset[i * 6 + j]);
    output_line(n, m, y);
    UNROLL for (int i = 0; i < n; i++) t[i][j] = y[i];
  }
  UNROLL for (int i = 0; i < n; i++) {
    output_line(n, t[i], y);
    UNROLL for (int j = 0; j < n; j++) STORE(weights + (i * n + j) * step, y[j]);
  }
}
static void winograd_weight(ptrdiff_t n, const float *sums, const ptrdiff_t *offset, float *weights, ptrdiff_t step) {
  if (n == 3) weight_body(3, sums, offset, weights, step);
  else weight_body(5, sums, offset, weights, step);
}

#undef L
#endif
