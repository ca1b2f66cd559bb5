/* Transforms of Winograd's minimal filtering F(4x4, 3x3) and F(3x3, 4x4), vectors along channels, float32 only.

   Both evaluate polynomials at the points 0, 1, -1, 1/2, -2 and infinity, which keep the rounding error of 6-point
   transforms lowest (Lavin and Gray, Fast algorithms for convolutional neural networks, 2016; Barabasz et al., Error
   analysis and improving the accuracy of Winograd convolution, 2020):
     image patch  V = B^T d B, 6x6 -> 6x6      filter  U = G g G^T, 3x3 -> 6x6      output  Y = A^T (U . V) A, 6x6 -> 4x4
     gradient tile  D = H y H^T, 4x4 -> 6x6    weight gradient  W = C^T (V . D) C, 6x6 -> 3x3 */

#ifndef CYCONV_WINOGRAD_H
#define CYCONV_WINOGRAD_H

#include "simd.h"

typedef vector_float vf;
#define LOAD(address) (*(const vf *)(address))
#define STORE(address, value) (*(vf *)(address) = (value))

/* B^T: row i holds the coefficients of the product of (x - p) over all points p but the i-th; the last, over all. */
INLINE void image_line(const vf *d, ptrdiff_t step, vf *v) {
  const vf d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
  const vf p = d4 - d2, q = d3 - d1;
  v[0] = d0 - d2 + p + 1.5f * q;
  v[1] = d4 + 0.5f * d2 + 2.5f * d3 - d1;
  v[2] = d4 - 2.5f * d2 + 0.5f * d3 + d1;
  v[3] = p + 2.0f * q;
  v[4] = p - 0.5f * q;
  v[5] = d5 - d3 - q + 1.5f * p;
}

/* G: powers 0..2 of each point over the product of its distances from the others. */
INLINE void filter_line(const vf *g, ptrdiff_t step, vf *u) {
  const vf g0 = g[0], g1 = g[step], g2 = g[2 * step], even = g0 + g2;
  u[0] = g0;
  u[1] = (1.0f / 3) * (even + g1);
  u[2] = (-1.0f / 3) * (even - g1);
  u[3] = (-16.0f / 15) * (g0 + 0.5f * g1 + 0.25f * g2);
  u[4] = (1.0f / 15) * (g0 - 2.0f * g1 + 4.0f * g2);
  u[5] = g2;
}

/* A^T: powers 0..3 of the points. */
INLINE void output_line(const vf *m, ptrdiff_t step, vf *y) {
  const vf m1 = m[step], m2 = m[2 * step], m3 = m[3 * step], m4 = m[4 * step];
  const vf sum = m1 + m2, difference = m1 - m2;
  y[0] = m[0] + sum + m3 + m4;
  y[1] = difference + 0.5f * m3 - 2.0f * m4;
  y[2] = sum + 0.25f * m3 + 4.0f * m4;
  y[3] = difference + 0.125f * m3 - 8.0f * m4 + m[5 * step];
}

/* H: as G with powers 0..3. */
INLINE void gradient_line(const vf *g, ptrdiff_t step, vf *d) {
  const vf g0 = g[0], g1 = g[step], g2 = g[2 * step], g3 = g[3 * step], even = g0 + g2, odd = g1 + g3;
  d[0] = g0;
  d[1] = (1.0f / 3) * (even + odd);
  d[2] = (-1.0f / 3) * (even - odd);
  d[3] = (-16.0f / 15) * (g0 + 0.5f * g1 + 0.25f * g2 + 0.125f * g3);
  d[4] = (1.0f / 15) * (g0 - 2.0f * g1 + 4.0f * g2 - 8.0f * g3);
  d[5] = g3;
}

/* C^T: powers 0..2 of the points. */
INLINE void weight_line(const vf *m, ptrdiff_t step, vf *y) {
  const vf m1 = m[step], m2 = m[2 * step], m3 = m[3 * step], m4 = m[4 * step];
  const vf sum = m1 + m2;
  y[0] = m[0] + sum + m3 + m4;
  y[1] = m1 - m2 + 0.5f * m3 - 2.0f * m4;
  y[2] = sum + 0.25f * m3 + 4.0f * m4 + m[5 * step];
}

/* 36 pixels of C channels -> transformed[point*plane + c]. */
static void winograd_image(const float *const *pixels, ptrdiff_t C, float *transformed, ptrdiff_t plane) {
  for (ptrdiff_t c = 0; c < C; c += LANES(float)) {
    vf d[36], t[36];
    UNROLL for (int j = 0; j < 6; j++) {
      vf column[6], line[6];
      UNROLL for (int i = 0; i < 6; i++) column[i] = LOAD(pixels[i * 6 + j] + c);
      image_line(column, 1, line);
      UNROLL for (int i = 0; i < 6; i++) t[i * 6 + j] = line[i];
    }
    UNROLL for (int i = 0; i < 6; i++) {
      image_line(t + i * 6, 1, d + i * 6);
      UNROLL for (int j = 0; j < 6; j++) STORE(transformed + (i * 6 + j) * plane + c, d[i * 6 + j]);
    }
  }
}

/* taps[9][rows][width] -> transformed[36][rows][width]. */
static void winograd_filter(const float *taps, ptrdiff_t size, float *transformed) {
  for (ptrdiff_t c = 0; c < size; c += LANES(float)) {
    vf g[9], t[18], u[6];
    UNROLL for (int k = 0; k < 9; k++) g[k] = LOAD(taps + k * size + c);
    UNROLL for (int j = 0; j < 3; j++) {
      filter_line(g + j, 3, u);
      UNROLL for (int i = 0; i < 6; i++) t[i * 3 + j] = u[i];
    }
    UNROLL for (int i = 0; i < 6; i++) {
      filter_line(t + i * 3, 1, u);
      UNROLL for (int j = 0; j < 6; j++) STORE(transformed + (i * 6 + j) * size + c, u[j]);
    }
  }
}

/* products[point*plane + c] -> 16 pixels; those outside the image have no address. */
static void winograd_output(const float *products, ptrdiff_t plane, ptrdiff_t C, const float *bias, ptrdiff_t addend,
                            int finish, float *const *pixels) {
  for (ptrdiff_t c = 0; c < C; c += LANES(float)) {
    vf t[24], y[4];
    const vf start = bias ? LOAD(bias + c) : (vf){0};
    UNROLL for (int j = 0; j < 6; j++) {
      vf m[6];
      UNROLL for (int i = 0; i < 6; i++) m[i] = LOAD(products + (i * 6 + j) * plane + c);
      output_line(m, 1, y);
      UNROLL for (int i = 0; i < 4; i++) t[i * 6 + j] = y[i];
    }
    UNROLL for (int i = 0; i < 4; i++) {
      output_line(t + i * 6, 1, y);
      UNROLL for (int j = 0; j < 4; j++)
        if (pixels[i * 4 + j]) {
          float *target = pixels[i * 4 + j] + c;
          y[j] += start;
          if (finish & ADD_ARRAY) y[j] += LOAD(beside_float(target, addend));
          if (finish & RELU) y[j] = relu_float(y[j]);
          STORE(target, y[j]);
        }
    }
  }
}

/* 16 pixels of C channels -> transformed[point*plane + c]. */
static void winograd_gradient(const float *const *pixels, ptrdiff_t C, float *transformed, ptrdiff_t plane) {
  for (ptrdiff_t c = 0; c < C; c += LANES(float)) {
    vf t[24], d[6];
    UNROLL for (int j = 0; j < 4; j++) {
      vf column[4];
      UNROLL for (int i = 0; i < 4; i++) column[i] = LOAD(pixels[i * 4 + j] + c);
      gradient_line(column, 1, d);
      UNROLL for (int i = 0; i < 6; i++) t[i * 4 + j] = d[i];
    }
    UNROLL for (int i = 0; i < 6; i++) {
      gradient_line(t + i * 4, 1, d);
      UNROLL for (int j = 0; j < 6; j++) STORE(transformed + (i * 6 + j) * plane + c, d[j]);
    }
  }
}

/* products[point*plane + c] -> weights[tap*step + c]. */
static void winograd_weight(const float *products, ptrdiff_t plane, ptrdiff_t C, float *weights, ptrdiff_t step) {
  for (ptrdiff_t c = 0; c < C; c += LANES(float)) {
    vf t[18], y[3];
    UNROLL for (int j = 0; j < 6; j++) {
      vf m[6];
      UNROLL for (int i = 0; i < 6; i++) m[i] = LOAD(products + (i * 6 + j) * plane + c);
      weight_line(m, 1, y);
      UNROLL for (int i = 0; i < 3; i++) t[i * 6 + j] = y[i];
    }
    UNROLL for (int i = 0; i < 3; i++) {
      weight_line(t + i * 6, 1, y);
      UNROLL for (int j = 0; j < 3; j++) STORE(weights + (i * 3 + j) * step + c, y[j]);
    }
  }
}

#endif
