// Regular expressions as tokenizer.json and PEFT mean them: Unicode, with lookahead, run by PCRE2's
// JIT over UTF-8 that was checked before. Patterns come from foreign files: matching is bounded.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "rigwise/result.h"

namespace rigwise::engine {

class Regex {
 public:
  /// The dialect is Oniguruma's as far as tokenizers use it: \s is Unicode's white space (PCRE2
  /// alone would add U+180E), \w has marks too, \d and \p{…} are Unicode's, ^ and $ are at lines'
  /// ends. Errors: malformed (with the place in the pattern), unavailable (a pattern above 64 KiB).
  static Result<Regex> compile(std::string_view pattern);
  /// The dialect of Python's re: ^ and $ at the text's ends.
  static Result<Regex> compile_python(std::string_view pattern);

  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;
  ~Regex();

  struct Match {
    std::size_t begin = 0, end = 0;  // bytes
  };
  /// One search's memory; each thread needs its own.
  class Scratch {
   public:
    explicit Scratch(const Regex& regex);
    Scratch(Scratch&&) noexcept;
    Scratch& operator=(Scratch&&) noexcept;
    ~Scratch();

   private:
    friend class Regex;
    struct Data;
    std::unique_ptr<Data> data_;
  };

  /// The next match at or after `from`. `text` must be valid UTF-8 and `from` a character's start.
  /// No match, or a match that would take more steps than are allowed: nothing; the latter also
  /// sets *exhausted.
  [[nodiscard]] std::optional<Match> find(std::string_view text, std::size_t from, Scratch& scratch,
                                          bool* exhausted = nullptr) const;

  /// Does the pattern match all of the text? Checks UTF-8 itself; for rare use.
  [[nodiscard]] bool matches_whole(std::string_view text) const;

 private:
  struct Data;
  Regex();
  static Result<Regex> compile_with(std::string_view pattern, unsigned options);
  std::unique_ptr<Data> data_;
};

}  // namespace rigwise::engine
