// Flame: the stack samples of a run as pictures. Pure: values in, one string out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rigwise/run.h"

namespace rigwise {

/// The stack samples of one host's processes.
struct FlameHost {
  std::string host = {};
  Rows<StackFrames> frames = {};
  Rows<StackCount> counts = {};
};
struct FlameInput {
  std::string run = {};  // its name
  std::vector<FlameHost> hosts = {};
};
struct FlameSize {
  std::int64_t samples = 0, processes = 0, stacks = 0;
};
FlameSize flame_size(const FlameInput& input);

/// A flame graph of the samples: one self-contained SVG file without scripts, every name escaped.
/// Width is share of samples, processes stand side by side on the ground, and colour is the class
/// of work that a frame's samples were in (grey: of several). Frames too narrow to be seen are left
/// out, and said.
std::string flame_svg(const FlameInput& input);
/// The same samples in the file format of speedscope (speedscope.app/file-format-schema.json): a
/// "sampled" profile a process, its samples in the order of time, weights in samples.
std::string flame_speedscope(const FlameInput& input);

}  // namespace rigwise
