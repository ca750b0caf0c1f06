#include "engine/model/attention_kernels.h"

#include <algorithm>
#include <cmath>

#include "engine/model/vector_math.h"

// The two entries have copies for AVX2, chosen when the program starts; everything else is inlined
// into them. AVX-512 gains nothing here on a Zen 4, which runs its vectors in halves.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RW_WIDE __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define RW_WIDE
#endif
#define RW_INLINE inline __attribute__((always_inline))

namespace rigwise::engine::kernels {
namespace {

using Vector [[gnu::vector_size(32)]] = float;
using Unaligned [[gnu::aligned(4)]] = Vector;

constexpr int kLanes = 8;
constexpr int kParts = 2;
constexpr std::int64_t kPanel = std::int64_t{kLanes} * kParts;  // columns of a panel
constexpr int kTile = 6;             // rows of a tile: 6 x 16 sums fill the registers of AVX2
constexpr std::int64_t kBlock = 48;  // queries whose scores the backward pass holds at a time

constexpr std::int64_t padded(std::int64_t count) {
  return (count + kPanel - 1) / kPanel * kPanel;
}

/// Products are made in tiles: R rows of one side by a panel of the other, which was copied so that
/// its 16 columns lie side by side, row after row.
struct Head {
  template <int R>
  struct Sums {
    Vector part[R][kParts] = {};
    RW_INLINE void store(float* out, std::int64_t stride) const {
      for (int r = 0; r < R; ++r) {
        for (int p = 0; p < kParts; ++p) {
          *reinterpret_cast<Unaligned*>(out + r * stride + p * kLanes) = part[r][p];
        }
      }
    }
  };

  /// a [R, depth] (or [depth, R] if kDown) times a panel [depth, 16].
  template <int R, bool kDown = false>
  RW_INLINE static Sums<R> product(const float* a, std::int64_t stride, const float* panel,
                                   std::int64_t depth) {
    Sums<R> sums;
    for (std::int64_t k = 0; k < depth; ++k) {
      Vector columns[kParts];
      for (int p = 0; p < kParts; ++p) {
        columns[p] = *reinterpret_cast<const Unaligned*>(panel + k * kPanel + p * kLanes);
      }
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const float factor = kDown ? a[k * stride + r] : a[r * stride + k];
        for (int p = 0; p < kParts; ++p) sums.part[r][p] += columns[p] * factor;
      }
    }
    return sums;
  }

  /// Rows as columns: panel j is [dim, 16] of the rows 16 j and on; zeros behind the last.
  RW_INLINE static void pack_across(Rows x, std::int64_t rows, std::int64_t dim, float* out) {
    for (std::int64_t j = 0; j < rows; j += kPanel, out += dim * kPanel) {
      const std::int64_t count = std::min(kPanel, rows - j);
      for (std::int64_t r = 0; r < kPanel; ++r) {
        const float* row = x.data + (j + r) * x.stride;
        for (std::int64_t c = 0; c < dim; ++c) out[c * kPanel + r] = r < count ? row[c] : 0.0F;
      }
    }
  }

  /// Columns by sixteens: panel p is [rows, 16] of the columns 16 p and on; zeros behind the last.
  RW_INLINE static void pack_down(Rows x, std::int64_t rows, std::int64_t dim, float* out) {
    for (std::int64_t p = 0; p < dim; p += kPanel) {
      const std::int64_t count = std::min(kPanel, dim - p);
      for (std::int64_t r = 0; r < rows; ++r, out += kPanel) {
        const float* row = x.data + r * x.stride + p;
        for (std::int64_t c = 0; c < kPanel; ++c) out[c] = c < count ? row[c] : 0.0F;
      }
    }
  }

  HeadShape shape;

  /// The first key that any query from `query` on may see, at the start of a panel.
  RW_INLINE std::int64_t first_key(std::int64_t query) const {
    return std::max<std::int64_t>(0, query - shape.window + 1) / kPanel * kPanel;
  }

  /// a [R, keys] times packed columns [keys, dim], each row by its factor, into `out`.
  template <int R>
  RW_INLINE void mix(const float* a, std::int64_t stride, const float* panels, std::int64_t first,
                     std::int64_t keys, const float* factors, MutableRows out,
                     std::int64_t row) const {
    for (std::int64_t p = 0; p < shape.dim; p += kPanel) {
      alignas(64) float values[R * kPanel];
      product<R>(a, stride, panels + p * shape.length + first * kPanel, keys).store(values, kPanel);
      const std::int64_t count = std::min(kPanel, shape.dim - p);
      for (int r = 0; r < R; ++r) {
        float* to = out.data + (row + r) * out.stride + p;
        for (std::int64_t c = 0; c < count; ++c) to[c] = values[r * kPanel + c] * factors[r];
      }
    }
  }

  /// Scores of R queries from `query` on, of the keys from `first` on.
  template <int R>
  RW_INLINE void scores(Rows q, std::int64_t query, const float* keys_across, std::int64_t first,
                        float* out, std::int64_t stride) const {
    for (std::int64_t key = first; key < query + R; key += kPanel) {
      product<R>(q.data + query * q.stride, q.stride, keys_across + key * shape.dim, shape.dim)
          .store(out + (key - first), stride);
    }
  }

  template <int R>
  RW_INLINE void forward_rows(std::int64_t query, Rows q, const float* keys_across,
                              const float* values_down, MutableRows y, float* logsumexp,
                              float* rows, std::int64_t stride) const {
    const std::int64_t first = first_key(query), keys = query + R - first;
    scores<R>(q, query, keys_across, first, rows, stride);
    float factors[R];
    for (int r = 0; r < R; ++r) {
      float* row = rows + r * stride;
      const std::int64_t begin = std::max<std::int64_t>(0, query + r - shape.window + 1) - first,
                         end = query + r + 1 - first;
      float top = row[begin];
#pragma omp simd reduction(max : top)
      for (std::int64_t i = begin; i < end; ++i) top = top < row[i] ? row[i] : top;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t i = begin; i < end; ++i) {
        row[i] = exp_of((row[i] - top) * shape.scale);
        sum += row[i];
      }
      std::fill(row, row + begin, 0.0F);
      std::fill(row + end, row + keys, 0.0F);
      factors[r] = 1 / sum;
      logsumexp[query + r] = top * shape.scale + std::log(sum);
    }
    mix<R>(rows, stride, values_down, first, keys, factors, y, query);
  }

  RW_INLINE void forward(Rows q, Rows k, Rows v, MutableRows y, float* logsumexp,
                         float* scratch) const {
    const std::int64_t length = shape.length, stride = padded(length);
    float* keys_across = scratch;
    float* values_down = keys_across + stride * shape.dim;
    float* rows = values_down + length * padded(shape.dim);
    pack_across(k, length, shape.dim, keys_across);
    pack_down(v, length, shape.dim, values_down);
    std::int64_t i = 0;
    for (; i + kTile <= length; i += kTile) {
      forward_rows<kTile>(i, q, keys_across, values_down, y, logsumexp, rows, stride);
    }
    for (; i < length; ++i) {
      forward_rows<1>(i, q, keys_across, values_down, y, logsumexp, rows, stride);
    }
  }

  struct Backward {
    Rows q, y, gy;
    const float* logsumexp;
    MutableRows gq;
    const float *keys_across, *values_across, *keys_down;
  };

  /// Of R queries: shares [R, keys] are softmax(scores), slopes the loss's gradient by the scores.
  template <int R>
  RW_INLINE void backward_rows(const Backward& in, std::int64_t query, std::int64_t first,
                               std::int64_t last, float* shares, float* slopes,
                               std::int64_t stride) const {
    scores<R>(in.q, query, in.keys_across, first, shares, stride);
    scores<R>(in.gy, query, in.values_across, first, slopes, stride);
    float ones[R];
    for (int r = 0; r < R; ++r) {
      ones[r] = 1;
      float *share = shares + r * stride, *slope = slopes + r * stride;
      const float* gy = in.gy.data + (query + r) * in.gy.stride;
      const float* y = in.y.data + (query + r) * in.y.stride;
      float along = 0;
#pragma omp simd reduction(+ : along)
      for (std::int64_t c = 0; c < shape.dim; ++c) along += gy[c] * y[c];
      const float top = in.logsumexp[query + r];
      const std::int64_t begin = std::max<std::int64_t>(0, query + r - shape.window + 1) - first,
                         end = query + r + 1 - first;
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) {
        share[i] = exp_of(share[i] * shape.scale - top);
        slope[i] = share[i] * (slope[i] - along) * shape.scale;
      }
      for (float* row : {share, slope}) {
        std::fill(row, row + begin, 0.0F);
        std::fill(row + end, row + (last - first), 0.0F);
      }
    }
    mix<R>(slopes, stride, in.keys_down, first, query + R - first, ones, in.gq, query);
  }

  /// out[key] += sum over a block's queries of a[query, key] * x[query], for R keys.
  template <int R>
  RW_INLINE void gather_rows(const float* a, std::int64_t stride, std::int64_t key,
                             std::int64_t first, std::int64_t begin, std::int64_t queries,
                             const float* x_down, MutableRows out) const {
    const std::int64_t blind = std::max<std::int64_t>(0, key - begin);  // queries before the key
    for (std::int64_t p = 0; p < shape.dim; p += kPanel) {
      alignas(64) float values[R * kPanel];
      product<R, true>(a + blind * stride + (key - first), stride,
                       x_down + p * queries + blind * kPanel, queries - blind)
          .store(values, kPanel);
      const std::int64_t count = std::min(kPanel, shape.dim - p);
      for (int r = 0; r < R; ++r) {
        float* to = out.data + (key + r) * out.stride + p;
        for (std::int64_t c = 0; c < count; ++c) to[c] += values[r * kPanel + c];
      }
    }
  }

  RW_INLINE void gather(const float* a, std::int64_t stride, std::int64_t first, std::int64_t begin,
                        std::int64_t end, const float* x_down, MutableRows out) const {
    std::int64_t key = first;
    for (; key + kTile <= end; key += kTile) {
      gather_rows<kTile>(a, stride, key, first, begin, end - begin, x_down, out);
    }
    for (; key < end; ++key) {
      gather_rows<1>(a, stride, key, first, begin, end - begin, x_down, out);
    }
  }

  RW_INLINE void backward(Rows q, Rows k, Rows v, Rows y, const float* logsumexp, Rows gy,
                          MutableRows gq, MutableRows gk, MutableRows gv, float* scratch) const {
    const std::int64_t length = shape.length, dim = shape.dim, stride = padded(length);
    const auto take = [&scratch](std::int64_t count) {
      float* taken = scratch;
      scratch += count;
      return taken;
    };
    float *keys_across = take(stride * dim), *values_across = take(stride * dim);
    float* keys_down = take(length * padded(dim));
    float *shares = take(kBlock * stride), *slopes = take(kBlock * stride);
    float *q_down = take(kBlock * padded(dim)), *gy_down = take(kBlock * padded(dim));
    pack_across(k, length, dim, keys_across);
    pack_across(v, length, dim, values_across);
    pack_down(k, length, dim, keys_down);
    const Backward in{q, y, gy, logsumexp, gq, keys_across, values_across, keys_down};
    for (std::int64_t begin = 0; begin < length; begin += kBlock) {
      const std::int64_t end = std::min(length, begin + kBlock), first = first_key(begin);
      std::int64_t i = begin;
      for (; i + kTile <= end; i += kTile) {
        const std::int64_t at = (i - begin) * stride;
        backward_rows<kTile>(in, i, first, end, shares + at, slopes + at, stride);
      }
      for (; i < end; ++i) {
        const std::int64_t at = (i - begin) * stride;
        backward_rows<1>(in, i, first, end, shares + at, slopes + at, stride);
      }
      pack_down({q.data + begin * q.stride, q.stride}, end - begin, dim, q_down);
      pack_down({gy.data + begin * gy.stride, gy.stride}, end - begin, dim, gy_down);
      gather(shares, stride, first, begin, end, gy_down, gv);
      gather(slopes, stride, first, begin, end, q_down, gk);
    }
  }
};

}  // namespace

std::int64_t attention_scratch(const HeadShape& shape) {
  const std::int64_t keys = padded(shape.length), dim = padded(shape.dim);
  return 3 * keys * dim + 2 * kBlock * keys + 2 * kBlock * dim;
}

RW_WIDE void attention(const HeadShape& shape, Rows q, Rows k, Rows v, MutableRows y,
                       float* logsumexp, float* scratch) {
  Head{shape}.forward(q, k, v, y, logsumexp, scratch);
}

RW_WIDE void attention_backward(const HeadShape& shape, Rows q, Rows k, Rows v, Rows y,
                                const float* logsumexp, Rows gy, MutableRows gq, MutableRows gk,
                                MutableRows gv, float* scratch) {
  Head{shape}.backward(q, k, v, y, logsumexp, gy, gq, gk, gv, scratch);
}

}  // namespace rigwise::engine::kernels
