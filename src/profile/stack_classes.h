// Stack classes: the table that says which work a Python function stands for.
#pragma once

#include <span>
#include <string_view>

namespace rigwise {

/// One row: code of that function in a file whose path ends so.
struct StackRule {
  std::string_view file;      // end of the path, at a '/'; "*" = any file
  std::string_view function;  // name without its class; "Class.name" = of that class; "*" = any
  std::string_view work;      // "input", "checkpoint", …
  bool whole = false;         // everything below it is that work too, whatever it calls
  std::string_view source;    // where the name was read
};

std::span<const StackRule> stack_rules();

}  // namespace rigwise
