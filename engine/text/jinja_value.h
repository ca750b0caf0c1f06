// Values of the template interpreter, and what Python would do with them. Private to engine/text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "rigwise/result.h"

namespace rigwise::engine::jinja {

/// Thrown inside the interpreter; JinjaTemplate turns it into an Error.
struct Failure {
  Error error;
};
[[noreturn]] void fail(std::string message);                  // malformed
[[noreturn]] void fail_unsupported(const std::string& what);  // unavailable

struct MacroStatement;
struct Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>;  // in the order of insertion

struct Value {
  enum class Kind : std::uint8_t {
    undefined,
    none,
    boolean,
    integer,
    real,
    text,
    list,
    dict,
    space,  // namespace()
    macro,
    function,  // a global: range, raise_exception …
  };
  Kind kind = Kind::undefined;
  bool is_tuple = false;     // a list that Python would print in round brackets
  std::int64_t integer = 0;  // boolean too
  double real = 0;
  std::shared_ptr<const std::string> text = {};  // text; a function's or an undefined's name
  std::shared_ptr<const List> list = {};
  std::shared_ptr<Dict> dict = {};  // dict and space; only a space is ever changed
  const MacroStatement* macro = nullptr;

  static Value undefined(std::string name);
  static Value none();
  static Value boolean(bool value);
  static Value number(std::int64_t value);
  static Value number(double value);
  static Value string(std::string value);
  static Value items(List value);
  static Value tuple(List value);
  static Value mapping(Dict value);
  static Value from_json(const Json& json);

  [[nodiscard]] bool is(Kind other) const { return kind == other; }
  [[nodiscard]] bool is_number() const {
    return kind == Kind::integer || kind == Kind::real || kind == Kind::boolean;
  }
  [[nodiscard]] double as_real() const {
    return kind == Kind::real ? real : static_cast<double>(integer);
  }
  [[nodiscard]] std::string_view str() const { return *text; }
  [[nodiscard]] const Value* member(std::string_view name) const;  // of a dict or space
  [[nodiscard]] std::string_view type_name() const;                // "str", as Python names it
};

bool truthy(const Value& value);
bool equal(const Value& a, const Value& b);
/// Below zero, zero, above. Fails where Python does (str with int).
int compare(const Value& a, const Value& b);
/// `item in container`.
bool contains(const Value& container, const Value& item);
/// str(): what {{ }} prints.
std::string text_of(const Value& value);
std::string repr(const Value& value);
std::string python_float(double value);
/// json.dumps(ensure_ascii=False). `indent` < 0: on one line.
std::string to_json(const Value& value, int indent, std::string_view item_separator,
                    std::string_view key_separator, bool sort_keys);
/// list(value): items of a list, characters of a text, keys of a dict, nothing of undefined.
List iterate(const Value& value);
std::int64_t length(const Value& value);  // characters, items

// --- jinja_builtins.cc

struct Arguments {
  std::vector<Value> positional = {};
  std::vector<std::pair<std::string, Value>> named = {};

  /// The argument at that place or of that name; nullptr where it was not given.
  [[nodiscard]] const Value* find(std::size_t place, std::string_view name) const;
};

/// Calls another filter or test by name: what map, select and their like need.
Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments);
bool apply_test(const std::string& name, const Value& value, const Arguments& arguments);
Value call_method(const Value& object, const std::string& name, const Arguments& arguments);
bool has_filter(std::string_view name);
bool has_test(std::string_view name);

}  // namespace rigwise::engine::jinja
