// Functions that loops over floats can hold and still be vectorised.
#pragma once

#include <bit>
#include <cstdint>

namespace rigwise::engine::kernels {

// e^x within 2 ulp, without a branch or a call. Cephes' range reduction and polynomial (Moshier,
// expf.c). Below -87 it is 1e-38 rather than less; NaN stays NaN.
inline __attribute__((always_inline)) float exp_of(float x) {
  x = x < -87.0F ? -87.0F : x;
  x = x > 88.0F ? 88.0F : x;
  const float shifted = x * 1.44269504F + 12582912.0F;  // rounds to the nearest whole number
  const float n = shifted - 12582912.0F;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const std::uint32_t power = (std::bit_cast<std::uint32_t>(shifted) + 127U) << 23U;
  return p * std::bit_cast<float>(power);
}

}  // namespace rigwise::engine::kernels
