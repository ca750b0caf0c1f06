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
    FrameLayer{"torch/serialization.py", FailureLayer::checkpoint},
    FrameLayer{"load_state_dict", FailureLayer::checkpoint},
    FrameLayer{"torch/distributed/checkpoint/", FailureLayer::checkpoint},
    FrameLayer{"safetensors/", FailureLayer::checkpoint},
    FrameLayer{"load_checkpoint", FailureLayer::checkpoint},
    FrameLayer{"argparse.py", FailureLayer::user_config},
    FrameLayer{"/yaml/", FailureLayer::user_config},
    FrameLayer{"configparser.py", FailureLayer::user_config},
};

/// Is a frame of the user's own code in it, and not of Python's or an installed package's alone?
bool has_own_frame(std::string_view frames) {
  for (const std::string_view frame : split(frames, '\n')) {
    if (!frame.starts_with("File \"")) continue;
    bool installed = false;
    for (const std::string_view place :
         {"/site-packages/", "/dist-packages/", "/lib/python", "/bin/"})
      installed = installed || frame.find(place) != std::string_view::npos;
    if (!installed && !frame.starts_with("File \"<")) return true;
  }
  return false;
}

}  // namespace

std::string_view exception_name(std::string_view message) {
  std::size_t end = 0;
  while (end < message.size() && end < 120 &&
         (is_letter(message[end]) || is_digit(message[end]) || message[end] == '_' ||
          message[end] == '.'))
    ++end;
  if (end < 5 || (end < message.size() && message[end] != ':')) return {};
  if (end < message.size() && end + 1 < message.size() && message[end + 1] != ' ' &&
      message[end + 1] != ':')
    return {};  // "Error:torch.distributed…" is a logger's
  std::string_view name = message.substr(0, end);
  const std::size_t dot = name.rfind('.');
  if (dot != std::string_view::npos) name.remove_prefix(dot + 1);
  if (name.empty() || name[0] < 'A' || name[0] > 'Z') return {};
  if (name == "Error" || name.ends_with("Warning")) return {};
  for (const std::string_view kind : {"Error", "Exception", "Interrupt", "SystemExit", "Timeout"}) {
    if (name.ends_with(kind)) return name;
  }
  return {};
}

FailureLayer layer_of_exception(std::string_view name, std::string_view message,
                                std::string_view frames) {
  if (name == "AttributeError" && message.find("module '") != std::string_view::npos)
    return FailureLayer::framework_env;
  std::size_t innermost = 0;
  std::optional<FailureLayer> by_frame;
  for (const FrameLayer& each : kFiles) {
    const std::size_t at = frames.rfind(each.file);
    if (at == std::string_view::npos || at + 1 <= innermost) continue;
    innermost = at + 1;
    by_frame = each.layer;
  }
  if (by_frame) return *by_frame;
  for (const TypeLayer& each : kTypes) {
    if (name.ends_with(each.type)) return each.layer;  // two ranks' names may be glued together
  }
  return !frames.empty() && !has_own_frame(frames) ? FailureLayer::framework_env
                                                   : FailureLayer::user_code;
}

}  // namespace rigwise::triage_parts
