// Exceptions that no row of the table knows: their names, and the layers that their types and the
// files they came through belong to.
#include <algorithm>
#include <array>

#include "base/text.h"
#include "triage/clues.h"

namespace rigwise::triage_parts {

namespace {

/// Where exceptions of these types come from when nothing else is known.
struct TypeLayer {
  std::string_view type;
  FailureLayer layer;
};
constexpr std::array kTypes = {
    TypeLayer{"ImportError", FailureLayer::framework_env},
    TypeLayer{"ModuleNotFoundError", FailureLayer::framework_env},
    TypeLayer{"PermissionError", FailureLayer::storage_io_permission},
    TypeLayer{"FileNotFoundError", FailureLayer::user_config},
    TypeLayer{"NotADirectoryError", FailureLayer::user_config},
    TypeLayer{"IsADirectoryError", FailureLayer::user_config},
    TypeLayer{"FileExistsError", FailureLayer::user_config},
    TypeLayer{"OSError", FailureLayer::storage_io_permission},
    TypeLayer{"IOError", FailureLayer::storage_io_permission},
    TypeLayer{"MemoryError", FailureLayer::host_oom},
    TypeLayer{"OutOfMemoryError", FailureLayer::gpu_oom},
    TypeLayer{"UnboundLocalError", FailureLayer::user_code},
    TypeLayer{"HTTPError", FailureLayer::storage_io_permission},
    TypeLayer{"SSLError", FailureLayer::storage_io_permission},
    TypeLayer{"ProxyError", FailureLayer::storage_io_permission},
    TypeLayer{"ReadTimeout", FailureLayer::storage_io_permission},
    TypeLayer{"ConnectTimeout", FailureLayer::storage_io_permission},
    TypeLayer{"NoSuchFile", FailureLayer::user_config},
    TypeLayer{"BrokenProcessPool", FailureLayer::user_code},
    TypeLayer{"DistributionNotFound", FailureLayer::framework_env},
    TypeLayer{"VersionConflict", FailureLayer::framework_env},
    TypeLayer{"PackageNotFoundError", FailureLayer::framework_env},
    TypeLayer{"NotImplementedError", FailureLayer::framework_env},
    TypeLayer{"OverflowError", FailureLayer::numerics},
    TypeLayer{"ConnectionRefusedError", FailureLayer::rendezvous_network},
    TypeLayer{"ConnectionResetError", FailureLayer::rendezvous_network},
    TypeLayer{"ConnectionError", FailureLayer::rendezvous_network},
    TypeLayer{"TimeoutError", FailureLayer::rendezvous_network},
    TypeLayer{"gaierror", FailureLayer::rendezvous_network},
    TypeLayer{"DistNetworkError", FailureLayer::rendezvous_network},
    TypeLayer{"DistStoreError", FailureLayer::rendezvous_network},
    TypeLayer{"RendezvousConnectionError", FailureLayer::rendezvous_network},
    TypeLayer{"UnicodeDecodeError", FailureLayer::data_pipeline},
    TypeLayer{"JSONDecodeError", FailureLayer::data_pipeline},
    TypeLayer{"SafetensorError", FailureLayer::checkpoint},
    TypeLayer{"UnpicklingError", FailureLayer::checkpoint},
    TypeLayer{"ValueError", FailureLayer::user_config},
    TypeLayer{"TypeError", FailureLayer::user_config},
    TypeLayer{"AssertionError", FailureLayer::user_config},
    TypeLayer{"ValidationError", FailureLayer::user_config},
    TypeLayer{"ScannerError", FailureLayer::user_config},
    TypeLayer{"ParserError", FailureLayer::user_config},
    TypeLayer{"ConfigError", FailureLayer::user_config},
    TypeLayer{"MissingConfigException", FailureLayer::user_config},
    TypeLayer{"FloatingPointError", FailureLayer::numerics},
};

/// Code that one layer is made of; the innermost frame that is in one of them counts.
struct FrameLayer {
  std::string_view file;
  FailureLayer layer;
};
constexpr std::array kFiles = {
    FrameLayer{"torch/utils/data/_utils/", FailureLayer::data_pipeline},
    FrameLayer{"/datasets/", FailureLayer::data_pipeline},
    FrameLayer{"/tarfile.py", FailureLayer::data_pipeline},
    FrameLayer{"/zipfile", FailureLayer::data_pipeline},
    FrameLayer{"/gzip.py", FailureLayer::data_pipeline},
    FrameLayer{"/lzma.py", FailureLayer::data_pipeline},
    FrameLayer{"/bz2.py", FailureLayer::data_pipeline},
    FrameLayer{"/csv.py", FailureLayer::data_pipeline},
    FrameLayer{"numpy/lib/", FailureLayer::data_pipeline},
    FrameLayer{"pandas/io/", FailureLayer::data_pipeline},
    FrameLayer{"/pyarrow/", FailureLayer::data_pipeline},
    FrameLayer{"/PIL/", FailureLayer::data_pipeline},
    FrameLayer{"webdataset/", FailureLayer::data_pipeline},
    FrameLayer{"streaming/base/", FailureLayer::data_pipeline},
    FrameLayer{"batchgenerators/", FailureLayer::data_pipeline},
    FrameLayer{"transformers/data/", FailureLayer::data_pipeline},
    FrameLayer{"transformers/tokenization_", FailureLayer::data_pipeline},
    FrameLayer{"transformers/utils/import_utils.py", FailureLayer::framework_env},
    FrameLayer{"transformers/hf_argparser.py", FailureLayer::user_config},
    FrameLayer{"transformers/training_args.py", FailureLayer::user_config},
    FrameLayer{"bitsandbytes/cextension.py", FailureLayer::framework_env},
    FrameLayer{"torch/_inductor/", FailureLayer::framework_env},
    FrameLayer{"torch/_dynamo/", FailureLayer::framework_env},
    FrameLayer{"torch/utils/cpp_extension.py", FailureLayer::framework_env},
    FrameLayer{"torch/cuda/__init__.py", FailureLayer::driver},
    FrameLayer{"torch/accelerator/", FailureLayer::driver},
    FrameLayer{"/ctypes/__init__.py", FailureLayer::framework_env},
    FrameLayer{"importlib/metadata/", FailureLayer::framework_env},
    FrameLayer{"/pkg_resources/", FailureLayer::framework_env},
    FrameLayer{"/triton/", FailureLayer::framework_env},
    FrameLayer{"huggingface_hub/utils/_http.py", FailureLayer::storage_io_permission},
    FrameLayer{"huggingface_hub/hf_", FailureLayer::storage_io_permission},
    FrameLayer{"huggingface_hub/file_download.py", FailureLayer::storage_io_permission},
    FrameLayer{"/requests/", FailureLayer::storage_io_permission},
    FrameLayer{"/httpx/", FailureLayer::storage_io_permission},
    FrameLayer{"/urllib3/", FailureLayer::storage_io_permission},
    FrameLayer{"torch/distributed/elastic/rendezvous/", FailureLayer::rendezvous_network},
    FrameLayer{"torch/distributed/rendezvous.py", FailureLayer::rendezvous_network},
    FrameLayer{"accelerate/checkpointing.py", FailureLayer::checkpoint},
    FrameLayer{"peft/utils/save_and_load.py", FailureLayer::checkpoint},
    FrameLayer{"\"<frozen os>\"", FailureLayer::user_config},
    FrameLayer{"/os.py\", line", FailureLayer::user_config},
    FrameLayer{"/click/", FailureLayer::user_config},
    FrameLayer{"/hydra/", FailureLayer::user_config},
    FrameLayer{"/omegaconf/", FailureLayer::user_config},
    FrameLayer{"/pydantic/", FailureLayer::user_config},
    FrameLayer{"torch/serialization.py", FailureLayer::checkpoint},
    FrameLayer{"load_state_dict", FailureLayer::checkpoint},
    FrameLayer{"torch/distributed/checkpoint/", FailureLayer::checkpoint},
    FrameLayer{"safetensors/", FailureLayer::checkpoint},
    FrameLayer{"load_checkpoint", FailureLayer::checkpoint},
    FrameLayer{"argparse.py", FailureLayer::user_config},
    FrameLayer{"/yaml/", FailureLayer::user_config},
    FrameLayer{"configparser.py", FailureLayer::user_config},
};

/// C++ sources that messages name, as "[enforce fail at …]" and c10 do.
constexpr std::array kSources = {
    FrameLayer{"gloo/transport/", FailureLayer::rendezvous_network},
    FrameLayer{"gloo/rendezvous/", FailureLayer::rendezvous_network},
    FrameLayer{"c10d/socket.cpp", FailureLayer::rendezvous_network},
    FrameLayer{"c10d/TCPStore", FailureLayer::rendezvous_network},
    FrameLayer{"ProcessGroup", FailureLayer::collective_timeout},
    FrameLayer{"alloc_cpu.cpp", FailureLayer::host_oom},
    FrameLayer{"MapAllocator.cpp", FailureLayer::storage_space},
    FrameLayer{"inline_container.cc", FailureLayer::checkpoint},
    FrameLayer{"CUDACachingAllocator", FailureLayer::gpu_oom},
};

/// Is a frame of the user's own code, and not of Python's or an installed package's?
bool is_own(std::string_view frame) {
  if (!frame.starts_with("File \"") || frame.starts_with("File \"<")) return false;
  for (const std::string_view place :
       {"/site-packages/", "/dist-packages/", "/lib/python", "/bin/"}) {
    if (frame.find(place) != std::string_view::npos) return false;
  }
  return true;
}

struct OwnFrames {
  bool any = false, innermost = false;
};

OwnFrames own_frames(std::string_view frames) {
  OwnFrames out;
  for (const std::string_view frame : split(frames, '\n')) {
    if (frame.empty()) continue;
    out.innermost = is_own(frame);
    out.any = out.any || out.innermost;
  }
  return out;
}

/// Can a word be an exception's name, by its form: "queue.Empty", "BrokenProcessPool"?
bool looks_like_exception(std::string_view whole, std::string_view name) {
  if (whole.size() > name.size()) return true;  // of a module
  const auto small = [](char c) { return c >= 'a' && c <= 'z'; };
  return std::any_of(name.begin(), name.end(), small);
}

}  // namespace

std::string_view exception_name(std::string_view message, bool due) {
  std::size_t end = 0;
  while (end < message.size() && end < 120 &&
         (is_letter(message[end]) || is_digit(message[end]) || message[end] == '_' ||
          message[end] == '.'))
    ++end;
  if (end < 5 || (end < message.size() && message[end] != ':')) return {};
  if (end < message.size() && end + 1 < message.size() && message[end + 1] != ' ' &&
      message[end + 1] != ':')
    return {};  // "Error:torch.distributed…" is a logger's
  const std::string_view whole = message.substr(0, end);
  std::string_view name = whole;
  const std::size_t dot = name.rfind('.');
  if (dot != std::string_view::npos) name.remove_prefix(dot + 1);
  if (name.empty() || name[0] < 'A' || name[0] > 'Z') return {};
  if (name == "Error" || name.ends_with("Warning")) return {};
  for (const std::string_view kind : {"Error", "Exception", "Interrupt", "SystemExit", "Timeout"}) {
    if (name.ends_with(kind)) return name;
  }
  return due && looks_like_exception(whole, name) ? name : std::string_view();
}

FailureLayer layer_of_exception(std::string_view name, std::string_view message,
                                std::string_view frames) {
  if (name == "AttributeError" && message.find("module '") != std::string_view::npos)
    return FailureLayer::framework_env;
  const OwnFrames own = own_frames(frames);
  if (own.innermost && name == "TypeError") return FailureLayer::user_code;
  // a package that misses a name misses a version of another one
  if (name == "NameError" && own.any && !own.innermost) return FailureLayer::framework_env;
  for (const FrameLayer& each : kSources) {
    if (message.find(each.file) != std::string_view::npos) return each.layer;
  }
  std::size_t innermost = 0;
  std::optional<FailureLayer> by_frame;
  for (const FrameLayer& each : kFiles) {
    const std::size_t at = frames.rfind(each.file);
    if (at == std::string_view::npos || at + 1 <= innermost) continue;
    innermost = at + 1;
    by_frame = each.layer;
  }
  // no network is to blame where a launcher cannot use what it was given
  const bool given = name == "ValueError" || name == "KeyError";
  if (by_frame == FailureLayer::rendezvous_network && given) return FailureLayer::launcher;
  if (by_frame) return *by_frame;
  for (const TypeLayer& each : kTypes) {
    if (name.ends_with(each.type)) return each.layer;  // two ranks' names may be glued together
  }
  return !frames.empty() && !own.any ? FailureLayer::framework_env : FailureLayer::user_code;
}

}  // namespace rigwise::triage_parts
