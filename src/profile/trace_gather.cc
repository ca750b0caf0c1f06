#include "profile/trace_gather.h"

#include <algorithm>

#include "base/text.h"

namespace rigwise {

namespace {

constexpr std::size_t kMostThreads = 1024;
constexpr std::size_t kMostStreams = 4096;
constexpr std::size_t kMostCollectives = 65536;
constexpr std::size_t kMostNameBytes = 64;

enum class Category { other, work, kernel, copy, launch, profiler };

/// Kineto's names since torch 1.12, and those before it.
Category category_of(std::string_view name) {
  switch (name.empty() ? '\0' : name.front()) {
    case 'c':
      if (name == "cpu_op") return Category::work;
      if (name == "cuda_runtime" || name == "cuda_driver") return Category::launch;
      if (name == "concurrent_kernel") return Category::kernel;
      break;
    case 'u':
      if (name == "user_annotation") return Category::work;
      break;
    case 'O':
      if (name == "Operator") return Category::work;
      break;
    case 'k':
    case 'K':
      if (name == "kernel" || name == "Kernel") return Category::kernel;
      break;
    case 'g':
      if (name == "gpu_memcpy" || name == "gpu_memset") return Category::copy;
      break;
    case 'M':
      if (name == "Memcpy" || name == "Memset") return Category::copy;
      break;
    case 'R':
      if (name == "Runtime") return Category::launch;
      break;
    case 'h':
    case 'x':
      if (name.ends_with("_runtime") || name.ends_with("_driver")) return Category::launch;
      break;
    case 'T':
      if (name == "Trace") return Category::profiler;
      break;
    default:
      break;
  }
  return Category::other;
}

/// Calls that put work on a stream: the rest of the runtime's calls has no kernel.
bool puts_work(std::string_view name) {
  return name.find("aunch") != std::string_view::npos ||
         name.find("emcpy") != std::string_view::npos ||
         name.find("emset") != std::string_view::npos;
}

bool is_collective_call(std::string_view name) {
  return name.starts_with("c10d::") || name.starts_with("_c10d_functional::") ||
         name.starts_with("c10d_functional::") || name == "record_param_comms";
}

/// "all_reduce", "ncclDevKernel_AllReduce_Sum_f32_RING_LL(…)" and "AllReduce" → "allreduce".
std::string plain_name(std::string_view name) {
  if (name.starts_with("nccl")) {
    const auto from = name.find('_');
    if (from != std::string_view::npos) {
      name.remove_prefix(from + 1);
      name = name.substr(0, name.find_first_of("_(<"));
    }
  }
  std::string out;
  for (const char byte : name.substr(0, kMostNameBytes)) {
    if (byte != '_' && byte != ' ') out += byte >= 'A' && byte <= 'Z' ? char(byte + 32) : byte;
  }
  return clean_text(out, kMostNameBytes);
}

}  // namespace

void TraceGather::event(const TraceEvent& event) {
  if (full_) return;
  switch (event.phase) {
    case 'X':
      complete(event);
      break;
    case 'i':
    case 'I':
    case 'M':
    case 's':
    case 't':
    case 'f':
    case 'C':
    case 'B':
    case 'E':
    case 'b':
    case 'e':
    case 'n':
      break;
    default:
      ++unknown_phases;
  }
  if (--until_weighed_ < 0) weigh();
}

void TraceGather::member(std::string_view key, std::string_view value) {
  if (key == "baseTimeNanoseconds") {
    base_ns = to_integer(value);
  } else if (key == "distributedInfo") {
    distributed = value;
  } else if (key == "host_name" && value.size() > 2) {
    host = clean_text(value.substr(1, value.size() - 2), 255);
  }
}

void TraceGather::complete(const TraceEvent& event) {
  const Category category = category_of(event.category);
  if (category == Category::other) return;
  if (!event.has_begin || !event.has_dur || event.dur_ns < 0) {
    ++bad_times;
    return;
  }
  switch (category) {
    case Category::work:
      return host_event(event);
    case Category::kernel:
      return kernel(event, event.name.starts_with("nccl") ? TraceKernel::Kind::communication
                                                          : TraceKernel::Kind::compute);
    case Category::copy:
      return kernel(event, TraceKernel::Kind::copy);
    case Category::launch:
      return launch(event);
    default:
      if (event.name.starts_with("PyTorch Profiler")) {
        profiler = Span{event.begin_ns, event.begin_ns + event.dur_ns};
        ++used;
      }
  }
}

void TraceGather::host_event(const TraceEvent& event) {
  const std::int64_t begin = event.begin_ns, end = begin + event.dur_ns;
  if (event.name.starts_with("gloo:")) {  // on threads of gloo's own
    ++used;
    return collective(event, event.name.substr(5), false);
  }
  TraceThread* thread = thread_of(event);
  if (thread == nullptr) return;
  if (event.category.front() != 'u') {
    ++thread->operators;
    if (is_collective_call(event.name)) {
      thread->calls.add(begin, end);
    } else {
      thread->work.add(begin, end);
      if (event.name.starts_with("autograd::engine::evaluate_function"))
        thread->backward.add(begin, end);
    }
  }
  // annotations, which old versions wrote among the operators
  if (event.name.starts_with("Optimizer.step#")) {
    thread->optimizer.add(begin, end);
    thread->steps.push_back({begin, end});
  } else if (event.name.starts_with("enumerate(DataLoader)#")) {
    thread->input.add(begin, end);
  } else if (event.name.starts_with("ProfilerStep#")) {
    thread->profiler_steps.push_back({begin, end});
  } else if (event.category.front() == 'u') {
    return;  // the user's own ranges: they say nothing of the split
  }
  thread->first_ns = thread->seen ? std::min(thread->first_ns, begin) : begin;
  thread->last_ns = thread->seen ? std::max(thread->last_ns, end) : end;
  thread->seen = true;
  ++used;
}

void TraceGather::kernel(const TraceEvent& event, TraceKernel::Kind kind) {
  const auto stream = stream_of(event);
  if (!stream) return;
  kernels.push_back(
      {event.begin_ns, event.begin_ns + event.dur_ns, event.correlation, *stream, kind});
  ++used;
  if (kind == TraceKernel::Kind::communication) {
    collective(event, event.collective.empty() ? event.name : event.collective, true);
  }
}

void TraceGather::launch(const TraceEvent& event) {
  if (event.correlation < 0 || !puts_work(event.name)) return;
  TraceThread* thread = thread_of(event);
  if (thread == nullptr) return;
  launches.push_back(
      {event.correlation, event.begin_ns, static_cast<std::uint32_t>(thread - threads.data())});
  ++used;
}

void TraceGather::collective(const TraceEvent& event, std::string_view name, bool on_gpu) {
  if (collectives.size() >= kMostCollectives) return;
  collectives.push_back({plain_name(name), clean_text(event.group, kMostNameBytes), event.sequence,
                         event.elements, event.begin_ns, event.begin_ns + event.dur_ns, on_gpu});
}

TraceThread* TraceGather::thread_of(const TraceEvent& event) {
  if (last_thread_ < threads.size() && threads[last_thread_].tid == event.tid &&
      threads[last_thread_].pid == event.pid) {
    return &threads[last_thread_];
  }
  for (std::size_t i = 0; i < threads.size(); ++i) {
    if (threads[i].tid == event.tid && threads[i].pid == event.pid) {
      last_thread_ = i;
      return &threads[i];
    }
  }
  if (threads.size() >= kMostThreads) {
    ++foreign;
    return nullptr;
  }
  last_thread_ = threads.size();
  threads.push_back({.pid = event.pid, .tid = event.tid});
  return &threads.back();
}

std::optional<std::uint32_t> TraceGather::stream_of(const TraceEvent& event) {
  // Kineto draws a GPU as a process and its streams as threads
  const std::pair<std::int64_t, std::int64_t> key{event.device >= 0 ? event.device : event.pid,
                                                  event.stream >= 0 ? event.stream : event.tid};
  if (last_stream_ < streams.size() && streams[last_stream_] == key)
    return static_cast<std::uint32_t>(last_stream_);
  const auto found = std::find(streams.begin(), streams.end(), key);
  last_stream_ = static_cast<std::size_t>(found - streams.begin());
  if (found == streams.end()) {
    if (streams.size() >= kMostStreams) {
      ++foreign;
      return std::nullopt;
    }
    streams.push_back(key);
  }
  return static_cast<std::uint32_t>(last_stream_);
}

/// Now and then: how much is kept.
void TraceGather::weigh() {
  std::size_t bytes = kernels.capacity() * sizeof(TraceKernel) +
                      launches.capacity() * sizeof(TraceLaunch) +
                      collectives.size() * (sizeof(TraceRange) + kMostNameBytes);
  for (const auto& thread : threads) {
    bytes +=
        (thread.work.size() + thread.backward.size() + thread.calls.size() + thread.input.size() +
         thread.optimizer.size() + thread.steps.size() + thread.profiler_steps.size()) *
        sizeof(Span);
  }
  full_ = bytes > most_kept_bytes_;
  until_weighed_ = 4096;
}

}  // namespace rigwise
