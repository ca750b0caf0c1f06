// Launch: how the command will be connected to the world: which of its outputs run through a
// pseudo-terminal, which through a pipe, whose process group it joins, and what it inherits.
//
// Made by the front before anything is forked; keeper and recorder get it by fork.
//
//   control        when                                    the command's process group
//   own_terminal   stdout is our controlling terminal, or  its own, foreground of a new terminal
//   whose
//                  the run is detached                     session leader is the keeper
//   shared_group   we have a controlling terminal, but     the front's: the terminal's signals
//   reach
//                  stdout is not it (`| tee`, `> file`)    it as they would without us
//   own_group      no controlling terminal (cron, CI)      its own; the front forwards
#pragma once

#include <sys/types.h>
#include <termios.h>

#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "record/process.h"
#include "rigwise/record.h"

namespace rigwise {

enum class Control { own_terminal, shared_group, own_group };

/// One output of the command.
struct OutputStream {
  std::string name = {};        // "out" or "err": names its log
  bool terminal = false;        // a pseudo-terminal, else a pipe
  Fd source = {};               // the keeper's end; invalid: the stream is not there
  Fd command_end = {};          // becomes the command's descriptor 1 or 2
  int destination = -1;         // the user's own descriptor; -1: nobody (detached)
  int shared_destination = -1;  // the same open file once more (2>&1)
  bool inherited = false;       // no pseudo-terminal could be had: the command gets the user's own
};

struct Launch {
  std::string name = {};
  std::vector<std::string> argv = {};
  Control control = Control::own_group;
  bool detached = false;
  double start_monotonic_s = 0, start_unix_s = 0;
  OutputStream out, err;
  bool err_joins_out = false;  // the user's stdout and stderr are one open file
  bool err_is_apart = false;   // stderr has a log of its own
  bool out_closed = false, err_closed = false, in_closed = false;  // as we were started
  bool in_from_terminal = false;           // descriptor 0 is the new terminal too
  Fd user_terminal = {};                   // own_terminal, not detached: to read keys, set modes
  std::optional<termios> user_modes = {};  // as they were before we took the terminal over
  pid_t front_pid = 0, front_group = 0;
  SignalState original_signals = {};
  bool watch_nccl = false;                         // the plug-in of ours is wanted
  std::vector<std::string> nccl_environment = {};  // added to the command's, by the keeper
  std::vector<std::string> environment = {};       // the user's own, untouched
  // What the command gets besides, so that it can be asked for traces; only where `added_for`, a
  // path, can be reached from its process.
  std::vector<std::string> added_environment = {};
  std::string added_for = {};
  bool profile_windows = false;     // wanted
  std::vector<int> inherited = {};  // descriptors above 2 that the command gets
  std::vector<std::string> warnings = {};
};

/// Errors: io (no pipe can be made).
Result<Launch> plan_launch(const RecordOptions& options);

/// In the command's process: connects everything and executes it. Returns errno of the failed exec.
int execute_command(const Launch& launch);

/// The window size of `from` given to `to`; false where either is no terminal.
bool copy_window_size(int from, int to);

/// A run name made from the command when the user gave none: letters, digits, '.', '_', '-'.
std::string name_of_command(const std::vector<std::string>& argv);

}  // namespace rigwise
