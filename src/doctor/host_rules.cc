// The rung "host": memory, limits, kernel and clock.
#include <fmt/format.h>

#include <cmath>

#include "base/text.h"
#include "doctor/rules.h"
#include "rigwise/units.h"

namespace rigwise::doctor {

namespace {

constexpr double kSharedBytes = 512e6, kLockedBytes = 32.0 * (1 << 30), kOpenFiles = 1024;
constexpr double kMemoryShort = 0.10, kSwapUsed = 0.5;

/// "5.4.0-150-generic" → 5.4. Nothing where it does not begin so.
std::optional<std::pair<int, int>> kernel_version(std::string_view text) {
  const auto parts = split(text, '.');
  if (parts.size() < 2) return std::nullopt;
  const auto major = to_integer(parts[0]);
  const auto minor = to_integer(parts[1].substr(0, parts[1].find_first_not_of("0123456789")));
  if (!major || !minor) return std::nullopt;
  return std::pair(static_cast<int>(*major), static_cast<int>(*minor));
}

void judge_memory(const HostFacts& host, Judge& judge) {
  if (!host.mem_total_bytes || !host.mem_available_bytes || *host.mem_total_bytes <= 0) {
    judge.not_judged("memory-short", "/proc/meminfo does not say");
  } else {
    const double share = *host.mem_available_bytes / *host.mem_total_bytes;
    const std::string words =
        fmt::format("{} of {} available", format_bytes_binary(*host.mem_available_bytes),
                    format_bytes_binary(*host.mem_total_bytes));
    if (share < kMemoryShort)
      judge.fail("memory-short", "Memory is short: " + words + ".",
                 shown("/proc/meminfo", "MemAvailable, within the control group's limit"));
    else
      judge.pass("memory-short", words);
  }
  if (!host.swap_total_bytes || !host.swap_free_bytes) {
    judge.not_judged("swap-in-use", "/proc/meminfo does not say");
  } else if (*host.swap_total_bytes <= 0) {
    judge.pass("swap-in-use", "no swap space");
  } else {
    const double used = 1 - *host.swap_free_bytes / *host.swap_total_bytes;
    const std::string words = fmt::format("{} of {} of swap used", format_share(used),
                                          format_bytes_binary(*host.swap_total_bytes));
    if (used > kSwapUsed)
      judge.fail("swap-in-use", "The host swaps: " + words + ".",
                 shown("/proc/meminfo", "SwapTotal, SwapFree"));
    else
      judge.pass("swap-in-use", words);
  }
}

void judge_limits(const HostFacts& host, Judge& judge) {
  if (!host.shm_total_bytes) {
    judge.not_judged("shm-small", "/dev/shm is not mounted or does not say its size");
  } else if (*host.shm_total_bytes < kSharedBytes) {
    judge.fail("shm-small",
               "/dev/shm is small: " + format_bytes_binary(*host.shm_total_bytes) + ".",
               shown("/proc/self/mountinfo", "size of the tmpfs on /dev/shm"));
  } else {
    judge.pass("shm-small", "/dev/shm " + format_bytes_binary(*host.shm_total_bytes));
  }
  if (!host.open_files) {
    judge.not_judged("open-files-low", "/proc/self/limits does not say");
  } else if (*host.open_files < kOpenFiles) {
    judge.fail("open-files-low", fmt::format("Only {:.0f} files may be open.", *host.open_files),
               shown("/proc/self/limits", "Max open files"));
  } else {
    judge.pass("open-files-low", std::isinf(*host.open_files)
                                     ? std::string("open files without limit")
                                     : fmt::format("{:.0f} open files", *host.open_files));
  }
  if (!host.rdma) {
    judge.skip("locked-memory-low", "no RDMA device");
  } else if (!host.locked_bytes) {
    judge.not_judged("locked-memory-low", "/proc/self/limits does not say");
  } else if (*host.locked_bytes < kLockedBytes) {
    judge.fail("locked-memory-low",
               "Only " + format_bytes_binary(*host.locked_bytes) +
                   " may be locked, and RDMA locks its buffers.",
               shown("/proc/self/limits", "Max locked memory"));
  } else {
    judge.pass("locked-memory-low", "enough memory may be locked");
  }
}

}  // namespace

void judge_host(const DoctorFacts& facts, Judge& judge) {
  const HostFacts& host = facts.host;
  judge_memory(host, judge);
  judge_limits(host, judge);
  const auto version = kernel_version(host.kernel);
  if (!version) {
    judge.not_judged("kernel-old", "the kernel does not say its version");
  } else if (*version < std::pair(5, 5)) {
    judge.fail("kernel-old", "The kernel is old: " + host.kernel + ".",
               shown("/proc/sys/kernel/osrelease", host.kernel));
  } else {
    judge.pass("kernel-old", "kernel " + host.kernel);
  }
  if (!host.clock_synced) {
    judge.not_judged("clock-unsynced", "the kernel was not asked");
  } else if (!*host.clock_synced) {
    judge.fail("clock-unsynced", "Nothing keeps this host's clock.",
               {{.what = "adjtimex: STA_UNSYNC"}});
  } else {
    judge.pass("clock-unsynced", "the clock is kept");
  }
}

}  // namespace rigwise::doctor
