#include "engine/model/weights.h"

#define XXH_INLINE_ALL
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <xxhash.h>

namespace rigwise::engine {
namespace {

constexpr std::string_view kStateSuffix = ".quant_state.bitsandbytes__nf4";

/// Older checkpoints hold a model without the name of its trunk.
const TensorView* find_weight(const ModelFolder& folder, std::string_view name) {
  if (const TensorView* view = folder.find(name)) return view;
  for (const std::string_view trunk : {"transformer.", "model."}) {
    if (name.starts_with(trunk)) {
      if (const TensorView* view = folder.find(name.substr(trunk.size()))) return view;
    }
  }
  return nullptr;
}

Error missing(const ModelFolder& folder, std::string_view name) {
  return Error{Errc::not_found,
               fmt::format("{}: no tensor {}", folder.files().front().path().string(), name),
               "the weights are not those that config.json describes"};
}

Error wrong_shape(const ModelFolder& folder, const TensorView& view,
                  const std::vector<std::int64_t>& wanted) {
  return Error{
      Errc::malformed,
      fmt::format("{}: {} is {}, but config.json asks for {}", folder.file_of(view).path().string(),
                  view.name, shape_text(view.shape), shape_text(wanted)),
      "the weights and config.json are of two models"};
}

Result<at::Tensor> whole_tensor(const ModelFolder& folder, const Parameter& parameter) {
  const TensorView* view = find_weight(folder, parameter.name);
  if (view == nullptr) return missing(folder, parameter.name);
  if (view->shape != parameter.shape) return wrong_shape(folder, *view, parameter.shape);
  return mapped_tensor(*view);
}

/// A copy of this rank's part, dense and in the wanted type, off the mapped file.
at::Tensor own_part(const at::Tensor& whole, const std::optional<Cut>& cut, at::ScalarType dtype) {
  const at::Tensor part = part_of(whole, cut);
  return at::empty(part.sizes(), part.options().dtype(dtype)).copy_(part);
}

Status load_full(const ModelFolder& folder, Parameter& parameter, at::ScalarType dtype) {
  RW_TRY(const at::Tensor whole, whole_tensor(folder, parameter));
  if (!whole.is_floating_point()) {
    return Error{Errc::unavailable,
                 fmt::format("{}: {} holds {}, not floating-point numbers",
                             folder.files().front().path().string(), parameter.name,
                             c10::toString(whole.scalar_type())),
                 "only full and NF4 (bitsandbytes) weights are read"};
  }
  parameter.value = own_part(whole, parameter.cut, dtype).to(parameter.device);
  return Ok{};
}

Result<at::Tensor> part_tensor(const ModelFolder& folder, const std::string& name) {
  const TensorView* view = find_weight(folder, name);
  if (view == nullptr) return missing(folder, name);
  RW_TRY(const at::Tensor mapped, mapped_tensor(*view));
  return mapped.clone();
}

/// The parts of a matrix that the folder keeps quantised.
Result<Nf4Tensors> read_nf4(const ModelFolder& folder, const Parameter& weight) {
  const TensorView* state = find_weight(folder, weight.name + std::string(kStateSuffix));
  const std::string_view text(reinterpret_cast<const char*>(state->bytes.data()),
                              state->bytes.size());
  RW_TRY(Nf4Tensors read, parse_nf4_state(text, weight.name));
  if (read.shape != weight.shape) {
    return Error{Errc::malformed,
                 fmt::format("{}: its quantised matrix is {}, but config.json asks for {}",
                             weight.name, shape_text(read.shape), shape_text(weight.shape)),
                 "the weights and config.json are of two models"};
  }
  RW_TRY(read.packed, part_tensor(folder, weight.name));
  RW_TRY(read.absmax, part_tensor(folder, weight.name + ".absmax"));
  const TensorView* nested = find_weight(folder, weight.name + ".nested_absmax");
  if (nested != nullptr) {
    RW_TRY(read.nested_absmax, part_tensor(folder, weight.name + ".nested_absmax"));
  }
  const std::int64_t elements = weight.elements();
  const std::int64_t blocks = (elements + kNf4Block - 1) / kNf4Block;
  const std::int64_t outer = (blocks + kNf4NestedBlock - 1) / kNf4NestedBlock;
  const bool types_fit = read.packed.scalar_type() == at::kByte &&
                         (nested == nullptr ? read.absmax.scalar_type() == at::kFloat
                                            : read.absmax.scalar_type() == at::kByte &&
                                                  read.nested_absmax.scalar_type() == at::kFloat);
  if (!types_fit || read.packed.numel() * 2 != elements || read.absmax.numel() != blocks ||
      (nested != nullptr && read.nested_absmax.numel() != outer)) {
    return Error{
        Errc::malformed,
        fmt::format("{}: the parts of its NF4 storage do not fit one another", weight.name),
        "quantise the model anew"};
  }
  return read;
}

/// The parts as parameters of the model beside the matrix, so that whoever shards, gathers or
/// saves parameters meets them like any other.
Status store_nf4(Model& model, Linear& layer, Nf4Tensors tensors) {
  Parameter& weight = *layer.weight;
  if (weight.cut) {
    RW_TRY(tensors, cut_nf4(tensors, *weight.cut, weight.name));
  }
  Nf4Weight& kept = layer.nf4.emplace();
  kept.shape = weight.local_shape();
  kept.dtype = tensors.dtype;
  kept.nested_offset = tensors.nested_offset;
  kept.levels = nf4_levels();
  const auto add = [&](const char* suffix, const at::Tensor& value) {
    Parameter* part = model.add_parameter(weight.name + suffix, value.sizes().vec());
    part->device = weight.device;
    part->value = value.to(weight.device);
    return part;
  };
  weight.value = tensors.packed.to(weight.device);
  kept.absmax = add(".absmax", tensors.absmax);
  if (tensors.nested_absmax.defined()) {
    kept.nested_levels = nf4_nested_levels();
    kept.nested_absmax = add(".nested_absmax", tensors.nested_absmax);
  }
  return Ok{};
}

Status load_linear(Model& model, const ModelFolder& folder, Linear& layer,
                   const LoadOptions& options) {
  Parameter& weight = *layer.weight;
  if (find_weight(folder, weight.name + std::string(kStateSuffix)) != nullptr) {
    RW_TRY(Nf4Tensors read, read_nf4(folder, weight));
    return store_nf4(model, layer, std::move(read));
  }
  if (options.storage == Storage::full) return load_full(folder, weight, options.dtype);
  RW_TRY(const at::Tensor whole, whole_tensor(folder, weight));
  // As a program would hand it to bitsandbytes: first in the type it computes in.
  const at::Tensor matrix = own_part(layer.transposed ? whole.t() : whole, {}, options.dtype);
  if (layer.transposed) {
    weight.shape = {weight.shape[1], weight.shape[0]};
    layer.transposed = false;
  }
  auto quantised = quantise_nf4(matrix, options.storage == Storage::nf4_double);
  if (!quantised) return std::move(quantised).error().at(weight.name);
  return store_nf4(model, layer, std::move(*quantised));
}

}  // namespace

Status load_weights(Model& model, const ModelFolder& folder, const LoadOptions& options) {
  std::vector<Parameter*> rest;
  for (Parameter* parameter : model.parameters()) {
    if (!parameter->value.defined()) rest.push_back(parameter);  // adapters are filled elsewhere
  }
  for (const std::unique_ptr<Block>& block : model.blocks()) {
    for (Linear* layer : block->linears()) {
      if (std::erase(rest, layer->weight) > 0) {
        RW_CHECK(load_linear(model, folder, *layer, options));
      }
    }
    for (Parameter* parameter : block->parameters()) {
      if (std::erase(rest, parameter) > 0) RW_CHECK(load_full(folder, *parameter, options.dtype));
    }
    if (options.on_block) options.on_block(*block);
  }
  for (Parameter* parameter : rest) RW_CHECK(load_full(folder, *parameter, options.dtype));
  return Ok{};
}

std::vector<NamedTensor> stored_tensors(Model& model) {
  std::vector<NamedTensor> tensors;
  for (const Parameter* parameter : model.parameters()) {
    tensors.push_back({.name = parameter->name, .value = parameter->value});
  }
  for (const std::unique_ptr<Block>& block : model.blocks()) {
    for (const Linear* layer : block->linears()) {
      if (!layer->nf4) continue;
      const std::string& name = layer->weight->name;
      Nf4Tensors described{.nested_offset = layer->nf4->nested_offset,
                           .shape = layer->nf4->shape,
                           .dtype = layer->nf4->dtype};
      tensors.push_back({.name = name + ".quant_map", .value = layer->nf4->levels});
      if (layer->nf4->nested_absmax != nullptr) {
        described.nested_absmax = layer->nf4->nested_absmax->value;
        tensors.push_back({.name = name + ".nested_quant_map", .value = layer->nf4->nested_levels});
      }
      std::string state = nf4_state_json(described);
      const auto size = static_cast<std::int64_t>(state.size());
      tensors.push_back({.name = name + std::string(kStateSuffix),
                         .value = at::from_blob(state.data(), {size}, at::kByte).clone()});
    }
  }
  return tensors;
}

at::Generator named_generator(std::string_view name, std::uint64_t seed) {
  return at::detail::createCPUGenerator(XXH3_64bits_withSeed(name.data(), name.size(), seed));
}

void init_weights(Model& model, std::uint64_t seed, at::ScalarType dtype) {
  for (Parameter* parameter : model.parameters()) {
    at::Tensor whole = at::empty(parameter->shape, at::kFloat);
    if (parameter->name.ends_with(".bias")) {
      whole.zero_();
    } else if (parameter->shape.size() == 1) {
      whole.fill_(1);
    } else {
      whole.normal_(0, model.config().initializer_range, named_generator(parameter->name, seed));
    }
    parameter->value = own_part(whole, parameter->cut, dtype).to(parameter->device);
  }
}

at::ScalarType scalar_type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::bool8:
      return at::kBool;
    case Dtype::u8:
      return at::kByte;
    case Dtype::i8:
      return at::kChar;
    case Dtype::i16:
      return at::kShort;
    case Dtype::f16:
      return at::kHalf;
    case Dtype::bf16:
      return at::kBFloat16;
    case Dtype::i32:
      return at::kInt;
    case Dtype::f32:
      return at::kFloat;
    case Dtype::f64:
      return at::kDouble;
    case Dtype::i64:
      return at::kLong;
    default:
      return at::ScalarType::Undefined;
  }
}

Dtype dtype_of_tensor(at::ScalarType type) {
  switch (type) {
    case at::kBool:
      return Dtype::bool8;
    case at::kByte:
      return Dtype::u8;
    case at::kHalf:
      return Dtype::f16;
    case at::kBFloat16:
      return Dtype::bf16;
    case at::kInt:
      return Dtype::i32;
    case at::kDouble:
      return Dtype::f64;
    case at::kLong:
      return Dtype::i64;
    default:
      return Dtype::f32;
  }
}

Result<at::Tensor> mapped_tensor(const TensorView& view) {
  const at::ScalarType type = scalar_type_of(view.dtype);
  if (type == at::ScalarType::Undefined) {
    return Error{
        Errc::unavailable,
        fmt::format("{} is stored as {}, which is not read", view.name, dtype_name(view.dtype)),
        "save the model in F32, F16 or BF16"};
  }
  // Files of old writers put tensors at odd places; a copy is as good as a view then.
  auto* bytes = const_cast<std::byte*>(view.bytes.data());
  if (reinterpret_cast<std::uintptr_t>(bytes) % c10::elementSize(type) != 0) {
    at::Tensor copy = at::empty(view.shape, type);
    std::memcpy(copy.mutable_data_ptr(), bytes, view.bytes.size());
    return copy;
  }
  return at::from_blob(bytes, view.shape, type);
}

Status save_tensors(const std::filesystem::path& file, const std::vector<NamedTensor>& tensors,
                    const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSpec> specs;
  std::unordered_map<std::string_view, const at::Tensor*> values;
  for (const NamedTensor& tensor : tensors) {
    specs.push_back({.name = tensor.name,
                     .dtype = dtype_of_tensor(tensor.value.scalar_type()),
                     .shape = tensor.value.sizes().vec()});
    values[tensor.name] = &tensor.value;
  }
  RW_TRY(SafetensorsWriter writer, SafetensorsWriter::create(file, specs, metadata));
  for (const TensorSpec& spec : writer.tensors()) {
    const at::Tensor dense = values.at(spec.name)->detach().cpu().contiguous();
    RW_CHECK(writer.write(spec.name, {static_cast<const std::byte*>(dense.const_data_ptr()),
                                      static_cast<std::size_t>(dense.nbytes())}));
  }
  return writer.finish();
}

}  // namespace rigwise::engine
