#include "cli/run_words.h"

#include "base/text.h"
#include "rigwise/units.h"

namespace rigwise::cli {

Result<ProfileOptions> profile_options(std::string_view words) {
  ProfileOptions options;
  if (words == "auto") return options;
  if (words == "none") {
    options.inside = false;
    return options;
  }
  options.most_windows.reset();  // numbers ask for traces; how many, the rules say
  const auto refused = [&](std::string_view word) {
    return Error{Errc::usage,
                 "run: --profile " + clean_text(words, 200) + ": '" + clean_text(word, 80) +
                     "' is not understood",
                 "auto, none, or numbers: windows=2 (0 to 20), length=1.5 (seconds, 0.1 to 30), "
                 "first=30 (seconds after the first step), every=60 (seconds), percent=0.5 (of the "
                 "run's time)"};
  };
  for (const auto word : split(words, ',')) {
    const auto equals = word.find('=');
    if (equals == std::string_view::npos) return refused(word);
    const std::string_view key = word.substr(0, equals);
    const auto value = to_number(word.substr(equals + 1));
    const auto within = [&](double low, double high) {
      return value && *value >= low && *value <= high;
    };
    if (key == "windows" && within(0, 20)) {
      options.most_windows = static_cast<int>(*value);
    } else if (key == "length" && within(0.1, 30)) {
      options.length_s = *value;
    } else if (key == "first" && within(0, 1e6)) {
      options.first_s = *value;
    } else if (key == "every" && within(1, 1e6)) {
      options.every_s = *value;
    } else if (key == "percent" && within(0, 100)) {
      options.share = *value / 100;
    } else {
      return refused(word);
    }
  }
  return options;
}

Result<HangOptions> hang_options(std::string_view after, std::string_view on_hang) {
  constexpr double kLeast_s = 1, kMost_s = 30 * 86400;
  HangOptions options;
  if (on_hang != "record" && on_hang != "stop") {
    return Error{Errc::usage, "run: --on-hang " + clean_text(on_hang, 80) + " is not understood",
                 "record (only tell) or stop (end the command)"};
  }
  options.stop = on_hang == "stop";
  if (after == "auto") return options;
  if (after == "off") {
    if (!options.stop) {
      options.watch = false;
      return options;
    }
    return Error{Errc::usage, "run: --hang-after off leaves nothing for --on-hang stop to act on",
                 "leave one of them out"};
  }
  const auto seconds = parse_duration(after);
  if (!seconds || !(*seconds >= kLeast_s && *seconds <= kMost_s)) {
    return Error{Errc::usage,
                 "run: --hang-after " + clean_text(after, 80) + " is no silence to wait for",
                 "auto, off, or a duration from 1s to 30 days: 90s, 10min, 2h"};
  }
  options.after_s = *seconds;
  return options;
}

}  // namespace rigwise::cli
