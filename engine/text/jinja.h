// Jinja, as far as the chat templates of models use it: an interpreter for a bounded subset.
//
// Semantics are those of Jinja 3.1 as transformers sets it up (trim_blocks, lstrip_blocks, an
// immutable sandbox, loop controls, {% generation %}, raise_exception, strftime_now, tojson without
// HTML escapes). Understood are for/if/set/macro/break/continue/generation/raw, expressions, the
// filters, tests and methods of strings, lists and dicts that templates in use have; anything else
// is an error with its line and its name. A template is foreign: its size, depth, steps and output
// are bounded, and it reaches nothing but what it is given.
//
// Threads: a template may be rendered by many at once.
#pragma once

#include <cstddef>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "rigwise/result.h"

namespace rigwise::engine {

struct JinjaOutput {
  std::string text = {};
  struct Region {
    std::size_t begin = 0, end = 0;  // bytes of text
    std::size_t item = 0;            // of the tracked list
  };
  /// What was written while a loop's variable was an item of the tracked list; never empty.
  std::vector<Region> regions = {};
  /// What {% generation %} blocks wrote; `item` is 0.
  std::vector<Region> generations = {};
  /// A {% generation %} block was met whose text went into a variable first.
  bool generation_lost = false;
};

class JinjaTemplate {
 public:
  /// Errors: malformed ("line 3: …"), unavailable (a construct that is not supported, named).
  static Result<JinjaTemplate> parse(std::string_view source);

  /// `variables` is an object. `tracked` names the list in it whose items are followed. `now` is
  /// what strftime_now says. Errors: malformed (a template's own raise_exception, or an operation
  /// that the values do not have), unavailable (a filter, test or method that is not supported; a
  /// template that takes too many steps).
  [[nodiscard]] Result<JinjaOutput> render(const Json& variables, std::string_view tracked = {},
                                           const std::tm* now = nullptr) const;

  /// Does it have {% generation %}?
  [[nodiscard]] bool marks_generation() const;

 private:
  struct Program;
  std::shared_ptr<const Program> program_;
};

}  // namespace rigwise::engine
