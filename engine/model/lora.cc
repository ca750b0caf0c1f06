#include "engine/model/lora.h"

#include <fmt/format.h>

#include <cmath>
#include <set>

namespace rigwise::engine {
namespace {

constexpr std::string_view kPeftPrefix = "base_model.model.";
constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight";

std::vector<Linear*> all_linears(Model& model) {
  std::vector<Linear*> all;
  for (const std::unique_ptr<Block>& block : model.blocks()) {
    for (Linear* layer : block->linears()) all.push_back(layer);
  }
  return all;
}

std::vector<Parameter*> lora_parameters(Model& model) {
  std::vector<Parameter*> all;
  for (Linear* layer : all_linears(model)) {
    if (layer->lora) all.insert(all.end(), {layer->lora->a, layer->lora->b});
  }
  return all;
}

void set_trained(Parameter& parameter, const at::Tensor& whole) {
  const at::Tensor part = part_of(whole, parameter.cut);
  parameter.value = at::empty(part.sizes(), at::kFloat).copy_(part).to(parameter.device);
  parameter.value.set_requires_grad(true);
}

}  // namespace

std::vector<std::string> default_lora_targets(Architecture architecture) {
  if (architecture == Architecture::gpt2) return {"c_attn"};
  return {"q_proj", "v_proj"};
}

std::string peft_name(std::string_view name) {
  return fmt::format("{}{}", kPeftPrefix, name);
}

Status add_lora(Model& model, const AdapterConfig& config) {
  std::vector<std::string> modules;
  std::unordered_map<std::string, Linear*> by_module;
  for (Linear* layer : all_linears(model)) {
    modules.push_back(layer->module);
    by_module[layer->module] = layer;
  }
  for (Parameter* parameter : model.parameters()) parameter->trainable = false;
  RW_TRY(const std::vector<std::string> hit, adapted_modules(config, modules));
  for (const std::string& module : hit) {
    RW_TRY(const AdapterShape shape, adapter_shape(config, module));
    Linear& layer = *by_module.at(module);
    const std::vector<std::int64_t>& whole = layer.weight->shape;
    const std::int64_t outputs = whole[layer.transposed ? 1 : 0],
                       inputs = whole[layer.transposed ? 0 : 1];
    Lora& lora = layer.lora.emplace();
    lora.a = model.add_parameter(module + std::string(kA), {shape.rank, inputs});
    lora.b = model.add_parameter(module + std::string(kB), {outputs, shape.rank});
    lora.a->trainable = lora.b->trainable = true;
    lora.a->device = lora.b->device = layer.weight->device;
    lora.scale = shape.scale;
    lora.dropout = config.dropout;
  }
  return Ok{};
}

void init_lora(Model& model, std::uint64_t seed) {
  for (Linear* layer : all_linears(model)) {
    if (!layer->lora) continue;
    Parameter &a = *layer->lora->a, &b = *layer->lora->b;
    const double bound = 1 / std::sqrt(static_cast<double>(a.shape[1]));
    at::Tensor whole = at::empty(a.shape, at::kFloat);
    whole.uniform_(-bound, bound, named_generator(a.name, seed));
    set_trained(a, whole);
    set_trained(b, at::zeros(b.shape, at::kFloat));
  }
}

Status load_lora(Model& model, const std::filesystem::path& folder) {
  RW_TRY(const SafetensorsFile file, SafetensorsFile::open(folder / "adapter_model.safetensors"));
  std::set<std::string_view> left;
  for (const TensorView& tensor : file.tensors()) left.insert(tensor.name);
  for (Linear* layer : all_linears(model)) {
    if (!layer->lora) continue;
    for (Parameter* parameter : {layer->lora->a, layer->lora->b}) {
      const std::string name = peft_name(parameter->name);
      const TensorView* view = file.find(name);
      if (view == nullptr) {
        return Error{Errc::not_found, fmt::format("{}: no tensor {}", file.path().string(), name),
                     "adapter_config.json names layers that its tensors do not have"};
      }
      if (view->shape != parameter->shape) {
        return Error{Errc::malformed,
                     fmt::format("{}: {} is {}, but the model asks for {}", file.path().string(),
                                 name, shape_text(view->shape), shape_text(parameter->shape)),
                     "the adapter was made for another model"};
      }
      RW_TRY(const at::Tensor whole, mapped_tensor(*view));
      set_trained(*parameter, whole);
      left.erase(view->name);
    }
  }
  // Under pipeline parallelism the other stages' layers are not ours to ask for.
  const auto whole_model =
      static_cast<std::int64_t>(model.blocks().size()) == model.config().layers;
  if (whole_model && !left.empty()) {
    return Error{
        Errc::malformed,
        fmt::format("{}: no layer of the model takes {}", file.path().string(), *left.begin()),
        "the adapter was made for another model, or adapts more than linear layers"};
  }
  return Ok{};
}

std::vector<NamedTensor> lora_tensors(Model& model,
                                      const std::function<at::Tensor(const Parameter&)>& value_of) {
  std::vector<NamedTensor> tensors;
  for (const Parameter* parameter : lora_parameters(model)) {
    tensors.push_back({.name = peft_name(parameter->name), .value = value_of(*parameter)});
  }
  return tensors;
}

}  // namespace rigwise::engine
