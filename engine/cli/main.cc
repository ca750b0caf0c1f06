#include <array>
#include <cstdio>
#include <exception>

#include "engine/cli/verbs.h"

namespace rigwise::engine {
namespace {

using AddVerb = void (*)(CLI::App& app, int& status);

constexpr std::array<AddVerb, 0> kVerbs = {};

int run(int argc, char** argv) {
  CLI::App app{"Fine-tuning under every strategy, and the measurements that go with it",
               "rigwise-engine"};
  app.set_version_flag("--version",
                       "rigwise-engine " RIGWISE_VERSION "\ntorch " RIGWISE_TORCH_VERSION);
  app.require_subcommand(1);
  int status = 0;
  for (const AddVerb add : kVerbs) add(app, status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    constexpr int kUsage = 2;
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  return status;
}

}  // namespace
}  // namespace rigwise::engine

int main(int argc, char** argv) {
  try {
    return rigwise::engine::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rigwise-engine: a bug of ours: %s\n", error.what());
    return 1;
  }
}
