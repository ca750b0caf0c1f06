// Each operation of the model against the same formula in plain ATen, value and gradients.
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <functional>

#include "engine/model/attention.h"
#include "engine/model/linear.h"
#include "engine/model/ops.h"

namespace rigwise::engine {
namespace {

at::Tensor random(std::vector<std::int64_t> shape, std::uint64_t seed, bool trained = true) {
  at::Generator generator = at::detail::createCPUGenerator(seed);
  at::Tensor x = at::empty(shape, at::kFloat).normal_(0, 1, generator);
  return trained ? x.set_requires_grad(true) : x;
}

double relative(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / (b.norm() + 1e-30)).item<double>();
}

/// Value and gradients of two ways to compute the same of `inputs`.
void expect_same(const std::vector<at::Tensor>& inputs, const std::function<at::Tensor()>& ours,
                 const std::function<at::Tensor()>& plain, double tolerance = 2e-6) {
  std::vector<at::Tensor> grads[2];
  at::Tensor values[2];
  for (int way = 0; way < 2; ++way) {
    for (const at::Tensor& input : inputs) input.mutable_grad() = at::Tensor();
    values[way] = way == 0 ? ours() : plain();
    const at::Tensor weights = random(values[way].sizes().vec(), 99, false);
    (values[way] * weights).sum().backward();
    for (const at::Tensor& input : inputs) grads[way].push_back(input.grad().clone());
  }
  EXPECT_LE(relative(values[0], values[1]), tolerance);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_LE(relative(grads[0][i], grads[1][i]), tolerance) << "input " << i;
  }
}

TEST(Ops, RmsNormIsItsFormula) {
  for (const std::int64_t rows : {1, 7, 300}) {
    const at::Tensor x = random({rows, 48}, 1), w = random({48}, 2);
    expect_same(
        {x, w}, [&] { return rms_norm(x, w, 1e-5); },
        [&] { return w * (x * at::rsqrt(x.square().mean(1, true) + 1e-5)); });
  }
}

TEST(Ops, RotationIsItsFormulaAlsoOnColumnsOfAWiderMatrix) {
  const at::Tensor wide = random({11, 6 * 8}, 3);
  const at::Tensor angles = random({11, 4}, 4, false);
  const RotaryTable table{.cos = angles.cos(), .sin = angles.sin()};
  const auto x = [&] { return wide.narrow(1, 8, 4 * 8).unflatten(1, {4, 8}); };
  expect_same(
      {wide}, [&] { return rotate(x(), table); },
      [&] {
        const at::Tensor c = table.cos.unsqueeze(1), s = table.sin.unsqueeze(1);
        const at::Tensor a = x().narrow(2, 0, 4), b = x().narrow(2, 4, 4);
        return at::cat({a * c - b * s, b * c + a * s}, 2);
      });
}

TEST(Ops, SwigluIsItsFormula) {
  const at::Tensor gate = random({37, 29}, 5), up = random({37, 29}, 6);
  expect_same(
      {gate, up}, [&] { return swiglu(gate, up); }, [&] { return at::silu(gate) * up; });
}

TEST(Ops, SwigluOfExtremesIsFinite) {
  const at::Tensor gate = at::tensor({-1e4F, -100.0F, 0.0F, 100.0F, 1e4F});
  EXPECT_TRUE(at::allclose(swiglu(gate, at::ones(5)), at::silu(gate), 1e-6, 1e-30));
  const at::Tensor nan = at::full({5}, std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(swiglu(nan, at::ones(5)).isnan().all().item<bool>());
}

// 9,000 words make the chunks of rows smaller than the rows.
TEST(Ops, NllIsCrossEntropyWithTheSumTimesAScale) {
  const at::Tensor x = random({1200, 16}, 7), w = random({9000, 16}, 8);
  at::Tensor targets = at::arange(1200) * 7 % 9000;
  expect_same(
      {x, w}, [&] { return linear_nll(x, w, targets, 0.25); },
      [&] {
        return at::cross_entropy_loss(at::linear(x, w), targets, {}, at::Reduction::Sum) * 0.25;
      },
      5e-6);
}

TEST(Ops, NllLeavesOutWhatPredictsNothing) {
  const at::Tensor x = random({50, 16}, 9), w = random({40, 16}, 10);
  at::Tensor targets = at::arange(50) % 40;
  targets.narrow(0, 10, 25).fill_(-100);
  expect_same(
      {x, w}, [&] { return linear_nll(x, w, targets, 1); },
      [&] { return at::cross_entropy_loss(at::linear(x, w), targets, {}, at::Reduction::Sum); },
      5e-6);
  targets.fill_(-100);
  EXPECT_EQ(linear_nll(x, w, targets, 1).item<float>(), 0);
}

at::Tensor attention_by_hand(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const std::vector<Stretch>& stretches, std::int64_t window) {
  const std::int64_t share = q.size(1) / k.size(1);
  const at::Tensor kk = k.repeat_interleave(share, 1), vv = v.repeat_interleave(share, 1);
  const std::int64_t n = q.size(0);
  at::Tensor seen = at::zeros({n, n}, at::kBool);
  for (const Stretch& s : stretches) {
    for (std::int64_t i = s.begin; i < s.begin + s.length; ++i) {
      const std::int64_t from = std::max(s.begin, i - window + 1);
      seen.index({i}).narrow(0, from, i - from + 1).fill_(true);
    }
  }
  const at::Tensor scores = at::matmul(q.transpose(0, 1), kk.permute({1, 2, 0})) /
                            std::sqrt(static_cast<double>(q.size(2)));
  const at::Tensor weights =
      at::softmax(scores.masked_fill(~seen, -std::numeric_limits<float>::infinity()), -1);
  return at::matmul(weights, vv.transpose(0, 1)).transpose(0, 1);
}

TEST(Ops, AttentionSeesItsStretchAndWindowOnly) {
  const at::Tensor q = random({40, 4, 8}, 11), k = random({40, 2, 8}, 12),
                   v = random({40, 2, 8}, 13);
  const std::vector<Stretch> alike = {{0, 20}, {20, 20}},
                             unlike = {{0, 7}, {7, 1}, {8, 16}, {24, 16}};
  for (const auto& stretches : {alike, unlike}) {
    expect_same(
        {q, k, v}, [&] { return attention(q, k, v, stretches, std::nullopt); },
        [&] { return attention_by_hand(q, k, v, stretches, 1000); });
    expect_same(
        {q, k, v}, [&] { return attention(q, k, v, stretches, 5); },
        [&] { return attention_by_hand(q, k, v, stretches, 5); });
  }
}

TEST(Ops, AttentionOfLongStretches) {
  // Longer than the blocks that the loops hold, no multiple of any of them; heads that share keys,
  // in columns of a wider product; scores far from 0.
  const at::Tensor wide = random({331, 24 * (6 + 2 + 2)}, 14);
  const auto part = [&](std::int64_t begin, std::int64_t heads) {
    return (3 * wide).narrow(1, 24 * begin, 24 * heads).unflatten(1, {heads, 24});
  };
  const std::vector<Stretch> stretches = {{0, 131}, {131, 200}};
  for (const std::int64_t window : {1, 16, 37, 150, 1000}) {
    expect_same(
        {wide}, [&] { return attention(part(0, 6), part(6, 2), part(8, 2), stretches, window); },
        [&] { return attention_by_hand(part(0, 6), part(6, 2), part(8, 2), stretches, window); });
  }
}

TEST(Ops, CachedAttentionIsThatOfTheWhole) {
  const at::NoGradGuard no_grad;
  const at::Tensor q = random({30, 4, 8}, 18), k = random({30, 2, 8}, 19),
                   v = random({30, 2, 8}, 20);
  for (const auto window : {std::optional<std::int64_t>(), std::optional<std::int64_t>(6)}) {
    const at::Tensor whole = attention(q, k, v, {{0, 30}}, window);
    KeyValueCache cache;
    std::vector<at::Tensor> parts;
    for (std::int64_t at = 0, count = 20; at < 30; at += count, count = at < 24 ? 4 : 1) {
      const auto next = [&](const at::Tensor& x) { return x.narrow(0, at, count); };
      parts.push_back(cache.attend(0, next(q), next(k), next(v), window));
    }
    EXPECT_LE(relative(at::cat(parts), whole), 2e-6);
  }
}

TEST(Ops, AttentionIsTheSameOnAnyNumberOfThreads) {
  const at::Tensor q = random({90, 3, 16}, 15).set_requires_grad(true);
  const auto once = [&](int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    const at::Tensor y = attention(q, q, q, {{0, 50}, {50, 40}}, std::nullopt);
    const at::Tensor g = torch::autograd::grad({y}, {q}, {at::ones_like(y)})[0];
    at::set_num_threads(before);
    return at::cat({y.detach(), g});
  };
  EXPECT_TRUE(at::equal(once(1), once(2)));
}

TEST(Ops, AttentionInOtherTypesIsTorchs) {
  const at::Tensor q = random({40, 4, 8}, 16), k = random({40, 2, 8}, 17);
  const std::vector<Stretch> stretches = {{0, 7}, {7, 13}, {20, 20}};
  for (const auto window : {std::optional<std::int64_t>(), std::optional<std::int64_t>(5)}) {
    const at::Tensor ours = attention(q, k, k, stretches, window);
    const at::Tensor theirs =
        attention(q.to(at::kDouble), k.to(at::kDouble), k.to(at::kDouble), stretches, window);
    EXPECT_LT((ours.to(at::kDouble) - theirs).abs().max().item<double>(), 1e-6);
  }
}

class LinearTest : public testing::TestWithParam<bool> {};

TEST_P(LinearTest, WithAdapterAndBiasIsItsFormula) {
  const bool transposed = GetParam();
  Parameter weight{.name = "m.weight", .shape = {5, 6}}, bias{.name = "m.bias", .shape = {5}},
      a{.name = "m.lora_A.weight", .shape = {2, 6}}, b{.name = "m.lora_B.weight", .shape = {5, 2}};
  weight.value = transposed ? random({6, 5}, 14) : random({5, 6}, 14);
  bias.value = random({5}, 15), a.value = random({2, 6}, 16), b.value = random({5, 2}, 17);
  Linear layer;
  layer.module = "m", layer.weight = &weight, layer.bias = &bias, layer.transposed = transposed;
  layer.lora = Lora{.a = &a, .b = &b, .scale = 3};
  const at::Tensor x = random({9, 6}, 18);
  const auto plain = [&] {
    const at::Tensor w = transposed ? weight.value.t() : weight.value;
    return at::linear(x, w, bias.value) + 3 * at::linear(at::linear(x, a.value), b.value);
  };
  weight.trainable = true;
  expect_same(
      {x, weight.value, bias.value, a.value, b.value}, [&] { return layer(x, nullptr); }, plain);
  weight.trainable = false;
  weight.value.set_requires_grad(false), bias.value.set_requires_grad(false);
  expect_same(
      {x, a.value, b.value}, [&] { return layer(x, nullptr); }, plain);
}

INSTANTIATE_TEST_SUITE_P(BothWaysRound, LinearTest, testing::Bool());

TEST(Linear, DropoutDependsOnTheDataAloneNotOnTheBatch) {
  const DropoutKey both{.seed = 1, .step = 2, .windows = {4, 9}},
      second{.seed = 1, .step = 2, .windows = {9}};
  const at::Tensor mask = dropout_mask(both, "m", 0.25, at::empty({6, 8}), 8, {});
  const at::Tensor alone = dropout_mask(second, "m", 0.25, at::empty({3, 8}), 8, {});
  EXPECT_TRUE(at::equal(mask.narrow(0, 3, 3), alone));
  const at::Tensor half =
      dropout_mask(both, "m", 0.25, at::empty({6, 4}), 8, Cut{.dim = 1, .ranges = {{4, 8}}});
  EXPECT_TRUE(at::equal(mask.narrow(1, 4, 4), half));
  const at::Tensor large =
      dropout_mask({.windows = {0}}, "m", 0.25, at::empty({1000, 100}), 100, {});
  EXPECT_NEAR(large.mean().item<double>(), 1, 0.01);
  EXPECT_FALSE(at::equal(mask, dropout_mask({.seed = 1, .step = 3, .windows = {4, 9}}, "m", 0.25,
                                            at::empty({6, 8}), 8, {})));
}

}  // namespace
}  // namespace rigwise::engine
