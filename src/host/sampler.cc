// HostSampler: asks every source at once, each on its own thread, and puts together what came in
// time.
#include <algorithm>
#include <map>

#include "base/clock.h"
#include "host/machine.h"
#include "host/tree.h"
#include "host/worker.h"
#include "rigwise/host.h"

namespace rigwise {

namespace {
constexpr std::size_t kMaxWatchedPaths = 16;

struct GpuRequest {
  double t_s = 0;
  std::vector<int> tree = {};
  bool slow = false;
};
struct GpuReply {
  std::vector<GpuSample> samples;
  std::vector<std::string> problems;
};
struct OpenReply {
  std::vector<std::shared_ptr<GpuSource>> sources;
  std::vector<std::string> why_not;
};
struct TreeRequest {
  double t_s = 0;
  bool slow = false;
};

using GpuWorker = Worker<GpuRequest, GpuReply>;
using SpaceWorker = Worker<int, std::optional<DiskSample>>;
}  // namespace

struct HostSampler::State {
  HostRoot root;
  SamplerOptions options;
  MachineReader machine;
  Worker<TreeRequest, TreeReading> processes;
  Worker<bool, SensorReading> sensors;
  bool sensors_found = false;
  std::unique_ptr<Worker<int, OpenReply>> opener;
  std::vector<std::unique_ptr<GpuWorker>> gpus;
  struct Space {
    std::unique_ptr<SpaceWorker> worker;
    bool fresh = true;  // not asked yet: does not wait for the slow tier
    bool wanted = false, asked = false;
  };
  std::map<std::string, Space> spaces;
  std::vector<std::string> why_no_gpu;

  std::vector<ProcSample> tree;
  std::map<std::string, double> link_bytes_per_s;
  double next_slow_s = 0;
  bool first = true;
  // At the first tick that could read all three: what others took is counted from there.
  struct Start {
    double process_s, tree_s, own_s;
  };
  std::optional<Start> start;
  double others_s = 0;

  State(HostRoot where, SamplerOptions how)
      : root(std::move(where)),
        options(std::move(how)),
        machine(root),
        processes("process tree", tree_work()),
        sensors("sensors", sensor_work()) {
    opener = std::make_unique<Worker<int, OpenReply>>("gpu", [where_ = root](const int&) {
      OpenReply reply;
      for (auto& source : open_gpu_sources(where_, &reply.why_not))
        reply.sources.push_back(std::move(source));
      return reply;
    });
    opener->post(0);
  }

  // The readers belong to their workers' threads: one that hangs must outlive the sampler.
  [[nodiscard]] Worker<TreeRequest, TreeReading>::Work tree_work() const {
    auto reader =
        std::make_shared<ProcessTree>(root, options.root_pid, options.reaper_pid, options.own_pids);
    return [reader](const TreeRequest& request) { return reader->read(request.t_s, request.slow); };
  }
  [[nodiscard]] Worker<bool, SensorReading>::Work sensor_work() const {
    return [where = root, reader = std::shared_ptr<SensorReader>()](const bool& slow) mutable {
      if (!reader) reader = std::make_shared<SensorReader>(where);
      return reader->read(slow);
    };
  }

  [[nodiscard]] std::string late(const std::string& name) const {
    return name + ": no answer within " + std::to_string(options.source_limit.count()) + " ms";
  }

  void finish_opening(std::chrono::steady_clock::time_point deadline, HostReading& reading) {
    if (!opener) return;
    auto opened = opener->wait(deadline);
    if (!opened) {
      if (opener->busy()) {
        reading.dropped.push_back("gpu: still being opened");
      } else {
        opener.reset();
        why_no_gpu.push_back("gpu: the sources could not be opened");
      }
      return;
    }
    if (opened->sources.empty()) why_no_gpu = std::move(opened->why_not);
    for (auto& source : opened->sources) {
      gpus.push_back(
          std::make_unique<GpuWorker>(source->name(), [source](const GpuRequest& request) {
            GpuReply reply;
            reply.samples = source->read(request.t_s, request.tree, request.slow);
            reply.problems = source->problems();
            return reply;
          }));
    }
    opener.reset();
  }

  void count_others(HostReading& reading, std::optional<double> process_s,
                    const TreeReading& tree_reading) {
    if (!process_s || !tree_reading.cpu_s) return;
    const Start now{*process_s, *tree_reading.cpu_s, tree_reading.own_cpu_s.value_or(0)};
    if (!start) start = now;
    const double others = (now.process_s - start->process_s) - (now.tree_s - start->tree_s) -
                          (now.own_s - start->own_s);
    // The two clocks (ticks of all CPUs, precise times of processes) differ by some 10 ms: never
    // back.
    others_s = std::max(others_s, others);
    reading.host->others_cpu_s = others_s;
  }

  void add_tree(HostReading& reading, TreeReading tree_reading, std::optional<double> process_s,
                bool slow) {
    HostSample& host = *reading.host;
    host.tree_cpu_s = tree_reading.cpu_s;
    host.own_cpu_s = tree_reading.own_cpu_s;
    host.tree_run_delay_s = tree_reading.run_delay_s;
    host.tree_rss_bytes = tree_reading.rss_bytes;
    if (tree_reading.cpu_s) {
      host.tree_processes = tree_reading.processes;
      host.tree_threads = tree_reading.threads;
    }
    if (slow) host.top_other = tree_reading.top_other;
    count_others(reading, process_s, tree_reading);
    tree = tree_reading.procs;
    reading.procs = std::move(tree_reading.procs);
  }

  void add_sensors(std::optional<SensorReading> sensed, HostReading& reading) {
    if (!sensed) {
      reading.dropped.push_back(late(sensors.name()));
      return;
    }
    sensors_found = sensed->temp_cpu_c || sensed->package_energy_j;
    reading.host->temp_cpu_c = sensed->temp_cpu_c;
    reading.host->package_energy_j = sensed->package_energy_j;
    for (auto& [name, speed] : sensed->link_bytes_per_s) link_bytes_per_s[name] = speed;
  }

  void ask_spaces(bool slow) {
    for (auto& [path, space] : spaces) {
      space.wanted = slow || space.fresh;
      space.asked = space.wanted && space.worker->post(0);
      space.fresh = false;
    }
  }

  void add_spaces(double t_s, std::chrono::steady_clock::time_point deadline,
                  HostReading& reading) {
    std::vector<std::string> have;
    for (auto& [path, space] : spaces) {
      if (!space.wanted) continue;
      auto disk = space.asked ? space.worker->wait(deadline) : std::nullopt;
      if (!disk) {
        reading.dropped.push_back(late("free space of " + path));
        continue;
      }
      if (!disk->has_value()) continue;
      // Paths of one file system give one row.
      if (std::find(have.begin(), have.end(), (*disk)->device) != have.end()) continue;
      have.push_back((*disk)->device);
      (*disk)->t_s = t_s;
      reading.disks.push_back(std::move(**disk));
    }
  }

  void watch(const std::filesystem::path& path) {
    std::error_code error;
    const std::string key = std::filesystem::absolute(path, error).lexically_normal().string();
    if (error || spaces.size() >= kMaxWatchedPaths || spaces.contains(key)) return;
    Space space;
    space.worker = std::make_unique<SpaceWorker>(
        "free space", [where = root, key](const int&) { return read_space(where, key); });
    spaces.emplace(key, std::move(space));
  }

  HostReading tick(double t_s);
};

HostReading HostSampler::State::tick(double t_s) {
  HostReading reading;
  const bool slow = first || t_s >= next_slow_s;
  first = false;
  if (slow) next_slow_s = t_s + options.slow_every_s;
  const auto deadline = std::chrono::steady_clock::now() + options.source_limit;

  // Ask everybody, then read what cannot hang, then collect.
  std::vector<bool> asked;
  const auto ask_gpus = [&](bool costly) {
    std::vector<int> pids;
    for (const auto& process : tree) pids.push_back(process.pid);
    for (std::size_t i = asked.size(); i < gpus.size(); ++i)
      asked.push_back(gpus[i]->post({t_s, pids, costly}));
  };
  ask_gpus(slow);
  const bool tree_asked = processes.post({t_s, slow});
  const bool sensors_wanted = slow || sensors_found;
  const bool sensors_asked = sensors_wanted && sensors.post(slow);
  ask_spaces(slow);

  reading.host.emplace();
  reading.host->t_s = t_s;
  reading.host->wall_unix_s = unix_s();
  std::optional<double> process_s;
  machine.read(*reading.host, process_s);
  machine.read_disks(t_s, slow, reading.disks);
  machine.read_nets(t_s, reading.nets);

  auto tree_reading = tree_asked ? processes.wait(deadline) : std::nullopt;
  if (tree_reading)
    add_tree(reading, std::move(*tree_reading), process_s, slow);
  else
    reading.dropped.push_back(late(processes.name()));

  finish_opening(deadline, reading);
  ask_gpus(true);  // sources that have just been opened

  if (sensors_wanted) add_sensors(sensors_asked ? sensors.wait(deadline) : std::nullopt, reading);
  for (auto& net : reading.nets) {
    const auto known = link_bytes_per_s.find(net.interface);
    if (known != link_bytes_per_s.end()) net.link_bytes_per_s = known->second;
  }
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    auto reply = asked[i] ? gpus[i]->wait(deadline) : std::nullopt;
    if (!reply) {
      reading.dropped.push_back(late(gpus[i]->name()));
      continue;
    }
    for (auto& problem : reply->problems) reading.dropped.push_back(std::move(problem));
    reading.gpus.insert(reading.gpus.end(), reply->samples.begin(), reply->samples.end());
  }
  add_spaces(t_s, deadline, reading);
  return reading;
}

HostSampler::HostSampler(HostRoot root, SamplerOptions options)
    : state_(std::make_unique<State>(std::move(root), std::move(options))) {
  for (const auto& path : state_->options.watched_paths) state_->watch(path);
}

HostSampler::~HostSampler() = default;

HostReading HostSampler::tick(double t_s) {
  return state_->tick(t_s);
}

void HostSampler::watch_path(const std::filesystem::path& path) {
  state_->watch(path);
}

const std::vector<ProcSample>& HostSampler::tree() const {
  return state_->tree;
}

const std::vector<std::string>& HostSampler::why_no_gpu() const {
  return state_->why_no_gpu;
}

}  // namespace rigwise
