#include "profile/python_locate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "profile/python_elf.h"

namespace rigwise {
namespace {

constexpr std::size_t kMostFiles = 4096;

std::string_view base_name(std::string_view path) {
  if (constexpr std::string_view kGone = " (deleted)"; path.ends_with(kGone))
    path.remove_suffix(kGone.size());
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

std::vector<MappedFile> parse_mapped_files(std::string_view maps) {
  std::vector<MappedFile> files;
  while (!maps.empty() && files.size() < kMostFiles) {
    const std::string_view line = maps.substr(0, maps.find('\n'));
    maps.remove_prefix(std::min(maps.size(), line.size() + 1));
    // start-end perms offset dev inode path
    std::array<std::string_view, 5> words;
    std::string_view rest = line;
    bool all = true;
    for (std::string_view& word : words) {
      const std::size_t end = rest.find(' ');
      if (end == std::string_view::npos) all = false;
      word = rest.substr(0, end);
      rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    }
    const std::size_t slash = rest.find('/');
    if (!all || slash == std::string_view::npos) continue;
    std::uint64_t address = 0, end = 0, offset = 1;
    const std::string_view range = words[0], at = words[2];
    const auto hex = [](std::string_view text, std::uint64_t& into) {
      return std::from_chars(text.data(), text.data() + text.size(), into, 16).ec == std::errc{};
    };
    const std::size_t dash = range.find('-');
    if (dash == std::string_view::npos || !hex(range, address) ||
        !hex(range.substr(dash + 1), end) || !hex(at, offset))
      continue;
    if (offset == 0)
      files.push_back({.address = address, .end = end, .path = std::string(rest.substr(slash))});
  }
  return files;
}

namespace {

/// What the symbols of one file say.
struct Found {
  std::uint64_t runtime = 0;
  std::uint64_t version_at = 0;  // Py_Version, 3.11 on; 0 where there is none
  bool has_iter_send = false;    // came with 3.10
  bool has_get_code = false;     // came with 3.9
};

std::optional<Found> find_loaded(const LoadedImage& image) {
  const auto runtime = image.symbol("_PyRuntime");
  if (!runtime) return std::nullopt;
  return Found{.runtime = *runtime,
               .version_at = image.symbol("Py_Version").value_or(0),
               .has_iter_send = image.symbol("PyIter_Send").has_value(),
               .has_get_code = image.symbol("PyFrame_GetCode").has_value()};
}

std::optional<Found> find_in_file(const ElfSymbols& symbols, std::uint64_t bias) {
  std::uint64_t runtime = symbols.value("_PyRuntime").value_or(0);
  if (runtime == 0) runtime = symbols.section(".PyRuntime").value_or(0);
  if (runtime == 0) return std::nullopt;
  const auto version = symbols.value("Py_Version");
  return Found{.runtime = runtime + bias,
               .version_at = version ? *version + bias : 0,
               .has_iter_send = symbols.value("PyIter_Send").has_value(),
               .has_get_code = symbols.value("PyFrame_GetCode").has_value()};
}

Result<LocatedPython> describe(PythonMemory& memory, const Found& found, const std::string& path) {
  std::vector<std::byte> head(kDebugOffsetsBytes);
  if (!memory.read(found.runtime, head.data(), head.size())) head.clear();
  if (has_debug_offsets(head)) {  // 3.13 on
    RW_TRY(auto layout, python_layout(std::span<const std::byte>(head)));
    return LocatedPython{.runtime = found.runtime, .layout = layout};
  }
  int minor = 0;
  if (found.version_at != 0) {
    const auto version = memory.value<std::uint64_t>(found.version_at);
    if (version && *version >> 24 == 3) minor = static_cast<int>(*version >> 16 & 0xFF);
  } else if (found.has_iter_send) {
    minor = 10;
  } else if (found.has_get_code) {
    minor = 9;
  }
  const auto layout = python_layout(minor);
  if (layout) return LocatedPython{.runtime = found.runtime, .layout = *layout};
  return Error{
      .code = Errc::unavailable,
      .message =
          minor != 0
              ? fmt::format("{} is CPython 3.{}: stacks of that version are "
                            "not read",
                            path, minor)
              : fmt::format("{} is a CPython older than 3.9, or does not tell its version", path),
      .hint = "CPython 3.9 to 3.14 can be read"};
}

bool started(PythonMemory& memory, const LocatedPython& python) {
  const auto head =
      memory.value<std::uint64_t>(python.runtime + python.layout.runtime_interpreters);
  return head && *head != 0;
}

}  // namespace

Result<LocatedPython> locate_python(PythonMemory& memory, const std::vector<MappedFile>& files,
                                    const std::string& executable, const OpenMapped& open) {
  // A program with an interpreter in it may load a libpython that it does not use, and a thin one
  // has none of its own: the one that runs counts, else the program's.
  std::vector<const MappedFile*> candidates;
  const auto add = [&candidates](const MappedFile& file) {
    const auto same = [&file](const MappedFile* one) { return one->path == file.path; };
    if (std::none_of(candidates.begin(), candidates.end(), same)) candidates.push_back(&file);
  };
  for (const MappedFile& file : files)
    if (file.path == executable) add(file);
  for (const MappedFile& file : files)
    if (base_name(file.path).starts_with("libpython")) add(file);
  for (const MappedFile& file : files)
    if (base_name(file.path).starts_with("python")) add(file);
  std::optional<Result<LocatedPython>> best;
  for (const MappedFile* const file : candidates) {
    const auto image = LoadedImage::at(memory, file->address);
    if (!image) continue;
    auto found = find_loaded(*image);
    if (!found && open) {
      const Fd opened = open(*file);
      if (const auto symbols = opened.valid() ? ElfSymbols::read(opened.get()) : std::nullopt)
        found = find_in_file(*symbols, image->bias());
    }
    if (!found) continue;
    auto python = describe(memory, *found, file->path);
    if (python && started(memory, *python)) return python;
    if (!best || (python && !*best)) best = std::move(python);
  }
  if (best) return *std::move(best);
  for (const MappedFile& file : files)
    if (base_name(file.path).find("pypy") != std::string_view::npos)
      return Error{.code = Errc::unavailable,
                   .message = fmt::format("{} is PyPy: only CPython's stacks are read", file.path)};
  return Error{.code = Errc::unavailable,
               .message = fmt::format("{} runs no CPython (no _PyRuntime in it)",
                                      executable.empty() ? "the process" : executable)};
}

}  // namespace rigwise
