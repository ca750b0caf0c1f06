#include "engine/model/attention.h"

#include <algorithm>
#include <cmath>

#include "engine/autograd.h"
#include "engine/model/attention_kernels.h"

namespace rigwise::engine {
namespace {

/// Heads side by side in each row, as they come from a product; rows may be parts of wider ones.
at::Tensor row_dense(const at::Tensor& x_NHC) {
  const bool dense = x_NHC.stride(2) == 1 && x_NHC.stride(1) == x_NHC.size(2);
  return dense ? x_NHC : x_NHC.contiguous();
}

kernels::Rows rows_of(const at::Tensor& x_NHC, std::int64_t begin, std::int64_t head) {
  return {.data = x_NHC.const_data_ptr<float>() + begin * x_NHC.stride(0) + head * x_NHC.size(2),
          .stride = x_NHC.stride(0)};
}

kernels::MutableRows mutable_rows_of(at::Tensor& x_NHC, std::int64_t begin, std::int64_t head) {
  return {.data = x_NHC.mutable_data_ptr<float>() + begin * x_NHC.stride(0) + head * x_NHC.size(2),
          .stride = x_NHC.stride(0)};
}

/// Calls work(stretch, head, shape, scratch) for every head of every stretch, parted among threads.
/// A thread takes whole heads where it can: stretches may differ in length, heads do not.
template <class Work>
void for_each_head(const std::vector<Stretch>& stretches, std::int64_t heads, std::int64_t dim,
                   std::int64_t window, const Work& work) {
  const auto count = static_cast<std::int64_t>(stretches.size());
  std::int64_t longest = 0, pairs = 0;
  for (const Stretch& stretch : stretches) {
    longest = std::max(longest, stretch.length);
    pairs += stretch.length * stretch.length;
  }
  const auto shape_for = [&](std::int64_t length) {
    return kernels::HeadShape{.length = length,
                              .dim = dim,
                              .window = std::min(window, length),
                              .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(dim)))};
  };
  constexpr std::int64_t kWorthATask = std::int64_t{1} << 18;  // products: some microseconds
  const std::int64_t grain =
      std::max<std::int64_t>(1, kWorthATask * count / std::max<std::int64_t>(1, pairs * dim));
  at::parallel_for(0, heads * count, grain, [&](std::int64_t from, std::int64_t to) {
    const at::Tensor scratch = at::empty({kernels::attention_scratch(shape_for(longest))});
    for (std::int64_t task = from; task < to; ++task) {
      const Stretch& stretch = stretches[static_cast<std::size_t>(task % count)];
      if (stretch.length == 0) continue;
      work(stretch, task / count, shape_for(stretch.length), scratch.data_ptr<float>());
    }
  });
}

/// The sum over the heads of queries that share a head of keys.
at::Tensor of_groups(const at::Tensor& x_NHC, std::int64_t groups) {
  if (x_NHC.size(1) == groups) return x_NHC;
  return x_NHC.unflatten(1, {groups, -1}).sum(2);
}

struct CpuAttention : Function<CpuAttention> {
  static Variable forward(AutogradContext* ctx, const Variable& q_in, const Variable& k_in,
                          const Variable& v_in, const std::vector<Stretch>& stretches,
                          std::int64_t window) {
    const at::Tensor q = row_dense(q_in), k = row_dense(k_in), v = row_dense(v_in);
    const std::int64_t heads = q.size(1), shared_by = heads / k.size(1);
    at::Tensor y = at::empty(q.sizes(), q.options());
    at::Tensor logsumexp = at::empty({heads, q.size(0)}, q.options());
    float* sums = logsumexp.mutable_data_ptr<float>();
    for_each_head(stretches, heads, q.size(2), window,
                  [&](const Stretch& stretch, std::int64_t head, const kernels::HeadShape& shape,
                      float* scratch) {
                    kernels::attention(shape, rows_of(q, stretch.begin, head),
                                       rows_of(k, stretch.begin, head / shared_by),
                                       rows_of(v, stretch.begin, head / shared_by),
                                       mutable_rows_of(y, stretch.begin, head),
                                       sums + head * q.size(0) + stretch.begin, scratch);
                  });
    ctx->save_for_backward({q, k, v, y, logsumexp});
    std::vector<std::int64_t> lengths;
    for (const Stretch& stretch : stretches) lengths.push_back(stretch.length);
    ctx->saved_data["lengths"] = lengths;
    ctx->saved_data["window"] = window;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &y = saved[3],
                     &logsumexp = saved[4];
    const at::Tensor gy = row_dense(grads[0]);
    std::vector<Stretch> stretches;
    std::int64_t begin = 0;
    for (const std::int64_t length : ctx->saved_data["lengths"].toIntVector()) {
      stretches.push_back({.begin = begin, .length = length});
      begin += length;
    }
    const std::int64_t heads = q.size(1), shared_by = heads / k.size(1);
    at::Tensor gq = at::empty(q.sizes(), q.options());
    at::Tensor gk = at::zeros(q.sizes(), q.options()), gv = at::zeros_like(gk);
    const float* sums = logsumexp.const_data_ptr<float>();
    for_each_head(
        stretches, heads, q.size(2), ctx->saved_data["window"].toInt(),
        [&](const Stretch& stretch, std::int64_t head, const kernels::HeadShape& shape,
            float* scratch) {
          kernels::attention_backward(
              shape, rows_of(q, stretch.begin, head), rows_of(k, stretch.begin, head / shared_by),
              rows_of(v, stretch.begin, head / shared_by), rows_of(y, stretch.begin, head),
              sums + head * q.size(0) + stretch.begin, rows_of(gy, stretch.begin, head),
              mutable_rows_of(gq, stretch.begin, head), mutable_rows_of(gk, stretch.begin, head),
              mutable_rows_of(gv, stretch.begin, head), scratch);
        });
    return {gq, of_groups(gk, k.size(1)), of_groups(gv, k.size(1)), Variable(), Variable()};
  }
};

/// [count, heads, length, C] of `count` stretches alike, as a view.
at::Tensor heads_first(const at::Tensor& x_NHC, std::int64_t begin, std::int64_t count,
                       std::int64_t length) {
  return x_NHC.narrow(0, begin, count * length).unflatten(0, {count, length}).transpose(1, 2);
}

/// What the last `queries` of `keys` tokens may see.
at::Tensor window_mask(std::int64_t queries, std::int64_t keys, std::int64_t window,
                       const at::TensorOptions& options) {
  const at::Tensor ones = at::ones({queries, keys}, options.dtype(at::kBool));
  const std::int64_t before = keys - queries;
  return ones.tril(before) & ones.triu(before + 1 - window);
}

at::Tensor attention_of_torch(const at::Tensor& q_NHC, const at::Tensor& k_NKC,
                              const at::Tensor& v_NKC, const std::vector<Stretch>& stretches,
                              std::optional<std::int64_t> window) {
  const bool grouped = q_NHC.size(1) != k_NKC.size(1);
  std::vector<at::Tensor> outputs;
  for (std::size_t i = 0; i < stretches.size();) {
    // Neighbours of one length are one batch.
    const auto [begin, length] = stretches[i];
    std::int64_t count = 0;
    for (; i < stretches.size() && stretches[i].length == length; ++i) ++count;
    const at::Tensor q = heads_first(q_NHC, begin, count, length);
    const at::Tensor k = heads_first(k_NKC, begin, count, length);
    const at::Tensor v = heads_first(v_NKC, begin, count, length);
    const bool slides = window && *window < length;
    const std::optional<at::Tensor> mask =
        slides ? std::optional(window_mask(length, length, *window, q.options())) : std::nullopt;
    const at::Tensor y = at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0.0,
                                                          /*is_causal=*/!slides,
                                                          /*scale=*/std::nullopt, grouped);
    outputs.push_back(y.transpose(1, 2).flatten(0, 1));
  }
  return outputs.size() == 1 ? outputs[0] : at::cat(outputs, 0);
}

}  // namespace

at::Tensor attention(const at::Tensor& q_NHC, const at::Tensor& k_NKC, const at::Tensor& v_NKC,
                     const std::vector<Stretch>& stretches, std::optional<std::int64_t> window) {
  if (q_NHC.is_cpu() && q_NHC.scalar_type() == at::kFloat) {
    return CpuAttention::apply(q_NHC, k_NKC, v_NKC, stretches, window.value_or(q_NHC.size(0)));
  }
  return attention_of_torch(q_NHC, k_NKC, v_NKC, stretches, window);
}

at::Tensor KeyValueCache::attend(std::int64_t block, const at::Tensor& q_MHC,
                                 const at::Tensor& k_MKC, const at::Tensor& v_MKC,
                                 std::optional<std::int64_t> window) {
  auto& [k, v] = of_block_[block];
  k = k.defined() ? at::cat({k, k_MKC}) : k_MKC.contiguous();
  v = v.defined() ? at::cat({v, v_MKC}) : v_MKC.contiguous();
  const std::int64_t queries = q_MHC.size(0), keys = k.size(0);
  if (queries == keys) return attention(q_MHC, k, v, {{.begin = 0, .length = keys}}, window);
  const at::Tensor mask = window_mask(queries, keys, window.value_or(keys), q_MHC.options());
  const at::Tensor y = at::scaled_dot_product_attention(
      heads_first(q_MHC, 0, 1, queries), heads_first(k, 0, 1, keys), heads_first(v, 0, 1, keys),
      mask, /*dropout_p=*/0.0, /*is_causal=*/false, /*scale=*/std::nullopt,
      /*enable_gqa=*/q_MHC.size(1) != k.size(1));
  return y.transpose(1, 2).flatten(0, 1);
}

}  // namespace rigwise::engine
