// report.html: the page around its parts, and its opening.
#include <fmt/format.h>

#include <algorithm>

#include "report/figures.h"
#include "report/layout.h"
#include "report/page.h"
#include "report/words.h"
#include "rigwise/units.h"

namespace rigwise {

namespace report {

namespace {
std::string_view tone_class(Tone tone) {
  switch (tone) {
    case Tone::good:
      return "good";
    case Tone::caution:
      return "caution";
    case Tone::bad:
      return "bad";
    case Tone::neutral:
      break;
  }
  return "neutral";
}

Answer page_answer(const Page& page) {
  if (page.input.decision != nullptr) return answer_of(*page.input.decision);
  if (page.input.comparison != nullptr) return answer_of(*page.input.comparison);
  const ReportRun* run = page.first(0);
  if (run != nullptr && run->ledger != nullptr) return answer_of(*run->ledger);
  if (run != nullptr && run->run != nullptr) return answer_of(*run->run);
  return {"", "Nothing was recorded.", Tone::caution};
}

std::string title_of(const Page& page) {
  if (page.input.decision != nullptr && !page.input.decision->experiment.empty())
    return page.input.decision->experiment;
  if (page.two_sided()) return page.side_name[0] + " against " + page.side_name[1];
  return page.side_name[0].empty() ? "no runs" : page.side_name[0];
}

std::string sentences_html(const Page& page, const std::vector<Sentence>& list,
                           std::size_t from = 0) {
  std::string out;
  for (std::size_t i = from; i < list.size(); ++i) {
    const std::string evidence = evidence_html(page, list[i].evidence, 1);
    out += fmt::format("<p>{}{}</p>", html_text(full_stop(safe(list[i].text))),
                       evidence.empty() ? "" : " " + evidence);
  }
  return out;
}

void story(std::string& out, std::string_view term, const std::string& definition) {
  if (!definition.empty()) out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", term, definition);
}

std::string decision_story(const Page& page, const Answer& answer) {
  const Decision& decision = *page.input.decision;
  const Statement& statement = decision.statement;
  std::string out;
  if (!statement.threshold.empty()) {
    std::string asked = "<p>" + html_text(statement.threshold) + " <span class=\"quiet\">" +
                        html_text(sealed_in_words(statement, page.links.runs())) + "</span></p>";
    for (const std::string& amendment : decision.amendments)
      asked +=
          "<p class=\"warn\">About the seal: " + html_text(full_stop(safe(amendment))) + "</p>";
    story(out, "Asked for", asked);
  }
  story(out, "Shown",
        sentences_html(page, decision.baseline_result) +
            sentences_html(page, decision.candidate_result));
  const bool told = !decision.reasons.empty() &&
                    answer.sentence == full_stop(safe(decision.reasons.front().text));
  std::string because = sentences_html(page, decision.reasons, told ? 1 : 0);
  if (told) {
    const std::string evidence = evidence_html(page, decision.reasons.front().evidence, 2);
    if (!evidence.empty()) because.insert(0, "<p>The verdict rests on " + evidence + ".</p>");
  }
  story(out, "Because", because);
  if (page.input.comparison != nullptr) {
    const Answer compared = answer_of(*page.input.comparison);
    story(out, "Compared", "<p>" + html_text(compared.text()) + "</p>");
  }
  if (!decision.next_action.empty())
    story(out, "Next",
          "<p><strong>" + html_text(full_stop(safe(decision.next_action))) + "</strong></p>");
  return out;
}
}  // namespace

Page::Page(const ReportInput& report_input)
    : input(report_input),
      links(
          [&] {
            std::vector<const Run*> runs;
            for (const ReportRun& run : report_input.runs) runs.push_back(run.run);
            return runs;
          }(),
          report_input.folder) {
  const Comparison* comparison = input.comparison;
  if (comparison != nullptr) side_name = {comparison->name_a, comparison->name_b};
  for (const ReportRun& run : input.runs) {
    const std::string name = run.run != nullptr ? run.run->info.name : "run";
    if (comparison != nullptr) {
      const auto& b = comparison->runs_b;
      const bool in_b =
          run.run != nullptr ? std::find(b.begin(), b.end(), run.run->info.id) != b.end() : false;
      side.push_back(in_b || (name == side_name[1] && name != side_name[0]) ? 1 : 0);
      continue;
    }
    if (side_name[0].empty()) side_name[0] = name;
    if (name != side_name[0] && side_name[1].empty()) side_name[1] = name;
    side.push_back(name == side_name[0] ? 0 : 1);
  }
}

const ReportRun* Page::first(int which) const {
  for (std::size_t i = 0; i < input.runs.size(); ++i) {
    if (side[i] == which) return &input.runs[i];
  }
  return nullptr;
}

std::string table_row(const std::vector<std::string>& cells, std::string_view cell) {
  std::string out = "<tr>";
  for (const std::string& text : cells) out += fmt::format("<{0}>{1}</{0}>", cell, text);
  return out + "</tr>\n";
}

std::string evidence_html(const Page& page, const std::vector<Evidence>& list, std::size_t most) {
  std::string out;
  std::size_t shown = 0;
  for (const Evidence& evidence : list) {
    const std::string one = page.links.html(evidence);
    if (one.empty()) continue;
    if (++shown > most) continue;
    out += (out.empty() ? "" : ", ") + one;
  }
  if (shown > most) out += fmt::format(" and {} more", shown - most);
  return out;
}

std::string header_html(const Page& page) {
  const Answer answer = page_answer(page);
  std::string kicker = "rigwise report";
  kicker += " · " + html_text(title_of(page), 200);
  if (page.input.decision != nullptr && page.two_sided())
    kicker +=
        " · " + html_text(page.side_name[0], 80) + " against " + html_text(page.side_name[1], 80);
  std::string out = fmt::format("<header>\n<p class=\"kicker\">{}</p>\n<h1 class=\"{}\">", kicker,
                                tone_class(answer.tone));
  if (!answer.lead.empty()) out += "<span class=\"lead\">" + html_text(answer.lead) + ":</span> ";
  out += html_text(answer.sentence) + "</h1>\n";
  std::string dl;
  if (page.input.decision != nullptr) {
    dl = decision_story(page, answer);
  } else if (page.input.comparison != nullptr) {
    story(dl, "Next",
          "<p><strong>" + html_text(full_stop(next_step_of(*page.input.comparison))) +
              "</strong></p>");
  } else if (const ReportRun* run = page.first(0); run != nullptr && run->ledger != nullptr) {
    story(dl, "Why",
          run->ledger->bottleneck.why.empty()
              ? std::string()
              : "<p>" + html_text(full_stop(safe(run->ledger->bottleneck.why))) + "</p>");
    const std::string next = next_step_of(*run->ledger);
    story(dl, "Next",
          next.empty() ? std::string()
                       : "<p><strong>" + html_text(full_stop(next)) + "</strong></p>");
  }
  if (!dl.empty()) out += "<dl class=\"story\">\n" + dl + "</dl>\n";
  return out + "</header>\n";
}

}  // namespace report

using namespace report;

std::string report_html(const ReportInput& input) {
  const Page page(input);
  std::string out;
  out.reserve(std::size_t{1} << 20);
  out +=
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n"
      "<meta name=\"referrer\" content=\"no-referrer\">\n<title>";
  out += html_text(title_of(page), 200) + " · rigwise</title>\n<style>\n";
  out += kPageStyle;
  out += "</style>\n</head>\n<body>\n<main>\n";
  out += header_html(page);
  out += ledger_html(page);
  out +=
      "<section id=\"time\">\n<h2>What happened when</h2>\n<p class=\"note\">Every plot shares one "
      "time axis: seconds since the command was started. A break in a line means that nothing was "
      "measured there.</p>\n<div id=\"plots\"></div>\n<noscript><p class=\"note\">The plots need a "
      "browser that runs scripts; everything else on this page does not.</p></noscript>\n"
      "</section>\n";
  out += comparison_html(page);
  out += settings_html(page);
  out += proof_html(page);
  out += "</main>\n<script type=\"application/json\" id=\"data\">";
  out += data_island(page);
  out += "</script>\n<script>\n";
  out += kPageScript;
  out += "</script>\n</body>\n</html>\n";
  return out;
}

}  // namespace rigwise
