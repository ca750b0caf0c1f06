// Signals: what the ladder's rungs look at beyond the threshold: environments, links, heat, memory,
// scaling. Each with the place that shows it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "decide/measure.h"
#include "rigwise/decide.h"

namespace rigwise {

/// Two hosts whose torch or CUDA builds differ.
struct EnvironmentSplit {
  std::string text = {};  // "torch 2.6.0 on a, 2.13.0 on b"
  std::vector<Evidence> evidence = {};
  bool proven = false;  // each host has an earlier finished run with that very build
};
std::optional<EnvironmentSplit> environment_split(const DecideInput& input);

/// The candidate's narrowest GPU link, where it is narrow.
struct NarrowLink {
  int gpu = 0;
  double width = 0;
  std::optional<double> possible = {};
  std::vector<Evidence> evidence = {};
  std::string text = {};  // "GPU 1 is wired x4 (x16 is possible)"
};
std::optional<NarrowLink> narrow_link(const SideView& side);

struct Heat {
  std::optional<double> peak_c = {}, slowdown_c = {};
  int gpu = 0;
  double thermal_held_s = 0, power_held_s = 0, steps_s = 0;
  std::vector<Evidence> evidence = {};
};
Heat heat_of(const SideView& side);

/// Share of the steps' time for which the GPUs were busy; empty without GPU samples.
struct Utilisation {
  double mean_frac = 0;
  Evidence evidence = {};
};
std::optional<Utilisation> utilisation_of(const SideView& side);

/// Seconds of the longest checkpoints, mean over runs.
std::optional<double> checkpoint_time_s(const SideView& side);

struct ScalingView {
  double speedup = 1, efficiency = 1;
  int ranks_a = 1, ranks_b = 1;
  std::optional<double> efficiency_high = {};
};
/// From the comparison; where that may not be made, from time per sample of the two ledgers.
std::optional<ScalingView> scaling_of(const DecideInput& input, const SideView& a,
                                      const SideView& b);

/// "CUDA out of memory": the log's own words, in a run that ended badly.
std::optional<Evidence> out_of_memory(const std::vector<Run>& runs);

/// What was tried against too little memory, by the runs' own settings.
std::vector<std::string> tried_by_runs(const std::vector<Run>& runs);

/// A side's most frequent bottleneck that is neither compute nor unexplained.
struct NamedBottleneck {
  LedgerClass cls = LedgerClass::compute;
  std::string why = {}, next_step = {};
  std::vector<Evidence> evidence = {};
};
std::optional<NamedBottleneck> named_bottleneck(const SideView& side);

}  // namespace rigwise
