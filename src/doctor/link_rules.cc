// Links and slots. What a link does at idle says nothing about the slot: cards slow their links
// down to save power, so speed and width are judged under load only. What ports and cards could do
// at most is wiring, and is judged at once.
#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "doctor/rules.h"
#include "rigwise/units.h"

namespace rigwise::doctor {

namespace {

using Names = Judge::Names;

/// Somebody computes on the card and its clock is up: then its link is up as well. A desktop that
/// draws keeps the utilisation up and the clocks, with the link, down.
bool works(const DriverGpu& gpu) {
  constexpr double kBusy = 0.1, kClock = 0.5;  // of the time; of the highest SM clock
  const GpuSample& sample = gpu.sample;
  return sample.other_processes.value_or(0) > 0 && sample.util_frac.value_or(0) >= kBusy &&
         sample.sm_clock_mhz && sample.sm_clock_max_mhz &&
         *sample.sm_clock_mhz >= kClock * *sample.sm_clock_max_mhz;
}

/// The two ends of one link tell the same link, each with its own most. A switch is two hops (its
/// upper and its lower port) with no link between them, so links join hops 0-1, 2-3, ….
struct Link {
  const PciHop* upper;
  const PciHop* lower;
};
std::vector<Link> links_of(const std::vector<PciHop>& hops) {
  std::vector<Link> links;
  for (std::size_t i = 0; i + 1 < hops.size(); i += 2) links.push_back({&hops[i], &hops[i + 1]});
  return links;
}

template <class T>
std::optional<T> least(std::optional<T> a, std::optional<T> b) {
  if (!a) return b;
  return b ? std::min(*a, *b) : a;
}

struct LinkState {
  bool known = false, narrow = false, slow = false;
  std::string narrow_words, slow_words;
};

/// Each link against the lesser of what its two ends could do.
LinkState state_of(const std::vector<PciHop>& hops) {
  LinkState state;
  for (const Link& link : links_of(hops)) {
    const auto width = least(link.upper->width, link.lower->width);
    const auto width_max = least(link.upper->width_max, link.lower->width_max);
    const auto speed = least(link.upper->speed_gts, link.lower->speed_gts);
    const auto speed_max = least(link.upper->speed_max_gts, link.lower->speed_max_gts);
    state.known = state.known || (width && width_max) || (speed && speed_max);
    if (width && width_max && *width < *width_max) {
      state.narrow = true;
      state.narrow_words = fmt::format("x{} where x{} is possible, between {} and {}", *width,
                                       *width_max, link.upper->address, link.lower->address);
    }
    if (speed && speed_max && *speed < *speed_max - 0.2) {
      state.slow = true;
      state.slow_words = fmt::format("{:g} GT/s where {:g} are possible, between {} and {}", *speed,
                                     *speed_max, link.upper->address, link.lower->address);
    }
  }
  return state;
}

std::vector<Evidence> hops_shown(const std::vector<PciHop>& hops, const Strings& downtrained) {
  std::vector<Evidence> list;
  for (const auto& hop : hops)
    list.push_back({.file = "/sys/bus/pci/devices/" + hop.address, .what = hop_text(hop)});
  for (const auto& line : downtrained) {
    const bool speaks_of_it = std::any_of(hops.begin(), hops.end(), [&](const PciHop& hop) {
      return line.find(hop.address) != std::string::npos;
    });
    if (speaks_of_it) list.push_back({.file = "dmesg", .what = line});
  }
  return list;
}

void judge_state(const PciGpu& gpu, const std::vector<PciHop>& hops, const Strings& downtrained,
                 Judge& judge) {
  const LinkState state = state_of(hops);
  if (!state.known) {
    for (const char* code : {"link-narrow", "link-slow"})
      judge.not_judged(code, gpu.address + ": the bus does not tell its links (virtual machine?)");
    return;
  }
  const Names names = {{"bdf", gpu.address}};
  if (state.narrow)
    judge.fail("link-narrow", card_words(gpu) + " runs on " + state.narrow_words + ".",
               hops_shown(hops, downtrained), names);
  else
    judge.pass("link-narrow", gpu.address + ": full width under load");
  if (state.slow)
    judge.fail("link-slow", card_words(gpu) + " runs at " + state.slow_words + ".",
               hops_shown(hops, downtrained), names);
  else
    judge.pass("link-slow", gpu.address + ": full speed under load");
}

bool of_chipset(std::string_view name) {
  const std::string text = lower(name);
  return text.find("chipset") != std::string::npos || text.find(" pch ") != std::string::npos ||
         text.find("promontory") != std::string::npos ||
         text.find("matisse switch") != std::string::npos;  // X570; its lanes end in a GPP bridge
}

void judge_slot(const PciGpu& gpu, Judge& judge) {
  const Names names = {{"bdf", gpu.address}};
  const std::string where = card_words(gpu);
  // Each link by itself: a card with a switch of its own has sixteen lanes behind an edge of eight.
  const Link* narrow = nullptr;
  bool known = false;
  const auto links = links_of(gpu.hops);
  for (const Link& link : links) {
    if (!link.upper->width_max || !link.lower->width_max) continue;
    known = true;
    if (*link.upper->width_max < *link.lower->width_max) narrow = &link;
  }
  if (!known) {
    judge.not_judged("slot-narrow", gpu.address + ": the bus does not tell its links");
  } else if (narrow != nullptr) {
    judge.fail("slot-narrow",
               fmt::format("{} could use x{}; its way to the CPU has x{}.", where,
                           *narrow->lower->width_max, *narrow->upper->width_max),
               {{.file = "/sys/bus/pci/devices/" + narrow->upper->address + "/max_link_width",
                 .what = hop_text(*narrow->upper)}},
               {{"bdf", gpu.address}, {"name", narrow->upper->address}});
  } else {
    judge.pass("slot-narrow", gpu.address + ": every port as wide as what sits in it");
  }
  const auto named = std::find_if(gpu.hop_names.begin(), gpu.hop_names.end(), of_chipset);
  if (named != gpu.hop_names.end()) {
    const auto at = static_cast<std::size_t>(named - gpu.hop_names.begin());
    judge.fail("chipset-lanes", where + " is behind the chipset.",
               {{.file = "/sys/bus/pci/devices/" + gpu.hops[at].address, .what = *named}}, names);
  } else if (gpu.hop_names.size() < 2 || gpu.hop_names.front().empty()) {
    judge.not_judged("chipset-lanes", gpu.address + ": the PCI id list does not name its ports");
  } else {
    judge.pass("chipset-lanes", gpu.address + ": below " + gpu.hop_names.front());
  }
  if (gpu.nvme_beside.empty()) {
    judge.pass("uplink-shared", gpu.address + ": no drive on its way to the CPU");
  } else {
    judge.fail("uplink-shared",
               where + " shares its way to the CPU with " +
                   counted(static_cast<std::int64_t>(gpu.nvme_beside.size()), "NVMe drive",
                           "NVMe drives") +
                   ".",
               {{.file = "/sys/bus/pci/devices/" + gpu.hops.front().address,
                 .what = "also above " + join(gpu.nvme_beside, ", ")}},
               names);
  }
}

void judge_peers(const DeviceFacts& devices, std::vector<const PciGpu*> gpus, Judge& judge) {
  const auto all = gpus;  // only cards of one vendor talk to each other
  std::erase_if(gpus, [&](const PciGpu* gpu) {
    return std::count_if(all.begin(), all.end(),
                         [&](const PciGpu* other) { return other->vendor == gpu->vendor; }) < 2;
  });
  if (gpus.size() < 2) {
    judge.skip("iommu-translates", "fewer than two GPUs");
    judge.skip("acs-redirects", "fewer than two GPUs");
    return;
  }
  const bool linked = std::all_of(gpus.begin(), gpus.end(), [&](const PciGpu* gpu) {
    return std::any_of(devices.driver.begin(), devices.driver.end(), [&](const DriverGpu& one) {
      return one.device.pci_address == gpu->address && one.device.nvlink_to_all.value_or(false);
    });
  });
  if (linked) {
    for (const char* code : {"iommu-translates", "acs-redirects"})
      judge.not_judged(code, "NVLink joins every two GPUs: their traffic does not take the bus");
    return;
  }
  std::string translated, redirected;
  bool known = false;
  for (const PciGpu* gpu : gpus) {
    if (gpu->iommu_type.starts_with("DMA"))
      translated += (translated.empty() ? "" : ", ") + gpu->address + " " + gpu->iommu_type;
    known = known || gpu->acs_redirects.has_value();
    if (gpu->acs_redirects.value_or(false))
      redirected += (redirected.empty() ? "" : ", ") + gpu->address;
  }
  if (translated.empty())
    judge.pass("iommu-translates", "no GPU's addresses are translated");
  else
    judge.fail("iommu-translates", "The IOMMU translates the GPUs' addresses.",
               {{.file = "/sys/kernel/iommu_groups", .what = translated}});
  if (!redirected.empty())
    judge.fail("acs-redirects", "Ports above the GPUs redirect their peer traffic to the root.",
               {{.file = "/sys/bus/pci/devices", .what = "ACSCtl above " + redirected}});
  else if (known)
    judge.pass("acs-redirects", "no port above a GPU redirects");
  else
    judge.not_judged("acs-redirects", "needs root: sudo lspci -vvv | grep ACSCtl");
}

void judge_bar(const PciGpu& gpu, const DoctorFacts& facts, Judge& judge) {
  constexpr double kWindow = 256.0 * (1 << 20);
  if (facts.host.virtual_machine) {
    judge.not_judged("rebar-off", "in a virtual machine the sizes are the guest's");
  } else if (!gpu.largest_bar_bytes) {
    judge.not_judged("rebar-off", gpu.address + ": the bus does not tell its windows");
  } else if (*gpu.largest_bar_bytes <= kWindow && !gpu.bar_resizable) {
    judge.not_judged("rebar-off", gpu.address + ": card or kernel offers no resizing");
  } else if (*gpu.largest_bar_bytes <= kWindow) {
    judge.fail(
        "rebar-off",
        card_words(gpu) + " shows the CPU only " + format_bytes_binary(*gpu.largest_bar_bytes) +
            " of its memory.",
        {{.file = "/sys/bus/pci/devices/" + gpu.address + "/resource", .what = "largest window"}},
        {{"bdf", gpu.address}});
  } else {
    judge.pass("rebar-off",
               gpu.address + ": a window of " + format_bytes_binary(*gpu.largest_bar_bytes));
  }
}

}  // namespace

void judge_links(const DoctorFacts& facts, Judge& judge, bool load_put_on) {
  const auto gpus = usable_gpus(facts.devices);
  for (const PciGpu* gpu : gpus) {
    const auto work = std::find_if(facts.work.begin(), facts.work.end(), [&](const GpuWork& one) {
      return one.pci == gpu->address && !one.loaded_hops.empty();
    });
    if (load_put_on) {
      if (work != facts.work.end())
        judge_state(*gpu, work->loaded_hops, facts.devices.downtrained, judge);
      continue;
    }
    const auto busy = std::find_if(
        facts.devices.driver.begin(), facts.devices.driver.end(),
        [&](const DriverGpu& one) { return one.device.pci_address == gpu->address && works(one); });
    if (busy != facts.devices.driver.end()) {
      judge_state(*gpu, busy->hops, facts.devices.downtrained, judge);
    } else {
      for (const char* code : {"link-narrow", "link-slow"})
        judge.not_judged(code,
                         gpu->address + ": idle, as far as is known; level 2 puts load on it");
    }
  }
  if (load_put_on) return;
  for (const PciGpu& gpu : facts.devices.pci) {  // wiring: whatever driver holds the card
    if (!gpu.answers || gpu.withheld) continue;
    judge_slot(gpu, judge);
    judge_bar(gpu, facts, judge);
  }
  if (!gpus.empty()) judge_peers(facts.devices, gpus, judge);
}

}  // namespace rigwise::doctor
