// Boosted trees count rounds in brackets and name each metric by its data set: "valid-rmse",
// "valid_0's l2", "validation_0-logloss".
#include "logs/readers.h"
#include "logs/scan.h"

namespace rigwise::logs {
namespace {

constexpr int kMaxMetrics = 32;

bool is_training_set(std::string_view name) {
  return starts_with_word(name, "train") || starts_with_word(name, "learn");
}

bool is_evaluation_set(std::string_view name) {
  return starts_with_word(name, "val") || starts_with_word(name, "eval") ||
         starts_with_word(name, "test") || starts_with_word(name, "dev");
}

/// Metrics that fall as the fit gets better.
bool is_loss(std::string_view metric) {
  for (const std::string_view known : {"loss", "err", "rmse", "mae", "mape", "l1", "l2", "mse",
                                       "deviance", "nll", "logl", "entropy", "quantile", "poisson"})
    if (lower_ascii(metric).find(known) != std::string::npos) return true;
  return false;
}

/// One "name:value"; CatBoost names the set alone.
void take(std::string_view name, std::string_view text, bool set_alone, Entry& entry,
          std::string_view& last_set) {
  Number number;
  if (!scan_number(strip(text), number, false)) return;
  ++entry.pairs;
  std::size_t cut = name.find("'s ");
  std::string_view metric =
      cut == std::string_view::npos ? std::string_view{} : name.substr(cut + 3);
  if (metric.empty()) {
    cut = name.find('-');
    if (cut != std::string_view::npos) metric = name.substr(cut + 1);
  }
  if (set_alone ? !metric.empty() : metric.empty() || !is_loss(metric)) {
    if (!metric.empty()) entry.set(Figure::quality, number.value);
    return;
  }
  if (is_training_set(name)) entry.set(Figure::loss, number.value);
  if (is_evaluation_set(name)) {  // the last set is the one that stops the training early
    const std::string_view set = name.substr(0, cut);
    if (set != last_set) entry.drop(Figure::eval_loss);
    last_set = set;
    entry.set(Figure::eval_loss, number.value);
  }
}

}  // namespace

bool read_boosting(std::string_view text, Entry& entry) {
  text = strip(text);
  const bool bracket = text.starts_with('[');
  if (bracket) text.remove_prefix(1);
  Number round;
  if (text.empty() || !is_digit(text[0]) || !scan_number(text, round, false) || !round.whole)
    return false;
  text.remove_prefix(round.size);
  if (bracket ? !text.starts_with("]") : !text.starts_with(":\tlearn")) return false;
  text.remove_prefix(1);
  if (text.empty() || !is_blank(text[0])) return false;
  int metrics = 0;
  std::string_view last_set;
  while (!text.empty() && metrics < kMaxMetrics) {
    text = strip(text);
    std::size_t end = text.find('\t');
    if (bracket && end == std::string_view::npos) end = text.find("  ");
    const std::string_view part = strip(text.substr(0, end));
    const std::size_t colon = part.rfind(':', part.find('(') - 1);
    if (colon == std::string_view::npos) return false;
    take(part.substr(0, colon), part.substr(colon + 1), !bracket, entry, last_set);
    ++metrics;
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  if (!entry.has(Figure::loss) && !entry.has(Figure::eval_loss)) return false;
  entry.set(Figure::step, round.value);
  return true;
}

}  // namespace rigwise::logs
