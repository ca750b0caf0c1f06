// Settings of a configuration file as flat pairs: JSON, TOML, and the plain part of YAML (key:
// value, nested by indentation, "- key: value" items). Anchors, tags and blocks of text are passed
// over.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace rigwise {

/// ("training.max_steps", "200"), in the file's order; empty when the file is not there, larger
/// than 1 MiB or does not parse. Lists of plain values are joined with ','.
std::vector<std::pair<std::string, std::string>> settings_of_file(
    const std::filesystem::path& path);

}  // namespace rigwise
