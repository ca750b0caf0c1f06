#include "report/flame.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "base/json.h"
#include "base/text.h"
#include "report/layout.h"

namespace rigwise {

namespace report {

namespace {
constexpr std::string_view kNoFrames = "(frames not recorded)";
constexpr std::int64_t kMostSamples = 1'000'000'000;  // a minute's; more is no count

std::string process_name(const FlameHost& host, const StackCount& row) {
  const std::string what = row.rank         ? fmt::format("rank {}", *row.rank)
                           : row.role == "" ? std::string("process")
                                            : safe(row.role, 40);
  const std::string role = row.rank && row.role == "loader" ? what + "'s loader" : what;
  return fmt::format("{} on {} (pid {})", role, safe(host.host, 80), row.pid);
}
}  // namespace

std::vector<FlameProcess> flame_processes(const FlameInput& input) {
  // by (rank, role, host, pid); loaders behind the rank that they load for
  using Key = std::tuple<int, std::string, std::size_t, int>;
  constexpr int kNoRank = 1 << 30;
  std::map<Key, FlameProcess> found;
  for (std::size_t at = 0; at < input.hosts.size(); ++at) {
    const FlameHost& host = input.hosts[at];
    std::map<std::int64_t, const StackFrames*> frames;
    for (const StackFrames& row : host.frames.rows) frames.emplace(row.stack, &row);
    for (const StackCount& row : host.counts.rows) {
      if (row.samples <= 0 || row.samples > kMostSamples) continue;
      const std::string order = row.role == "rank" ? "" : row.role;
      FlameProcess& process = found[{row.rank.value_or(kNoRank), order, at, row.pid}];
      if (process.name.empty()) process.name = process_name(host, row);
      const auto known = frames.find(row.stack);
      process.stacks.push_back({known == frames.end() ? nullptr : known->second, row.samples});
    }
  }
  std::vector<FlameProcess> out;
  for (auto& [key, process] : found) out.push_back(std::move(process));
  return out;
}

std::vector<std::string_view> flame_frames(std::string_view folded) {
  std::vector<std::string_view> out;
  while (!folded.empty() && out.size() < kMostFlameFrames) {
    const std::size_t end = std::min(folded.find(';'), folded.size());
    if (end > 0) out.push_back(folded.substr(0, end));
    folded.remove_prefix(std::min(end + 1, folded.size()));
  }
  return out;
}

FlameNode& FlameNode::child(std::string_view name) {
  auto found = above.find(name);
  if (found == above.end())
    found = above.emplace(std::string(name), std::make_unique<FlameNode>()).first;
  return *found->second;
}

void FlameNode::add(std::string_view class_of_work, std::int64_t count) {
  samples += count;
  const auto found = work.find(class_of_work);
  if (found == work.end()) {
    work.emplace(std::string(class_of_work), count);
  } else {
    found->second += count;
  }
}

FlameNode flame_tree(const std::vector<FlameProcess>& processes) {
  FlameNode root;
  for (const FlameProcess& process : processes) {
    for (const auto& stack : process.stacks) {
      std::string_view work;
      if (stack.frames != nullptr) work = stack.frames->work;
      root.add(work, stack.samples);
      FlameNode* node = &root.child(process.name);
      node->add(work, stack.samples);
      const auto frames =
          stack.frames == nullptr ? std::vector{kNoFrames} : flame_frames(stack.frames->frames);
      for (const std::string_view frame : frames) {
        node = &node->child(frame);
        node->add(work, stack.samples);
      }
    }
  }
  return root;
}

}  // namespace report

using namespace report;

FlameSize flame_size(const FlameInput& input) {
  FlameSize size;
  for (const FlameProcess& process : flame_processes(input)) {
    ++size.processes;
    for (const auto& stack : process.stacks) size.samples += stack.samples;
  }
  for (const FlameHost& host : input.hosts)
    size.stacks += static_cast<std::int64_t>(host.frames.rows.size());
  return size;
}

std::string flame_speedscope(const FlameInput& input) {
  std::map<std::string, std::size_t, std::less<>> numbers;
  Json frames = Json::array(), profiles = Json::array();
  const auto number_of = [&](std::string_view frame) {
    const auto found = numbers.find(frame);
    if (found != numbers.end()) return found->second;
    Json item = {{"name", frame}};
    const std::size_t colon = frame.rfind(':');
    if (colon != std::string_view::npos && colon > 0) item["file"] = frame.substr(0, colon);
    frames.push_back(std::move(item));
    return numbers.emplace(std::string(frame), numbers.size()).first->second;
  };
  for (const FlameProcess& process : flame_processes(input)) {
    Json samples = Json::array(), weights = Json::array();
    std::int64_t sum = 0;
    for (const auto& stack : process.stacks) {
      Json sample = Json::array();
      if (stack.frames == nullptr) {
        sample.push_back(number_of(kNoFrames));
      } else {
        for (const std::string_view frame : flame_frames(stack.frames->frames))
          sample.push_back(number_of(frame));
      }
      samples.push_back(std::move(sample));
      weights.push_back(stack.samples);
      sum += stack.samples;
    }
    profiles.push_back({{"type", "sampled"},
                        {"name", process.name},
                        {"unit", "none"},
                        {"startValue", 0},
                        {"endValue", sum},
                        {"samples", std::move(samples)},
                        {"weights", std::move(weights)}});
  }
  const Json document = {{"$schema", "https://www.speedscope.app/file-format-schema.json"},
                         {"exporter", "rigwise " RIGWISE_VERSION},
                         {"name", safe(input.run, 200)},
                         {"activeProfileIndex", 0},
                         {"shared", {{"frames", std::move(frames)}}},
                         {"profiles", std::move(profiles)}};
  return document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace rigwise
