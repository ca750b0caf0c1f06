#include "engine/train/evaluate.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "engine/model/lora.h"

namespace rigwise::engine {

Result<std::unique_ptr<Model>> load_for_use(const ModelOptions& options) {
  RW_TRY(const ModelConfig config, read_model_config(options.model));
  std::unique_ptr<Model> model = Model::describe(config);
  if (options.longest > 0) model->set_longest(options.longest);
  if (options.adapter_from) RW_CHECK(add_lora(*model, options.adapter));
  for (const std::unique_ptr<Block>& block : model->blocks()) {
    model->place(*block, options.devices[0]);
  }
  model->place_rest(options.devices[0]);
  if (options.adapter_from) RW_CHECK(load_lora(*model, *options.adapter_from));
  RW_TRY(const ModelFolder folder, ModelFolder::open(options.model));
  RW_CHECK(load_weights(
      *model, folder,
      {.dtype = options.dtype,
       .storage = options.method == Method::qlora ? options.quantised : Storage::full}));
  model->pack(options.rows, /*backward=*/false);
  return model;
}

Result<Evaluation> evaluate(const ModelOptions& options, const DataFlags& data,
                            std::int64_t micro_batch_size,
                            const std::function<void(std::int64_t, std::int64_t)>& progress) {
  const at::NoGradGuard no_grad;
  DataStatistics statistics;
  RW_TRY(const std::shared_ptr<const Windows> windows,
         read_windows(options.model, data, &statistics));
  ModelOptions sized = options;
  sized.longest = windows->seq();
  RW_TRY(const std::unique_ptr<Model> model, load_for_use(sized));
  if (windows->seq() > model->config().max_positions) {
    return Error{Errc::usage,
                 fmt::format("windows of {} tokens, but the model knows {} positions",
                             windows->seq(), model->config().max_positions),
                 fmt::format("--seq {} or less", model->config().max_positions)};
  }
  const auto began = std::chrono::steady_clock::now();
  Evaluation result{.documents = statistics.documents};
  double sum = 0;
  const auto count = static_cast<std::int64_t>(windows->size());
  for (std::int64_t at = 0; at < count; at += micro_batch_size) {
    std::vector<std::int64_t> indices;
    for (std::int64_t i = at; i < std::min(count, at + micro_batch_size); ++i) {
      indices.push_back(i);
      result.tokens += windows->window(static_cast<std::size_t>(i)).predicted;
    }
    const MicroBatch batch = micro_batch(*windows, indices);
    sum += model->loss(model->hidden(batch), batch, 1).item<double>();
    progress(std::min(count, at + micro_batch_size), count);
  }
  result.loss = sum / static_cast<double>(std::max<std::int64_t>(1, result.tokens));
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return result;
}

namespace {

/// The tokens from `begin` on, behind those whose keys and values are in `past`.
MicroBatch continued(std::span<const std::int32_t> ids, std::size_t begin, KeyValueCache& past) {
  MicroBatch batch;
  const auto next = ids.subspan(begin);
  batch.ids = at::tensor(at::ArrayRef<std::int32_t>(next.data(), next.size()), at::kLong);
  batch.positions =
      at::arange(static_cast<std::int64_t>(begin), static_cast<std::int64_t>(ids.size()));
  batch.past = &past;
  return batch;
}

std::int32_t choose(const at::Tensor& logits_V, const GenerateOptions& options,
                    at::Generator& generator) {
  if (options.temperature <= 0)
    return static_cast<std::int32_t>(logits_V.argmax().item<std::int64_t>());
  const at::Tensor shares = at::softmax(logits_V.cpu() / options.temperature, 0);
  return static_cast<std::int32_t>(
      at::multinomial(shares, 1, false, generator).item<std::int64_t>());
}

/// How much of `text` ends with a whole character: decoding byte by byte leaves marks of broken
/// ones at the end until the next token completes them.
std::size_t whole_part(std::string_view text) {
  constexpr std::string_view kBroken = "\xEF\xBF\xBD";
  std::size_t end = text.size();
  while (end >= kBroken.size() && text.substr(0, end).ends_with(kBroken)) end -= kBroken.size();
  return end;
}

}  // namespace

Status generate(const ModelOptions& model_options, const std::string& prompt,
                const GenerateOptions& options,
                const std::function<void(std::string_view)>& piece) {
  const at::NoGradGuard no_grad;
  RW_TRY(Tokenizer tokenizer, Tokenizer::read(model_options.model));
  RW_TRY(std::vector<std::int32_t> ids, tokenizer.encode(prompt));
  RW_TRY(const std::unique_ptr<Model> model, load_for_use(model_options));
  const auto highest = std::ranges::max_element(ids);
  if (highest != ids.end()) {
    RW_CHECK(check_highest_id(*highest, model->config(), model_options.model, "the prompt"));
  }
  const std::int64_t most = model->config().max_positions;
  if (ids.empty()) {
    const auto bos = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
    if (!bos) return Error{Errc::usage, "an empty prompt, and the model has no first token"};
    ids.push_back(*bos);
  }
  if (static_cast<std::int64_t>(ids.size()) >= most) {
    return Error{
        Errc::usage,
        fmt::format("a prompt of {} tokens, but the model knows {} positions", ids.size(), most),
        "shorten it"};
  }
  std::vector<std::int32_t> stops = tokenizer.settings().stop_ids;
  stops.insert(stops.end(), model->config().eos_ids.begin(), model->config().eos_ids.end());
  if (const auto eos = tokenizer.eos()) stops.push_back(*eos);
  at::Generator generator = at::detail::createCPUGenerator(options.seed);
  KeyValueCache past;
  const std::size_t first = ids.size();
  std::size_t told = 0, seen = 0;
  std::string text;
  for (std::int64_t made = 0;
       made < options.max_tokens && static_cast<std::int64_t>(ids.size()) < most; ++made) {
    const at::Tensor hidden = model->hidden(continued(ids, seen, past));
    seen = ids.size();
    const at::Tensor logits = model->logits(hidden.narrow(0, hidden.size(0) - 1, 1)).squeeze(0);
    const std::int32_t next = choose(logits, options, generator);
    if (std::ranges::find(stops, next) != stops.end()) break;
    ids.push_back(next);
    text = tokenizer.decode(std::span(ids).subspan(first));
    const std::size_t whole = whole_part(text);
    if (whole > told) {
      piece(std::string_view(text).substr(told, whole - told));
      told = whole;
    }
  }
  if (text.size() > told) piece(std::string_view(text).substr(told));
  return Ok{};
}

}  // namespace rigwise::engine
