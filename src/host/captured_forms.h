// Forms: what the readers of captured output share. Private to src/host/captured*.cc.
//
// Each form has `begins`, asked at a line that no form owns yet or that may end another's section,
// and `read`, which gets the section's lines. A reader counts its lines: used(), passed() or bad().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/captured.h"

namespace rigwise::captured {

struct Line {
  std::string_view text;    // without newline and '\r'
  std::int64_t number = 0;  // 1-based in the file
};
using Lines = std::vector<Line>;

/// What one file gives, and the means to say it.
class Sink {
 public:
  explicit Sink(Captured& into) : into_(into) {}

  Captured& into() { return into_; }
  void used(std::size_t lines = 1) { into_.reading.matched += static_cast<std::int64_t>(lines); }
  void passed() { ++into_.reading.skipped; }
  void bad(const Line& line);
  void note(std::string text);  // once each

  /// False when the file's share of rows is spent (said in a note).
  bool gpu(GpuSample sample, std::optional<double> unix_s);
  /// Readings of one instant: without one they have no row to stand in.
  bool host(CapturedHost reading, std::optional<double> unix_s);
  bool disk(DiskSample sample, std::optional<double> unix_s);
  bool net(NetSample sample, std::optional<double> unix_s);
  bool observe(const Line& line, std::string_view subject, std::string_view quantity, double value,
               std::string_view unit, std::optional<double> unix_s = std::nullopt);
  GpuDevice& device(int gpu);  // of the rig; made when it is not there
  void version(std::string_view name, std::string_view value);  // the first statement stays
  void fact(std::string_view name, std::string_view value);

  /// The instant a stamp at the start of `text` states; notes local time. `length` is what it took.
  std::optional<double> instant(std::string_view text, std::size_t* length = nullptr);

 private:
  bool room();
  Captured& into_;
  std::int64_t rows_ = 0;
};

struct Section {
  Lines lines = {};
  std::string command = {};  // of the prompt line above it, or of a hint: "df -H"
  std::string_view file_name = {};
  const CaptureHints* hints = nullptr;
};

struct Form {
  std::string_view name;
  /// Does this form begin at lines[at]? May look at a few lines behind it.
  bool (*begins)(const Lines& lines, std::size_t at);
  void (*read)(const Section& section, Sink& sink);
};

// Every form by file; captured.cc joins them.
extern const Form kNvidiaCsv, kNvidiaScreen, kNvidiaList, kNvidiaDmon, kNvidiaPmon, kNvidiaTopo,
    kNvidiaNvlink, kNvidiaQuery;
extern const Form kNvidiaApps, kGpustat;
extern const Form kAmdSmi, kAmdMonitor, kAmdCsv;
extern const Form kRocmText, kRocmCsv, kDf, kDu, kLsblk, kLsblkPairs, kIostat, kPing, kIperf3;
extern const Form kSar, kVmstat, kTop, kSensors;
extern const Form kFree, kLscpu, kUname, kPackages, kSoftware;
/// A row of du where it is known that du printed it: "5368709120<tab>checkpoints".
bool is_du_row(std::string_view line);
/// Lines of no other form that state versions: `python -V`, a printed torch environment. Returns
/// how many it used.
std::size_t read_software_lines(const Lines& lines, Sink& sink);

// ------------------------------------------------------------------------------------------- text

std::vector<std::string_view> words_of(std::string_view line);
/// "N/A", "[Not Supported]", "-", "Unknown Error", "ERR!", "None", "": the tool does not say.
bool says_nothing(std::string_view text);
/// The number that begins `text`, decimal comma allowed ("4,5"); `rest` is what follows, trimmed.
std::optional<double> number_of(std::string_view text, std::string_view* rest = nullptr);
/// "12G", "4,5Gi", "59.0 MiB", "0B" → bytes; a letter alone is a power of `base` (1024 or 1000),
/// "KB" and "GBytes" too; "KiB" always of 1024. A bare number is times `unit_bytes`.
std::optional<double> size_of(std::string_view text, double base = 1024, double unit_bytes = 1);
bool starts_with_word(std::string_view line, std::string_view word);  // and a blank or the end
int count_digits(std::string_view text);
std::string_view unquoted(std::string_view text);

bool is_bus_id(std::string_view text);  // "00000000:01:00.0", "0000:03:00.0"
/// Without the escape sequences that colour a terminal.
std::string without_escapes(std::string_view text);

/// Where a line of an indented outline stands: "pci/gpu_link_info/pcie_generation/max", of the
/// names above it that are indented less. Lower case, '_' for blanks.
class Outline {
 public:
  const std::string& enter(std::size_t indent, std::string_view name);
  void leave();  // the innermost name
  void clear() { levels_.clear(); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  void join_names();
  struct Level {
    std::size_t indent = 0;
    std::string name = {};
  };
  std::vector<Level> levels_;
  std::string path_;
};
/// "clocks/sm" is the end of "gpu/clocks/sm", but not of "gpu/max_clocks/sm".
bool path_ends(std::string_view path, std::string_view tail);

/// Rows under a padded header: which cells stand under which of its words. Columns are told by the
/// places that are blank in every line, so that cells may hold blanks, or nothing.
class PaddedTable {
 public:
  PaddedTable(std::string_view header, const std::vector<std::string_view>& rows);
  [[nodiscard]] std::optional<std::size_t> column(std::string_view name) const;
  [[nodiscard]] std::string cell(std::size_t row, std::optional<std::size_t> column) const;

 private:
  std::vector<std::string> names_;
  std::vector<std::vector<std::string>> cells_;
};

}  // namespace rigwise::captured
