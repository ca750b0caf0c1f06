// Secrets: keeps tokens and passwords out of the run directory. What the command itself prints goes
// to its log unchanged; the scanner tells that it did, so that a warning can be recorded.
//
// Threads: Secrets is immutable after construction and may be shared; a SecretScanner has one
// owner. Memory: values are kept in this process only and never written.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace rigwise {

class Secrets {
 public:
  Secrets() = default;
  /// Secret values known from the environment ("NAME=value"; NAME contains TOKEN, KEY, SECRET,
  /// PASSWORD, PASSWD, CREDENTIAL or AUTH; value of 8 characters or more) and from argv (values of
  /// --token, --api-key …).
  Secrets(const std::vector<std::string>& argv, const std::vector<std::string>& env);

  /// argv with secrets as "***": by flag name, token shape, password in a URL, or known value.
  [[nodiscard]] std::vector<std::string> mask_argv(const std::vector<std::string>& argv) const;

  /// Any text (a fact, a git remote, a path, a log line that a report quotes): known values, token
  /// shapes, passwords in URLs and values of secret-looking flags become "***".
  [[nodiscard]] std::string mask(std::string_view text) const;

  struct Value {
    std::string name = {};  // "HF_TOKEN", "--api-key"
    std::string value = {};
  };
  [[nodiscard]] const std::vector<Value>& values() const { return values_; }

 private:
  std::vector<Value> values_;  // longest first
};

/// Token shapes, URL passwords and secret-looking flags only: for readers that know no environment.
std::string mask_secrets(std::string_view text);

/// Does this environment variable's or flag's name look like a secret's?
bool is_secret_name(std::string_view name);

/// Watches a stream for known secret values, over chunk borders.
class SecretScanner {
 public:
  explicit SecretScanner(const Secrets& secrets);
  /// Names whose value was printed for the first time in this stream with these bytes.
  std::vector<std::string> push(std::string_view bytes);

 private:
  std::vector<Secrets::Value> needles_;
  std::string tail_;  // as much of the last chunk as a value cut in two may need
  std::size_t longest_ = 0;
};

/// "the command printed the value of HF_TOKEN": for RunInfo::warnings.
std::string secret_warning(std::string_view name);

}  // namespace rigwise
