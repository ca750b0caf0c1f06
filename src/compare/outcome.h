// Outcomes beside speed: loss trend, repeatability, scaling, side effects.
#pragma once

#include <optional>
#include <vector>

#include "compare/fields.h"
#include "rigwise/compare.h"

namespace rigwise::compare_outcome {

/// Loss against samples seen, over the range that both sides share (compare.md 3.3). Empty where
/// neither side logs a loss.
std::optional<LossTrend> loss_trend(const compare_fields::Side& a, const compare_fields::Side& b,
                                    const compare_fields::Gate& gate,
                                    std::vector<Finding>& findings);

/// compare.md 3.4, of one side.
Repeatability repeatability(const compare_fields::Side& side);

/// Where both sides' ranks are known and differ and an effect was measured.
std::optional<Scaling> scaling(const compare_fields::Side& a, const compare_fields::Side& b,
                               const compare_fields::Gate& gate,
                               const std::optional<Effect>& effect);

/// Temperatures, power, memory, checkpoints, disk: rows with what changed, and where to look.
std::vector<SideEffect> side_effects(const compare_fields::Side& a, const compare_fields::Side& b,
                                     std::vector<Finding>& findings);

/// One run's logged losses against samples (or tokens, or steps): for loss trend and repeatability.
struct LossPoint {
  double at = 0, loss = 0;
};
struct LossCurve {
  std::vector<LossPoint> train = {}, eval = {};
  std::string unit = {};  // "samples", "tokens", "steps"
  double resolution = 0;  // of the printed figures
};
LossCurve loss_curve(const compare_data::RunData& data, const std::string& unit);

/// The unit that all runs of both sides can be counted in.
std::string common_unit(const std::vector<const compare_data::RunData*>& runs);

/// Mean loss over the last fifth of a curve, evaluation where it was logged at least once.
std::optional<double> final_loss(const LossCurve& curve);

}  // namespace rigwise::compare_outcome
