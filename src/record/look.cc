#include "record/look.h"

#include <chrono>
#include <thread>

#include "base/text.h"
#include "host/blocked.h"

namespace rigwise {

namespace {

using namespace std::chrono_literals;

constexpr int kTries = 20;  // a process may move, or start, while it is read
constexpr auto kBetweenTries = 5ms;
constexpr std::size_t kMostFrames = 200;

std::string_view name_of(StackRead read) {
  switch (read) {
    case StackRead::whole:
      return "whole";
    case StackRead::no_frame:
      return "no_frame";
    case StackRead::torn:
      return "torn";
    case StackRead::gone:
      return "gone";
  }
  return "?";
}

void look_at_python(ProcessLook& process, const LookOptions& options) {
  auto python = PythonProcess::attach(process.pid);
  if (!python) {
    const bool gone = python.error().code == Errc::not_found;
    process.read = gone ? "gone" : "unavailable";
    if (gone) return;
    process.why = clean_text(python.error().message, 400);
    process.hint = clean_text(python.error().hint, 400);
    return;
  }
  process.python = python->version();
  std::vector<PythonFrame> frames;
  StackRead read = StackRead::torn;
  for (int i = 0; i < kTries; ++i) {
    read = python->sample(frames);
    if (read == StackRead::whole || read == StackRead::gone) break;
    std::this_thread::sleep_for(kBetweenTries);
  }
  process.read = name_of(read);
  if (read == StackRead::torn || read == StackRead::gone) return;
  StackClassifier classifier(options.patterns);
  process.work = std::string(classifier.work_of(frames));
  for (const PythonFrame& frame : frames) {
    if (frame.code == nullptr || process.frames.size() >= kMostFrames) continue;
    process.frames.push_back(
        {clean_text(frame.code->file), clean_text(frame.code->function), python->line_of(frame)});
  }
}

}  // namespace

ProcessLook look_of(const ProcSample& row) {
  ProcessLook process;
  process.pid = row.pid;
  process.ppid = row.ppid;
  process.role = row.role;
  process.rank = row.rank;
  process.comm = row.comm;
  return process;
}

ProcessLook look_at(const ProcSample& row, const LookOptions& options) {
  ProcessLook process = look_of(row);
  if (look_at_kernel(options.proc, process)) {
    look_at_python(process, options);
  } else {
    process.read = "gone";
  }
  return process;
}

}  // namespace rigwise
