#include "cli/args.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <iostream>

#include "base/clock.h"
#include "base/text.h"
#include "base/wall_time.h"
#include "cli/run_words.h"
#include "cli/smoke.h"
#include "rigwise/units.h"
#include "run/layout.h"

namespace rigwise::cli {

namespace {

/// `head -- tail`: a command to run is never looked at by the parser.
struct Cut {
  std::vector<std::string> head, tail;
  bool found = false;
};

Cut cut_at_dashes(int argc, char** argv) {
  Cut cut;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--" && !cut.head.empty() &&
        (cut.head[0] == "compare" || cut.head[0] == "ledger")) {
      cut.head.emplace_back("--against");  // behind it stand names, and flags may follow them
    } else if (!cut.found && word == "--") {
      cut.found = true;
    } else {
      (cut.found ? cut.tail : cut.head).push_back(word);
    }
  }
  return cut;
}

/// The flags that every verb knows may also stand in front of it: rigwise --runs DIR ledger
/// two-gpu.
void behind_the_verb(std::vector<std::string>& words) {
  std::size_t count = 0;
  while (count < words.size() &&
         (words[count] == "--json" || words[count].starts_with("--runs="))) {
    ++count;
  }
  if (count + 1 < words.size() && words[count] == "--runs") count += 2;
  if (count == 0 || count >= words.size() || words[count].starts_with("-")) return;
  std::rotate(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(count),
              words.begin() + static_cast<std::ptrdiff_t>(count) + 1);
}

void common(CLI::App* verb, Common& into) {
  verb->add_option("--runs", into.runs, "Folder of the runs (else $RIGWISE_RUNS, else ./runs)")
      ->type_name("DIR");
  verb->add_flag("--json", into.json, "Print one JSON document (docs/json.md)");
}

void example(CLI::App* verb, const std::string& text) {
  verb->footer("Example:\n  " + text);
}

int usage(const std::string& message, const std::string& hint) {
  std::fprintf(stderr, "rigwise: %s\n", message.c_str());
  if (!hint.empty()) std::fprintf(stderr, "  %s\n", hint.c_str());
  return kUsage;
}

std::vector<std::string> verbs_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const auto* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(verb->get_name());
  }
  return names;
}

/// An unknown flag answered with the nearest one that the verb knows.
int unknown_flag(const CLI::App& verb, const std::string& word) {
  std::vector<std::string> names;
  for (const auto* option : verb.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::string flag = word.substr(0, word.find('='));
  const auto near = nearest_name(flag, names);
  return usage("unknown flag '" + clean_text(flag, 80) + "' for " + verb.get_name(),
               near ? "did you mean '" + *near + "'?" : "rigwise " + verb.get_name() + " --help");
}

/// One verb on the command line: its parser, and what is left to check once it has run.
struct Verb {
  CLI::App* app = nullptr;
  std::function<std::variant<Args, int>(const Cut&)> finish = {};
};

Verb add_run(CLI::App& app, RunArgs& args) {
  CLI::App* verb =
      app.add_subcommand("run", "Run and record any command; never changes what it does");
  common(verb, args);
  verb->add_option("--name", args.name,
                   "Name of the run; may repeat (default: made from the script or program)");
  verb->add_option("--interval", args.interval_s, "Seconds between samples")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  verb->add_option("--profile", args.profile,
                   "Looking into processes: auto, none, or with short traces of PyTorch as "
                   "windows=2,first=30")
      ->capture_default_str();
  verb->add_option("--hang-after", args.hang_after,
                   "Silence after which a run that does nothing hangs: auto, 10min, off")
      ->capture_default_str();
  verb->add_option("--on-hang", args.on_hang,
                   "record: only tell; stop: end the command, as Ctrl-C does and then harder")
      ->capture_default_str();
  verb->add_option("--lab", args.lab,
                   "The sealed statement to keep with the run (default: lab.toml)");
  verb->add_flag("--detach", args.detach, "Return at once; rigwise attach NAME comes back to it");
  verb->add_flag("--quiet", args.quiet, "Print no closing lines");
  verb->add_flag("--preflight{1}", args.preflight,
                 "Look at host, devices and storage first, and refuse what could not work; "
                 "--preflight=2 at framework, launcher and collectives too");
  verb->add_flag("--long", args.long_run, "A long run: say so where no smoke test is on record");
  example(verb,
          "rigwise run --name two-gpu -- torchrun --nproc_per_node 2 train.py --max_steps 200");
  verb->prefix_command();
  return {verb, [verb, &args](const Cut& cut) -> std::variant<Args, int> {
            const std::vector<std::string> rest = verb->remaining();
            if (!rest.empty() && rest[0].starts_with("-")) return unknown_flag(*verb, rest[0]);
            args.command = rest;
            // a command that began before the dashes keeps them: rigwise run uv run -- train.py
            if (cut.found && !rest.empty()) args.command.emplace_back("--");
            args.command.insert(args.command.end(), cut.tail.begin(), cut.tail.end());
            if (args.command.empty()) {
              return usage(
                  "run: no command given",
                  "write it behind two dashes: rigwise run --name single -- python train.py");
            }
            if (!(args.interval_s > 0))
              return usage("run: --interval nan is no time", "--interval 1");
            if (args.preflight < 0 || args.preflight > 2)
              return usage("run: --preflight is 1 or 2", "--preflight=2");
            if (auto profile = profile_options(args.profile); !profile)
              return usage(profile.error().message, profile.error().hint);
            if (auto hang = hang_options(args.hang_after, args.on_hang); !hang)
              return usage(hang.error().message, hang.error().hint);
            if (!args.name.empty() && !layout::is_run_name(args.name)) {
              // refused before anything starts: an unrecorded 8 hours would be the worse answer
              return usage("'" + clean_text(args.name, 120) + "' cannot name a run",
                           "use letters, digits, '.', '_' and '-', at most 100");
            }
            return args;
          }};
}

Verb add_attach(CLI::App& app, AttachArgs& args) {
  CLI::App* verb = app.add_subcommand("attach", "Back to a detached run's terminal");
  common(verb, args);
  verb->add_option("NAME", args.name, "Name, id or folder of the run")->required();
  example(verb, "rigwise attach two-gpu");
  return {verb, [&args](const Cut&) { return args; }};
}

Verb add_stacks(CLI::App& app, StacksArgs& args) {
  CLI::App* verb = app.add_subcommand(
      "stacks", "Where every process of a live run is now, in Python frames, without stopping it");
  common(verb, args);
  verb->add_option("NAME", args.name, "Name, id or folder of the run")->required();
  example(verb, "rigwise stacks two-gpu");
  return {verb, [&args](const Cut&) { return args; }};
}

Verb add_runs(CLI::App& app, RunsArgs& args, std::string& start) {
  CLI::App* verb = app.add_subcommand(
      "runs", "List the runs, show one, import evidence, pause or resume a recorder");
  common(verb, args);
  verb->add_option("ACTION", args.action, "list, show, import, pause or resume")
      ->check(CLI::IsMember({"list", "show", "import", "pause", "resume"}))
      ->capture_default_str();
  verb->add_option("NAME", args.paths,
                   "Name, id or folder of the run (its latest one); import: folders and files");
  verb->add_option("--name", args.import_name, "import: name of the run (default: the folder's)");
  verb->add_option("--host", args.host, "import: the machine, where the files do not name it");
  verb->add_option("--start", start,
                   "import: when training began, e.g. \"2026-11-24 14:00\" (local time)");
  example(verb, "rigwise runs import ./home-lab-notes --name june");
  return {verb, [&args, &start](const Cut&) -> std::variant<Args, int> {
            const bool importing = args.action == "import";
            if (!importing && !args.paths.empty()) args.name = args.paths[0];
            if (args.action != "list" && args.paths.empty()) {
              return importing ? usage("runs import: which folder or files?",
                                       "rigwise runs import ./home-lab-notes --name june")
                               : usage("runs " + args.action + ": which run?",
                                       "rigwise runs list shows their names");
            }
            if (!importing && args.paths.size() > 1) {
              return usage("runs " + args.action + ": one run at a time",
                           "rigwise runs " + args.action + " " + clean_text(args.paths[0], 80));
            }
            if (!importing && !(args.import_name.empty() && args.host.empty() && start.empty())) {
              return usage("--name, --host and --start are for runs import",
                           "rigwise runs import ./home-lab-notes --name june");
            }
            if (!start.empty()) {
              // a minute is enough: "2026-11-24 14:00"
              auto stamp = parse_wall_time(start, unix_s());
              if (!stamp) stamp = parse_wall_time(start + ":00", unix_s());
              if (!stamp || !stamp->has_date || stamp->length < start.size()) {
                return usage("--start '" + clean_text(start, 80) + "' is no instant",
                             "write it as \"2026-11-24 14:00\" or 2026-11-24T14:00:00Z");
              }
              args.start_unix_s = stamp->unix_s;
            }
            return args;
          }};
}

Verb add_read(CLI::App& app, ReadArgs& args) {
  CLI::App* verb = app.add_subcommand("read", "Training metrics out of any trainer's log");
  common(verb, args);
  verb->add_option("FILE", args.files, "Logs, one or one a rank; - reads standard input")
      ->required();
  verb->add_option("--rows", args.rows, "Rows of the table, evenly over the log; 0 prints all")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  verb->add_option("--lab", args.lab, "Your own [[log.pattern]] tables (default: lab.toml)");
  example(verb, "rigwise read --json rank*.log");
  return {verb, [&args](const Cut&) { return args; }};
}

void fail_on_option(CLI::App* verb, std::string& fail_on) {
  verb->add_option("--fail-on", fail_on, "Exit 4 at a finding this severe or worse")
      ->check(CLI::IsMember({"info", "notice", "warning", "critical"}));
}

std::optional<Severity> severity_of(const std::string& word) {
  for (const auto severity :
       {Severity::info, Severity::notice, Severity::warning, Severity::critical}) {
    if (word == to_string(severity)) return severity;
  }
  return {};
}

Verb add_ledger(CLI::App& app, LedgerArgs& args, std::string& fail_on) {
  CLI::App* verb =
      app.add_subcommand("ledger", "Where the seconds of a run went, summing to its wall time");
  common(verb, args);
  verb->add_option("NAME", args.names, "Name, id or folder of the run (its latest one)");
  verb->add_option(
          "--against", args.against,
          "Which rows a change moved: runs with the change; `--` stands for it, and a name "
          "for all runs of that name")
      ->expected(0, -1);
  verb->add_option("--trace", args.traces,
                   "Traces of torch.profiler, one or one a rank, instead of a run")
      ->type_name("FILE");
  fail_on_option(verb, fail_on);
  verb->add_option("--flame", args.flame,
                   "Write the run's Python stack samples as a flame graph: FILE.svg, or FILE.json "
                   "for speedscope.app")
      ->type_name("FILE");
  example(verb,
          "rigwise ledger two-gpu\n  rigwise ledger single -- two-gpu\n"
          "  rigwise ledger two-gpu --flame two-gpu.svg");
  return {verb, [verb, &args, &fail_on](const Cut&) -> std::variant<Args, int> {
            std::erase(args.against, "");  // what CLI11 makes of a bare --against
            const bool two_sides = verb->count("--against") > 0;
            if (two_sides && (args.names.empty() || args.against.empty())) {
              return usage("ledger A -- B needs runs on both sides",
                           "rigwise ledger single -- two-gpu");
            }
            if (args.names.empty() == args.traces.empty()) {
              return args.names.empty()
                         ? usage("ledger: which run?", "rigwise runs list shows their names")
                         : usage("ledger: a run or traces, not both",
                                 "rigwise ledger --trace trace.json");
            }
            if (two_sides && !fail_on.empty()) {
              return usage("ledger A -- B has no findings to --fail-on",
                           "rigwise ledger NAME --fail-on " + fail_on);
            }
            if (args.flame && (two_sides || !fail_on.empty() || !args.traces.empty())) {
              return usage("--flame is of one run, and prints no ledger",
                           "rigwise ledger NAME --flame FILE.svg");
            }
            if (!two_sides && args.names.size() > 1) {
              return usage("ledger: one run at a time, or two sides with -- between them",
                           "rigwise ledger " + clean_text(args.names[0], 80) + " -- " +
                               clean_text(args.names[1], 80));
            }
            args.fail_on = severity_of(fail_on);
            return args;
          }};
}

Verb add_triage(CLI::App& app, TriageArgs& args, std::string& fail_on) {
  CLI::App* verb = app.add_subcommand(
      "triage",
      "The first meaningful error of a failed run, its layer and rank, one change to try");
  common(verb, args);
  verb->add_option(
          "NAME", args.names,
          "A run (its latest one), or log files and folders: of ranks, launchers, the kernel, a "
          "scheduler")
      ->required();
  verb->add_option("--signatures", args.signatures,
                   "Signatures of your own, in the columns of data/failures.csv; they go first")
      ->type_name("FILE");
  fail_on_option(verb, fail_on);
  example(verb, "rigwise triage two-gpu\n  rigwise triage rank*.log dmesg.txt");
  return {verb, [&args, &fail_on](const Cut&) {
            args.fail_on = severity_of(fail_on);
            return args;
          }};
}

Verb add_compare(CLI::App& app, CompareArgs& args) {
  CLI::App* verb = app.add_subcommand("compare", "Comparable? Faster? Same loss? Repeatable?");
  common(verb, args);
  verb->add_option("A", args.a, "Baseline runs: a name stands for all runs of that name");
  verb->add_option("--against", args.b, "Runs with the option; `--` stands for it")
      ->expected(0, -1);
  verb->add_option("--factor", args.factor,
                   "What is under test: ranks, precision, global_batch, …");
  verb->add_option("--floor", args.floor_percent,
                   "Run-to-run spread of this rig in percent (default 2)")
      ->check(CLI::Range(0.5, 50.0));
  verb->add_option("--practical", args.practical_percent,
                   "Smallest effect in percent worth a verdict (default 2)")
      ->check(CLI::Range(0.1, 50.0));
  verb->add_option("--lab", args.lab, "The sealed statement (default: lab.toml)");
  example(verb, "rigwise compare single -- two-gpu");
  return {verb, [&args](const Cut&) -> std::variant<Args, int> {
            std::erase(args.b, "");                      // what CLI11 makes of a bare --against
            if (args.b.empty() && args.a.size() == 2) {  // two names need no dashes
              args.b = {args.a[1]};
              args.a = {args.a[0]};
            }
            if (args.a.empty() || args.b.empty()) {
              return usage("compare needs runs on both sides", "rigwise compare single -- two-gpu");
            }
            return args;
          }};
}

Verb add_init(CLI::App& app, InitArgs& args) {
  CLI::App* verb = app.add_subcommand(
      "init", "Write lab.toml: what holds you back, and what would count as proof");
  common(verb, args);
  verb->add_option("--lab", args.lab, "File to write")->capture_default_str();
  verb->add_option("--bottleneck", args.bottleneck, "What holds the work back, as you see it");
  verb->add_option("--threshold", args.threshold,
                   "e.g. \"tokens_per_s >= 1.4x\", \"wall_clock(3000 steps) <= 5h\"");
  verb->add_option("--option", args.option, "What you think of doing");
  verb->add_option("--reason", args.reason, "Why that option would move that bottleneck");
  verb->add_option("--stop", args.stop, "When you would stop trying");
  verb->add_option("--baseline", args.baseline, "Name of the baseline runs");
  verb->add_option("--candidate", args.candidate, "Name of the runs with the option");
  verb->add_option("--experiment", args.experiment,
                   "Name of the experiment (folder of the decision)");
  verb->add_flag("--force", args.force, "Replace a statement that is there already");
  example(verb,
          "rigwise init --threshold \"tokens_per_s >= 1.4x\" --bottleneck \"compute: one GPU is "
          "busy 95 %\" …");
  return {verb, [&args](const Cut&) { return args; }};
}

Verb add_decide(CLI::App& app, DecideArgs& args) {
  CLI::App* verb =
      app.add_subcommand("decide", "The decision record: Markdown, JSON and one HTML page");
  common(verb, args);
  verb->add_option("--lab", args.lab, "The sealed statement (default: lab.toml)");
  verb->add_option("--baseline", args.baseline, "Name of the baseline runs (else lab.toml's)");
  verb->add_option("--option,--candidate", args.option,
                   "Name of the runs with the option (else lab.toml's candidate)");
  example(verb, "rigwise decide --baseline single --option two-gpu");
  return {verb, [&args](const Cut&) { return args; }};
}

void add_probe_work(CLI::App* verb, ProbeArgs& args) {
  verb->add_option("--model", args.model, "A Hugging Face folder (default: a small one is made)")
      ->type_name("DIR");
  verb->add_option("--data", args.data, "A .txt or .jsonl file (default: a text is made)")
      ->type_name("FILE");
  verb->add_option("--method", args.method, "lora, qlora or full")
      ->check(CLI::IsMember({"lora", "qlora", "full"}))
      ->capture_default_str();
  verb->add_option("--dtype", args.dtype, "fp32 or bf16 (default: fp32)")
      ->check(CLI::IsMember({"fp32", "bf16"}));
  verb->add_option("--seq", args.seq, "Tokens of a window (default: the engine's)")
      ->type_name("N")
      ->check(CLI::Range(2, 1 << 20));
  verb->add_option("--global-batch", args.global_batch,
                   "Windows of one step, the same under every strategy (default: 4 a device)")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 20));
  verb->add_option("--micro-batch", args.micro_batch, "Windows of one forward pass")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
}

Verb add_probe(CLI::App& app, ProbeArgs& args) {
  CLI::App* verb = app.add_subcommand(
      "probe", "Train the same work under every strategy on this rig, and rank them");
  common(verb, args);
  add_probe_work(verb, args);
  verb->add_option("--strategies", args.strategies,
                   "Some of single, ddp, fsdp, tp, pp, split, ddp:2,tp:2 … (default: all)")
      ->type_name("NAME,…");
  verb->add_option("--ranks", args.ranks, "Devices to use (default: all GPUs, else 2 CPU ranks)")
      ->type_name("N")
      ->check(CLI::Range(1, 64));
  verb->add_option("--device", args.device, "cpu or cuda (default: cuda where there is a GPU)")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  verb->add_option("--threads", args.threads,
                   "CPU threads of a rank, single's too (default: the CPUs shared out)")
      ->type_name("N")
      ->check(CLI::Range(1, 4096));
  verb->add_option("--steps", args.steps, "Optimizer steps of each run")
      ->type_name("N")
      ->check(CLI::Range(5, 100000))
      ->capture_default_str();
  verb->add_option("--repeats", args.repeats,
                   "Runs of each strategy, in turn; below 3 hardly anything can be shown")
      ->type_name("N")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  verb->add_option("--name", args.name, "Name of the experiment (default: probe1, probe2 …)");
  verb->add_option("--loss-tolerance", args.loss_tolerance,
                   "Largest relative difference of a step's loss from single's")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb->add_option("--limit", args.limit, "Refuse to begin what would take longer")
      ->type_name("TIME")
      ->capture_default_str();
  example(verb, "rigwise probe --model ~/models/Qwen2.5-0.5B --data notes.jsonl --steps 50");
  return {verb, [&args](const Cut&) -> std::variant<Args, int> {
            const auto limit_s = parse_duration(args.limit);
            if (!limit_s || !(*limit_s > 0)) {
              return usage("probe: --limit '" + clean_text(args.limit, 40) + "' is no time",
                           "write it as 30min or 2h");
            }
            args.limit_s = *limit_s;
            if (args.name && (args.name->size() > 60 || !layout::is_run_name(*args.name))) {
              return usage("'" + clean_text(*args.name, 120) + "' cannot name an experiment",
                           "use letters, digits, '.', '_' and '-', at most 60");
            }
            return args;
          }};
}

void add_plan_memory(CLI::App* verb, PlanArgs& args) {
  const auto one_of = [](std::initializer_list<std::string> words) {
    return CLI::IsMember(std::vector<std::string>(words));
  };
  verb->add_option("--model", args.model, "memory: a model's folder or a known name")
      ->type_name("DIR|NAME");
  verb->add_option("--method", args.method, "memory: lora (default), qlora or full")
      ->check(one_of({"lora", "qlora", "full"}));
  verb->add_option("--seq", args.seq, "memory: tokens of the longest row")
      ->check(CLI::Range(1.0, 1e8));
  verb->add_option("--micro-batch", args.micro_batch, "memory: rows of a forward pass (default: 1)")
      ->check(CLI::Range(1.0, 1e6));
  verb->add_option("--accumulate", args.accumulate, "memory: micro-steps of an optimizer step")
      ->check(CLI::Range(1.0, 1e6));
  verb->add_option("--gpu", args.gpu, "memory: the board, by name: rtx3090")->type_name("NAME");
  verb->add_option("--gpus", args.gpus, "memory: how many of them (default: 1)")
      ->check(CLI::Range(1.0, 4096.0));
  verb->add_option("--strategy", args.strategy,
                   "memory: single, ddp, fsdp, zero1-3, zero2_offload, zero3_offload, tp, pp")
      ->check(one_of({"single", "ddp", "fsdp", "zero1", "zero2", "zero3", "zero2_offload",
                      "zero3_offload", "tp", "pp"}));
  verb->add_option("--precision", args.precision, "memory: bf16, fp16, fp32, bf16_mixed …")
      ->check(one_of({"bf16", "fp16", "fp32", "bf16_mixed", "fp16_mixed"}));
  verb->add_option("--quant", args.quant, "memory: of qlora: nf4_dq (default), nf4, int8, gptq4")
      ->check(one_of({"nf4", "nf4_dq", "int8", "gptq4"}));
  verb->add_option("--optimizer", args.optimizer, "memory: adamw (default), adamw_8bit, sgd …");
  verb->add_option("--lora-rank", args.lora_rank, "memory: rank of adapters (default: 16)")
      ->check(CLI::Range(1.0, 65536.0));
  verb->add_option("--lora-targets", args.lora_targets, "memory: of q,k,v,o,gate,up,down,head")
      ->delimiter(',')
      ->check(one_of({"q", "k", "v", "o", "gate", "up", "down", "head", "qkv"}));
  verb->add_option("--checkpointing", args.checkpointing, "memory: none (default), full, selective")
      ->check(one_of({"none", "full", "selective"}));
  verb->add_option("--attention", args.attention, "memory: flash (default) or eager")
      ->check(one_of({"flash", "eager"}));
  verb->add_option("--logits", args.logits, "memory: full (default) or chunked")
      ->check(one_of({"full", "chunked"}));
  verb->add_option("--framework", args.framework,
                   "memory: trainer: hf (default), axolotl, litgpt …");
  verb->add_option("--metric", args.metric, "memory: device (nvidia-smi), reserved or allocated")
      ->check(one_of({"device", "reserved", "allocated"}));
}

void add_plan_options(CLI::App* verb, PlanArgs& args) {
  const CLI::Range money(0.0, 1e9);
  verb->add_option("--from", args.from, "A measured run: every option side by side")
      ->type_name("RUN");
  verb->add_option("--add", args.add, "What to think of adding: \"rtx3090 @ x4-chipset\"")
      ->type_name("GPU @ LINK");
  verb->add_option(
          "--link", args.link_file,
          "A measured link: output of rigwise-engine link --json, nccl-tests or iperf3 --json")
      ->type_name("FILE");
  verb->add_option("--threshold", args.threshold,
                   "e.g. \"wall_clock(3000 steps) <= 5h\" (default: the run's sealed one)");
  verb->add_option("--price", args.price, "Of the addition")->check(money);
  verb->add_option("--kwh-price", args.kwh_price, "Of a kilowatt-hour")->check(money);
  verb->add_option("--psu", args.psu_w, "Rating of the power supply")
      ->type_name("WATTS")
      ->check(CLI::Range(1.0, 1e5));
  verb->add_option("--circuit", args.circuit, "Mains circuit: eu-16a, uk-13a, us-15a, us-20a");
  verb->add_option("--rent-per-hour", args.rent_per_h, "Price of a rented machine")->check(money);
  verb->add_option("--rent-speedup", args.rent_speedup,
                   "How much faster it ran 50 steps of this work")
      ->check(CLI::Range(0.01, 1000.0));
  verb->add_option("--lab", args.lab, "Prices and limits: its [plan] table (default: lab.toml)");
}

Verb add_plan(CLI::App& app, PlanArgs& args) {
  CLI::App* verb = app.add_subcommand(
      "plan", "Will it fit, how fast, how hot, what would it cost, before anything is bought");
  common(verb, args);
  verb->add_option(
      "ACTION", args.words,
      "memory: will it fit; score FILE.jsonl: predict published cases, show the error");
  add_plan_options(verb, args);
  add_plan_memory(verb, args);
  example(verb,
          "rigwise plan --from single --add \"rtx3090 @ x4-chipset\" --threshold \"wall_clock(3000 "
          "steps) <= 5h\"\n  "
          "rigwise plan memory --model llama-3.1-8b --method qlora --seq 2048 --gpu rtx3090\n"
          "  rigwise plan score cases.jsonl");
  return {verb, [&args](const Cut&) -> std::variant<Args, int> {
            if (!args.words.empty()) {
              args.action = args.words[0];
              args.words.erase(args.words.begin());
            }
            if (args.action == "score") {
              if (args.words.size() == 1) return args;
              return usage("plan score: one file of cases", "rigwise plan score cases.jsonl");
            }
            const std::string memory =
                "rigwise plan memory --model llama-3.1-8b --seq 2048 --gpu rtx3090";
            if (args.action == "memory" && args.words.empty()) {
              if (args.model && args.seq) return args;
              return usage(args.model ? "plan memory: how long is a row? (--seq)"
                                      : "plan memory: which model?",
                           memory);
            }
            if (args.action.empty() && args.from) return args;
            if (args.action.empty() || args.action == "memory") {
              return usage("plan: what? a measured run (--from RUN), memory, or score", memory);
            }
            const auto near = nearest_name(args.action, {"score", "memory"});
            return usage("plan: unknown action '" + clean_text(args.action, 80) + "'",
                         near ? "did you mean '" + *near + "'?" : "actions: memory, score");
          }};
}

/// The words that --only, --smoke, --need and --smoke-limit were given, and whether they make
/// sense.
struct DoctorWords {
  std::vector<std::string> only = {};
  std::string smoke = {}, need = {}, smoke_limit = "10min";
};

std::variant<Args, int> finish_doctor(DoctorArgs& args, const DoctorWords& words,
                                      bool level_given) {
  for (const auto& word : words.only) {
    const auto rung = std::find_if(std::begin(kRungs), std::end(kRungs),
                                   [&](Rung one) { return to_string(one) == word; });
    if (rung != std::end(kRungs)) {
      args.only.push_back(*rung);
      continue;
    }
    std::vector<std::string> names;
    for (const Rung one : kRungs) names.emplace_back(to_string(one));
    return usage("doctor: no rung '" + clean_text(word, 80) + "'", "rungs: " + join(names, ", "));
  }
  if (!words.smoke.empty()) {
    auto split = command_words(words.smoke);
    if (!split) return usage(split.error().message, split.error().hint);
    args.smoke = std::move(*split);
    if (!level_given) args.level = 3;  // who names a command wants it tried
  }
  if (!words.need.empty()) {
    const auto need = parse_bytes(words.need);
    if (!need || !(*need >= 0))
      return usage("doctor: --need '" + clean_text(words.need, 40) + "' is no size",
                   "write it as 50GB");
    args.need_bytes = *need;
  }
  const auto limit = parse_duration(words.smoke_limit);
  if (!limit || !(*limit >= 1)) {
    return usage("doctor: --smoke-limit '" + clean_text(words.smoke_limit, 40) + "' is no time",
                 "write it as 10min");
  }
  args.smoke_limit_s = *limit;
  return args;
}

Verb add_doctor(CLI::App& app, DoctorArgs& args, DoctorWords& words) {
  CLI::App* verb = app.add_subcommand(
      "doctor", "Is this host fit for the run? A ladder that ends at the first rung that fails");
  common(verb, args);
  verb->add_option("--level", args.level,
                   "1: seconds (host, devices), 2: a minute (framework, launcher, collective, "
                   "storage), 3: ten minutes (larger, and the smoke test)")
      ->check(CLI::Range(1, 3))
      ->capture_default_str();
  verb->add_option("--only", words.only, "Only these rungs")->type_name("RUNG,…")->delimiter(',');
  verb->add_flag("--keep-going", args.keep_going, "Past the first rung that fails");
  verb->add_flag("--cpu", args.cpu, "The run is to use no GPU");
  verb->add_option("--python", args.python,
                   "The Python of your runs (default: that of --smoke, of the environment)")
      ->type_name("PATH");
  verb->add_option("--dir", args.dirs, "Folders that the run writes (default: . and the runs')")
      ->type_name("DIR");
  verb->add_option("--need", words.need, "Space that the run will write (default: earlier runs')")
      ->type_name("SIZE");
  verb->add_option("--smoke", words.smoke,
                   "Your own command, ended after --steps (makes it level 3)")
      ->type_name("CMD");
  verb->add_option("--steps", args.steps, "Steps of the smoke test")
      ->type_name("N")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  verb->add_option("--smoke-limit", words.smoke_limit, "Time that it may take")
      ->type_name("TIME")
      ->capture_default_str();
  verb->add_option("--fail-on", args.fail_on,
                   "Exit 4: fail (a critical finding), warn (a warning too), never")
      ->check(CLI::IsMember({"fail", "warn", "never"}))
      ->capture_default_str();
  verb->add_option("--root", args.root, "A recorded machine (its proc, sys, dev, etc) instead")
      ->type_name("DIR");
  example(
      verb,
      "rigwise doctor\n  rigwise doctor --level 3 --smoke \"python train.py --logging_steps 1\" "
      "--steps 20");
  return {verb, [verb, &args, &words](const Cut&) {
            return finish_doctor(args, words, verb->count("--level") > 0);
          }};
}

Verb add_demo(CLI::App& app, DemoArgs& args) {
  CLI::App* verb =
      app.add_subcommand("demo", "The whole story on this machine: one process against two");
  common(verb, args);
  verb->add_option("--dir", args.dir,
                   "Folder to work in (default: a new one below build/demo or ./rigwise-demo)");
  verb->add_option("--model", args.model,
                   "Model folder or hub id (default: a small seeded one is made)");
  verb->add_option("--workload", args.workload,
                   "engine (rigwise-engine) or hf (Hugging Face; default where the engine is not "
                   "built)")
      ->check(CLI::IsMember({"engine", "hf"}));
  verb->add_option("--runs-a-side", args.runs_a_side, "Runs of each kind, in alternating order")
      ->check(CLI::Range(1, 20))
      ->capture_default_str();
  example(verb, "rigwise demo\n  RIGWISE_PYTHON=~/venv/bin/python rigwise demo --workload hf");
  return {verb, [&args](const Cut&) { return args; }};
}

}  // namespace

std::variant<Args, int> parse_args(int argc, char** argv) {
  Cut cut = cut_at_dashes(argc, argv);
  CLI::App app("rigwise: where the seconds of a fine-tuning run went, and what would buy them back",
               "rigwise");
  app.set_version_flag("--version", "rigwise " RIGWISE_VERSION);
  app.require_subcommand(0, 1);
  app.footer("rigwise VERB --help shows a verb's flags and an example. Exit codes: docs/cli.md.");

  RunArgs run;
  AttachArgs attach;
  StacksArgs stacks;
  RunsArgs runs;
  ReadArgs read;
  LedgerArgs ledger;
  TriageArgs triage;
  CompareArgs compare;
  InitArgs init;
  DecideArgs decide;
  ProbeArgs probe;
  PlanArgs plan;
  DoctorArgs doctor;
  DoctorWords doctor_words;
  DemoArgs demo;
  std::string fail_on, start;
  const std::vector<Verb> verbs = {add_demo(app, demo),
                                   add_init(app, init),
                                   add_doctor(app, doctor, doctor_words),
                                   add_run(app, run),
                                   add_attach(app, attach),
                                   add_stacks(app, stacks),
                                   add_runs(app, runs, start),
                                   add_read(app, read),
                                   add_ledger(app, ledger, fail_on),
                                   add_triage(app, triage, fail_on),
                                   add_compare(app, compare),
                                   add_probe(app, probe),
                                   add_plan(app, plan),
                                   add_decide(app, decide)};

  behind_the_verb(cut.head);
  if (!cut.head.empty() && cut.head[0].starts_with("-") && cut.head.size() > 1) {
    return usage("flags stand behind the verb", "rigwise VERB " + clean_text(cut.head[0], 80) +
                                                    " …; verbs: " + join(verbs_of(app), ", "));
  }
  if (!cut.head.empty() && !cut.head[0].starts_with("-")) {
    const auto names = verbs_of(app);
    if (std::find(names.begin(), names.end(), cut.head[0]) == names.end()) {
      const auto near = nearest_name(cut.head[0], names);
      return usage("unknown verb '" + clean_text(cut.head[0], 80) + "'",
                   near ? "did you mean '" + *near + "'?" : "verbs: " + join(names, ", "));
    }
  }
  std::vector<std::string> words(cut.head.rbegin(),
                                 cut.head.rend());  // CLI11 takes them last first
  try {
    app.parse(words);
  } catch (const CLI::ExtrasError& error) {
    const auto used = app.get_subcommands();
    const CLI::App& verb = used.empty() ? app : *used[0];
    for (const auto& word : verb.remaining(true)) {
      if (word.starts_with("-")) return unknown_flag(verb, word);
    }
    for (const auto& word : app.remaining(true)) {
      if (word.starts_with("-")) return unknown_flag(verb, word);
    }
    return usage(verb.get_name() + ": " + error.what(), "rigwise " + verb.get_name() + " --help");
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      app.exit(error, std::cout, std::cerr);
      return kOk;
    }
    const auto used = app.get_subcommands();
    const std::string verb = used.empty() ? "" : used[0]->get_name() + " ";
    return usage(verb + error.what(), "rigwise " + verb + "--help");
  }
  for (const auto& verb : verbs) {
    if (verb.app->parsed()) return verb.finish(cut);
  }
  std::cout << app.help();
  return cut.head.empty() && !cut.found ? kUsage : kOk;
}

}  // namespace rigwise::cli
