#include "run/tables.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <type_traits>
#include <utility>

#include "base/text.h"

namespace rigwise::tables {

namespace {

// How one value goes into a field and comes back. Absent is the empty field.
void write(CsvRow& row, double value) {
  row.add(value);
}
void write(CsvRow& row, int value) {
  row.add_integer(value);
}
void write(CsvRow& row, std::int64_t value) {
  row.add_integer(value);
}
void write(CsvRow& row, bool value) {
  row.add_integer(value ? 1 : 0);
}
void write(CsvRow& row, const std::string& value) {
  row.add(value);
}
void write(CsvRow& row, RecordKind value) {
  row.add(to_string(value));
}
void write(CsvRow& row, EventKind value) {
  row.add(to_string(value));
}
template <class V>
void write(CsvRow& row, const std::optional<V>& value) {
  if (value) {
    write(row, *value);
  } else {
    row.add_empty();
  }
}

// Each says whether the field's text is a value of that type: a number that is cut off or does not
// fit must not pass for another one. An empty field is not read, but for required ones.

template <class Enum>
void read_enum(std::string_view field, Enum last, Enum& into) {
  for (int i = 0; i <= static_cast<int>(last); ++i) {
    if (to_string(static_cast<Enum>(i)) == field) into = static_cast<Enum>(i);
  }
}

template <class Integer>
bool read_integer(std::string_view field, Integer& into) {
  const auto value = to_integer(field);
  if (!value || !std::in_range<Integer>(*value)) return false;
  into = static_cast<Integer>(*value);
  return true;
}

/// Only instants are plain doubles.
bool read(std::string_view field, double& into) {
  const auto value = to_number(field);
  if (!value || !std::isfinite(*value)) return false;
  into = *value;
  return true;
}
bool read(std::string_view field, int& into) {
  return read_integer(field, into);
}
bool read(std::string_view field, std::int64_t& into) {
  return read_integer(field, into);
}
bool read(std::string_view field, bool& into) {
  into = field == "1";
  return into || field == "0";
}
bool read(std::string_view field, std::string& into) {
  into = std::string(field);
  return true;
}
bool read(std::string_view field, RecordKind& into) {
  read_enum(field, RecordKind::summary, into);
  return true;  // a kind of a newer version
}
bool read(std::string_view field, EventKind& into) {
  read_enum(field, EventKind::recorder, into);
  return true;
}
bool read(std::string_view field, std::optional<double>& into) {
  into = to_number(field);  // may be nan or inf: a loss is what the log said
  return into.has_value();
}
template <class Integer>
bool read(std::string_view field, std::optional<Integer>& into) {
  return read_integer(field, into.emplace());
}

template <class T>
struct Column {
  std::string_view name;
  void (*write)(CsvRow&, const T&);
  bool (*read)(std::string_view, T&);
  bool required;
};

template <class M>
struct MemberOf;
template <class T, class V>
struct MemberOf<V T::*> {
  using Row = T;
};

template <auto kMember>
constexpr auto column(std::string_view name) {
  using T = typename MemberOf<decltype(kMember)>::Row;
  using Value = std::remove_reference_t<decltype(std::declval<T&>().*kMember)>;
  return Column<T>{name, [](CsvRow& row, const T& from) { write(row, from.*kMember); },
                   [](std::string_view field, T& into) { return read(field, into.*kMember); },
                   std::is_same_v<Value, double>};
}

/// The end of something, if it has one.
template <auto kMember>
constexpr auto end_column(std::string_view name) {
  auto made = column<kMember>(name);
  using T = typename MemberOf<decltype(kMember)>::Row;
  made.read = [](std::string_view field, T& into) {
    return read(field, (into.*kMember).emplace());
  };
  return made;
}

#define RW_COLUMN(Type, field) column<&Type::field>(#field)

constexpr std::array kStepColumns = {
    RW_COLUMN(StepRecord, t_s),          RW_COLUMN(StepRecord, kind),
    RW_COLUMN(StepRecord, step),         RW_COLUMN(StepRecord, bar_step),
    RW_COLUMN(StepRecord, steps_total),  RW_COLUMN(StepRecord, epoch),
    RW_COLUMN(StepRecord, loss),         RW_COLUMN(StepRecord, eval_loss),
    RW_COLUMN(StepRecord, lr),           RW_COLUMN(StepRecord, grad_norm),
    RW_COLUMN(StepRecord, step_time_s),  RW_COLUMN(StepRecord, input_s),
    RW_COLUMN(StepRecord, forward_s),    RW_COLUMN(StepRecord, backward_s),
    RW_COLUMN(StepRecord, sync_s),       RW_COLUMN(StepRecord, optimizer_s),
    RW_COLUMN(StepRecord, steps_per_s),  RW_COLUMN(StepRecord, samples_per_s),
    RW_COLUMN(StepRecord, tokens_per_s), RW_COLUMN(StepRecord, tokens_seen),
    RW_COLUMN(StepRecord, runtime_s),    RW_COLUMN(StepRecord, mem_gib),
    RW_COLUMN(StepRecord, mfu_frac),     RW_COLUMN(StepRecord, rank),
    RW_COLUMN(StepRecord, per_device),   RW_COLUMN(StepRecord, log_file),
    RW_COLUMN(StepRecord, log_line),     RW_COLUMN(StepRecord, log_format),
};

constexpr std::array kEventColumns = {
    RW_COLUMN(Event, t_s),        end_column<&Event::t_end_s>("t_end_s"),
    RW_COLUMN(Event, kind),       RW_COLUMN(Event, name),
    RW_COLUMN(Event, state),      RW_COLUMN(Event, step),
    RW_COLUMN(Event, size_bytes), RW_COLUMN(Event, files),
    RW_COLUMN(Event, rank),       RW_COLUMN(Event, how),
    RW_COLUMN(Event, detail),
};

constexpr std::array kGpuColumns = {
    RW_COLUMN(GpuSample, t_s),
    RW_COLUMN(GpuSample, gpu),
    RW_COLUMN(GpuSample, util_frac),
    RW_COLUMN(GpuSample, mem_util_frac),
    RW_COLUMN(GpuSample, used_bytes),
    RW_COLUMN(GpuSample, total_bytes),
    RW_COLUMN(GpuSample, temp_c),
    RW_COLUMN(GpuSample, temp_mem_c),
    RW_COLUMN(GpuSample, power_w),
    RW_COLUMN(GpuSample, power_limit_w),
    RW_COLUMN(GpuSample, energy_j),
    RW_COLUMN(GpuSample, sm_clock_mhz),
    RW_COLUMN(GpuSample, mem_clock_mhz),
    RW_COLUMN(GpuSample, sm_clock_max_mhz),
    RW_COLUMN(GpuSample, pcie_gen),
    RW_COLUMN(GpuSample, pcie_gen_max),
    RW_COLUMN(GpuSample, pcie_width),
    RW_COLUMN(GpuSample, pcie_width_max),
    RW_COLUMN(GpuSample, pcie_tx_bytes),
    RW_COLUMN(GpuSample, pcie_rx_bytes),
    RW_COLUMN(GpuSample, throttle_reasons),
    RW_COLUMN(GpuSample, held_power_s),
    RW_COLUMN(GpuSample, held_sync_s),
    RW_COLUMN(GpuSample, held_sw_thermal_s),
    RW_COLUMN(GpuSample, held_hw_thermal_s),
    RW_COLUMN(GpuSample, held_brake_s),
    RW_COLUMN(GpuSample, fan_frac),
    RW_COLUMN(GpuSample, tree_processes),
    RW_COLUMN(GpuSample, other_processes),
    RW_COLUMN(GpuSample, tree_used_bytes),
};

constexpr std::array kHostColumns = {
    RW_COLUMN(HostSample, t_s),
    RW_COLUMN(HostSample, cpu_busy_s),
    RW_COLUMN(HostSample, cpu_iowait_s),
    RW_COLUMN(HostSample, cpu_steal_s),
    RW_COLUMN(HostSample, tree_cpu_s),
    RW_COLUMN(HostSample, own_cpu_s),
    RW_COLUMN(HostSample, others_cpu_s),
    RW_COLUMN(HostSample, tree_run_delay_s),
    RW_COLUMN(HostSample, tree_rss_bytes),
    RW_COLUMN(HostSample, tree_processes),
    RW_COLUMN(HostSample, tree_threads),
    RW_COLUMN(HostSample, load1),
    RW_COLUMN(HostSample, mem_total_bytes),
    RW_COLUMN(HostSample, mem_available_bytes),
    RW_COLUMN(HostSample, swap_used_bytes),
    RW_COLUMN(HostSample, dirty_bytes),
    RW_COLUMN(HostSample, writeback_bytes),
    RW_COLUMN(HostSample, psi_cpu_some_s),
    RW_COLUMN(HostSample, psi_io_some_s),
    RW_COLUMN(HostSample, psi_io_full_s),
    RW_COLUMN(HostSample, psi_mem_some_s),
    RW_COLUMN(HostSample, psi_mem_full_s),
    RW_COLUMN(HostSample, temp_cpu_c),
    RW_COLUMN(HostSample, package_energy_j),
    RW_COLUMN(HostSample, wall_unix_s),
    RW_COLUMN(HostSample, top_other),
};

constexpr std::array kDiskColumns = {
    RW_COLUMN(DiskSample, t_s),
    RW_COLUMN(DiskSample, device),
    RW_COLUMN(DiskSample, read_bytes),
    RW_COLUMN(DiskSample, write_bytes),
    RW_COLUMN(DiskSample, reads),
    RW_COLUMN(DiskSample, writes),
    RW_COLUMN(DiskSample, read_time_s),
    RW_COLUMN(DiskSample, write_time_s),
    RW_COLUMN(DiskSample, busy_s),
    RW_COLUMN(DiskSample, queue_depth),
    RW_COLUMN(DiskSample, fs_total_bytes),
    RW_COLUMN(DiskSample, fs_free_bytes),
    RW_COLUMN(DiskSample, fs_free_inodes),
};

constexpr std::array kNetColumns = {
    RW_COLUMN(NetSample, t_s),
    RW_COLUMN(NetSample, interface),
    RW_COLUMN(NetSample, rx_bytes),
    RW_COLUMN(NetSample, tx_bytes),
    RW_COLUMN(NetSample, rx_drops),
    RW_COLUMN(NetSample, tx_drops),
    RW_COLUMN(NetSample, rx_errors),
    RW_COLUMN(NetSample, tx_errors),
    RW_COLUMN(NetSample, link_bytes_per_s),
};

constexpr std::array kProcColumns = {
    RW_COLUMN(ProcSample, t_s),
    RW_COLUMN(ProcSample, pid),
    RW_COLUMN(ProcSample, ppid),
    RW_COLUMN(ProcSample, role),
    RW_COLUMN(ProcSample, rank),
    RW_COLUMN(ProcSample, comm),
    RW_COLUMN(ProcSample, cpu_s),
    RW_COLUMN(ProcSample, run_delay_s),
    RW_COLUMN(ProcSample, rss_bytes),
    RW_COLUMN(ProcSample, read_bytes),
    RW_COLUMN(ProcSample, write_bytes),
    RW_COLUMN(ProcSample, threads),
    RW_COLUMN(ProcSample, threads_running),
    RW_COLUMN(ProcSample, threads_disk_wait),
    RW_COLUMN(ProcSample, main_state),
    RW_COLUMN(ProcSample, main_cpu_s),
    RW_COLUMN(ProcSample, main_run_delay_s),
};

constexpr std::array kSelfColumns = {
    RW_COLUMN(SelfSample, t_s),       RW_COLUMN(SelfSample, cpu_s),
    RW_COLUMN(SelfSample, rss_bytes), RW_COLUMN(SelfSample, peak_rss_bytes),
    RW_COLUMN(SelfSample, tick_s),    RW_COLUMN(SelfSample, longest_tick_s),
    RW_COLUMN(SelfSample, dropped),   RW_COLUMN(SelfSample, keeper_cpu_s),
    RW_COLUMN(SelfSample, paused),
};

constexpr std::array kStackSpanColumns = {
    RW_COLUMN(StackSpan, t_s),       RW_COLUMN(StackSpan, t_end_s), RW_COLUMN(StackSpan, pid),
    RW_COLUMN(StackSpan, role),      RW_COLUMN(StackSpan, rank),    RW_COLUMN(StackSpan, work),
    RW_COLUMN(StackSpan, samples),   RW_COLUMN(StackSpan, torn),    RW_COLUMN(StackSpan, running_s),
    RW_COLUMN(StackSpan, queued_s),  RW_COLUMN(StackSpan, stack),   RW_COLUMN(StackSpan, asleep),
    RW_COLUMN(StackSpan, stretches),
};

constexpr std::array kStackFramesColumns = {
    RW_COLUMN(StackFrames, t_s),
    RW_COLUMN(StackFrames, stack),
    RW_COLUMN(StackFrames, work),
    RW_COLUMN(StackFrames, frames),
};

constexpr std::array kStackCountColumns = {
    RW_COLUMN(StackCount, t_s),  RW_COLUMN(StackCount, pid),   RW_COLUMN(StackCount, role),
    RW_COLUMN(StackCount, rank), RW_COLUMN(StackCount, stack), RW_COLUMN(StackCount, samples),
};

constexpr std::array kTraceWindowColumns = {
    RW_COLUMN(TraceWindow, t_s),
    RW_COLUMN(TraceWindow, t_end_s),
    RW_COLUMN(TraceWindow, host),
    RW_COLUMN(TraceWindow, pid),
    RW_COLUMN(TraceWindow, rank),
    RW_COLUMN(TraceWindow, device),
    RW_COLUMN(TraceWindow, steps),
    RW_COLUMN(TraceWindow, compute_s),
    RW_COLUMN(TraceWindow, communication_s),
    RW_COLUMN(TraceWindow, exposed_communication_s),
    RW_COLUMN(TraceWindow, copy_s),
    RW_COLUMN(TraceWindow, idle_s),
    RW_COLUMN(TraceWindow, input_s),
    RW_COLUMN(TraceWindow, exposed_input_s),
    RW_COLUMN(TraceWindow, optimizer_s),
    RW_COLUMN(TraceWindow, launch_s),
    RW_COLUMN(TraceWindow, file),
};

constexpr std::array kNcclSecondsColumns = {
    RW_COLUMN(NcclSeconds, t_s),
    RW_COLUMN(NcclSeconds, t_end_s),
    RW_COLUMN(NcclSeconds, host),
    RW_COLUMN(NcclSeconds, pid),
    RW_COLUMN(NcclSeconds, rank),
    RW_COLUMN(NcclSeconds, observed_s),
    RW_COLUMN(NcclSeconds, communication_s),
    RW_COLUMN(NcclSeconds, waiting_s),
    RW_COLUMN(NcclSeconds, late_s),
    RW_COLUMN(NcclSeconds, matched),
    RW_COLUMN(NcclSeconds, last),
    RW_COLUMN(NcclSeconds, file),
};

constexpr std::array kObservationColumns = {
    RW_COLUMN(Observation, line),     RW_COLUMN(Observation, t_s),
    RW_COLUMN(Observation, source),   RW_COLUMN(Observation, subject),
    RW_COLUMN(Observation, quantity), RW_COLUMN(Observation, value),
    RW_COLUMN(Observation, unit),
};

constexpr std::array kLogMarkColumns = {RW_COLUMN(LogMark, offset_bytes), RW_COLUMN(LogMark, t_s)};

#undef RW_COLUMN

template <class T>
constexpr std::span<const Column<T>> columns() {
  if constexpr (std::is_same_v<T, StepRecord>) return kStepColumns;
  if constexpr (std::is_same_v<T, Event>) return kEventColumns;
  if constexpr (std::is_same_v<T, GpuSample>) return kGpuColumns;
  if constexpr (std::is_same_v<T, HostSample>) return kHostColumns;
  if constexpr (std::is_same_v<T, DiskSample>) return kDiskColumns;
  if constexpr (std::is_same_v<T, NetSample>) return kNetColumns;
  if constexpr (std::is_same_v<T, ProcSample>) return kProcColumns;
  if constexpr (std::is_same_v<T, SelfSample>) return kSelfColumns;
  if constexpr (std::is_same_v<T, StackSpan>) return kStackSpanColumns;
  if constexpr (std::is_same_v<T, StackFrames>) return kStackFramesColumns;
  if constexpr (std::is_same_v<T, StackCount>) return kStackCountColumns;
  if constexpr (std::is_same_v<T, TraceWindow>) return kTraceWindowColumns;
  if constexpr (std::is_same_v<T, NcclSeconds>) return kNcclSecondsColumns;
  if constexpr (std::is_same_v<T, Observation>) return kObservationColumns;
  if constexpr (std::is_same_v<T, LogMark>) return kLogMarkColumns;
}

template <class T>
using Places = std::vector<const Column<T>*>;  // column by position in this file; may be null

template <class T>
bool read_field(const Column<T>* column, std::string_view field, T& into) {
  if (column == nullptr || (field.empty() && !column->required)) return true;
  return column->read(field, into);
}

template <class T>
bool read_fields(const Places<T>& at, const std::vector<std::string_view>& fields, T& into) {
  if (fields.size() != at.size() || !to_number(fields[0])) return false;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (!read_field(at[i], fields[i], into)) return false;
  }
  return true;
}

}  // namespace

template <class T>
std::string header() {
  CsvRow row;
  for (const auto& c : columns<T>()) row.add(c.name);
  return row.line();
}

template <class T>
std::string line(const T& from) {
  CsvRow row;
  for (const auto& c : columns<T>()) c.write(row, from);
  return row.line();
}

template <class T>
Rows<T> parse(std::string_view text) {
  Rows<T> result;
  result.present = true;
  CsvReader reader(text);
  std::vector<std::string_view> fields;
  if (!reader.next(fields)) return result;
  Places<T> at;
  for (const auto name : fields) {
    const Column<T>* known = nullptr;
    for (const auto& c : columns<T>()) {
      if (c.name == name) known = &c;
    }
    at.push_back(known);
  }
  while (reader.next(fields)) {
    T& row = result.rows.emplace_back();
    if (read_fields(at, fields, row)) continue;
    result.rows.pop_back();
    ++result.bad_rows;
  }
  return result;
}

template <class T>
void walk(std::string_view text, const ColumnNames& wanted, const RowVisitor<T>& visit) {
  const auto header_end = text.find('\n');
  if (header_end == std::string_view::npos) return;
  const auto names = split(text.substr(0, header_end), ',');
  Places<T> at(names.size(), nullptr);
  std::size_t needed = 1;  // fields up to the last wanted one
  for (std::size_t i = 0; i < names.size(); ++i) {
    const bool is_wanted = std::find(wanted.begin(), wanted.end(), names[i]) != wanted.end();
    for (const auto& c : columns<T>()) {
      // A row without an instant is bad whatever is wanted of it.
      if (c.name == names[i] && (is_wanted || c.required)) at[i] = &c, needed = i + 1;
    }
  }
  std::vector<std::string_view> fields;
  std::int64_t line = 1;
  for (text.remove_prefix(header_end + 1);; ++line) {
    const auto end = text.find('\n');
    if (end == std::string_view::npos) return;
    std::string_view row = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (row.find('"') != std::string_view::npos) {  // rare: leave quotes to the reader of quotes
      const std::string one = std::string(row) + '\n';
      CsvReader reader(one);
      T quoted = {};
      if (!reader.next(fields) || !read_fields(at, fields, quoted)) continue;
      if (!visit(quoted, line + 1)) return;
      continue;
    }
    const auto commas = static_cast<std::size_t>(std::count(row.begin(), row.end(), ','));
    if (commas + 1 != at.size() || !to_number(row.substr(0, row.find(',')))) continue;
    T plain = {};
    bool good = true;
    for (std::size_t i = 0; i < needed && good; ++i) {
      const auto comma = row.find(',');
      good = read_field(at[i], row.substr(0, comma), plain);
      row.remove_prefix(comma == std::string_view::npos ? row.size() : comma + 1);
    }
    if (good && !visit(plain, line + 1)) return;
  }
}

#define RW_TABLE(Type)                                    \
  template std::string header<Type>();                    \
  template std::string line<Type>(const Type& from);      \
  template Rows<Type> parse<Type>(std::string_view text); \
  template void walk<Type>(std::string_view, const ColumnNames&, const RowVisitor<Type>&);
RW_TABLE(StepRecord)
RW_TABLE(Event)
RW_TABLE(GpuSample)
RW_TABLE(HostSample)
RW_TABLE(DiskSample)
RW_TABLE(NetSample)
RW_TABLE(ProcSample)
RW_TABLE(SelfSample)
RW_TABLE(StackSpan)
RW_TABLE(StackFrames)
RW_TABLE(StackCount)
RW_TABLE(TraceWindow)
RW_TABLE(NcclSeconds)
RW_TABLE(Observation)
RW_TABLE(LogMark)
#undef RW_TABLE

}  // namespace rigwise::tables
