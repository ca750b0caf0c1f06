#include <algorithm>
#include <array>

#include "logs/meaning.h"
#include "logs/scan.h"

namespace rigwise::logs {

namespace {

struct UnitWord {
  std::string_view text;  // lower case
  Unit unit;
};

constexpr std::array kUnits = {
    UnitWord{"s", Unit::second},
    UnitWord{"sec", Unit::second},
    UnitWord{"secs", Unit::second},
    UnitWord{"second", Unit::second},
    UnitWord{"seconds", Unit::second},
    UnitWord{"ms", Unit::millisecond},
    UnitWord{"msec", Unit::millisecond},
    UnitWord{"milliseconds", Unit::millisecond},
    UnitWord{"us", Unit::microsecond},
    UnitWord{"min", Unit::minute},
    UnitWord{"mins", Unit::minute},
    UnitWord{"minutes", Unit::minute},
    UnitWord{"h", Unit::hour},
    UnitWord{"hours", Unit::hour},
    UnitWord{"it/s", Unit::steps_per_s},
    UnitWord{"it/sec", Unit::steps_per_s},
    UnitWord{"its/s", Unit::steps_per_s},
    UnitWord{"iter/s", Unit::steps_per_s},
    UnitWord{"iters/s", Unit::steps_per_s},
    UnitWord{"iter/sec", Unit::steps_per_s},
    UnitWord{"iters/sec", Unit::steps_per_s},
    UnitWord{"step/s", Unit::steps_per_s},
    UnitWord{"steps/s", Unit::steps_per_s},
    UnitWord{"step/sec", Unit::steps_per_s},
    UnitWord{"steps/sec", Unit::steps_per_s},
    UnitWord{"batch/s", Unit::steps_per_s},
    UnitWord{"ba/s", Unit::steps_per_s},
    UnitWord{"batches/s", Unit::steps_per_s},
    UnitWord{"batches/sec", Unit::steps_per_s},
    UnitWord{"s/it", Unit::s_per_step},
    UnitWord{"s/iter", Unit::s_per_step},
    UnitWord{"sec/it", Unit::s_per_step},
    UnitWord{"sec/iter", Unit::s_per_step},
    UnitWord{"s/step", Unit::s_per_step},
    UnitWord{"sec/step", Unit::s_per_step},
    UnitWord{"s/batch", Unit::s_per_step},
    UnitWord{"sec/batch", Unit::s_per_step},
    UnitWord{"ms/step", Unit::ms_per_step},
    UnitWord{"ms/it", Unit::ms_per_step},
    UnitWord{"ms/iter", Unit::ms_per_step},
    UnitWord{"ms/batch", Unit::ms_per_step},
    UnitWord{"us/step", Unit::us_per_step},
    UnitWord{"tok/s", Unit::tokens_per_s},
    UnitWord{"toks/s", Unit::tokens_per_s},
    UnitWord{"tok/sec", Unit::tokens_per_s},
    UnitWord{"toks/sec", Unit::tokens_per_s},
    UnitWord{"tokens/s", Unit::tokens_per_s},
    UnitWord{"tokens/sec", Unit::tokens_per_s},
    UnitWord{"tokens/second", Unit::tokens_per_s},
    UnitWord{"token/s", Unit::tokens_per_s},
    UnitWord{"t/s", Unit::tokens_per_s},
    UnitWord{"tps", Unit::tokens_per_s},
    UnitWord{"words/s", Unit::tokens_per_s},
    UnitWord{"tok/s/gpu", Unit::tokens_per_s_per_device},
    UnitWord{"tokens/s/gpu", Unit::tokens_per_s_per_device},
    UnitWord{"tokens/sec/gpu", Unit::tokens_per_s_per_device},
    UnitWord{"tokens/gpu/s", Unit::tokens_per_s_per_device},
    UnitWord{"tokens/s/device", Unit::tokens_per_s_per_device},
    UnitWord{"tokens/sec/device", Unit::tokens_per_s_per_device},
    UnitWord{"sample/s", Unit::samples_per_s},
    UnitWord{"samples/s", Unit::samples_per_s},
    UnitWord{"samples/sec", Unit::samples_per_s},
    UnitWord{"samples/second", Unit::samples_per_s},
    UnitWord{"example/s", Unit::samples_per_s},
    UnitWord{"examples/s", Unit::samples_per_s},
    UnitWord{"examples/sec", Unit::samples_per_s},
    UnitWord{"ex/s", Unit::samples_per_s},
    UnitWord{"exs/s", Unit::samples_per_s},
    UnitWord{"img/s", Unit::samples_per_s},
    UnitWord{"imgs/s", Unit::samples_per_s},
    UnitWord{"img/sec", Unit::samples_per_s},
    UnitWord{"imgs/sec", Unit::samples_per_s},
    UnitWord{"image/s", Unit::samples_per_s},
    UnitWord{"images/s", Unit::samples_per_s},
    UnitWord{"images/sec", Unit::samples_per_s},
    UnitWord{"images/second", Unit::samples_per_s},
    UnitWord{"seq/s", Unit::samples_per_s},
    UnitWord{"seqs/s", Unit::samples_per_s},
    UnitWord{"seq/sec", Unit::samples_per_s},
    UnitWord{"sequences/s", Unit::samples_per_s},
    UnitWord{"sequences/sec", Unit::samples_per_s},
    UnitWord{"frames/s", Unit::samples_per_s},
    UnitWord{"fps", Unit::samples_per_s},
    UnitWord{"samples/s/gpu", Unit::samples_per_s_per_device},
    UnitWord{"images/sec/gpu", Unit::samples_per_s_per_device},
    UnitWord{"img/s/gpu", Unit::samples_per_s_per_device},
    UnitWord{"/s", Unit::per_s},
    UnitWord{"/sec", Unit::per_s},
    UnitWord{"/s/gpu", Unit::per_s_per_device},
    UnitWord{"/s/device", Unit::per_s_per_device},
    UnitWord{"g", Unit::gib},
    UnitWord{"gb", Unit::gib},
    UnitWord{"gib", Unit::gib},
    UnitWord{"mb", Unit::mib},
    UnitWord{"mib", Unit::mib},
    UnitWord{"kb", Unit::kib},
    UnitWord{"kib", Unit::kib},
    UnitWord{"bytes", Unit::byte},
    UnitWord{"k", Unit::kilo},
    UnitWord{"m", Unit::mega},
    UnitWord{"b", Unit::giga},
    UnitWord{"mfu", Unit::mfu},
    UnitWord{"tflops", Unit::other},
    UnitWord{"tflop/s", Unit::other},
    UnitWord{"gflops", Unit::other},
    UnitWord{"w", Unit::other},
    UnitWord{"c", Unit::other},
    UnitWord{"mb/s", Unit::other},
    UnitWord{"gb/s", Unit::other},
    UnitWord{"mib/s", Unit::other},
    UnitWord{"gib/s", Unit::other},
    UnitWord{"kb/s", Unit::other},
    UnitWord{"b/s", Unit::other},
    UnitWord{"tokens", Unit::other},
    UnitWord{"samples", Unit::other},
    UnitWord{"examples", Unit::other},
    UnitWord{"batches", Unit::other},
    UnitWord{"params", Unit::other},
    UnitWord{"x", Unit::other},
};

// The same sorted, and where the units of each first byte begin.
constexpr auto kSorted = [] {
  auto sorted = kUnits;
  std::sort(sorted.begin(), sorted.end(),
            [](const UnitWord& a, const UnitWord& b) { return a.text < b.text; });
  return sorted;
}();
constexpr auto kBegins = [] {
  std::array<std::uint8_t, 129> begins{};
  std::size_t at = 0;
  for (std::size_t byte = 0; byte < begins.size(); ++byte) {
    while (at < kSorted.size() && static_cast<std::size_t>(kSorted[at].text[0]) < byte) ++at;
    begins[byte] = static_cast<std::uint8_t>(at);
  }
  return begins;
}();
static_assert(kSorted.size() < 256);

Unit find_unit(std::string_view word) {
  if (word.empty() || word.size() > 18) return Unit::none;
  const auto first = static_cast<unsigned char>(lower_byte(word[0]));
  if (first > 127) return Unit::none;
  for (std::size_t i = kBegins[first]; i < kBegins[first + 1u]; ++i)
    if (kSorted[i].text.size() == word.size() && starts_with_word(word, kSorted[i].text))
      return kSorted[i].unit;
  return Unit::none;
}

/// Bytes of letters and '/' at the start.
std::size_t unit_length(std::string_view text, std::size_t at) {
  const std::size_t from = at;
  while (at < text.size() && (is_letter(text[at]) ||
                              (text[at] == '/' && at + 1 < text.size() && is_letter(text[at + 1]))))
    ++at;
  return at - from;
}

}  // namespace

UnitRead scan_unit(std::string_view text) {
  UnitRead read;
  if (text.empty()) return read;
  if (text[0] == '%') {
    read.unit = Unit::percent;
    read.size = 1;
    return read;
  }
  std::size_t at = 0;
  while (at < text.size() && at < 3 && text[at] == ' ') ++at;
  if (at == text.size() || (!is_letter(text[at]) && text[at] != '/')) {
    if (at < text.size() && text[at] == '%') {
      read.unit = Unit::percent;
      read.size = at + 1;
    }
    return read;
  }
  std::size_t size = unit_length(text, at);
  const auto behind = [&](std::size_t end) { return end < text.size() ? text[end] : ' '; };
  if (size == 0 || is_word(behind(at + size)) || behind(at + size) == '=') return read;
  std::string_view word = text.substr(at, size);
  // A single letter is a unit only where it touches its number; "s" may stand apart.
  if (at > 0 && size == 1 && lower_byte(word[0]) != 's') return read;
  if (at > 0 && behind(at + size) == ':') return read;  // the next key
  read.unit = find_unit(word);
  if (read.unit == Unit::none) {
    // "12.3k tok/s" and "12.3ktok/s"
    const char prefix = lower_byte(word[0]);
    const double scale = prefix == 'k' ? 1e3 : prefix == 'm' ? 1e6 : 0;
    if (scale != 0 && size > 2) {
      const Unit rest = find_unit(word.substr(1));
      if (rest >= Unit::steps_per_s && rest <= Unit::tokens_per_s_per_device) {
        read.unit = rest;
        read.scale = scale;
      }
    }
    if (read.unit == Unit::none) return read;
  }
  read.size = at + size;
  // "tokens per second", "58.7K tok/s"
  if (read.unit == Unit::kilo || read.unit == Unit::mega) {
    const UnitRead next = scan_unit(text.substr(read.size));
    if (next.unit >= Unit::steps_per_s && next.unit <= Unit::tokens_per_s_per_device) {
      const double scale = read.unit == Unit::kilo ? 1e3 : 1e6;
      return {next.unit, scale, read.size + next.size};
    }
  }
  if (read.unit == Unit::other && text.substr(read.size).starts_with(" per sec")) {
    if (equals_word(word, "tokens")) read.unit = Unit::tokens_per_s;
    if (equals_word(word, "samples") || equals_word(word, "examples"))
      read.unit = Unit::samples_per_s;
  }
  return read;
}

double gib_per(Unit unit) {
  switch (unit) {
    case Unit::gib:
      return 1;
    case Unit::mib:
    case Unit::mega:
      return 1.0 / 1024;
    case Unit::kib:
    case Unit::kilo:
      return 1.0 / (1024 * 1024);
    case Unit::byte:
      return 1.0 / 1073741824.0;
    default:
      return 0;
  }
}

}  // namespace rigwise::logs
