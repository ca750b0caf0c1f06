// eval: the loss of a model, perhaps with an adapter, on held-out data.
#include <fmt/format.h>
#include <unistd.h>

#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "engine/cli/flags.h"
#include "engine/cli/work_flags.h"
#include "engine/train/evaluate.h"

namespace rigwise::engine {
namespace {

struct EvalFlags {
  DeviceFlags device;
  WorkFlags work;
  std::int64_t micro_batch = 8;
  bool json = false;
};

Result<int> eval_verb(const EvalFlags& flags) {
  RW_TRY(const at::Device device, use_device(flags.device, {}));
  RW_TRY(ModelOptions model, model_options(flags.work, device));
  RW_TRY(const DataFlags data, data_flags(flags.work));
  const bool bar = ::isatty(STDERR_FILENO) == 1;
  RW_TRY(const Evaluation result,
         evaluate(model, data, flags.micro_batch, [&](std::int64_t done, std::int64_t all) {
           if (bar)
             std::fprintf(stderr, "\r\033[K%s",
                          done < all ? fmt::format("window {} of {}", done, all).c_str() : "");
         }));
  if (flags.json) {
    return print(Json{{"loss", json_number(result.loss)},
                      {"tokens", result.tokens},
                      {"documents", result.documents},
                      {"eval_s", result.seconds}}
                     .dump() +
                 "\n");
  }
  return print(fmt::format(
      "loss {:.4f} nats a token (perplexity {:.2f}) over {} predicted tokens of {}, {:.1f} s\n",
      result.loss, std::exp(result.loss), result.tokens,
      counted(result.documents, "document", "documents"), result.seconds));
}

}  // namespace

void add_eval(CLI::App& app, Program& program) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* verb = app.add_subcommand("eval", "Loss on held-out data");
  add_model_flags(*verb, flags->work);
  add_data_flags(*verb, flags->work);
  verb->add_option("--micro-batch", flags->micro_batch, "Windows of one forward pass")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--method", flags->work.method, "qlora: evaluate with 4-bit weights")
      ->check(CLI::IsMember({"lora", "qlora"}));
  verb->add_flag("--json", flags->json, "Print {\"loss\", \"tokens\", \"documents\"}");
  add_device_flags(*verb, flags->device);
  verb->footer(
      "Example:\n  rigwise-engine eval --model ~/models/Qwen2.5-0.5B --adapter "
      "runs/x/checkpoint-200 --data held.jsonl");
  verb->callback([flags, &program] { program.status = exit_code(eval_verb(*flags)); });
}

}  // namespace rigwise::engine
