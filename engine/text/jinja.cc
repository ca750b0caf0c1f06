#include "engine/text/jinja.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <unordered_map>

#include "base/text.h"
#include "engine/text/jinja_program.h"
#include "engine/text/unicode.h"

namespace rigwise::engine {

using namespace jinja;

namespace {

constexpr std::size_t kMostSourceBytes = std::size_t{1} << 20;
constexpr std::size_t kMostTextBytes = std::size_t{64} << 20;  // of one value, and of the output
constexpr std::int64_t kMostSteps = 10'000'000, kMostRange = 100'000;
constexpr int kMostCalls = 64;
constexpr std::size_t kMostMembers = 4000;

using Kind = Value::Kind;
using Scope = std::map<std::string, Value, std::less<>>;

Error in_line(Error error, int line) {
  if (!error.message.starts_with("line "))
    error.message = "line " + std::to_string(line) + ": " + error.message;
  return error;
}

class Renderer {
 public:
  Renderer(Scope variables, std::unordered_map<const void*, std::size_t> tracked,
           const std::tm* now)
      : tracked_(std::move(tracked)), now_(now) {
    for (const char* name : {"range", "namespace", "dict", "raise_exception", "strftime_now"}) {
      Value function = Value::undefined(name);
      function.kind = Kind::function;
      globals_[name] = std::move(function);
    }
    scopes_.push_back(std::move(variables));
    outputs_.push_back(&output_.text);
  }

  Renderer(const Renderer&) = delete;
  Renderer& operator=(const Renderer&) = delete;
  ~Renderer() {  // a namespace may hold itself
    for (const auto& space : spaces_) {
      if (const auto dict = space.lock()) dict->clear();
    }
  }

  JinjaOutput run(const Block& block) {
    exec(block);
    return std::move(output_);
  }

 private:
  enum class Flow { on, stop, skip };

  // --- bounds

  void step(std::size_t weight = 1) {
    steps_ += static_cast<std::int64_t>(weight);
    if (steps_ > kMostSteps)
      throw Failure{{Errc::unavailable, "the template takes too many steps on this conversation"}};
  }
  Value made(std::string text) {
    if (text.size() > kMostTextBytes) fail("a text grows above 64 MiB");
    step(text.size() / 16 + 1);
    return Value::string(std::move(text));
  }
  Value made(List list) {
    step(list.size() + 1);
    return Value::items(std::move(list));
  }

  // --- statements

  Flow exec(const Block& block) {
    for (const auto& statement : block) {
      Flow flow = Flow::on;
      try {
        step();
        flow = exec(*statement);
      } catch (Failure& failure) {
        throw Failure{in_line(std::move(failure.error), statement->line)};
      }
      if (flow != Flow::on) return flow;
    }
    return Flow::on;
  }

  Flow exec(const Statement& statement) {
    switch (statement.kind) {
      case Statement::Kind::data:
        write(statement.text);
        return Flow::on;
      case Statement::Kind::print:
        write(text_of(eval(*statement.expressions[0])));
        return Flow::on;
      case Statement::Kind::condition:
        for (std::size_t i = 0; i < statement.expressions.size(); ++i) {
          if (truthy(eval(*statement.expressions[i]))) return exec(statement.blocks[i]);
        }
        if (statement.blocks.size() > statement.expressions.size())
          return exec(statement.blocks.back());
        return Flow::on;
      case Statement::Kind::loop:
        loop(statement);
        return Flow::on;
      case Statement::Kind::set:
        set(statement);
        return Flow::on;
      case Statement::Kind::set_block:
        assign(statement.targets[0], statement.attribute,
               made(captured([&] { return exec(statement.blocks[0]); })));
        return Flow::on;
      case Statement::Kind::macro: {
        Value value;
        value.kind = Kind::macro;
        value.macro = static_cast<const MacroStatement*>(&statement);
        scopes_.back()[statement.text] = std::move(value);
        return Flow::on;
      }
      case Statement::Kind::generation:
        return generation(statement);
      case Statement::Kind::stop:
        return Flow::stop;
      case Statement::Kind::skip:
        return Flow::skip;
    }
    return Flow::on;
  }

  void write(std::string_view text) {
    std::string& out = *outputs_.back();
    if (out.size() + text.size() > kMostTextBytes) fail("the text grows above 64 MiB");
    step(text.size() / 16 + 1);
    out += text;
  }
  template <class Body>
  std::string captured(Body body) {
    std::string out;
    outputs_.push_back(&out);
    body();
    outputs_.pop_back();
    return out;
  }
  [[nodiscard]] bool at_root() const { return outputs_.size() == 1; }

  Flow generation(const Statement& statement) {
    const std::size_t begin = output_.text.size();
    const Flow flow = exec(statement.blocks[0]);
    if (!at_root())
      output_.generation_lost = true;
    else if (output_.text.size() > begin)
      output_.generations.push_back({begin, output_.text.size(), 0});
    return flow;
  }

  void bind(const std::vector<std::string>& targets, const Value& value) {
    if (targets.size() == 1) {
      scopes_.back()[targets[0]] = value;
      return;
    }
    const List parts = iterate(value);
    if (parts.size() != targets.size())
      fail("cannot take a value apart into " + std::to_string(targets.size()) + " names");
    for (std::size_t i = 0; i < parts.size(); ++i) scopes_.back()[targets[i]] = parts[i];
  }

  /// The tracked item that a turn of a loop is about: its variable, or the one item that was put
  /// into a variable during the turn (loops over places: "set message = messages[i]").
  [[nodiscard]] std::optional<std::size_t> tracked_item(const Value& variable) const {
    const auto place = [&](const Value& value) {
      const auto found = value.dict ? tracked_.find(value.dict.get()) : tracked_.end();
      return found != tracked_.end() ? std::optional(found->second) : std::nullopt;
    };
    if (const auto own = place(variable)) return own;
    if (!variable.is(Kind::integer)) return std::nullopt;
    std::optional<std::size_t> out;
    for (const auto& [name, value] : scopes_.back()) {
      const auto other = place(value);
      if (out && other && *out != *other) return std::nullopt;
      if (other) out = other;
    }
    return out;
  }

  void loop(const Statement& statement) {
    List items = iterate(eval(*statement.expressions[0]));
    step(items.size());
    if (statement.expressions[1]) {
      List kept;
      for (auto& item : items) {
        scopes_.emplace_back();
        bind(statement.targets, item);
        if (truthy(eval(*statement.expressions[1]))) kept.push_back(item);
        scopes_.pop_back();
      }
      items = std::move(kept);
    }
    if (items.empty()) {
      if (statement.blocks.size() > 1) exec(statement.blocks[1]);
      return;
    }
    const auto count = static_cast<std::int64_t>(items.size());
    for (std::int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      scopes_.emplace_back();
      bind(statement.targets, items[at]);
      scopes_.back()["loop"] = Value::mapping(
          {{"index0", Value::number(i)},
           {"index", Value::number(i + 1)},
           {"first", Value::boolean(i == 0)},
           {"last", Value::boolean(i + 1 == count)},
           {"length", Value::number(count)},
           {"revindex", Value::number(count - i)},
           {"revindex0", Value::number(count - i - 1)},
           {"previtem", i > 0 ? items[at - 1] : Value::undefined("previtem")},
           {"nextitem", i + 1 < count ? items[at + 1] : Value::undefined("nextitem")}});
      step(10);
      const std::size_t begin = output_.text.size();
      const Flow flow = exec(statement.blocks[0]);
      if (at_root() && output_.text.size() > begin) {
        if (const auto item = tracked_item(items[at]))
          output_.regions.push_back({begin, output_.text.size(), *item});
      }
      scopes_.pop_back();
      if (flow == Flow::stop) break;
    }
  }

  void set(const Statement& statement) {
    Value value = eval(*statement.expressions[0]);
    if (statement.targets.size() == 1)
      assign(statement.targets[0], statement.attribute, std::move(value));
    else
      bind(statement.targets, value);
  }
  void assign(const std::string& name, const std::string& attribute, Value value) {
    if (attribute.empty()) {
      scopes_.back()[name] = std::move(value);
      return;
    }
    const Value space = look_up(name);
    if (!space.is(Kind::space)) fail("'" + name + "' is not a namespace");
    put(*space.dict, attribute, std::move(value));
  }

  [[nodiscard]] Value look_up(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    }
    if (const auto found = globals_.find(name); found != globals_.end()) return found->second;
    return Value::undefined(name);
  }

  // --- expressions

  Value eval(const Expression& expression) {
    step();
    const auto& children = expression.children;
    switch (expression.kind) {
      case Expression::Kind::constant:
        return expression.value;
      case Expression::Kind::name:
        return look_up(expression.text);
      case Expression::Kind::list: {
        List out;
        for (const auto& child : children) out.push_back(eval(*child));
        Value list = made(std::move(out));
        list.is_tuple = !expression.text.empty();
        return list;
      }
      case Expression::Kind::dict:
        return dict(expression);
      case Expression::Kind::attribute:
        return attribute(eval(*children[0]), expression.text);
      case Expression::Kind::item:
        return item(eval(*children[0]), eval(*children[1]));
      case Expression::Kind::slice:
        return slice(expression);
      case Expression::Kind::call:
        return call(expression);
      case Expression::Kind::filter: {
        const Value object = eval(*children[0]);
        charge(object);
        return checked(apply_filter(expression.text, object, arguments(expression)));
      }
      case Expression::Kind::test:
        return Value::boolean(
            apply_test(expression.text, eval(*children[0]), arguments(expression)));
      case Expression::Kind::negate:
        return Value::boolean(!truthy(eval(*children[0])));
      case Expression::Kind::minus:
      case Expression::Kind::plus:
        return signed_number(eval(*children[0]), expression.kind == Expression::Kind::minus);
      case Expression::Kind::binary:
        return binary(expression.text, eval(*children[0]), eval(*children[1]));
      case Expression::Kind::comparison:
        return Value::boolean(compared(expression.text, eval(*children[0]), eval(*children[1])));
      case Expression::Kind::both: {
        Value left = eval(*children[0]);
        return truthy(left) ? eval(*children[1]) : left;
      }
      case Expression::Kind::either: {
        Value left = eval(*children[0]);
        return truthy(left) ? left : eval(*children[1]);
      }
      case Expression::Kind::conditional:
        if (truthy(eval(*children[1]))) return eval(*children[0]);
        return children[2] ? eval(*children[2]) : Value::undefined("the other side of if");
    }
    return Value::none();
  }

  /// Work that a filter or method does on its object.
  void charge(const Value& value) {
    if (value.text) step(value.text->size() / 16 + 1);
    if (value.list) step(value.list->size());
  }
  Value checked(Value value) {
    if (value.is(Kind::text) && value.text->size() > kMostTextBytes)
      fail("a text grows above 64 MiB");
    charge(value);
    return value;
  }

  /// As a dict's item is set: in its old place, or at the end.
  static void put(Dict& members, const std::string& key, Value value) {
    for (auto& [name, old] : members) {
      if (name != key) continue;
      old = std::move(value);
      return;
    }
    if (members.size() >= kMostMembers) fail("a dict or namespace has more than 4,000 members");
    members.emplace_back(key, std::move(value));
  }

  Value dict(const Expression& expression) {
    Dict out;
    for (std::size_t i = 0; i + 1 < expression.children.size(); i += 2) {
      const Value key = eval(*expression.children[i]);
      if (!key.is(Kind::text)) fail_unsupported("a dict's key that is not a text");
      Value value = eval(*expression.children[i + 1]);
      put(out, *key.text, std::move(value));
    }
    return Value::mapping(std::move(out));
  }

  Value attribute(const Value& object, const std::string& name) {
    if (object.is(Kind::undefined)) fail("'" + clean_text(*object.text, 60) + "' is undefined");
    if (const Value* member = object.member(name)) return *member;
    return Value::undefined(name);
  }

  Value item(const Value& object, const Value& key) {
    if (object.is(Kind::undefined)) fail("'" + clean_text(*object.text, 60) + "' is undefined");
    if (key.is(Kind::text)) {
      const Value* member = object.member(key.str());
      return member != nullptr ? *member : Value::undefined(*key.text);
    }
    if (!key.is(Kind::integer) && !key.is(Kind::boolean)) return Value::undefined("item");
    std::int64_t at = key.integer;
    if (object.is(Kind::list)) {
      const auto size = static_cast<std::int64_t>(object.list->size());
      if (at < 0) at += size;
      if (at < 0 || at >= size) return Value::undefined("item " + std::to_string(key.integer));
      return (*object.list)[static_cast<std::size_t>(at)];
    }
    if (object.is(Kind::text)) {
      const std::int64_t size = length(object);
      step(object.text->size() / 16 + 1);
      if (at < 0) at += size;
      if (at < 0 || at >= size) return Value::undefined("item " + std::to_string(key.integer));
      return made(characters(object.str(), at, at + 1));
    }
    return Value::undefined("item " + std::to_string(at));
  }

  static std::string characters(std::string_view text, std::int64_t begin, std::int64_t end) {
    std::size_t at = 0;
    for (std::int64_t i = 0; i < begin && at < text.size(); ++i) next_char(text, at);
    const std::size_t from = at;
    for (std::int64_t i = begin; i < end && at < text.size(); ++i) next_char(text, at);
    return std::string(text.substr(from, at - from));
  }

  Value slice(const Expression& expression) {
    const Value object = eval(*expression.children[0]);
    charge(object);
    std::array<std::optional<std::int64_t>, 3> parts;
    for (std::size_t i = 0; i < 3; ++i) {
      if (!expression.children[i + 1]) continue;
      const Value part = eval(*expression.children[i + 1]);
      if (part.is(Kind::none)) continue;
      if (!part.is(Kind::integer)) fail("a slice needs whole numbers");
      parts[i] = std::clamp(part.integer, -(std::int64_t{1} << 40), std::int64_t{1} << 40);
    }
    const std::int64_t by = parts[2].value_or(1), size = length(object);
    if (by == 0) fail("a slice's step cannot be zero");
    const auto place = [&](std::optional<std::int64_t> part, std::int64_t fallback) {
      if (!part) return fallback;
      const std::int64_t at = *part < 0 ? *part + size : *part;
      return by > 0 ? std::clamp(at, std::int64_t{0}, size)
                    : std::clamp(at, std::int64_t{-1}, size - 1);
    };
    const std::int64_t begin = place(parts[0], by > 0 ? 0 : size - 1);
    const std::int64_t end = place(parts[1], by > 0 ? size : -1);
    if (object.is(Kind::text) && by == 1)
      return made(characters(object.str(), begin, std::max(begin, end)));
    const List items = iterate(object);
    List out;
    for (std::int64_t at = begin; by > 0 ? at < end : at > end; at += by)
      out.push_back(items[static_cast<std::size_t>(at)]);
    if (!object.is(Kind::text)) return made(std::move(out));
    std::string text;
    for (const auto& character : out) text += character.str();
    return made(std::move(text));
  }

  Arguments arguments(const Expression& expression) {
    Arguments out;
    for (std::size_t i = 1; i < expression.children.size(); ++i)
      out.positional.push_back(eval(*expression.children[i]));
    for (const auto& [name, value] : expression.named) out.named.emplace_back(name, eval(*value));
    return out;
  }

  Value call(const Expression& expression) {
    const Expression& callee = *expression.children[0];
    if (callee.kind == Expression::Kind::attribute) {
      const Value object = eval(*callee.children[0]);
      if (object.is(Kind::undefined)) fail("'" + clean_text(*object.text, 60) + "' is undefined");
      const Value* member = object.member(callee.text);
      if (member != nullptr && member->is(Kind::macro))
        return call_macro(*member->macro, arguments(expression));
      charge(object);
      return checked(call_method(object, callee.text, arguments(expression)));
    }
    const Value function = eval(callee);
    if (function.is(Kind::macro)) return call_macro(*function.macro, arguments(expression));
    if (function.is(Kind::function)) return call_global(*function.text, arguments(expression));
    if (function.is(Kind::undefined)) fail("'" + clean_text(*function.text, 60) + "' is undefined");
    fail("a value of type " + std::string(function.type_name()) + " is called");
  }

  Value call_macro(const MacroStatement& macro, const Arguments& given) {
    if (++calls_ > kMostCalls) fail("macros call each other more than 64 deep");
    if (given.positional.size() > macro.parameters.size())
      fail("macro '" + macro.text + "' takes " + std::to_string(macro.parameters.size()) +
           " arguments");
    Scope scope;
    for (const auto& [name, value] : given.named) {
      if (std::none_of(macro.parameters.begin(), macro.parameters.end(),
                       [&, key = name](const auto& p) { return p.first == key; }))
        fail("macro '" + macro.text + "' has no argument '" + name + "'");
    }
    // The body sees the template's own variables, not the caller's
    std::vector<Scope> callers(std::make_move_iterator(scopes_.begin() + 1),
                               std::make_move_iterator(scopes_.end()));
    scopes_.resize(1);
    scopes_.emplace_back();
    for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
      const auto& [name, fallback] = macro.parameters[i];
      const Value* value = given.find(i, name);
      scopes_.back()[name] = value != nullptr ? *value
                             : fallback       ? eval(*fallback)
                                              : Value::undefined(name);
    }
    std::string out = captured([&] { exec(macro.blocks[0]); });
    scopes_.resize(1);
    std::move(callers.begin(), callers.end(), std::back_inserter(scopes_));
    --calls_;
    return made(std::move(out));
  }

  Value call_global(const std::string& name, const Arguments& given) {
    if (name == "raise_exception") {
      const Value* message = given.find(0, "message");
      fail("the template refuses this conversation: " +
           clean_text(message != nullptr ? text_of(*message) : "", 400));
    }
    if (name == "range") return range(given);
    if (name == "strftime_now") {
      const Value* format = given.find(0, "format");
      if (format == nullptr || !format->is(Kind::text)) fail("strftime_now needs a format");
      if (now_ == nullptr) fail("strftime_now: there is no clock");
      char buffer[512];
      const auto size = std::strftime(buffer, sizeof buffer, format->text->c_str(), now_);
      return made(std::string(buffer, size));
    }
    // namespace and dict: members by name, or those of one dict
    Dict members;
    for (const auto& value : given.positional) {
      if (!value.is(Kind::dict) || given.positional.size() > 1) fail(name + "() takes one dict");
      members = *value.dict;
    }
    for (const auto& [key, value] : given.named) put(members, key, value);
    Value out = Value::mapping(std::move(members));
    if (name == "namespace") {
      out.kind = Kind::space;
      step(100);
      spaces_.push_back(out.dict);
    }
    return out;
  }

  Value range(const Arguments& given) {
    std::array<std::int64_t, 3> parts = {0, 0, 1};
    const std::size_t count = given.positional.size();
    if (count < 1 || count > 3 || !given.named.empty()) fail("range takes one to three numbers");
    for (std::size_t i = 0; i < count; ++i) {
      const Value& part = given.positional[i];
      if (!part.is(Kind::integer)) fail("range needs whole numbers");
      parts[count == 1 ? 1 : i] = part.integer;
    }
    if (parts[2] == 0) fail("range's step cannot be zero");
    List out;
    for (std::int64_t at = parts[0]; parts[2] > 0 ? at < parts[1] : at > parts[1];) {
      if (static_cast<std::int64_t>(out.size()) >= kMostRange)
        fail("range has more than 100,000 numbers");
      out.push_back(Value::number(at));
      if (__builtin_add_overflow(at, parts[2], &at)) break;
    }
    return made(std::move(out));
  }

  // --- arithmetic

  Value signed_number(const Value& value, bool negative) {
    if (!value.is_number()) fail("a sign before a value of type " + std::string(value.type_name()));
    if (value.is(Kind::real)) return Value::number(negative ? -value.real : value.real);
    if (value.integer == INT64_MIN && negative) fail("a number grows out of range");
    return Value::number(negative ? -value.integer : value.integer);
  }

  static bool compared(const std::string& op, const Value& left, const Value& right) {
    if (op == "==") return equal(left, right);
    if (op == "!=") return !equal(left, right);
    if (op == "in") return contains(right, left);
    if (op == "not in") return !contains(right, left);
    const int order = compare(left, right);
    return op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
  }

  Value binary(const std::string& op, const Value& left, const Value& right) {
    if (op == "~") return made(text_of(left) + text_of(right));
    for (const Value* side : {&left, &right}) {
      if (side->is(Kind::undefined)) fail("'" + clean_text(*side->text, 60) + "' is undefined");
    }
    if (op == "+" && left.is(Kind::text) && right.is(Kind::text))
      return made(*left.text + *right.text);
    if (op == "+" && left.is(Kind::list) && right.is(Kind::list)) {
      List out = *left.list;
      out.insert(out.end(), right.list->begin(), right.list->end());
      return made(std::move(out));
    }
    if (op == "*" && (left.is(Kind::text) || right.is(Kind::text))) {
      const Value& text = left.is(Kind::text) ? left : right;
      const Value& count = left.is(Kind::text) ? right : left;
      if (count.is(Kind::integer)) return repeated(*text.text, count.integer);
    }
    if (op == "%" && left.is(Kind::text)) fail_unsupported("'%' on a text");
    if (!left.is_number() || !right.is_number())
      fail("'" + op + "' of values of type " + std::string(left.type_name()) + " and " +
           std::string(right.type_name()));
    if (left.is(Kind::real) || right.is(Kind::real) || op == "/")
      return real_binary(op, left.as_real(), right.as_real());
    return whole_binary(op, left.integer, right.integer);
  }
  Value repeated(const std::string& text, std::int64_t count) {
    if (count <= 0 || text.empty()) return Value::string("");
    if (count > static_cast<std::int64_t>(kMostTextBytes / text.size()))
      fail("a text grows above 64 MiB");
    std::string out;
    for (std::int64_t i = 0; i < count; ++i) out += text;
    return made(std::move(out));
  }
  static Value real_binary(const std::string& op, double left, double right) {
    if (op == "+") return Value::number(left + right);
    if (op == "-") return Value::number(left - right);
    if (op == "*") return Value::number(left * right);
    if (op == "**") return Value::number(std::pow(left, right));
    if (right == 0) fail("division by zero");
    if (op == "/") return Value::number(left / right);
    if (op == "//") return Value::number(std::floor(left / right));
    return Value::number(left - right * std::floor(left / right));
  }
  static Value whole_binary(const std::string& op, std::int64_t left, std::int64_t right) {
    std::int64_t out = 0;
    bool over = false;
    if (op == "+") {
      over = __builtin_add_overflow(left, right, &out);
    } else if (op == "-") {
      over = __builtin_sub_overflow(left, right, &out);
    } else if (op == "*") {
      over = __builtin_mul_overflow(left, right, &out);
    } else if (op == "**") {
      if (right < 0)
        return Value::number(std::pow(static_cast<double>(left), static_cast<double>(right)));
      out = 1;
      for (std::int64_t i = 0; i < right && !over; ++i) {
        over = __builtin_mul_overflow(out, left, &out);
        if (out == 0 || out == 1) break;  // 0 and 1 stay as they are
        if (i > 128) over = true;         // -1, to a huge power
      }
    } else {
      if (right == 0) fail("division by zero");
      if (left == INT64_MIN && right == -1) fail("a number grows out of range");
      std::int64_t quotient = left / right, rest = left % right;
      if (rest != 0 && (rest < 0) != (right < 0)) --quotient, rest += right;
      out = op == "//" ? quotient : rest;
    }
    if (over) fail("a number grows out of range");
    return Value::number(out);
  }

  Scope globals_;
  std::vector<Scope> scopes_;
  std::vector<std::weak_ptr<Dict>> spaces_;
  std::unordered_map<const void*, std::size_t> tracked_;
  const std::tm* now_;
  JinjaOutput output_;
  std::vector<std::string*> outputs_;
  std::int64_t steps_ = 0;
  int calls_ = 0;
};

}  // namespace

struct JinjaTemplate::Program {
  Parsed parsed;
};

Result<JinjaTemplate> JinjaTemplate::parse(std::string_view source) {
  if (source.size() > kMostSourceBytes)
    return Error{Errc::malformed, "the template is longer than 1 MiB"};
  try {
    JinjaTemplate out;
    out.program_ = std::make_shared<Program>(Program{parse_program(tokenize(
        first_invalid_utf8(source) == std::string_view::npos ? std::string(source)
                                                             : replace_invalid_utf8(source)))});
    return out;
  } catch (Failure& failure) {
    return std::move(failure.error);
  }
}

Result<JinjaOutput> JinjaTemplate::render(const Json& variables, std::string_view tracked,
                                          const std::tm* now) const {
  try {
    Scope scope;
    std::unordered_map<const void*, std::size_t> places;
    for (const auto& [key, json] : variables.items()) {
      Value value = Value::from_json(json);
      if (key == tracked && value.is(Kind::list)) {
        for (std::size_t i = 0; i < value.list->size(); ++i) {
          if (const auto* dict = (*value.list)[i].dict.get()) places.emplace(dict, i);
        }
      }
      scope[key] = std::move(value);
    }
    return Renderer(std::move(scope), std::move(places), now).run(program_->parsed.block);
  } catch (Failure& failure) {
    return std::move(failure.error);
  }
}

bool JinjaTemplate::marks_generation() const {
  return program_->parsed.marks_generation;
}

}  // namespace rigwise::engine
