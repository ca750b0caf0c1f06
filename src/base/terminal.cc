#include "base/terminal.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "base/text.h"

namespace rigwise {

std::optional<int> terminal_columns(int fd) {
  constexpr std::int64_t kMost = 1 << 16;  // the kernel's own figure has 16 bits
  if (const char* columns = std::getenv("COLUMNS"); columns != nullptr) {
    const auto width = to_integer(columns);
    if (width && *width > 0) return static_cast<int>(std::min(*width, kMost));
  }
  winsize size = {};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return {};
  return size.ws_col;
}

}  // namespace rigwise
