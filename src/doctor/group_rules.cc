// The rungs "launcher" and "collective": do processes start, find each other and exchange bytes?
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/text.h"
#include "doctor/rules.h"
#include "rigwise/units.h"

namespace rigwise::doctor {

namespace {

std::string value(const std::map<std::string, std::string>& map, const std::string& name) {
  const auto found = map.find(name);
  return found == map.end() ? std::string() : found->second;
}

bool contains(const Strings& list, std::string_view text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

void judge_name(const LauncherFacts& facts, Judge& judge) {
  const Judge::Names names = {{"name", facts.host}};
  if (facts.resolver_hung) {
    judge.fail("resolver-hung", "Looking up " + facts.host + " takes too long.",
               words("getaddrinfo of the host's own name"), names);
    return;
  }
  judge.pass("resolver-hung", "answers in time");
  if (!facts.addresses || facts.addresses->empty()) {
    judge.fail("hostname-unresolved", "The host's own name, " + facts.host + ", does not resolve.",
               words("getaddrinfo of the host's own name"), names);
    return;
  }
  const std::string list = join(*facts.addresses, ", ");
  judge.pass("hostname-unresolved", facts.host + " is " + list);
  const bool loopback = std::all_of(
      facts.addresses->begin(), facts.addresses->end(),
      [](const std::string& address) { return address.starts_with("127.") || address == "::1"; });
  if (loopback)
    judge.fail("hostname-loopback", facts.host + " resolves to " + list + " only.", words(list),
               names);
  else
    judge.pass("hostname-loopback", facts.host + " is " + list);
}

/// NCCL's own reading: a list of prefixes, "=" for exact names, "^" for those left out.
bool nccl_leaves_one(std::string spec, const Strings& interfaces) {
  const bool without = spec.starts_with('^');
  if (without) spec.erase(0, 1);
  const bool exact = spec.starts_with('=');
  if (exact) spec.erase(0, 1);
  for (const auto& interface : interfaces) {
    bool named = false;
    for (const auto& word : split(spec, ',')) {
      const std::string_view name = word.substr(0, word.find(':'));  // a port may follow
      named = named || (!name.empty() && (exact ? interface == name : interface.starts_with(name)));
    }
    if (named != without) return true;
  }
  return false;
}

void judge_interfaces(const LauncherFacts& facts, Judge& judge) {
  const std::string gloo = value(facts.variables, "GLOO_SOCKET_IFNAME");
  if (gloo.empty()) {
    judge.pass("gloo-interface-bad", "GLOO_SOCKET_IFNAME is not set");
  } else {
    // a list is one interface a thread of Gloo's; each must be a plain name
    bool good = true;
    for (const auto& name : split(gloo, ',')) good = good && contains(facts.interfaces, name);
    if (good)
      judge.pass("gloo-interface-bad", "GLOO_SOCKET_IFNAME=" + gloo);
    else
      judge.fail("gloo-interface-bad",
                 "GLOO_SOCKET_IFNAME=" + gloo + " is no interface of this host.",
                 words("interfaces: " + join(facts.interfaces, ", ")));
  }
  const std::string nccl = value(facts.variables, "NCCL_SOCKET_IFNAME");
  if (nccl.empty())
    judge.pass("nccl-interface-bad", "NCCL_SOCKET_IFNAME is not set");
  else if (nccl_leaves_one(nccl, facts.interfaces))
    judge.pass("nccl-interface-bad", "NCCL_SOCKET_IFNAME=" + nccl);
  else
    judge.fail("nccl-interface-bad",
               "NCCL_SOCKET_IFNAME=" + nccl + " leaves no interface of this host.",
               words("interfaces: " + join(facts.interfaces, ", ")));
}

void judge_leftovers(const LauncherFacts& facts, Judge& judge) {
  if (facts.ports_in_use.empty()) judge.pass("port-in-use", "the default ports are free");
  for (const int port : facts.ports_in_use)
    judge.fail("port-in-use", fmt::format("Somebody listens on port {}.", port),
               {{.file = "/proc/net/tcp", .what = fmt::format("a listener on {}", port)}},
               {{"name", std::to_string(port)}});
  Strings left;
  for (const char* name : {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
    if (facts.variables.contains(name)) left.push_back(name + ("=" + value(facts.variables, name)));
  }
  if (left.empty())
    judge.pass("rank-variables-left", "none is set");
  else
    judge.fail("rank-variables-left",
               "Variables of a launcher are set in this shell: " + join(left, ", ") + ".",
               words(join(left, ", ")));
}

void judge_try(const LauncherTry& one, Judge& judge) {
  const std::string code = one.name + "-fails";
  const Judge::Names names = {{"command", one.command}};
  if (!one.skipped.empty()) {
    judge.skip(code, one.skipped);
    return;
  }
  if (!one.no_time.empty()) {
    judge.not_judged(code, one.no_time);
    return;
  }
  const std::string at = one.last_step.empty() ? "its start" : one.last_step;
  if (one.hung) {
    judge.fail("launcher-hung",
               fmt::format("The hello of {} hangs at: {}; {} of 2 ranks came up.", one.name, at,
                           one.answered),
               words(join(one.tail, " | ")), names);
  } else if (one.answered == 2 && !one.together && one.world < 2) {
    judge.fail("ranks-apart",
               fmt::format("{} started two processes, and each was alone.", one.name),
               words(fmt::format("world size {}", one.world)), names);
  } else if (one.exit_status != 0 || !one.together || one.answered < 2) {
    judge.fail(code,
               fmt::format("The hello of {} failed with exit {}; {} of 2 ranks came up.", one.name,
                           one.exit_status, one.answered),
               words(join(one.tail, " | ")), names);
  } else {
    judge.pass(code, fmt::format("{}: two processes, one group", one.name));
  }
}

void judge_pairs(const CollectiveTry& one, Judge& judge) {
  double largest = 0;
  for (const auto& pair : one.pairs) largest = std::max(largest, pair.bytes);
  std::vector<double> rates;
  for (const auto& pair : one.pairs) {
    if (pair.bytes == largest && pair.seconds > 0) rates.push_back(pair.bytes / pair.seconds);
  }
  // two directions between two ranks have no median to be told apart by, and small ones no rate
  constexpr double kLarge = 1 << 20;
  if (rates.size() < 3 || largest < kLarge) {
    judge.skip("pair-slow", one.backend + ": fewer than three directed pairs of 1 MiB or more");
    return;
  }
  std::sort(rates.begin(), rates.end());
  const double median = rates[rates.size() / 2];
  bool good = true;
  for (const auto& pair : one.pairs) {
    if (pair.bytes != largest || !(pair.seconds > 0)) continue;
    const double rate = pair.bytes / pair.seconds;
    if (rate >= 0.5 * median) continue;
    good = false;
    judge.fail("pair-slow",
               fmt::format("{}: rank {} to rank {} moves {}/s; the median pair {}/s.", one.backend,
                           pair.from, pair.to, format_bytes(rate), format_bytes(median)),
               words(format_bytes_binary(largest) + " sent, each pair alone"));
  }
  if (good)
    judge.pass("pair-slow", fmt::format("{}: pairs from {}/s to {}/s", one.backend,
                                        format_bytes(rates.front()), format_bytes(rates.back())));
}

void judge_exchange(const CollectiveTry& one, Judge& judge) {
  const std::string fails = one.backend + "-fails", hangs = one.backend + "-hangs";
  const Judge::Names names = {{"command", one.command}};
  if (!one.skipped.empty()) {
    judge.skip(fails, one.skipped);
    judge.skip(hangs, one.skipped);
    return;
  }
  if (!one.no_time.empty()) {
    judge.not_judged(fails, one.no_time);
    judge.not_judged(hangs, one.no_time);
    return;
  }
  if (one.left_out > 0)
    judge.not_judged(fails, fmt::format("{}: {} took no part; {} ranks are the most", one.backend,
                                        counted(one.left_out, "GPU", "GPUs"), one.ranks));
  std::vector<Evidence> said = words(one.trouble);
  for (const auto& line : one.log) said.push_back({.what = line});
  const std::string at = one.last_step.empty() ? "its start" : one.last_step;
  if (one.hung) {
    judge.fail(hangs, fmt::format("{} hangs at: {}.", one.backend, at), std::move(said), names);
    return;
  }
  judge.pass(hangs, one.backend + " ended in time");
  if (!one.complete || one.exit_status != 0) {
    judge.fail(fails, fmt::format("{} failed at: {}.", one.backend, at), std::move(said), names);
    return;
  }
  std::string seen = fmt::format("{}: {} ranks", one.backend, one.ranks);
  if (one.reduce_bytes && one.reduce_s && *one.reduce_s > 0)
    seen += fmt::format(", all-reduce of {} in {}", format_bytes_binary(*one.reduce_bytes),
                        format_duration(*one.reduce_s));
  judge.pass(fails, seen);
  if (one.wrong.empty())
    judge.pass("bytes-differ", one.backend + ": every operation verified");
  else
    judge.fail("bytes-differ", one.backend + " delivered wrong bytes: " + one.wrong.front() + ".",
               words(join(one.wrong, "; ")), names);
  judge_pairs(one, judge);
}

}  // namespace

void judge_launcher(const DoctorFacts& facts, Judge& judge) {
  judge_name(facts.launcher, judge);
  judge_interfaces(facts.launcher, judge);
  judge_leftovers(facts.launcher, judge);
  for (const auto& one : facts.launcher.tries) judge_try(one, judge);
}

void judge_collective(const DoctorFacts& facts, Judge& judge) {
  for (const auto& one : facts.collective.tries) judge_exchange(one, judge);
}

}  // namespace rigwise::doctor
