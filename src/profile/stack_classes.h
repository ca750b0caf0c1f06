// Stack classes: the table that says which work a Python function stands for, and how a stack is
// judged by it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "rigwise/stacks.h"

namespace rigwise {

/// How far a row of the table reaches.
enum class StackReach {
  itself,  // a stack is judged by the innermost such frame
  whole,   // whatever it calls is that work too: an evaluation's forward pass is evaluation
};

/// One row: code of that function in a file whose path ends so.
struct StackRule {
  std::string_view file;  // end of the path, at a '/'; one that ends in '/' means any file below
                          // such a folder; "*" any file; "user" code that nobody installed
  std::string_view function;  // without its class; "a|b" = either; "*" = any
  std::string_view work;
  StackReach reach = StackReach::itself;
  std::string_view source = "";  // whose name it is
};

std::span<const StackRule> stack_rules();

}  // namespace rigwise
