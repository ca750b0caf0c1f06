#include <unistd.h>

#include "base/files.h"
#include "cli/verbs.h"
#include "rigwise/plan.h"
#include "rigwise/report_plan.h"

namespace rigwise::cli {

namespace {

constexpr std::uint64_t kMostCaseBytes = std::uint64_t{64} << 20;

int plan_score(const PlanArgs& args) {
  const auto text = read_file(args.words[0], kMostCaseBytes);
  if (!text) return fail(text.error());
  const auto cases = read_plan_cases(*text);
  if (!cases) return fail(Error(cases.error()).at(args.words[0]));
  std::vector<CasePrediction> predictions;
  predictions.reserve(cases->size());
  for (const auto& plan_case : *cases) predictions.push_back(predict_case(plan_case));
  if (args.json) return print(predictions_json(predictions));
  const auto truths = read_plan_truths(*text);
  if (!truths) return fail(Error(truths.error()).at(args.words[0]));
  return print(scorecard_text(score_cases(*cases, *truths, predictions), style_of(STDOUT_FILENO)));
}

}  // namespace

int cmd_plan(const PlanArgs& args) {
  if (args.action == "memory") return cmd_plan_memory(args);
  return args.action == "score" ? plan_score(args) : cmd_plan_options(args);
}

}  // namespace rigwise::cli
