// Words: a comparison's and a decision's figures as short phrases, shared by text, Markdown and
// HTML.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "rigwise/report.h"

namespace rigwise::report {

using NamedRows = std::vector<std::pair<std::string, std::string>>;

/// The rows under a comparison's answer: comparable, step time, wall time, scaling, loss,
/// repeatable, threshold, side effects. Rows of which nothing is known say "not measured" where a
/// reader would look for them, and are left out elsewhere.
NamedRows comparison_rows(const Comparison& comparison);

/// Does this field differ, or is it unknown on a side, in a way that matters for speed or loss?
bool matters(const ComparedField& field);
bool differs(const ComparedField& field);
/// "start time" of "start_time".
std::string field_name(const ComparedField& field);
/// "3,000 → 12,000"; "not known → bf16".
std::string field_change(const ComparedField& field);
/// "stops the verdict", "limits the verdict", "corrected for", "noted", "no effect".
std::string impact_in_words(Impact impact);

std::string next_step_of(const Comparison& comparison);

/// "sealed 2026-11-20 18:02, before every run"; empty without a time.
std::string sealed_in_words(const Statement& statement, const std::vector<const Run*>& runs);

}  // namespace rigwise::report
