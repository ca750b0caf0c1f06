#include "engine/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/text.h"

namespace rigwise::engine {

namespace {

constexpr std::size_t kMostPatternBytes = 64 << 10;
constexpr std::uint32_t kMostSteps = 10'000'000, kMostHeapKib = 64 << 10;
// Unicode's White_Space, as the inside of a class
constexpr std::string_view kSpace = R"(\x{09}-\x{0D}\x{85}\p{Z})";
// Oniguruma's \w; PCRE2 before 10.43 leaves marks out. Outside of classes it has Latin-1's
// fractions and superscripts too
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kLoneWord = R"(\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";

/// \s, \S, \w and \W in terms of Unicode's properties, inside and outside of classes.
std::string with_unicode_classes(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      const char known = next == 's' || next == 'S' ? 's' : next == 'w' || next == 'W' ? 'w' : 0;
      const bool negated = next == 'S' || next == 'W';
      if (known != 0 && !(negated && in_class)) {
        std::string inside(known == 's' ? kSpace : kWord);
        if (known == 'w' && !in_class) inside += kLoneWord;
        out += in_class ? inside : negated ? "[^" + inside + "]" : "[" + inside + "]";
      } else {
        out += c;
        out += next;
      }
      continue;
    }
    if (c == '[' && !in_class) {
      in_class = true;
    } else if (c == ']' && in_class) {
      in_class = false;
    }
    out += c;
  }
  return out;
}

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct MatchDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct ContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

PCRE2_SPTR units(std::string_view text) {
  // PCRE2 wants a pointer even for nothing
  return reinterpret_cast<PCRE2_SPTR>(text.data() == nullptr ? "" : text.data());
}

}  // namespace

struct Regex::Data {
  std::unique_ptr<pcre2_code, CodeDeleter> code;
  std::unique_ptr<pcre2_match_context, ContextDeleter> context;
};

struct Regex::Scratch::Data {
  std::unique_ptr<pcre2_match_data, MatchDeleter> match;
};

Regex::Regex() : data_(std::make_unique<Data>()) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Regex::Scratch::Scratch(const Regex& regex) : data_(std::make_unique<Data>()) {
  data_->match.reset(pcre2_match_data_create_from_pattern(regex.data_->code.get(), nullptr));
}
Regex::Scratch::Scratch(Scratch&&) noexcept = default;
Regex::Scratch& Regex::Scratch::operator=(Scratch&&) noexcept = default;
Regex::Scratch::~Scratch() = default;

Result<Regex> Regex::compile_with(std::string_view pattern, unsigned options) {
  const std::string shown = "pattern '" + clean_text(pattern, 120) + "'";
  if (pattern.size() > kMostPatternBytes)
    return Error{Errc::unavailable, shown + ": longer than 64 KiB"};
  const std::string text = with_unicode_classes(pattern);
  int code = 0;
  PCRE2_SIZE offset = 0;
  Regex out;
  out.data_->code.reset(pcre2_compile(units(text), text.size(),
                                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | options,
                                      &code, &offset, nullptr));
  if (!out.data_->code) {
    PCRE2_UCHAR message[160] = {};
    pcre2_get_error_message(code, message, sizeof message);
    return Error{Errc::malformed,
                 shown + ": " + clean_text(reinterpret_cast<const char*>(message), 160)};
  }
  pcre2_jit_compile(out.data_->code.get(), PCRE2_JIT_COMPLETE);  // without it: the interpreter
  out.data_->context.reset(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(out.data_->context.get(), kMostSteps);
  pcre2_set_heap_limit(out.data_->context.get(), kMostHeapKib);
  return out;
}

Result<Regex> Regex::compile(std::string_view pattern) {
  return compile_with(pattern, PCRE2_MULTILINE);
}

Result<Regex> Regex::compile_python(std::string_view pattern) {
  return compile_with(pattern, PCRE2_DOLLAR_ENDONLY);
}

std::optional<Regex::Match> Regex::find(std::string_view text, std::size_t from, Scratch& scratch,
                                        bool* exhausted) const {
  const int found =
      pcre2_match(data_->code.get(), units(text), text.size(), from, PCRE2_NO_UTF_CHECK,
                  scratch.data_->match.get(), data_->context.get());
  if (found < 0) {
    if (found != PCRE2_ERROR_NOMATCH && exhausted != nullptr) *exhausted = true;
    return std::nullopt;
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(scratch.data_->match.get());
  if (ends[0] > ends[1]) return std::nullopt;  // \K inside a lookahead can do that
  return Match{ends[0], ends[1]};
}

bool Regex::matches_whole(std::string_view text) const {
  Scratch scratch(*this);
  // Not the JIT: it cannot be told to match to the end
  const int found = pcre2_match(data_->code.get(), units(text), text.size(), 0,
                                PCRE2_ANCHORED | PCRE2_ENDANCHORED, scratch.data_->match.get(),
                                data_->context.get());
  return found >= 0;
}

}  // namespace rigwise::engine
