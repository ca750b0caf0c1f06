// Channel: the few messages that front, recorder and keeper send each other over socket pairs.
//
// One datagram a message (SOCK_SEQPACKET): a fixed head, then text; a descriptor may travel along.
// Sending never blocks: a peer that hangs loses messages, nobody waits for it. All three processes
// come from one program by fork, so the layout needs no version.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/files.h"
#include "rigwise/result.h"

namespace rigwise {

enum class MessageKind : std::int32_t {
  // keeper → front, as its first act: without it the command was never started
  awake,
  // keeper → front and recorder
  started,    // pid, detail = errno of a failed exec (0: it runs), number = the keeper's own pid
  stopped,    // detail = stop signal
  continued,  //
  exited,     // detail = wait status, t_s
  drained,    // number = log bytes lost, detail = receive times lost: all output is delivered and
              // keeper.json is written
  profiling,  // before `started`: detail = 1: the command can be asked for traces, text = the
              // socket's folder; detail = 0: text = why not (empty: nothing to say)
  // front → keeper; recorder → keeper too, where it ends a command that hangs
  forward,  // detail = signal, number = 1: the command's whole group
  resume,   // SIGCONT to the command's group
  // front → keeper, recorder
  drop_signals,  // forget pending signals: they were the front's to handle
  // recorder → front and keeper
  recording,  // text = run directory, descriptor = its lock
  refused,    // text = why there is no run directory
  // recorder → keeper
  ask_trace,  // pid, text = name of the file, number = begin (Unix, ms), detail = length (ms),
              // t_s = instant until which asking makes sense
  // keeper → recorder
  trace_news,  // pid, detail = a KinetoEvent, t_s
  // recorder → front
  orphaned,  // the keeper died; pid and detail = wait status of the command, t_s
  closed,    // run.json holds the ending; only digests are to come
  alive,     // still at the digests
  finished,  // nothing more is written; text = what went wrong with run.json
  // keeper → attached terminal
  attached,  // number = log offset at which the live output begins, descriptor = the terminal
  output,    // text = bytes
  // anybody → recorder, on its control socket; it answers with `finished` when it is done
  pause_sampling,
  resume_sampling,
};

struct Message {
  MessageKind kind = MessageKind::started;
  std::int32_t pid = 0;
  std::int32_t detail = 0;
  std::int64_t number = 0;
  double t_s = 0;
  std::string text = {};
  int descriptor = -1;  // sending: borrowed; receiving: the caller's to close
};

struct ChannelPair {
  Fd one, other;
};
Result<ChannelPair> make_channel();

/// False when it could not be sent: the peer is gone or does not read.
bool send_message(int channel, const Message& message);

struct Received {
  std::optional<Message> message = {};  // empty: nothing waits, or the peer is gone
  bool closed = false;
};
/// Takes one message; never blocks.
Received receive_message(int channel);

/// Hands every message that waits to `take`, in order; never blocks. False: the peer is gone.
/// `take` leaves the channel open.
template <class Take>
bool take_messages(int channel, const Take& take) {
  for (;;) {
    Received received = receive_message(channel);
    if (received.closed) return false;
    if (!received.message) return true;
    take(*received.message);
  }
}

/// A listening socket `name` in `folder`, for its owner only; however long the path is.
Result<Fd> listen_in(const std::filesystem::path& folder, std::string_view name);
/// Errors: not_found (nobody listens), io.
Result<Fd> connect_in(const std::filesystem::path& folder, std::string_view name);
/// The next waiting connection of the same user (or root's); an invalid Fd where there is none.
Fd accept_own(int listener);

}  // namespace rigwise
