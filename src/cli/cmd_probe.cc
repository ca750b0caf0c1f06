// probe: trains the same work under every strategy that fits this rig, each run recorded as
// `rigwise run` would, and ranks them. What may be said of the runs stands in probe.cc.
#include <dirent.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "base/clock.h"
#include "base/files.h"
#include "base/json.h"
#include "base/subprocess.h"
#include "base/text.h"
#include "cli/engine.h"
#include "cli/probe.h"
#include "cli/verbs.h"
#include "rigwise/catalogue.h"
#include "rigwise/stats.h"
#include "rigwise/units.h"

namespace rigwise::cli {

namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

constexpr int kTrialSteps = 4;
constexpr int kMostProbes = 10000;
constexpr std::size_t kMadeTextBytes = 200'000;
constexpr std::uint64_t kMostLogBytes = std::uint64_t{256} << 20;

/// GPUs that a program started here would see.
int visible_gpus() {
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES"); visible != nullptr) {
    int count = 0;
    for (const auto part : split(visible, ',')) {
      if (!trim(part).empty() && trim(part) != "-1") ++count;
    }
    return count;
  }
  int count = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/dev", error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("nvidia") && to_integer(name.substr(6))) ++count;
  }
  return count;
}

int usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

class Probe {
 public:
  explicit Probe(const ProbeArgs& args) : args_(args) {}

  int run() {
    const auto done = measure();
    if (!done) return fail(done.error());
    const int printed =
        print(args_.json ? probe_json(report_) : probe_text(report_, style_of(STDOUT_FILENO)));
    if (printed != kOk) return printed;
    bool compared = false, whole = true;
    for (const auto& row : report_.rows) {
      compared = compared || row.verdict.has_value();
      whole = whole && row.state != ProbeState::refused && row.state != ProbeState::failed;
    }
    return compared && whole ? kOk : kPartial;
  }

 private:
  Status measure() {
    const double start_s = monotonic_s();
    RW_TRY(engine_, find_engine());
    choose_devices();
    RW_TRY(const auto strategies, probe_strategies(args_.strategies, report_.devices));
    RW_CHECK(check_sizes(strategies));
    RW_CHECK(make_folder());
    RW_CHECK(find_work());
    for (const auto& strategy : strategies) rows_.push_back({.strategy = strategy});
    RW_CHECK(try_all());
    RW_CHECK(promise());
    RW_CHECK(seal());
    RW_CHECK(run_all());
    RW_CHECK(judge());
    report_.took_s = monotonic_s() - start_s;
    return Ok{};
  }

  void say(const std::string& text) const { std::fprintf(stderr, "probe: %s\n", text.c_str()); }

  // ----------------------------------------------------------------------------------------------
  // what there is

  void choose_devices() {
    const int gpus = visible_gpus();
    report_.device = args_.device.value_or(gpus > 0 ? "cuda" : "cpu");
    const bool cpu = report_.device == "cpu";
    report_.devices = args_.ranks.value_or(cpu ? 2 : std::max(gpus, 1));
    if (cpu) {
      report_.threads = args_.threads.value_or(std::max(1, usable_cpus() / report_.devices));
    } else {
      report_.threads = args_.threads;
    }
    report_.engine = engine_.string();
    report_.method = args_.method;
    report_.steps = args_.steps;
    report_.repeats = args_.repeats;
    report_.loss_tolerance = args_.loss_tolerance;
    report_.global_batch = args_.global_batch.value_or(4 * report_.devices);
  }

  Status check_sizes(const std::vector<ProbeStrategy>& strategies) const {
    int most = 1;
    for (const auto& strategy : strategies) most = std::max(most, strategy.ranks);
    if (report_.global_batch < most) {
      return Error{Errc::usage,
                   fmt::format("a global batch of {} cannot be shared by {} ranks",
                               report_.global_batch, most),
                   fmt::format("--global-batch {}", 4 * most)};
    }
    if (args_.model && !fs::exists(fs::path(*args_.model) / "config.json")) {
      return Error{Errc::usage, clean_text(*args_.model, 200) + ": no config.json in it",
                   "--model names a Hugging Face folder; without it a small model is made"};
    }
    if (args_.data && !fs::exists(*args_.data)) {
      return Error{Errc::usage, clean_text(*args_.data, 200) + ": no such file",
                   "--data names a .txt or .jsonl file; without it a text is made"};
    }
    return Ok{};
  }

  Status make_folder() {
    root_ = runs_root(args_.runs);
    std::error_code error;
    fs::create_directories(root_ / "probes", error);
    if (error) {
      return Error{Errc::io, fmt::format("{}: {}", (root_ / "probes").string(), error.message()),
                   "--runs names a folder that can be written"};
    }
    for (int number = 1; number <= kMostProbes; ++number) {
      report_.experiment = args_.name.value_or(fmt::format("probe{}", number));
      folder_ = fs::absolute(root_ / "probes" / report_.experiment);
      if (fs::create_directory(folder_, error)) {
        report_.folder = folder_.string();
        return Ok{};
      }
      if (error) return Error{Errc::io, folder_.string() + ": " + error.message()};
      if (args_.name) {
        return Error{Errc::usage, "there is an experiment '" + *args_.name + "' already",
                     "another --name: its runs could not be told from these"};
      }
    }
    return Error{Errc::conflict, (root_ / "probes").string() + " is full", "--name"};
  }

  /// The model and the text, made where nobody gave them.
  Status find_work() {
    std::error_code error;
    if (args_.data) {
      report_.data = fs::absolute(*args_.data, error).string();
    } else {
      report_.data_made = true;
      report_.data = (folder_ / "text.txt").string();
      RW_CHECK(write_file_atomic(report_.data, made_text(kMadeTextBytes)));
      say("no --data: made a text of 200 kB from a small grammar");
    }
    if (args_.model) {
      report_.model = fs::absolute(*args_.model, error).string();
      return Ok{};
    }
    report_.model_made = true;
    report_.model = (folder_ / "model").string();
    const bool big = report_.device != "cpu";
    Words argv = {engine_.string(), "make-model", "--out", report_.model};
    const auto more = [&](const char* flag, int value) {
      argv.insert(argv.end(), {flag, std::to_string(value)});
    };
    more("--hidden", big ? 1024 : 192);
    more("--layers", big ? 12 : 4);
    more("--heads", big ? 16 : 4);
    more("--vocab", 1024);
    more("--max-seq", std::max(args_.seq.value_or(0), big ? 512 : 128));
    if (report_.data.ends_with(".txt")) {
      argv.insert(argv.end(), {"--tokenizer-from", report_.data});
    }
    RW_TRY(const ProcessOutput made, call(argv, 300));
    if (made.exit_status != 0) {
      return Error{Errc::unavailable, "no model could be made: " + engine_word(made),
                   "--model DIR"};
    }
    say("no --model: made a small one of random weights; its figures say nothing of yours");
    return Ok{};
  }

  // ----------------------------------------------------------------------------------------------
  // running the engine

  static std::string engine_word(const ProcessOutput& output) {
    return last_word(output.err, "rigwise-engine", output.exit_status);
  }

  static Result<ProcessOutput> call(const Words& argv, double limit_s) {
    ProcessOptions options;
    options.limit = std::chrono::milliseconds(static_cast<std::int64_t>(limit_s * 1000));
    options.share_group = true;
    options.max_output_bytes = std::size_t{4} << 20;
    return run_process(argv, options);
  }

  [[nodiscard]] Words train_words(const ProbeStrategy& strategy, int steps,
                                  const fs::path& out) const {
    Words argv = {engine_.string(), "train", "--model", report_.model, "--data", report_.data};
    const auto more = [&](const char* flag, const std::string& value) {
      argv.push_back(flag), argv.push_back(value);
    };
    more("--method", args_.method);
    if (args_.dtype) more("--dtype", *args_.dtype);
    if (args_.seq) more("--seq", std::to_string(*args_.seq));
    more("--global-batch", std::to_string(report_.global_batch));
    more("--micro-batch", std::to_string(args_.micro_batch));
    more("--steps", std::to_string(steps));
    more("--schedule", "constant");
    more("--seed", "0");
    more("--device", report_.device);
    if (report_.threads) more("--threads", std::to_string(*report_.threads));
    more("--strategy", strategy.name);
    more("--ranks", std::to_string(strategy.ranks));
    more("--out", out.string());
    return argv;
  }

  /// Rank 0's log first.
  static Result<std::vector<EngineLog>> read_logs(const fs::path& out, int ranks) {
    std::vector<EngineLog> logs;
    for (int rank = 0; rank < ranks; ++rank) {
      const fs::path file = out / (rank == 0 ? "log.jsonl" : fmt::format("log.rank{}.jsonl", rank));
      RW_TRY(const std::string text, read_file(file, kMostLogBytes));
      RW_TRY(EngineLog log, read_engine_log(text, file.string()));
      logs.push_back(std::move(log));
    }
    return logs;
  }

  /// The weights that a run of ours saved: only its log is asked for, and a model's weights times
  /// all runs would fill a disk.
  static void drop_checkpoints(const fs::path& out) {
    std::error_code error;
    std::vector<fs::path> folders;
    for (const auto& entry : fs::directory_iterator(out, error)) {
      if (entry.is_directory(error) && !entry.is_symlink(error) &&
          entry.path().filename().string().starts_with("checkpoint-")) {
        folders.push_back(entry.path());
      }
    }
    for (const auto& folder : folders) fs::remove_all(folder, error);
  }

  // ----------------------------------------------------------------------------------------------
  // which strategies fit

  Status try_all() {
    say(fmt::format("trying {} strategies, {} steps each", rows_.size(), kTrialSteps));
    std::optional<EngineLog> base;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      ProbeRow& row = rows_[i];
      RW_CHECK(try_one(row, base));
      if (i == 0 && base) predict(*base);  // turns the rows behind single
      if (row.state == ProbeState::measured) continue;
      if (row.strategy.name == "single") return single_fails(row);
      say(fmt::format("{} {}: {}", row.strategy.name,
                      row.state == ProbeState::refused ? "is refused" : "does not fit", row.why));
    }
    return Ok{};
  }

  static Error single_fails(const ProbeRow& row) {
    return Error{Errc::unavailable, "single does not train: " + row.why,
                 "every strategy is measured against it: a smaller model, --seq or --method, or "
                 "--device cpu"};
  }

  Status try_one(ProbeRow& row, std::optional<EngineLog>& base) {
    const auto stop = [&](ProbeState state, std::string why) {
      row.state = state;
      row.why = std::move(why);
      return Ok{};
    };
    const int gpus = report_.device == "cuda" ? visible_gpus() : row.strategy.ranks;
    if (row.strategy.ranks > gpus) {
      return stop(ProbeState::does_not_fit,
                  fmt::format("{} ranks need a GPU each, here is {}", row.strategy.ranks, gpus));
    }
    const fs::path out = folder_ / "trial" / probe_member(row.strategy.name);
    std::error_code error;
    fs::create_directories(out, error);
    const double start_s = monotonic_s();
    auto tried = call(train_words(row.strategy, kTrialSteps, out), args_.limit_s);
    const double wall_s = monotonic_s() - start_s;
    if (!tried && tried.error().code != Errc::unavailable) return tried.error();
    if (!tried) return stop(ProbeState::does_not_fit, tried.error().message);
    if (tried->exit_status != 0) return stop(ProbeState::does_not_fit, engine_word(*tried));
    const auto logs = read_logs(out, row.strategy.ranks);
    drop_checkpoints(out);
    if (!logs) return stop(ProbeState::does_not_fit, logs.error().message);
    if (!base) base = logs->front();
    const SameWork same = same_work(*base, logs->front(), args_.loss_tolerance);
    if (!same.same) return stop(ProbeState::refused, same.why);
    remember_pace(row, logs->front(), wall_s);
    return Ok{};
  }

  /// Plan's order from single's trial and the link, which is measured for it: the strategies are
  /// tried and run in that order, and it is judged by what they then do. Where it cannot be had,
  /// the report says why.
  void predict(const EngineLog& single) {
    if (report_.devices < 2) return;
    const auto link = measure_link();
    if (!link) {
      report_.not_predicted = link.error().message;
      return;
    }
    auto model = read_model(report_.model);
    Workload w;
    if (model) w.shape = model->shape, w.params = model->params;
    w.framework = "rigwise";
    w.method = args_.method;
    w.precision = args_.dtype.value_or("fp32");
    w.micro_batch = args_.micro_batch;
    w.grad_accum = std::ceil(static_cast<double>(report_.global_batch) / args_.micro_batch);
    w.seq_len = static_cast<double>(single.steps[0].tokens) /
                static_cast<double>(report_.global_batch);
    if (w.method != "full") {  // what the engine adapts where nothing else is asked for
      w.lora_rank = 8;
      w.lora_targets = {"q", "v"};
    }
    const MeasuredStep step = measured_step(single, *w.grad_accum);
    if (!step.phases_measured) {
      report_.not_predicted = "single's trial tells no phases";
      return;
    }
    std::vector<std::string> names;
    for (const auto& row : rows_) names.push_back(row.strategy.name);
    predicted_ = order_strategies(names, report_.devices, w, step, *link);
    const auto place = [&](const ProbeRow& row) {
      if (row.strategy.name == "single") return std::ptrdiff_t{-1};
      return std::ranges::find(predicted_, row.strategy.name, &StrategyStep::strategy) -
             predicted_.begin();
    };
    std::ranges::stable_sort(rows_, {}, place);
    for (const auto& one : predicted_) {
      if (!one.refused.empty()) continue;
      report_.predicted_order.push_back(one.strategy);
      const auto row =
          std::ranges::find(rows_, one.strategy, [](const ProbeRow& r) { return r.strategy.name; });
      const double was = step.step_s();
      row->predicted_factor = Interval{.value = was / one.step_s.value,
                                       .low = was / one.step_s.high,
                                       .high = was / one.step_s.low};
    }
  }

  Result<LinkKnown> measure_link() const {
    const std::string ranks = std::to_string(report_.devices);
    Words argv = {engine_.string(),   "link",         "--json",    "--ranks", ranks,
                  "--device",         report_.device, "--repeats", "3",       "--sizes",
                  "8,64KiB,1MiB,8MiB"};
    if (report_.threads) {
      argv.insert(argv.end(), {"--threads", std::to_string(*report_.threads)});
    }
    RW_TRY(const ProcessOutput told, call(argv, 120));
    if (told.exit_status != 0) {
      return Error{Errc::unavailable, "the link could not be measured: " + engine_word(told)};
    }
    RW_CHECK(write_file_atomic(folder_ / "link.json", told.out));
    return read_link(told.out, (folder_ / "link.json").string());
  }

  void judge_prediction() {
    std::vector<std::pair<std::string, double>> measured;
    for (const auto& row : report_.rows) {
      if (row.state != ProbeState::measured || !row.tokens_per_s) continue;
      const double tokens = static_cast<double>(report_.tokens_a_step.value_or(1));
      measured.emplace_back(row.strategy.name, tokens / row.tokens_per_s->value);
    }
    report_.order_judged = judge_order(predicted_, measured);
  }

  void remember_pace(const ProbeRow& row, const EngineLog& log, double wall_s) {
    double steps_s = 0;
    std::vector<double> later;
    for (std::size_t i = 0; i < log.steps.size(); ++i) {
      steps_s += log.steps[i].step_time_s;
      if (i > 0) later.push_back(log.steps[i].step_time_s);
    }
    const double step_s = stats::median(later).value_or(log.steps[0].step_time_s);
    expected_s_.emplace_back(row.strategy.name,
                             std::max(0.0, wall_s - steps_s) + args_.steps * step_s);
    report_.tokens_a_step = log.steps[0].tokens;
  }

  [[nodiscard]] double expected_s(const std::string& strategy) const {
    for (const auto& [name, seconds] : expected_s_) {
      if (name == strategy) return seconds;
    }
    return 0;
  }

  Status promise() const {
    double once_s = 0;
    std::size_t fit = 0;
    for (const auto& row : rows_) {
      if (row.state != ProbeState::measured) continue;
      once_s += expected_s(row.strategy.name);
      ++fit;
    }
    const double all_s = once_s * args_.repeats;
    say(fmt::format("{} runs of {} steps will take about {}", fit * args_.repeats, args_.steps,
                    format_duration(all_s)));
    if (all_s <= args_.limit_s) return Ok{};
    return Error{Errc::usage,
                 fmt::format("that is more than --limit {}", format_duration(args_.limit_s)),
                 "fewer --steps, --repeats or --strategies, or a higher --limit"};
  }

  // ----------------------------------------------------------------------------------------------
  // the runs

  [[nodiscard]] std::string run_name(const ProbeRow& row) const {
    return report_.experiment + "-" + probe_member(row.strategy.name);
  }

  /// A statement sealed before the first run, so that `decide` can take any of the strategies.
  Status seal() {
    lab_ = folder_ / "lab.toml";
    std::string candidate = run_name(rows_.front());
    for (auto& row : rows_) {
      row.name = run_name(row);
      if (row.state != ProbeState::measured || row.strategy.name == "single") continue;
      candidate = row.name;
      break;
    }
    for (auto& row : rows_) row.name = run_name(row);
    if (candidate == rows_.front().name) return Ok{};  // nothing to decide
    RW_TRY(const ProcessOutput sealed,
           call({own_program().string(),
                 "init",
                 "--lab",
                 lab_.string(),
                 "--experiment",
                 report_.experiment,
                 "--threshold",
                 "tokens_per_s >= 1.1x",
                 "--bottleneck",
                 "compute: the step time of one device decides how long a run takes",
                 "--option",
                 "the same work under another strategy",
                 "--reason",
                 "several devices share the compute of each step",
                 "--stop",
                 fmt::format("{} runs a side without 1.1x", args_.repeats),
                 "--baseline",
                 rows_.front().name,
                 "--candidate",
                 candidate},
                60));
    if (sealed.exit_status == 0) return Ok{};
    return Error{Errc::internal, "the experiment could not be sealed: " +
                                     last_word(sealed.err, "rigwise", sealed.exit_status)};
  }

  Status run_all() {
    logs_.resize(rows_.size());
    const auto order = probe_order(rows_.size(), args_.repeats);
    std::size_t due = 0, done = 0;
    double left_s = 0;
    for (const std::size_t i : order) {
      if (rows_[i].state != ProbeState::measured) continue;
      ++due;
      left_s += expected_s(rows_[i].strategy.name);
    }
    for (const std::size_t i : order) {
      ProbeRow& row = rows_[i];
      const double expected = expected_s(row.strategy.name);
      if (row.state != ProbeState::measured) {
        if (!row.runs.empty()) left_s -= expected, --due;  // refused on the way
        continue;
      }
      progress(fmt::format("run {} of {}: {} …  about {} left", ++done, due, row.strategy.name,
                           format_duration(std::max(left_s, 0.0))));
      RW_CHECK(run_one(i));
      report_.order.push_back(row.strategy.name);
      left_s -= expected;
      if (row.strategy.name == "single" && row.state != ProbeState::measured) {
        return single_fails(row);
      }
    }
    if (::isatty(STDERR_FILENO) == 1) std::fputs("\r\033[K", stderr);
    return Ok{};
  }

  static void progress(const std::string& text) {
    if (::isatty(STDERR_FILENO) == 1) {
      std::fprintf(stderr, "\r\033[Kprobe: %s", text.c_str());
    } else {
      std::fprintf(stderr, "probe: %s\n", text.c_str());
    }
  }

  Status run_one(std::size_t index) {
    ProbeRow& row = rows_[index];
    const auto stop = [&](ProbeState state, std::string why) {
      row.state = state;
      row.why = std::move(why);
      progress(fmt::format("{} is left out: {}\n", row.strategy.name, row.why));
      return Ok{};
    };
    const fs::path out =
        folder_ / "out" /
        fmt::format("{}-{}", probe_member(row.strategy.name), logs_[index].size() + 1);
    std::error_code error;
    fs::create_directories(out.parent_path(), error);
    Words argv = {own_program().string(), "run",    "--json", "--runs",
                  root_.string(),         "--name", row.name, "--lab",
                  lab_.string()};
    if (!fs::exists(lab_, error)) argv.resize(argv.size() - 2);
    // a run of a few seconds needs more readings than one a second to show what its ranks did
    if (expected_s(row.strategy.name) < 30) argv.insert(argv.end(), {"--interval", "0.25"});
    argv.emplace_back("--");
    for (auto& word : train_words(row.strategy, args_.steps, out)) argv.push_back(std::move(word));
    const double limit_s = 120 + 10 * expected_s(row.strategy.name);
    auto ran = call(argv, limit_s);
    if (!ran && ran.error().code != Errc::unavailable) return ran.error();
    if (!ran) {
      return stop(ProbeState::failed, fmt::format("took more than {}, ten times what was expected",
                                                  format_duration(limit_s)));
    }
    RW_TRY(const fs::path dir, recorded_dir(*ran));
    if (ran->exit_status != 0) return stop(ProbeState::failed, engine_word(*ran));
    row.runs.push_back(dir.filename().string());
    dirs_.emplace_back(index, dir);
    auto logs = read_logs(out, row.strategy.ranks);
    drop_checkpoints(out);
    if (!logs) return stop(ProbeState::failed, logs.error().message);
    if (logs_.front().empty())
      logs_.front().push_back(*logs);  // single is first: what others are held to
    const SameWork same =
        same_work(logs_.front().front().front(), logs->front(), args_.loss_tolerance);
    row.loss_difference_frac =
        std::max(row.loss_difference_frac.value_or(0), same.loss_difference_frac);
    if (!same.same) return stop(ProbeState::refused, same.why);
    if (index != 0 || row.runs.size() > 1) logs_[index].push_back(std::move(*logs));
    return Ok{};
  }

  /// From the document that `rigwise run --json` leaves as the last line of stderr.
  static Result<fs::path> recorded_dir(const ProcessOutput& output) {
    const std::string_view text = trim(output.err);
    const std::size_t at = text.rfind('\n');
    const auto json = parse_json(text.substr(at == std::string_view::npos ? 0 : at + 1));
    const auto dir = json && json->is_object() ? get<std::string>(*json, "dir") : std::nullopt;
    if (dir) return fs::path(*dir);
    return Error{
        Errc::io,
        "a run could not be recorded: " + last_word(output.err, "rigwise", output.exit_status),
        "--runs names a folder with room that can be written"};
  }

  // ----------------------------------------------------------------------------------------------
  // what they show

  void add_figures(std::size_t index) {
    ProbeRow& row = rows_[index];
    std::vector<RunFigures> runs;
    double sync = 0;
    std::size_t logs_seen = 0;
    for (const auto& ranks : logs_[index]) {
      for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
        const auto figures = figures_of(ranks[rank]);
        if (!figures) continue;
        if (rank == 0) runs.push_back(*figures);
        sync += figures->sync_frac;
        ++logs_seen;
        row.peak_memory_bytes =
            std::max(row.peak_memory_bytes.value_or(0), figures->peak_memory_bytes);
      }
    }
    row.tokens_per_s = rate_of_runs(runs);
    if (logs_seen > 0) row.sync_frac = sync / static_cast<double>(logs_seen);
  }

  Result<std::vector<Run>> runs_of(std::size_t index) const {
    std::vector<Run> runs;
    for (const auto& [owner, dir] : dirs_) {
      if (owner != index) continue;
      RW_TRY(Run run, open_run(dir));
      runs.push_back(std::move(run));
    }
    return runs;
  }

  Status judge() {
    RW_TRY(const auto single, runs_of(0));
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      ProbeRow& row = rows_[i];
      if (row.state != ProbeState::measured) continue;
      add_figures(i);
      if (i == 0) continue;
      RW_TRY(const auto runs, runs_of(i));
      CompareOptions options;
      options.factor = row.strategy.ranks == 1 ? "parallelism" : "ranks";
      RW_TRY(const Comparison comparison, compare(single, runs, options));
      add_verdict(row, comparison);
    }
    report_.rows = rows_;
    rank_rows(report_.rows);
    report_.verdict = probe_verdict(report_.rows);
    judge_prediction();
    const std::string single_name = rows_.front().name;
    for (const auto& row : report_.rows) {
      if (!row.verdict) continue;
      const std::string runs = args_.runs ? " --runs " + *args_.runs : "";
      report_.next = {
          fmt::format("rigwise compare{} {} -- {}", runs, single_name, row.name),
          fmt::format("rigwise decide{} --lab {} --option {}", runs, lab_.string(), row.name)};
      break;
    }
    return Ok{};
  }

  void add_verdict(ProbeRow& row, const Comparison& comparison) const {
    row.verdict = comparison.verdict;
    row.why = comparison.verdict_why;
    row.likely = comparison.likely;
    row.runs_needed = comparison.runs_needed;
    if (comparison.effect) {
      const auto factor = [](double percent) { return 1 / (1 + percent / 100); };
      row.factor = Interval{.value = factor(comparison.effect->percent)};
      if (comparison.effect->low < comparison.effect->high) {
        row.factor->low = factor(comparison.effect->high);
        row.factor->high = factor(comparison.effect->low);
      }
    } else if (row.tokens_per_s && rows_.front().tokens_per_s) {
      row.factor = Interval{.value = row.tokens_per_s->value / rows_.front().tokens_per_s->value};
    }
  }

  const ProbeArgs& args_;
  fs::path engine_, root_, folder_, lab_;
  ProbeReport report_;
  std::vector<ProbeRow> rows_;           // in the order of trying; single is the first
  std::vector<StrategyStep> predicted_;  // fastest first
  std::vector<std::pair<std::string, double>> expected_s_;  // seconds of one run, by strategy
  std::vector<std::vector<std::vector<EngineLog>>> logs_;   // by row, run, rank
  std::vector<std::pair<std::size_t, fs::path>> dirs_;      // run directories and their rows
};

}  // namespace

int cmd_probe(const ProbeArgs& args) {
  return Probe(args).run();
}

}  // namespace rigwise::cli
