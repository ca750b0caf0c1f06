#include <fmt/format.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.h"
#include "base/text.h"
#include "cli/verbs.h"
#include "rigwise/plan_options.h"
#include "rigwise/report_plan.h"
#include "rigwise/units.h"

namespace rigwise::cli {

namespace {

constexpr std::uint64_t kMostLabBytes = 1 << 20;
constexpr std::uint64_t kMostLinkBytes = 16 << 20;
constexpr double kMostOfAnything = 1e9;  // watts, money
constexpr double kLeastSpeedup = 0.01;

/// lab.toml's [plan] table: what no sensor sees. Errors: usage, malformed (with the place).
Status read_plan_table(const PlanArgs& args, OptionContext& context) {
  const auto path = lab_path(args.lab);
  const auto text = read_file(path, kMostLabBytes);
  if (!text) {
    if (!args.lab) return Ok{};
    return Error{Errc::usage, text.error().message, ""};
  }
  std::optional<double> other_w;
  std::optional<std::string> currency, circuit, wait;
  try {
    const toml::table table = toml::parse(*text);
    const auto* plan = table["plan"].as_table();
    if (plan == nullptr && !table.contains("plan")) return Ok{};
    if (plan == nullptr) {
      return Error{Errc::malformed, path.string() + ": plan is not a table", "[plan]"};
    }
    static const std::vector<std::string> kKeys = {
        "kwh_price", "gpu_price", "rent_per_hour",   "rent_speedup",    "psu_w",
        "rest_w",    "circuit",   "circuit_other_w", "evaluation_wait", "currency"};
    for (const auto& [key, value] : *plan) {
      if (std::find(kKeys.begin(), kKeys.end(), key.str()) != kKeys.end()) continue;
      const auto near = nearest_name(key.str(), kKeys);
      return Error{
          Errc::malformed,
          path.string() + ": [plan] has an unknown key '" + clean_text(key.str(), 60) + "'",
          near ? "did you mean '" + *near + "'?" : "known: " + join(kKeys, ", ")};
    }
    const auto wrong = [&](std::string_view key, std::string_view expected) {
      const auto* value = plan->get(key);
      return Error{Errc::malformed,
                   fmt::format("{}:{}: [plan] {} is not {}", path.string(),
                               value->source().begin.line, key, expected),
                   ""};
    };
    for (const auto& [key, into] :
         {std::pair("kwh_price", &context.kwh_price), std::pair("gpu_price", &context.gpu_price),
          std::pair("rent_per_hour", &context.rent_per_h),
          std::pair("rent_speedup", &context.rent_speedup), std::pair("psu_w", &context.psu_w),
          std::pair("rest_w", &context.rest_w), std::pair("circuit_other_w", &other_w)}) {
      if (!plan->contains(key)) continue;
      const auto value = (*plan)[key].value<double>();
      if (!value || !(*value >= 0) || *value > kMostOfAnything) {
        return wrong(key, "a number from 0 on, without a unit");
      }
      *into = *value;
    }
    if (context.rent_speedup && *context.rent_speedup < kLeastSpeedup) {
      return wrong("rent_speedup", "a factor: 2.5 where the rented machine is 2.5 times as fast");
    }
    context.circuit_other_w = other_w.value_or(0);
    for (const auto& [key, into] :
         {std::pair("currency", &currency), std::pair("circuit", &circuit),
          std::pair("evaluation_wait", &wait)}) {
      if (!plan->contains(key)) continue;
      *into = (*plan)[key].value<std::string>();
      if (!*into) return wrong(key, "a text in quotes");
    }
    context.currency = clean_text(currency.value_or("€"), 8);
    if (circuit) {
      RW_TRY(context.circuit, find_circuit(*circuit));
    }
    if (wait) {
      RW_TRY(context.evaluation_wait_s, parse_duration(*wait));
    }
  } catch (const toml::parse_error& error) {
    return Error{Errc::malformed,
                 path.string() + ":" + std::to_string(error.source().begin.line) + ": " +
                     clean_text(error.description(), 200),
                 ""};
  }
  return Ok{};
}

Status put_flags(const PlanArgs& args, const Run& run, OptionContext& context) {
  const auto over = [](const std::optional<double>& flag, std::optional<double>& into) {
    if (flag) into = flag;
  };
  over(args.price, context.gpu_price);
  over(args.kwh_price, context.kwh_price);
  over(args.rent_per_h, context.rent_per_h);
  over(args.rent_speedup, context.rent_speedup);
  over(args.psu_w, context.psu_w);
  if (args.circuit) {
    RW_TRY(context.circuit, find_circuit(*args.circuit));
  }
  std::optional<std::string> words = args.threshold;
  if (!words && run.info.statement && !run.info.statement->threshold.empty()) {
    words = run.info.statement->threshold;
  }
  if (!words) return Ok{};
  RW_TRY(const Threshold threshold, parse_threshold(*words));
  const bool wall = threshold.metric == Metric::wall_clock && !threshold.relative;
  if (wall && (!threshold.work || threshold.work_unit == "steps")) {
    context.work_steps = threshold.work;
    context.limit_s = threshold.value;
  } else if (args.threshold) {
    return Error{Errc::usage, "plan: '" + clean_text(*words, 120) + "' is not a limit of time",
                 "\"wall_clock(3000 steps) <= 5h\""};
  }
  return Ok{};
}

}  // namespace

int cmd_plan_options(const PlanArgs& args) {
  const auto run = latest_run(args, *args.from);
  if (!run) return fail_run(run.error());
  const auto ledger = make_ledger(*run);
  if (!ledger) return fail(ledger.error());
  OptionContext context;
  if (const auto read = read_plan_table(args, context); !read) return fail(read.error());
  if (const auto put = put_flags(args, *run, context); !put) return fail(put.error());
  std::vector<MeasuredRow> rows;
  std::vector<std::string> unmeasured;
  for (const auto& row : ledger->rows) {
    if (!row.seconds) {
      unmeasured.emplace_back(to_string(row.cls));
      continue;
    }
    rows.push_back(
        {std::string(to_string(row.cls)),
         {*row.seconds, row.low_s.value_or(*row.seconds), row.high_s.value_or(*row.seconds)}});
  }
  std::optional<LinkKnown> link;
  if (args.link_file) {
    const auto text = read_file(*args.link_file, kMostLinkBytes);
    if (!text) return fail(text.error());
    auto known = read_link(*text, *args.link_file);
    if (!known) return fail(known.error());
    link = std::move(*known);
  }
  std::vector<Addition> additions;
  for (const auto& words : args.add) {
    auto addition = parse_addition(words, link);
    if (!addition) return fail(addition.error());
    additions.push_back(std::move(*addition));
  }
  MeasuredRun measured = measured_run(*run, std::move(rows), ledger->steps);
  measured.unmeasured = std::move(unmeasured);
  const auto plan = plan_options(measured, additions, context);
  if (!plan) return fail(plan.error());
  return print(args.json ? options_json(*plan, context)
                         : options_text(*plan, context, style_of(STDOUT_FILENO)));
}

}  // namespace rigwise::cli
