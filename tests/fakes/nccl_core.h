// A stand-in for NCCL's core, as far as a profiler plug-in sees it: looks the plug-in's table up as
// NCCL does (newest version first), keeps the activation mask, and reports collectives from a
// launching thread and from a proxy thread. Its declarations of the interface are its own, written
// from the published layouts and not shared with the plug-in, so that a slip in one shows.
//
// Threads: one Core may be used from several at once, as NCCL uses a plug-in.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace rigwise::fake_nccl {

/// A collective or point-to-point call.
struct Call {
  const char* function = "AllReduce";
  const char* datatype = "ncclFloat32";
  std::uint64_t sequence = 0;
  std::size_t count = 1024;
  int channels = 2;
  int peer = 0;
  bool point_to_point = false;
};

class Core {
 public:
  /// Loads the plug-in and takes `version`'s table, or the newest that it has (0). Null where there
  /// is none.
  static std::unique_ptr<Core> load(const std::string& plugin, int version = 0);
  virtual ~Core() = default;

  [[nodiscard]] virtual int version() const = 0;
  [[nodiscard]] virtual const char* name() const = 0;
  /// NCCL's ncclProfilerEventMask, read as it reads it.
  [[nodiscard]] virtual int mask() const = 0;

  /// What init returned goes to `result`; the context is null where the plug-in gave none.
  virtual void* init(const char* comm_name, std::uint64_t hash, int nodes, int ranks, int rank,
                     int* result = nullptr) = 0;
  virtual void finalize(void* context) = 0;

  virtual void* start_group(void* context) = 0;
  virtual void* start_call(void* context, void* group, const Call& call, const char* comm_name,
                           std::uint64_t hash, int rank) = 0;
  virtual void* start_channel(void* context, void* parent, int channel,
                              std::uint64_t gpu_timer_ns) = 0;
  virtual void stop_channel(void* handle, std::uint64_t gpu_timer_ns) = 0;  // state, then stop
  virtual void record_stop(void* handle, std::uint64_t gpu_timer_ns, bool null_arguments) = 0;
  virtual void stop(void* handle) = 0;
  /// An event of that type with nothing filled in; `pid` for a proxy operation's owner.
  virtual void* start_any(void* context, std::uint64_t type, void* parent, int pid) = 0;
  virtual void start_null(void* context) = 0;
};

/// A collective from beginning to end, with its kernels where the mask asks for them: on the GPU
/// from `start_ns` to `stop_ns` of its own timer. Returns how many plug-in calls it took.
int whole_call(Core& core, void* context, const Call& call, const char* comm_name,
               std::uint64_t hash, int rank, std::uint64_t start_ns, std::uint64_t stop_ns);

}  // namespace rigwise::fake_nccl
