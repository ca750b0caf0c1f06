// Mappings: {…} as Python or JSON prints them, or something between: either quote, bare words, nan
// and inf, "...", numbers as strings, nested ones (flattened), lists (passed over).
#pragma once

#include <string>
#include <string_view>

#include "logs/entry.h"

namespace rigwise::logs {

class Trace;

enum class MappingState {
  complete,  // the closing brace was there
  open,      // the text ended before it
  broken,    // no mapping after all, or JSON that is none
};

struct Mapping {
  MappingState state = MappingState::broken;
  std::size_t size = 0;           // bytes used, the closing brace included
  bool json = false;              // keys in double quotes
  std::string_view message = {};  // the text in it that a logger wrapped: "message", "log", "msg"
  /// {"event": "checkpoint_saved", "path": "out/checkpoint-200"}: what is told, and of what.
  std::string_view saving = {}, path = {};
};

/// Whether '{' at `at` can begin a mapping that tells anything.
bool starts_mapping(std::string_view text, std::size_t at);

/// Reads the mapping at text[0] == '{' into `entry`. A value that the end of the text cuts is left
/// out.
Mapping scan_mapping(std::string_view text, Meanings& meanings, Trace& trace, Entry& entry);

/// JSON's escapes undone; `out` is cleared first.
void unescape(std::string_view text, std::string& out);

}  // namespace rigwise::logs
