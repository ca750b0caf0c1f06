// Terminal text of a decision.
#include <fmt/format.h>

#include "report/figures.h"
#include "report/layout.h"
#include "report/words.h"
#include "rigwise/report.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

namespace {
std::string sentences(const std::vector<Sentence>& list, std::size_t most = 3) {
  std::string text;
  for (std::size_t i = 0; i < std::min(list.size(), most); ++i) {
    if (!text.empty()) text += ' ';
    text += full_stop(safe(list[i].text));
  }
  return text;
}
}  // namespace

std::string decision_text(const Decision& decision, const TextStyle& style) {
  const std::size_t width = line_width(style);
  const Answer answer = answer_of(decision);
  std::string out = answer_lines(answer, style);
  std::string asked = safe(decision.statement.threshold);
  if (asked.empty()) {
    asked = "no threshold: rigwise init --threshold …";
  } else {
    asked += " (" + sealed_in_words(decision.statement, {}) + ").";
  }
  out += hang("  You asked for: ", asked, width);
  for (const std::string& amendment : decision.amendments)
    out += hang("  About the seal: ", full_stop(safe(amendment)), width);

  const std::string base = sentences(decision.baseline_result, 2);
  const std::string candidate = sentences(decision.candidate_result, 2);
  if (!base.empty()) out += hang("  Baseline: ", base, width);
  if (!candidate.empty()) out += hang("  Option: ", candidate, width);
  // The first reason is the answer itself, except where the answer is a name to fix.
  const bool told =
      answer.sentence ==
      full_stop(safe(decision.reasons.empty() ? std::string() : decision.reasons.front().text));
  std::vector<Sentence> why = decision.reasons;
  if (told && !why.empty()) why.erase(why.begin());
  const std::string reasons = sentences(why, 4);
  if (!reasons.empty()) out += hang("  Why: ", reasons, width);
  const std::string effects = sentences(decision.side_effects, 3);
  if (!effects.empty()) out += hang("  Side effects: ", effects, width);
  if (decision.regret)
    out += hang("  Others: ", full_stop(safe(decision.regret->said.text)), width);
  if (!decision.next_action.empty())
    out += '\n' + hang("Next: ", full_stop(safe(decision.next_action)), width);
  return out;
}

}  // namespace rigwise
