// Loops over fp32 rows that ATen would do in several passes each. One thread each: callers part
// the rows among threads (ops.cc). The compiler makes an AVX2 and an AVX-512 copy of each.
//
// Rows are dense and row-major; `rows` may be 0. No function allocates.
#pragma once

#include <cstdint>

namespace rigwise::engine::kernels {

/// y = w * x / sqrt(mean(x²) + eps) a row of `cols`; `inverse_rms` [rows] is kept for the backward.
void rms_norm(const float* x, const float* w, float* y, float* inverse_rms, std::int64_t rows,
              std::int64_t cols, float eps);

/// gx from gy; adds to gw [cols] unless that is null.
void rms_norm_backward(const float* x, const float* w, const float* inverse_rms, const float* gy,
                       float* gx, float* gw, std::int64_t rows, std::int64_t cols);

/// Rotates the two halves of each of `heads` heads of `dim`: (a, b) -> (a cos - b sin, b cos + a
/// sin), with a row of cos and sin [dim / 2] a token. `direction` -1 rotates back. x rows are
/// `x_stride` apart, y is dense [rows, heads, dim].
void rotate(const float* x, std::int64_t x_stride, float* y, const float* cos, const float* sin,
            std::int64_t rows, std::int64_t heads, std::int64_t dim, float direction);

/// y = gate * sigmoid(gate) * up.
void swiglu(const float* gate, const float* up, float* y, std::int64_t count);
void swiglu_backward(const float* gate, const float* up, const float* gy, float* ggate, float* gup,
                     std::int64_t count);

/// nll[row] = logsumexp(logits[row]) - logits[row][target].
void nll(const float* logits, const std::int64_t* targets, float* nll, std::int64_t rows,
         std::int64_t cols);
/// The same, and the logits become their gradient: scale * (softmax - one-hot).
void nll_gradient(float* logits, const std::int64_t* targets, float* nll, std::int64_t rows,
                  std::int64_t cols, float scale);

/// One AdamW step (Loshchilov and Hutter, arXiv 1711.05101) on `count` elements, in the order of
/// operations of torch.optim.AdamW: decay, moments, bias-corrected update.
struct AdamwStep {
  float lr, beta1, beta2, eps, weight_decay;
  float correction1, correction2_sqrt;  // 1 - beta1^t, sqrt(1 - beta2^t)
  float gradient_scale;                 // clipping; 1 leaves gradients as they are
};
void adamw(float* p, const float* g, float* m, float* v, std::int64_t count, const AdamwStep& step);

/// Two levels a byte of packed 4-bit indices, the high half first, times the scale of their block:
/// out [blocks * block]. `pairs` are the levels of all 256 bytes, [256][2].
void dequantise(const std::uint8_t* packed, const float* scales, const float* pairs, float* out,
                std::int64_t blocks, std::int64_t block);

/// Sum of squares, in double.
double sum_of_squares(const float* x, std::int64_t count);

}  // namespace rigwise::engine::kernels
