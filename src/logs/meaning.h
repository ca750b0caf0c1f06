// Meaning: which figure of training a key speaks of, in which unit. One vocabulary of words and a
// few rules for how they combine serve every format: "tokens_per_second_per_gpu", "Tokens/s/device"
// and "tokens per gpu per second (tgs)" are the same three nouns.
//
// A key with a noun that the vocabulary does not know ("box_loss", "critic/grad_norm", "loss
// scale") is no figure of the run: a wrong value is worse than a missing one.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

namespace rigwise::logs {

enum class Figure : std::uint8_t {
  none,
  step,
  batch,  // counts inside an epoch
  epoch,
  loss,
  eval_loss,
  lr,
  grad_norm,
  step_time_s,
  steps_per_s,
  samples_per_s,
  tokens_per_s,
  tokens_seen,
  mem,
  mfu,
  rank,
  train_runtime_s,
  runtime_s,  // "runtime", "training time": of the run where the entry is a summary
  eval_runtime_s,
  final_loss,
  total_steps,
  time,       // "time", "seconds": a step's, where something beside it says so
  data_time,  // seconds that a step waited for data: says that "time" is a step's
  forward_s,  // phases of a step, always in seconds
  backward_s,
  sync_s,
  optimizer_s,
  speed,      // "speed", "throughput": the value's unit decides
  component,  // a part of the loss, a reward: shows that the entry tells training
  quality,    // accuracy, BLEU …: of an evaluation where nothing else is told
  count,
};

struct Meaning {
  Figure figure = Figure::none;
  std::uint8_t order = 0;   // the lowest of several candidates in one entry is taken
  bool per_device = false;  // rates
  bool evaluation = false;  // the key speaks of an evaluation
  bool average = false;     // a mean, not the instant
  double scale = 0;         // to the figure's unit; 0: the value's own unit decides
};

Meaning meaning_of(std::string_view key);

/// What stands behind a number.
enum class Unit : std::uint8_t {
  none,
  percent,
  second,
  millisecond,
  microsecond,
  minute,
  hour,
  steps_per_s,
  s_per_step,
  ms_per_step,
  us_per_step,
  samples_per_s,
  samples_per_s_per_device,
  tokens_per_s,
  tokens_per_s_per_device,
  per_s,  // "/s": of what, the line does not say
  per_s_per_device,
  gib,
  mib,
  kib,
  byte,
  kilo,  // "58.7K"
  mega,
  giga,
  mfu,
  other,  // known to be a unit, of nothing that is read: "TFLOPs", "W", "C", "MB/s"
};

struct UnitRead {
  Unit unit = Unit::none;
  double scale = 1;      // "12.3k tok/s"
  std::size_t size = 0;  // bytes taken, blanks in front included
};

/// The unit at the start of `text` (right behind a number); nothing taken where a word begins that
/// is no unit.
UnitRead scan_unit(std::string_view text);

/// Bytes-like units to GiB; 0 for others.
double gib_per(Unit unit);

/// Meanings of the keys seen, so that the words of one are looked at once.
class Meanings {
 public:
  Meanings();
  const Meaning& of(std::string_view key);

 private:
  static constexpr std::size_t kSlots = 1024, kMaxKey = 55;
  struct Slot {
    std::uint8_t size = 0;
    char key[kMaxKey] = {};
    Meaning meaning = {};
  };
  std::unique_ptr<std::array<Slot, kSlots>> slots_;
  Meaning long_ = {};
};

}  // namespace rigwise::logs
