// open + ledger + report of one recorded run, timed part by part: open_and_report RUN_DIR
// REPORT.html
#include <sys/resource.h>

#include <cstdio>

#include "base/clock.h"
#include "base/files.h"
#include "rigwise/ledger.h"
#include "rigwise/report.h"
#include "rigwise/run.h"

using namespace rigwise;

namespace {
template <class T>
void take(Result<T> result, T& into) {
  if (result) into = std::move(*result);
}
}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: open_and_report RUN_DIR REPORT.html\n", stderr);
    return 2;
  }
  const double start_s = monotonic_s();
  const auto run = open_run(argv[1]);
  if (!run) {
    std::fprintf(stderr, "%s\n", run.error().message.c_str());
    return 1;
  }
  const double opened_s = monotonic_s();
  const auto ledger = make_ledger(*run);
  if (!ledger) {
    std::fprintf(stderr, "%s\n", ledger.error().message.c_str());
    return 1;
  }
  const double ledger_s = monotonic_s();
  ReportInput input;
  ReportRun& page = input.runs.emplace_back(ReportRun{.run = &*run, .ledger = &*ledger});
  take(read_steps(*run), page.steps);
  take(read_events(*run), page.events);
  take(read_gpu(*run, run->info.host), page.gpu);
  take(read_host(*run, run->info.host), page.host);
  take(read_disk(*run, run->info.host), page.disk);
  const std::string html = report_html(input);
  const bool written = write_file_atomic(argv[2], html).ok();
  const double end_s = monotonic_s();
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "{\"open_s\": %.4f, \"ledger_s\": %.4f, \"report_s\": %.4f, \"total_s\": %.4f, "
      "\"peak_rss_mib\": %.1f, \"html_bytes\": %zu}\n",
      opened_s - start_s, ledger_s - opened_s, end_s - ledger_s, end_s - start_s,
      static_cast<double>(usage.ru_maxrss) / 1024, html.size());
  return written ? 0 : 1;
}
