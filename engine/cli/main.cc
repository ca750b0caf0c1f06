#include <malloc.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "engine/cli/verbs.h"
#include "engine/comm/comm.h"

namespace rigwise::engine {
namespace {

using AddVerb = void (*)(CLI::App& app, Program& program);

constexpr std::array<AddVerb, 7> kVerbs = {add_train,    add_eval, add_generate, add_make_model,
                                           add_quantise, add_link, add_device};

int run(int argc, char** argv) {
  CLI::App app{"Fine-tuning under every strategy, and the measurements that go with it",
               "rigwise-engine"};
  app.set_version_flag("--version",
                       "rigwise-engine " RIGWISE_VERSION "\ntorch " RIGWISE_TORCH_VERSION);
  app.require_subcommand(1);
  Program program;
  program.argv.assign(argv, argv + argc);
  for (const AddVerb add : kVerbs) add(app, program);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  return program.status;
}

}  // namespace

int fail(const Error& error) {
  const int status = error.code == Errc::usage ? kUsage : kFailed;
  if (error.message.empty()) return status;  // another rank tells
  std::fprintf(stderr, "rigwise-engine: %s\n", error.message.c_str());
  if (!error.hint.empty()) std::fprintf(stderr, "  %s\n", error.hint.c_str());
  return status;
}

int exit_code(const Result<int>& done) {
  return done ? *done : fail(done.error());
}

int print(std::string_view text) {
  const bool whole = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  return whole && std::fflush(stdout) == 0 ? kOk : kFailed;
}

}  // namespace rigwise::engine

int main(int argc, char** argv) {
  using namespace rigwise::engine;
  // The same sizes are asked for every step. Given back to the system each time, as malloc does
  // with large ones, their pages would have to be made again.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  try {
    return run(argc, argv);
  } catch (const CommFailure& failure) {
    const int status = fail(failure.error);
    std::_Exit(status);  // the library's threads may never end now
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "rigwise-engine: %s\n", error.what_without_backtrace());
    return kFailed;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rigwise-engine: a bug of ours: %s\n", error.what());
    return kFailed;
  }
}
