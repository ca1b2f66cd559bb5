/* What batch normalisation does to rows of `width` numbers that all share their parameters, [width] each. Every pointer
   is the only way to its memory, which compilers cannot prove of the many that are needed at once.

   sum_rows:   sums[j] = sum of x, over the rows
   moments:    first[j] = sum of d, second[j] = sum of d * d, d = x - center, over the rows
   gradients:  first[j] = sum of g, second[j] = sum of g * (x - center)
   normalize:  out = x * scale + shift (+ residual), negative numbers made zero if `relu`
   propagate:  grad_x = g * a + x * b + d

   With `scale`, a ReLU stands behind: g is the gradient where x * scale + shift, rounded as in the forward pass, whose
   result need not be kept, is positive, and else zero. The last row may end early. Sums take four rows a step: fewer
   loads of the sums. */

#ifndef CYCONV_ROWS_H
#define CYCONV_ROWS_H

#include "simd.h"

#define ROWS_TO_READ 8 /* how far ahead rows are asked for, into L2: from main memory sums are twice as fast so */
#define ROWS_AHEAD 512 /* numbers: how far before it is written to memory is asked for; from main memory 10% faster */

#define DEFINE_ROWS(T)                                                                                             \
  INLINE vector_##T unless_##T(vector_##T cut, vector_##T g) { /* g where `cut` is not <= 0 */                     \
    return (vector_##T)((index_##T)g & ~(index_##T)(cut <= 0));                                                    \
  }                                                                                                                \
                                                                                                                   \
  static inline void cyconv_sum_rows_##T(const T *restrict x, ptrdiff_t count, ptrdiff_t width, T *restrict sums) {\
    const ptrdiff_t whole = width - width % LANES(T);                                                              \
    memset(sums, 0, width * sizeof(T));                                                                            \
    for (; count >= 4 * width; count -= 4 * width, x += 4 * width) {                                               \
      for (ptrdiff_t j = 0; j < whole; j += LANES(T)) {                                                            \
        UNROLL for (int r = 0; r < 4; r++) __builtin_prefetch(x + (ROWS_TO_READ + r) * width + j, 0, 2);           \
        *(vector_##T *)(sums + j) += (AT(T, x + j) + AT(T, x + width + j)) +                                       \
                                     (AT(T, x + 2 * width + j) + AT(T, x + 3 * width + j));                        \
      }                                                                                                            \
      for (ptrdiff_t j = whole; j < width; j++)                                                                    \
        sums[j] += (x[j] + x[width + j]) + (x[2 * width + j] + x[3 * width + j]);                                  \
    }                                                                                                              \
    for (; count > 0; count -= width, x += width)                                                                  \
      for (ptrdiff_t j = 0; j < (count < width ? count : width); j++) sums[j] += x[j];                             \
  }                                                                                                                \
                                                                                                                   \
  static void cyconv_moments_##T(const T *restrict x, const T *restrict center, ptrdiff_t count, ptrdiff_t width,  \
                                 T *restrict first, T *restrict second) {                                          \
    const ptrdiff_t whole = width - width % LANES(T);                                                              \
    memset(first, 0, width * sizeof(T));                                                                           \
    memset(second, 0, width * sizeof(T));                                                                          \
    for (; count >= 4 * width; count -= 4 * width, x += 4 * width) {                                               \
      for (ptrdiff_t j = 0; j < whole; j += LANES(T)) {                                                            \
        vector_##T d[4];                                                                                           \
        UNROLL for (int r = 0; r < 4; r++) {                                                                       \
          d[r] = AT(T, x + r * width + j) - AT(T, center + j);                                                     \
          __builtin_prefetch(x + (ROWS_TO_READ + r) * width + j, 0, 2);                                            \
        }                                                                                                          \
        *(vector_##T *)(first + j) += (d[0] + d[1]) + (d[2] + d[3]);                                               \
        *(vector_##T *)(second + j) += (d[0] * d[0] + d[1] * d[1]) + (d[2] * d[2] + d[3] * d[3]);                  \
      }                                                                                                            \
      for (int r = 0; r < 4; r++)                                                                                  \
        for (ptrdiff_t j = whole; j < width; j++) {                                                                \
          const T d = x[r * width + j] - center[j];                                                                \
          first[j] += d;                                                                                           \
          second[j] += d * d;                                                                                      \
        }                                                                                                          \
    }                                                                                                              \
    for (; count > 0; count -= width, x += width)                                                                  \
      for (ptrdiff_t j = 0; j < (count < width ? count : width); j++) {                                            \
        const T d = x[j] - center[j];                                                                              \
        first[j] += d;                                                                                             \
        second[j] += d * d;                                                                                        \
      }                                                                                                            \
  }                                                                                                                \
                                                                                                                   \
  INLINE void gradients_body_##T(const int relu, const T *restrict grad, const T *restrict x,                      \
                                 const T *restrict scale, const T *restrict shift, const T *restrict center,       \
                                 ptrdiff_t count, ptrdiff_t width, T *restrict first, T *restrict second) {        \
    const ptrdiff_t whole = width - width % LANES(T);                                                              \
    memset(first, 0, width * sizeof(T));                                                                           \
    memset(second, 0, width * sizeof(T));                                                                          \
    while (count > 0) {                                                                                            \
      const int rows = count >= 4 * width ? 4 : 1;                                                                 \
      ptrdiff_t j = 0;                                                                                             \
      if (rows == 4)                                                                                               \
        for (; j < whole; j += LANES(T)) {                                                                         \
          vector_##T g[4], product[4];                                                                             \
          UNROLL for (int r = 0; r < 4; r++) {                                                                     \
            const ptrdiff_t i = r * width + j;                                                                     \
            const vector_##T value = AT(T, x + i);                                                                 \
            g[r] = AT(T, grad + i);                                                                                \
            if (relu) g[r] = unless_##T(value * AT(T, scale + j) + AT(T, shift + j), g[r]);                        \
            product[r] = g[r] * (value - AT(T, center + j));                                                       \
            __builtin_prefetch(x + i + ROWS_TO_READ * width, 0, 2);                                                \
            __builtin_prefetch(grad + i + ROWS_TO_READ * width, 0, 2);                                             \
          }                                                                                                        \
          *(vector_##T *)(first + j) += (g[0] + g[1]) + (g[2] + g[3]);                                             \
          *(vector_##T *)(second + j) += (product[0] + product[1]) + (product[2] + product[3]);                    \
        }                                                                                                          \
      for (int r = 0; r < rows; r++)                                                                               \
        for (ptrdiff_t k = j; k < (count < width ? count : width); k++) {                                          \
          const T value = x[r * width + k];                                                                        \
          const T g = relu && value * scale[k] + shift[k] <= 0 ? 0 : grad[r * width + k];                          \
          first[k] += g;                                                                                           \
          second[k] += g * (value - center[k]);                                                                    \
        }                                                                                                          \
      count -= rows * width, x += rows * width, grad += rows * width;                                              \
    }                                                                                                              \
  }                                                                                                                \
  static void cyconv_gradients_##T(const T *grad, const T *x, const T *scale, const T *shift, const T *center,     \
                                   ptrdiff_t count, ptrdiff_t width, T *first, T *second) {                        \
    if (scale) gradients_body_##T(1, grad, x, scale, shift, center, count, width, first, second);                  \
    else gradients_body_##T(0, grad, x, scale, shift, center, count, width, first, second);                        \
  }                                                                                                                \
                                                                                                                   \
  INLINE void normalize_body_##T(const int added, const int relu, const T *restrict x, const T *restrict scale,    \
                                 const T *restrict shift, const T *restrict residual, T *restrict out,             \
                                 ptrdiff_t count, ptrdiff_t width) {                                               \
    while (count > 0) {                                                                                            \
      const ptrdiff_t length = count < width ? count : width;                                                      \
      ptrdiff_t j = 0;                                                                                             \
      for (; j + LANES(T) <= length; j += LANES(T)) {                                                              \
        vector_##T y = AT(T, x + j) * AT(T, scale + j) + AT(T, shift + j);                                         \
        __builtin_prefetch(out + j + ROWS_AHEAD, 1, 2);                                                            \
        if (added) y += AT(T, residual + j);                                                                       \
        if (relu) y = relu_##T(y);                                                                                 \
        *(vector_##T *)(out + j) = y;                                                                              \
      }                                                                                                            \
      for (; j < length; j++) {                                                                                    \
        T y = x[j] * scale[j] + shift[j];                                                                          \
        if (added) y += residual[j];                                                                               \
        out[j] = relu && y < 0 ? 0 : y;                                                                            \
      }                                                                                                            \
      count -= width, x += width, out += width;                                                                    \
      if (added) residual += width;                                                                                \
    }                                                                                                              \
  }                                                                                                                \
  static void cyconv_normalize_##T(const T *x, const T *scale, const T *shift, const T *residual, T *out,          \
                                   ptrdiff_t count, ptrdiff_t width, int relu) {                                   \
    if (residual && relu) normalize_body_##T(1, 1, x, scale, shift, residual, out, count, width);                  \
    else if (residual) normalize_body_##T(1, 0, x, scale, shift, residual, out, count, width);                     \
    else if (relu) normalize_body_##T(0, 1, x, scale, shift, residual, out, count, width);                         \
    else normalize_body_##T(0, 0, x, scale, shift, residual, out, count, width);                                   \
  }                                                                                                                \
                                                                                                                   \
  INLINE void propagate_body_##T(const int relu, const int centred, const T *restrict grad, const T *restrict x,   \
                                 const T *restrict scale, const T *restrict shift, const T *restrict a,            \
                                 const T *restrict b, const T *restrict d, ptrdiff_t count, ptrdiff_t width,       \
                                 T *restrict grad_x) {                                                             \
    while (count > 0) {                                                                                            \
      const ptrdiff_t length = count < width ? count : width;                                                      \
      ptrdiff_t j = 0;                                                                                             \
      for (; j + LANES(T) <= length; j += LANES(T)) {                                                              \
        const vector_##T value = AT(T, x + j);                                                                     \
        vector_##T g = AT(T, grad + j);                                                                            \
        __builtin_prefetch(grad_x + j + ROWS_AHEAD, 1, 2);                                                         \
        if (relu) g = unless_##T(value * AT(T, scale + j) + AT(T, shift + j), g);                                  \
        g *= AT(T, a + j);                                                                                         \
        if (centred) g += value * AT(T, b + j) + AT(T, d + j);                                                     \
        *(vector_##T *)(grad_x + j) = g;                                                                           \
      }                                                                                                            \
      for (; j < length; j++) {                                                                                    \
        const T g = relu && x[j] * scale[j] + shift[j] <= 0 ? 0 : grad[j];                                         \
        grad_x[j] = centred ? g * a[j] + (x[j] * b[j] + d[j]) : g * a[j];                                          \
      }                                                                                                            \
      count -= width, x += width, grad += width, grad_x += width;                                                  \
    }                                                                                                              \
  }                                                                                                                \
  static void cyconv_propagate_##T(const T *grad, const T *x, const T *scale, const T *shift, const T *a,          \
                                   const T *b, const T *d, ptrdiff_t count, ptrdiff_t width, int centred,          \
                                   T *grad_x) {                                                                    \
    if (scale && centred) propagate_body_##T(1, 1, grad, x, scale, shift, a, b, d, count, width, grad_x);          \
    else if (scale) propagate_body_##T(1, 0, grad, x, scale, shift, a, b, d, count, width, grad_x);                \
    else if (centred) propagate_body_##T(0, 1, grad, x, scale, shift, a, b, d, count, width, grad_x);              \
    else propagate_body_##T(0, 0, grad, x, scale, shift, a, b, d, count, width, grad_x);                           \
  }

/* Mean and M2 of `seen` pixels take in those of `count` more (Chan, Golub and LeVeque 1979). */
static void cyconv_merge(double *restrict mean, double *restrict m2, const double *restrict mean_b,
                         const double *restrict m2_b, ptrdiff_t C, ptrdiff_t seen, ptrdiff_t count) {
  const double share = (double)count / (seen + count), weight = share * seen;
  for (ptrdiff_t c = 0; c < C; c++) {
    const double delta = mean_b[c] - mean[c];
    mean[c] += delta * share;
    m2[c] += m2_b[c] + delta * delta * weight;
  }
}

/* The same of sums about a centre, as `moments` gives them. */
#define DEFINE_MERGE(T)                                                                                            \
  static void cyconv_merge_sums_##T(double *restrict mean, double *restrict m2, const T *restrict center,          \
                                    const T *restrict first, const T *restrict second, ptrdiff_t C,                \
                                    ptrdiff_t seen, ptrdiff_t count) {                                             \
    const double inverse = 1.0 / count, share = (double)count / (seen + count), weight = share * seen;             \
    for (ptrdiff_t c = 0; c < C; c++) {                                                                            \
      const double shift = first[c] * inverse, delta = center[c] + shift - mean[c];                                \
      mean[c] += delta * share;                                                                                    \
      m2[c] += second[c] - first[c] * shift + delta * delta * weight;                                              \
    }                                                                                                              \
  }

DEFINE_ROWS(float)
DEFINE_ROWS(double)
DEFINE_MERGE(float)
DEFINE_MERGE(double)

#endif
