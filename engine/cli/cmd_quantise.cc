// quantise: a copy of a model whose matrices are kept in 4 bits, as bitsandbytes writes them.
#include <fmt/format.h>

#include "base/files.h"
#include "base/json.h"
#include "engine/cli/work_flags.h"
#include "engine/train/checkpoint.h"
#include "rigwise/units.h"

namespace rigwise::engine {
namespace {

struct QuantiseFlags {
  std::string model, out, dtype = "bf16";
  bool single = false;
};

/// Adds what transformers needs to know to load the folder.
Status describe_quantisation(const std::filesystem::path& file, const QuantiseFlags& flags) {
  RW_TRY(const std::string text, read_file(file));
  auto config = parse_foreign_json(text, std::size_t{1} << 20);
  if (!config) return std::move(config).error().at(file.string());
  const char* compute = flags.dtype == "bf16" ? "bfloat16" : "float32";
  (*config)["quantization_config"] = {{"quant_method", "bitsandbytes"},
                                      {"load_in_4bit", true},
                                      {"load_in_8bit", false},
                                      {"bnb_4bit_quant_type", "nf4"},
                                      {"bnb_4bit_use_double_quant", !flags.single},
                                      {"bnb_4bit_compute_dtype", compute},
                                      {"bnb_4bit_quant_storage", "uint8"}};
  return write_file_atomic(file, config->dump(2) + "\n");
}

Result<int> quantise_verb(const QuantiseFlags& flags) {
  namespace fs = std::filesystem;
  if (fs::exists(flags.out)) {
    return Error{Errc::usage, fmt::format("--out {}: is there already", flags.out),
                 "name a folder that is not"};
  }
  RW_TRY(const ModelConfig config, read_model_config(flags.model));
  if (config.quantization) {
    return Error{Errc::usage, fmt::format("{}: is quantised already", flags.model),
                 "name the full model"};
  }
  RW_TRY(const ModelFolder folder, ModelFolder::open(flags.model));
  const std::unique_ptr<Model> model = Model::describe(config);
  const Storage storage = flags.single ? Storage::nf4 : Storage::nf4_double;
  const at::ScalarType dtype = flags.dtype == "bf16" ? at::kBFloat16 : at::kFloat;
  RW_CHECK(load_weights(*model, folder, {.dtype = dtype, .storage = storage}));
  const std::vector<NamedTensor> tensors = stored_tensors(*model);
  std::error_code failed;
  fs::create_directories(flags.out, failed);
  if (failed) return Error{Errc::io, fmt::format("{}: {}", flags.out, failed.message())};
  RW_CHECK(save_tensors(fs::path(flags.out) / "model.safetensors", tensors));
  RW_CHECK(copy_model_files(flags.model, flags.out, dtype));
  RW_CHECK(describe_quantisation(fs::path(flags.out) / "config.json", flags));
  double bytes = 0;
  for (const NamedTensor& tensor : tensors) bytes += static_cast<double>(tensor.value.nbytes());
  return print(fmt::format("{}: {} of weights, {} before\n", flags.out, format_bytes(bytes),
                           format_bytes(static_cast<double>(folder.bytes()))));
}

}  // namespace

void add_quantise(CLI::App& app, Program& program) {
  auto flags = std::make_shared<QuantiseFlags>();
  CLI::App* verb = app.add_subcommand("quantise", "A 4-bit copy of a model (NF4, bitsandbytes)");
  verb->add_option("--model", flags->model, "A Hugging Face folder")->type_name("DIR")->required();
  verb->add_option("--out", flags->out, "The folder to make")->type_name("DIR")->required();
  verb->add_option("--dtype", flags->dtype, "Of what is not quantised, and to compute in")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  verb->add_flag("--no-double-quantisation", flags->single, "Keep the scales in full");
  verb->footer("Example:\n  rigwise-engine quantise --model ~/models/Qwen2.5-0.5B --out small4");
  verb->callback([flags, &program] { program.status = exit_code(quantise_verb(*flags)); });
}

}  // namespace rigwise::engine
