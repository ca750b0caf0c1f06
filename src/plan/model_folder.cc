// A model's folder: config.json and the headers of its safetensors files, hostile until parsed.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "rigwise/catalogue.h"

namespace rigwise {

namespace {

constexpr std::uint64_t kMostConfigBytes = 4 << 20;
constexpr std::uint64_t kMostHeaderBytes = 32 << 20;
constexpr std::size_t kMostFiles = 500;
constexpr double kMostSize = 1e7;  // of one dimension

struct Reading {
  const Json& json;
  std::string place;
  std::vector<std::string> assumed = {};

  /// The first of the names that is there. Errors: a value that is no positive whole number.
  Result<std::optional<std::int64_t>> size(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      const auto found = json.find(name);
      if (found == json.end() || found->is_null()) continue;
      const auto value = get<double>(json, name);
      if (!value || !(*value >= 1) || *value > kMostSize || *value != std::floor(*value)) {
        return Error{Errc::malformed,
                     place + ": " + name + " is " + clean_text(found->dump(-1, ' ', true), 60),
                     "a whole number from 1 to 10,000,000 is expected"};
      }
      return std::optional(static_cast<std::int64_t>(*value));
    }
    return std::optional<std::int64_t>();
  }
  Result<std::int64_t> need(std::initializer_list<const char*> names) const {
    RW_TRY(const auto value, size(names));
    if (value) return *value;
    return Error{Errc::malformed, place + ": no " + std::string(*names.begin()),
                 "config.json of the model itself is needed, not an adapter's"};
  }
};

constexpr std::array<std::string_view, 14> kUngated = {
    "gpt2",   "gpt_neox", "gpt_neo", "gptj", "opt",        "bloom",   "phi",
    "falcon", "bert",     "roberta", "mpt",  "starcoder2", "codegen", "gpt_bigcode"};

Result<ModelShape> shape_of(Reading& in, const std::string& type) {
  ModelShape shape;
  RW_TRY(shape.layers, in.need({"num_hidden_layers", "n_layer", "num_layers", "n_layers"}));
  RW_TRY(shape.hidden, in.need({"hidden_size", "n_embd", "d_model"}));
  RW_TRY(shape.heads, in.need({"num_attention_heads", "n_head", "n_heads"}));
  RW_TRY(shape.vocab, in.need({"vocab_size"}));
  RW_TRY(const auto kv, in.size({"num_key_value_heads", "num_kv_heads", "multi_query_group_num"}));
  const bool one_kv = get<bool>(in.json, "multi_query").value_or(false);
  shape.kv_heads = one_kv ? 1 : kv.value_or(shape.heads);
  RW_TRY(const auto dim, in.size({"head_dim"}));
  if (!dim && shape.hidden % shape.heads != 0) {
    return Error{Errc::malformed,
                 in.place + ": hidden_size " + std::to_string(shape.hidden) +
                     " does not divide by " + std::to_string(shape.heads) +
                     " heads, and no head_dim is stated",
                 ""};
  }
  shape.head_dim = dim.value_or(shape.hidden / shape.heads);
  if (shape.heads % shape.kv_heads != 0) {
    return Error{Errc::malformed,
                 in.place + ": " + std::to_string(shape.kv_heads) +
                     " key-value heads do not divide " + std::to_string(shape.heads) + " heads",
                 ""};
  }
  shape.gated_mlp =
      std::find(kUngated.begin(), kUngated.end(), std::string_view(type)) == kUngated.end();
  RW_TRY(const auto ffn,
         in.size({"intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff"}));
  if (!ffn) {
    in.assumed.push_back("MLP width: 4 × hidden");
  }
  shape.ffn = ffn.value_or(4 * shape.hidden);
  const auto tied = get<bool>(in.json, "tie_word_embeddings");
  if (!tied && type != "gpt2" && type != "bert") {
    in.assumed.push_back("embeddings and head are two matrices");
  }
  shape.tied_embeddings = tied.value_or(type == "gpt2" || type == "bert" || type == "gemma");
  return shape;
}

/// Elements of all tensors of one safetensors file, from its header alone.
Result<double> count_elements(const std::filesystem::path& path) {
  const auto torn = [&](const std::string& what) {
    return Error{Errc::malformed, path.string() + ": " + what, "copy or download it again"};
  };
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return Error{Errc::io, path.string() + ": cannot open", ""};
  std::array<unsigned char, 8> size_bytes = {};
  if (::pread(fd.get(), size_bytes.data(), 8, 0) != 8) return torn("too short for safetensors");
  std::uint64_t size = 0;
  for (std::size_t i = 8; i-- > 0;) size = (size << 8) | size_bytes[i];
  if (size > kMostHeaderBytes) {
    return torn("its header would have " + std::to_string(size) + " bytes");
  }
  std::string header(size, '\0');
  std::size_t got = 0;
  while (got < size) {
    const ssize_t n =
        ::pread(fd.get(), header.data() + got, size - got, static_cast<off_t>(8 + got));
    if (n <= 0) return torn("cut off inside its header");
    got += static_cast<std::size_t>(n);
  }
  RW_TRY(const Json json, parse_foreign_json(header, kMostHeaderBytes));
  if (!json.is_object()) return torn("its header is no JSON object");
  double elements = 0;
  for (const auto& [name, tensor] : json.items()) {
    if (name == "__metadata__" || !tensor.is_object()) continue;
    const auto shape = tensor.find("shape");
    if (shape == tensor.end() || !shape->is_array()) continue;
    double count = 1;
    for (const auto& dim : *shape) count *= dim.is_number() ? std::max(0.0, dim.get<double>()) : 0;
    const auto dtype = get<std::string>(tensor, "dtype").value_or("");
    if (dtype == "U8" || dtype == "I32")
      continue;  // packed weights and their scales count otherwise
    elements += count;
  }
  return elements;
}

}  // namespace

Result<ModelSource> read_model(const std::filesystem::path& folder) {
  const auto config = folder / "config.json";
  RW_TRY(const std::string text, read_file(config, kMostConfigBytes));
  auto parsed = parse_foreign_json(text, kMostConfigBytes);
  if (!parsed) return std::move(parsed).error().at(config.string());
  if (!parsed->is_object()) {
    return Error{Errc::malformed, config.string() + ": no JSON object", ""};
  }
  const Json* json = &*parsed;
  // models that see pictures too keep the language model's figures apart
  if (const auto inner = json->find("text_config");
      inner != json->end() && inner->is_object() && !json->contains("num_hidden_layers")) {
    json = &*inner;
  }
  ModelSource source;
  source.name = clean_text(folder.filename().empty() ? folder.parent_path().filename().string()
                                                     : folder.filename().string(),
                           120);
  Reading in{*json, config.string()};
  const std::string type = lower(get<std::string>(*json, "model_type").value_or(""));
  for (const char* experts : {"num_local_experts", "num_experts", "n_routed_experts"}) {
    if (const auto count = get<double>(*json, experts); count && *count > 1) {
      return Error{Errc::unavailable,
                   config.string() + ": " + experts + " is " + number_text(*count) +
                       ": mixtures of experts are not predicted yet",
                   "measure it: rigwise run --name probe -- CMD, a few steps"};
    }
  }
  RW_TRY(source.shape, shape_of(in, type));
  source.assumed = std::move(in.assumed);
  double elements = 0;
  std::size_t files = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    if (entry.path().extension() != ".safetensors" || ++files > kMostFiles) continue;
    if (entry.path().filename().string().find("adapter") != std::string::npos) continue;
    RW_TRY(const double count, count_elements(entry.path()));
    elements += count;
  }
  const double by_shape = shape_params(source.shape);
  if (elements > 0.7 * by_shape && elements < 1.5 * by_shape) {
    source.params = elements;
  } else if (elements > 0) {
    source.assumed.push_back("parameters from config.json; the weight files hold another number");
  }
  return source;
}

}  // namespace rigwise
