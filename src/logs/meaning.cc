#include "logs/meaning.h"

#include <algorithm>
#include <cstring>

#include "logs/scan.h"
#include "logs/words.h"

namespace rigwise::logs {
namespace {

using namespace role;

/// A key taken apart: the roles of its words in order, and all of them together.
struct Key {
  static constexpr std::size_t kMaxWords = 12;
  std::array<std::uint64_t, kMaxWords> words{};
  std::size_t size = 0;
  std::uint64_t all = 0;
  int unknowns = 0;
  bool evaluation_first = false;
  std::uint32_t after_slash = 0;  // a bit a word: a '/' stands in front of it
  double stated_scale = 0;        // "lr(1e-4)"
  std::string_view last = {};

  [[nodiscard]] bool has(std::uint64_t roles) const { return (all & roles) != 0; }
  /// Every word has one of these roles.
  [[nodiscard]] bool only(std::uint64_t roles) const {
    for (std::size_t i = 0; i < size; ++i)
      if ((words[i] & roles) == 0) return false;
    return size > 0;
  }
  void add(std::uint64_t roles) {
    if (size == kMaxWords) {
      all |= unknown;
      ++unknowns;
      return;
    }
    words[size++] = roles;
    all |= roles;
    if ((roles & unknown) != 0) ++unknowns;
  }
};

constexpr std::uint64_t kStepNoun = step | iter | batch | update;
constexpr std::uint64_t kWhose = train | current | model | total | actor;

/// '/' between a noun and a unit of time or a device: "tok/sec", "s/it", "Tokens/s/device".
bool is_per(std::uint64_t left, std::uint64_t right) {
  const std::uint64_t times = second | milli;
  if ((left & times) != 0 && (left & per) == 0 && (right & kStepNoun) != 0) return true;
  if ((left & (token | sample | second | milli)) != 0 && (right & device) != 0) return true;
  return (left & (token | sample | kStepNoun | device)) != 0 && (right & times) != 0;
}

Key take_apart(std::string_view text) {
  Key key;
  // "lr(1e-4)": the unit is in the key
  if (!text.empty() && text.back() == ')') {
    const std::size_t open = text.rfind('(');
    Number scale;
    if (open != std::string_view::npos && scan_number(text.substr(open + 1), scale, false) &&
        open + 1 + scale.size + 1 == text.size() && scale.value > 0) {
      key.stated_scale = scale.value;
      text = text.substr(0, open);
    }
  }
  std::array<char, 24> word{};
  std::size_t at = 0;
  bool slash = false;
  while (at < text.size()) {
    if (!is_letter(text[at]) && !is_digit(text[at])) {
      slash = slash || text[at] == '/';
      ++at;
      continue;
    }
    std::size_t size = 0;
    const std::size_t from = at;
    // A word ends where a new one is capitalised: "RunningAvgSamplesPerSec".
    while (at < text.size() && (is_letter(text[at]) || is_digit(text[at]))) {
      const bool upper = text[at] >= 'A' && text[at] <= 'Z';
      const bool after_lower = at > from && text[at - 1] >= 'a' && text[at - 1] <= 'z';
      if (upper && after_lower && !(text[at] == 'B' && text[at - 1] == 'i')) break;  // not "GiB"
      if (size < word.size()) word[size++] = lower_byte(text[at]);
      ++at;
    }
    const std::string_view name(word.data(), size);
    // Words that say nothing: "step timing in s", "metrics/train/loss".
    if (name == "metrics" || name == "metric" || name == "stats" || name == "logs") continue;
    if (key.size > 0 && (name == "in" || name == "took" || name == "is")) continue;
    if (key.size > 0 && name == "value" && at == text.size()) continue;  // "lm loss value"
    const std::uint64_t roles = roles_of(name);
    key.last = text.substr(from, at - from);
    if (slash && key.size > 0 && is_per(key.words[key.size - 1], roles)) key.add(per);
    if (key.size == 0) key.evaluation_first = (roles & eval) != 0;
    if (slash) key.after_slash |= 1u << key.size;
    key.add(roles);
    slash = false;
  }
  return key;
}

Meaning make(Figure figure, int order, const Key& key) {
  Meaning meaning;
  meaning.figure = figure;
  meaning.average = key.has(average);
  meaning.order = static_cast<std::uint8_t>(order + (meaning.average ? 40 : 0));
  meaning.evaluation = key.has(eval);
  meaning.per_device = key.has(device);
  return meaning;
}

/// "X per second", "seconds per step", "step time".
Meaning rate_of(const Key& key) {
  if (key.has(blocked | quality | loss | data | reward)) return {};
  const std::uint64_t nouns = token | sample | kStepNoun;
  int order = key.unknowns > 0 ? 20 : key.has(current) ? 2 : 5;
  // time per step
  bool time_per = false;
  for (std::size_t i = 1; i + 1 < key.size; ++i) {
    if ((key.words[i] & per) == 0 || (key.words[i] & second) != 0) continue;
    const std::uint64_t left = key.words[i - 1], right = key.words[i + 1];
    if ((left & (time | second | milli)) != 0 && (right & kStepNoun) != 0) time_per = true;
    if ((right & kStepNoun) != 0 && key.has(elapsed | time) && !key.has(token | sample))
      time_per = true;
  }
  const bool step_time = key.has(time | milli | dt | second) && key.has(kStepNoun) &&
                         !key.has(per) && key.has(time | dt) &&
                         key.only(time | milli | second | kStepNoun | train | average | total |
                                  current | model | dt | speed);
  // "time/batch" counts in the name space "time"
  for (std::size_t i = 1; i < key.size; ++i)
    if ((key.after_slash & (1u << i)) != 0 && (key.words[i] & kStepNoun) != 0 &&
        (key.words[i - 1] & time) != 0 && !time_per)
      return {};
  if (time_per || step_time || key.only(dt | train | average | milli)) {
    Meaning meaning = make(Figure::step_time_s, key.has(batch) ? order + 3 : order, key);
    if (key.has(plural) && !time_per) return {};
    meaning.scale = key.has(milli) ? 1e-3 : 0;
    return meaning;
  }
  if (!key.has(per) || !key.has(second) || !key.has(nouns)) return {};
  if (key.unknowns > 1) return {};
  // milliseconds on the left were a time; here a count stands over seconds
  Figure figure = Figure::steps_per_s;
  if (key.has(token))
    figure = Figure::tokens_per_s;
  else if (key.has(sample))
    figure = Figure::samples_per_s;
  Meaning meaning = make(figure, order, key);
  if (meaning.per_device) meaning.order = static_cast<std::uint8_t>(meaning.order + 2);
  meaning.scale = 1;
  return meaning;
}

Meaning loss_of(const Key& key, std::string_view text) {
  if (key.has(blocked | number | seen | rate | norm)) return {};
  const std::uint64_t allowed = loss | train | eval | average | current | total | model | step |
                                batch | iter | epoch | final | done | micro;
  if (!key.only(allowed)) {
    // "eval_wiki_loss": the loss on one of several evaluation sets
    const bool one_set = key.evaluation_first && key.unknowns == 1 && key.only(allowed | unknown) &&
                         (key.words[key.size - 1] & loss) != 0 && starts_with_word(text, "eval_");
    if (one_set) return make(Figure::eval_loss, 30, key);
    Meaning part = make(Figure::component, 0, key);
    return part;
  }
  if (key.has(final)) return make(Figure::final_loss, 5, key);
  int order = 10;
  if (key.has(train)) order = 8;
  if (key.has(total)) order = 7;
  if (key.has(model)) order = key.has(train) ? 6 : 12;
  if (key.has(step | batch | iter | micro)) order += 2;
  if (key.has(epoch)) order -= 1;
  return make(key.has(eval) ? Figure::eval_loss : Figure::loss, order, key);
}

Meaning memory_of(const Key& key) {
  if (key.has(blocked | rate | loss | time | per)) return {};
  if (key.unknowns > 0) return {};
  if (!key.only(mem | alloc | reserved | peak | device | gib | mib | bytes | current | train |
                model | average | total | speed))  // speed: the name space "perf"
    return {};
  if (key.has(total) && !key.has(alloc | reserved)) return {};  // what the card has
  // "allocated" now, beside the peak, is a part of what is in use.
  if (key.has(alloc) && !key.has(peak | device | average) && key.has(mib | gib | bytes)) return {};
  int order = 10;
  if (key.has(alloc)) order = 8;
  if (key.has(reserved)) order = 20;
  if (key.has(peak)) order -= 3;
  Meaning meaning = make(Figure::mem, order, key);
  meaning.scale = key.has(gib)     ? 1
                  : key.has(mib)   ? 1.0 / 1024
                  : key.has(bytes) ? 1.0 / 1073741824
                                   : 0;
  return meaning;
}

Meaning counter_of(const Key& key) {
  if (key.has(blocked | unknown | loss | time | seen | data | mem | quality)) return {};
  if (key.has(timestep)) return make(Figure::step, 4, key);
  const std::uint64_t allowed =
      step | iter | update | train | current | model | done | number | eval | micro;
  if (key.has(step | iter | update) && key.only(allowed | total)) {
    if (key.has(micro)) return make(Figure::batch, 5, key);
    if (key.has(total)) return make(Figure::total_steps, 5, key);
    if (key.has(eval)) return {};
    int order = key.has(iter) ? 10 : key.has(update) ? 9 : 5;
    if (key.has(update) && key.has(number)) order = 3;
    if (key.has(model)) order = 2;
    if (key.has(number) && !key.has(update)) return {};  // "num_steps": how many there are
    if (key.has(plural) && key.has(train) && !key.has(model)) return {};
    if (key.has(plural)) order += 4;
    return make(Figure::step, order, key);
  }
  if (key.has(epoch) && key.only(epoch | train | current | eval | model)) {
    if (key.has(plural)) return {};
    return make(Figure::epoch, key.last == "ep" ? 12 : 5, key);
  }
  if (key.has(batch) && key.only(batch | train | current | micro | eval))
    return key.has(plural) ? Meaning{} : make(Figure::batch, 6, key);
  if (key.has(rank) && key.only(rank | model)) return make(Figure::rank, 5, key);
  return {};
}

Meaning other_of(const Key& key) {
  if (key.has(token) && key.has(seen | number | total) &&
      !key.has(per | loss | blocked | unknown | eval))
    return make(Figure::tokens_seen, key.has(seen) ? 5 : 10, key);
  if (key.has(runtime) && key.only(runtime | train | eval | second | total)) {
    if (key.has(eval)) return make(Figure::eval_runtime_s, 5, key);
    return make(key.has(train) ? Figure::train_runtime_s : Figure::runtime_s, 5, key);
  }
  if (key.has(time) && key.has(train) && key.only(time | train | total | second | runtime))
    return make(Figure::runtime_s, 10, key);
  if (key.has(time) && key.has(eval) && key.only(time | eval | second))
    return make(Figure::eval_runtime_s, 10, key);
  if (key.only(data)) return make(Figure::data_time, 10, key);
  if (key.has(data) && key.has(time) && key.only(data | time | average | second | train | batch))
    return make(Figure::data_time, 5, key);
  if (key.only(second)) return make(Figure::step_time_s, 30, key);
  if (key.has(time) && key.only(time | second | average) && !equals_word(key.last, "cost"))
    return make(Figure::time, 20, key);
  if (key.has(speed) && key.only(speed | train | total | current | average | device))
    return make(Figure::speed, 20, key);
  if (key.has(reward) && !key.has(blocked)) return make(Figure::component, 0, key);
  if (key.has(quality) && !key.has(blocked | time)) return make(Figure::quality, 5, key);
  return {};
}

std::uint64_t hash_of(std::string_view key) {
  std::uint64_t hash = key.size() * 0x9E3779B97F4A7C15ull;
  const char* at = key.data();
  std::size_t left = key.size();
  for (; left >= 8; at += 8, left -= 8) {
    std::uint64_t part;
    std::memcpy(&part, at, 8);
    hash = (hash ^ part) * 0xBF58476D1CE4E5B9ull;
    hash ^= hash >> 29;
  }
  std::uint64_t part = 0;
  std::memcpy(&part, at, left);
  hash = (hash ^ part) * 0x94D049BB133111EBull;
  return hash ^ (hash >> 31);
}

}  // namespace

Meaning meaning_of(std::string_view text) {
  Key key = take_apart(text);
  // "lr(LinearWarmup)", "lr (LM)": which one, or by which schedule
  const std::size_t open = text.find('(');
  if (open != std::string_view::npos && key.stated_scale == 0 && key.words[0] == lr) {
    const bool alone = take_apart(text.substr(0, open)).size == 1;
    const bool others = key.has(blocked);
    if (alone && others) key = take_apart(text.substr(0, open));
  }
  if (key.size == 0) return {};
  if (key.has(mfu))
    return key.only(mfu | precision | average | current | train | total | speed | device)
               ? make(Figure::mfu, 5, key)
               : Meaning{};
  if (equals_word(text, "overall_throughput")) {  // samples, by its one writer
    Meaning meaning = make(Figure::samples_per_s, 5, key);
    meaning.scale = 1;
    return meaning;
  }
  if (key.has(step) && key.has(peak) && starts_with_word(text, "global_step/max"))
    return make(Figure::step, 1, key);
  // The phases of a step that rigwise-engine states, in its own names.
  constexpr std::array kPhases = {
      std::pair{"forward_s", Figure::forward_s}, std::pair{"backward_s", Figure::backward_s},
      std::pair{"sync_s", Figure::sync_s}, std::pair{"optimizer_s", Figure::optimizer_s},
      std::pair{"data_s", Figure::data_time}};
  for (const auto& [name, figure] : kPhases) {
    if (equals_word(text, name)) return make(figure, 5, key);
  }
  // "step_avg:103.1ms": a mean of step times, as its unit says
  if (equals_word(text, "step_avg")) return make(Figure::time, 30, key);
  if (key.has(per) || (key.has(time | dt) && key.has(kStepNoun | dt))) {
    const Meaning rate = rate_of(key);
    if (rate.figure != Figure::none) return rate;
    if (key.has(per)) return {};
  }
  if (key.has(loss)) return loss_of(key, text);
  if (key.has(lr) || (key.has(learning) && key.has(rate))) {
    if (key.has(blocked | peak)) return {};
    const bool of_all = key.only(lr | learning | rate | train | current);
    Meaning meaning = make(Figure::lr, of_all ? 5 : 15, key);  // else of one of several groups
    meaning.scale = key.stated_scale;
    return meaning;
  }
  if (key.has(gradnorm) || (key.has(grad) && key.has(norm)) || key.only(norm)) {
    if (key.has(blocked | unknown | peak)) return {};
    return make(Figure::grad_norm, key.only(norm) ? 30 : 5, key);
  }
  if (key.has(mem | reserved) || (key.has(alloc) && key.has(peak | gib | mib | bytes))) {
    const Meaning memory = memory_of(key);
    if (memory.figure != Figure::none) return memory;
  }
  const Meaning counter = counter_of(key);
  if (counter.figure != Figure::none) return counter;
  return other_of(key);
}

// ------------------------------------------------------------------------------------------------
// the keys seen

Meanings::Meanings() : slots_(std::make_unique<std::array<Slot, kSlots>>()) {}

const Meaning& Meanings::of(std::string_view key) {
  if (key.empty() || key.size() > kMaxKey) {
    long_ = key.empty() || key.size() > 160 ? Meaning{} : meaning_of(key);
    return long_;
  }
  Slot& slot = (*slots_)[hash_of(key) % kSlots];
  if (slot.size == key.size() && std::memcmp(slot.key, key.data(), key.size()) == 0)
    return slot.meaning;
  slot.meaning = meaning_of(key);
  slot.size = static_cast<std::uint8_t>(key.size());
  std::memcpy(slot.key, key.data(), key.size());
  return slot.meaning;
}

}  // namespace rigwise::logs
