#include "report/hang.h"

#include <fmt/format.h>

#include "report/layout.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

Json verdict_json(const HangVerdict& verdict) {
  return {{"where", verdict.where},
          {"at_work", verdict.at_work},
          {"cause", to_string(verdict.cause)},
          {"ranks", verdict.ranks},
          {"because", verdict.because.empty() ? Json(nullptr) : Json(verdict.because)},
          {"try", verdict.advice.empty() ? Json(nullptr) : Json(verdict.advice)}};
}

Json hangs_json(const std::vector<Hang>& hangs) {
  Json out = Json::array();
  for (const Hang& hang : hangs) {
    Json one = {{"number", hang.number},
                {"host", hang.host},
                {"t_s", json_number(hang.t_s)},
                {"found_s", json_number(hang.found_s)},
                {"threshold_s", json_number(hang.threshold_s)},
                {"state", to_string(hang.state)}};
    put(one, "t_end_s", hang.t_end_s);
    put(one, "last_step", hang.last_step);
    one["verdict"] = verdict_json(hang.look.verdict);
    out.push_back(std::move(one));
  }
  return out;
}

std::string hang_sentence(const Hang& hang, const Run& run) {
  const std::string claim = hang.look.verdict.where.empty()
                                ? "where its processes were could not be seen"
                                : safe(hang.look.verdict.claim(), 600);
  return fmt::format("no progress for {} from {} on: {}", format_duration(seconds_of(hang, run)),
                     format_duration(hang.t_s), claim);
}

}  // namespace rigwise
