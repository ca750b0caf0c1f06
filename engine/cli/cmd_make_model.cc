// make-model: a model of random weights in the format of a Hugging Face folder, for trying things.
#include <fmt/format.h>

#include "base/files.h"
#include "engine/cli/work_flags.h"
#include "engine/model/weights.h"
#include "engine/text/bpe_training.h"

namespace rigwise::engine {
namespace {

struct MakeFlags {
  std::string out, arch = "llama", tokenizer_from;
  std::int64_t hidden = 256, intermediate = 0, layers = 4, heads = 8, kv_heads = 0, vocab = 2048,
               max_seq = 1024;
  bool tie = false;
  std::uint64_t seed = 0;
};

Result<ModelConfig> config_of(const MakeFlags& flags, std::int64_t vocabulary) {
  const auto architecture = architecture_of(flags.arch);
  if (!architecture) {
    return Error{Errc::usage, fmt::format("--arch {}: not known", flags.arch),
                 "known are " + supported_architectures()};
  }
  if (flags.heads < 1 || flags.hidden % flags.heads != 0) {
    return Error{Errc::usage,
                 fmt::format("--hidden {} is no multiple of --heads {}", flags.hidden, flags.heads),
                 "each head takes an equal part"};
  }
  const bool gpt2 = *architecture == Architecture::gpt2;
  ModelConfig config = default_model_config(*architecture);
  config.hidden_size = flags.hidden;
  // Llama's own ratio for a gated MLP, to a multiple of 32; four times for GPT-2.
  config.intermediate_size = flags.intermediate > 0 ? flags.intermediate
                             : gpt2                 ? 4 * flags.hidden
                                                    : (flags.hidden * 8 / 3 + 31) / 32 * 32;
  config.layers = flags.layers;
  config.heads = flags.heads;
  config.kv_heads = flags.kv_heads > 0 && !gpt2 ? flags.kv_heads : flags.heads;
  config.head_dim = flags.hidden / flags.heads;
  config.vocab_size = vocabulary;
  config.max_positions = flags.max_seq;
  config.tie_embeddings = flags.tie || gpt2;
  config.attention_dropout = config.residual_dropout = config.embedding_dropout = 0;
  config.bos_id = 0;
  config.eos_ids = {0};
  config.pad_id = std::nullopt;
  config.dtype = Dtype::f32;
  config.sliding_window = std::nullopt;
  config.sliding_layers.clear();
  RW_CHECK(check_model_config(config));
  return config;
}

Result<int> make_verb(const MakeFlags& flags) {
  namespace fs = std::filesystem;
  std::string text;
  if (!flags.tokenizer_from.empty()) {
    RW_TRY(text, read_file(flags.tokenizer_from));
  }
  RW_TRY(const MadeTokenizer tokenizer,
         train_tokenizer(text, static_cast<std::int32_t>(flags.vocab)));
  // The model keeps the asked vocabulary also where the text had fewer pairs to merge.
  RW_TRY(const ModelConfig config, config_of(flags, flags.vocab));
  std::error_code failed;
  if (fs::exists(fs::path(flags.out) / "config.json")) {
    return Error{Errc::usage, fmt::format("--out {}: there is a model already", flags.out),
                 "name another folder, or remove that one"};
  }
  fs::create_directories(flags.out, failed);
  if (failed) return Error{Errc::io, fmt::format("{}: {}", flags.out, failed.message())};
  const std::unique_ptr<Model> model = Model::describe(config);
  init_weights(*model, flags.seed, at::kFloat);
  std::int64_t elements = 0;
  for (const Parameter* parameter : model->parameters()) elements += parameter->elements();
  RW_CHECK(write_tokenizer(tokenizer, flags.out));
  RW_CHECK(save_tensors(fs::path(flags.out) / "model.safetensors", stored_tensors(*model)));
  RW_CHECK(write_model_config(config, fs::path(flags.out) / "config.json"));
  return print(fmt::format("{}: {} of {} parameters, {} layers, {} tokens in the tokenizer\n",
                           flags.out, flags.arch, elements, config.layers, tokenizer.vocab_size));
}

}  // namespace

void add_make_model(CLI::App& app, Program& program) {
  auto flags = std::make_shared<MakeFlags>();
  CLI::App* verb = app.add_subcommand("make-model", "A small model of random weights");
  const auto number = [&](const char* name, std::int64_t& value, const char* help) {
    verb->add_option(name, value, help)
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24))
        ->capture_default_str();
  };
  verb->add_option("--out", flags->out, "The folder to make")->type_name("DIR")->required();
  verb->add_option("--arch", flags->arch, supported_architectures())->capture_default_str();
  number("--hidden", flags->hidden, "Width of the residual stream");
  verb->add_option("--intermediate", flags->intermediate,
                   "Width of the MLP (default: 8/3 of --hidden; gpt2: 4 times)")
      ->type_name("N");
  number("--layers", flags->layers, "Blocks");
  number("--heads", flags->heads, "Attention heads");
  verb->add_option("--kv-heads", flags->kv_heads, "Key-value heads (default: --heads)")
      ->type_name("N");
  number("--vocab", flags->vocab, "Tokens");
  number("--max-seq", flags->max_seq, "Positions");
  verb->add_flag("--tie", flags->tie, "The head is the embedding");
  verb->add_option("--seed", flags->seed, "Of the weights")->type_name("N")->capture_default_str();
  verb->add_option("--tokenizer-from", flags->tokenizer_from,
                   "A text to train the tokenizer on (default: bytes alone)")
      ->type_name("FILE");
  verb->footer(
      "Example:\n  rigwise-engine make-model --out small --hidden 512 --layers 6 --vocab 8192 "
      "--tokenizer-from book.txt");
  verb->callback([flags, &program] { program.status = exit_code(make_verb(*flags)); });
}

}  // namespace rigwise::engine
