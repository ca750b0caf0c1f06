// Evidence: everything that compare and decide look at, gathered from the runs of two names.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/args.h"
#include "rigwise/decide.h"
#include "rigwise/result.h"

namespace rigwise::cli {

struct Sides {
  std::vector<std::string> a = {}, b = {};  // names, ids or folders; a name stands for all its runs
};

/// Opens the runs of both sides, makes their ledgers, compares them and judges the statement's
/// threshold. A side that has no run at all stays empty when `may_lack_runs`; there is no
/// comparison then. Errors: not_found (no such run), and those of compare().
Result<DecideInput> gather(const Common& args, const Sides& sides, const Lab& lab,
                           const CompareOptions& options, bool may_lack_runs);

/// Other names whose runs were sealed by the same statement, compared with the candidate.
std::vector<Rival> rivals_of(const Common& args, const DecideInput& input);

}  // namespace rigwise::cli
