// Figures: numbers with the digits they deserve, and the one-sentence answers that every form of a
// report opens with, so that text, Markdown and HTML can never disagree.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/report.h"

namespace rigwise::report {

inline constexpr std::string_view kNotMeasured = "not measured";

/// "−39 %", "+0.4 %", "0 %": the sign always, digits no finer than `half_width` (percent points).
std::string percent_change(double percent, std::optional<double> half_width = {});
/// "39 %" of 38.9, digits as above.
std::string percent_plain(double percent, std::optional<double> half_width = {});

/// Seconds in a sentence beside a table of seconds: "71 s", "3.2 s"; from 1000 s on "20 min 5 s".
std::string plain_seconds(double seconds);
/// Digits after the point that seconds ± half_width deserve, in a table of runs `wall_s` long.
int seconds_decimals(double seconds, std::optional<double> half_width, double wall_s);
/// Half of a row's interval, where it has one.
std::optional<double> half_width_s(const LedgerRow& row);
/// "71.4 ±2.9", "214 ±6", "0", "not measured"; "60 to 82" for a lopsided interval.
std::string seconds_cell(const LedgerRow& row, double wall_s);
/// "−34.2", "+6": b less a, digits no finer than either row's interval; "–" where one is not known.
std::string seconds_change(const LedgerRow* a, const LedgerRow* b, double wall_s);
/// Cells padded so that their decimal points, and then their ±, stand under each other.
std::vector<std::string> align_decimals(const std::vector<std::string>& cells);

/// "4 runs", "1 run".
std::string count(std::int64_t number, std::string_view noun);
/// "3 runs a side", "1 run against 3".
std::string runs_a_side(int runs_a, int runs_b);

/// What a class of seconds is, for a reader who never saw the tool: "ranks wait for data".
std::string_view class_meaning(LedgerClass cls);

enum class Tone { good, neutral, caution, bad };

/// The first line of a report: a word in capitals where there is a verdict, and one sentence.
struct Answer {
  std::string lead = {};  // "FASTER", or empty
  std::string sentence = {};
  Tone tone = Tone::neutral;
  [[nodiscard]] std::string text() const {
    return lead.empty() ? sentence : lead + ": " + sentence;
  }
};

Answer answer_of(const Ledger& ledger);
Answer answer_of(const Comparison& comparison);
Answer answer_of(const Decision& decision);
Answer answer_of(const Run& run);

/// The answer as lines of a terminal, its leading word (or, without one, all of it) underlined by
/// colour.
std::string answer_lines(const Answer& answer, const TextStyle& style);

/// "finished in 6 min 12 s, exit 0"; "killed by SIGKILL after 3 min 2 s"; "still running after …".
std::string ending_in_words(const Run& run);
/// "2 of 2 ranks trained"; empty where neither number is known.
std::string ranks_in_words(const RunInfo& info);
/// "step time per sample" of "step_time_per_sample".
std::string metric_in_words(std::string_view metric);
/// "0.428 → 0.262 s".
std::string level_change(const Effect& effect);

/// argv as a line that a POSIX shell reads back as the same words.
std::string shell_line(const std::vector<std::string>& argv);

const LedgerRow* find_row(const Ledger& ledger, LedgerClass cls);
/// The step worth trying: of the gravest finding, else what would measure the unknown seconds.
std::string next_step_of(const Ledger& ledger);
/// Adds the full stop where a sentence has none.
std::string full_stop(std::string sentence);

}  // namespace rigwise::report
