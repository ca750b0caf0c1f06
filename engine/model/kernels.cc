#include "engine/model/kernels.h"

#include <cmath>

#include "engine/model/vector_math.h"

// Copies for wider vectors, chosen when the program starts. Only GCC on x86-64 knows the form.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RW_WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define RW_WIDE
#endif

namespace rigwise::engine::kernels {
namespace {

inline __attribute__((always_inline)) float sigmoid_of(float x) {
  return 1.0F / (1.0F + exp_of(-x));
}

inline __attribute__((always_inline)) float largest(const float* x, std::int64_t count) {
  float best = x[0];
#pragma omp simd reduction(max : best)
  for (std::int64_t i = 0; i < count; ++i) best = best < x[i] ? x[i] : best;
  return best;
}

}  // namespace

RW_WIDE void rms_norm(const float* x, const float* w, float* y, float* inverse_rms,
                      std::int64_t rows, std::int64_t cols, float eps) {
  for (std::int64_t row = 0; row < rows; ++row, x += cols, y += cols) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (std::int64_t i = 0; i < cols; ++i) squares += x[i] * x[i];
    const float inverse = 1.0F / std::sqrt(squares / static_cast<float>(cols) + eps);
    inverse_rms[row] = inverse;
#pragma omp simd
    for (std::int64_t i = 0; i < cols; ++i) y[i] = w[i] * (x[i] * inverse);
  }
}

// With n = x * inverse and g = gy * w: gx = inverse * (g - n * mean(g * n)).
RW_WIDE void rms_norm_backward(const float* x, const float* w, const float* inverse_rms,
                               const float* gy, float* gx, float* gw, std::int64_t rows,
                               std::int64_t cols) {
  for (std::int64_t row = 0; row < rows; ++row, x += cols, gy += cols, gx += cols) {
    const float inverse = inverse_rms[row];
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (std::int64_t i = 0; i < cols; ++i) dot += gy[i] * w[i] * x[i];
    const float along = dot * inverse * inverse / static_cast<float>(cols);
#pragma omp simd
    for (std::int64_t i = 0; i < cols; ++i) gx[i] = inverse * (gy[i] * w[i] - x[i] * along);
    if (gw == nullptr) continue;
#pragma omp simd
    for (std::int64_t i = 0; i < cols; ++i) gw[i] += gy[i] * (x[i] * inverse);
  }
}

RW_WIDE void rotate(const float* x, std::int64_t x_stride, float* y, const float* cos,
                    const float* sin, std::int64_t rows, std::int64_t heads, std::int64_t dim,
                    float direction) {
  const std::int64_t half = dim / 2;
  for (std::int64_t row = 0; row < rows; ++row, x += x_stride, cos += half, sin += half) {
    const float* from = x;
    for (std::int64_t head = 0; head < heads; ++head, from += dim, y += dim) {
#pragma omp simd
      for (std::int64_t i = 0; i < half; ++i) {
        const float a = from[i], b = from[i + half], s = direction * sin[i];
        y[i] = a * cos[i] - b * s;
        y[i + half] = b * cos[i] + a * s;
      }
    }
  }
}

RW_WIDE void swiglu(const float* gate, const float* up, float* y, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) y[i] = gate[i] * sigmoid_of(gate[i]) * up[i];
}

RW_WIDE void swiglu_backward(const float* gate, const float* up, const float* gy, float* ggate,
                             float* gup, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const float s = sigmoid_of(gate[i]);
    const float silu = gate[i] * s;
    ggate[i] = gy[i] * up[i] * (s + silu * (1.0F - s));
    gup[i] = gy[i] * silu;
  }
}

RW_WIDE void nll(const float* logits, const std::int64_t* targets, float* nll, std::int64_t rows,
                 std::int64_t cols) {
  for (std::int64_t row = 0; row < rows; ++row, logits += cols) {
    const float top = largest(logits, cols);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < cols; ++i) sum += exp_of(logits[i] - top);
    nll[row] = std::log(sum) + top - logits[targets[row]];
  }
}

RW_WIDE void nll_gradient(float* logits, const std::int64_t* targets, float* nll, std::int64_t rows,
                          std::int64_t cols, float scale) {
  for (std::int64_t row = 0; row < rows; ++row, logits += cols) {
    const float top = largest(logits, cols);
    const float wanted = logits[targets[row]];
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < cols; ++i) {
      logits[i] = exp_of(logits[i] - top);
      sum += logits[i];
    }
    nll[row] = std::log(sum) + top - wanted;
    const float share = scale / sum;
#pragma omp simd
    for (std::int64_t i = 0; i < cols; ++i) logits[i] *= share;
    logits[targets[row]] -= scale;
  }
}

RW_WIDE void adamw(float* p, const float* g, float* m, float* v, std::int64_t count,
                   const AdamwStep& step) {
  const float keep = 1.0F - step.lr * step.weight_decay;
  const float rate = step.lr / step.correction1;
  const float beta1 = step.beta1, beta2 = step.beta2, eps = step.eps;
  const float scale = step.gradient_scale, root = step.correction2_sqrt;
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const float gradient = g[i] * scale;
    m[i] = m[i] + (gradient - m[i]) * (1.0F - beta1);
    v[i] = v[i] * beta2 + gradient * gradient * (1.0F - beta2);
    p[i] = p[i] * keep - rate * m[i] / (std::sqrt(v[i]) / root + eps);
  }
}

RW_WIDE void dequantise(const std::uint8_t* packed, const float* scales, const float* pairs,
                        float* out, std::int64_t blocks, std::int64_t block) {
  for (std::int64_t b = 0; b < blocks; ++b) {
    const float scale = scales[b];
    for (std::int64_t i = 0; i < block; i += 2, ++packed, out += 2) {
      const float* pair = pairs + 2 * static_cast<std::int64_t>(*packed);
      out[0] = pair[0] * scale;
      out[1] = pair[1] * scale;
    }
  }
}

RW_WIDE double sum_of_squares(const float* x, std::int64_t count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) {
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  return sum;
}

}  // namespace rigwise::engine::kernels
