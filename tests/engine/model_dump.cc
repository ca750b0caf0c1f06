// What the engine computes of one batch, as a safetensors file, so that parity_test.py can hold it
// against transformers and PEFT: model_dump REQUEST.json, with
//   {"model": DIR, "adapter": DIR or absent, "train": "full" or "lora", "dtype": "fp32" or "bf16",
//    "storage": "full", "nf4" or "nf4_double", "windows": [[ids]], "starts": [[stretch starts]],
//    "out": FILE}
// It writes logits, loss (mean nll) and the gradient of every trained tensor; for NF4 also the
// packed tensors.
#include "dump.h"
#include "engine/model/lora.h"

namespace rigwise::engine {
namespace {

bool quantised(const Parameter& parameter) {
  return parameter.value.scalar_type() == at::kByte || parameter.name.ends_with("absmax");
}

Status prepare(Model& model, const Json& request) {
  RW_TRY(const ModelFolder folder, ModelFolder::open(request.at("model").get<std::string>()));
  LoadOptions options;
  if (request.value("dtype", "fp32") == "bf16") options.dtype = at::kBFloat16;
  const std::string storage = request.value("storage", "full");
  options.storage = storage == "nf4"          ? Storage::nf4
                    : storage == "nf4_double" ? Storage::nf4_double
                                              : Storage::full;
  RW_CHECK(load_weights(model, folder, options));
  if (request.value("train", "full") == "full") {
    for (Parameter* parameter : model.parameters()) {
      parameter->trainable = parameter->value.is_floating_point() && !quantised(*parameter);
      if (parameter->trainable) parameter->value.set_requires_grad(true);
    }
    return Ok{};
  }
  const std::string adapter = request.at("adapter").get<std::string>();
  RW_TRY(const AdapterConfig config, read_adapter_config(adapter));
  RW_CHECK(add_lora(model, config));
  return load_lora(model, adapter);
}

}  // namespace

Status dump(const Json& request) {
  RW_TRY(const ModelConfig config, read_model_config(request.at("model").get<std::string>()));
  const std::unique_ptr<Model> model = Model::describe(config);
  RW_CHECK(prepare(*model, request));
  const auto windows = request.at("windows").get<IdWindows>();
  const MicroBatch batch =
      batch_of(windows, 0, windows.size(), request.value("starts", IdWindows()));
  model->set_longest(batch.ids.numel());
  std::vector<NamedTensor> out;
  {
    const at::NoGradGuard no_grad;
    out.push_back({.name = "logits", .value = model->logits(model->hidden(batch))});
  }
  const auto count = static_cast<double>(batch.targets.ne(-100).sum().item<std::int64_t>());
  const at::Tensor loss = model->loss(model->hidden(batch), batch, 1 / count);
  loss.backward();
  out.push_back({.name = "loss", .value = loss.detach()});
  for (const Parameter* parameter : model->parameters()) {
    if (parameter->trainable) {
      out.push_back({.name = "grad." + parameter->name, .value = parameter->value.grad()});
    } else if (quantised(*parameter)) {
      out.push_back({.name = "kept." + parameter->name, .value = parameter->value});
    }
  }
  return save_tensors(request.at("out").get<std::string>(), out);
}

}  // namespace rigwise::engine

int main(int, char** argv) {
  return rigwise::engine::run_request(argv[1], rigwise::engine::dump);
}
