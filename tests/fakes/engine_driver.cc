// The torch-free half of the engine by its bytes, for tests in Python that compare it with Hugging
// Face's libraries: one command a call, JSON or raw ids out.
#include <cstdio>
#include <cstring>
#include <string>

#include "base/json.h"
#include "engine/files/adapter_config.h"
#include "engine/files/model_config.h"
#include "engine/files/rope.h"

namespace {

using namespace rigwise;
using namespace rigwise::engine;

int fail(const Error& error) {
  std::fprintf(stderr, "%s\n%s\n", error.message.c_str(), error.hint.c_str());
  return 1;
}

/// config FILE OUT: what was read, written out again, and its rotary frequencies.
int config(const char* in, const char* out, std::int64_t positions) {
  const auto read = read_model_config(in);
  if (!read) return fail(read.error());
  const auto written = write_model_config(*read, out);
  if (!written) return fail(written.error());
  if (!read->rope) return 0;
  const auto rope = rope_frequencies(*read, positions);
  std::printf("%.9g\n", static_cast<double>(rope.scale));
  for (const float f : rope.inverse) std::printf("%.9g\n", static_cast<double>(f));
  return 0;
}

int adapter(const char* in, const char* out) {
  const auto read = read_adapter_config(in);
  if (!read) return fail(read.error());
  const auto written = write_adapter_config(*read, out);
  return written ? 0 : fail(written.error());
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  if (verb == "config" && argc == 5) return config(argv[2], argv[3], std::atoll(argv[4]));
  if (verb == "adapter" && argc == 4) return adapter(argv[2], argv[3]);
  std::fputs("engine_driver config IN OUT POSITIONS | adapter IN OUT\n", stderr);
  return 2;
}
