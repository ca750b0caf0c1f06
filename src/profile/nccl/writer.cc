#include "profile/nccl/writer.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "profile/nccl/abi.h"

namespace rigwise::nccl_plugin {

namespace file = nccl_file;

namespace {

constexpr std::int64_t kSecond_ns = 1'000'000'000, kMillisecond_ns = 1'000'000;
constexpr std::int64_t kWindow_ns = kSecond_ns, kPeriod_ns = 20 * kSecond_ns;
// NCCL 2.31 stamps phases inside kernels too, at several times the cost (nccl#2355).
constexpr int kCostlyFrom = 23100;
constexpr std::int64_t kCostlyWindow_ns = kSecond_ns / 2;
constexpr std::int64_t kSettle_ns = 3 * kSecond_ns;  // no window while communicators connect
constexpr std::uint64_t kMaxBytes = 16u << 20;
// Up to NCCL 2.30 kernels' events go through the proxy's pool in /dev/shm, and NCCL crashes where
// that could not be had (nccl#2326): ask for them only where there is room to spare.
constexpr int kNoPoolFrom = 23100;
constexpr std::uint64_t kShmTotal_bytes = 512u << 20, kShmFree_bytes = 64u << 20;
constexpr std::size_t kBuffered = 256;  // records

struct MaskUse {
  int* mask;
  std::uint32_t comms;
};

struct Writer {
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;       // the table of communicators, masks
  pthread_mutex_t file_lock = PTHREAD_MUTEX_INITIALIZER;  // the file, and taking out of slots
  pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
  std::atomic<std::uint32_t> forked{0}, closing{0};
  bool started = false, refused = false, woken = false;
  pid_t pid = 0;
  MaskUse masks[8] = {};
  std::uint32_t next_id = 1;
  // the duty cycle
  bool always = false, settle = true, kernels_wanted = false, shm_was_tight = false;
  std::int64_t first_ns = 0, window_ns = kWindow_ns, period_ns = kPeriod_ns;
  bool window_open = false;
  std::int64_t window_end_ns = 0, last_epoch = -1;
  std::uint32_t abi = 0;
  file::WindowRecord window = {};
  // the file
  int fd = -1;
  bool closed = false;
  std::uint64_t offset = 0;
  std::size_t buffered = 0;
  file::Header header = {};
  file::Record buffer[kBuffered] = {};
};
Writer g_writer;

class Locked {
 public:
  explicit Locked(pthread_mutex_t& mutex) : mutex_(mutex) { ::pthread_mutex_lock(&mutex_); }
  ~Locked() { ::pthread_mutex_unlock(&mutex_); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  pthread_mutex_t& mutex_;
};

std::int64_t realtime_ns() {
  timespec now = {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::int64_t{now.tv_sec} * kSecond_ns + now.tv_nsec;
}

// -------------------------------------------------------------------------------------- the file

std::uint64_t total_events() {
  std::uint64_t events = 0;
  for (const Comm& comm : g_events.comms) events += comm.events.load(std::memory_order_relaxed);
  return events;
}

template <class T>
void seal(T& record) {
  std::uint32_t words[sizeof(T) / 4];
  std::memcpy(words, &record, sizeof record);
  record.check = file::checksum(words + 1, sizeof(T) / 4 - 1);
}

/// A write beyond the process's own limit would raise SIGXFSZ, on the user's thread where the process
/// ends.
bool may_grow_to(std::uint64_t size) {
  rlimit limit = {};
  return ::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
         size <= limit.rlim_cur;
}

bool write_at(const void* bytes, std::size_t size, std::uint64_t offset) {
  if (!may_grow_to(offset + size)) {
    g_writer.header.write_errno = EFBIG;
    return false;
  }
  const char* from = static_cast<const char*>(bytes);
  while (size > 0) {
    const ssize_t wrote = ::pwrite(g_writer.fd, from, size, static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      g_writer.header.write_errno = wrote < 0 ? errno : EIO;
      return false;
    }
    from += wrote;
    size -= static_cast<std::size_t>(wrote);
    offset += static_cast<std::uint64_t>(wrote);
  }
  return true;
}

void write_header() {
  file::Header& header = g_writer.header;
  const Counters& counters = g_events.counters;
  constexpr auto kRelaxed = std::memory_order_relaxed;
  header.written_ns = now_ns();
  header.events = total_events();
  header.lost_slots = counters.lost_slots.load(kRelaxed);
  header.lost_comms = counters.lost_comms.load(kRelaxed);
  header.stray = counters.stray.load(kRelaxed);
  header.unknown = counters.unknown.load(kRelaxed);
  header.foreign = counters.foreign.load(kRelaxed);
  // The check stands at the end here, where a torn write would leave the old one.
  std::uint32_t words[sizeof(file::Header) / 4];
  std::memcpy(words, &header, sizeof header);
  header.check = file::checksum(words, sizeof(file::Header) / 4 - 1);
  static_cast<void>(write_at(&header, sizeof header, 0));
}

void flush() {
  Writer& w = g_writer;
  if (w.buffered == 0) return;
  const std::size_t size = w.buffered * sizeof(file::Record);
  if (w.header.state == file::kRecording && write_at(w.buffer, size, w.offset)) {
    w.offset += size;
    w.header.records += w.buffered;
  } else {
    if (w.header.state == file::kRecording) w.header.state = file::kBroken;
    w.header.unwritten += w.buffered;
  }
  w.buffered = 0;
}

void put(const file::Record& record) {
  Writer& w = g_writer;
  if (w.header.state != file::kRecording) {
    ++w.header.unwritten;
    return;
  }
  if (w.offset + (w.buffered + 1) * sizeof(file::Record) > w.header.max_bytes) {
    flush();
    if (w.header.state == file::kRecording) w.header.state = file::kFull;
    ++w.header.unwritten;
    return;
  }
  w.buffer[w.buffered++] = record;
  if (w.buffered == kBuffered) flush();
}

void put_operation(file::OperationRecord& operation) {
  file::Record record = {};
  seal(operation);
  record.operation = operation;
  put(record);
}

void announce(Comm& comm) {
  file::Record record = {};
  file::CommunicatorRecord& description = record.comm;
  description.kind = file::kCommunicator;
  description.abi = comm.abi;
  description.comm = comm.id;
  description.rank = comm.rank;
  description.ranks = comm.ranks;
  description.nodes = comm.nodes;
  description.hash = comm.hash;
  description.made_ns = comm.made_ns;
  std::memcpy(description.name, comm.name, sizeof description.name);
  seal(description);
  put(record);
  comm.announced = true;
}

/// Its description can be read. One that ends nameless stays so.
bool is_named(Comm& comm, bool ended) {
  std::uint32_t naming = comm.naming.load(std::memory_order_acquire);
  if (ended && naming == 0 &&
      comm.naming.compare_exchange_strong(naming, 2, std::memory_order_acquire)) {
    return true;
  }
  return naming == 2;
}

/// Takes out everything that is finished; of an ended communicator everything.
void take_out(bool all) {
  for (Comm& comm : g_events.comms) {
    const std::uint32_t state = comm.state.load(std::memory_order_acquire);
    if (state != kCommLive && state != kCommEnded) continue;
    const bool ended = all || state == kCommEnded;
    if (!is_named(comm, ended)) continue;
    if (!comm.announced) announce(comm);
    collect(comm, put_operation, ended);
    if (state == kCommEnded && comm.live.load(std::memory_order_acquire) == 0) {
      comm.generation.fetch_add(1, std::memory_order_relaxed);
      comm.state.store(kCommFree, std::memory_order_release);
    }
  }
  flush();
}

std::uint64_t in_flight() {
  std::uint64_t live = 0;
  for (const Comm& comm : g_events.comms) live += comm.live.load(std::memory_order_relaxed);
  return live;
}

// -------------------------------------------------------------------------------------- windows

/// With g_writer.lock held.
void set_masks(int value) {
  for (const MaskUse& use : g_writer.masks) {
    if (use.comms > 0) __atomic_store_n(use.mask, value, __ATOMIC_RELAXED);
  }
}

bool masks_in_use() {
  for (const MaskUse& use : g_writer.masks) {
    if (use.comms > 0) return true;
  }
  return false;
}

bool shm_is_tight() {
  if (g_writer.header.nccl_version >= kNoPoolFrom) return false;
  struct statvfs room = {};
  if (::statvfs("/dev/shm", &room) != 0) return true;
  return std::uint64_t{room.f_blocks} * room.f_frsize < kShmTotal_bytes ||
         std::uint64_t{room.f_bavail} * room.f_frsize < kShmFree_bytes;
}

int window_mask() {
  Writer& w = g_writer;
  std::uint64_t mask = nccl_abi::kColl | nccl_abi::kP2p;
  if (w.kernels_wanted && (w.shm_was_tight || shm_is_tight())) {
    w.header.flags |= file::kSmallShm;
  } else if (w.kernels_wanted) {
    mask |= nccl_abi::kKernelCh;
  }
  if (w.abi >= 6) mask |= nccl_abi::kCeColl;
  return static_cast<int>(mask);
}

std::uint64_t mixed(std::uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

/// Where the window of that period starts, on the wall clock: the same in every process.
std::int64_t start_of(std::int64_t epoch) {
  const auto slack = static_cast<std::uint64_t>(g_writer.period_ns - g_writer.window_ns);
  return epoch * g_writer.period_ns +
         static_cast<std::int64_t>(mixed(static_cast<std::uint64_t>(epoch)) % (slack + 1));
}

/// As the file fills, only every 2nd, 4th, … period has a window, so that a long run is sampled to
/// its end.
std::int64_t stride() {
  std::int64_t stride = 1;
  std::uint64_t left = g_writer.header.max_bytes - g_writer.offset;
  for (std::uint64_t mark = g_writer.header.max_bytes / 2; left < mark && stride < 1024; mark /= 2)
    stride *= 2;
  return stride;
}

void open_window(std::int64_t now, std::int64_t realtime, std::int64_t length) {
  Writer& w = g_writer;
  const int mask = window_mask();
  w.window = {};
  w.window.kind = file::kWindow;
  w.window.mask = static_cast<std::uint32_t>(mask);
  w.window.start_ns = now;
  w.window.start_realtime_ns = realtime;
  w.window.events = total_events();
  w.window.lost_slots = g_events.counters.lost_slots.load(std::memory_order_relaxed);
  w.window_open = true;
  w.window_end_ns = now + length;
  const bool kernels = (static_cast<std::uint64_t>(mask) & nccl_abi::kKernelCh) != 0;
  g_events.kernels.store(kernels ? 1 : 0, std::memory_order_relaxed);
  set_masks(mask);
}

void close_window(std::int64_t now) {
  Writer& w = g_writer;
  set_masks(0);
  w.window_open = false;
  w.window.end_ns = now;
  w.window.events = total_events() - w.window.events;
  w.window.lost_slots =
      g_events.counters.lost_slots.load(std::memory_order_relaxed) - w.window.lost_slots;
  ++w.header.windows;
  file::Record record = {};
  seal(w.window);
  record.window = w.window;
  put(record);
}

/// Opens or closes a window if it is time. With both locks held. Returns when to come back.
std::int64_t keep_time(std::int64_t now) {
  Writer& w = g_writer;
  const bool recording = w.header.state == file::kRecording;
  const bool watching = recording && masks_in_use();
  if (w.window_open && (now >= w.window_end_ns || !watching)) close_window(now);
  if (!watching) return now + 60 * kSecond_ns;
  if (w.window_open) return w.window_end_ns;
  if (w.settle && now < w.first_ns + kSettle_ns) return w.first_ns + kSettle_ns;
  const std::int64_t realtime = realtime_ns();
  if (w.always) {
    open_window(now, realtime, w.period_ns);
    return w.window_end_ns;
  }
  if (w.last_epoch > realtime / w.period_ns + 1) w.last_epoch = -1;  // the wall clock was set back
  const std::int64_t every = stride();
  for (std::int64_t epoch = realtime / w.period_ns;; ++epoch) {
    if (epoch % every != 0 || epoch <= w.last_epoch) continue;
    const std::int64_t start = start_of(epoch);
    if (realtime < start) {
      // Looked at again each period, since the wall clock may be set meanwhile.
      const std::int64_t wait = start - realtime;
      return now + (wait < w.period_ns ? wait : w.period_ns);
    }
    if (realtime < start + w.window_ns / 2) {  // else too little of it is left
      w.last_epoch = epoch;
      open_window(now, realtime, start + w.window_ns - realtime);
      return w.window_end_ns;
    }
  }
}

// ------------------------------------------------------------------------------------ the thread

void wait_until(std::int64_t instant) {
  Writer& w = g_writer;
  const timespec until = {.tv_sec = static_cast<time_t>(instant / kSecond_ns),
                          .tv_nsec = static_cast<long>(instant % kSecond_ns)};
  Locked locked(w.lock);
  while (!w.woken) {
    if (::pthread_cond_timedwait(&w.wake, &w.lock, &until) == ETIMEDOUT) break;
  }
  w.woken = false;
}

/// One round; returns when the next is due.
std::int64_t round_of_work() {
  Writer& w = g_writer;
  Locked file_locked(w.file_lock);
  if (w.closed) return INT64_MAX;
  std::int64_t due = 0;
  const std::uint64_t written = w.header.records + w.header.unwritten;
  const std::uint64_t waiting = in_flight();
  take_out(false);
  const std::int64_t now = now_ns();
  {
    Locked locked(w.lock);
    due = keep_time(now);
  }
  flush();
  const bool busy = w.header.records + w.header.unwritten != written;
  if (busy || w.header.windows == 0) write_header();
  std::int64_t rest = 60 * kSecond_ns;
  if (w.window_open) {
    rest = waiting > kFirstSlots / 2 ? 2 * kMillisecond_ns : 20 * kMillisecond_ns;
  } else if (in_flight() > 0) {
    rest = busy ? 50 * kMillisecond_ns : kSecond_ns;
  }
  return now + rest < due ? now + rest : due;
}

void* thread_main(void*) {
  while (g_writer.closing.load(std::memory_order_relaxed) == 0) {
    const std::int64_t due = round_of_work();
    if (due == INT64_MAX) break;
    wait_until(due);
  }
  return nullptr;
}

void wake_up() {  // with g_writer.lock held
  g_writer.woken = true;
  ::pthread_cond_signal(&g_writer.wake);
}

// ---------------------------------------------------------------------------------- start and end

/// The number in front of `end` ("0.25"), in nanoseconds; -1 where it is none. Not strtod: the
/// user's program may have set a locale with commas.
std::int64_t seconds_ns(const char* text, char end) {
  std::int64_t value = 0, unit = kSecond_ns;
  bool fraction = false, digits = false;
  for (; *text != '\0' && *text != end; ++text) {
    if (*text == '.' && !fraction) {
      fraction = true;
    } else if (*text >= '0' && *text <= '9' && value < 100'000 * kSecond_ns) {
      digits = true;
      if (fraction) unit /= 10;
      value = fraction ? value + unit * (*text - '0') : value * 10 + kSecond_ns * (*text - '0');
    } else {
      return -1;
    }
  }
  return digits && *text == end ? value : -1;
}

/// RIGWISE_NCCL_WINDOW="1/20": one second in twenty; "always".
void read_duty_cycle(int nccl_version) {
  Writer& w = g_writer;
  w.window_ns = nccl_version >= kCostlyFrom ? kCostlyWindow_ns : kWindow_ns;
  const char* text = ::getenv("RIGWISE_NCCL_WINDOW");
  if (text == nullptr) return;
  if (std::strcmp(text, "always") == 0) {
    w.always = true;
    w.settle = false;
    w.period_ns = kSecond_ns;  // as one window after the other
    w.window_ns = kSecond_ns;
    return;
  }
  const char* slash = std::strchr(text, '/');
  const std::int64_t window = seconds_ns(text, '/');
  const std::int64_t period = slash == nullptr ? -1 : seconds_ns(slash + 1, '\0');
  if (window < kMillisecond_ns || period < window) return;
  w.settle = period >= kPeriod_ns;
  w.window_ns = window;
  w.period_ns = period;
}

/// As NCCL itself says it, asked of the library that the mask lies in; 0 where it cannot be asked.
int version_of_nccl(const int* mask) {
  Dl_info info = {};
  if (::dladdr(mask, &info) == 0 || info.dli_fname == nullptr) return 0;
  void* library = ::dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return 0;
  int version = 0;
  if (void* symbol = ::dlsym(library, "ncclGetVersion")) {
    using GetVersion = int (*)(int*);
    if (reinterpret_cast<GetVersion>(symbol)(&version) != nccl_abi::kSuccess) version = 0;
  }
  ::dlclose(library);
  return version;
}

/// "%p" becomes the process id, "%h" the host's name, "%%" a per cent sign.
bool output_path(const char* pattern, char* path, std::size_t size) {
  std::size_t used = 0;
  for (; *pattern != '\0'; ++pattern) {
    char word[sizeof(file::Header::host)] = {*pattern, '\0'};
    if (*pattern == '%') {
      ++pattern;
      if (*pattern == '\0') return false;
      if (*pattern == 'h') {
        std::memcpy(word, g_writer.header.host, sizeof word);
      } else if (*pattern == 'p') {
        char* digit = word + 20;
        *digit = '\0';
        for (unsigned left = static_cast<unsigned>(g_writer.pid); left > 0; left /= 10)
          *--digit = static_cast<char>('0' + left % 10);
        std::memmove(word, digit, 21 - static_cast<std::size_t>(digit - word));
      } else if (*pattern != '%') {
        return false;
      }
    }
    const std::size_t length = std::strlen(word);
    if (used + length + 3 > size) return false;  // room for a suffix
    std::memcpy(path + used, word, length);
    used += length;
  }
  path[used] = '\0';
  return used > 0;
}

/// A file of our own; where the name is taken (a process id came again), with a suffix.
int open_output(char* path) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
  int fd = ::open(path, kFlags, 0600);
  char* suffix = path + std::strlen(path);
  for (char number = '2'; fd < 0 && errno == EEXIST && number <= '9'; ++number) {
    suffix[0] = '.';
    suffix[1] = number;
    suffix[2] = '\0';
    fd = ::open(path, kFlags, 0600);
  }
  return fd;
}

void in_child() {
  g_events.on.store(0, std::memory_order_relaxed);
  g_writer.forked.store(1, std::memory_order_relaxed);
}

bool start_thread() {
  pthread_condattr_t clock = {};
  ::pthread_condattr_init(&clock);
  ::pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
  ::pthread_cond_init(&g_writer.wake, &clock);
  ::pthread_condattr_destroy(&clock);
  pthread_attr_t attributes = {};
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  ::pthread_attr_setstacksize(&attributes, 256u << 10);
  sigset_t all = {}, before = {};
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);  // the user's handlers never run on our thread
  pthread_t thread = {};
  const int error = ::pthread_create(&thread, &attributes, thread_main, nullptr);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_attr_destroy(&attributes);
  if (error != 0) return false;
  ::pthread_setname_np(thread, "rigwise-nccl");
  return true;
}

/// Kernels' events are asked for from NCCL 2.28 on. In 2.26 and 2.27 the proxy operations that
/// carry them share a list of bounded length, and a large all-to-all ends the run with an internal
/// error (nccl#2039): there they have to be asked for by name.
bool kernels_wanted(std::uint8_t abi) {
  if (abi >= 5) return true;
  const char* asked = ::getenv("RIGWISE_NCCL_KERNELS");
  return abi >= 3 && asked != nullptr && std::strcmp(asked, "1") == 0;
}

bool start(const Described& described, const int* mask) {
  Writer& w = g_writer;
  const char* pattern = ::getenv("RIGWISE_NCCL_OUT");
  if (pattern == nullptr) return false;
  file::Header& header = w.header;
  w.pid = ::getpid();
  g_events.pid.store(w.pid, std::memory_order_relaxed);
  w.abi = described.abi;
  ::gethostname(header.host, sizeof header.host - 1);
  for (char* c = header.host; *c != '\0'; ++c) {
    if (*c == '/') *c = '_';
  }
  char path[4096];
  if (!output_path(pattern, path, sizeof path)) return false;
  w.fd = open_output(path);
  if (w.fd < 0) return false;
  std::memcpy(header.magic, file::kMagic, sizeof header.magic);
  header.version = file::kVersion;
  header.header_bytes = sizeof(file::Header);
  header.record_bytes = sizeof(file::Record);
  header.state = file::kRecording;
  header.pid = w.pid;
  header.abi = described.abi;
  header.nccl_version = version_of_nccl(mask);
  w.kernels_wanted = kernels_wanted(described.abi);
  header.flags = w.kernels_wanted ? file::kKernels : described.abi >= 3 ? file::kKernelsUnsafe : 0u;
  read_duty_cycle(header.nccl_version);
  header.window_ns = w.window_ns;
  header.period_ns = w.period_ns;
  header.max_bytes = kMaxBytes;
  header.opened_ns = w.first_ns = now_ns();
  header.opened_realtime_ns = realtime_ns();
  w.offset = sizeof(file::Header);
  write_header();
  if (header.write_errno == 0 && ::pthread_atfork(nullptr, nullptr, in_child) == 0 &&
      start_thread()) {
    w.started = true;
    g_events.on.store(1, std::memory_order_release);
    return true;
  }
  ::close(w.fd);
  ::unlink(path);
  w.fd = -1;
  return false;
}

/// A place in the table with memory for its slots; null where there is none.
Comm* free_comm() {
  for (Comm& comm : g_events.comms) {
    std::uint32_t state = kCommFree;
    if (!comm.state.compare_exchange_strong(state, kCommClaimed, std::memory_order_acquire))
      continue;
    if (comm.slots != nullptr) return &comm;
    void* memory = ::mmap(nullptr, kMaxSlots * sizeof(Slot), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      comm.state.store(kCommFree, std::memory_order_release);
      return nullptr;
    }
    // Zeroed memory is a table of free slots of generation 0.
    __atomic_store_n(&comm.slots, static_cast<Slot*>(memory), __ATOMIC_RELEASE);
    comm.limit.store(kFirstSlots, std::memory_order_relaxed);
    return &comm;
  }
  return nullptr;
}

bool use_mask(int* mask) {
  MaskUse* place = nullptr;
  for (MaskUse& use : g_writer.masks) {
    if (use.comms > 0 && use.mask == mask) {
      place = &use;
      break;
    }
    if (use.comms == 0 && place == nullptr) place = &use;
  }
  if (place == nullptr) return false;
  if (place->comms++ == 0) {
    place->mask = mask;
    const int now = g_writer.window_open ? static_cast<int>(g_writer.window.mask) : 0;
    __atomic_store_n(mask, now, __ATOMIC_RELAXED);
  }
  return true;
}

void drop_mask(const int* mask) {
  for (MaskUse& use : g_writer.masks) {
    if (use.comms == 0 || use.mask != mask) continue;
    if (--use.comms == 0) __atomic_store_n(use.mask, 0, __ATOMIC_RELAXED);
  }
}

/// The process ends in order: what is in memory goes to the file, if that can be had at once.
__attribute__((destructor)) void at_exit() {
  Writer& w = g_writer;
  if (w.pid != ::getpid() || w.forked.load(std::memory_order_relaxed) != 0) return;
  g_events.on.store(0, std::memory_order_relaxed);
  w.closing.store(1, std::memory_order_relaxed);
  timespec until = {};
  ::clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 1;
  if (::pthread_mutex_timedlock(&w.file_lock, &until) != 0) return;  // a hung file system
  if (::pthread_mutex_timedlock(&w.lock, &until) == 0) {
    if (w.started && !w.closed) {
      take_out(true);
      if (w.window_open) close_window(now_ns());
      flush();
      if (w.header.state == file::kRecording) w.header.state = file::kClosed;
      write_header();
      w.closed = true;
    }
    ::pthread_mutex_unlock(&w.lock);
  }
  ::pthread_mutex_unlock(&w.file_lock);
}

}  // namespace

bool open_comm(const Described& described, int* mask, void** context) {
  Writer& w = g_writer;
  *context = nullptr;
  if (mask == nullptr || w.forked.load(std::memory_order_relaxed) != 0) return false;
  Locked locked(w.lock);
  if (w.refused) return false;
  if (!w.started && !start(described, mask)) {
    w.refused = true;
    return false;
  }
  Comm* comm = w.next_id > 0xffff ? nullptr : free_comm();
  if (comm == nullptr || !use_mask(mask)) {
    if (comm != nullptr) comm->state.store(kCommFree, std::memory_order_release);
    g_events.counters.lost_comms.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  w.shm_was_tight = w.shm_was_tight || (w.kernels_wanted && shm_is_tight());
  comm->mask = mask;
  comm->abi = described.abi;
  comm->hash = described.hash;
  comm->rank = described.rank;
  comm->ranks = described.ranks;
  comm->nodes = described.nodes;
  comm->made_ns = now_ns();
  std::memset(comm->name, 0, sizeof comm->name);
  if (described.name != nullptr) ::strncpy(comm->name, described.name, sizeof comm->name - 1);
  comm->naming.store(described.abi >= 4 ? 2 : 0, std::memory_order_relaxed);
  comm->id = static_cast<std::uint16_t>(w.next_id++);
  comm->announced = false;
  comm->state.store(kCommLive, std::memory_order_release);
  *context = context_of(*comm);
  wake_up();
  return true;
}

void close_comm(void* context) {
  Comm* comm = comm_of(context);
  if (comm == nullptr) return;
  Locked locked(g_writer.lock);
  std::uint32_t live = kCommLive;
  if (!comm->state.compare_exchange_strong(live, kCommEnded, std::memory_order_acq_rel)) return;
  drop_mask(comm->mask);
  wake_up();
}

}  // namespace rigwise::nccl_plugin
