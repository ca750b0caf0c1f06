// Facts: everything of a run that its ledger rests on, read once, before any second is given away.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ledger/device.h"
#include "ledger/findings.h"
#include "ledger/machine.h"
#include "ledger/phases.h"
#include "ledger/rank_numbers.h"
#include "ledger/split.h"
#include "ledger/steps.h"
#include "ledger/work.h"
#include "rigwise/run.h"

namespace rigwise {

struct Facts {
  const Run* run = nullptr;
  double wall_s = 0;
  bool ended = false;
  bool unwatched_end = false;  // the recorder died first: nobody saw what came after
  bool unread_end = false;     // or the last of the log was not read: steps may have gone on
  Rows<StepRecord> step_rows = {};
  Rows<Event> events = {};
  StepsSeen seen = {};
  std::optional<StepSeries> series = {};  // the main one, or one made from the summary line
  bool from_summary = false;
  double stated_evaluation_s = 0;  // sum of eval_runtime
  std::int64_t evaluations = 0;
  std::vector<Window> evaluation_windows = {}, checkpoint_windows = {};
  std::int64_t saves = 0;
  double save_bytes = 0, largest_save_bytes = 0;
  std::int64_t open_saves = 0;
  TornCheckpoints torn = {};
  Evidence save_evidence = {}, evaluation_evidence = {};
  std::optional<double> train_end_s = {};
  std::vector<HostView> hosts = {};
  RankNumbers numbers = {};
  std::vector<RankProcess> ranks = {};
  Throttling throttling = {};
  Stretch stretch = {};
  WorkSeen work = {};
  std::optional<WorkLedger> worked = {};  // stack samples carry the rows, …
  DeviceSeen device = {};
  bool by_phases = false;  // … or what the steps state of themselves
};

Result<Facts> gather_facts(const Run& run);

}  // namespace rigwise
