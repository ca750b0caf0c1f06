#include "record/rank_count.h"

#include <fmt/format.h>

namespace rigwise {

namespace {
constexpr double kLaunchedBy_s = 600;  // a shell that started no launcher by then starts none
constexpr std::size_t kMostCommandLines = 64;
constexpr int kMostLooks = 10;
}  // namespace

RanksCounted count_ranks(const RanksAsked& asked, Meeting meeting, const RanksTrained& trained) {
  RanksCounted counted{asked.count, trained.count, asked.why};
  std::string seen = trained.why;
  if (asked.launcher == "python" && trained.count > asked.count) {
    counted.asked.reset();  // "one process" was the launcher's part
    counted.why = "the program started its ranks itself";
  } else if (asked.elsewhere && trained.count && trained.count < asked.count) {
    if (asked.here && trained.count < asked.here) {
      seen += fmt::format(", of {} that this command was to start", *asked.here);
    } else if (asked.elastic) {
      counted.trained.reset();
      seen += "; how many joined it elsewhere was not seen";
    } else if (meeting == Meeting::met) {
      counted.trained = asked.count;
      seen += ", connected with those elsewhere, whom every step needs";
    } else if (meeting == Meeting::not_met && asked.here) {
      seen += ", without a connection to those elsewhere";
    } else {
      counted.trained.reset();
      seen += "; whether those elsewhere trained with it was not seen";
    }
  }
  if (!seen.empty()) counted.why += (counted.why.empty() ? "" : "; ") + seen;
  return counted;
}

void RankCount::look_for_launcher(const std::vector<ProcSample>& tree, int command, double t_s,
                                  const RanksContext& context) {
  if (t_s > kLaunchedBy_s) return;
  std::vector<std::vector<std::string>> lines = {command_line_of(command)};
  for (const ProcSample& process : tree) {
    if (process.pid != command && lines.size() < kMostCommandLines)
      lines.push_back(command_line_of(process.pid));
  }
  RanksAsked asked = ranks_asked_of_tree(lines, context);
  if (asked.count) asked_ = std::move(asked);
}

void RankCount::look_for_others(const std::vector<ProcSample>& tree) {
  if (!asked_.elsewhere || meeting_ == Meeting::met || looks_ == kMostLooks) return;
  ++looks_;
  bool any = false, all_apart = true;
  for (const ProcSample& process : tree) {
    if (process.role != "rank") continue;
    any = true;
    const Meeting meeting = meeting_of("/proc", process.pid);
    if (meeting == Meeting::met) {
      meeting_ = meeting;
      return;
    }
    all_apart = all_apart && meeting == Meeting::not_met;
  }
  if (any) meeting_ = all_apart ? Meeting::not_met : Meeting::not_known;
}

}  // namespace rigwise
