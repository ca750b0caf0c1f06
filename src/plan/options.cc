#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "plan/strategies.h"
#include "plan/supply.h"
#include "rigwise/plan_options.h"
#include "rigwise/units.h"

namespace rigwise {

namespace {

constexpr double kZ80 = 1.2816;           // half of an 80 % interval in standard deviations
constexpr double kSlowdownC = 87;         // where the driver does not say
constexpr double kNeighbourC = 12;        // a second card below the first: assumed until measured
constexpr double kMostAssumed = 0.95;     // nothing is certain that nobody measured
constexpr double kNvmeBytesPerS = 1.5e9;  // sustained writes of a plain NVMe drive, assumed

Interval times(const Interval& x, double low, double value, double high) {
  return {x.value * value, x.low * low, x.high * high};
}

/// A ledger being transformed: rows by class, and the seconds beside the rows.
struct Ledgered {
  std::vector<MeasuredRow> rows = {};
  MeasuredRow* find(std::string_view cls) {
    for (auto& row : rows) {
      if (row.cls == cls) return &row;
    }
    return nullptr;
  }
  double seconds(std::string_view cls) {
    const auto* row = find(cls);
    return row ? row->seconds.value : 0;
  }
  void scale(std::string_view cls, double low, double value, double high) {
    if (auto* row = find(cls)) row->seconds = times(row->seconds, low, value, high);
  }
  void add(std::string_view cls, const Interval& more) {
    if (auto* row = find(cls)) {
      row->seconds.value += more.value;
      row->seconds.low += more.low;
      row->seconds.high += more.high;
    } else {
      rows.push_back({std::string(cls), more});
    }
  }
  /// Rows are independent: their spreads add as squares.
  Interval sum() const {
    Interval total;
    double below = 0, above = 0;
    for (const auto& row : rows) {
      total.value += row.seconds.value;
      below += std::pow(row.seconds.value - row.seconds.low, 2);
      above += std::pow(row.seconds.high - row.seconds.value, 2);
    }
    total.low = total.value - std::sqrt(below);
    total.high = total.value + std::sqrt(above);
    return total;
  }
};

/// The run's ledger for `steps`: startup and teardown once, all else by the step.
Ledgered for_steps(const MeasuredRun& run, double steps) {
  const double factor = steps / static_cast<double>(*run.steps);
  Ledgered ledger;
  double known = 0;
  for (const auto& row : run.rows) {
    known += row.seconds.value;
    const bool once = row.cls == "startup" || row.cls == "teardown";
    const double f = once ? 1 : factor;
    ledger.rows.push_back({row.cls, times(row.seconds, f, f, f)});
  }
  if (run.wall_s > known * 1.001) {
    const double rest = (run.wall_s - known) * factor;
    ledger.add("unexplained", {rest, rest, rest});
  }
  return ledger;
}

double chance_of(const Interval& wall, double limit) {
  const double side = limit >= wall.value ? wall.high - wall.value : wall.value - wall.low;
  const double sigma = std::max(side / kZ80, 1e-9 * wall.value);
  return 0.5 * std::erfc(-(limit - wall.value) / sigma / std::sqrt(2.0));
}

void price(OptionRow& row, const MeasuredRun& run, const OptionContext& context, double gpus) {
  if (!row.wall_s) return;
  const double each = run.gpu_mean_w.value_or(run.gpu_limit_w ? 0.85 * *run.gpu_limit_w : 0);
  if (each <= 0) return;
  const double watts =
      (gpus * each + context.rest_w.value_or(plan::kHostW) * 0.6) / plan::kSupplyEfficiency;
  row.run_kwh = watts * row.wall_s->value / 3.6e6;
  if (context.kwh_price) row.run_price = *row.run_kwh * *context.kwh_price;
}

OptionRow row_of(std::string id, std::string name, Ledgered ledger) {
  OptionRow row;
  row.id = std::move(id);
  row.name = std::move(name);
  row.wall_s = ledger.sum();
  row.rows = std::move(ledger.rows);
  return row;
}

OptionRow do_nothing(const Ledgered& base) {
  auto row = row_of("nothing", "do nothing", base);
  row.risk = "–";
  row.evidence_needed = "–";
  return row;
}

bool unmeasured(const MeasuredRun& run, std::string_view cls) {
  return std::find(run.unmeasured.begin(), run.unmeasured.end(), cls) != run.unmeasured.end();
}

OptionRow data_pipeline(const MeasuredRun& run, Ledgered ledger) {
  if (unmeasured(run, "input")) {
    OptionRow row;
    row.id = "data";
    row.name = "tune the data pipeline";
    row.buy_price = 0;
    row.refused = "how long ranks wait for data is not told apart from compute";
    row.evidence_needed = "a run whose ledger shows input: rigwise run -- CMD samples it";
    return row;
  }
  const double input = ledger.seconds("input");
  const double total = ledger.sum().value;
  ledger.scale("input", 0.0, 0.2, 0.6);
  auto row = row_of("data", "tune the data pipeline", std::move(ledger));
  row.buy_price = 0;
  row.assumed = input > 0;
  row.risk = input < 0.02 * total ? "nothing to win: input is " + format_share(input / total) : "–";
  row.evidence_needed =
      input < 0.02 * total ? "–" : "the same run with loader workers or packed rows";
  return row;
}

OptionRow nvme(const MeasuredRun& run, Ledgered ledger, double steps) {
  const double saving = ledger.seconds("checkpoint"), total = ledger.sum().value;
  bool assumed = saving > 0;
  if (saving > 0) {
    double left = 0.3, best = 0.05, worst = 0.8;
    if (run.checkpoint_bytes && run.steps) {
      const double bytes = *run.checkpoint_bytes * steps / static_cast<double>(*run.steps);
      left = std::min(1.0, bytes / kNvmeBytesPerS / saving);
      best = 0.5 * left;
      worst = std::min(1.0, 3 * left + 0.1);  // serialising takes its share, whatever the disk
    }
    ledger.scale("checkpoint", best, left, worst);
  }
  auto row = row_of("nvme", "NVMe for checkpoints", std::move(ledger));
  row.assumed = assumed;
  row.risk = saving < 0.02 * total
                 ? "nothing to win: checkpoints are " + format_share(saving / total)
                 : "serialising, not the disk, may hold saves";
  row.evidence_needed = saving < 0.02 * total ? "–" : "one save to a RAM disk (/dev/shm), timed";
  return row;
}

OptionRow evaluation_gpu(Ledgered ledger, const OptionContext& context) {
  ledger.scale("evaluation", 0, 0, 0.05);
  const double stays = ledger.seconds("evaluation");
  auto row = row_of("evaluation", "separate evaluation GPU", std::move(ledger));
  row.risk = "a second place to keep in step; a checkpoint must be whole before it is read";
  if (context.evaluation_wait_s) {
    row.notes = "the loop from end of training to judged result is " +
                format_duration(*context.evaluation_wait_s) + " shorter";
    row.evidence_needed = "–";
  } else {
    row.notes = "shortens the loop from training to judged result, not the training";
    row.evidence_needed = "how long a finished checkpoint waits for its evaluation";
  }
  row.assumed = stays > 0;
  return row;
}

/// Beside a neighbour the card would come within 10 °C of where it slows, or nobody knows.
bool nears_slowdown(const MeasuredRun& run) {
  return !run.settled_c || *run.settled_c + kNeighbourC >= run.slowdown_c.value_or(kSlowdownC) - 10;
}

std::optional<ThrottleForecast> throttle_beside(const MeasuredRun& run) {
  const auto forecast = time_to_limit(run.heat_c, run.heat_interval_s,
                                      run.slowdown_c.value_or(kSlowdownC), kNeighbourC);
  return forecast ? std::optional(*forecast) : std::nullopt;
}

std::string heat_risk(const MeasuredRun& run, bool same_host,
                      const std::optional<ThrottleForecast>& throttle) {
  if (!same_host) return "";
  if (!run.settled_c) return "heat not measured";
  const double limit = run.slowdown_c.value_or(kSlowdownC);
  const double with = *run.settled_c + kNeighbourC;
  if (with < limit - 4 && (!throttle || !throttle->after_s)) {
    return fmt::format("heat about +{:.0f} °C (to {:.0f} °C)", kNeighbourC, with);
  }
  std::string text =
      fmt::format("heat: {:.0f} °C alone, about {:.0f} °C beside a neighbour, slows at {:.0f} °C",
                  *run.settled_c, with, limit);
  if (throttle && throttle->after_s) {
    text += fmt::format(" (chance {:.0f} %, after {} to {} of load)", 100 * throttle->chance_frac,
                        format_duration(throttle->after_s->low),
                        format_duration(throttle->after_s->high));
  }
  return text;
}

/// The run's step as one GPU would do it alone, and its work.
struct OneGpu {
  Workload work = {};
  MeasuredStep step = {};
};
OneGpu one_gpu(const MeasuredRun& run) {
  OneGpu one{run.workload, {}};
  const double steps = static_cast<double>(*run.steps), gpus = static_cast<double>(run.gpus);
  double compute = 0;
  for (const auto& row : run.rows) {
    if (row.cls == "compute" || row.cls == "host") compute += row.seconds.value / steps;
  }
  one.step = run.step.value_or(assumed_phases(run.workload, compute, 0));
  if (run.gpus > 1) {  // its GPUs' shares of a step one after the other
    one.work.grad_accum = one.work.grad_accum.value_or(1) * gpus;
    one.step.micro_steps *= gpus;
    one.step.forward_s *= gpus;
    one.step.backward_s *= gpus;
  }
  return one;
}

/// The compute rows of a run shared by n GPUs, data parallel, over that link.
Result<Ledgered> shared(const MeasuredRun& run, Ledgered ledger, const LinkKnown& link, double n,
                        double steps, bool& assumed) {
  const OneGpu one = one_gpu(run);
  RW_TRY(const StrategyStep step,
         predict_strategy("ddp", static_cast<std::int64_t>(n), one.work, one.step, link));
  assumed = assumed || !link.measured || plan::gradient_bytes(run.workload).assumed;
  const double was = run.step.value_or(one.step).compute_s();
  const Interval share = {step.compute_s.value / was, step.compute_s.low / was,
                          step.compute_s.high / was};
  for (const char* cls : {"compute", "host"}) {
    ledger.scale(cls, share.low, share.value, share.high);
  }
  if (!link.between_hosts && nears_slowdown(run)) {
    // clocks may be held down by heat; how much shows when both ran together
    ledger.scale("compute", 1, 1.03, 1.15);
  }
  // a warm card beside another is throttled where one alone was, and more
  ledger.scale("throttle", share.low, share.value, 2 * share.value);
  const double kept = static_cast<double>(run.gpus) / n;
  // each rank reads its own rows: half of them, unless the disk is what they wait for
  ledger.scale("input", kept, 1.2 * kept, 1);
  ledger.scale("memory", kept, kept, 1);
  ledger.scale("unexplained", kept, 0.5 + 0.5 * kept, 1);
  if (run.gpus > 1) ledger.scale("sync", 0, 0, 0.5);  // the new one takes its place
  ledger.add("sync", times({step.exposed_s.value, step.exposed_s.low, step.exposed_s.high}, steps,
                           steps, steps));
  ledger.add("startup", {3, 0, 15});
  return ledger;
}

OptionRow more_gpus(const MeasuredRun& run, const Ledgered& base, const Addition& addition,
                    const OptionContext& context, double steps) {
  const double n = static_cast<double>(run.gpus + 1);
  const bool hosts = addition.link && addition.link->between_hosts;
  OptionRow row;
  row.id = hosts ? "host" : "gpu";
  row.name = (hosts ? "another host, " : "second ") + addition.text;
  if (run.gpus > 1 && !hosts) row.name = "one more " + addition.text;
  row.buy_price = context.gpu_price;
  if (!addition.link) {
    row.refused = "nothing is known of its link";
    row.evidence_needed =
        "rigwise-engine link --ranks 2 --json > link.json over that slot or cable; "
        "or name its kind: \"" +
        addition.gpu.name + " @ x4-chipset\"";
    return row;
  }
  bool assumed = false;
  auto ledger = shared(run, base, *addition.link, n, steps, assumed);
  if (!ledger) {
    row.refused = ledger.error().message;
    row.evidence_needed = "a larger global batch, if the task allows it";
    return row;
  }
  auto made = row_of(row.id, row.name, std::move(*ledger));
  made.buy_price = row.buy_price;
  made.assumed = assumed;
  const auto& link = *addition.link;
  std::vector<std::string> risks;
  const double now = Ledgered(base).sum().value;
  if (made.wall_s->value > now) {
    risks.push_back("slower than one GPU");
  } else if (made.wall_s->high > now) {
    risks.push_back("may be slower than one GPU");
  }
  if (!link.measured) risks.push_back("link assumed (" + link.name + ")");
  if (!hosts) made.throttle = throttle_beside(run);
  if (const auto heat = heat_risk(run, !hosts, made.throttle); !heat.empty()) risks.push_back(heat);
  for (const auto& risk : risks) made.risk += (made.risk.empty() ? "" : "; ") + risk;
  std::vector<std::string> needed;
  if (!link.measured) needed.push_back("link test");
  if (!hosts) needed.push_back("10 min of both cards under load");
  for (const auto& need : needed)
    made.evidence_needed += (made.evidence_needed.empty() ? "" : ", ") + need;
  if (context.gpu_price && context.rent_per_h && made.wall_s) {
    const double saved_h = (now - made.wall_s->value) / 3600;
    if (saved_h > 0) made.payback_runs = *context.gpu_price / (saved_h * *context.rent_per_h);
  }
  price(made, run, context, n);
  return made;
}

OptionRow independent_jobs(const Ledgered& base, const Addition& addition,
                           const OptionContext& context) {
  auto row = row_of("jobs", "independent jobs on both GPUs", base);
  row.buy_price = context.gpu_price;
  row.notes =
      "each run takes as long as now, two at a time; no link is needed (" + addition.gpu.name + ")";
  row.risk = "one run alone gets no faster";
  row.evidence_needed = "that there are two runs to make";
  return row;
}

OptionRow rent(const Ledgered& base, const OptionContext& context) {
  OptionRow row;
  row.id = "rent";
  row.name = "rent";
  if (!context.rent_speedup) {
    row.refused = "how fast the rented machine runs this work is not known";
    row.evidence_needed = "50 steps there (a few minutes' rent), then --rent-speedup FACTOR";
    return row;
  }
  Ledgered ledger = base;
  const double f = 1 / *context.rent_speedup;
  for (auto& ledger_row : ledger.rows) {
    if (ledger_row.cls == "startup") continue;
    ledger_row.seconds = times(ledger_row.seconds, 0.9 * f, f, 1.15 * f);
  }
  ledger.add("startup", {600, 120, 1800});  // data and environment have to get there
  row = row_of("rent", "rent", std::move(ledger));
  row.risk = "data upload, queue, privacy";
  row.evidence_needed = "–";
  row.assumed = true;
  if (context.rent_per_h) row.run_price = *context.rent_per_h * row.wall_s->value / 3600;
  return row;
}

OptionRow less_memory(const Ledgered& base) {
  Ledgered ledger = base;
  const double stalls = ledger.seconds("memory"), total = ledger.sum().value;
  ledger.scale("memory", 0, 0.1, 0.5);
  auto row = row_of("memory", "need less memory", std::move(ledger));
  row.buy_price = 0;
  row.assumed = stalls > 0;
  row.risk = stalls < 0.02 * total
                 ? "nothing to win: memory stalls are " + format_share(stalls / total)
                 : "recomputation costs a quarter to a third";
  row.evidence_needed = stalls < 0.02 * total ? "–" : "rigwise plan memory, then a run";
  return row;
}

std::string answer_of(const OptionPlan& plan) {
  if (!plan.limit_s) return "";
  std::size_t can = 0, free = 0;
  for (const auto& option : plan.options) {
    if (option.id == "nothing" || !option.chance_frac || *option.chance_frac < 0.05) continue;
    ++can;
    free += option.buy_price && *option.buy_price == 0;
  }
  const std::string limit = format_duration(*plan.limit_s);
  if (plan.as_measured_s <= *plan.limit_s) return "The run as it is meets " + limit + ".";
  if (can == 0) return "No option is predicted to reach " + limit + ".";
  return fmt::format("{} can reach {}{}.", can == 1 ? "One option" : fmt::format("{} options", can),
                     limit,
                     free == 0     ? ""
                     : free == can ? ", at no price"
                                   : fmt::format("; {} at no price", free));
}

void rank(OptionPlan& plan) {
  std::stable_sort(plan.options.begin(), plan.options.end(), [](const auto& a, const auto& b) {
    const auto key = [](const OptionRow& o) {
      const double chance = o.chance_frac ? std::round(*o.chance_frac * 20) / 20 : 0;
      return std::tuple(o.wall_s ? 0 : 1, -chance, o.wall_s ? o.wall_s->value : 0.0,
                        o.buy_price.value_or(1e9));
    };
    return key(a) < key(b);
  });
}

}  // namespace

Result<OptionPlan> plan_options(const MeasuredRun& run, const std::vector<Addition>& additions,
                                const OptionContext& context) {
  if (!run.steps || *run.steps < 1) {
    return Error{Errc::unavailable, run.name + ": no optimizer steps are known of it",
                 "a run whose log shows steps: rigwise run --name single -- CMD"};
  }
  const auto compute = std::find_if(run.rows.begin(), run.rows.end(),
                                    [](const auto& row) { return row.cls == "compute"; });
  if (compute == run.rows.end() || compute->seconds.value <= 0) {
    return Error{Errc::unavailable, run.name + ": its compute seconds are not known",
                 "rigwise ledger " + run.name + " says what would measure them"};
  }
  OptionPlan plan;
  plan.run = run.name;
  plan.work_steps = context.work_steps.value_or(static_cast<double>(*run.steps));
  plan.limit_s = context.limit_s;
  const Ledgered base = for_steps(run, plan.work_steps);
  plan.as_measured_s = base.sum().value;
  auto& options = plan.options;
  options.push_back(do_nothing(base));
  options.push_back(data_pipeline(run, base));
  options.push_back(less_memory(base));
  options.push_back(nvme(run, base, plan.work_steps));
  options.push_back(evaluation_gpu(base, context));
  for (auto& option : options) price(option, run, context, static_cast<double>(run.gpus));
  for (const auto& addition : additions) {
    options.push_back(more_gpus(run, base, addition, context, plan.work_steps));
    Ledgered tuned = base;
    if (options.back().wall_s && tuned.seconds("input") >= 0.02 * plan.as_measured_s) {
      tuned.scale("input", 0.0, 0.2, 0.6);
      auto both = more_gpus(run, tuned, addition, context, plan.work_steps);
      both.id += "+data";
      both.name = addition.text + " + data";
      options.push_back(std::move(both));
    }
  }
  if (!additions.empty()) options.push_back(independent_jobs(base, additions.front(), context));
  options.push_back(rent(base, context));
  if (plan.limit_s) {
    for (auto& option : options) {
      if (!option.wall_s) continue;
      option.chance_frac = chance_of(*option.wall_s, *plan.limit_s);
      if (option.assumed) option.chance_frac = std::min(*option.chance_frac, kMostAssumed);
    }
  }
  rank(plan);
  if (!additions.empty() && additions.front().link) {
    const OneGpu one = one_gpu(run);
    std::vector<std::string> names = {"single", "ddp", "fsdp", "tp", "pp"};
    // the engine has no ZeRO; of adapters there is next to nothing to partition
    if (one.work.method == "full" && one.work.framework != "rigwise") names.push_back("zero2");
    plan.strategies =
        order_strategies(names, run.gpus + 1, one.work, one.step, *additions.front().link);
  }
  const double limit_w = run.gpu_limit_w.value_or(0);
  if (!additions.empty()) {
    const double watts = std::max(limit_w, additions.front().gpu.power_w);
    const bool same_host = !additions.front().link || !additions.front().link->between_hosts;
    plan.power = plan_power(run.gpus + (same_host ? 1 : 0), watts, context);
  } else if (limit_w > 0) {
    plan.power = plan_power(run.gpus, limit_w, context);
  }
  plan.answer = answer_of(plan);
  return plan;
}

}  // namespace rigwise
