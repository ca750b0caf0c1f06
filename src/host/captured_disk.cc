// Disks: df in its many forms, du, lsblk as a tree, as pairs and as JSON.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "host/captured_forms.h"

namespace rigwise::captured {

namespace {

constexpr std::size_t kMostMounts = 1000, kMostDisks = 1000;

bool is_percent(std::string_view word) {
  return word.size() >= 2 && word.size() <= 7 && word.back() == '%' &&
         number_of(word.substr(0, word.size() - 1)).has_value();
}
bool is_dash(std::string_view word) {
  return word == "-";
}
bool is_size(std::string_view word) {
  return is_dash(word) || (count_digits(word.substr(0, 1)) == 1 && size_of(word).has_value());
}

bool is_network(std::string_view type, std::string_view device) {
  constexpr std::array<std::string_view, 14> kTypes = {
      "nfs",    "nfs4",   "cifs",      "smb3",       "smbfs",          "afs", "ceph",
      "beegfs", "lustre", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "9p",  "gpfs"};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end() ||
         device.starts_with("//") || device.find(":/") != std::string_view::npos;
}
bool is_virtual(std::string_view type, std::string_view device) {
  constexpr std::array<std::string_view, 14> kNames = {
      "tmpfs", "devtmpfs", "squashfs", "udev", "none", "sysfs",  "proc",
      "devfs", "efivarfs", "shm",      "run",  "dev",  "cgroup", "ramfs"};
  return std::find(kNames.begin(), kNames.end(), type) != kNames.end() ||
         std::find(kNames.begin(), kNames.end(), device) != kNames.end() ||
         device.starts_with("map ");
}

Mount& mount_at(const std::string& path, Sink& sink) {
  auto& mounts = sink.into().rig.mounts;
  const auto found =
      std::find_if(mounts.begin(), mounts.end(), [&](const Mount& m) { return m.path == path; });
  if (found != mounts.end()) return *found;
  if (mounts.size() >= kMostMounts) mounts.erase(mounts.begin());
  mounts.push_back({.path = path});
  return mounts.back();
}

// --------------------------------------------------------------------------------------------- df

/// A row of df, told by its shape alone: three sizes, a percentage, a path.
struct DfRow {
  std::string device = {}, type = {}, mount = {};
  std::optional<double> first, used, free;  // in what the header counts
  bool lower_k = false;                     // "4.1k": powers of 1000 (df -H)
};

std::optional<DfRow> df_row(std::string_view line, bool has_type, double base, double unit_bytes) {
  const auto words = words_of(line);
  for (std::size_t i = 3; i < words.size(); ++i) {
    if (!is_percent(words[i]) && !is_dash(words[i])) continue;
    if (!is_size(words[i - 1]) || !is_size(words[i - 2]) || !is_size(words[i - 3])) continue;
    // "-" in all three and the percentage would let the type's column slip in
    std::size_t mount = i + 1;
    while (mount < words.size() && (is_percent(words[mount]) || is_size(words[mount])))
      ++mount;  // macOS: inodes
    if (mount >= words.size() || (!words[mount].starts_with("/") && mount != i + 1)) continue;
    DfRow row;
    std::size_t names = i - 3;
    if (has_type && names > 0) row.type = clean_text(words[--names], 64);
    if (names > 0) {
      const char* from = words[0].data();
      const char* to = words[names - 1].data() + words[names - 1].size();
      row.device = clean_text({from, static_cast<std::size_t>(to - from)}, 256);
    }
    row.mount = clean_text(
        trim(line.substr(static_cast<std::size_t>(words[mount].data() - line.data()))), 512);
    const auto value = [&](std::string_view word) {
      row.lower_k = row.lower_k || word.ends_with('k');
      return is_dash(word) ? std::nullopt : size_of(word, base, unit_bytes);
    };
    row.first = value(words[i - 3]);
    row.used = value(words[i - 2]);
    row.free = value(words[i - 1]);
    return row;
  }
  return std::nullopt;
}

struct DfHead {
  bool type = false, inodes = false;
  double unit_bytes = 1024;
};

std::optional<DfHead> df_head(std::string_view line) {
  if (line.size() > 512) return std::nullopt;
  const auto words = words_of(line);
  if (words.size() < 5) return std::nullopt;
  const bool english = words[0] == "Filesystem";
  const bool percent = std::any_of(words.begin(), words.end(), [](auto word) {
    return word.ends_with('%') || word == "Capacity";
  });
  if (!percent || (english && line.find("ounted on") == std::string_view::npos))
    return std::nullopt;
  if (!english && count_digits(words[0]) > 0) return std::nullopt;
  DfHead head;
  for (const auto word : words) {
    head.type = head.type || word == "Type" || word == "Typ" || word == "Tipo";
    head.inodes =
        head.inodes || word == "Inodes" || word == "Inoden" || word == "IUsed" || word == "ifree";
    const auto dash = word.find('-');  // 1K-blocks, 1024-blocks, 1B-blocks, 512-blocks, 1MB-blocks
    if (dash != std::string_view::npos && dash > 0 && count_digits(word.substr(0, 1)) == 1) {
      const auto of = word.substr(0, dash);
      head.unit_bytes =
          size_of(of, of.ends_with("B") && of.size() > 2 ? 1000 : 1024).value_or(1024);
    }
  }
  // macOS prints inodes beside the sizes; there the sizes come first
  if (line.find("ifree") != std::string_view::npos) head.inodes = false;
  return head;
}

bool df_begins(const Lines& lines, std::size_t at) {
  const auto head = df_head(lines[at].text);
  if (!head) return false;
  for (std::size_t i = at + 1; i < std::min(lines.size(), at + 4); ++i) {
    if (df_row(lines[i].text, head->type, 1024, 1)) return true;
  }
  return lines[at].text.starts_with("Filesystem");
}

void keep_df(const DfRow& row, const DfHead& head, const Line& line, Sink& sink) {
  const auto see = [&](std::string_view quantity, const std::optional<double>& value,
                       std::string_view unit) {
    if (value) sink.observe(line, row.mount, quantity, *value, unit);
  };
  if (head.inodes) {
    see("fs_inodes", row.first, "count");
    see("fs_used_inodes", row.used, "count");
    see("fs_free_inodes", row.free, "count");
    return;
  }
  see("fs_total_bytes", row.first, "bytes");
  see("fs_used_bytes", row.used, "bytes");
  see("fs_free_bytes", row.free, "bytes");
  if (is_virtual(row.type, row.device)) return;
  Mount& mount = mount_at(row.mount, sink);
  mount.device = row.device;
  if (!row.type.empty()) mount.fs_type = row.type;
  mount.network = is_network(row.type, row.device);
  mount.total_bytes = row.first;
  mount.free_bytes = row.free;
}

void read_df(const Section& section, Sink& sink) {
  // -H and --si count in powers of 1000; so does every table with a lower-case k
  bool si = section.command.find(" -H") != std::string::npos ||
            section.command.find("--si") != std::string::npos;
  for (const auto& line : section.lines) {
    const auto row = df_row(line.text, true, 1000, 1);
    si = si || (row && row->lower_k);
  }
  DfHead head;
  std::string wrapped;  // a long device name alone on its line
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    if (const auto next = df_head(text); next && !df_row(text, false, 1024, 1)) {
      head = *next;
      wrapped.clear();
      sink.used();
      continue;
    }
    std::string whole = wrapped.empty() ? std::string(text) : wrapped + ' ' + std::string(text);
    const auto row = df_row(whole, head.type, si ? 1000 : 1024, head.inodes ? 1 : head.unit_bytes);
    if (row && !row->device.empty()) {
      keep_df(*row, head, line, sink);
      sink.used(wrapped.empty() ? 1 : 2);
      wrapped.clear();
    } else if (wrapped.empty() && !row && words_of(text).size() <= 2 && text.size() < 512) {
      wrapped = std::string(text);
    } else {
      wrapped.clear();
      sink.bad(line);
    }
  }
}

// --------------------------------------------------------------------------------------------- du

/// "126M<tab>/usr/share/doc"; with blanks only where the path is one and the size has a unit.
struct DuRow {
  std::string_view size, path;
};
std::optional<DuRow> du_row(std::string_view line, bool told = false) {
  line = line.substr(0, 8192);
  const auto end = line.find_first_of(" \t");
  if (end == std::string_view::npos || end == 0 || end > 16) return std::nullopt;
  const auto size = line.substr(0, end);
  const auto path = trim(line.substr(end));
  if (path.empty() || count_digits(size.substr(0, 1)) != 1 || !size_of(size)) return std::nullopt;
  const bool unit = std::string_view("KMGTPkBi").find(size.back()) != std::string_view::npos;
  const bool is_path = path.front() == '/' || path.starts_with("./") || path.starts_with("~/") ||
                       path.starts_with("../") || path == "." || path == "..";
  const bool tab = line[end] == '\t';
  if (told && tab) return DuRow{size, path};
  if (tab ? unit || is_path : unit && is_path) return DuRow{size, path};
  return std::nullopt;
}

void read_du(const Section& section, Sink& sink) {
  const std::string& command = section.command;
  // without -h, du counts in KiB; -b in bytes; -m in MiB
  double unit_bytes = 1024;
  std::size_t letters = 0, rows = 0;
  for (const auto& line : section.lines) {
    if (const auto row = du_row(line.text, true)) {
      ++rows;
      letters += count_digits(row->size.substr(row->size.size() - 1)) == 0 ? 1U : 0U;
    }
  }
  for (const auto word : words_of(command)) {
    if (!word.starts_with("-") || word.starts_with("--")) {
      if (word == "--bytes") unit_bytes = 1;
      continue;
    }
    if (word.find('b') != std::string_view::npos) unit_bytes = 1;
    if (word.find('m') != std::string_view::npos) unit_bytes = 1024.0 * 1024;
  }
  if (rows > 0 && letters == 0 && !starts_with_word(command, "du")) {
    sink.note("du: numbers without a unit were taken as KiB, as du prints them by default");
  }
  const double base = command.find("--si") != std::string::npos ? 1000 : 1024;
  for (const auto& line : section.lines) {
    if (trim(line.text).empty()) continue;
    const auto row = du_row(line.text, true);
    const bool zero = row && row->size == "0";
    const auto bytes =
        row ? size_of(row->size, base, zero || letters == 0 ? unit_bytes : 1) : std::nullopt;
    if (!bytes) {
      line.text.starts_with("du: ") ? sink.passed() : sink.bad(line);
      continue;
    }
    sink.observe(line, row->path, "size_bytes", *bytes, "bytes");
    sink.used();
  }
}

// ------------------------------------------------------------------------------------------ lsblk

Disk& disk_at(const std::string& device, Sink& sink) {
  auto& disks = sink.into().rig.disks;
  const auto found =
      std::find_if(disks.begin(), disks.end(), [&](const Disk& d) { return d.device == device; });
  if (found != disks.end()) return *found;
  if (disks.size() >= kMostDisks) disks.erase(disks.begin());
  disks.push_back({.device = device});
  return disks.back();
}

/// One device, whatever form it stood in.
struct Block {
  std::string name = {}, type = {}, model = {}, size = {}, rota = {}, fs_type = {}, fs_size = {},
              fs_free = {};
  std::vector<std::string> mounts = {};
};

void keep_block(const Block& block, const Line& line, bool has_type, Sink& sink) {
  const auto size = says_nothing(block.size) ? std::nullopt : size_of(block.size);
  if (block.type == "disk" || block.type == "rom" || (!has_type && !block.model.empty())) {
    Disk& disk = disk_at(block.name, sink);
    disk.model = block.model;
    disk.size_bytes = size;
    if (!block.rota.empty()) {
      disk.rotational = block.rota == "1" || block.rota == "true";
      sink.observe(line, block.name, "rotational", disk.rotational ? 1 : 0, "yes/no");
    }
  }
  if (size) sink.observe(line, block.name, "size_bytes", *size, "bytes");
  for (const auto& path : block.mounts) {
    if (!path.starts_with("/")) continue;  // [SWAP]
    Mount& mount = mount_at(path, sink);
    mount.device = "/dev/" + block.name;
    if (!block.fs_type.empty()) mount.fs_type = block.fs_type;
    if (const auto total = size_of(block.fs_size)) mount.total_bytes = total;
    if (const auto free = size_of(block.fs_free)) mount.free_bytes = free;
  }
}

/// "├─nvme0n1p1", "|-sda1", "  └─cryptroot" → the name
std::string block_name(std::string_view cell) {
  const auto first =
      cell.find_first_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
  if (first == std::string_view::npos) return {};
  auto name = cell.substr(first);
  if (name.starts_with("dev/")) name.remove_prefix(4);  // lsblk -p
  return clean_text(name.substr(0, name.find(' ')), 64);
}

bool is_lsblk_header(std::string_view line) {
  const auto words = words_of(line);
  if (words.size() < 2 || line.size() > 1024) return false;
  constexpr std::array<std::string_view, 10> kColumns = {
      "NAME",       "MAJ:MIN",     "SIZE", "TYPE",  "FSTYPE",
      "MOUNTPOINT", "MOUNTPOINTS", "ROTA", "MODEL", "KNAME"};
  const auto known = std::count_if(words.begin(), words.end(), [&](auto word) {
    return std::find(kColumns.begin(), kColumns.end(), word) != kColumns.end();
  });
  return known >= 2 && (words[0] == "NAME" || words[0] == "KNAME" || known >= 3);
}

void read_lsblk(const Section& section, Sink& sink) {
  std::size_t at = 0;
  while (at < section.lines.size()) {
    while (at < section.lines.size() && !is_lsblk_header(section.lines[at].text)) {
      if (!trim(section.lines[at].text).empty()) sink.passed();
      ++at;
    }
    if (at == section.lines.size()) return;
    std::vector<std::string_view> rows;
    const std::size_t head = at++;
    while (at < section.lines.size() && !trim(section.lines[at].text).empty() &&
           rows.size() < kMostDisks && !is_lsblk_header(section.lines[at].text)) {
      rows.push_back(section.lines[at++].text);
    }
    const PaddedTable table(section.lines[head].text, rows);
    sink.used();
    const auto column = [&](std::initializer_list<std::string_view> names) {
      for (const auto name : names) {
        if (const auto found = table.column(name)) return found;
      }
      return std::optional<std::size_t>();
    };
    const auto mounts = column({"MOUNTPOINTS", "MOUNTPOINT"});
    std::string name;
    for (std::size_t row = 0; row < rows.size(); ++row) {
      const Line& line = section.lines[head + 1 + row];
      Block block = {.name = block_name(table.cell(row, column({"NAME", "KNAME", "PATH"}))),
                     .type = table.cell(row, column({"TYPE"})),
                     .model = clean_text(table.cell(row, column({"MODEL"})), 128),
                     .size = table.cell(row, column({"SIZE"})),
                     .rota = table.cell(row, column({"ROTA"})),
                     .fs_type = clean_text(table.cell(row, column({"FSTYPE"})), 64),
                     .fs_size = table.cell(row, column({"FSSIZE"})),
                     .fs_free = table.cell(row, column({"FSAVAIL"}))};
      if (const auto path = table.cell(row, mounts); !path.empty()) {
        block.mounts.push_back(clean_text(path, 512));
      }
      const bool more = block.name.empty() && !name.empty();  // the device's next mount point
      if (more) block.name = name;
      if (block.name.empty()) {
        sink.bad(line);
        continue;
      }
      name = block.name;
      if (more) {
        block.size.clear();
        block.type = "part";
      }
      keep_block(block, line, column({"TYPE"}).has_value(), sink);
      sink.used();
    }
  }
}

/// NAME="vda" SIZE="256G" TYPE="disk" MOUNTPOINTS="/"
void read_pairs(const Section& section, Sink& sink) {
  for (const auto& line : section.lines) {
    if (trim(line.text).empty()) continue;
    Block block;
    bool has_type = false;
    std::string_view rest = line.text.substr(0, 8192);
    for (auto equals = rest.find("=\""); equals != std::string_view::npos;
         equals = rest.find("=\"")) {
      const auto key = trim(rest.substr(0, equals));
      const auto end = rest.find('"', equals + 2);
      if (end == std::string_view::npos) break;
      const std::string value = clean_text(rest.substr(equals + 2, end - equals - 2), 512);
      rest.remove_prefix(end + 1);
      if (key == "NAME" || key == "KNAME") block.name = block_name(value);
      if (key == "TYPE") block.type = value, has_type = true;
      if (key == "MODEL") block.model = std::string(trim(value));
      if (key == "SIZE") block.size = value;
      if (key == "ROTA") block.rota = value;
      if (key == "FSTYPE") block.fs_type = value;
      if (key == "FSAVAIL") block.fs_free = value;
      if (key == "FSSIZE") block.fs_size = value;
      if ((key == "MOUNTPOINT" || key == "MOUNTPOINTS") && !value.empty())
        block.mounts.push_back(value);
    }
    if (block.name.empty()) {
      sink.bad(line);
      continue;
    }
    keep_block(block, line, has_type, sink);
    sink.used();
  }
}

std::string text_of(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) return {};
  if (found->is_string()) return clean_text(found->get<std::string>(), 512);
  if (found->is_boolean()) return found->get<bool>() ? "1" : "0";
  if (found->is_number()) return number_text(found->get<double>());
  return {};
}

void json_blocks(const Json& devices, int depth, Sink& sink) {
  if (!devices.is_array() || depth > 16) return;
  for (const auto& item : devices) {
    if (!item.is_object()) continue;
    Block block = {.name = block_name(text_of(item, "name")),
                   .type = text_of(item, "type"),
                   .model = std::string(trim(text_of(item, "model"))),
                   .size = text_of(item, "size"),
                   .rota = text_of(item, "rota"),
                   .fs_type = text_of(item, "fstype"),
                   .fs_size = text_of(item, "fssize"),
                   .fs_free = text_of(item, "fsavail")};
    if (auto path = text_of(item, "mountpoint"); !path.empty())
      block.mounts.push_back(std::move(path));
    if (const auto paths = item.find("mountpoints"); paths != item.end() && paths->is_array()) {
      for (const auto& path : *paths) {
        if (path.is_string()) block.mounts.push_back(clean_text(path.get<std::string>(), 512));
      }
    }
    if (!block.name.empty()) keep_block(block, {}, item.contains("type"), sink);
    if (item.contains("children")) json_blocks(item["children"], depth + 1, sink);
  }
}

}  // namespace

const Form kDf = {"df", df_begins, read_df};
bool is_du_row(std::string_view line) {
  return du_row(line, true).has_value();
}

const Form kDu = {
    "du", [](const Lines& lines, std::size_t at) { return du_row(lines[at].text).has_value(); },
    read_du};
const Form kLsblk = {
    "lsblk", [](const Lines& lines, std::size_t at) { return is_lsblk_header(lines[at].text); },
    read_lsblk};
const Form kLsblkPairs = {"lsblk -P",
                          [](const Lines& lines, std::size_t at) {
                            return lines[at].text.starts_with("NAME=\"") ||
                                   lines[at].text.starts_with("KNAME=\"");
                          },
                          read_pairs};

bool read_lsblk_json(const Json& json, Sink& sink) {
  const auto devices = json.find("blockdevices");
  if (devices == json.end() || !devices->is_array()) return false;
  json_blocks(*devices, 0, sink);
  return true;
}

}  // namespace rigwise::captured
