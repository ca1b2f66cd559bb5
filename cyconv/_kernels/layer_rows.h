/* Layer normalisation of one row of K numbers: y = (x - mean) / std, out = y * weight + bias.

   backward: with u = weight * grad, grad_x = (u - mean(u) - y * mean(u * y)) / std, and adds grad * y and grad to the
             sums of which the weight's and the bias's gradients are made

   The mean is subtracted rounded, and then the rest of it. A row is read several times,
   from the first-level cache. */

#ifndef CYCONV_LAYER_ROWS_H
#define CYCONV_LAYER_ROWS_H

#include "sums.h"

#define DEFINE_LAYER(T)                                                                                            \
  /* The sum of x - center, or of its squares. */                                                                  \
  INLINE double deviations_##T(const int squares, const T *x, T center, ptrdiff_t K) {                             \
    double total = 0;                                                                                              \
    for (ptrdiff_t start = 0; start < K; start += SHORT) {                                                         \
      const ptrdiff_t stop = K - start < SHORT ? K : start + SHORT;                                                \
      vector_##T sum[CHAINS] = {0};                                                                                \
      ptrdiff_t j = start;                                                                                         \
      for (; j + CHAINS * LANES(T) <= stop; j += CHAINS * LANES(T))                                                \
        UNROLL for (int i = 0; i < CHAINS; i++) {                                                                  \
          vector_##T d = *(const vector_##T *)(x + j + i * LANES(T)) - center;                                     \
          if (squares) d *= d;                                                                                     \
          sum[i] += d;                                                                                             \
        }                                                                                                          \
      for (; j + LANES(T) <= stop; j += LANES(T)) {                                                                \
        vector_##T d = *(const vector_##T *)(x + j) - center;                                                      \
        if (squares) d *= d;                                                                                       \
        sum[0] += d;                                                                                               \
      }                                                                                                            \
      for (; j < stop; j++) {                                                                                      \
        const T d = x[j] - center;                                                                                 \
        total += squares ? d * d : d;                                                                              \
      }                                                                                                            \
      total += across_##T((sum[0] + sum[1]) + (sum[2] + sum[3]));                                                  \
    }                                                                                                              \
    return total;                                                                                                  \
  }                                                                                                                \
  /* y = (x - center) * scale + shift. */                                                                          \
  INLINE void standardize_##T(const T *x, ptrdiff_t K, double eps, T *center, T *scale, T *shift) {                \
    const double mean = deviations_##T(0, x, 0, K) / K;                                                            \
    *center = (T)mean;                                                                                             \
    const double rest = mean - *center, rstd = 1 / sqrt(deviations_##T(1, x, *center, K) / K - rest * rest + eps); \
    *scale = (T)rstd, *shift = (T)(-rest * rstd);                                                                  \
  }                                                                                                                \
                                                                                                                   \
  static void cyconv_layer_##T(const T *restrict x, const T *restrict weight, const T *restrict bias, ptrdiff_t K, \
                               double eps, T *restrict out) {                                                      \
    T center, scale, shift;                                                                                        \
    standardize_##T(x, K, eps, &center, &scale, &shift);                                                           \
    for (ptrdiff_t j = 0; j < K; j++) out[j] = ((x[j] - center) * scale + shift) * weight[j] + bias[j];            \
  }                                                                                                                \
                                                                                                                   \
  static void cyconv_layer_backward_##T(const T *restrict grad, const T *restrict x, const T *restrict weight,     \
                                        ptrdiff_t K, double eps, T *restrict grad_x, T *restrict by_weight,        \
                                        T *restrict by_bias) {                                                     \
    T center, scale, shift;                                                                                        \
    double outer = 0, inner = 0;                                                                                   \
    standardize_##T(x, K, eps, &center, &scale, &shift);                                                           \
    for (ptrdiff_t start = 0; start < K; start += SHORT) {                                                         \
      const ptrdiff_t stop = K - start < SHORT ? K : start + SHORT;                                                \
      vector_##T sum[2] = {0}, product[2] = {0};                                                                   \
      ptrdiff_t j = start;                                                                                         \
      for (; j + 2 * LANES(T) <= stop; j += 2 * LANES(T))                                                          \
        UNROLL for (int i = 0; i < 2; i++) {                                                                       \
          const ptrdiff_t at = j + i * LANES(T);                                                                   \
          const vector_##T g = *(const vector_##T *)(grad + at), u = g * *(const vector_##T *)(weight + at);       \
          const vector_##T y = (*(const vector_##T *)(x + at) - center) * scale + shift;                           \
          sum[i] += u;                                                                                             \
          product[i] += u * y;                                                                                     \
          *(vector_##T *)(by_weight + at) += g * y;                                                                \
          *(vector_##T *)(by_bias + at) += g;                                                                      \
        }                                                                                                          \
      for (; j < stop; j++) {                                                                                      \
        const T g = grad[j], u = g * weight[j], y = (x[j] - center) * scale + shift;                               \
        outer += u;                                                                                                \
        inner += u * y;                                                                                            \
        by_weight[j] += g * y;                                                                                     \
        by_bias[j] += g;                                                                                           \
      }                                                                                                            \
      outer += across_##T(sum[0] + sum[1]);                                                                        \
      inner += across_##T(product[0] + product[1]);                                                                \
    }                                                                                                              \
    const T of_sum = (T)(outer / K), of_product = (T)(inner / K);                                                  \
    for (ptrdiff_t j = 0; j < K; j++)                                                                              \
      grad_x[j] = (grad[j] * weight[j] - of_sum - ((x[j] - center) * scale + shift) * of_product) * scale;         \
  }

DEFINE_LAYER(float)
DEFINE_LAYER(double)

#endif
