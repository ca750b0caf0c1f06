// Any bytes through triage: no crash, no hang, and three promises. Bytes in pieces give what they
// give at once; what is named stands in the log; the text and the JSON of any result hold no
// control sequences.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "report/failure.h"
#include "rigwise/triage.h"

namespace {

using namespace rigwise;

void fail(const char* what) {
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

Failure read_in(std::string_view bytes, std::size_t piece) {
  Triage triage(Signatures::built_in());
  triage.begin({"rank0.log", {}, ""});
  for (std::size_t at = 0; at < bytes.size(); at += piece) triage.push(bytes.substr(at, piece));
  return triage.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Failure whole = read_in(bytes, size + 1);
  const std::string json = failure_json(whole);
  if (failure_json(read_in(bytes, 7)) != json) fail("pieces give the same");
  if (size < 4096 && failure_json(read_in(bytes, 1)) != json) fail("byte by byte gives the same");
  if (whole.first_meaningful && whole.first_meaningful->line < 1) fail("a line that is there");
  for (const char c : failure_text(whole, {}) + json) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n') fail("no control sequences");
  }
  (void)Signatures::parse(bytes.substr(0, 4096));
  return 0;
}
