// Rank count: asked for and trained, of one run that is being recorded.
//
// The launcher tells how many ranks the whole training has and, where they are spread over hosts,
// how many of them are this command's own (record/ranks.h). Only these are seen to work. The others
// count as trained where a rank of this command was seen connected at the port where all ranks
// meet: a step then needed them. Without that it is not known, or, where no connection was there
// at all, they never joined.
#pragma once

#include <vector>

#include "host/peers.h"
#include "record/ranks.h"

namespace rigwise {

struct RanksCounted {
  std::optional<int> asked, trained;
  std::string why;
};

/// `trained`: of this command's own processes.
RanksCounted count_ranks(const RanksAsked& asked, Meeting meeting, const RanksTrained& trained);

class RankCount {
 public:
  RankCount() = default;
  RankCount(const std::vector<std::string>& argv, const RanksContext& context)
      : asked_(ranks_asked_of(argv, context)) {}

  /// Now and then, as long as no number was asked for: what a shell started.
  void look_for_launcher(const std::vector<ProcSample>& tree, int command, double t_s,
                         const RanksContext& context);
  /// At ticks behind the first step: with whom the ranks talk. A few looks tell.
  void look_for_others(const std::vector<ProcSample>& tree);

  [[nodiscard]] const RanksAsked& asked() const { return asked_; }
  [[nodiscard]] RanksCounted conclude(const RanksTrained& trained) const {
    return count_ranks(asked_, meeting_, trained);
  }

 private:
  RanksAsked asked_;
  Meeting meeting_ = Meeting::not_known;
  int looks_ = 0;
};

}  // namespace rigwise
