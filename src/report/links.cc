#include "report/links.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "report/layout.h"

namespace rigwise::report {

namespace {
bool is_word(char c) {
  return is_letter(c) || is_digit(c) || static_cast<unsigned char>(c) >= 0x80;
}

/// Is the blank at `at` between a number and its unit, or beside a ±?
bool keeps_together(std::string_view text, std::size_t at) {
  static constexpr std::array<std::string_view, 14> kUnits = {
      "%", "s", "ms", "min", "h", "°C", "W", "GB", "MB", "kB", "GiB", "MiB", "TB", "cores"};
  constexpr std::string_view kPlusMinus = "±";
  const std::string_view left = text.substr(0, at), right = text.substr(at + 1);
  if (left.ends_with(kPlusMinus) || right.starts_with(kPlusMinus)) return true;
  const bool digit_next = !right.empty() && is_digit(right.front());
  if (digit_next && (left.ends_with(" min") || left.ends_with(" h"))) return true;
  if (left.empty() || left.back() < '0' || left.back() > '9') return false;
  return std::any_of(kUnits.begin(), kUnits.end(), [&](std::string_view unit) {
    return right.starts_with(unit) && (right.size() == unit.size() || !is_word(right[unit.size()]));
  });
}

std::string place_of(const Evidence& evidence) {
  std::string place = evidence.file;
  if (!evidence.first_row || place.empty()) return place;
  place += fmt::format(":{}", *evidence.first_row);
  if (evidence.last_row && *evidence.last_row != *evidence.first_row)
    place += fmt::format("-{}", *evidence.last_row);
  return place;
}

std::string percent_encode(std::string_view path) {
  std::string out;
  for (const char c : path) {
    const bool plain =
        is_letter(c) || is_digit(c) || c == '/' || c == '.' || c == '-' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}
}  // namespace

std::string markdown_text(std::string_view text, std::size_t max_bytes) {
  const std::string clean = safe(text, max_bytes);
  std::string out;
  out.reserve(clean.size() + 16);
  const auto at = [&](std::size_t i) { return i < clean.size() ? clean[i] : ' '; };
  for (std::size_t i = 0; i < clean.size(); ++i) {
    const char c = clean[i];
    switch (c) {
      case '\\':
      case '`':
      case '*':
      case '[':
      case ']':
      case '|':
      case '~':
      case '$':
        out += '\\';
        out += c;
        continue;
      case '<':
        out += "&lt;";
        continue;
      case '>':
        out += "&gt;";
        continue;
      case '&':
        out += "&amp;";
        continue;
      case '_':  // emphasis only at the edge of a word: tokens_per_s stays readable
        if (i == 0 || !is_word(at(i - 1)) || !is_word(at(i + 1))) out += '\\';
        out += c;
        continue;
      case ':':  // bare addresses become links in many readers
        if (at(i + 1) == '/' && at(i + 2) == '/') {
          out += "\\:";
          continue;
        }
        break;
      case '@':
        out += "&#64;";
        continue;
      case '.':
        if (i >= 3 &&
            (clean.compare(i - 3, 3, "www") == 0 || clean.compare(i - 3, 3, "WWW") == 0)) {
          out += "\\.";
          continue;
        }
        break;
      default:
        break;
    }
    // At the start of the text these would open a heading, a list, a quote or a rule.
    if (i == 0 && (c == '#' || c == '-' || c == '+' || c == '=' || c == '!')) out += '\\';
    const bool numbered = (c == '.' || c == ')') && i > 0 && at(i + 1) == ' ';
    if (numbered && clean.find_first_not_of("0123456789") == i) out += '\\';
    out += c;
  }
  return out;
}

std::string html_text(std::string_view text, std::size_t max_bytes) {
  std::string out;
  const std::string clean = safe(text, max_bytes);
  for (std::size_t i = 0; i < clean.size(); ++i) {
    const char c = clean[i];
    switch (c) {
      case ' ':
        out += keeps_together(clean, i) ? "&nbsp;" : " ";
        break;
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

EvidenceLinks::EvidenceLinks(std::vector<const Run*> runs, std::filesystem::path folder)
    : runs_(std::move(runs)), folder_(std::move(folder)) {
  runs_.erase(std::remove(runs_.begin(), runs_.end(), nullptr), runs_.end());
}

const Run* EvidenceLinks::find(const std::string& run) const {
  if (run.empty()) return runs_.size() == 1 ? runs_.front() : nullptr;
  const Run* named = nullptr;
  for (const Run* candidate : runs_) {
    if (candidate->info.id == run) return candidate;
    if (candidate->info.name == run) named = candidate;  // the latest of that name
  }
  return named;
}

std::string EvidenceLinks::label(const Evidence& evidence) const {
  const Run* run = find(evidence.run);
  std::string text = evidence.run;
  if (run != nullptr) {
    const auto same_name = std::count_if(runs_.begin(), runs_.end(), [&](const Run* other) {
      return other->info.name == run->info.name;
    });
    text = same_name > 1 && !run->info.id.empty() ? run->info.id : run->info.name;
  }
  const std::string place = place_of(evidence);
  if (!place.empty()) text += (text.empty() ? "" : " · ") + place;
  if (text.empty()) text = evidence.what;
  return safe(text, 300);
}

std::string EvidenceLinks::target(const Evidence& evidence) const {
  const Run* run = find(evidence.run);
  if (run == nullptr || folder_.empty() || run->dir.empty()) return {};
  const std::filesystem::path file(evidence.file);
  const bool leaves = file.is_absolute() || std::find(file.begin(), file.end(),
                                                      std::filesystem::path("..")) != file.end();
  if (leaves) return {};
  const auto whole = (run->dir / file).lexically_normal();
  const auto from = folder_.lexically_normal();
  if (whole.is_absolute() != from.is_absolute()) return {};
  std::string relative = whole.lexically_relative(from).generic_string();
  if (relative.empty()) return {};
  if (relative.front() != '.') relative.insert(0, "./");  // never a scheme
  return percent_encode(relative);
}

std::string EvidenceLinks::markdown(const Evidence& evidence) const {
  const std::string text = markdown_text(label(evidence));
  const std::string path = target(evidence);
  if (text.empty()) return {};
  return path.empty() ? text : "[" + text + "](" + path + ")";
}

std::string EvidenceLinks::html(const Evidence& evidence) const {
  return html_as(evidence, label(evidence));
}

std::string EvidenceLinks::html_short(const Evidence& evidence) const {
  const std::string place = place_of(evidence);
  return html_as(evidence, place.empty() ? safe(evidence.what, 200) : safe(place, 200));
}

std::string EvidenceLinks::html_as(const Evidence& evidence, const std::string& words) const {
  const std::string text = html_text(words);
  const std::string path = target(evidence);
  if (text.empty()) return {};
  return path.empty() ? "<span class=\"ev\">" + text + "</span>"
                      : "<a class=\"ev\" href=\"" + html_text(path) + "\">" + text + "</a>";
}

}  // namespace rigwise::report
