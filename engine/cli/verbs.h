// The verbs of rigwise-engine: one file a verb, each of which adds its subcommand to the command
// line and stands in main.cc's table. The callback of a subcommand does the work and leaves its
// exit code in program.status.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "rigwise/result.h"

namespace rigwise::engine {

// Of docs/cli.md's table.
inline constexpr int kOk = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;

struct Program {
  std::vector<std::string> argv;  // as typed, for starting it again as ranks
  int status = kOk;
};

void add_device(CLI::App& app, Program& program);
void add_eval(CLI::App& app, Program& program);
void add_generate(CLI::App& app, Program& program);
void add_link(CLI::App& app, Program& program);
void add_make_model(CLI::App& app, Program& program);
void add_quantise(CLI::App& app, Program& program);
void add_train(CLI::App& app, Program& program);

/// Tells what went wrong on stderr; the exit code for it.
int fail(const Error& error);
/// What a verb's work gave: its own exit code, or that of its error, which is told.
int exit_code(const Result<int>& done);
/// Writes to stdout; kFailed where it cannot take it.
int print(std::string_view text);

}  // namespace rigwise::engine
