// Engine: where rigwise-engine is, and small things to train with it.
#pragma once

#include <filesystem>
#include <string>

#include "rigwise/result.h"

namespace rigwise::cli {

/// This program's own file.
std::filesystem::path own_program();

/// rigwise-engine: beside this program, else on PATH, else what RIGWISE_ENGINE names.
/// Errors: unavailable, with how to build it.
Result<std::filesystem::path> find_engine();

/// Sentences drawn from a small grammar, at least `bytes` long, the same at every call: a text to
/// train on where nobody gave one. It is made: a loss on it says nothing about real text.
std::string made_text(std::size_t bytes);

/// What a program of ours said last on stderr: "rigwise-engine: tp:2 does not …" without the name;
/// its exit status in words where it said nothing.
std::string last_word(const std::string& err, const std::string& program, int exit_status);

}  // namespace rigwise::cli
