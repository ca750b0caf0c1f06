// The decision record: headings in order, every sentence with its evidence, hostile words inert.
#include <gtest/gtest.h>

#include "base/text.h"
#include "report/links.h"
#include "unit/report_sample.h"

namespace rigwise {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (const auto line : split(text, '\n')) lines.emplace_back(line);
  return lines;
}

std::string record(const sample::Experiment& experiment, bool compared = true) {
  return decision_markdown(experiment.decided, compared ? &experiment.compared : nullptr,
                           {&experiment.a[0], &experiment.b[0]}, "runs/decisions/second-gpu");
}

TEST(ReportMarkdown, HeadingsInOrder) {
  const sample::Experiment experiment(1);
  std::vector<std::string> headings;
  for (const auto& line : lines_of(record(experiment)))
    if (line.rfind("## ", 0) == 0) headings.push_back(line.substr(3));
  EXPECT_EQ(headings, (std::vector<std::string>{
                          "Bottleneck", "Success threshold", "Expansion option",
                          "Reason this option targets the bottleneck", "Stop condition",
                          "Evidence summary", "Single-GPU result", "Multi-GPU or sharded result",
                          "Operational side effects", "Decision", "Next action"}));
}

TEST(ReportMarkdown, EverySentenceEndsInALink) {
  const sample::Experiment experiment(1);
  for (const bool compared : {true, false}) {
    for (const auto& line : lines_of(record(experiment, compared))) {
      if (line.rfind("- ", 0) != 0) continue;
      EXPECT_EQ(line.back(), ')') << line;
      EXPECT_NE(line.find("](../../20261120-"), std::string::npos) << line;
    }
  }
}

TEST(ReportMarkdown, LinksAreRelative) {
  const sample::Experiment experiment(1);
  EXPECT_NE(record(experiment)
                .find("[two-gpu · steps.csv:2-201](../../20261120-180011-two-gpu/steps.csv)"),
            std::string::npos);
}

TEST(ReportMarkdown, AbsentEverything) {
  const std::string text = decision_markdown({}, nullptr);
  EXPECT_NE(text.find("Not stated"), std::string::npos);
  EXPECT_NE(text.find("Not measured"), std::string::npos);
  EXPECT_NE(text.find("no recorded evidence"), std::string::npos);
}

TEST(ReportMarkdown, HostileWordsStayWords) {
  sample::Experiment experiment(1);
  experiment.decided.reasons = {
      {"[click](http://evil.example) ![x](y) <script>alert(1)</script> `code` | cell",
       {sample::evidence(experiment.b[0].info.id, "log/a](javascript:alert(1)) [b", 1, 2)}}};
  experiment.decided.next_action = "# heading\n## Decision\n- item";
  experiment.decided.statement.bottleneck = "1. list www.evil.example a@b.example";
  const std::string text = record(experiment);
  for (std::size_t at = text.find("]("); at != std::string::npos; at = text.find("](", at + 1)) {
    const bool ours = text.compare(at + 2, 6, "../../") == 0;
    EXPECT_TRUE(ours || text[at - 1] == '\\') << text.substr(at, 60);
  }
  EXPECT_EQ(text.find("<script"), std::string::npos);
  EXPECT_EQ(text.find("http://"), std::string::npos);
  EXPECT_EQ(text.find("www.evil"), std::string::npos);
  EXPECT_EQ(text.find("- # heading"), std::string::npos);
  std::size_t decisions = 0;
  for (const auto& line : lines_of(text)) decisions += line == "## Decision" ? 1U : 0U;
  EXPECT_EQ(decisions, 1U);
}

TEST(ReportMarkdown, EscapesOnlyWhatMustBe) {
  using report::markdown_text;
  EXPECT_EQ(markdown_text("tokens_per_s >= 1.4x"), "tokens_per_s &gt;= 1.4x");
  EXPECT_EQ(markdown_text("_under_ *star*"), "\\_under\\_ \\*star\\*");
  EXPECT_EQ(markdown_text("- x"), "\\- x");
  EXPECT_EQ(markdown_text("12. x"), "12\\. x");
  EXPECT_EQ(markdown_text("3.5 s"), "3.5 s");
}

TEST(ReportLinks, LatestOfAName) {
  rigwise::Run first = sample::run("single", 1, 5, 0), second = sample::run("single", 1, 5, 1400);
  const report::EvidenceLinks links({&first, &second}, "runs/decisions/x");
  EXPECT_EQ(links.target(sample::evidence("single", "log/out.log", 1, 2)),
            "../../" + second.info.id + "/log/out.log");
  EXPECT_EQ(links.label(sample::evidence(first.info.id, "log/out.log", 3, 3)),
            first.info.id + " · log/out.log:3");
  EXPECT_EQ(links.target(sample::evidence("other", "log/out.log", 1, 2)), "");
  EXPECT_EQ(links.target(sample::evidence("single", "../../../etc/passwd", 1, 2)), "");
  EXPECT_EQ(links.target(sample::evidence("single", "/etc/passwd", 1, 2)), "");
  EXPECT_EQ(links.target(sample::evidence("single", "a b#?.csv", 1, 2)),
            "../../" + second.info.id + "/a%20b%23%3F.csv");
}

}  // namespace
}  // namespace rigwise
