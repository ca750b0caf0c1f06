#include "profile/nccl/events.h"

#include <time.h>

#include "profile/nccl/abi.h"

namespace rigwise::nccl_plugin {

namespace file = nccl_file;

Events g_events;

namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::int64_t kPatience_ns = 1'000'000'000;     // for channels that do not come any more
constexpr std::int64_t kForgotten_ns = 300'000'000'000;  // an operation that nothing ends

// ---------------------------------------------------------------------------------- a slot's word

enum Phase : std::uint64_t { kFree = 0, kClaimed = 1, kLive = 2, kDone = 3 };

struct Word {
  std::uint64_t bits;
  static constexpr std::uint64_t kStopped = 1ull << 2;
  static constexpr int kBusyAt = 3, kOpenAt = 10, kSeenAt = 17, kGenerationAt = 32;
  static constexpr std::uint64_t kSeven = 127;

  [[nodiscard]] Phase phase() const { return static_cast<Phase>(bits & 3); }
  [[nodiscard]] bool stopped() const { return (bits & kStopped) != 0; }
  [[nodiscard]] std::uint64_t busy() const { return bits >> kBusyAt & kSeven; }
  [[nodiscard]] std::uint64_t open() const { return bits >> kOpenAt & kSeven; }
  [[nodiscard]] std::uint64_t seen() const { return bits >> kSeenAt & kSeven; }
  [[nodiscard]] std::uint32_t generation() const {
    return static_cast<std::uint32_t>(bits >> kGenerationAt);
  }
  static std::uint64_t fresh(std::uint32_t generation, Phase phase) {
    return std::uint64_t{generation} << kGenerationAt | phase;
  }
};
constexpr std::uint64_t kOneBusy = 1ull << Word::kBusyAt, kOneOpen = 1ull << Word::kOpenAt,
                        kOneSeen = 1ull << Word::kSeenAt;

// -------------------------------------------------------------------------------------- handles

enum HandleKind : std::uint64_t { kOperation = 1, kChannel = 2, kContext = 3, kGroupOf = 4 };

// generation 32 | slot 13 | communicator 8 | channel 6 | kind 3
struct Handle {
  HandleKind kind;
  std::uint32_t channel, comm, slot, generation;

  static Handle of(const void* pointer) {
    const auto bits = reinterpret_cast<std::uintptr_t>(pointer);
    return {.kind = static_cast<HandleKind>(bits & 7),
            .channel = static_cast<std::uint32_t>(bits >> 3 & 63),
            .comm = static_cast<std::uint32_t>(bits >> 9 & 255),
            .slot = static_cast<std::uint32_t>(bits >> 17 & 8191),
            .generation = static_cast<std::uint32_t>(bits >> 32)};
  }
  [[nodiscard]] void* pointer() const {
    const std::uint64_t bits = std::uint64_t{generation} << 32 | std::uint64_t{slot} << 17 |
                               std::uint64_t{comm} << 9 | std::uint64_t{channel} << 3 | kind;
    return reinterpret_cast<void*>(static_cast<std::uintptr_t>(bits));
  }
};
static_assert(kMaxSlots <= 8192 && kMaxComms <= 256 && kMaxChannels <= 64);

void count(std::atomic<std::uint64_t>& counter) {
  counter.fetch_add(1, kRelaxed);
}
void stray() {
  count(g_events.counters.stray);
}

template <class T>
void lower_to(std::atomic<T>& value, T candidate) {
  T seen = value.load(kRelaxed);
  while ((seen == 0 || candidate < seen) &&
         !value.compare_exchange_weak(seen, candidate, kRelaxed)) {
  }
}
template <class T>
void raise_to(std::atomic<T>& value, T candidate) {
  T seen = value.load(kRelaxed);
  while (candidate > seen && !value.compare_exchange_weak(seen, candidate, kRelaxed)) {
  }
}

/// Holds a live slot of that generation; false where there is none.
bool enter(Slot& slot, std::uint32_t generation) {
  std::uint64_t bits = slot.word.load(std::memory_order_acquire);
  for (;;) {
    const Word word{bits};
    if (word.generation() != generation || word.phase() != kLive || word.busy() == Word::kSeven)
      return false;
    if (slot.word.compare_exchange_weak(bits, bits + kOneBusy, std::memory_order_acq_rel))
      return true;
  }
}

bool complete(const Word& word, const Slot& slot) {
  return word.stopped() && word.open() == 0 && word.seen() >= slot.start.channels;
}

/// Lets go, with what has changed in the word; the last one out of a complete operation ends it.
void leave(Slot& slot, std::uint64_t set, std::uint64_t add, std::uint64_t subtract) {
  std::uint64_t bits = slot.word.load(kRelaxed);
  for (;;) {
    std::uint64_t next = ((bits | set) + add) - subtract - kOneBusy;
    const Word word{next};
    if (word.busy() == 0 && complete(word, slot)) next |= kDone;  // kLive | 1
    if (slot.word.compare_exchange_weak(bits, next, std::memory_order_acq_rel)) return;
  }
}
static_assert((kLive | kDone) == kDone);

/// The slot that a handle names, whatever lives in it now.
Slot* slot_of(const Handle& handle) {
  if (handle.comm >= kMaxComms) return nullptr;
  Slot* slots = __atomic_load_n(&g_events.comms[handle.comm].slots, __ATOMIC_ACQUIRE);
  return slots == nullptr ? nullptr : slots + handle.slot;
}

/// A free slot, claimed. The table is used from its beginning and grows only when that is taken, so
/// that a quiet run touches little memory.
Slot* claim(Comm& comm, std::uint32_t& index, std::uint32_t& generation) {
  for (;;) {
    const std::uint32_t limit = comm.limit.load(kRelaxed);
    for (int attempt = 0; attempt < 4; ++attempt) {
      index = comm.next.fetch_add(1, kRelaxed) & (limit - 1);
      Slot& slot = comm.slots[index];
      std::uint64_t bits = slot.word.load(kRelaxed);
      const Word word{bits};
      if (word.phase() != kFree) continue;
      generation = word.generation();
      if (slot.word.compare_exchange_strong(bits, Word::fresh(generation, kClaimed),
                                            std::memory_order_acquire)) {
        return &slot;
      }
    }
    if (limit >= kMaxSlots) return nullptr;
    std::uint32_t expected = limit;
    comm.limit.compare_exchange_strong(expected, limit * 2, kRelaxed);
  }
}

}  // namespace

std::int64_t now_ns() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void count_event(const void* pointer) {
  const std::uint32_t comm = Handle::of(pointer).comm;
  count(g_events.comms[comm < kMaxComms ? comm : 0].events);
}

void* context_of(const Comm& comm) {
  const auto index = static_cast<std::uint32_t>(&comm - g_events.comms);
  return Handle{.kind = kContext,
                .channel = 0,
                .comm = index,
                .slot = 0,
                .generation = comm.generation.load(kRelaxed)}
      .pointer();
}

Comm* comm_of(void* context) {
  const Handle handle = Handle::of(context);
  if (handle.kind == kContext && handle.comm < kMaxComms) {
    Comm& comm = g_events.comms[handle.comm];
    if (comm.state.load(std::memory_order_acquire) == kCommLive &&
        comm.generation.load(kRelaxed) == handle.generation) {
      return &comm;
    }
  }
  stray();
  return nullptr;
}

void* group_handle() {
  return Handle{.kind = kGroupOf, .channel = 0, .comm = 0, .slot = 0, .generation = 0}.pointer();
}

void name_once(Comm& comm, const char* name, std::uint64_t hash, int rank) {
  if (comm.naming.load(kRelaxed) != 0) return;
  std::uint32_t nameless = 0;
  if (!comm.naming.compare_exchange_strong(nameless, 1, kRelaxed)) return;
  comm.hash = hash;
  comm.rank = rank;
  std::size_t i = 0;
  for (; name != nullptr && i + 1 < sizeof comm.name && name[i] != '\0'; ++i)
    comm.name[i] = name[i];
  comm.name[i] = '\0';
  comm.naming.store(2, std::memory_order_release);
}

void* start_operation(Comm& comm, const Start& start) {
  std::uint32_t index = 0, generation = 0;
  Slot* slot = claim(comm, index, generation);
  if (slot == nullptr) {
    count(g_events.counters.lost_slots);
    return nullptr;
  }
  comm.live.fetch_add(1, kRelaxed);
  slot->open_channels.store(0, kRelaxed);
  slot->gpu_start_ns.store(0, kRelaxed);
  slot->gpu_last_start_ns.store(0, kRelaxed);
  slot->gpu_stop_ns.store(0, kRelaxed);
  slot->poll_start_ns.store(0, kRelaxed);
  slot->poll_stop_ns.store(0, kRelaxed);
  slot->returned_ns.store(0, kRelaxed);
  slot->odd.store(0, kRelaxed);
  slot->start = start;
  // Without kernels' events nothing but its own stop ends it.
  if (g_events.kernels.load(kRelaxed) == 0) slot->start.channels = 0;
  slot->enqueued_ns = now_ns();
  slot->word.store(Word::fresh(generation, kLive), std::memory_order_release);
  return Handle{.kind = kOperation,
                .channel = 0,
                .comm = static_cast<std::uint32_t>(&comm - g_events.comms),
                .slot = index,
                .generation = generation}
      .pointer();
}

void* start_channel(void* parent, std::uint8_t channel, std::uint64_t gpu_timer_ns) {
  Handle handle = Handle::of(parent);
  Slot* slot = handle.kind == kOperation ? slot_of(handle) : nullptr;
  if (slot == nullptr || channel >= kMaxChannels || !enter(*slot, handle.generation)) {
    stray();
    return nullptr;
  }
  const std::uint64_t bit = 1ull << channel;
  std::uint64_t add = 0;
  if ((slot->open_channels.fetch_or(bit, kRelaxed) & bit) == 0) {
    const Word word{slot->word.load(kRelaxed)};
    add = kOneOpen + (word.seen() < kMaxChannels ? kOneSeen : 0);
  } else {  // started twice: one stop will end both
    slot->odd.store(1, kRelaxed);
    stray();
  }
  if (gpu_timer_ns != 0) {
    lower_to(slot->gpu_start_ns, gpu_timer_ns);
    raise_to(slot->gpu_last_start_ns, gpu_timer_ns);
  }
  lower_to(slot->poll_start_ns, now_ns());
  leave(*slot, 0, add, 0);
  handle.kind = kChannel;
  handle.channel = channel;
  return handle.pointer();
}

void record_state(void* pointer, int state, const void* arguments, bool gpu_timers) {
  if (state != nccl_abi::kKernelChStop) return;
  const Handle handle = Handle::of(pointer);
  Slot* slot = handle.kind == kChannel ? slot_of(handle) : nullptr;
  if (slot == nullptr || !enter(*slot, handle.generation)) {
    stray();
    return;
  }
  if ((slot->open_channels.load(kRelaxed) >> handle.channel & 1) == 0) {
    stray();
  } else if (gpu_timers && arguments != nullptr) {
    const auto* values = static_cast<const nccl_abi::StateArguments*>(arguments);
    if (values->gpu_timer_ns != 0) raise_to(slot->gpu_stop_ns, values->gpu_timer_ns);
  }
  leave(*slot, 0, 0, 0);
}

void stop(void* pointer) {
  const Handle handle = Handle::of(pointer);
  if (handle.kind == kGroupOf) return;
  Slot* slot = handle.kind == kOperation || handle.kind == kChannel ? slot_of(handle) : nullptr;
  if (slot == nullptr || !enter(*slot, handle.generation)) {
    stray();
    return;
  }
  if (handle.kind == kOperation) {
    std::int64_t never = 0;
    if (slot->returned_ns.compare_exchange_strong(never, now_ns(), kRelaxed)) {
      leave(*slot, Word::kStopped, 0, 0);
      return;
    }
  } else {
    const std::uint64_t bit = 1ull << handle.channel;
    if ((slot->open_channels.fetch_and(~bit, kRelaxed) & bit) != 0) {
      raise_to(slot->poll_stop_ns, now_ns());
      leave(*slot, 0, 0, kOneOpen);
      return;
    }
  }
  slot->odd.store(1, kRelaxed);
  stray();
  leave(*slot, 0, 0, 0);
}

// ------------------------------------------------------------------------------ the writer's side

namespace {

file::OperationRecord record_of(const Comm& comm, const Slot& slot, const Word& word) {
  file::OperationRecord record = {};
  record.kind = file::kOperation;
  record.function = slot.start.function;
  record.datatype = slot.start.datatype;
  record.comm = comm.id;
  record.channels = slot.start.channels;
  record.channels_seen = static_cast<std::uint8_t>(word.seen());
  record.peer = slot.start.peer;
  record.sequence = slot.start.sequence;
  record.count = slot.start.count;
  record.enqueued_ns = slot.enqueued_ns;
  record.returned_ns = slot.returned_ns.load(kRelaxed);
  record.gpu_start_ns = slot.gpu_start_ns.load(kRelaxed);
  record.gpu_last_start_ns = slot.gpu_last_start_ns.load(kRelaxed);
  record.gpu_stop_ns = slot.gpu_stop_ns.load(kRelaxed);
  record.poll_start_ns = slot.poll_start_ns.load(kRelaxed);
  record.poll_stop_ns = slot.poll_stop_ns.load(kRelaxed);
  unsigned flags = slot.start.flags;
  if (record.gpu_start_ns != 0 && record.gpu_stop_ns != 0) flags |= file::kGpuTimes;
  if (record.poll_start_ns != 0 && record.poll_stop_ns != 0) flags |= file::kPolled;
  if (word.open() != 0 || (slot.start.channels > 0 && word.seen() == 0)) flags |= file::kUnfinished;
  if (word.seen() < slot.start.channels) flags |= file::kPartial;
  if (slot.odd.load(kRelaxed) != 0) flags |= file::kOdd;
  if (record.returned_ns == 0) flags |= file::kNotStopped;
  record.flags = static_cast<std::uint8_t>(flags);
  return record;
}

/// Nothing more is to be expected of this live operation.
bool overdue(const Slot& slot, const Word& word, std::int64_t now) {
  std::int64_t last = slot.enqueued_ns;
  for (const auto* instant : {&slot.returned_ns, &slot.poll_start_ns, &slot.poll_stop_ns}) {
    const std::int64_t value = instant->load(kRelaxed);
    if (value > last) last = value;
  }
  if (now - last > kForgotten_ns) return true;
  return word.stopped() && word.open() == 0 && word.seen() > 0 && now - last > kPatience_ns;
}

}  // namespace

void collect(Comm& comm, Sink sink, bool all) {
  if (comm.slots == nullptr || comm.live.load(kRelaxed) == 0) return;
  const std::int64_t now = now_ns();
  const std::uint32_t limit = comm.limit.load(kRelaxed);
  for (std::uint32_t i = 0; i < limit; ++i) {
    Slot& slot = comm.slots[i];
    std::uint64_t bits = slot.word.load(std::memory_order_acquire);
    Word word{bits};
    if (word.phase() == kLive && word.busy() == 0 && (all || overdue(slot, word, now))) {
      // From here on a late event finds it over.
      if (!slot.word.compare_exchange_strong(bits, bits | kDone, std::memory_order_acq_rel))
        continue;
      word.bits = bits | kDone;
    }
    if (word.phase() != kDone) continue;
    file::OperationRecord record = record_of(comm, slot, word);
    sink(record);
    slot.word.store(Word::fresh(word.generation() + 1, kFree), std::memory_order_release);
    comm.live.fetch_sub(1, kRelaxed);
  }
}

}  // namespace rigwise::nccl_plugin
