// Secrets: keeps tokens and passwords out of the run directory. What the command itself prints goes
// to its log unchanged; the scanner tells that it did, so that a warning can be recorded.
//
// Known values come from the environment (by the variable's name) and from argv (by the flag's).
// How far one reaches depends on how much it would hide by accident:
//
//   value                                              is masked
//   8 characters or more                               wherever it stands, inside a word too
//   4 to 7 that mix letters with digits or signs       as a word of its own ("hunter2")
//   4 to 7 letters; a word behind a name that only     as a whole text: an argument, a setting, a
//   ends in KEY                                        name ("admin")
//   1 to 3; numbers below 8 digits; words of every     by flag name only: "--password abc"
//   setting (true, none, main, train, default, …)
//
// What looks like a secret is masked whether its value is known or not (base/secrets.h).
//
// Threads: Secrets is immutable after construction and may be shared; a SecretScanner has one
// owner. Memory: values are kept in this process only and never written.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/secrets.h"
#include "rigwise/run.h"

namespace rigwise {

class Secrets {
 public:
  Secrets() = default;
  /// Environment as "NAME=value". At most 256 values: those of argv first, then variables that are
  /// surely secret, then those whose name ends in KEY.
  Secrets(const std::vector<std::string>& argv, const std::vector<std::string>& env);

  /// argv with secrets as "***": by flag name, token shape, password in a URL, or known value.
  [[nodiscard]] std::vector<std::string> mask_argv(const std::vector<std::string>& argv) const;

  /// Any text (a fact, a git remote, a path, a log line that a report quotes): known values as far
  /// as they reach, and whatever mask_secrets() hides.
  [[nodiscard]] std::string mask(std::string_view text) const;

  /// Every text of it. The hash stays that of the statement as it was sealed.
  [[nodiscard]] Statement mask(Statement statement) const;
  /// Versions, variables and facts; names of variables are no secret.
  void mask(Environment& environment) const;
  /// Paths and devices of its mounts: a network mount's may hold a password.
  void mask(Rig& rig) const;

  enum class Reach { anywhere, word, whole };
  struct Value {
    std::string name = {};  // "HF_TOKEN", "--api-key"
    std::string value = {};
    Reach reach = Reach::anywhere;
    int rank = 0;  // the lower, the surer
  };
  [[nodiscard]] const std::vector<Value>& values() const { return values_; }

 private:
  std::vector<Value> values_;  // longest first
};

/// Watches a stream for known secret values, over chunk borders: the 64 surest that are masked
/// anywhere or as a word.
class SecretScanner {
 public:
  explicit SecretScanner(const Secrets& secrets);
  /// Names whose value was printed for the first time in this stream with these bytes. A value that
  /// must be a word of its own is seen with the byte behind it.
  std::vector<std::string> push(std::string_view bytes);

 private:
  std::vector<Secrets::Value> needles_;
  bool tail_is_all_ = true;  // of the stream so far
  std::string tail_;         // as much of the last chunk as a value cut in two may need
  std::size_t longest_ = 0;  // of the values, and a byte on either side
};

/// "the command printed the value of HF_TOKEN": for RunInfo::warnings.
std::string secret_warning(std::string_view name);

}  // namespace rigwise
