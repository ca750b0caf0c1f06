// Simulation: how often the comparison calls a difference that is not there, and how often it finds
// one that is. Step times are log-t(5) with an AR(1) course, a save of five steps' length every 100
// steps and an exponential warm-up; runs differ by a normal log shift. Everything from the step
// records on goes through the code of src/compare; only the files are left out.
//
//     compare_simulation [trials]        default 400 a cell
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <vector>

#include "compare/effect.h"
#include "compare/fields.h"
#include "rigwise/stats.h"

namespace {

using namespace rigwise;

struct Model {
  int steps = 200;
  double phi = 0.5, cv = 0.03;
  double run_sd = 0.01;  // of log step time, between runs
  double drift = 0;      // of log step time, from one run to the next, a line
  double wander = 0;     // the same, a random walk
  bool in_turn = true;   // A B A B …, else A A A B B B
  double sd_ratio = 1;   // side B's run sd over side A's
};

double student5(stats::Random& random) {
  double chi = 0;
  for (int i = 0; i < 5; ++i) {
    const double z = random.normal();
    chi += z * z;
  }
  return random.normal() / std::sqrt(chi / 5) / std::sqrt(5.0 / 3);
}

struct Bench {
  std::vector<std::unique_ptr<Run>> runs = {};
  compare_fields::Side a = {}, b = {};
};

void add_run(Bench& bench, compare_fields::Side& side, const Model& model, double shift,
             double start_s, stats::Random& random) {
  bench.runs.push_back(std::make_unique<Run>());
  Run& run = *bench.runs.back();
  run.info.id = fmt::format("run-{}", bench.runs.size());
  run.info.start_unix_s = start_s;
  run.info.facts = {{"global_batch", "8", ""}, {"max_steps", std::to_string(model.steps), ""}};
  run.info.ending = Ending{.exit_status = 0};
  compare_data::RunData data;
  data.run = &run;
  data.label = run.info.id;
  data.global_batch = 8;
  for (const Fact& fact : run.info.facts) data.facts[fact.key] = fact;
  double noise = student5(random), t_s = 0;
  for (int step = 1; step <= model.steps; ++step) {
    double seconds = 0.5 * std::exp(shift + model.cv * noise) * (1 + 2 * std::exp(-step / 3.0));
    noise = model.phi * noise + std::sqrt(1 - model.phi * model.phi) * student5(random);
    if (step % 100 == 0) seconds *= 5;
    t_s += seconds;
    StepRecord record;
    record.t_s = t_s;
    record.step = step;
    record.step_time_s = seconds;
    data.steps.rows.push_back(record);
  }
  run.wall_s = t_s;
  side.series.push_back(compare_series::extract(data));
  compare_series::clean(side.series.back(), data);
  side.runs.push_back(std::move(data));
}

Comparison trial(const Model& model, int runs, double effect, stats::Random& random) {
  Bench bench;
  double level = 0;
  for (int slot = 0; slot < 2 * runs; ++slot) {
    const bool is_a = model.in_turn ? slot % 2 == 0 : slot < runs;
    level += model.drift + model.wander * random.normal();
    const double sd = is_a ? model.run_sd : model.run_sd * model.sd_ratio;
    const double shift = level + sd * random.normal() + (is_a ? 0 : std::log1p(effect));
    add_run(bench, is_a ? bench.a : bench.b, model, shift, 1e9 + 200 * slot, random);
  }
  Comparison comparison;
  compare_effect::conclude(bench.a, bench.b, {}, {}, comparison);
  return comparison;
}

struct Rates {
  double called = 0, right = 0, equivalent = 0, needed = 0;
};

Rates rates_of(const Model& model, int runs, double effect, int trials, std::uint64_t seed) {
  stats::Random random(seed);
  Rates rates;
  for (int i = 0; i < trials; ++i) {
    const Comparison comparison = trial(model, runs, effect, random);
    const Verdict verdict = comparison.verdict;
    const bool called = verdict == Verdict::faster || verdict == Verdict::slower;
    rates.called += called ? 1 : 0;
    rates.right += verdict == (effect < 0 ? Verdict::faster : Verdict::slower) ? 1 : 0;
    rates.equivalent += verdict == Verdict::equivalent ? 1 : 0;
  }
  rates.called /= trials;
  rates.right /= trials;
  rates.equivalent /= trials;
  return rates;
}

/// What a person does: three runs a side of the same command, then as many as the advice says to
/// find 5 %. How often is a planted 5 % found, and how often is equal called unequal, at that
/// count?
void follow_advice(const Model& model, int trials) {
  stats::Random random(99);
  double found = 0, wrong = 0, runs = 0;
  int advised = 0;
  for (int i = 0; i < trials; ++i) {
    const Comparison pilot = trial(model, 3, 0, random);
    if (!pilot.advice || !pilot.advice->runs_for_5_percent) continue;
    const int count = *pilot.advice->runs_for_5_percent;
    if (count > 40) continue;
    ++advised;
    runs += count;
    found += trial(model, count, 0.05, random).verdict == Verdict::slower ? 1 : 0;
    const Verdict equal = trial(model, count, 0, random).verdict;
    wrong += equal == Verdict::faster || equal == Verdict::slower ? 1 : 0;
  }
  fmt::print(
      "  run sd {:.1f} %: advises {:.1f} runs a side (mean); 5 % found {:.2f}, false {:.3f}\n",
      100 * model.run_sd, runs / advised, found / advised, wrong / advised);
}

}  // namespace

int main(int argc, char** argv) {
  const int trials = argc > 1 ? std::max(20, std::atoi(argv[1])) : 400;
  fmt::print("{} trials a cell; phi 0.5, CV 3 %, 200 steps\n\n", trials);
  fmt::print("runs  run sd | false  equivalent | 3 % found  5 % found  -10 % found\n");
  for (const int runs : {1, 2, 3, 4, 5}) {
    for (const double sd : {0.0, 0.005, 0.01, 0.015, 0.02, 0.03}) {
      Model model;
      model.run_sd = sd;
      const Rates null = rates_of(model, runs, 0, trials, 1);
      fmt::print("{:4} {:5.1f} % | {:.3f}  {:10.2f} | {:9.2f} {:10.2f} {:12.2f}\n", runs, 100 * sd,
                 null.called, null.equivalent, rates_of(model, runs, 0.03, trials, 2).right,
                 rates_of(model, runs, 0.05, trials, 3).right,
                 rates_of(model, runs, -0.10, trials, 4).right);
    }
  }
  fmt::print("\nshapes of noise, run sd 1 % unless said | false | 5 % found\n");
  const auto shape = [&](const char* name, int runs, const Model& model) {
    fmt::print("  {:<44} k={} | {:.3f} | {:.2f}\n", name, runs,
               rates_of(model, runs, 0, trials, 5).called,
               rates_of(model, runs, 0.05, trials, 6).right);
  };
  for (const int runs : {3, 4, 5}) {
    shape("phi 0.9", runs, {.phi = 0.9});
    shape("1000 steps", runs, {.steps = 1000});
    shape("linear drift 0.5 % a run, in turn", runs, {.drift = 0.005});
    shape("random walk 1 % a run, in turn", runs, {.run_sd = 0.003, .wander = 0.01});
    shape("linear drift 0.5 % a run, A then B", runs, {.drift = 0.005, .in_turn = false});
    shape("B three times as spread", runs, {.sd_ratio = 3});
  }
  fmt::print("\nfollowing the advice of a 3 and 3 pilot\n");
  for (const double sd : {0.003, 0.005, 0.01, 0.015, 0.02, 0.03}) {
    Model model;
    model.run_sd = sd;
    follow_advice(model, trials);
  }
  return 0;
}
