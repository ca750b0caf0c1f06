// Kineto: short traces of an unmodified PyTorch process, asked for from outside while it trains.
//
// libkineto, which is part of every PyTorch, asks a local "daemon" once a second what it shall
// trace as soon as KINETO_USE_DAEMON stands in its environment. This is the daemon's side: the
// bytes, the socket, and the rules that say when a window is worth asking for. Protocol: pytorch
// kineto, libkineto/src/IpcFabricConfigClient.cpp and dynolog/src/ipcfabric (datagrams on a UNIX
// socket, native byte order); checked against torch 2.13.0.
//
// Two things must always hold: the process that trains is never kept waiting, and nothing of this
// shows in its output. A socket that nobody reads would hold up its exit by ten seconds (its sender
// tries again and again); a path that does not exist does not. So the socket's folder is reached
// through a descriptor of the process that serves it, /proc/PID/fd/N: when that process is gone,
// however it died, the path is gone with it and every client gives up at once.
//
// Threads: a KinetoDaemon belongs to one thread of one process; a child made by fork may drop it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/result.h"

namespace rigwise {

// ----------------------------------------------------------------------------------------------
// wire

enum class KinetoKind {
  context,  // "ctxt": a process makes itself known
  request,  // "req": is there something to trace?
};

struct KinetoMessage {
  KinetoKind kind = KinetoKind::request;
  bool takes_trace = false;             // request: none is pending or running in it
  std::int64_t job = 0;                 // SLURM_JOB_ID, else 0
  std::vector<std::int32_t> pids = {};  // as the sender counts them, itself first, then ancestors
};

/// One datagram. Errors: malformed (cut, longer or shorter than it says, of an unknown type).
Result<KinetoMessage> parse_kineto_message(std::string_view datagram);

/// The datagram that answers a message of that kind; the text of a configuration, which may be
/// empty, answers a request.
std::string kineto_answer(KinetoKind kind, std::string_view configuration);

/// What a process is asked to trace: everything it can, for `length_s`, beginning at `start_unix_s`
/// (every rank the same). `file` ends in ".json"; the process puts "_PID" before that.
std::string kineto_configuration(const std::string& file, double start_unix_s, double length_s);

/// Seconds that a request needs before its window can begin: the process asks once a second, looks
/// at what it got once a second, and warms up for one.
inline constexpr double kKinetoLead_s = 4.5;

// ----------------------------------------------------------------------------------------------
// daemon

enum class KinetoEvent : std::int32_t {
  appeared,  // the process asks for the first time
  took,      // it was given the configuration that waited for it
  busy,      // it takes no trace for now: one is running, ours or the user's own
  ready,     // it takes traces (again)
};
struct KinetoNews {
  pid_t pid = 0;  // as this process counts, told by the kernel, not by the sender
  KinetoEvent event = KinetoEvent::appeared;
};

class KinetoDaemon {
 public:
  /// Makes a folder of our own in `parent` (else $XDG_RUNTIME_DIR, else /tmp) with the socket in
  /// it. Errors: io.
  static Result<KinetoDaemon> open(const std::filesystem::path& parent = {});
  KinetoDaemon(KinetoDaemon&& other) noexcept;
  KinetoDaemon& operator=(KinetoDaemon&&) = delete;
  ~KinetoDaemon();  // removes the folder, in the process that made it

  [[nodiscard]] int fd() const { return socket_; }  // readable: serve() has something to do
  /// "NAME=value" for the process that is to be traced.
  [[nodiscard]] std::vector<std::string> environment() const;
  /// As clients reach it; a kernel may forbid other processes that path.
  [[nodiscard]] std::string socket_path() const;
  /// Where the folder really lies, for whoever removes it after a death of this process.
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  /// Traces go to `target` from now on; before that there is nowhere to write them.
  Status set_trace_folder(const std::filesystem::path& target);
  /// A file in the trace folder, as a traced process can name it.
  [[nodiscard]] std::string trace_path(std::string_view name) const;

  /// The next request of `pid` that takes a trace is answered with this configuration, unless it
  /// comes after `until_s` (of the clock that serve() is given).
  void ask(pid_t pid, std::string configuration, double until_s);
  /// Answers what waits, at most a few dozen datagrams; never blocks. Senders of other users,
  /// senders that are not in the folder and datagrams that make no sense are counted, not answered.
  std::vector<KinetoNews> serve(double now_s);
  [[nodiscard]] std::int64_t refused() const { return refused_; }

 private:
  struct Client {
    bool takes_trace = true;
  };
  struct Pending {
    std::string configuration;
    double until_s = 0;
  };
  KinetoDaemon() = default;
  bool serve_one(double now_s, std::vector<KinetoNews>& news);

  pid_t owner_ = -1;
  int socket_ = -1, folder_fd_ = -1;
  std::filesystem::path folder_;
  std::string address_;  // /proc/PID/fd/N
  std::map<pid_t, Client> clients_;
  std::map<pid_t, Pending> pending_;
  std::int64_t refused_ = 0;
};

/// Removes what open() made, and nothing else; for a folder whose owner died. Missing is fine.
void remove_kineto_folder(const std::filesystem::path& folder);

}  // namespace rigwise
