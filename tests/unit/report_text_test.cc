// Terminal text against golden files at 80 and 60 columns; UPDATE_GOLDEN=1 rewrites them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/text.h"
#include "report/figures.h"
#include "report/layout.h"
#include "unit/report_sample.h"

namespace rigwise {
namespace {

class ReportText : public testing::Test {
 protected:
  ReportText() {
    ::setenv("TZ", "UTC", 1);  // wall clocks are shown in local time
    ::tzset();
  }
};

std::string plain(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b') {
      i = text.find('m', i);
    } else {
      out += text[i];
    }
  }
  return out;
}

void expect_golden(const std::string& name, const std::string& text) {
  const std::filesystem::path path =
      std::filesystem::path(RIGWISE_FIXTURES) / "report" / (name + ".txt");
  if (std::getenv("UPDATE_GOLDEN") != nullptr) std::ofstream(path) << text;
  std::ifstream file(path);
  std::stringstream held;
  held << file.rdbuf();
  EXPECT_EQ(text, held.str()) << path;
}

void expect_fits(const std::string& text, std::size_t width) {
  for (const auto line : split(text, '\n')) {
    EXPECT_LE(report::display_width(line), width) << line;
    EXPECT_TRUE(line.empty() || line.back() != ' ') << line;
  }
}

/// Each text at 80 and 60 columns, and in colour with the same words.
template <class Make>
void expect_forms(const std::string& name, Make make) {
  for (const int width : {80, 60}) {
    const std::string text = make(TextStyle{false, width});
    expect_golden(name + "-" + std::to_string(width), text);
    EXPECT_EQ(plain(make(TextStyle{true, width})), text);
  }
  expect_golden(name + "-colour", make(TextStyle{true, 80}));
  for (const int width : {60, 66, 72, 80, 100, 132})
    expect_fits(make(TextStyle{false, width}), static_cast<std::size_t>(width));
}

TEST_F(ReportText, Ledger) {
  const rigwise::Run run = sample::run("two-gpu", 2, 372, 700);
  const Ledger ledger = sample::two_gpu_ledger("two-gpu");
  expect_forms("ledger", [&](const TextStyle& style) { return ledger_text(ledger, run, style); });
}

TEST_F(ReportText, HealthyLedger) {
  const rigwise::Run run = sample::run("single", 1, 590, 0);
  const Ledger ledger = sample::single_ledger("single");
  const std::string text = ledger_text(ledger, run, {});
  EXPECT_EQ(text.substr(0, text.find('\n')),
            "No bottleneck shown: 89 % of the wall time is compute.");
}

TEST_F(ReportText, Comparison) {
  const sample::Experiment experiment(3);
  expect_forms("compare",
               [&](const TextStyle& style) { return comparison_text(experiment.compared, style); });
}

TEST_F(ReportText, NotComparable) {
  Comparison c;
  c.name_a = "single";
  c.name_b = "two-gpu";
  c.comparable = Comparable::no;
  c.verdict = Verdict::not_comparable;
  c.blockers = {"the runs used different data (12,000 against 3,000 rows)", "and another batch"};
  c.smallest_change = "rerun single with --data slice.jsonl";
  expect_forms("not-comparable", [&](const TextStyle& style) { return comparison_text(c, style); });
}

TEST_F(ReportText, InconclusiveSaysHowMany) {
  sample::Experiment experiment(1);
  Comparison& c = experiment.compared;
  c.verdict = Verdict::inconclusive;
  c.effect->percent = -3;
  c.effect->low = -9;
  c.effect->high = 3;
  c.effect->runs_a = c.effect->runs_b = 3;
  c.runs_needed = 7;
  const std::string text = comparison_text(c, {});
  EXPECT_NE(text.find("INCONCLUSIVE: the difference is −3 % (−9 % to +3 %, 3 runs a side); 7 runs"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("record 4 runs more"), std::string::npos) << text;
  c.verdict = Verdict::faster;
  c.likely = true;
  EXPECT_EQ(comparison_text(c, {}).rfind("LIKELY FASTER: ", 0), 0U);
}

TEST_F(ReportText, Decision) {
  const Decision decision = sample::decision("single", "two-gpu");
  expect_forms("decide", [&](const TextStyle& style) { return decision_text(decision, style); });
}

TEST_F(ReportText, Runs) {
  rigwise::Run torn = sample::run("torn", 2, 41, 2100);
  torn.state = RunState::torn;
  torn.info.ending.reset();
  torn.info.ranks_trained.reset();
  torn.missing = {"run.json was not closed"};
  rigwise::Run killed = sample::run("killed", 1, 12, 2800);
  killed.info.ending = Ending{{}, 9, "signal SIGKILL", 12};
  const std::vector<rigwise::Run> runs = {sample::run("single", 1, 590, 0),
                                          sample::run("two-gpu", 2, 372, 700), torn, killed};
  expect_forms("runs", [&](const TextStyle& style) { return runs_text(runs, style); });
  expect_forms("show", [&](const TextStyle& style) { return run_text(runs[1], style); });
  EXPECT_NE(run_text(torn, {}).find("how it ended is not known"), std::string::npos);
  EXPECT_NE(run_text(killed, {}).find("killed killed by SIGKILL after 12.0 s."), std::string::npos);
  EXPECT_NE(runs_text({}, {}).find("No runs yet."), std::string::npos);
}

TEST_F(ReportText, ClosingLines) {
  const rigwise::Run run = sample::run("two-gpu", 2, 372, 700);
  const Ledger ledger = sample::two_gpu_ledger("two-gpu");
  expect_forms("closing", [&](const TextStyle& style) {
    return "rigwise: " + run_closing_text(run, &ledger, style);
  });
  EXPECT_NE(run_closing_text(run, nullptr, {}).find("next: rigwise ledger two-gpu"),
            std::string::npos);
}

TEST_F(ReportText, AbsentEverything) {
  for (const std::string& text :
       {run_text({}, {}), ledger_text({}, {}, {}), comparison_text({}, {}), decision_text({}, {}),
        run_closing_text({}, nullptr, {})}) {
    EXPECT_FALSE(text.empty());
    EXPECT_EQ(text.back(), '\n');
    EXPECT_EQ(text.find("nan"), std::string::npos) << text;
  }
}

TEST_F(ReportText, HostileWordsReachNoTerminal) {
  sample::Experiment experiment(1);
  const std::string evil = "\x1b]0;gone\x07\x1b[2J\r\n\xE2\x80\xAE\xff" + std::string(5000, 'x');
  Ledger& ledger = experiment.ledgers_b[0];
  for (LedgerRow& row : ledger.rows) row.note = evil;
  ledger.bottleneck.why = evil;
  ledger.findings[0].claim = ledger.findings[0].next_step = evil;
  rigwise::Run& run = experiment.b[0];
  run.info.command = {evil, evil};
  run.info.warnings = run.missing = {evil};
  run.info.facts[0].value = evil;
  experiment.compared.verdict_why = evil;
  experiment.compared.blockers = {evil};
  experiment.compared.verdict = Verdict::not_comparable;
  experiment.decided.next_action = evil;
  experiment.decided.reasons[0].text = evil;
  for (const std::string& text :
       {ledger_text(ledger, run, {}), run_text(run, {}), comparison_text(experiment.compared, {}),
        decision_text(experiment.decided, {}), run_closing_text(run, &ledger, {})}) {
    EXPECT_EQ(text.find_first_of("\x1b\x07\r"), std::string::npos);
    EXPECT_EQ(text.find("\xE2\x80\xAE"), std::string::npos);
    expect_fits(text, 80);
  }
}

TEST(ReportLayout, Widths) {
  using report::display_width;
  EXPECT_EQ(display_width("−39 %"), 5U);
  EXPECT_EQ(display_width("日本"), 4U);
  EXPECT_EQ(display_width("e\xCC\x81"), 1U);  // combining accent
  EXPECT_EQ(display_width("\x1b[1;31mred\x1b[0m"), 3U);
}

TEST(ReportLayout, NumbersAreNeverWrapped) {
  const std::string text =
      "it took 6 min 12 s in all and 71.4 ± 2.9 s of that for 3 of 4 samples at 19 %, 83 °C";
  for (std::size_t width = 12; width < 60; ++width) {
    for (const std::string& line : report::wrap(text, width)) {
      EXPECT_LE(report::display_width(line), width);
      for (const char* start : {"s ", "±", "%", "°C", "of 4", "min"})
        EXPECT_NE(line.rfind(start, 0), 0U) << width << ": " << line;
    }
  }
}

TEST(ReportLayout, LongWordsAreCut) {
  for (const std::string& line : report::wrap(std::string(100, 'a') + " b", 30))
    EXPECT_LE(line.size(), 30U);
}

TEST(ReportFigures, DigitsFollowTheUncertainty) {
  using namespace report;
  EXPECT_EQ(percent_change(-38.8, 4.5), "−39 %");
  EXPECT_EQ(percent_change(0.44, 0.3), "+0.4 %");
  EXPECT_EQ(percent_change(-0.01, 0.3), "0 %");
  const auto row = [](double s, double half) {
    return sample::row(LedgerClass::input, s, half, How::measured, "");
  };
  EXPECT_EQ(seconds_cell(row(71.42, 2.9), 372), "71 ±3");
  EXPECT_EQ(seconds_cell(row(24.12, 0.21), 372), "24.1 ±0.2");
  EXPECT_EQ(seconds_cell(row(0, 0), 372), "0");
  EXPECT_EQ(seconds_cell(LedgerRow{}, 372), "not measured");
  EXPECT_EQ(report::shell_line({"a b", "it's", "--x=1", ""}), "'a b' 'it'\\''s' --x=1 ''");
}

}  // namespace
}  // namespace rigwise
