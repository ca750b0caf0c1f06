// Flame: stack samples as a tree of frames, for the two forms that they are exported in.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/flame.h"

namespace rigwise::report {

/// One process that was sampled, and its stacks in the order of time.
struct FlameProcess {
  std::string name = {};  // "rank 0 on host-a (pid 4127)"
  struct Stack {
    const StackFrames* frames = nullptr;  // nullptr: they are not in the run directory
    std::int64_t samples = 0;
  };
  std::vector<Stack> stacks = {};
};

/// Ranks first, in their order; then by role and pid.
std::vector<FlameProcess> flame_processes(const FlameInput& input);

/// The frames of "train.py:main;trainer.py:train", outermost first, at most kMostFlameFrames: of a
/// deeper recursion the innermost are cut off.
inline constexpr std::size_t kMostFlameFrames = 256;
std::vector<std::string_view> flame_frames(std::string_view folded);

/// A frame and all that was seen above it.
struct FlameNode {
  std::int64_t samples = 0;
  std::map<std::string, std::int64_t, std::less<>> work = {};  // samples by class of work
  std::map<std::string, std::unique_ptr<FlameNode>, std::less<>> above = {};

  FlameNode& child(std::string_view name);
  void add(std::string_view class_of_work, std::int64_t count);
};

FlameNode flame_tree(const std::vector<FlameProcess>& processes);

}  // namespace rigwise::report
