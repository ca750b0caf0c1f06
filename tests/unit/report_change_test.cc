// Text of a change of ledgers against golden files; UPDATE_GOLDEN=1 rewrites them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/text.h"
#include "report/change.h"
#include "report/layout.h"

namespace rigwise {
namespace {

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

LedgerChangeRow changed(LedgerClass cls, Change seconds, std::optional<Change> per_step = {}) {
  const bool moved = per_step ? per_step->moved : seconds.moved;
  return {cls, seconds, per_step, moved};
}

/// Made up: 100 steps against 200, with the loader mended.
LedgerChange change_of_steps() {
  LedgerChange change;
  change.a = {"slow-loader", {"1-slow-loader", "2-slow-loader", "3-slow-loader"}, 100.0};
  change.b = {"two-workers", {"4-two-workers", "5-two-workers", "6-two-workers"}, 200.0};
  change.wall = {327.0, 472.0, 145.0, 139.0, 151.0, true};
  using enum LedgerClass;
  change.rows = {
      changed(startup, {20.0, 20.4, 0.4, -1.0, 1.8, false}),
      changed(input, {71.0, 20.0, -51.0, -53.9, -48.1, true},
              Change{0.71, 0.1, -0.61, -0.64, -0.58, true}),
      changed(compute, {214.0, 430.0, 216.0, 208.0, 224.0, true},
              Change{2.14, 2.15, 0.01, -0.04, 0.06, false}),
      changed(checkpoint, {0.0, 0.0, 0.0, -1.6, 1.6, false},
              Change{0.0, 0.0, 0.0, -0.02, 0.02, false}),
      changed(teardown, {3.2, {}, {}, {}, {}, false}),
      changed(unexplained, {3.0, 0.02, -2.98, -5, -0.96, true}),
  };
  change.in_compute = {sync, host};
  change.not_measured = {throttle, memory};
  return change;
}

TEST(ReportChange, AChangeIsJudgedByTheStepWhereStepsDiffer) {
  const LedgerChange change = change_of_steps();
  expect_forms("ledger-change",
               [&](const TextStyle& style) { return ledger_change_text(change, style); });
}

TEST(ReportChange, AChangeThatMovedNothingSaysSo) {
  LedgerChange change = change_of_steps();
  for (auto& row : change.rows) row.moved = false;
  EXPECT_EQ(report::answer_of(change).text(),
            "No row moved by more than such runs differ by themselves.");
}

TEST(ReportChange, AHostileNameOfASideIsHarmless) {
  LedgerChange change = change_of_steps();
  change.a.name = "evil\x1b[31m\nname";
  EXPECT_EQ(ledger_change_text(change, {false, 80}).find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace rigwise
