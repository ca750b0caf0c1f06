// A parsed template. Private to engine/text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/jinja_value.h"

namespace rigwise::engine::jinja {

struct Token {
  enum class Kind {
    data,
    variable_begin,
    variable_end,
    block_begin,
    block_end,
    name,
    string,
    integer,
    real,
    sign,
    end
  };
  Kind kind = Kind::end;
  std::string text = {};
  int line = 0;
};

/// Cuts the template into tokens and applies the rules of white space. Throws Failure.
std::vector<Token> tokenize(std::string_view source);

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    constant,   // value
    name,       // text
    list,       // children
    dict,       // children: key, value, key, value …
    attribute,  // children[0] . text
    item,       // children[0] [ children[1] ]
    slice,      // children[0] [ children[1] : children[2] : children[3] ], each may be null
    call,       // children[0] ( children[1…] , named )
    filter,     // children[0] | text ( children[1…] , named )
    test,       // children[0] is text ( children[1…] )
    negate,     // not children[0]
    minus,      // - children[0]
    plus,
    binary,       // children[0] text children[1]: + - * / // % ** ~
    comparison,   // children[0] text children[1]: == != < <= > >= in "not in"
    both,         // and
    either,       // or
    conditional,  // children[0] if children[1] else children[2], which may be null
  };
  Kind kind = Kind::constant;
  int line = 0;
  int depth = 0;
  std::string text = {};
  Value value = {};
  std::vector<ExpressionPtr> children = {};
  std::vector<std::pair<std::string, ExpressionPtr>> named = {};
};

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

struct Statement {
  enum class Kind { data, print, condition, loop, set, set_block, macro, generation, stop, skip };
  Kind kind = Kind::data;
  int line = 0;
  std::string text = {};                  // data; the name that set and macro define
  std::vector<std::string> targets = {};  // loop, set: names
  std::string attribute = {};             // set: of the namespace targets[0]
  std::vector<ExpressionPtr> expressions =
      {};                          // print, set; condition: one a branch; loop: list, filter
  std::vector<Block> blocks = {};  // condition: one a branch, then else; loop: body, else
  virtual ~Statement() = default;
};

struct MacroStatement : Statement {
  std::vector<std::pair<std::string, ExpressionPtr>> parameters = {};  // with default, or null
};

struct Parsed {
  Block block = {};
  bool marks_generation = false;
};
/// Throws Failure.
Parsed parse_program(const std::vector<Token>& tokens);

}  // namespace rigwise::engine::jinja
