// generate: a look at what a model says.
#include "engine/cli/flags.h"
#include "engine/cli/work_flags.h"
#include "engine/train/evaluate.h"

namespace rigwise::engine {
namespace {

struct GenerateFlags {
  DeviceFlags device;
  WorkFlags work;
  std::string prompt;
  GenerateOptions options;
};

Result<int> generate_verb(const GenerateFlags& flags) {
  RW_TRY(const at::Device device, use_device(flags.device, {}));
  RW_TRY(const ModelOptions model, model_options(flags.work, device));
  int status = kOk;
  RW_CHECK(generate(model, flags.prompt, flags.options, [&](std::string_view piece) {
    if (print(piece) != kOk) status = kFailed;
  }));
  return print("\n") == kOk ? status : kFailed;
}

}  // namespace

void add_generate(CLI::App& app, Program& program) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* verb = app.add_subcommand("generate", "Go on from a prompt");
  add_model_flags(*verb, flags->work);
  verb->add_option("--prompt", flags->prompt, "Text to go on from, as it is: no chat template")
      ->type_name("TEXT")
      ->required();
  verb->add_option("--max-tokens", flags->options.max_tokens, "At most that many")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--temperature", flags->options.temperature,
                   "0: the most likely token each time; above: drawn")
      ->type_name("X")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--seed", flags->options.seed, "Of the drawing")
      ->type_name("N")
      ->capture_default_str();
  add_device_flags(*verb, flags->device);
  verb->footer(
      "Example:\n  rigwise-engine generate --model ~/models/Qwen2.5-0.5B --adapter "
      "runs/x/checkpoint-200 --prompt 'Call me'");
  verb->callback([flags, &program] { program.status = exit_code(generate_verb(*flags)); });
}

}  // namespace rigwise::engine
