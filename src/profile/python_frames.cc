#include "profile/python_frames.h"

#include <algorithm>
#include <array>

namespace rigwise {
namespace {

constexpr std::size_t kMostFrames = 1024;  // CPython itself stops at 1000 calls by default
constexpr std::size_t kMostInterpreters = 64;
constexpr std::size_t kMostThreads = 4096;
constexpr std::size_t kMostScattered = 128;       // frames outside of data stacks
constexpr std::size_t kChunkBytes = 16 * 1024;    // the smallest that CPython makes
constexpr std::size_t kMostChunkBytes = 1 << 20;  // what is read of one
constexpr std::size_t kMostChunks = 16;
constexpr std::size_t kSlack = 512;  // a stack may have grown since its height was read
constexpr int kTries = 3;
constexpr int kGeneratorOwner = 1;

}  // namespace

std::optional<bool> PythonFrames::plausible() {
  const auto head = memory_.value<std::uint64_t>(runtime_ + layout_.runtime_interpreters);
  if (!head) return false;
  if (*head == 0) return std::nullopt;
  const auto thread = memory_.value<std::uint64_t>(*head + layout_.interpreter_threads);
  if (!thread) return false;
  if (*thread == 0) return std::nullopt;  // being made, or at its end
  const auto back = memory_.value<std::uint64_t>(*thread + layout_.thread_interpreter);
  return back && *back == *head;
}

// The thread state of the main thread: by the kernel's id (3.11 on), else by the thread that
// started the interpreter (up to 3.12), else the oldest of the oldest interpreter.
StackRead PythonFrames::find_thread() {
  thread_ = interpreter_ = 0;
  const auto head = memory_.value<std::uint64_t>(runtime_ + layout_.runtime_interpreters);
  if (!head) return StackRead::gone;
  std::optional<std::uint64_t> starter;
  if (layout_.runtime_main_thread != PythonLayout::kNone)
    starter = memory_.value<std::uint64_t>(runtime_ + layout_.runtime_main_thread);
  struct Found {
    std::uint64_t thread = 0, interpreter = 0, id = 0;
  } started, oldest;
  std::uint64_t interpreter = *head;
  for (std::size_t i = 0; interpreter != 0 && i < kMostInterpreters; ++i) {
    const auto first = memory_.value<std::uint64_t>(interpreter + layout_.interpreter_threads);
    if (!first) return StackRead::torn;
    std::uint64_t thread = *first;
    for (std::size_t n = 0; thread != 0 && n < kMostThreads; ++n) {
      thread_ = thread;
      if (!read_thread() ||
          field<std::uint64_t>(thread_bytes_, layout_.thread_interpreter) != interpreter) {
        thread_ = 0;
        return StackRead::torn;
      }
      const auto id = field<std::uint64_t>(thread_bytes_, layout_.thread_id);
      if (layout_.thread_native_id != PythonLayout::kNone &&
          field<std::uint64_t>(thread_bytes_, layout_.thread_native_id) == main_thread_) {
        interpreter_ = interpreter;
        wanted_native_ = true;
        wanted_id_ = main_thread_;
        return StackRead::whole;
      }
      if (starter && id == *starter) started = {thread, interpreter, id};
      oldest = {thread, interpreter, id};  // both lists are newest first
      thread = field<std::uint64_t>(thread_bytes_, layout_.thread_next);
    }
    const auto next = memory_.value<std::uint64_t>(interpreter + layout_.interpreter_next);
    if (!next) return StackRead::torn;
    interpreter = *next;
  }
  const Found& best = started.thread != 0 ? started : oldest;
  thread_ = best.thread;
  interpreter_ = best.interpreter;
  wanted_native_ = false;
  wanted_id_ = best.id;
  if (thread_ == 0) return StackRead::no_frame;
  return read_thread() ? StackRead::whole : StackRead::torn;
}

bool PythonFrames::read_thread() {
  std::uint32_t end = 0;
  for (const std::uint32_t at :
       {layout_.thread_next, layout_.thread_interpreter, layout_.thread_id,
        layout_.thread_native_id, layout_.thread_frame, layout_.thread_chunk})
    if (at != PythonLayout::kNone) end = std::max(end, at + 16);  // the chunk's top lies behind it
  thread_bytes_.resize(end);
  return memory_.read(thread_, thread_bytes_.data(), thread_bytes_.size());
}

StackRead PythonFrames::sample(std::vector<PythonFrame>& frames) {
  StackRead result = StackRead::torn;
  for (int i = 0; i < kTries; ++i) {
    result = try_sample(frames, i + 1 == kTries);
    if (result != StackRead::torn) return result;
  }
  frames.clear();
  return result;
}

StackRead PythonFrames::try_sample(std::vector<PythonFrame>& frames, bool last_try) {
  frames.clear();
  const auto thread_is_mine = [this] {
    return field<std::uint64_t>(thread_bytes_, layout_.thread_interpreter) == interpreter_ &&
           field<std::uint64_t>(thread_bytes_, wanted_native_ ? layout_.thread_native_id
                                                              : layout_.thread_id) == wanted_id_;
  };
  if (thread_ == 0 || !read_thread() || !thread_is_mine()) {
    const StackRead found = find_thread();
    if (found != StackRead::whole) return found;
  }
  std::uint64_t root = 0;
  if (!copy(root)) return StackRead::torn;
  if (root == 0) return StackRead::no_frame;
  if (const StackRead walked = walk(root); walked != StackRead::whole) return walked;
  bool moved = false;
  drop_moving(moved);
  if (frames_.empty() || (moved && !last_try)) return StackRead::torn;
  return name_frames(frames);
}

PythonFrames::Region& PythonFrames::add_region() {
  if (region_count_ == regions_.size()) regions_.emplace_back();
  Region& region = regions_[region_count_++];
  region.whole = region.twice = false;
  return region;
}

// In one call, so that little time passes: the pointer to the innermost frame, the youngest chunk
// of the data stack and the frames that lay elsewhere last time, and then all of them once more.
bool PythonFrames::copy(std::uint64_t& root) {
  region_count_ = 0;
  has_chunk_ = false;
  if (layout_.has_chunks()) {
    const auto chunk = field<std::uint64_t>(thread_bytes_, layout_.thread_chunk);
    const auto top = field<std::uint64_t>(thread_bytes_, layout_.thread_chunk + 8);
    if (chunk != 0) {
      const std::uint64_t used = top > chunk && top - chunk <= kMostChunkBytes ? top - chunk : 0;
      has_chunk_ = true;
      Region& region = add_region();
      region.address = chunk;
      const std::size_t bytes =
          used <= kChunkBytes ? std::min<std::size_t>(used + kSlack, kChunkBytes) : used;
      region.first.resize(bytes);
    }
  }
  for (const std::uint64_t address : scattered_) {
    Region& region = add_region();
    region.address = address;
    region.first.resize(layout_.frame_bytes);
  }
  std::uint64_t root_at = thread_ + layout_.thread_frame;
  if (layout_.cframe_frame != PythonLayout::kNone) {
    const auto cframe = field<std::uint64_t>(thread_bytes_, layout_.thread_frame);
    if (cframe == 0) return root = 0, true;
    root_at = cframe + layout_.cframe_frame;
  }
  pieces_.clear();
  pieces_.push_back({.address = root_at, .into = &root, .bytes = sizeof root});
  for (std::size_t i = 0; i < region_count_; ++i)
    pieces_.push_back({.address = regions_[i].address,
                       .into = regions_[i].first.data(),
                       .bytes = regions_[i].first.size()});
  for (std::size_t i = 0; i < region_count_; ++i) {
    regions_[i].second.resize(regions_[i].first.size());
    pieces_.push_back({.address = regions_[i].address,
                       .into = regions_[i].second.data(),
                       .bytes = regions_[i].second.size()});
  }
  memory_.read(pieces_);
  for (std::size_t i = 0; i < region_count_; ++i) {
    regions_[i].whole = pieces_[1 + i].whole;
    regions_[i].twice = pieces_[1 + region_count_ + i].whole;
  }
  return pieces_[0].whole;
}

const PythonFrames::Region* PythonFrames::region_of(std::uint64_t address) {
  for (std::size_t i = 0; i < region_count_; ++i) {
    const Region& region = regions_[i];
    if (region.whole && address >= region.address &&
        address - region.address + layout_.frame_bytes <= region.first.size())
      return &region;
  }
  return nullptr;
}

// A deep stack goes on in older chunks; each names the one before it: {previous, size, top}.
bool PythonFrames::add_older_chunk(std::uint64_t address) {
  if (!has_chunk_ || !regions_[0].whole) return false;
  std::uint64_t chunk = field<std::uint64_t>(regions_[0].first, 0);
  for (std::size_t i = 0; chunk != 0 && i < kMostChunks; ++i) {
    std::array<std::uint64_t, 3> head{};
    if (!memory_.read(chunk, head.data(), sizeof head)) return false;
    const std::uint64_t size = head[1], used = head[2];
    if (size > kMostChunkBytes || used > size / 8) return false;
    if (address > chunk && address - chunk < size) {
      Region& region = add_region();
      region.address = chunk;
      region.first.resize(24 + used * 8);
      region.whole = memory_.read(chunk, region.first.data(), region.first.size());
      return region.whole;
    }
    chunk = head[0];
  }
  return false;
}

PythonFrames::Frame PythonFrames::frame_at(const Region& region, bool second,
                                           std::uint64_t address) const {
  const auto bytes = std::span<const std::byte>(second ? region.second : region.first)
                         .subspan(address - region.address, layout_.frame_bytes);
  Frame frame{.address = address,
              .code = field<std::uint64_t>(bytes, layout_.frame_code) & ~layout_.code_tag_bits,
              .previous = field<std::uint64_t>(bytes, layout_.frame_previous)};
  if (layout_.has_chunks()) {
    frame.instruction = field<std::uint64_t>(bytes, layout_.frame_instruction);
    frame.owner = field<std::uint8_t>(bytes, layout_.frame_owner);
  } else {
    frame.instruction = field<std::uint32_t>(bytes, layout_.frame_instruction);
  }
  return frame;
}

// Follows the copies from the innermost frame out; what they do not hold is read singly.
StackRead PythonFrames::walk(std::uint64_t root) {
  frames_.clear();
  scattered_.clear();
  for (std::uint64_t address = root; address != 0;) {
    if (frames_.size() >= kMostFrames || address % 8 != 0) return StackRead::torn;
    const Region* region = region_of(address);
    if (region == nullptr && add_older_chunk(address)) region = region_of(address);
    if (region == nullptr) {
      if (region_count_ > kMostFrames) return StackRead::torn;
      Region& single = add_region();
      single.address = address;
      single.first.resize(layout_.frame_bytes);
      single.whole = memory_.read(address, single.first.data(), single.first.size());
      if (!single.whole) return StackRead::torn;
      region = &single;
    }
    if (region->first.size() == layout_.frame_bytes && scattered_.size() < kMostScattered)
      scattered_.push_back(address);
    const Frame frame = frame_at(*region, false, address);
    if (frame.previous == address) return StackRead::torn;
    frames_.push_back(frame);
    address = frame.previous;
  }
  // A generator that stops meanwhile loses its link outwards: such a stack would look whole.
  const Frame& outermost = frames_.back();
  const bool ended = layout_.first_entry_owner < 256 ? outermost.owner >= layout_.first_entry_owner
                                                     : outermost.owner != kGeneratorOwner;
  return ended ? StackRead::whole : StackRead::torn;
}

// Keeps the outer frames that are the same in the second copy: those were on the stack all the
// while. What was called and left again within the microseconds between is not told.
void PythonFrames::drop_moving(bool& moved) {
  std::size_t keep = frames_.size();
  while (keep > 0) {
    const Frame& frame = frames_[keep - 1];
    const Region* const region = region_of(frame.address);
    if (region == nullptr) break;
    if (region->twice) {
      const Frame again = frame_at(*region, true, frame.address);
      if (again.code != frame.code || again.previous != frame.previous) break;
    }
    --keep;
  }
  moved = keep > 0;
  frames_.erase(frames_.begin(), frames_.begin() + static_cast<std::ptrdiff_t>(keep));
}

StackRead PythonFrames::name_frames(std::vector<PythonFrame>& frames) {
  requests_.clear();
  for (const Frame& frame : frames_)
    if (frame.owner < layout_.first_entry_owner) requests_.push_back({.address = frame.code});
  if (requests_.empty()) return StackRead::no_frame;
  codes_.resolve(requests_);
  std::size_t i = 0;
  for (const Frame& frame : frames_) {
    if (frame.owner >= layout_.first_entry_owner) continue;
    const PythonCodes::Request& code = requests_[i++];
    if (code.code == nullptr) return StackRead::torn;
    PythonFrame out{.code = code.code};
    if (code.instructions != 0) {
      // A frame that has not begun stands one unit before its code.
      const std::uint64_t offset = frame.instruction - code.instructions;
      if (offset + 2 > code.instruction_bytes + 2) return StackRead::torn;
      if (offset < code.instruction_bytes) out.instruction = static_cast<int>(offset);
    } else {
      const auto index = static_cast<std::int32_t>(frame.instruction);
      if (index < -1 || index > 1 << 28) return StackRead::torn;
      out.instruction = index < 0 ? -1 : layout_.minor == 10 ? index * 2 : index;
    }
    frames.push_back(out);
  }
  // 3.9, 3.10: the same check as in walk().
  if (requests_.back().generator && frames_.back().previous == 0) return StackRead::torn;
  return StackRead::whole;
}

int PythonFrames::line_of(const PythonFrame& frame) {
  return frame.code == nullptr ? 0 : codes_.line_of(*frame.code, frame.instruction);
}

}  // namespace rigwise
