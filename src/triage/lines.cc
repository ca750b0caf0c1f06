#include "triage/lines.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>

#include "base/text.h"
#include "base/wall_time.h"

namespace rigwise::triage_parts {

namespace {

constexpr std::size_t kLongestLine = 16 << 10;
constexpr int kMostPrefixes = 8;
constexpr int kMostRank = 65535;

bool digit(char c) {
  return c >= '0' && c <= '9';
}

/// Digits at `at`; moves behind them.
std::optional<int> take_number(std::string_view text, std::size_t& at) {
  const std::size_t begin = at;
  while (at < text.size() && at - begin < 6 && digit(text[at])) ++at;
  if (at == begin || (at < text.size() && digit(text[at]))) return {};
  const auto value = to_integer(text.substr(begin, at - begin));
  if (!value || *value > kMostRank) return {};
  return static_cast<int>(*value);
}

bool lower_equals(std::string_view text, std::string_view word) {
  return text.size() >= word.size() &&
         std::equal(word.begin(), word.end(), text.begin(), [](char want, char have) {
           return want == std::tolower(static_cast<unsigned char>(have));
         });
}

/// "[rank3]", "[Rank 3]", "[default3]", "[1,3]<stdout>", "[3]", "rank3", "rank 3:", "3: " at the
/// beginning; how long it is with the ':' and blank behind.
struct Prefix {
  std::size_t length = 0;
  std::optional<int> rank = {};
};

std::size_t behind(std::string_view text, std::size_t at) {
  if (at < text.size() && text[at] == ':') ++at;
  if (at < text.size() && text[at] == ' ') ++at;
  return at;
}

std::optional<Prefix> bracketed_rank(std::string_view text) {
  if (!text.starts_with('[')) return {};
  std::size_t at = 1;
  for (const std::string_view word : {"default", "rank", "global_rank"}) {
    if (!lower_equals(text.substr(at), word)) continue;
    at += word.size();
    while (at < text.size() && (text[at] == ' ' || text[at] == ':' || text[at] == '=')) ++at;
    break;
  }
  const auto rank = take_number(text, at);
  if (!rank) return {};
  if (at < text.size() && text[at] == ',') {  // mpirun --tag-output: [job,rank]<stream>
    ++at;
    const auto of_job = take_number(text, at);
    if (!of_job || at >= text.size() || text[at] != ']') return {};
    ++at;
    for (const std::string_view stream : {"<stdout>", "<stderr>", "<stddiag>"}) {
      if (text.substr(at).starts_with(stream))
        return Prefix{behind(text, at + stream.size()), of_job};
    }
    return {};
  }
  if (at >= text.size() || text[at] != ']') return {};
  return Prefix{behind(text, at + 1), rank};
}

std::optional<Prefix> plain_rank(std::string_view text) {
  std::size_t at = 0;
  if (lower_equals(text, "rank")) {  // "rank3 CUDA error", "rank 3: "
    at = 4;
    const bool parted = at < text.size() && text[at] == ' ';
    if (parted) ++at;
    const auto rank = take_number(text, at);
    const bool ends = at < text.size() && (text[at] == ':' || (!parted && text[at] == ' '));
    if (rank && ends) return Prefix{behind(text, at), rank};
    return {};
  }
  const auto rank = take_number(text, at);  // srun --label
  if (rank && text.substr(at).starts_with(": ")) return Prefix{at + 2, rank};
  return {};
}

/// "host-a: " as pdsh and DeepSpeed write it. Words that name what speaks rather than where are no
/// hosts: "ERROR:", "train.py:", "srun:", "KeyError:".
std::size_t host_prefix(std::string_view text) {
  std::size_t at = 0;
  bool letter = false, mark = false;
  while (at < text.size() && at < 64) {
    const char c = text[at];
    if (std::islower(static_cast<unsigned char>(c)) != 0) {
      letter = true;
    } else if (digit(c) || c == '-') {
      mark = true;
    } else if (c != '.') {
      break;
    }
    ++at;
  }
  const std::string_view word = text.substr(0, at);
  if (!letter || !mark || !text.substr(at).starts_with(": ")) return 0;
  if (digit(word[0]) || word[0] == '-' || word.ends_with(".py") || word.ends_with(".sh")) return 0;
  // a program that speaks of a host: "slurmstepd-host-a: error: …"
  if (word.starts_with("slurm") || word.find("container") != std::string_view::npos) return 0;
  return at;
}

/// "host-a:201:260 [0] " of NCCL: host, process, thread, device. The host stays with the message.
std::string_view nccl_host(std::string_view text) {
  const std::size_t end = text.find(':');
  if (end == std::string_view::npos || end == 0 || end > 64) return {};
  for (const char c : text.substr(0, end)) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '.' && c != '_')
      return {};
  }
  std::size_t at = end + 1;
  for (int numbers = 0; numbers < 2; ++numbers) {
    const std::size_t from = at;
    while (at < text.size() && digit(text[at])) ++at;
    if (at == from || at >= text.size() || text[at] != (numbers == 0 ? ':' : ' ')) return {};
    ++at;
  }
  return at < text.size() && text[at] == '[' ? text.substr(0, end) : std::string_view();
}

struct Peeled {
  std::string_view rest = {};
  std::optional<int> rank = {};
  std::string_view host = {};
  std::optional<WallTime> time = {};
  std::size_t kernel = 0;  // "[ 3406.593648] ": seconds since boot
};

/// "[ 3406.593648] " of dmesg.
std::size_t kernel_stamp(std::string_view text) {
  if (!text.starts_with('[')) return 0;
  std::size_t at = 1;
  while (at < text.size() && text[at] == ' ') ++at;
  const std::size_t from = at;
  while (at < text.size() && digit(text[at])) ++at;
  if (at == from || at >= text.size() || text[at] != '.') return 0;
  const std::size_t fraction = ++at;
  while (at < text.size() && digit(text[at])) ++at;
  if (at - fraction < 3 || at >= text.size() || text[at] != ']') return 0;
  return behind(text, at + 1);
}

/// A stamp at the beginning, in brackets or not, behind glog's letter or not.
std::optional<WallTime> stamp(std::string_view text, std::size_t& length) {
  std::size_t at = 0;
  const bool bracket = text.starts_with('[');
  if (bracket) ++at;
  if (text.size() > at + 1 && std::strchr("IWEF", text[at]) != nullptr && digit(text[at + 1])) ++at;
  auto time = parse_wall_time(text.substr(at, 64), 0);
  if (!time) return {};
  at += time->length;
  if (bracket) {  // "[2026-11-23 01:43:44,123] " or "[E909 03:12:40.816186786 File.cpp:616] "
    const std::size_t close = text.find(']', at);
    if (close == std::string_view::npos || close > at + 60) return {};
    at = close + 1;
  }
  if (at < text.size() && text[at] != ' ' && text[at] != ':' && text[at] != '\t') {
    if (bracket || time->has_date) {
      // "…Z]" and the like end the stamp as well
    } else {
      return {};
    }
  }
  length = behind(text, at);
  return time;
}

Peeled peel(std::string_view text) {
  Peeled out;
  for (int round = 0; round < kMostPrefixes; ++round) {
    std::size_t length = 0;
    if (const auto rank = bracketed_rank(text)) {
      out.rank = rank->rank;
      length = rank->length;
    } else if (const std::size_t kernel = kernel_stamp(text)) {
      length = out.kernel = kernel;
    } else if (const auto time = stamp(text, length)) {
      if (!out.time) out.time = time;
    } else if (const auto plain = plain_rank(text)) {
      out.rank = plain->rank;
      length = plain->length;
    } else if (const std::size_t host = host_prefix(text)) {
      out.host = text.substr(0, host);
      length = host + 2;
    } else if (text.starts_with("[pod/")) {
      const std::size_t close = text.find(']');
      if (close == std::string_view::npos || close > 200) break;
      out.host = text.substr(5, text.substr(5).find_first_of("/]"));
      length = behind(text, close + 1);
    }
    if (length == 0) break;
    text.remove_prefix(std::min(length, text.size()));
  }
  out.rest = text;
  if (out.host.empty()) out.host = nccl_host(text);
  return out;
}

/// Without colours and the bytes that a bar wrote over: what a terminal would show last, and before
/// it what was glued to it.
void plain_text(std::string_view line, std::string& out) {
  out.clear();
  for (std::size_t i = 0; i < line.size(); ++i) {
    const auto c = static_cast<unsigned char>(line[i]);
    if (c == 0x1b && i + 1 < line.size() && line[i + 1] == '[') {
      i += 2;
      while (i < line.size() && (line[i] < '@' || line[i] > '~')) ++i;
    } else if (c == '\t' || c >= 0x20) {
      out += line[i];
    }
  }
}

/// "===== host-a =====", "--- evidence", "==> rank0.log <==": the name, and whether it heads lines
/// of the machine rather than of the program.
struct Heading {
  std::string_view name = {};
  bool evidence = false;
};

std::optional<Heading> heading_of(std::string_view line) {
  std::string_view name;
  if (line.starts_with("===== ") && line.ends_with(" =====")) {
    name = line.substr(6, line.size() - 12);
  } else if (line.starts_with("==> ") && line.ends_with(" <==")) {
    name = line.substr(4, line.size() - 8);
  } else if (line.starts_with("--- ") && line.find("evidence") != std::string_view::npos) {
    name = line.substr(4);
  } else {
    return {};
  }
  Heading heading{trim(name), false};
  for (const std::string_view word : {"evidence", "dmesg", "kernel", "journal", "of the host"}) {
    heading.evidence = heading.evidence || name.find(word) != std::string_view::npos;
  }
  return heading;
}

}  // namespace

std::optional<int> rank_of_file(std::string_view file) {
  const std::size_t slash = file.rfind('/');
  const std::string_view name = slash == std::string_view::npos ? file : file.substr(slash + 1);
  const std::string small = lower(name);
  if (const std::size_t at = small.find("rank"); at != std::string::npos) {
    std::size_t from = at + 4;
    while (from < small.size() && (small[from] == '_' || small[from] == '-' || small[from] == '.'))
      ++from;
    return take_number(small, from);
  }
  if ((name == "stderr.log" || name == "stdout.log") && slash != std::string_view::npos) {
    const std::string_view folder = file.substr(0, slash);
    const std::size_t up = folder.rfind('/');
    if (folder.find("attempt_") == std::string_view::npos || up == std::string_view::npos)
      return {};
    std::size_t at = up + 1;
    const auto rank = take_number(folder, at);
    if (rank && at == folder.size()) return rank;
  }
  return {};
}

void walk(const std::vector<FailureLog>& logs, const std::function<void(const LogLine&)>& take) {
  std::string plain;
  for (std::size_t log = 0; log < logs.size(); ++log) {
    std::string_view rest = logs[log].text;
    const std::optional<int> file_rank =
        logs[log].rank ? logs[log].rank : rank_of_file(logs[log].file);
    std::string_view section_host = logs[log].host;
    std::optional<double> last_s;
    LogLine line;
    line.log = log;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      std::string_view rough = rest.substr(0, std::min(end, kLongestLine));
      rest.remove_prefix(std::min(end + 1, rest.size()));
      while (rough.ends_with('\r')) rough.remove_suffix(1);
      ++line.number;
      if (const auto heading = heading_of(rough)) {
        ++line.section;
        line.evidence = heading->evidence;
        const bool host = heading->name.find(' ') == std::string_view::npos;
        section_host = host ? heading->name : section_host;
        last_s.reset();
        continue;
      }
      const std::size_t over = rough.rfind('\r');  // a bar: its last state, and what follows
      if (over != std::string_view::npos) rough.remove_prefix(over + 1);
      plain_text(rough, plain);
      line.shown = plain;
      const Peeled peeled = peel(plain);
      line.message = peeled.rest;
      line.rank = peeled.rank ? peeled.rank : file_rank;
      line.host = peeled.host.empty() ? section_host : peeled.host;
      line.stamped = peeled.time.has_value();
      if (peeled.time && peeled.time->has_date) last_s = peeled.time->unix_s;
      line.unix_s = last_s;
      take(line);
    }
  }
}

}  // namespace rigwise::triage_parts
