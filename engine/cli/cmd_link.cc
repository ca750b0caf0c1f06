// link: how fast the ranks can talk, and whether the bytes arrive whole.
#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "base/text.h"
#include "engine/cli/flags.h"
#include "engine/measure/link.h"
#include "rigwise/units.h"

namespace rigwise::engine {

namespace {

struct LinkFlags {
  DeviceFlags device;
  RankFlags ranks;
  std::vector<std::string> sizes = {};
  int repeats = 10;
  bool json = false;
};

Result<LinkOptions> options_of(const LinkFlags& flags) {
  LinkOptions options;
  options.repeats = flags.repeats;
  if (flags.sizes.empty()) return options;
  options.sizes_bytes.clear();
  for (const auto& word : flags.sizes) {
    RW_TRY(const double bytes, parse_bytes(word));
    if (!(bytes >= 1) || bytes > 4e9) {
      return Error{Errc::usage,
                   fmt::format("--sizes {}: between 1 B and 4 GB", clean_text(word, 40))};
    }
    options.sizes_bytes.push_back(static_cast<std::int64_t>(bytes));
  }
  std::sort(options.sizes_bytes.begin(), options.sizes_bytes.end());
  return options;
}

Json to_json(const std::vector<LinkSize>& sizes) {
  Json out = Json::array();
  for (const auto& size : sizes) {
    out.push_back({{"message_bytes", size.bytes},
                   {"repeats", size.time.repeats},
                   {"time_s", size.time.median_s},
                   {"time_low_s", size.time.low_s},
                   {"time_high_s", size.time.high_s},
                   {"algbw_bytes_per_s", size.algbw_bytes_per_s},
                   {"busbw_bytes_per_s", size.busbw_bytes_per_s}});
  }
  return out;
}

Json to_json(const ByteCheck& check) {
  Json out = {{"checked_bytes", check.checked_bytes}, {"wrong_bytes", check.wrong_bytes}};
  put(out, "message_bytes", check.message_bytes);
  put(out, "first_offset_bytes", check.first_offset_bytes);
  return out;
}

Json to_json(const LinkReport& report) {
  Json out = {
      {"schema", 1}, {"device", report.device}, {"hosts", report.hosts}, {"notes", report.notes}};
  out["pairs"] = Json::array();
  for (const auto& pair : report.pairs) {
    out["pairs"].push_back({{"from_rank", pair.from},
                            {"to_rank", pair.to},
                            {"latency_s", pair.latency_s},
                            {"check", to_json(pair.check)},
                            {"sizes", to_json(pair.sizes)}});
  }
  out["collectives"] = Json::array();
  for (const auto& collective : report.collectives) {
    Json one = {{"operation", collective.operation},
                {"ranks", report.hosts.size()},
                {"check", to_json(collective.check)},
                {"sizes", to_json(collective.sizes)}};
    if (const auto& overlap = collective.overlap) {
      one["overlap"] = {{"message_bytes", overlap->bytes},
                        {"repeats", overlap->repeats},
                        {"compute_together_s", overlap->compute_together_s},
                        {"alone_s", overlap->alone_s},
                        {"both_s", overlap->both_s},
                        {"hidden", overlap->hidden},
                        {"hidden_least", overlap->hidden_least},
                        {"hidden_most", overlap->hidden_most}};
    }
    out["collectives"].push_back(std::move(one));
  }
  if (const auto& together = report.together) {
    out["together"] = {{"repeats", together->repeats},
                       {"work_s", together->work_s},
                       {"factor", together->factor},
                       {"factor_least", together->factor_least},
                       {"factor_most", together->factor_most}};
  }
  return out;
}

std::string microseconds(double seconds) {
  const double us = seconds * 1e6;
  return us < 100 ? fmt::format("{:.1f}", us) : fmt::format("{:.0f}", us);
}

std::string gigabytes(double bytes_per_s) {
  return fmt::format("{:.3f}", bytes_per_s / 1e9);
}

void add_rows(std::string& out, const std::string& name, const std::vector<LinkSize>& sizes) {
  for (const auto& size : sizes) {
    out += fmt::format(
        "{:<16}{:>12}{:>12}{:>22}{:>12}{:>12}\n", name,
        format_bytes_binary(static_cast<double>(size.bytes)), microseconds(size.time.median_s),
        fmt::format("{} to {}", microseconds(size.time.low_s), microseconds(size.time.high_s)),
        gigabytes(size.algbw_bytes_per_s), gigabytes(size.busbw_bytes_per_s));
  }
}

std::string to_text(const LinkReport& report) {
  std::string out = fmt::format("{} ranks on {}\n", report.hosts.size(), report.device);
  for (std::size_t rank = 0; rank < report.hosts.size(); ++rank) {
    out += fmt::format("  rank {} on {}\n", rank, report.hosts[rank]);
  }
  for (const auto& note : report.notes) out += "  " + note + "\n";
  out += fmt::format("\n{:<16}{:>12}{:>12}{:>22}{:>12}{:>12}\n", "", "message", "time µs",
                     "half of the repeats", "algbw GB/s", "busbw GB/s");
  std::int64_t checked_bytes = 0;
  for (const auto& pair : report.pairs) {
    add_rows(out, fmt::format("{} → {}", pair.from, pair.to), pair.sizes);
    checked_bytes += pair.check.checked_bytes;
  }
  for (const auto& collective : report.collectives) {
    add_rows(out, collective.operation, collective.sizes);
    checked_bytes += collective.check.checked_bytes;
  }
  out += "\n";
  for (const auto& pair : report.pairs) {
    out +=
        fmt::format("latency {} → {}: {} µs\n", pair.from, pair.to, microseconds(pair.latency_s));
  }
  for (const auto& collective : report.collectives) {
    const auto& overlap = collective.overlap;
    if (!overlap) continue;
    out += fmt::format(
        "{} of {} beside arithmetic: {} µs, {} µs without it, arithmetic {} µs; {:.0f} % hidden "
        "({:.0f} to {:.0f})\n",
        collective.operation, format_bytes_binary(static_cast<double>(overlap->bytes)),
        microseconds(overlap->both_s), microseconds(overlap->alone_s),
        microseconds(overlap->compute_together_s), 100 * overlap->hidden,
        100 * overlap->hidden_least, 100 * overlap->hidden_most);
  }
  if (const auto& together = report.together) {
    out += fmt::format(
        "arithmetic on all ranks at once takes {:.2f} times ({:.2f} to {:.2f}) what one alone "
        "takes\n",
        together->factor, together->factor_least, together->factor_most);
  }
  return out + fmt::format("{} compared where they arrived\n",
                           format_bytes(static_cast<double>(checked_bytes)));
}

/// One line for each thing that arrived changed.
std::vector<std::string> wrong_bytes(const LinkReport& report) {
  std::vector<std::string> out;
  const auto add = [&](const std::string& what, const ByteCheck& check) {
    if (check.wrong_bytes == 0) return;
    out.push_back(fmt::format(
        "{}: {} of {} compared arrived changed, the first at byte {} of a message of {}", what,
        counted(check.wrong_bytes, "byte", "bytes"), check.checked_bytes,
        check.first_offset_bytes.value_or(0),
        format_bytes_binary(static_cast<double>(check.message_bytes.value_or(0)))));
  };
  for (const auto& pair : report.pairs) {
    add(fmt::format("rank {} on {} to rank {} on {}", pair.from,
                    report.hosts[static_cast<std::size_t>(pair.from)], pair.to,
                    report.hosts[static_cast<std::size_t>(pair.to)]),
        pair.check);
  }
  for (const auto& collective : report.collectives) add(collective.operation, collective.check);
  return out;
}

Result<int> link(const LinkFlags& flags, const Program& program) {
  RW_TRY(const LinkOptions options, options_of(flags));
  RW_TRY(auto started, start_ranks(flags.ranks, program));
  if (const int* status = std::get_if<int>(&started)) return *status;
  const RankPlace& place = std::get<RankPlace>(started);
  if (place.size < 2) {
    return Error{Errc::usage, "a link needs at least two ranks",
                 "rigwise-engine link --ranks 2, or under torchrun, srun or mpirun"};
  }
  RW_TRY(const at::Device device, use_device(flags.device, place));
  RW_TRY(const auto comm, connect_ranks(flags.ranks, place, device));
  const LinkReport report = measure_link(*comm, options);
  const auto wrong = wrong_bytes(report);
  if (comm->rank() == 0) {
    if (print(flags.json ? to_json(report).dump(2) + "\n" : to_text(report)) != kOk) return kFailed;
    for (const auto& line : wrong) {
      fail(Error{
          Errc::remote, line,
          "do not train over this link: try NCCL_P2P_DISABLE=1, then the cable, the riser, the "
          "IOMMU's settings"});
    }
  }
  return wrong.empty() ? kOk : kFailed;
}

}  // namespace

void add_link(CLI::App& app, Program& program) {
  auto flags = std::make_shared<LinkFlags>();
  CLI::App* verb = app.add_subcommand(
      "link", "Bandwidth and latency between the ranks, with a check of the bytes");
  add_rank_flags(*verb, flags->ranks);
  add_device_flags(*verb, flags->device);
  verb->add_option("--sizes", flags->sizes, "Message sizes (default: 8 B to 64 MiB)")
      ->type_name("SIZE[,SIZE…]")
      ->delimiter(',');
  verb->add_option("--repeats", flags->repeats, "Timed repeats of each size, behind one warm-up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "Print one JSON document (docs/engine.md)");
  verb->footer("Example:\n  rigwise-engine link --ranks 2 --sizes 8,1MiB,64MiB");
  verb->callback([flags, &program] { program.status = exit_code(link(*flags, program)); });
}

}  // namespace rigwise::engine
