// The small JSON that bitsandbytes packs beside a quantised matrix.
#include <fmt/ranges.h>

#include "base/json.h"
#include "engine/model/nf4.h"

namespace rigwise::engine {
namespace {

std::optional<at::ScalarType> scalar_type(std::string_view name) {
  if (name == "float32") return at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  if (name == "float16") return at::kHalf;
  return std::nullopt;
}

std::string_view type_name(at::ScalarType type) {
  return type == at::kBFloat16 ? "bfloat16" : type == at::kHalf ? "float16" : "float32";
}

}  // namespace

std::string nf4_state_json(const Nf4Tensors& tensors) {
  // As Python's json.dumps has it: blanks after ':' and ','.
  std::string text =
      fmt::format(R"({{"quant_type": "nf4", "blocksize": {}, "dtype": "{}", "shape": [{}])",
                  kNf4Block, type_name(tensors.dtype), fmt::join(tensors.shape, ", "));
  if (tensors.nested_absmax.defined()) {
    text +=
        fmt::format(R"(, "nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": {})",
                    kNf4NestedBlock, tensors.nested_offset);
  }
  return text + "}";
}

Result<Nf4Tensors> parse_nf4_state(std::string_view json, std::string_view place) {
  auto parsed = parse_foreign_json(json, 64 * 1024);
  if (!parsed) return std::move(parsed).error().at(place);
  const Json& state = *parsed;
  const auto bad = [&](Errc code, const std::string& what) {
    return Error{code, fmt::format("{}: {}", place, what),
                 "quantise the model anew from its full weights: --method qlora does"};
  };
  if (!state.is_object()) return bad(Errc::malformed, "not a JSON object");
  if (get<std::string>(state, "quant_type") != "nf4") {
    return bad(Errc::unavailable, "quant_type is not nf4");
  }
  if (get<std::int64_t>(state, "blocksize") != kNf4Block) {
    return bad(Errc::unavailable, fmt::format("blocksize is not {}", kNf4Block));
  }
  Nf4Tensors out;
  const auto dtype = scalar_type(get<std::string>(state, "dtype").value_or(""));
  if (!dtype) return bad(Errc::malformed, "dtype is not float32, bfloat16 or float16");
  out.dtype = *dtype;
  const auto shape = state.find("shape");
  if (shape == state.end() || !shape->is_array() || shape->size() != 2) {
    return bad(Errc::malformed, "shape is not two numbers");
  }
  for (const Json& size : *shape) {
    if (!size.is_number_integer() || size.get<std::int64_t>() <= 0) {
      return bad(Errc::malformed, "shape is not two positive numbers");
    }
    out.shape.push_back(size.get<std::int64_t>());
  }
  if (state.contains("nested_blocksize")) {
    if (get<std::int64_t>(state, "nested_blocksize") != kNf4NestedBlock) {
      return bad(Errc::unavailable, fmt::format("nested_blocksize is not {}", kNf4NestedBlock));
    }
    const auto offset = get<double>(state, "nested_offset");
    if (!offset) return bad(Errc::malformed, "nested_offset is not a number");
    out.nested_offset = *offset;
  }
  return out;
}

}  // namespace rigwise::engine
