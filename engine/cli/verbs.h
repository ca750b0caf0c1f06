// The verbs of rigwise-engine: one file a verb, each of which adds its subcommand to the command
// line and stands in main.cc's table. The callback of a subcommand does the work and leaves the
// exit code (docs/cli.md) in `status`.
#pragma once

#include <CLI/CLI.hpp>
