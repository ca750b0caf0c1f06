// Stacks: what the Python code of a process is doing, seen from outside and without stopping it.
//
// `PythonProcess` reads frames of a live process; `classify` says which work a stack stands for.
// Threads: a PythonProcess belongs to one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "rigwise/result.h"

namespace rigwise {

/// A code object: what a frame executes.
struct PythonCode {
  std::string file = {};      // co_filename, as Python knows it
  std::string function = {};  // co_qualname where there is one (3.11 on), else co_name
  int first_line = 0;
};

struct PythonFrame {
  const PythonCode* code = nullptr;  // lives as long as the PythonProcess
  int instruction = -1;  // byte offset into the code where it stands; -1 where not known
};

enum class StackRead {
  whole,     // frames are a stack that really was
  no_frame,  // the main thread runs no Python code now: starting up, or ending
  torn,      // the process moved while it was read: drop the sample
  gone,      // it died, executed another program, or may no longer be read
};

/// A running CPython interpreter (3.9 to 3.14 with its lock, x86-64 and AArch64), read with
/// process_vm_readv. 3.14 and AArch64 follow the published layouts and were not run here.
class PythonProcess {
 public:
  /// Errors: not_found (no such process); unavailable (no CPython in it, a build that is not known,
  /// or the kernel forbids reading it: the message says which, and what would allow it). A program
  /// that just started has no interpreter mapped yet: ask again later.
  static Result<PythonProcess> attach(pid_t pid);
  PythonProcess(PythonProcess&&) noexcept;
  PythonProcess& operator=(PythonProcess&&) noexcept;
  ~PythonProcess();

  /// The main thread's frames, innermost first, into `frames`. Never blocks, never stops the
  /// process.
  StackRead sample(std::vector<PythonFrame>& frames);
  /// The source line at which a frame stands; 0 where not known. Costs more than a sample: meant
  /// for stacks that are kept.
  int line_of(const PythonFrame& frame);
  [[nodiscard]] const std::string& version() const;  // "3.11"
  /// Reads of its memory so far (process_vm_readv): what looking costs.
  [[nodiscard]] std::uint64_t reads() const;

 private:
  struct State;
  explicit PythonProcess(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// A row that a user adds in lab.toml; it goes before the table's own
/// (src/profile/stack_classes.cc, docs/ledger.md).
struct StackPattern {
  std::string file = {};      // end of the path, at a '/'
  std::string function = {};  // "a|b" = either; "*" = any
  std::string work = {};
  bool whole = false;  // whatever it calls is that work too
};

inline constexpr std::string_view kNoPythonWork = "none";       // no Python frame at all
inline constexpr std::string_view kOtherPythonWork = "python";  // frames that no row names

/// The works that a pattern may name.
std::span<const std::string_view> stack_works();

/// Stack → work, by the table. One owner; keeps what it found out about each code object, so
/// `forget()` goes before a PythonProcess whose frames it saw.
class StackClassifier {
 public:
  explicit StackClassifier(std::vector<StackPattern> patterns = {});
  /// "input", "checkpoint", "evaluation", "sync", "rendezvous", "forward", "backward", "optimizer",
  /// "transfer", "device", "compile", "import", "load", "prepare", "launch", "log", "profiler",
  /// kOtherPythonWork or kNoPythonWork. Lives as long as the program, or as the patterns.
  std::string_view work_of(std::span<const PythonFrame> innermost_first);
  /// Of the stack judged last: which of its frames (0: the innermost) is the outermost one that
  /// waits, for data, other ranks or what was launched, whatever it calls; nothing where none does.
  [[nodiscard]] std::optional<std::size_t> wait_frame() const { return wait_frame_; }
  void forget();

 private:
  struct Verdict {
    std::string_view work = {};  // empty: the frame says nothing
    bool whole = false;
  };
  [[nodiscard]] Verdict verdict_of(const PythonCode& code) const;

  std::vector<StackPattern> patterns_;
  std::unordered_map<const PythonCode*, Verdict> verdicts_;
  std::optional<std::size_t> wait_frame_ = {};
};

}  // namespace rigwise
