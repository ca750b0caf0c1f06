// Facts as JSON, both ways, by one list of members a struct.
#include <cmath>

#include "base/json.h"
#include "base/secrets.h"
#include "base/text.h"
#include "doctor/facts.h"

namespace rigwise::doctor {

namespace {

constexpr std::size_t kMostBytes = std::size_t{4} << 20, kMostText = 4096, kMostItems = 4096;

// ---- the members ------------------------------------------------------------------------------

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, HostFacts> {
  v("host", x.host), v("kernel", x.kernel), v("virtual_machine", x.virtual_machine);
  v("mem_total_bytes", x.mem_total_bytes), v("mem_available_bytes", x.mem_available_bytes);
  v("swap_total_bytes", x.swap_total_bytes), v("swap_free_bytes", x.swap_free_bytes);
  v("shm_total_bytes", x.shm_total_bytes), v("locked_bytes", x.locked_bytes);
  v("open_files", x.open_files), v("rdma", x.rdma), v("clock_synced", x.clock_synced);
  v("variables", x.variables);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, PciHop> {
  v("address", x.address), v("width", x.width), v("width_max", x.width_max);
  v("speed_gts", x.speed_gts), v("speed_max_gts", x.speed_max_gts);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, PciGpu> {
  v("address", x.address), v("vendor", x.vendor), v("name", x.name), v("driver", x.driver);
  v("hops", x.hops), v("hop_names", x.hop_names), v("iommu_type", x.iommu_type);
  v("acs_redirects", x.acs_redirects), v("largest_bar_bytes", x.largest_bar_bytes);
  v("aer_corrected", x.aer_corrected), v("aer_uncorrected", x.aer_uncorrected);
  v("nvme_beside", x.nvme_beside), v("answers", x.answers), v("asleep", x.asleep);
  v("bar_resizable", x.bar_resizable), v("withheld", x.withheld);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, DriverGpu> {
  auto& d = x.device;
  v("gpu", d.gpu), v("name", d.name), v("uuid", d.uuid), v("pci_address", d.pci_address);
  v("vendor", d.vendor), v("total_bytes", d.total_bytes), v("slowdown_c", d.slowdown_c);
  v("power_limit_w", d.power_limit_w), v("power_limit_max_w", d.power_limit_max_w);
  v("pcie_gen_max", d.pcie_gen_max), v("pcie_width_max", d.pcie_width_max);
  v("mig", d.mig), v("nvlink_to_all", d.nvlink_to_all);
  auto& s = x.sample;
  v("util_frac", s.util_frac), v("used_bytes", s.used_bytes), v("temp_c", s.temp_c);
  v("power_w", s.power_w), v("throttle_reasons", s.throttle_reasons), v("fan_frac", s.fan_frac);
  v("pcie_gen", s.pcie_gen), v("pcie_width", s.pcie_width);
  v("processes", s.other_processes), v("graphics_processes", s.graphics_processes);
  v("sm_clock_mhz", s.sm_clock_mhz), v("sm_clock_max_mhz", s.sm_clock_max_mhz);
  v("hops", x.hops);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, XidLine> {
  v("xid", x.xid), v("text", x.text);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, DeviceFacts> {
  v("pci", x.pci), v("driver", x.driver), v("why_no_driver", x.why_no_driver);
  v("problems", x.problems), v("driver_hung", x.driver_hung);
  v("driver_trouble", x.driver_trouble);
  v("driver_answer_s", x.driver_answer_s), v("nouveau", x.nouveau);
  v("nvidia_module", x.nvidia_module), v("nvidia_libraries", x.nvidia_libraries);
  v("nodes_missing", x.nodes_missing), v("nodes_denied", x.nodes_denied);
  v("uvm_missing", x.uvm_missing), v("kfd", x.kfd);
  v("kernel_log_readable", x.kernel_log_readable), v("kernel_log_from", x.kernel_log_from);
  v("xids", x.xids), v("downtrained", x.downtrained), v("leased", x.leased);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, TorchGpu> {
  v("index", x.index), v("name", x.name), v("capability", x.capability), v("pci", x.pci);
  v("uuid", x.uuid), v("total_bytes", x.total_bytes);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, Extension> {
  v("name", x.name), v("version", x.version), v("error", x.error);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, FrameworkFacts> {
  v("python", x.python), v("python_how", x.python_how), v("trouble", x.trouble);
  v("last_step", x.last_step), v("no_time", x.no_time), v("python_version", x.python_version);
  v("torch_error", x.torch_error), v("torch", x.torch), v("cuda", x.cuda), v("hip", x.hip);
  v("xpu", x.xpu), v("gpu_error", x.gpu_error), v("device_error", x.device_error);
  v("nccl_error", x.nccl_error), v("peer_error", x.peer_error), v("nccl", x.nccl);
  v("nccl_loaded", x.nccl_loaded), v("nccl_file", x.nccl_file), v("gloo", x.gloo);
  v("gpus", x.gpus);
  v("arch_list", x.arch_list), v("devices", x.devices), v("no_peer", x.no_peer);
  v("packages", x.packages), v("loaded", x.loaded), v("extensions", x.extensions);
  v("has_accelerate", x.has_accelerate), v("has_deepspeed", x.has_deepspeed);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, GpuWork> {
  v("index", x.index), v("pci", x.pci), v("trouble", x.trouble), v("last_step", x.last_step);
  v("no_time", x.no_time), v("hung", x.hung), v("correct", x.correct);
  v("to_device_bytes_per_s", x.to_device_bytes_per_s);
  v("from_device_bytes_per_s", x.from_device_bytes_per_s), v("loaded_hops", x.loaded_hops);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, PairTime> {
  v("from", x.from), v("to", x.to), v("bytes", x.bytes), v("seconds", x.seconds);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, RankWord> {
  v("step", x.step), v("world", x.world), v("together", x.together), v("wrong", x.wrong);
  v("pair", x.pair), v("reduce_bytes", x.reduce_bytes), v("reduce_s", x.reduce_s);
  v("error", x.error), v("done", x.done);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, LauncherTry> {
  v("name", x.name), v("skipped", x.skipped), v("command", x.command), v("hung", x.hung);
  v("no_time", x.no_time);
  v("exit_status", x.exit_status), v("tail", x.tail), v("answered", x.answered);
  v("world", x.world), v("together", x.together), v("last_step", x.last_step);
  v("seconds", x.seconds);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, LauncherFacts> {
  v("host", x.host), v("addresses", x.addresses), v("resolver_hung", x.resolver_hung);
  v("interfaces", x.interfaces), v("ports_in_use", x.ports_in_use);
  v("variables", x.variables), v("tries", x.tries);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, CollectiveTry> {
  v("backend", x.backend), v("skipped", x.skipped), v("command", x.command), v("hung", x.hung);
  v("exit_status", x.exit_status), v("ranks", x.ranks), v("last_step", x.last_step);
  v("trouble", x.trouble), v("wrong", x.wrong), v("pairs", x.pairs);
  v("reduce_bytes", x.reduce_bytes), v("reduce_s", x.reduce_s), v("complete", x.complete);
  v("no_time", x.no_time), v("log", x.log), v("left_out", x.left_out);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, CollectiveFacts> {
  v("tries", x.tries);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, StorageTry> {
  v("path", x.path), v("mount", x.mount), v("fs_type", x.fs_type), v("network", x.network);
  v("in_memory", x.in_memory), v("hung", x.hung), v("error", x.error);
  v("free_bytes", x.free_bytes), v("total_bytes", x.total_bytes);
  v("free_files", x.free_files), v("total_files", x.total_files);
  v("test_bytes", x.test_bytes), v("write_bytes_per_s", x.write_bytes_per_s);
  v("read_bytes_per_s", x.read_bytes_per_s), v("wrong", x.wrong);
  v("short_test", x.short_test), v("place", x.place), v("named", x.named);
  v("no_time", x.no_time), v("need_bytes", x.need_bytes), v("need_from", x.need_from);
  v("need_said", x.need_said), v("need_here", x.need_here);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, EarlierRun> {
  v("run", x.run), v("folder", x.folder), v("mount", x.mount);
  v("checkpoints", x.checkpoints), v("kept", x.kept);
  v("peak_bytes", x.peak_bytes), v("last_bytes", x.last_bytes);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, StorageFacts> {
  v("dirs", x.dirs), v("earlier", x.earlier), v("why_no_earlier", x.why_no_earlier);
}

template <class V, class T>
void fields(V& v, T& x) requires std::is_same_v<std::remove_const_t<T>, DoctorFacts> {
  v("host", x.host), v("devices", x.devices), v("framework", x.framework), v("work", x.work);
  v("launcher", x.launcher), v("collective", x.collective), v("storage", x.storage);
  v("cpu_meant", x.cpu_meant);
}

// ---- writing and reading ----------------------------------------------------------------------

template <class T>
concept Plain = std::is_same_v<T, std::string> || std::is_arithmetic_v<T>;

struct Write {
  Json out = Json::object();

  template <Plain T>
  static Json of(const T& value) {
    if constexpr (std::is_floating_point_v<T>) return json_number(value);
    return value;
  }
  template <class T>
  static Json of(const std::vector<T>& list) {
    Json array = Json::array();
    for (const T& item : list) array.push_back(of(item));
    return array;
  }
  static Json of(const std::map<std::string, std::string>& map) {
    Json object = Json::object();
    for (const auto& [key, value] : map) object[key] = value;
    return object;
  }
  template <class T>
  static Json of(const T& value) requires std::is_class_v<T> &&(!Plain<T>) {
    Write inner;
    fields(inner, value);
    return std::move(inner.out);
  }
  template <class T>
  void operator()(const char* name, const std::optional<T>& value) {
    if (value) out[name] = of(*value);
  }
  template <class T>
  void operator()(const char* name, const T& value) {
    out[name] = of(value);
  }
};

struct Read {
  const Json& in;

  /// False: it is of another type, and `value` is as it was.
  template <Plain T>
  static bool into(const Json& json, T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      if (!json.is_string()) return false;
      value = clean_text(json.get<std::string>(), kMostText);
    } else if constexpr (std::is_same_v<T, bool>) {
      if (!json.is_boolean()) return false;
      value = json.get<bool>();
    } else if constexpr (std::is_floating_point_v<T>) {
      if (json == "inf") return value = INFINITY, true;
      if (!json.is_number()) return false;
      value = json.get<T>();
    } else {
      if (!json.is_number_integer()) return false;
      value = json.get<T>();
    }
    return true;
  }
  template <class T>
  static bool into(const Json& json, std::vector<T>& list) {
    if (!json.is_array()) return false;
    list.clear();
    for (const Json& item : json) {
      T value = {};
      if (list.size() < kMostItems && into(item, value)) list.push_back(std::move(value));
    }
    return true;
  }
  static bool into(const Json& json, std::map<std::string, std::string>& map) {
    if (!json.is_object()) return false;
    for (const auto& [key, value] : json.items()) {
      std::string text;
      if (into(value, text)) map[clean_text(key, 256)] = std::move(text);
    }
    return true;
  }
  template <class T>
  static bool into(const Json& json, T& value) requires std::is_class_v<T> &&(!Plain<T>) {
    if (!json.is_object()) return false;
    Read inner{json};
    fields(inner, value);
    return true;
  }
  template <class T>
  void operator()(const char* name, std::optional<T>& value) {
    const auto found = in.find(name);
    T read = {};
    if (found != in.end() && into(*found, read)) value = std::move(read);
  }
  template <class T>
  void operator()(const char* name, T& value) {
    const auto found = in.find(name);
    if (found != in.end()) into(*found, value);
  }
};

template <class T>
std::string text_of(const T& facts) {
  return Write::of(facts).dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// What goes into the report; on its way from a child to us a path must stay what it is.
void mask_texts(Json& json) {
  if (json.is_string()) json = mask_secrets(json.get_ref<const std::string&>());
  if (json.is_structured()) {
    for (Json& part : json) mask_texts(part);
  }
}

template <class T>
Status read_into(std::string_view text, T& into) {
  RW_TRY(const Json json, parse_foreign_json(text, kMostBytes));
  Read::into(json, into);
  return Ok{};
}

}  // namespace

std::string to_json(const HostFacts& facts) {
  return text_of(facts);
}
std::string to_json(const DeviceFacts& facts) {
  return text_of(facts);
}
std::string to_json(const FrameworkFacts& facts) {
  return text_of(facts);
}
std::string to_json(const StorageTry& facts) {
  return text_of(facts);
}
std::string to_json(const StorageFacts& facts) {
  return text_of(facts);
}
std::string to_json(const DoctorFacts& facts) {
  Json json = Write::of(facts);
  mask_texts(json);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}
Status from_json(std::string_view text, HostFacts& into) {
  return read_into(text, into);
}
Status from_json(std::string_view text, DeviceFacts& into) {
  return read_into(text, into);
}
Status from_json(std::string_view text, StorageTry& into) {
  return read_into(text, into);
}
Status from_json(std::string_view text, StorageFacts& into) {
  return read_into(text, into);
}
Status from_json(std::string_view text, FrameworkFacts& into) {
  return read_into(text, into);
}
Status from_json(std::string_view text, GpuWork& into) {
  return read_into(text, into);
}
Status from_json(std::string_view text, RankWord& into) {
  return read_into(text, into);
}

}  // namespace rigwise::doctor
