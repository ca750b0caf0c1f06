// demo: a worked example, driven through rigwise's own verbs as a person would type them. What is
// run stands in examples/WORKLOAD/demo.json (engine: rigwise-engine; hf: Hugging Face); this file
// only fills in paths, alternates the sides and shows what it does.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>

#include "base/clock.h"
#include "base/files.h"
#include "base/json.h"
#include "base/subprocess.h"
#include "cli/engine.h"
#include "cli/verbs.h"
#include "rigwise/units.h"

namespace rigwise::cli {

namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

/// The examples beside the build tree or below the installed share folder.
Result<fs::path> find_examples(const std::string& workload) {
  const fs::path program = own_program();
  for (const auto& candidate : {program.parent_path() / "../../examples",
                                program.parent_path() / "../share/rigwise/examples"}) {
    std::error_code error;
    if (fs::exists(candidate / workload / "demo.json", error)) {
      return fs::canonical(candidate, error);
    }
  }
  return Error{Errc::not_found, "the examples are not beside this program",
               "run ./dev demo in a checkout of rigwise"};
}

Result<std::string> find_python() {
  if (const char* python = std::getenv("RIGWISE_PYTHON"); python != nullptr && *python != '\0') {
    return std::string(python);
  }
  return Error{Errc::unavailable,
               "the demo needs a Python with torch, transformers, peft and accelerate",
               "./dev demo makes one; or RIGWISE_PYTHON=/path/to/python rigwise demo"};
}

class Demo {
 public:
  /// `program`: the Python of hf, or rigwise-engine.
  Demo(const DemoArgs& args, std::string workload, fs::path examples, std::string program,
       Json plan)
      : args_(args),
        workload_(std::move(workload)),
        examples_(std::move(examples)),
        program_(std::move(program)),
        plan_(std::move(plan)) {}

  int run() {
    if (const auto made = make_folders(); !made) return fail(made.error());
    say("rigwise demo: LoRA fine-tuning in one process against two, a core standing for a device.");
    say(fmt::format("Everything lies in {}", dir_.string()));
    if (const auto ready = prepare(); !ready) return fail(ready.error());
    if (const auto sealed = seal(); !sealed) return fail(sealed.error());
    if (const auto trained = train_all(); !trained) return fail(trained.error());
    return decide_and_show();
  }

 private:
  void say(const std::string& text) const {
    std::fprintf(stdout, "%s\n", text.c_str()), std::fflush(stdout);
  }

  Status make_folders() {
    std::error_code error;
    const fs::path base = examples_.parent_path() / "build";
    const fs::path home = fs::is_directory(base, error) ? base / "demo" : fs::path("rigwise-demo");
    cache_ = home / "work";
    dir_ = args_.dir ? fs::path(*args_.dir) : home / fmt::format("{:.0f}", unix_s());
    for (const auto& folder : {cache_, dir_ / "out"}) {
      fs::create_directories(folder, error);
      if (error) return Error{Errc::io, folder.string() + ": cannot make it: " + error.message()};
    }
    cache_ = fs::absolute(cache_);
    dir_ = fs::absolute(dir_);
    return Ok{};
  }

  /// The words of a JSON array with the placeholders filled in.
  Words words(const Json& array, const std::string& out = "") const {
    const fs::path torchrun = fs::path(program_).parent_path() / "torchrun";
    std::error_code error;
    const bool has_torchrun =
        !fs::path(program_).parent_path().empty() && fs::exists(torchrun, error);
    const std::map<std::string, std::string> holes = {{"{python}", program_},
                                                      {"{engine}", program_},
                                                      {"{examples}", examples_.string()},
                                                      {"{work}", cache_.string()},
                                                      {"{out}", out}};
    Words filled;
    for (const auto& item : array) {
      std::string word = item.get<std::string>();
      if (word == "{torchrun}") {
        if (has_torchrun) {
          filled.push_back(torchrun.string());
        } else {
          for (const char* part : {program_.c_str(), "-m", "torch.distributed.run"})
            filled.emplace_back(part);
        }
        continue;
      }
      for (const auto& [hole, value] : holes) {
        for (auto at = word.find(hole); at != std::string::npos;
             at = word.find(hole, at + value.size())) {
          word.replace(at, hole.size(), value);
        }
      }
      filled.push_back(std::move(word));
    }
    return filled;
  }

  /// Runs a command in the demo's folder with its output to `log`; its exit status.
  Result<int> call(const Words& argv, const fs::path& log) const {
    ProcessOptions options;
    options.cwd = dir_;
    options.limit = std::chrono::minutes(30);
    options.share_group = true;
    options.extra_env = {"RIGWISE_RUNS=" + (dir_ / "runs").string()};
    RW_TRY(const ProcessOutput output, run_process(argv, options));
    if (!log.empty()) RW_CHECK(write_file_atomic(log, output.out + output.err));
    if (log.empty()) std::fputs((output.out + output.err).c_str(), stdout);
    return output.exit_status;
  }

  /// Makes data and model once; they are kept for the next demo.
  Status make(const char* part) {
    const Json& step = plan_.at(part);
    bool there = true;
    std::error_code error;
    for (const auto& file : words(step.at("makes"))) there = there && fs::exists(file, error);
    if (there) return Ok{};
    say(fmt::format("making the {} …", part));
    if (const auto text = step.find("made_text"); text != step.end()) {
      return write_file_atomic(words({text->at("file")})[0],
                               made_text(text->at("bytes").get<std::size_t>()));
    }
    const fs::path log = dir_ / (std::string(part) + ".log");
    RW_TRY(const int status, call(words(step.at("argv")), log));
    if (status == 0) return Ok{};
    return Error{Errc::unavailable, fmt::format("the {} could not be made (exit {})", part, status),
                 "its output: " + log.string()};
  }

  Status prepare() {
    RW_CHECK(make("data"));
    if (!args_.model) RW_CHECK(make("model"));
    return Ok{};
  }

  Status seal() const {
    const std::string threshold = plan_.at("threshold").get<std::string>();
    say(fmt::format("\n$ rigwise init --threshold \"{}\" …     sealed before the first run",
                    threshold));
    RW_TRY(
        const int status,
        call({own_program(), "init", "--force", "--experiment", "demo", "--threshold", threshold,
              "--bottleneck",
              "compute: one core is busy all the time while the step time decides the day",
              "--option", "two ranks, data parallel", "--reason",
              "each rank takes half of every batch, so the compute time of a step halves", "--stop",
              "three runs a side without 1.4x", "--baseline", "single", "--candidate", "pair"},
             {}));
    return status == 0 ? Status(Ok{}) : Status(Error{Errc::internal, "init failed"});
  }

  /// A B B A A B: neither side has all the early or all the late runs, so drift does not look like
  /// an effect.
  Status train_all() {
    for (int i = 0; i < 2 * args_.runs_a_side; ++i) {
      const bool pair = i % 4 == 1 || i % 4 == 2;
      RW_CHECK(train(pair ? "pair" : "single", i));
    }
    return Ok{};
  }

  Status train(const std::string& side, int number) {
    const Json& part = plan_.at(side);
    const std::string out = (dir_ / "out" / fmt::format("{}-{}", side, number / 2 + 1)).string();
    Words argv = {own_program(), "run", "--name", side, "--"};
    for (const Json& list : {part.at("launch"), plan_.at("train"), part.at("extra")}) {
      for (auto& word : words(list, out)) argv.push_back(std::move(word));
    }
    if (args_.model) {
      for (std::size_t i = 0; i + 1 < argv.size(); ++i) {
        if (argv[i] == "--model") argv[i + 1] = *args_.model;
      }
    }
    const Words launch = words(part.at("launch"));
    std::string shown = fs::path(launch[0]).filename().string();
    for (std::size_t i = 1; i < launch.size(); ++i) shown += " " + launch[i];
    if (workload_ == "hf") {
      shown += " train.py";
    } else {
      for (const auto& word : words(part.at("extra"))) shown += " " + word;
    }
    say(fmt::format("\n$ rigwise run --name {} -- {} …", side, shown));
    const fs::path log = dir_ / fmt::format("{}-{}.log", side, number / 2 + 1);
    RW_TRY(const int status, call(argv, log));
    show_closing(log);
    if (status == 0) return Ok{};
    return Error{Errc::unavailable, fmt::format("training '{}' failed (exit {})", side, status),
                 "its output: " + log.string()};
  }

  /// The run's own closing lines: the last ones of its output, from "rigwise: " on.
  void show_closing(const fs::path& log) const {
    const auto text = read_file(log);
    const auto at = text ? text->rfind("rigwise: ") : std::string::npos;
    if (at != std::string::npos) std::fputs(text->substr(at).c_str(), stdout), std::fflush(stdout);
  }

  int decide_and_show() const {
    say("\n$ rigwise compare single -- pair");
    const auto compared = call({own_program(), "compare", "single", "--", "pair"}, {});
    if (!compared) return fail(compared.error());
    say("\n$ rigwise decide");
    const fs::path log = dir_ / "decide.log";
    const auto decided = call({own_program(), "decide"}, log);
    if (!decided) return fail(decided.error());
    const auto text = read_file(log);
    if (text) std::fputs(text->c_str(), stdout);
    if (*decided != 0) return *decided;
    const fs::path folder = dir_ / "runs/decisions/demo";
    const auto json_text = read_file(folder / "decision.json");
    const auto json = json_text ? parse_json(*json_text) : Result<Json>(json_text.error());
    if (!json) return fail(json.error());
    say(fmt::format("\nverdict: {}", get<std::string>(*json, "verdict").value_or("not_shown")));
    say(fmt::format("decision: {}", (folder / "decision.md").string()));
    say(fmt::format("report: {}", (folder / "report.html").string()));
    return kOk;
  }

  const DemoArgs& args_;
  std::string workload_;
  fs::path examples_;
  std::string program_;
  Json plan_;
  fs::path cache_, dir_;
};

}  // namespace

int cmd_demo(const DemoArgs& args) {
  std::string workload = args.workload.value_or("engine");
  auto engine = find_engine();
  if (!engine && args.workload == "engine") return fail(engine.error());
  if (!engine && workload == "engine") {
    std::fprintf(stdout,
                 "rigwise-engine is not built (./dev build does): the demo takes the Hugging Face "
                 "example.\n");
    workload = "hf";
  }
  const auto examples = find_examples(workload);
  if (!examples) return fail(examples.error());
  std::string program;
  if (workload == "hf") {
    auto python = find_python();
    if (!python) return fail(python.error());
    program = std::move(*python);
  } else {
    program = engine->string();
  }
  const auto text = read_file(*examples / workload / "demo.json");
  if (!text) return fail(text.error());
  auto plan = parse_json(*text);
  if (!plan) return fail(std::move(plan).error().at("examples/" + workload + "/demo.json"));
  return Demo(args, workload, *examples, program, std::move(*plan)).run();
}

}  // namespace rigwise::cli
