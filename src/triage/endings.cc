#include "triage/endings.h"

#include <array>
#include <csignal>
#include <cstring>

#include "base/text.h"

namespace rigwise::triage_parts {

namespace {

constexpr int kShells = 128, kLastSignal = 31;

std::optional<int> number_at(std::string_view text, std::size_t at) {
  while (at < text.size() && std::string_view(" :=\t#").find(text[at]) != std::string_view::npos)
    ++at;
  std::size_t end = at;
  if (end < text.size() && text[end] == '-') ++end;
  while (end < text.size() && is_digit(text[end]) && end - at < 6) ++end;
  if (end < text.size() && is_digit(text[end])) return {};
  const auto number = to_integer(text.substr(at, end - at));
  if (!number) return {};
  return static_cast<int>(*number);
}

/// The number behind the first of these words that has one.
template <std::size_t N>
std::optional<int> number_behind(std::string_view text,
                                 const std::array<std::string_view, N>& words) {
  for (const std::string_view word : words) {
    for (std::size_t at = text.find(word); at != std::string_view::npos;
         at = text.find(word, at + word.size())) {
      if (const auto number = number_at(text, at + word.size())) return number;
    }
  }
  return {};
}

/// "SIGKILL" of "<Signals.SIGKILL: 9>" or "(SIGKILL)".
std::optional<int> named_signal(std::string_view line) {
  for (std::size_t at = line.find("SIG"); at != std::string_view::npos;
       at = line.find("SIG", at + 3)) {
    const std::string_view rest = line.substr(at + 3);
    for (int signal = 1; signal <= kLastSignal; ++signal) {
      const char* name = sigabbrev_np(signal);
      const std::size_t length = name == nullptr ? 0 : std::strlen(name);
      const bool whole = length > 0 && rest.starts_with(name) &&
                         (rest.size() == length || !is_letter(rest[length]));
      if (whole) return signal;
    }
  }
  return {};
}

/// How shells, srun and Open MPI call an end by a signal; at the end of what they say.
struct Said {
  std::string_view words;
  int signal;
};
constexpr std::array kSaid = {
    Said{"Killed", SIGKILL},
    Said{"Out Of Memory", SIGKILL},  // srun
    Said{"Segmentation fault", SIGSEGV},
    Said{"Bus error", SIGBUS},
    Said{"Illegal instruction", SIGILL},
    Said{"Aborted", SIGABRT},
    Said{"Floating point exception", SIGFPE},
    Said{"Terminated", SIGTERM},
    Said{"Hangup", SIGHUP},
    Said{"CPU time limit exceeded", SIGXCPU},
    Said{"File size limit exceeded", SIGXFSZ},
};

}  // namespace

std::optional<int> ending_in(std::string_view line) {
  // systemd: "Main process exited, code=killed, status=9/KILL"
  constexpr std::array<std::string_view, 2> kUnits = {"code=killed, status", "code=dumped, status"};
  if (const auto signal = number_behind(line, kUnits)) return -*signal;
  constexpr std::array<std::string_view, 12> kCodes = {
      "exitcode",    "exit code",          "Exit code",        "Exit Code",
      "exit status", "return code",        "returncode",       "exit_code",
      "status code", "exited with status", "exited with code", "code=exited, status"};
  if (const auto code = number_behind(line, kCodes)) {
    const bool shells = *code > kShells && *code <= kShells + kLastSignal;
    return shells ? kShells - *code : *code;
  }
  constexpr std::array<std::string_view, 2> kSignals = {"signal", "Signal"};
  if (const auto signal = number_behind(line, kSignals); signal && *signal > 0) return -*signal;
  if (const auto signal = named_signal(line)) return -*signal;
  if (line.find("terminate called ") != std::string_view::npos) return -SIGABRT;  // C++ runtime
  std::string_view end = trim(line);
  for (const std::string_view tail : {"(core dumped)", "."}) {
    if (end.ends_with(tail)) end = trim(end.substr(0, end.size() - tail.size()));
  }
  for (const Said& said : kSaid) {
    // "run.sh: line 3: 4711 Killed                  python train.py": bash pads what it says
    const std::size_t at = end.find(said.words);
    if (at == std::string_view::npos) continue;
    std::string_view behind = end.substr(at + said.words.size());
    constexpr std::string_view kDumped = " (core dumped)";
    if (behind.starts_with(kDumped)) behind.remove_prefix(kDumped.size());
    if (behind.empty() || behind.starts_with("   ")) return -said.signal;
  }
  return {};
}

std::string ending_words(int code) {
  if (code >= 0) return "exit status " + std::to_string(code);
  const char* name = sigabbrev_np(-code);
  return "ended by signal SIG" + std::string(name == nullptr ? "?" : name);
}

}  // namespace rigwise::triage_parts
