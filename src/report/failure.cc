// A failure as text and JSON.
#include "report/failure.h"

#include <fmt/format.h>

#include "base/json.h"
#include "base/text.h"
#include "report/figures.h"
#include "report/layout.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

namespace {

Json line_json(const std::optional<FailureLine>& line) {
  if (!line) return nullptr;
  return {{"file", line->file}, {"line", line->line}, {"text", line->text}};
}

Json last_good_json(const std::optional<LastGood>& good) {
  if (!good) return nullptr;
  Json changes = Json::array();
  for (const Change& each : good->changes) {
    changes.push_back({{"what", each.what},
                       {"name", each.name},
                       {"before", each.before.empty() ? Json(nullptr) : Json(each.before)},
                       {"now", each.now.empty() ? Json(nullptr) : Json(each.now)}});
  }
  return {{"run", good->run_id},
          {"software_known", good->software_known},
          {"changes", std::move(changes)}};
}

/// "--lr 1e-4 → 1e-3", "FLAG new", "torch 2.6 gone".
std::string change_words(const Change& change) {
  const std::string name = safe(change.name, 80);
  if (change.before.empty()) {
    const bool bare = change.now == "set" || change.now == "given";
    return name + " is new" + (bare ? "" : ": " + safe(change.now, 80));
  }
  if (change.now.empty()) return name + " is gone (" + safe(change.before, 80) + ")";
  return fmt::format("{} {} → {}", name, safe(change.before, 80), safe(change.now, 80));
}

std::string last_good_text(const LastGood& good, std::size_t width) {
  constexpr std::size_t kMost = 4;
  std::vector<std::string> words;
  for (std::size_t i = 0; i < std::min(kMost, good.changes.size()); ++i)
    words.push_back(change_words(good.changes[i]));
  std::string text = words.empty() ? std::string("nothing that is recorded") : join(words, "; ");
  if (good.changes.size() > kMost)
    text += fmt::format("; {} more with --json", good.changes.size() - kMost);
  if (!good.software_known) text += "; software is not recorded on both sides";
  const std::string since = "since " + safe(good.run_id, 100) + ", which went well: ";
  return hang("  Changed: ", since + full_stop(text), width);
}

std::string ranks_of(const std::vector<int>& ranks) {
  if (ranks.empty()) return {};
  std::string out = ranks.size() == 1 ? " of rank " : " of ranks ";
  constexpr std::size_t kMost = 8;
  for (std::size_t i = 0; i < std::min(kMost, ranks.size()); ++i)
    out += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  return out + (ranks.size() > kMost ? ", …" : "");
}

/// "storage_space · rank 1 on host-b".
std::string place_of(const Failure& failure) {
  std::string out(to_string(failure.layer));
  if (failure.rank) out += fmt::format(" · rank {}", *failure.rank);
  if (!failure.host.empty()) out += (failure.rank ? " on " : " · on ") + safe(failure.host, 80);
  return out;
}

std::string sure(double confidence) {
  return confidence >= 0.85 ? "" : confidence >= 0.55 ? " (likely)" : " (unsure)";
}

}  // namespace

std::string failure_json(const Failure& failure) {
  Json consequences = Json::array();
  for (const Consequence& each : failure.consequences)
    consequences.push_back({{"what", each.what}, {"lines", each.lines}, {"ranks", each.ranks}});
  Json other = nullptr;
  if (failure.runner_up)
    other = {{"layer", to_string(*failure.runner_up)}, {"line", line_json(failure.runner_up_line)}};
  const Json document = {
      {"schema", 1},
      {"layer", to_string(failure.layer)},
      {"first_meaningful", line_json(failure.first_meaningful)},
      {"rank", failure.rank ? Json(*failure.rank) : Json(nullptr)},
      {"host", failure.host.empty() ? Json(nullptr) : Json(failure.host)},
      {"confidence", failure.confidence},
      {"why", failure.why},
      {"signature", failure.signature.empty() ? Json(nullptr) : Json(failure.signature)},
      {"runner_up", std::move(other)},
      {"consequences", std::move(consequences)},
      {"try", failure.advice.empty() ? Json(nullptr) : Json(failure.advice)},
      {"confirms", failure.confirms.empty() ? Json(nullptr) : Json(failure.confirms)},
      {"last_good", last_good_json(failure.last_good)},
      {"failed", failure.failed}};
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string failure_text(const Failure& failure, const TextStyle& style) {
  const std::size_t width = line_width(style);
  const Paint paint(style);
  if (failure.layer == FailureLayer::none) {
    const std::string answer = failure.failed && failure.confidence < 0.5
                                   ? "No cause shown: it ended badly, and no line says why."
                                   : "No failure: " + full_stop(safe(failure.why));
    std::string out = paint.bold(answer) + "\n";
    if (failure.failed && failure.confidence < 0.5)
      out += hang("Look next: ",
                  "the other ranks' logs, dmesg and the scheduler's record: rigwise triage "
                  "rank*.log dmesg.txt",
                  width);
    return out;
  }
  std::string out = paint.bold(place_of(failure)) + sure(failure.confidence) + "\n";
  if (const auto& line = failure.first_meaningful) {
    out += hang(fmt::format("  {}:{}  ", safe(line->file, 200), line->line),
                safe(trim(line->text), 600), width);
  }
  out += hang("  Why this line: ", full_stop(safe(failure.why)), width);
  for (const Consequence& each : failure.consequences) {
    out += hang("  folded: ",
                fmt::format("{}: {}{}", each.what, counted(each.lines, "line", "lines"),
                            ranks_of(each.ranks)),
                width);
  }
  if (!failure.advice.empty()) out += hang("  Try one thing: ", full_stop(failure.advice), width);
  if (!failure.confirms.empty()) out += hang("  Confirms it: ", full_stop(failure.confirms), width);
  if (failure.last_good) out += last_good_text(*failure.last_good, width);
  if (failure.runner_up && failure.confidence < 0.85) {
    const auto& line = failure.runner_up_line;
    out += hang(
        "  Else: ",
        fmt::format("{} ({}:{})", to_string(*failure.runner_up), safe(line->file, 200), line->line),
        width);
  }
  return out;
}

std::string failed_closing_text(const Run& run, const Failure& failure, const TextStyle& style) {
  if (failure.layer == FailureLayer::none) return {};
  const Paint paint(style);
  const std::size_t width = line_width(style);
  const std::string margin(9, ' ');  // under the text behind "rigwise: "
  const Answer answer = answer_of(run);
  std::string out = paint.bold(answer.sentence) + "\n" + margin + paint.bold(place_of(failure)) +
                    sure(failure.confidence) + "\n";
  if (const auto& line = failure.first_meaningful) {
    out += hang(fmt::format("{}{}:{}  ", margin, safe(line->file, 200), line->line),
                safe(trim(line->text), 300), width);
  }
  if (!failure.advice.empty())
    out += hang(margin + "try one thing: ", full_stop(failure.advice), width);
  out += margin + paint.grey("next: rigwise triage " + safe(run.info.name, 80)) + "\n";
  return out;
}

}  // namespace rigwise
