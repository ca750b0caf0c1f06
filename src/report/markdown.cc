// The decision record in Markdown.
#include <fmt/format.h>

#include <algorithm>

#include "report/figures.h"
#include "report/layout.h"
#include "report/links.h"
#include "report/words.h"
#include "rigwise/report.h"

namespace rigwise {

using namespace report;

namespace {
class Record {
 public:
  Record(const Decision& decision, const Comparison* comparison, EvidenceLinks links)
      : decision_(decision), comparison_(comparison), links_(std::move(links)) {}

  std::string text();

 private:
  void heading(std::string_view name) { out_ += fmt::format("\n## {}\n\n", name); }
  void sentence(const std::string& text, const std::vector<Evidence>& evidence);
  void sentences(const std::vector<Sentence>& list, const std::string& otherwise);
  void stated(const std::string& text, std::string_view what);
  void comparison_table();
  void side_effects();
  [[nodiscard]] std::string citations(const std::vector<Evidence>& evidence) const;
  [[nodiscard]] std::vector<Evidence> seal() const;
  [[nodiscard]] std::vector<Evidence> evidence_of_reasons() const;

  const Decision& decision_;
  const Comparison* comparison_;
  EvidenceLinks links_;
  std::string out_;
};

std::string Record::citations(const std::vector<Evidence>& evidence) const {
  std::string text;
  std::size_t shown = 0;
  for (const Evidence& one : evidence) {
    const std::string link = links_.markdown(one);
    if (link.empty()) continue;
    if (++shown > 4) continue;
    text += (text.empty() ? "" : ", ") + link;
  }
  if (shown > 4) text += fmt::format(" and {} more", shown - 4);
  return text;
}

/// Where the user's own words are kept: every run.json holds the statement as it was at its start.
std::vector<Evidence> Record::seal() const {
  for (const Run* run : links_.runs()) {
    if (!run->info.statement) continue;
    if (!decision_.statement.hash.empty() && run->info.statement->hash != decision_.statement.hash)
      continue;
    Evidence evidence;
    evidence.run = run->info.id.empty() ? run->info.name : run->info.id;
    evidence.file = "run.json";
    return {evidence};
  }
  return {};
}

std::vector<Evidence> Record::evidence_of_reasons() const {
  std::vector<Evidence> all;
  for (const Sentence& reason : decision_.reasons)
    all.insert(all.end(), reason.evidence.begin(), reason.evidence.end());
  return all;
}

void Record::sentence(const std::string& text, const std::vector<Evidence>& evidence) {
  if (text.empty()) return;
  const std::string cited = citations(evidence);
  out_ += "- " + full_stop(markdown_text(text)) + " " +
          (cited.empty() ? std::string("*(no recorded evidence)*") : cited) + "\n";
}

void Record::sentences(const std::vector<Sentence>& list, const std::string& otherwise) {
  for (const Sentence& one : list) sentence(one.text, one.evidence);
  if (list.empty()) sentence(otherwise, seal());
}

void Record::stated(const std::string& text, std::string_view what) {
  sentence(text.empty() ? fmt::format("Not stated: lab.toml has no {}", what) : text, seal());
}

void Record::comparison_table() {
  if (comparison_ == nullptr) return;
  std::vector<Evidence> both;
  for (const auto* side : {&comparison_->runs_a, &comparison_->runs_b}) {
    if (side->empty()) continue;
    Evidence evidence;
    evidence.run = side->front();
    evidence.file = "steps.csv";
    both.push_back(evidence);
  }
  const std::string cited = citations(both);
  out_ +=
      fmt::format("\n| {} → {} | | evidence |\n|---|---|---|\n",
                  markdown_text(comparison_->name_a, 80), markdown_text(comparison_->name_b, 80));
  for (const auto& [name, value] : comparison_rows(*comparison_)) {
    if (name == "side effects") continue;  // they have a heading of their own
    out_ += fmt::format("| {} | {} | {} |\n", markdown_text(name), markdown_text(value), cited);
  }
  bool first = true;
  for (const ComparedField& field : comparison_->fields) {
    if (!matters(field)) continue;
    if (first) out_ += "\n| setting | change | matters for | evidence |\n|---|---|---|---|\n";
    first = false;
    const std::string evidence = citations(field.evidence);
    out_ += fmt::format("| {} | {} | {} | {} |\n", markdown_text(field_name(field)),
                        markdown_text(field_change(field)),
                        field.is_factor
                            ? std::string("under test")
                            : fmt::format("speed: {}, loss: {}", impact_in_words(field.speed),
                                          impact_in_words(field.loss)),
                        evidence.empty() ? cited : evidence);
  }
}

void Record::side_effects() {
  for (const Sentence& one : decision_.side_effects) sentence(one.text, one.evidence);
  if (!decision_.side_effects.empty()) return;
  std::size_t shown = 0;
  if (comparison_ != nullptr) {
    for (const SideEffect& effect : comparison_->side_effects) {
      std::string text = effect.what + ": " + effect.a + " → " + effect.b;
      if (!effect.change.empty()) text += " (" + effect.change + ")";
      sentence(text, effect.evidence);
      ++shown;
    }
  }
  if (shown == 0) sentence("Not measured", seal());
}

std::string Record::text() {
  const Statement& statement = decision_.statement;
  const Answer answer = answer_of(decision_);
  out_ = fmt::format(
      "# Decision: {}\n\n**{}**\n",
      markdown_text(decision_.experiment.empty() ? "unnamed experiment" : decision_.experiment),
      markdown_text(answer.text()));

  heading("Bottleneck");
  stated(statement.bottleneck, "bottleneck");
  heading("Success threshold");
  std::string threshold = statement.threshold;
  if (!threshold.empty()) threshold += " — " + sealed_in_words(statement, links_.runs());
  stated(threshold, "threshold");
  for (const std::string& amendment : decision_.amendments)
    sentence("Changed after a run had started: " + amendment, seal());
  heading("Expansion option");
  stated(statement.option, "option");
  heading("Reason this option targets the bottleneck");
  stated(statement.reason, "reason");
  heading("Stop condition");
  stated(statement.stop, "stop condition");

  heading("Evidence summary");
  sentences(decision_.summary, comparison_ == nullptr ? "Nothing was compared" : "");
  comparison_table();
  const auto absent = [](const std::string& name) {
    return name.empty() ? std::string("Not measured: no run is named for this side")
                        : "Not measured: no run of " + name + " is part of this decision";
  };
  heading("Single-GPU result");
  sentences(decision_.baseline_result, absent(statement.baseline));
  heading("Multi-GPU or sharded result");
  sentences(decision_.candidate_result, absent(statement.candidate));
  heading("Operational side effects");
  side_effects();

  heading("Decision");
  const std::vector<Evidence> reasons = evidence_of_reasons();
  sentence(answer.text(), reasons);
  const bool told = !decision_.reasons.empty() &&
                    answer.sentence == full_stop(safe(decision_.reasons.front().text));
  for (std::size_t i = told ? 1 : 0; i < decision_.reasons.size(); ++i)
    sentence(decision_.reasons[i].text, decision_.reasons[i].evidence);
  heading("Next action");
  sentence(decision_.next_action.empty() ? "None" : decision_.next_action,
           reasons.empty() ? seal() : reasons);
  return std::move(out_);
}
}  // namespace

std::string decision_markdown(const Decision& decision, const Comparison* comparison,
                              const std::vector<const Run*>& runs,
                              const std::filesystem::path& folder) {
  return Record(decision, comparison, EvidenceLinks(runs, folder)).text();
}

}  // namespace rigwise
