// Encodes a text again and again and prints MB/s of CPU time: the first pass (words are new) and
// the best later one.
//
//   tokenizer_speed TOKENIZER_JSON_OR_FOLDER TEXT_FILE [PASSES]
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/files.h"
#include "engine/text/tokenizer.h"

namespace {

double cpu_s() {
  timespec now = {};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace rigwise;
  if (argc < 3) return 2;
  const double loading_s = cpu_s();
  auto tokenizer = engine::Tokenizer::read(argv[1]);
  const double loaded_s = cpu_s() - loading_s;
  const auto text = read_file(argv[2]);
  if (!tokenizer || !text) {
    std::fprintf(stderr, "%s\n", (tokenizer ? text.error() : tokenizer.error()).message.c_str());
    return 1;
  }
  const int passes = argc > 3 ? std::atoi(argv[3]) : 5;
  const double mb = static_cast<double>(text->size()) * 1e-6;
  double first = 0, best = 0;
  std::size_t tokens = 0;
  for (int i = 0; i < passes; ++i) {
    const double start_s = cpu_s();
    auto ids = tokenizer->encode(*text);
    const double rate = mb / (cpu_s() - start_s);
    if (!ids) return 1;
    tokens = ids->size();
    if (i == 0) first = rate;
    best = std::max(best, rate);
  }
  fmt::print(
      "{{\"load_s\": {:.3f}, \"mb\": {:.3f}, \"tokens\": {}, \"first_mb_per_s\": {:.1f}, "
      "\"mb_per_s\": {:.1f}}}\n",
      loaded_s, mb, tokens, first, best);
  return 0;
}
