#include "engine/text/text_steps.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "base/text.h"
#include "engine/text/bpe.h"

namespace rigwise::engine {

namespace {

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::size_t kMostSteps = 64;

/// Members of one step, by name; the first error is kept.
class StepReader {
 public:
  StepReader(const Json& step, std::string place) : step_(step), place_(std::move(place)) {
    if (!step_.is_object()) {
      fail("not an object");
      return;
    }
    if (const auto type = get<std::string>(step_, "type")) type_ = *type;
    if (type_.empty()) fail("has no type");
  }
  [[nodiscard]] const std::string& type() const { return type_; }
  [[nodiscard]] const std::string& place() const { return place_; }
  [[nodiscard]] const Json& json() const { return step_; }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }
  [[nodiscard]] bool has(const char* key) const {
    return step_.is_object() && step_.contains(key) && !step_[key].is_null();
  }

  bool flag(const char* key, std::optional<bool> fallback = {}) {
    const auto found = get<bool>(step_, key);
    if (!found && (has(key) || !fallback)) fail(std::string(key) + " must be true or false");
    return found.value_or(fallback.value_or(false));
  }
  std::string text(const char* key, std::optional<std::string> fallback = {}) {
    const auto found = get<std::string>(step_, key);
    if (!found && (has(key) || !fallback)) fail(std::string(key) + " must be a text");
    return found.value_or(fallback.value_or(""));
  }
  /// A text of one character.
  std::string character(const char* key, std::optional<std::string> fallback = {}) {
    std::string out = text(key, std::move(fallback));
    std::size_t behind = 0;
    if (out.empty() || (next_char(out, behind), behind != out.size()))
      fail(std::string(key) + " must be one character");
    return out;
  }
  std::int64_t count(const char* key) {
    const auto found = step_.is_object() ? step_.find(key) : step_.end();
    if (!step_.is_object() || found == step_.end() || !found->is_number_integer() ||
        found->get<std::int64_t>() < 0 || found->get<std::int64_t>() > 1 << 20) {
      fail(std::string(key) + " must be a whole number from 0 to 1048576");
      return 0;
    }
    return found->get<std::int64_t>();
  }
  /// {"String": "…"} or {"Regex": "…"}
  TextPattern pattern(std::vector<Regex>& regexes) {
    TextPattern out;
    const auto found = step_.is_object() ? step_.find("pattern") : step_.end();
    if (!step_.is_object() || found == step_.end() || !found->is_object() || found->size() != 1) {
      fail("pattern must be {\"String\": …} or {\"Regex\": …}");
      return out;
    }
    if (const auto literal = get<std::string>(*found, "String")) {
      out.literal = *literal;
    } else if (const auto regex = get<std::string>(*found, "Regex")) {
      compile(*regex, regexes, out);
    } else {
      fail("pattern must be {\"String\": …} or {\"Regex\": …}");
    }
    return out;
  }
  void compile(std::string_view pattern, std::vector<Regex>& regexes, TextPattern& out) {
    auto compiled = Regex::compile(pattern);
    if (!compiled) {
      if (!error_) error_ = std::move(compiled).error().at(place_);
      return;
    }
    out.regex = static_cast<int>(regexes.size());
    regexes.push_back(std::move(*compiled));
  }
  void fail(const std::string& why) {
    if (!error_) error_ = Error{Errc::malformed, place_ + ": " + why};
  }
  void unknown() {
    if (!error_)
      error_ = Error{Errc::unavailable,
                     place_ + ": type '" + clean_text(type_, 60) + "' is not supported",
                     "Byte-level BPE and the SentencePiece kind of BPE are."};
  }

 private:
  const Json& step_;
  std::string place_, type_;
  std::optional<Error> error_;
};

/// The steps under `key`, sequences taken apart. `members`: what a sequence calls its list.
Status each_step(const Json& tokenizer, const char* key, const char* members,
                 const std::function<Status(StepReader&)>& take) {
  const auto found = tokenizer.find(key);
  if (found == tokenizer.end() || found->is_null()) return Ok{};
  std::size_t steps = 0;
  const std::function<Status(const Json&, const std::string&)> walk =
      [&](const Json& step, const std::string& place) -> Status {
    StepReader reader(step, place);
    if (reader.error()) return *reader.error();
    if (++steps > kMostSteps) return Error{Errc::malformed, place + ": more than 64 steps"};
    if (reader.type() != "Sequence") {
      RW_CHECK(take(reader));
      if (reader.error()) return *reader.error();
      return Ok{};
    }
    const auto list = step.find(members);
    if (list == step.end() || !list->is_array())
      return Error{Errc::malformed, place + ": a Sequence without a list of " + members};
    std::size_t i = 0;
    for (const auto& inner : *list) RW_CHECK(walk(inner, place + "[" + std::to_string(i++) + "]"));
    return Ok{};
  };
  return walk(*found, key);
}

Status take_normalizer(StepReader& in, TextSteps& out) {
  Normalizer step;
  using Kind = Normalizer::Kind;
  const std::string& type = in.type();
  if (type == "Prepend") {
    step.kind = Kind::prepend;
    step.content = in.text("prepend");
  } else if (type == "Replace") {
    step.kind = Kind::replace;
    step.pattern = in.pattern(out.regexes);
    step.content = in.text("content");
  } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    step.form = type == "NFC"    ? NormalForm::nfc
                : type == "NFD"  ? NormalForm::nfd
                : type == "NFKC" ? NormalForm::nfkc
                                 : NormalForm::nfkd;
  } else if (type == "Lowercase") {
    step.kind = Kind::lower;
  } else if (type == "Strip") {
    step.kind = Kind::strip;
    step.left = in.flag("strip_left", true);
    step.right = in.flag("strip_right", true);
  } else if (type == "ByteLevel") {
    step.kind = Kind::byte_level;
  } else {
    in.unknown();
  }
  out.normalizers.push_back(std::move(step));
  return Ok{};
}

std::optional<PreTokenizer::Behavior> behavior_of(std::string_view name) {
  using Behavior = PreTokenizer::Behavior;
  if (name == "Removed") return Behavior::removed;
  if (name == "Isolated") return Behavior::isolated;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  return std::nullopt;
}

void take_metaspace(StepReader& in, PreTokenizer& step) {
  using Prepend = PreTokenizer::Prepend;
  step.kind = PreTokenizer::Kind::metaspace;
  step.replacement = in.character("replacement");
  step.splits = in.flag("split", true);
  const auto scheme = in.text("prepend_scheme", "always");
  if (scheme == "always" || scheme == "first" || scheme == "never") {
    step.prepend = scheme == "always"  ? Prepend::always
                   : scheme == "first" ? Prepend::first
                                       : Prepend::never;
  } else {
    in.fail("prepend_scheme '" + clean_text(scheme, 40) + "' is not always, first or never");
  }
  // The older form; both may be there
  if (in.has("add_prefix_space") && !in.flag("add_prefix_space", true)) {
    if (in.has("prepend_scheme") && step.prepend != Prepend::never)
      in.fail("add_prefix_space and prepend_scheme contradict each other");
    step.prepend = Prepend::never;
  }
}

Status take_pre_tokenizer(StepReader& in, TextSteps& out) {
  PreTokenizer step;
  using Kind = PreTokenizer::Kind;
  const std::string& type = in.type();
  const auto read_behavior = [&](std::optional<std::string> fallback) {
    const auto name = in.text("behavior", std::move(fallback));
    const auto behavior = behavior_of(name);
    if (!behavior) in.fail("behavior '" + clean_text(name, 40) + "' is not known");
    step.behavior = behavior.value_or(step.behavior);
  };
  if (type == "ByteLevel") {
    step.kind = Kind::byte_level;
    step.prefix_space = in.flag("add_prefix_space");
    step.splits = in.flag("use_regex", true);
    if (step.splits) in.compile(kGpt2Pattern, out.regexes, step.pattern);
  } else if (type == "Split") {
    step.pattern = in.pattern(out.regexes);
    step.invert = in.flag("invert");
    read_behavior({});
  } else if (type == "Digits") {
    step.kind = Kind::digits;
    step.behavior = in.flag("individual_digits") ? PreTokenizer::Behavior::isolated
                                                 : PreTokenizer::Behavior::contiguous;
  } else if (type == "Metaspace") {
    take_metaspace(in, step);
  } else if (type == "Whitespace") {
    in.compile(R"(\w+|[^\w\s]+)", out.regexes, step.pattern);
    step.behavior = PreTokenizer::Behavior::removed;
    step.invert = true;
  } else if (type == "WhitespaceSplit") {
    step.kind = Kind::white;
    step.behavior = PreTokenizer::Behavior::removed;
  } else if (type == "Punctuation") {
    step.kind = Kind::punctuation;
    read_behavior("Isolated");
  } else {
    in.unknown();
  }
  out.pre_tokenizers.push_back(std::move(step));
  return Ok{};
}

Status take_decoder(StepReader& in, TextSteps& out) {
  Decoder step;
  using Kind = Decoder::Kind;
  const std::string& type = in.type();
  if (type == "ByteLevel") {
    step.kind = Kind::byte_level;
  } else if (type == "Replace") {
    step.kind = Kind::replace;
    step.pattern = in.pattern(out.regexes);
    step.content = in.text("content");
  } else if (type == "ByteFallback") {
    step.kind = Kind::byte_fallback;
  } else if (type == "Strip") {
    step.kind = Kind::strip;
    step.content = in.character("content");
    step.start = in.count("start");
    step.stop = in.count("stop");
  } else if (type == "Metaspace") {
    PreTokenizer read;
    take_metaspace(in, read);
    step.kind = Kind::metaspace;
    step.content = read.replacement;
    step.drops_first = read.prepend != PreTokenizer::Prepend::never;
  } else if (type != "Fuse") {
    in.unknown();
  }
  out.decoders.push_back(std::move(step));
  return Ok{};
}

Error exhausted_error() {
  return Error{Errc::unavailable, "a pattern of the tokenizer takes too many steps on this text"};
}

/// Calls take(begin, end, is_match) for the matches and what lies between them, in order.
/// False: the pattern gave up.
template <class Take>
bool each_match(const TextSteps& steps, const TextPattern& pattern, std::string_view text,
                TextScratch& scratch, Take take) {
  std::size_t done = 0;
  const auto match = [&](std::size_t begin, std::size_t end) {
    if (begin > done) take(done, begin, false);
    take(begin, end, true);
    done = end;
  };
  if (pattern.regex < 0) {
    if (!pattern.literal.empty()) {
      for (auto at = text.find(pattern.literal); at != std::string_view::npos;
           at = text.find(pattern.literal, at + pattern.literal.size()))
        match(at, at + pattern.literal.size());
    }
  } else {
    const auto index = static_cast<std::size_t>(pattern.regex);
    bool exhausted = false;
    for (std::size_t from = 0; from <= text.size();) {
      const auto found = steps.regexes[index].find(text, from, scratch[index], &exhausted);
      if (!found) break;
      match(std::max(found->begin, done), std::max(found->end, done));
      from = found->end;
      if (found->begin == found->end) {  // nothing matched: on by one character
        if (from >= text.size()) break;
        next_char(text, from);
      }
    }
    if (exhausted) return false;
  }
  if (done < text.size()) take(done, text.size(), false);
  return true;
}

template <class Is, class Take>
void each_char_match(std::string_view text, Is is, Take take) {
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    if (!is(next_char(text, at))) continue;
    if (begin > done) take(done, begin, false);
    take(begin, at, true);
    done = at;
  }
  if (done < text.size()) take(done, text.size(), false);
}

Result<std::string> replaced(const TextSteps& steps, const TextPattern& pattern,
                             const std::string& content, std::string_view text,
                             TextScratch& scratch) {
  std::string out;
  out.reserve(text.size());
  const bool whole =
      each_match(steps, pattern, text, scratch, [&](std::size_t begin, std::size_t end, bool is) {
        if (is)
          out += content;
        else
          out.append(text, begin, end - begin);
      });
  if (!whole) return exhausted_error();
  return out;
}

std::string_view stripped(std::string_view text, bool left, bool right) {
  while (left && !text.empty()) {
    std::size_t behind = 0;
    if (!is_white(next_char(text, behind))) break;
    text.remove_prefix(behind);
  }
  while (right && !text.empty()) {
    const std::size_t begin = char_before(text, text.size());
    std::size_t behind = begin;
    if (!is_white(next_char(text, behind))) break;
    text = text.substr(0, begin);
  }
  return text;
}

using Words = std::vector<std::pair<std::size_t, std::size_t>>;

/// Joins matches and gaps as a split's behavior says; places are appended to `words`.
class Splitter {
 public:
  Splitter(PreTokenizer::Behavior behavior, bool invert, std::size_t base, Words& words)
      : behavior_(behavior), invert_(invert), base_(base), words_(words), first_(words.size()) {}

  void take(std::size_t begin, std::size_t end, bool is_match) {
    is_match = is_match != invert_;
    const bool starts = words_.size() == first_;
    bool joins = false;
    using Behavior = PreTokenizer::Behavior;
    switch (behavior_) {
      case Behavior::removed:
        if (is_match) return;
        break;
      case Behavior::isolated:
        break;
      case Behavior::contiguous:
        joins = is_match == previous_match_;
        break;
      case Behavior::merged_with_previous:
        joins = is_match && !previous_match_;
        break;
      case Behavior::merged_with_next:
        // A match belongs to the gap behind it; of several matches in a row, to the last alone
        joins = previous_match_ && !is_match;
        break;
    }
    previous_match_ = is_match;
    if (joins && !starts) {
      words_.back().second = base_ + end;
    } else if (end > begin) {
      words_.emplace_back(base_ + begin, base_ + end);
    }
  }

 private:
  PreTokenizer::Behavior behavior_;
  bool invert_;
  std::size_t base_;
  Words& words_;
  std::size_t first_;
  bool previous_match_ = false;
};

bool split_words(const TextSteps& steps, const PreTokenizer& step, PreTokenized& text,
                 TextScratch& scratch) {
  Words out;
  out.reserve(text.words.size() + text.text.size() / 6);
  for (const auto& [begin, end] : text.words) {
    const auto word = std::string_view(text.text).substr(begin, end - begin);
    Splitter splitter(step.behavior, step.invert, begin, out);
    const auto take = [&](std::size_t b, std::size_t e, bool is) { splitter.take(b, e, is); };
    switch (step.kind) {
      case PreTokenizer::Kind::digits:
        each_char_match(word, is_numeric, take);
        break;
      case PreTokenizer::Kind::white:
        each_char_match(word, is_white, take);
        break;
      case PreTokenizer::Kind::punctuation:
        each_char_match(word, is_punctuation, take);
        break;
      default:
        if (!each_match(steps, step.pattern, word, scratch, take)) return false;
    }
  }
  text.words = std::move(out);
  return true;
}

/// Rewrites every word; `change` appends the new one.
template <class Change>
void rewrite_words(PreTokenized& text, Change change) {
  std::string out;
  out.reserve(text.text.size() + text.words.size());
  for (auto& [begin, end] : text.words) {
    const std::size_t at = out.size();
    change(std::string_view(text.text).substr(begin, end - begin), out);
    begin = at, end = out.size();
  }
  text.text = std::move(out);
}

bool apply_byte_level(const TextSteps& steps, const PreTokenizer& step, bool is_last,
                      PreTokenized& text, TextScratch& scratch) {
  const bool grows =
      step.prefix_space && std::any_of(text.words.begin(), text.words.end(),
                                       [&](const auto& w) { return text.text[w.first] != ' '; });
  if (grows) {
    rewrite_words(text, [](std::string_view word, std::string& out) {
      if (word.front() != ' ') out += ' ';
      out += word;
    });
  }
  if (step.splits && !split_words(steps, step, text, scratch)) return false;
  if (is_last) {
    text.byte_level = true;
  } else {
    rewrite_words(text, [](std::string_view word, std::string& out) {
      for (const char byte : word)
        append_utf8(out, byte_level_char(static_cast<unsigned char>(byte)));
    });
  }
  return true;
}

bool apply_metaspace(const TextSteps& steps, const PreTokenizer& step, bool at_start,
                     PreTokenized& text, TextScratch& scratch) {
  bool is_first = at_start;
  rewrite_words(text, [&](std::string_view word, std::string& out) {
    const bool has_mark = word.front() == ' ' || word.starts_with(step.replacement);
    const bool wanted = step.prepend == PreTokenizer::Prepend::always ||
                        (step.prepend == PreTokenizer::Prepend::first && is_first);
    is_first = false;
    if (wanted && !has_mark) out += step.replacement;
    for (const char c : word) {
      if (c == ' ')
        out += step.replacement;
      else
        out += c;
    }
  });
  if (!step.splits) return true;
  PreTokenizer split;
  split.pattern.literal = step.replacement;
  split.behavior = PreTokenizer::Behavior::merged_with_next;
  return split_words(steps, split, text, scratch);
}

// --- decoders

std::string decode_byte_level(const std::vector<std::string>& tokens) {
  std::string bytes;
  for (const auto& token : tokens) {
    const std::size_t before = bytes.size();
    for (std::size_t at = 0; at < token.size();) {
      const auto byte = byte_level_byte(next_char(token, at));
      if (!byte) {  // a token that is not spelled that way: as it is
        bytes.resize(before);
        bytes += token;
        break;
      }
      bytes += static_cast<char>(*byte);
    }
  }
  return replace_invalid_utf8(bytes);
}

std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<char>(static_cast<unsigned char>(value));
}

std::vector<std::string> decode_byte_fallback(std::vector<std::string> tokens) {
  std::vector<std::string> out;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (first_invalid_utf8(bytes) == std::string::npos) {
      out.push_back(bytes);
    } else {
      out.insert(out.end(), bytes.size(), "\xEF\xBF\xBD");
    }
    bytes.clear();
  };
  for (auto& token : tokens) {
    if (const auto byte = fallback_byte(token)) {
      bytes += *byte;
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  return out;
}

std::string strip_chars(std::string_view token, const Decoder& step) {
  for (std::int64_t i = 0; i < step.start && token.starts_with(step.content); ++i)
    token.remove_prefix(step.content.size());
  for (std::int64_t i = 0; i < step.stop && token.ends_with(step.content); ++i)
    token.remove_suffix(step.content.size());
  return std::string(token);
}

std::string decode_metaspace(std::string_view token, const Decoder& step, bool is_first) {
  std::string out;
  for (std::size_t at = 0; at < token.size();) {
    if (token.substr(at).starts_with(step.content)) {
      if (!is_first || !step.drops_first) out += ' ';
      at += step.content.size();
    } else {
      out += token[at++];
    }
  }
  return out;
}

}  // namespace

Result<TextSteps> TextSteps::make(const Json& tokenizer) {
  TextSteps out;
  RW_CHECK(each_step(tokenizer, "normalizer", "normalizers",
                     [&](StepReader& in) { return take_normalizer(in, out); }));
  RW_CHECK(each_step(tokenizer, "pre_tokenizer", "pretokenizers",
                     [&](StepReader& in) { return take_pre_tokenizer(in, out); }));
  RW_CHECK(each_step(tokenizer, "decoder", "decoders",
                     [&](StepReader& in) { return take_decoder(in, out); }));
  out.has_decoder = tokenizer.contains("decoder") && !tokenizer["decoder"].is_null();
  return out;
}

Result<std::string> normalize(const TextSteps& steps, std::string_view text, TextScratch& scratch) {
  std::string out(text);
  for (const auto& step : steps.normalizers) {
    switch (step.kind) {
      case Normalizer::Kind::prepend:
        if (!out.empty()) out.insert(0, step.content);
        break;
      case Normalizer::Kind::replace: {
        RW_TRY(out, replaced(steps, step.pattern, step.content, out, scratch));
        break;
      }
      case Normalizer::Kind::form:
        if (!is_ascii(out)) out = normal_form(out, step.form);
        break;
      case Normalizer::Kind::lower:
        out = lower_case(out);
        break;
      case Normalizer::Kind::strip:
        out = std::string(stripped(out, step.left, step.right));
        break;
      case Normalizer::Kind::byte_level:
        out = byte_level_text(out);
        break;
    }
  }
  return out;
}

Result<PreTokenized> pre_tokenize(const TextSteps& steps, std::string_view text, bool at_start,
                                  TextScratch& scratch) {
  PreTokenized out;
  if (text.empty()) return out;
  out.text = text;
  out.words = {{0, text.size()}};
  for (const auto& step : steps.pre_tokenizers) {
    bool whole = true;
    if (step.kind == PreTokenizer::Kind::byte_level)
      whole = apply_byte_level(steps, step, &step == &steps.pre_tokenizers.back(), out, scratch);
    else if (step.kind == PreTokenizer::Kind::metaspace)
      whole = apply_metaspace(steps, step, at_start, out, scratch);
    else
      whole = split_words(steps, step, out, scratch);
    if (!whole) return exhausted_error();
  }
  return out;
}

std::string token_surface(const TextSteps& steps, std::string_view token) {
  const auto spells_bytes = [](const auto& step) {
    return step.kind == std::decay_t<decltype(step)>::Kind::byte_level;
  };
  std::string out;
  if (std::any_of(steps.pre_tokenizers.begin(), steps.pre_tokenizers.end(), spells_bytes) ||
      std::any_of(steps.normalizers.begin(), steps.normalizers.end(), spells_bytes)) {
    for (std::size_t at = 0; at < token.size();) {
      const auto byte = byte_level_byte(next_char(token, at));
      if (!byte) return std::string(token);
      out += static_cast<char>(*byte);
    }
    return out;
  }
  if (const auto byte = fallback_byte(token)) return std::string(1, *byte);
  constexpr std::string_view kMark = "\xE2\x96\x81";
  for (std::size_t at = 0; at < token.size();) {
    if (token.substr(at).starts_with(kMark)) {
      out += ' ';
      at += kMark.size();
    } else {
      out += token[at++];
    }
  }
  return out;
}

std::string decode_tokens(const TextSteps& steps, std::vector<std::string> tokens) {
  if (!steps.has_decoder) return join(tokens, " ");
  TextScratch scratch;
  for (const auto& regex : steps.regexes) scratch.emplace_back(regex);
  for (const auto& step : steps.decoders) {
    switch (step.kind) {
      case Decoder::Kind::byte_level:
        tokens = {decode_byte_level(tokens)};
        break;
      case Decoder::Kind::fuse:
        tokens = {join(tokens, "")};
        break;
      case Decoder::Kind::byte_fallback:
        tokens = decode_byte_fallback(std::move(tokens));
        break;
      case Decoder::Kind::replace:
        for (auto& token : tokens) {
          auto changed = replaced(steps, step.pattern, step.content, token, scratch);
          if (changed) token = std::move(*changed);
        }
        break;
      case Decoder::Kind::strip:
        for (auto& token : tokens) token = strip_chars(token, step);
        break;
      case Decoder::Kind::metaspace:
        for (std::size_t i = 0; i < tokens.size(); ++i)
          tokens[i] = decode_metaspace(tokens[i], step, i == 0);
        break;
    }
  }
  return join(tokens, "");
}

}  // namespace rigwise::engine
