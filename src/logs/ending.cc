// Sentences that tell the end of a training or of an epoch of it.
#include "logs/readers.h"
#include "logs/scan.h"

namespace rigwise::logs {
namespace {

/// The duration behind `words`: "19.5 seconds", "0:11:18".
std::optional<double> duration_behind(std::string_view text, std::string_view words) {
  const std::size_t at = text.find(words);
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view rest = strip(text.substr(at + words.size()));
  rest = rest.substr(0, rest.find_first_of("(,;"));
  if (rest.ends_with('.')) rest.remove_suffix(1);
  return scan_clock(rest);
}

}  // namespace

bool read_ending(std::string_view text, Entry& entry) {
  if (text.size() > 512) return false;
  if (text.find("raining ") == std::string_view::npos) return false;
  const std::string low = lower_ascii(text);
  const std::size_t training = low.find("training ");
  if (training == std::string::npos) return false;
  auto seconds = duration_behind(low, "training took ");
  if (seconds) {
    const std::size_t epoch = low.substr(0, training).rfind("epoch ");
    Number number;
    if (epoch != std::string::npos && scan_number(text.substr(epoch + 6), number, false))
      entry.set(Figure::epoch, number.value);
  } else {
    for (const std::string_view words :
         {"training completed in ", "training complete in ", "training finished in ",
          "training done in ",
          "training time: ", "training time : ", "training time = ", "training time "}) {
      seconds = duration_behind(low, words);
      if (seconds) break;
    }
  }
  const std::size_t speed = text.find("raining speed: ");
  if (!seconds && speed != std::string_view::npos) {  // detectron2
    Number steps;
    const std::string_view rest = text.substr(speed + 15);
    if (!scan_number(rest, steps, false) || !rest.substr(steps.size).starts_with(" iterations in "))
      return false;
    seconds = duration_behind(rest, " iterations in ");
    if (seconds) entry.set(Figure::total_steps, steps.value);
  }
  if (!seconds) return false;
  entry.set(Figure::runtime_s, *seconds);
  entry.summary = true;
  return true;
}

}  // namespace rigwise::logs
