#include "profile/python_elf.h"

#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

namespace rigwise {
namespace {

constexpr std::size_t kMostSegments = 64;
constexpr std::size_t kMostDynamic = 256;
constexpr std::size_t kMostChain = 4096;
constexpr std::size_t kMostSections = 4096;
constexpr std::uint64_t kMostSymbolBytes = 64 << 20;

bool is_ours(const Elf64_Ehdr& header) {
#if defined(__aarch64__)
  constexpr int kMachine = EM_AARCH64;
#else
  constexpr int kMachine = EM_X86_64;
#endif
  return std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
         header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_machine == kMachine;
}

std::uint32_t gnu_hash(std::string_view name) {
  std::uint32_t hash = 5381;
  for (const char c : name) hash = hash * 33 + static_cast<unsigned char>(c);
  return hash;
}

bool read_at(int fd, std::uint64_t offset, void* into, std::size_t bytes) {
  return pread(fd, into, bytes, static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes);
}

}  // namespace

std::optional<LoadedImage> LoadedImage::at(PythonMemory& memory, std::uint64_t image) {
  const auto header = memory.value<Elf64_Ehdr>(image);
  if (!header || !is_ours(*header) || header->e_phentsize != sizeof(Elf64_Phdr) ||
      header->e_phnum > kMostSegments)
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

std::optional<ElfSymbols> ElfSymbols::read(int fd) {
  Elf64_Ehdr header{};
  if (!read_at(fd, 0, &header, sizeof header) || !is_ours(header) ||
      header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shnum > kMostSections ||
      header.e_shstrndx >= header.e_shnum)
    return std::nullopt;
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  if (!read_at(fd, header.e_shoff, sections.data(), sections.size() * sizeof(Elf64_Shdr)))
    return std::nullopt;
  const auto text_of = [fd](const Elf64_Shdr& section) {
    std::string out;
    if (section.sh_size > kMostSymbolBytes) return out;
    out.resize(section.sh_size);
    if (!read_at(fd, section.sh_offset, out.data(), out.size())) out.clear();
    return out;
  };
  ElfSymbols out;
  const std::string names = text_of(sections[header.e_shstrndx]);
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_name < names.size() && (section.sh_flags & SHF_ALLOC) != 0)
      out.sections_.emplace(names.c_str() + section.sh_name, section.sh_addr);
    if (section.sh_type != SHT_SYMTAB || section.sh_link >= sections.size()) continue;
    const std::string bytes = text_of(section);
    const std::string strings = text_of(sections[section.sh_link]);
    for (std::size_t at = 0; at + sizeof(Elf64_Sym) <= bytes.size(); at += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol{};
      std::memcpy(&symbol, bytes.data() + at, sizeof symbol);
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_name >= strings.size()) continue;
      const std::string_view name = strings.c_str() + symbol.st_name;
      if (std::find(kWanted.begin(), kWanted.end(), name) != kWanted.end())
        out.values_.emplace(name, symbol.st_value);
    }
  }
  return out;
}

std::optional<std::uint64_t> ElfSymbols::value(std::string_view name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? std::nullopt : std::optional(it->second);
}

std::optional<std::uint64_t> ElfSymbols::section(std::string_view name) const {
  const auto it = sections_.find(name);
  return it == sections_.end() ? std::nullopt : std::optional(it->second);
}

}  // namespace rigwise
