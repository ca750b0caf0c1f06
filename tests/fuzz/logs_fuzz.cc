// Any bytes through the reader of training logs: no crash, no hang, and three promises. Bytes in
// pieces give what they give at once; a line read by its shape's plan gives what reading it in full
// gives; the read statistics add up.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "logs/assemble.h"
#include "logs/line_reader.h"
#include "logs/session.h"
#include "rigwise/logs.h"

namespace {

using namespace rigwise;

void fail(const char* what) {
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

struct Counts {
  std::size_t steps = 0, events = 0, facts = 0;
  double sum = 0;  // of the losses that are numbers
  bool operator==(const Counts&) const = default;
  void add(const LogBatch& batch) {
    steps += batch.steps.size();
    events += batch.events.size();
    facts += batch.facts.size();
    if (batch.steps_before.size() != batch.events.size()) fail("one place an event");
    for (const StepRecord& record : batch.steps)
      if (record.loss && *record.loss - *record.loss == 0) sum += *record.loss;
  }
};

Counts read_in(std::string_view bytes, std::size_t chunk) {
  LogReader reader("log", {LogPattern{"r{step} * cost {loss}", false}});
  Counts counts;
  for (std::size_t at = 0; at < bytes.size(); at += chunk)
    counts.add(reader.push(bytes.substr(at, chunk), 1));
  counts.add(reader.finish(1));
  const ReadStatistics& read = reader.statistics();
  if (read.matched + read.skipped + read.malformed > read.lines + 1) fail("lines add up");
  return counts;
}

Counts read_lines(std::string_view bytes, bool plans) {
  logs::LineAssembler assembler;
  logs::Session session("log");
  logs::LineReader reader({}, plans);
  LogBatch batch;
  session.out = &batch;
  const auto take = [&](const logs::Piece& piece) { reader.read(session, piece); };
  assembler.push(bytes, 1, take);
  assembler.finish(take);
  logs::Piece end;
  end.end = 0;
  reader.finish(session, end);
  session.end(2);
  Counts counts;
  counts.add(batch);
  return counts;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Counts whole = read_in(bytes, size + 1);
  if (size < 4096 && !(read_in(bytes, 1) == whole)) fail("byte by byte gives the same");
  if (!(read_in(bytes, 7) == whole)) fail("pieces give the same");
  if (!(read_lines(bytes, true) == read_lines(bytes, false))) fail("plans give the same");
  return 0;
}
