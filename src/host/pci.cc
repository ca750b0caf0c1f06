#include "host/pci.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/text.h"
#include "host/kept_file.h"
#include "host/proc_text.h"

namespace rigwise {

namespace {
/// "0000:01:00.0"
bool is_address(std::string_view text) {
  static constexpr std::string_view kShape = "xxxx:xx:xx.x";
  if (text.size() != kShape.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool hex =
        std::string_view("0123456789abcdefABCDEF").find(text[i]) != std::string_view::npos;
    if (kShape[i] == 'x' ? !hex : text[i] != kShape[i]) return false;
  }
  return true;
}

std::optional<double> link_speed(const std::filesystem::path& file) {
  const auto text = read_small(file);
  return text ? parse_link_speed(*text) : std::nullopt;
}

std::optional<int> link_width(const std::filesystem::path& file) {
  const auto text = read_small(file);
  return text ? parse_link_width(*text) : std::nullopt;
}

std::string link_text(std::optional<int> width, std::optional<double> speed) {
  std::string out;
  if (width) out += "x" + std::to_string(*width);
  if (speed) {
    char text[32];
    std::snprintf(text, sizeof text, "%s%.1f GT/s", out.empty() ? "" : " ", *speed);
    out += text;
  }
  return out;
}
}  // namespace

std::optional<double> parse_link_speed(std::string_view text) {
  text = trim(text);
  return to_number(text.substr(0, text.find(' ')));
}

std::optional<int> parse_link_width(std::string_view text) {
  const auto value = to_integer(trim(text));
  if (!value || *value < 1 || *value > 32) return std::nullopt;
  return static_cast<int>(*value);
}

std::vector<PciHop> pci_hops(const HostRoot& root, std::string_view address) {
  std::vector<PciHop> hops;
  if (!is_address(address)) return hops;
  std::error_code error;
  const auto link = root / "sys/bus/pci/devices" / std::string(address);
  const auto target = std::filesystem::read_symlink(link, error);
  if (error) return hops;
  const auto folder = (link.parent_path() / target).lexically_normal();
  std::filesystem::path at;
  for (const auto& part : folder) {
    at /= part;
    if (!is_address(part.string())) continue;
    PciHop hop;
    hop.address = part.string();
    hop.width = link_width(at / "current_link_width");
    hop.width_max = link_width(at / "max_link_width");
    hop.speed_gts = link_speed(at / "current_link_speed");
    hop.speed_max_gts = link_speed(at / "max_link_speed");
    hops.push_back(std::move(hop));
    if (hops.size() >= 32) break;
  }
  return hops;
}

std::string hop_text(const PciHop& hop) {
  const std::string now = link_text(hop.width, hop.speed_gts);
  const std::string most = link_text(hop.width_max, hop.speed_max_gts);
  std::string out = hop.address + " " + (now.empty() ? "link unknown" : now);
  if (!most.empty() && most != now) out += " (max " + most + ")";
  return out;
}

std::optional<int> pcie_generation(double gts) {
  static constexpr double kSpeeds[] = {2.5, 5, 8, 16, 32, 64};
  for (int i = 0; i < 6; ++i) {
    if (std::abs(gts - kSpeeds[i]) < 0.2) return i + 1;
  }
  return std::nullopt;
}

PcieLink narrowest(const std::vector<PciHop>& hops) {
  PcieLink link;
  const auto less = [](std::optional<int>& into, std::optional<int> value) {
    if (value && (!into || *value < *into)) into = value;
  };
  for (const auto& hop : hops) {
    less(link.width, hop.width);
    less(link.width_max, hop.width_max);
    if (hop.speed_gts) less(link.gen, pcie_generation(*hop.speed_gts));
    if (hop.speed_max_gts) less(link.gen_max, pcie_generation(*hop.speed_max_gts));
  }
  return link;
}

std::string sysfs_pci_address(std::string_view address) {
  std::string text = lower(address);
  if (text.size() == 16 && text.starts_with("0000")) text.erase(0, 4);
  return text;
}

std::optional<std::string> pci_device_name(const HostRoot& root, std::string_view vendor_hex,
                                           std::string_view device_hex) {
  for (const char* file : {"usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids"}) {
    const auto text = read_file(root / file, 8 << 20);
    if (!text) continue;
    Lines lines(*text);
    std::string_view line;
    bool inside = false;
    while (lines.next(line)) {
      if (line.empty() || line.front() == '#') continue;
      if (line.front() != '\t') {
        if (inside) break;
        inside = line.starts_with(vendor_hex);
      } else if (inside && line.size() > 7 && line[1] != '\t' &&
                 line.substr(1).starts_with(device_hex)) {
        return clean_text(trim(line.substr(1 + device_hex.size())), 128);
      }
    }
  }
  return std::nullopt;
}

}  // namespace rigwise
