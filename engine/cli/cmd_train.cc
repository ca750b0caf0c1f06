// train: fine-tune a model under a strategy.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "base/terminal.h"
#include "base/text.h"
#include "engine/cli/flags.h"
#include "engine/cli/work_flags.h"
#include "rigwise/units.h"

namespace rigwise::engine {
namespace {

struct TrainFlags {
  DeviceFlags device;
  RankFlags ranks;
  WorkFlags work;
  std::string out, strategy, pipeline = "1f1b", schedule = "linear";
  std::vector<std::int64_t> stage_layers, shares;
  std::optional<std::int64_t> steps, global_batch;
  std::optional<std::uint64_t> shuffle;
  std::int64_t micro_batch = 1, accumulate = 1, save_every = 0;
  double lr = 2e-4, clip = 1, weight_decay = 0, warmup = 0;
  bool recompute = false;
  bool save_in_parts = false;
  std::optional<std::string> resume;
};

void add_step_flags(CLI::App& verb, TrainFlags& flags) {
  verb.add_option("--steps", flags.steps, "Updates (default: once over the data)")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  verb.add_option("--micro-batch", flags.micro_batch, "Windows of one forward pass")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb.add_option("--accumulate", flags.accumulate, "Forward passes an update, of each rank")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb.add_option("--global-batch", flags.global_batch,
                  "Windows an update, of all ranks (instead of --accumulate)")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 24));
  verb.add_option("--shares", flags.shares,
                  "How the global batch is shared out among data-parallel ranks (default: evenly)")
      ->type_name("N,N…")
      ->delimiter(',');
  verb.add_option("--shuffle", flags.shuffle,
                  "Windows in an order drawn from this seed, each epoch")
      ->type_name("SEED");
  verb.add_option("--lr", flags.lr, "Highest learning rate")
      ->type_name("X")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--schedule", flags.schedule, "Of the learning rate")
      ->check(CLI::IsMember({"constant", "linear", "cosine"}))
      ->capture_default_str();
  verb.add_option("--warmup", flags.warmup, "Updates that it rises over; below 1: share of --steps")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--clip", flags.clip, "Largest norm of the gradient; 0: any")
      ->type_name("X")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--weight-decay", flags.weight_decay, "AdamW's, of matrices")
      ->type_name("X")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

void add_layout_flags(CLI::App& verb, TrainFlags& flags) {
  verb.add_option("--strategy", flags.strategy,
                  "single, ddp, fsdp, tp, pp, split, or ddp:2,tp:2 (default: ddp, or single)")
      ->type_name("NAME");
  verb.add_option("--pipeline", flags.pipeline, "Order of the passes under pp")
      ->check(CLI::IsMember({"gpipe", "1f1b"}))
      ->capture_default_str();
  verb.add_option("--stage-layers", flags.stage_layers,
                  "Layers of each stage of pp or split (default: evenly)")
      ->type_name("N,N…")
      ->delimiter(',');
  verb.add_flag("--checkpoint-activations", flags.recompute,
                "Compute each block again in the backward pass instead of keeping its values");
}

Result<TrainOptions> options_of(const TrainFlags& flags, const RankPlace& place,
                                at::Device device) {
  TrainOptions options{.steps = flags.steps,
                       .lr = flags.lr,
                       .schedule = *lr_schedule_of(flags.schedule),
                       .clip = flags.clip,
                       .seed = flags.work.seed,
                       .out = flags.out,
                       .save_every = flags.save_every,
                       .save_in_parts = flags.save_in_parts,
                       .resume = flags.resume};
  RW_TRY(options.model, model_options(flags.work, device));
  RW_TRY(options.data, data_flags(flags.work));
  const std::string strategy =
      !flags.strategy.empty() ? flags.strategy : (place.size > 1 ? "ddp" : "single");
  RW_TRY(options.model.layout, parse_strategy(strategy, place.size));
  if (flags.pipeline == "gpipe") options.model.schedule = Schedule::gpipe;
  options.model.stage_layers = flags.stage_layers;
  options.model.recompute = flags.recompute;
  options.batches = {.micro_batch = flags.micro_batch,
                     .accumulate = flags.accumulate,
                     .global_batch = flags.global_batch,
                     .shares = flags.shares,
                     .shuffle = flags.shuffle};
  options.adamw.weight_decay = flags.weight_decay;
  if (flags.warmup >= 1 || flags.warmup == 0) {
    options.warmup = static_cast<std::int64_t>(flags.warmup);
  } else if (flags.steps) {
    options.warmup = static_cast<std::int64_t>(flags.warmup * static_cast<double>(*flags.steps));
  } else {
    return Error{Errc::usage, "--warmup as a share needs --steps", "give a number of updates"};
  }
  return options;
}

std::string percent(double share) {
  return fmt::format("{:.2g} %", 100 * share);
}

std::string plan_text(const TrainOptions& options, const TrainPlan& plan, int ranks,
                      at::Device device) {
  std::string text = fmt::format(
      "{} {} on {} ({} of {} parameters trained), {}, {} on {}\n", options.model.model.string(),
      options.model.method == Method::full   ? "in full"
      : options.model.method == Method::lora ? "by LoRA"
                                             : "by QLoRA",
      options.data.file.string(), plan.trained_elements, plan.all_elements,
      strategy_text(options.model.layout), counted(ranks, "rank", "ranks"), device.str());
  text += fmt::format("{}, {}, {} of {} ({} padding); {} of {}\n",
                      counted(plan.data.documents, "document", "documents"),
                      counted(plan.data.tokens, "token", "tokens"),
                      counted(plan.windows.windows, "window", "windows"), options.data.seq,
                      percent(plan.windows.padding_frac()), counted(plan.steps, "step", "steps"),
                      counted(plan.global_batch, "window", "windows"));
  const auto note = [&](std::string_view what, std::int64_t count) {
    if (count > 0) text += fmt::format("  note: {}: {}\n", what, count);
  };
  note("empty documents, left out", plan.data.empty_documents);
  note("chats whose assistant's part could not be told, all is trained on",
       plan.data.unmarked_chats);
  note("documents longer than --seq, cut off", plan.windows.truncated_documents);
  note("documents longer than --seq, cut into pieces", plan.windows.split_documents);
  note("windows that predict nothing", plan.windows.idle_windows);
  if (plan.resumed_from) {
    text += fmt::format("going on from {} behind step {}\n", plan.resumed_from->string(),
                        plan.first_step);
  }
  return text;
}

/// A bar stands on the line where the cursor is. Of the process, since a signal's handler asks.
volatile std::sig_atomic_t bar_stands = 0;

/// Whoever interrupts gets the prompt on a line of its own, and the status of the signal.
void end_line_and_die(int number) {
  if (bar_stands != 0) (void)!::write(STDERR_FILENO, "\n", 1);
  ::raise(number);  // SA_RESETHAND: what the signal does without us
}

/// A line that is written over: what a person at a terminal wants to see, within its width.
class ProgressBar {
 public:
  ProgressBar() = default;
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar() { end_line(); }

  /// From now on an interrupt ends the line first.
  static void heed_signals() {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
      struct sigaction action = {};
      if (::sigaction(number, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) continue;
      action.sa_handler = end_line_and_die;
      action.sa_flags = static_cast<int>(SA_RESETHAND);
      ::sigaction(number, &action, nullptr);
    }
  }

  void show(const StepRecord& record, std::int64_t steps) {
    // The first step warms caches: it says little about the rest.
    if (shown_++ > 0) shown_s_ += record.step_time_s;
    const auto left = static_cast<double>(steps - record.step);
    std::string text =
        fmt::format(" step {}/{}  loss {:.4f}  {:.0f} tokens/s", record.step, steps, record.loss,
                    static_cast<double>(record.tokens) / record.step_time_s);
    if (left > 0 && shown_ > 2) {
      text += fmt::format("  {} left", format_duration(left * shown_s_ / (shown_ - 1)));
    }
    const int columns = std::max(2, terminal_columns(STDERR_FILENO).value_or(80)) - 1;
    const int cells = std::clamp(columns - static_cast<int>(text.size()), 0, 24);
    const auto filled = static_cast<int>(cells * record.step / std::max<std::int64_t>(1, steps));
    text = std::string(static_cast<std::size_t>(filled), '=') +
           std::string(static_cast<std::size_t>(cells - filled), '.') + text;
    if (static_cast<int>(text.size()) > columns) text.resize(static_cast<std::size_t>(columns));
    std::fprintf(stderr, "\r\033[K%s%s", text.c_str(), left > 0 ? "" : "\n");
    bar_stands = left > 0 ? 1 : 0;
  }

  /// A line of its own in place of the bar.
  static void say(std::string_view line) {
    std::fprintf(stderr, "%s%.*s\n", bar_stands != 0 ? "\r\033[K" : "",
                 static_cast<int>(line.size()), line.data());
    bar_stands = 0;
  }

  /// What is written next starts behind the bar.
  static void end_line() {
    if (bar_stands != 0) std::fputc('\n', stderr);
    bar_stands = 0;
  }

 private:
  int shown_ = 0;
  double shown_s_ = 0;
};

Result<int> train_verb(const TrainFlags& flags, const Program& program) {
  if (flags.ranks.ranks) {  // wrong flags are told once, not by every rank
    RW_CHECK(options_of(flags, {.size = *flags.ranks.ranks}, at::kCPU));
  }
  RW_TRY(auto started, start_ranks(flags.ranks, program));
  if (const int* status = std::get_if<int>(&started)) return *status;
  const RankPlace& place = std::get<RankPlace>(started);
  RW_TRY(const at::Device device, use_device(flags.device, place));
  RW_TRY(const TrainOptions options, options_of(flags, place, device));
  RW_TRY(const auto world, connect_ranks(flags.ranks, place, device));
  const bool speaks = world->rank() == 0;
  // Whoever keeps one of the two in a file wants lines there, not a bar.
  const bool bar = ::isatty(STDOUT_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1;
  ProgressBar progress;
  std::int64_t steps = 0;
  TrainEvents events;
  if (speaks && bar) ProgressBar::heed_signals();
  events.trouble = [](const Error& error) {
    ProgressBar::end_line();
    fail(error);
  };
  if (speaks) {
    events.planned = [&](const TrainPlan& plan) {
      steps = plan.steps;
      std::fputs(plan_text(options, plan, world->size(), device).c_str(), stderr);
    };
    events.stepped = [&](const StepRecord& record) {
      if (bar) {
        progress.show(record, steps);
      } else {
        print(step_line(record) + "\n");
      }
    };
    events.saved = [&](std::int64_t step, const std::filesystem::path& folder, double seconds) {
      if (bar) {
        ProgressBar::say("saved " + folder.string());
      } else {
        print(checkpoint_line(step, folder, seconds) + "\n");
      }
    };
  }
  RW_CHECK(train(options, world, events));
  return kOk;
}

}  // namespace

void add_train(CLI::App& app, Program& program) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* verb = app.add_subcommand("train", "Fine-tune a model: LoRA, QLoRA or in full");
  add_model_flags(*verb, flags->work);
  add_data_flags(*verb, flags->work);
  verb->add_option("--out", flags->out, "Folder of log.jsonl and the checkpoints")
      ->type_name("DIR")
      ->required();
  add_method_flags(*verb, flags->work);
  add_step_flags(*verb, *flags);
  add_layout_flags(*verb, *flags);
  verb->add_option("--save-every", flags->save_every,
                   "Updates between checkpoints; 0: the last one")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_flag("--save-in-parts", flags->save_in_parts,
                 "Each rank saves what it holds; the last checkpoint is whole all the same");
  verb->add_option("--resume", flags->resume, "auto (the newest whole checkpoint of --out) or DIR")
      ->type_name("auto|DIR");
  add_rank_flags(*verb, flags->ranks);
  add_device_flags(*verb, flags->device);
  verb->footer(
      "Example:\n  rigwise-engine train --model ~/models/Qwen2.5-0.5B --data notes.jsonl "
      "--strategy ddp --ranks 2 --out runs/x");
  verb->callback([flags, &program] { program.status = exit_code(train_verb(*flags, program)); });
}

}  // namespace rigwise::engine
