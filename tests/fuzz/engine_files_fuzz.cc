// Any bytes as a safetensors file, as config.json and as adapter_config.json: no crash, no hang;
// tensors lie inside the file, and what is read is written and read back the same.
#include <sys/mman.h>
#include <unistd.h>

#include <string_view>

#include "engine/files/adapter_config.h"
#include "engine/files/model_config.h"
#include "engine/files/rope.h"
#include "engine/files/safetensors.h"
#include "hold.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace rigwise;
  using namespace rigwise::engine;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const int fd = ::memfd_create("fuzz", MFD_CLOEXEC);
  if (fd >= 0 && ::write(fd, data, size) == static_cast<ssize_t>(size)) {
    const auto file = SafetensorsFile::open("/proc/self/fd/" + std::to_string(fd));
    std::uint64_t sum = 0, held = 0;
    if (file) {
      for (const auto& tensor : file->tensors()) {
        for (const auto byte : tensor.bytes) sum += static_cast<unsigned char>(byte);
        held += tensor.bytes.size();
        hold(file->find(tensor.name) == &tensor, "found by name");
      }
      hold(held <= size, "no more than the file holds");
    }
    (void)sum;
  }
  if (fd >= 0) ::close(fd);
  (void)parse_safetensors_header(bytes, 1 << 20).ok();
  if (const auto config = parse_model_config(bytes, "config.json")) {
    hold(check_model_config(*config).ok(), "what is read is in range");
    const auto again = parse_model_config(model_config_json(*config), "config.json");
    hold(again.ok() && *again == *config, "config.json reads back");
  }
  if (const auto adapter = parse_adapter_config(bytes, "adapter_config.json")) {
    const auto again = parse_adapter_config(adapter_config_json(*adapter), "adapter_config.json");
    hold(again.ok() && *again == *adapter, "adapter_config.json reads back");
    (void)adapted_modules(*adapter, {"model.layers.0.self_attn.q_proj", "lm_head"}).ok();
    (void)adapter_shape(*adapter, "model.layers.0.self_attn.q_proj").ok();
  }
  return 0;
}
