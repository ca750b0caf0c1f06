#include "cli/engine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cstdlib>
#include <string_view>

#include "base/text.h"
#include "rigwise/stats.h"

namespace rigwise::cli {

namespace fs = std::filesystem;

fs::path own_program() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error);
}

namespace {

bool is_program(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
}

}  // namespace

Result<fs::path> find_engine() {
  constexpr const char* kName = "rigwise-engine";
  std::error_code error;
  if (const fs::path beside = own_program().parent_path() / kName; is_program(beside)) {
    return beside;
  }
  if (const char* path = std::getenv("PATH"); path != nullptr) {
    for (const std::string_view folder : split(path, ':')) {
      if (folder.empty()) continue;
      const fs::path candidate = fs::path(folder) / kName;
      if (is_program(candidate)) return fs::absolute(candidate, error);
    }
  }
  const char* named = std::getenv("RIGWISE_ENGINE");
  if (named != nullptr && *named != '\0' && is_program(named)) return fs::absolute(named, error);
  std::string message = "rigwise-engine is not beside this program, nor on PATH";
  if (named != nullptr && *named != '\0') {
    message += ", and RIGWISE_ENGINE=" + clean_text(named, 200) + " is no program";
  }
  return Error{Errc::unavailable, message,
               "build it with ./dev build (it needs a Python with torch), or name it: "
               "RIGWISE_ENGINE=/path/to/rigwise-engine"};
}

std::string made_text(std::size_t bytes) {
  constexpr std::array<std::string_view, 16> kWho = {
      "the sailor",  "a miller",     "the old baker", "my neighbour", "the fisherman", "a student",
      "the captain", "the gardener", "her brother",   "a painter",    "the clerk",     "the doctor",
      "a traveller", "the piper",    "the widow",     "an officer"};
  constexpr std::array<std::string_view, 16> kDid = {
      "carried", "found",   "sold",      "repaired", "watched", "forgot", "borrowed", "painted",
      "hid",     "counted", "described", "returned", "bought",  "broke",  "measured", "kept"};
  constexpr std::array<std::string_view, 16> kWhat = {
      "a lantern",  "the letters", "three barrels", "an old map",  "the silver key", "a red boat",
      "the ledger", "two horses",  "a bag of corn", "the compass", "a broken clock", "the bread",
      "some ropes", "a telescope", "the anchor",    "a green coat"};
  constexpr std::array<std::string_view, 12> kWhere = {
      "at the harbour",   "behind the mill", "near the bridge",    "in the market",
      "under the stairs", "on the island",   "beside the station", "in the long valley",
      "at the inn",       "by the river",    "above the shop",     "in the empty church"};
  constexpr std::array<std::string_view, 12> kWhen = {
      "before sunrise",   "in the first week of May", "while it rained",
      "after the war",    "late in the night",        "on a cold morning",
      "during the storm", "when nobody looked",       "last winter",
      "at noon",          "on the second day",        "without a word"};
  stats::Random random(1);
  const auto pick = [&](const auto& words) { return words[random.below(words.size())]; };
  std::string text;
  while (text.size() < bytes) {
    std::string sentence = fmt::format("{} {} {}", pick(kWho), pick(kDid), pick(kWhat));
    if (random.uniform() < 0.7) sentence += fmt::format(" {}", pick(kWhere));
    if (random.uniform() < 0.5) sentence += fmt::format(" {}", pick(kWhen));
    if (random.uniform() < 0.3) {
      sentence +=
          fmt::format(", and {} {} {} of them", pick(kWho), pick(kDid), 2 + random.below(97));
    }
    sentence[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(sentence[0])));
    text += sentence + (random.uniform() < 0.15 ? ".\n\n" : ". ");
  }
  return text + "\n";
}

std::string last_word(const std::string& err, const std::string& program, int exit_status) {
  const std::string mark = program + ": ";
  std::string said;
  for (const std::string_view line : split(err, '\n')) {
    if (line.starts_with(mark)) said = clean_text(line.substr(mark.size()), 300);
  }
  if (exit_status > 128) {
    const int signal = exit_status - 128;
    const std::string ended =
        fmt::format("ended by signal {}{}", signal, signal == 9 ? " (out of memory?)" : "");
    return said.empty() ? ended : said + "; " + ended;
  }
  return said.empty() ? fmt::format("exit {}", exit_status) : said;
}

}  // namespace rigwise::cli
