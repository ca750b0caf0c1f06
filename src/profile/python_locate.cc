#include "profile/python_locate.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace rigwise {
namespace {

constexpr std::size_t kMostFiles = 4096;
constexpr std::size_t kMostSegments = 64;
constexpr std::size_t kMostDynamic = 256;
constexpr std::size_t kMostChain = 4096;

std::string_view base_name(std::string_view path) {
  if (constexpr std::string_view kGone = " (deleted)"; path.ends_with(kGone))
    path.remove_suffix(kGone.size());
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::uint32_t gnu_hash(std::string_view name) {
  std::uint32_t hash = 5381;
  for (const char c : name) hash = hash * 33 + static_cast<unsigned char>(c);
  return hash;
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
    std::uint64_t address = 0, offset = 1;
    const std::string_view range = words[0], at = words[2];
    if (std::from_chars(range.data(), range.data() + range.size(), address, 16).ec != std::errc{} ||
        std::from_chars(at.data(), at.data() + at.size(), offset, 16).ec != std::errc{})
      continue;
    if (offset == 0) files.push_back({.address = address, .path = std::string(rest.substr(slash))});
  }
  return files;
}

std::optional<LoadedImage> LoadedImage::at(PythonMemory& memory, std::uint64_t image) {
  const auto header = memory.value<Elf64_Ehdr>(image);
#if defined(__aarch64__)
  constexpr int kMachine = EM_AARCH64;
#else
  constexpr int kMachine = EM_X86_64;
#endif
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
      header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != kMachine ||
      header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum > kMostSegments)
    return std::nullopt;
  std::vector<Elf64_Phdr> segments(header->e_phnum);
  if (!memory.read(image + header->e_phoff, segments.data(), segments.size() * sizeof(Elf64_Phdr)))
    return std::nullopt;
  LoadedImage out;
  out.memory_ = &memory;
  const Elf64_Phdr* dynamic = nullptr;
  bool loaded = false;
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type == PT_DYNAMIC) dynamic = &segment;
    if (segment.p_type == PT_LOAD && segment.p_offset < 4096 && !loaded) {
      loaded = true;
      out.bias_ = image - (segment.p_vaddr - segment.p_offset);
    }
  }
  if (!loaded) return std::nullopt;
  if (dynamic == nullptr) return out;  // linked statically, without dynamic symbols
  std::vector<Elf64_Dyn> entries(std::min(dynamic->p_memsz / sizeof(Elf64_Dyn), kMostDynamic));
  if (!memory.read(out.bias_ + dynamic->p_vaddr, entries.data(),
                   entries.size() * sizeof(Elf64_Dyn)))
    return out;
  for (const Elf64_Dyn& entry : entries) {
    if (entry.d_tag == DT_NULL) break;
    // The C library puts addresses there for what it loads; elsewhere they are the file's.
    const std::uint64_t address =
        entry.d_un.d_ptr < image ? entry.d_un.d_ptr + out.bias_ : entry.d_un.d_ptr;
    if (entry.d_tag == DT_SYMTAB) out.symbols_ = address;
    if (entry.d_tag == DT_STRTAB) out.strings_ = address;
    if (entry.d_tag == DT_GNU_HASH) out.hash_ = address;
  }
  return out;
}

std::optional<std::uint64_t> LoadedImage::symbol(std::string_view name) const {
  if (symbols_ == 0 || strings_ == 0 || hash_ == 0) return std::nullopt;
  const auto head = memory_->value<std::array<std::uint32_t, 4>>(hash_);
  if (!head || (*head)[0] == 0) return std::nullopt;
  const auto [buckets, first_symbol, blooms, shift] = *head;
  const std::uint64_t buckets_at = hash_ + 16 + std::uint64_t{blooms} * 8;
  const std::uint64_t chains_at = buckets_at + std::uint64_t{buckets} * 4;
  const std::uint32_t hash = gnu_hash(name);
  const auto start = memory_->value<std::uint32_t>(buckets_at + std::uint64_t{hash % buckets} * 4);
  if (!start || *start < first_symbol) return std::nullopt;
  for (std::size_t i = 0; i < kMostChain; ++i) {
    const std::uint64_t index = *start + i;
    const auto chain = memory_->value<std::uint32_t>(chains_at + (index - first_symbol) * 4);
    if (!chain) return std::nullopt;
    if ((*chain | 1) == (hash | 1)) {
      const auto symbol = memory_->value<Elf64_Sym>(symbols_ + index * sizeof(Elf64_Sym));
      if (symbol && symbol->st_shndx != SHN_UNDEF &&
          memory_->text(strings_ + symbol->st_name, name.size() + 1) == name)
        return bias_ + symbol->st_value;
    }
    if ((*chain & 1) != 0) return std::nullopt;
  }
  return std::nullopt;
}

namespace {

Result<LocatedPython> describe(PythonMemory& memory, const LoadedImage& image,
                               std::uint64_t runtime, const std::string& path) {
  int minor = 0;
  if (const auto at = image.symbol("Py_Version")) {  // 3.11 on
    const auto version = memory.value<std::uint64_t>(*at);
    if (version && *version >> 24 == 3) minor = static_cast<int>(*version >> 16 & 0xFF);
  } else if (image.symbol("PyIter_Send")) {
    minor = 10;
  } else if (image.symbol("PyFrame_GetCode")) {
    minor = 9;
  }
  auto layout = python_layout(minor);
  if (!layout)
    return Error{
        .code = Errc::unavailable,
        .message = minor == 0 ? fmt::format("{} is a CPython of a version that is not known", path)
                              : fmt::format("{} is CPython 3.{}: stacks of that version are not "
                                            "read",
                                            path, minor),
        .hint = "CPython 3.9 to 3.12 can be read"};
  return LocatedPython{.runtime = runtime, .layout = *layout};
}

}  // namespace

Result<LocatedPython> locate_python(PythonMemory& memory, const std::vector<MappedFile>& files,
                                    const std::string& executable) {
  // A shared library first: the program that loads it has no interpreter of its own.
  std::vector<const MappedFile*> candidates;
  for (const MappedFile& file : files)
    if (base_name(file.path).starts_with("libpython")) candidates.push_back(&file);
  for (const MappedFile& file : files)
    if (file.path == executable) candidates.push_back(&file);
  for (const MappedFile& file : files)
    if (base_name(file.path).starts_with("python")) candidates.push_back(&file);
  for (const MappedFile* const file : candidates) {
    const auto image = LoadedImage::at(memory, file->address);
    if (!image) continue;
    if (const auto runtime = image->symbol("_PyRuntime"))
      return describe(memory, *image, *runtime, file->path);
  }
  for (const MappedFile& file : files)
    if (base_name(file.path).find("pypy") != std::string_view::npos)
      return Error{.code = Errc::unavailable,
                   .message = fmt::format("{} is PyPy: only CPython's stacks are read", file.path)};
  return Error{.code = Errc::unavailable,
               .message = fmt::format("{} runs no CPython (no _PyRuntime in it)",
                                      executable.empty() ? "the process" : executable)};
}

}  // namespace rigwise
