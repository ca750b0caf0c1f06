// Callbacks that save when a metric got better: "Epoch 1: val_loss improved from inf to 0.452,
// saving model to best.keras" (Keras, Poutyne), "Epoch 0, global step 6: 'val_loss' reached 1.75
// (best 1.75), saving model to …" (Lightning).
#include "logs/readers.h"
#include "logs/scan.h"

namespace rigwise::logs {
namespace {

/// The word that ends at `end`, quotes taken off.
std::string_view word_before(std::string_view text, std::size_t end) {
  while (end > 0 && (text[end - 1] == '\'' || text[end - 1] == '"')) --end;
  std::size_t from = end;
  while (from > 0 && (is_word(text[from - 1]) || text[from - 1] == '/' || text[from - 1] == '.'))
    --from;
  return text.substr(from, end - from);
}

}  // namespace

bool read_improvement(std::string_view text, Meanings& meanings, PairReader& pairs, Entry& entry) {
  if (text.size() > 1024) return false;
  std::size_t at = text.find(" improved from ");
  std::size_t value_at = std::string_view::npos;
  if (at != std::string_view::npos) {
    const std::size_t to = text.find(" to ", at + 14);
    if (to != std::string_view::npos) value_at = to + 4;
  } else {
    at = text.find(" reached ");
    if (at != std::string_view::npos && text.find("(best ", at) != std::string_view::npos)
      value_at = at + 9;
  }
  if (value_at == std::string_view::npos) return false;
  const std::string_view name = word_before(text, at);
  Value value;
  if (name.empty() || !read_value(text.substr(value_at, 32), value)) return false;
  const Meaning& meaning = meanings.of(name);
  if (meaning.figure != Figure::loss && meaning.figure != Figure::eval_loss) return false;
  const auto start = static_cast<std::size_t>(name.data() - text.data());
  entry.clear();
  pairs.read(text.substr(0, start), entry);
  entry = *(pairs.end() - 1);
  value.unit = {};
  return entry.set(meaning, value);
}

}  // namespace rigwise::logs
