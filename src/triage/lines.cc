#include "triage/lines.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>

#include "base/text.h"
#include "base/wall_time.h"

namespace rigwise::triage_parts {

namespace {

constexpr std::size_t kLongestLine = 16 << 10;
constexpr int kMostPrefixes = 8;
constexpr int kMostRank = 65535;

/// Digits at `at`; moves behind them.
std::optional<int> take_number(std::string_view text, std::size_t& at) {
  const std::size_t begin = at;
  while (at < text.size() && at - begin < 6 && is_digit(text[at])) ++at;
  if (at == begin || (at < text.size() && is_digit(text[at]))) return {};
  const auto value = to_integer(text.substr(begin, at - begin));
  if (!value || *value > kMostRank) return {};
  return static_cast<int>(*value);
}

bool lower_letter(char c) {
  return c >= 'a' && c <= 'z';
}

/// Does it begin with that word of small letters, whatever its own letters?
bool lower_equals(std::string_view text, std::string_view word) {
  if (text.size() < word.size()) return false;
  for (std::size_t i = 0; i < word.size(); ++i) {
    if (text[i] != word[i] && (!lower_letter(word[i]) || (text[i] | 0x20) != word[i])) return false;
  }
  return true;
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
    while (rank && at < text.size() && text[at] == '[') {  // "rank1[40877][MainThread]: "
      const std::size_t close = text.substr(0, at + 40).find(']', at);
      if (close == std::string_view::npos) return {};
      at = close + 1;
    }
    const bool ends = at < text.size() && (text[at] == ':' || (!parted && text[at] == ' '));
    if (rank && ends) return Prefix{behind(text, at), rank};
    return {};
  }
  const auto rank = take_number(text, at);  // srun --label
  if (rank && text.substr(at).starts_with(": ")) return Prefix{at + 2, rank};
  return {};
}

/// "(WorkerDict pid=31201) ", "(WorkerDict pid=31201, ip=10.0.0.4) " of Ray.
struct ActorPrefix {
  std::size_t length = 0;
  std::optional<int> pid = {};
};

ActorPrefix actor_prefix(std::string_view text) {
  if (!text.starts_with('(')) return {};
  const std::size_t pid = text.substr(0, 100).find(" pid=");
  if (pid == std::string_view::npos) return {};
  const std::size_t from = pid + 5;
  std::size_t at = from;
  while (at < text.size() && at - from < 9 && is_digit(text[at])) ++at;
  if (at == from) return {};
  const std::size_t close = text.find(')', at);
  if (close == std::string_view::npos || close > pid + 80) return {};
  return {behind(text, close + 1), static_cast<int>(*to_integer(text.substr(from, at - from)))};
}

/// "i.pretrain/0 " of TorchX: role and replica, which is no rank.
std::size_t replica_prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size() && at < 40 &&
         (is_letter(text[at]) || is_digit(text[at]) || text[at] == '.' || text[at] == '_'))
    ++at;
  if (at == 0 || !is_letter(text[0]) || at >= text.size() || text[at] != '/') return 0;
  const std::size_t number = ++at;
  while (at < text.size() && at - number < 4 && is_digit(text[at])) ++at;
  return at > number && at < text.size() && text[at] == ' ' ? at + 1 : 0;
}

/// 1 of "[ERROR] [axolotl.load_model:544] [PID:29] [RANK:1] …": a logger's groups stay with the
/// message.
std::optional<int> rank_in_groups(std::string_view text) {
  std::size_t at = 0;
  for (int group = 0; group < kMostPrefixes && at < text.size() && text[at] == '['; ++group) {
    const std::size_t close = text.find(']', at);
    if (close == std::string_view::npos || close > at + 100) return {};
    const std::string_view inside = text.substr(at + 1, close - at - 1);
    if (lower_equals(inside, "rank") && inside.size() > 5 &&
        (inside[4] == ':' || inside[4] == ' ')) {
      std::size_t number = 5;
      const auto rank = take_number(inside, number);
      if (rank && number == inside.size()) return rank;
    }
    at = close + 1;
    if (at < text.size() && text[at] == ' ') ++at;
  }
  return {};
}

/// 0 of "INFO:torchtune.utils._logging:[rank 0] wrote …", Python's plain logging.
std::optional<int> rank_behind_logger(std::string_view text) {
  const std::size_t level = text.substr(0, 10).find(':');
  if (level == std::string_view::npos || level < 4 || text[0] < 'A' || text[0] > 'Z') return {};
  const std::size_t name = text.substr(0, 100).find(':', level + 1);
  if (name == std::string_view::npos || !lower_equals(text.substr(name + 1), "[rank")) return {};
  const auto rank = bracketed_rank(text.substr(name + 1));
  return rank ? rank->rank : std::nullopt;
}

struct HostPrefix {
  std::size_t length = 0;
  std::string_view host = {};
  bool container = false;
};

/// "host-a: " as pdsh and DeepSpeed write it, "trainer-1  | " of docker compose, "host-a kernel: "
/// of a journal. Words that name what speaks rather than where are no hosts: "ERROR:", "train.py:",
/// "srun:", "KeyError:".
HostPrefix host_prefix(std::string_view text) {
  std::size_t at = 0;
  bool letter = false, mark = false;
  while (at < text.size() && at < 64) {
    const char c = text[at];
    if (lower_letter(c)) {
      letter = true;
    } else if (is_digit(c) || c == '-') {
      mark = true;
    } else if (c != '.') {
      break;
    }
    ++at;
  }
  const std::string_view word = text.substr(0, at), rest = text.substr(at);
  // "172.16.40.18: " of pdsh
  if (!letter && at > 0 && std::count(word.begin(), word.end(), '.') == 3 && word.back() != '.' &&
      word.find('-') == std::string_view::npos && rest.starts_with(": "))
    return {at + 2, word};
  constexpr std::string_view kKernel = " kernel: ";
  if (letter && rest.starts_with(kKernel)) return {at + kKernel.size(), word};
  if (!letter || !mark || is_digit(word[0]) || word[0] == '-') return {};
  if (word.ends_with(".py") || word.ends_with(".sh")) return {};
  // a program that speaks of a host: "slurmstepd-host-a: error: …"
  if (word.starts_with("slurm") || word.find("container") != std::string_view::npos) return {};
  if (rest.starts_with(": ")) return {at + 2, word};
  const std::size_t bar = rest.find_first_not_of(' ');
  if (bar != std::string_view::npos && bar > 0 && rest.substr(bar).starts_with("| "))
    return {at + bar + 2, word, true};
  return {};
}

/// "[node1] ", as launchers of several hosts put before what these print.
HostPrefix bracketed_host(std::string_view text) {
  if (!text.starts_with('[')) return {};
  const std::size_t close = text.substr(0, 64).find("] ");
  if (close == std::string_view::npos) return {};
  const std::string_view name = text.substr(1, close - 1);
  constexpr std::array<std::string_view, 5> kStems = {"node", "host", "worker", "server",
                                                      "machine"};
  const bool host = std::any_of(kStems.begin(), kStems.end(),
                                [&](std::string_view stem) { return name.starts_with(stem); });
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return lower_letter(c) || is_digit(c) || c == '-' || c == '.';
  });
  if (!host || !plain || name.find_first_of("0123456789-") == std::string_view::npos) return {};
  return {close + 2, name};
}

/// "host-a:201:260 [0] " of NCCL: host, process, thread, device. All of it stays with the message.
struct NcclPrefix {
  std::string_view host = {};
  std::optional<int> pid = {}, device = {};
};

NcclPrefix nccl_prefix(std::string_view text) {
  const std::size_t end = text.substr(0, 65).find(':');
  if (end == std::string_view::npos || end == 0) return {};
  for (const char c : text.substr(0, end)) {
    if (!lower_letter(c) && !(c >= 'A' && c <= 'Z') && !is_digit(c) && c != '-' && c != '.' &&
        c != '_')
      return {};
  }
  std::size_t at = end + 1;
  std::optional<std::int64_t> pid;
  for (const char behind_number : {':', ' '}) {
    const std::size_t from = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    if (at == from || at - from > 9 || at >= text.size() || text[at] != behind_number) return {};
    if (!pid) pid = to_integer(text.substr(from, at - from));
    ++at;
  }
  if (at >= text.size() || text[at] != '[') return {};
  ++at;
  const auto device = take_number(text, at);
  return {text.substr(0, end), static_cast<int>(*pid), device};
}

struct Peeled {
  std::string_view rest = {};
  std::optional<int> rank = {};
  std::string_view host = {};
  std::optional<WallTime> time = {};
  bool container = false;  // the host is a pod or a container of a set
  std::optional<int> actor_pid = {};
  NcclPrefix nccl = {};
};

/// 1 of "job-worker-1".
std::optional<int> member_of(std::string_view name) {
  std::size_t at = name.rfind('-');
  if (at == std::string_view::npos) return {};
  const auto number = take_number(name, ++at);
  return at == name.size() ? number : std::nullopt;
}

/// "[ 3406.593648] " of dmesg.
std::size_t kernel_stamp(std::string_view text) {
  if (!text.starts_with('[')) return 0;
  std::size_t at = 1;
  while (at < text.size() && text[at] == ' ') ++at;
  const std::size_t from = at;
  while (at < text.size() && is_digit(text[at])) ++at;
  if (at == from || at >= text.size() || text[at] != '.') return 0;
  const std::size_t fraction = ++at;
  while (at < text.size() && is_digit(text[at])) ++at;
  if (at - fraction < 3 || at >= text.size() || text[at] != ']') return 0;
  return behind(text, at + 1);
}

constexpr std::size_t kMinuteText = 16, kSecondText = 19;

/// "2026-11-23 01:43:44" with or without a fraction and without a zone: how many bytes, else 0.
std::size_t plain_stamp(std::string_view text) {
  constexpr std::string_view kShape = "dddd-dd-dd?dd:dd:dd";
  if (text.size() < kSecondText) return 0;
  for (std::size_t i = 0; i < kSecondText; ++i) {
    const bool fits = kShape[i] == 'd'   ? is_digit(text[i])
                      : kShape[i] == '?' ? text[i] == ' ' || text[i] == 'T'
                                         : text[i] == kShape[i];
    if (!fits) return 0;
  }
  std::size_t at = kSecondText;
  if (at < text.size() && (text[at] == '.' || text[at] == ',')) {
    ++at;
    while (at < text.size() && is_digit(text[at])) ++at;
  }
  const char next = at < text.size() ? text[at] : '\n';
  if (next == 'Z' || next == '+' || next == '-') return 0;
  if (next != ' ' || at + 2 >= text.size()) return at;
  const bool offset = (text[at + 1] == '+' || text[at + 1] == '-') && is_digit(text[at + 2]);
  return offset || text[at + 1] == 'U' || text[at + 1] == 'G' ? 0 : at;  // UTC, GMT
}

std::optional<WallTime> wall_time(std::string_view text, Lines::Minute& minute) {
  const std::size_t plain = plain_stamp(text);
  if (plain == 0) return parse_wall_time(text, 0);
  const double seconds = (text[17] - '0') * 10 + (text[18] - '0');
  if (text.substr(0, kMinuteText) == minute.text) {
    WallTime time;
    time.unix_s = minute.unix_s + seconds;
    time.length = plain;
    return time;
  }
  const auto time = parse_wall_time(text, 0);
  if (time && time->has_date && !time->has_zone && time->length == plain) {
    minute.text = text.substr(0, kMinuteText);
    minute.unix_s = std::floor(time->unix_s) - seconds;
  }
  return time;
}

/// Can a stamp begin like this? Most lines begin with a word or a small number.
bool may_be_stamp(std::string_view text) {
  std::size_t digits = 0;
  while (digits < text.size() && digits < 15 && is_digit(text[digits])) ++digits;
  if (digits == text.size()) return false;
  if (digits > 0) {
    return std::string_view("-/.:T").find(text[digits]) != std::string_view::npos ||
           (digits == 4 && text[4] == ' ');
  }
  return text.size() > 4 && text[0] >= 'A' && text[0] <= 'Z' &&
         (text[3] == ' ' || text[3] == ',' || is_digit(text[1]));
}

/// A stamp at the beginning, in brackets or not, behind glog's letter or not.
std::optional<WallTime> stamp(std::string_view text, Lines::Minute& minute, std::size_t& length) {
  std::size_t at = 0;
  const bool bracket = text.starts_with('[');
  if (bracket) ++at;
  if (text.size() > at + 1 && std::strchr("IWEF", text[at]) != nullptr && is_digit(text[at + 1]))
    ++at;
  if (!may_be_stamp(text.substr(at))) return {};
  const auto time = wall_time(text.substr(at, 64), minute);
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

/// "E0617 09:27:44.801" of glog and Python's launcher, "[E617 09:27:44.801 socket.cpp:752]" of
/// torch's C++, which leaves the month's first 0 out. They state no year: the one that makes them
/// no more than a day later than `known_unix_s`. The stamp stays with the message.
std::optional<double> glog_time(std::string_view text, double known_unix_s) {
  constexpr std::size_t kLongest = 24;
  if (text.starts_with('[')) text.remove_prefix(1);
  if (text.size() < kLongest || std::strchr("IWEF", text[0]) == nullptr || !is_digit(text[1]))
    return {};
  const std::size_t digits = text.find_first_not_of("0123456789", 1) - 1;
  if (digits < 3 || digits > 4) return {};
  std::string stamp(text.substr(0, kLongest));
  if (digits == 3) stamp.insert(1, 1, '0');
  const auto time = parse_wall_time(stamp, known_unix_s);
  return time && time->has_date ? std::optional(time->unix_s) : std::nullopt;
}

Peeled peel(std::string_view text, Lines::Minute& minute) {
  Peeled out;
  for (int round = 0; round < kMostPrefixes; ++round) {
    std::size_t length = 0;
    if (const auto rank = bracketed_rank(text)) {
      out.rank = rank->rank;
      length = rank->length;
    } else if (const std::size_t kernel = kernel_stamp(text)) {
      length = kernel;
    } else if (const auto time = stamp(text, minute, length)) {
      if (!out.time) out.time = time;
    } else if (const auto plain = plain_rank(text)) {
      out.rank = plain->rank;
      length = plain->length;
    } else if (const HostPrefix host = host_prefix(text); host.length > 0) {
      out.host = host.host;
      out.container = host.container;
      length = host.length;
    } else if (const ActorPrefix actor = actor_prefix(text); actor.length > 0) {
      out.actor_pid = actor.pid;
      length = actor.length;
    } else if (const std::size_t replica = replica_prefix(text)) {
      length = replica;
    } else if (const HostPrefix node = bracketed_host(text); node.length > 0) {
      out.host = node.host;
      length = node.length;
    } else if (text.starts_with("[pod/")) {
      const std::size_t close = text.find(']');
      if (close == std::string_view::npos || close > 200) break;
      out.host = text.substr(5, text.substr(5).find_first_of("/]"));
      out.container = true;
      length = behind(text, close + 1);
    }
    if (length == 0) break;
    text.remove_prefix(std::min(length, text.size()));
  }
  out.rest = text;
  if (!out.rank) out.rank = rank_in_groups(text);
  if (!out.rank) out.rank = rank_behind_logger(text);
  out.nccl = nccl_prefix(text);
  if (out.host.empty()) out.host = out.nccl.host;
  return out;
}

/// Open MPI tags what a program writes, piece by piece: "[1,2]<stderr>:KeyError[1,2]<stderr>::
/// 'x'".
std::string_view without_inner_tags(std::string_view line, std::string& out) {
  const std::size_t length = line.find(">:");
  if (!line.starts_with('[') || length == std::string_view::npos || length > 24) return line;
  const std::string_view tag = line.substr(0, length + 2);
  if (tag.find("]<std") == std::string_view::npos) return line;
  if (line.find(tag, tag.size()) == std::string_view::npos) return line;
  std::string plain(tag);
  std::size_t from = tag.size();
  for (std::size_t at = line.find(tag, from); at != std::string_view::npos;
       at = line.find(tag, from)) {
    plain += line.substr(from, at - from);
    from = at + tag.size();
  }
  plain += line.substr(from);
  out = std::move(plain);
  return out;
}

/// A byte below ' ' in the line? Eight at a time: nearly no line has one.
bool has_controls(std::string_view line) {
  constexpr std::uint64_t kOnes = 0x0101010101010101, kHigh = kOnes * 0x80;
  std::size_t at = 0;
  for (; at + 8 <= line.size(); at += 8) {
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, line.data() + at, 8);
    if (((bytes - kOnes * 0x20) & ~bytes & kHigh) != 0) return true;
  }
  for (; at < line.size(); ++at) {
    if (static_cast<unsigned char>(line[at]) < 0x20) return true;
  }
  return false;
}

/// Without colours and the bytes that a bar wrote over: what a terminal would show last.
std::string_view plain_text(std::string_view line, std::string& out) {
  const std::size_t over = line.rfind('\r');
  if (over != std::string_view::npos) line.remove_prefix(over + 1);
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
  return out;
}

/// "===== host-a =====", "--- evidence", "==> rank0.log <==": the name, and whether it heads lines
/// of the machine rather than of the program.
struct Heading {
  std::string_view name = {};
  bool evidence = false;
};

/// Is it what the kernel, a scheduler or a tool wrote, by its name?
bool of_the_machine(std::string_view name) {
  const std::string small = lower(name);
  for (const std::string_view word : {"evidence", "dmesg", "kern", "journal", "syslog",
                                      "of the host", "sacct", "scontrol", "nvidia-smi"}) {
    if (small.find(word) != std::string::npos) return true;
  }
  return false;
}

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
  return Heading{trim(name), of_the_machine(name)};
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

int attempt_of_file(std::string_view file) {
  constexpr std::string_view kAttempt = "attempt_";
  std::size_t at = file.rfind(kAttempt);
  if (at == std::string_view::npos) return 0;
  at += kAttempt.size();
  return take_number(file, at).value_or(0);
}

std::vector<std::optional<int>> ranks_of_files(const std::vector<std::string>& files) {
  struct Number {
    std::size_t file;
    int value;
  };
  std::vector<std::optional<int>> ranks(files.size());
  std::map<std::string, std::vector<Number>> alike;  // by the name with one number left out
  for (std::size_t i = 0; i < files.size(); ++i) {
    ranks[i] = rank_of_file(files[i]);
    const std::string_view file = files[i];
    for (std::size_t at = 0; at < file.size(); ++at) {
      if (!is_digit(file[at]) || (at > 0 && is_digit(file[at - 1]))) continue;
      std::size_t end = at;
      const auto value = take_number(file, end);
      if (!value) continue;
      std::string stem(file.substr(0, at));
      stem.append(1, '#').append(file.substr(end));
      const std::string small = lower(stem);
      if (small.find("host") == std::string::npos && small.find("node#") == std::string::npos)
        alike[stem].push_back({i, *value});
    }
  }
  for (const auto& [stem, numbers] : alike) {
    std::set<int> values;
    for (const Number& number : numbers) values.insert(number.value);
    const bool counts = values.size() == numbers.size() && values.size() > 1 &&
                        *values.begin() <= 1 &&
                        *values.rbegin() < *values.begin() + static_cast<int>(values.size());
    if (!counts) continue;
    for (const Number& number : numbers) {
      if (!ranks[number.file]) ranks[number.file] = number.value - *values.begin();
    }
  }
  return ranks;
}

void Lines::begin(const LogName& log) {
  line_ = {};
  line_.place.log = logs_++;
  const std::size_t slash = log.file.rfind('/');
  line_.evidence =
      of_the_machine(std::string_view(log.file).substr(slash == std::string::npos ? 0 : slash + 1));
  host_ = log.host;
  file_rank_ = log.rank ? log.rank : rank_of_file(log.file);
  half_.clear();
}

void Lines::push(std::string_view bytes, const Signatures::Hits& hits) {
  const std::string_view all = bytes;
  std::size_t hit = 0;
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, end);
    const auto stop = static_cast<std::size_t>(piece.data() - all.data()) + piece.size();
    const std::size_t first = hit;
    while (hit < hits.size() && hits[hit].at < stop) ++hit;
    line_.hits.reset();
    if (half_.empty()) line_.hits = std::span(hits).subspan(first, hit - first);
    if (end == std::string_view::npos || !half_.empty())
      half_ += piece.substr(0, kLongestLine - std::min(kLongestLine, half_.size()));
    if (end == std::string_view::npos) {
      torn_ = true;
      return;
    }
    line(half_.empty() ? piece.substr(0, kLongestLine) : std::string_view(half_));
    half_.clear();
    torn_ = false;
    bytes.remove_prefix(end + 1);
  }
}

void Lines::skip(std::string_view bytes) {
  line_.place.line += std::count(bytes.begin(), bytes.end(), '\n');
}

void Lines::end() {
  line_.hits.reset();
  if (torn_) line(half_);
  half_.clear();
  torn_ = false;
}

void Lines::line(std::string_view rough) {
  while (rough.ends_with('\r')) rough.remove_suffix(1);
  ++line_.place.line;
  if (const auto heading = heading_of(rough)) {
    ++line_.place.section;
    line_.evidence = heading->evidence;
    if (heading->name.find(' ') == std::string_view::npos) host_ = heading->name;
    line_.unix_s.reset();
    return;
  }
  const bool controls = has_controls(rough);
  line_.shown = without_inner_tags(controls ? plain_text(rough, plain_) : rough, plain_);
  if (line_.shown.data() != rough.data()) line_.hits.reset();
  line_.has_tabs = controls && line_.shown.find('\t') != std::string_view::npos;
  const Peeled peeled = peel(line_.shown, minute_);
  line_.message = peeled.rest;
  line_.rank = peeled.rank ? peeled.rank : file_rank_;
  line_.host = peeled.host.empty() ? host_ : peeled.host;
  line_.member.reset();
  if (peeled.container) line_.member = member_of(line_.host);
  line_.nccl_pid = peeled.nccl.pid;
  line_.nccl_device = peeled.nccl.device;
  line_.actor_pid = peeled.actor_pid;
  if (peeled.time && peeled.time->has_date) {
    line_.unix_s = peeled.time->unix_s;
    if (peeled.time->has_year) known_unix_s_ = peeled.time->unix_s;
  } else if (known_unix_s_ > 0) {
    if (const auto time = glog_time(line_.message, known_unix_s_)) line_.unix_s = time;
  }
  take_(line_);
}

}  // namespace rigwise::triage_parts
