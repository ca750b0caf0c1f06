// Filters, tests and methods: Jinja's and Python's.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>

#include "base/text.h"
#include "engine/text/jinja_value.h"
#include "engine/text/unicode.h"

namespace rigwise::engine::jinja {

namespace {

using Kind = Value::Kind;
constexpr std::size_t kMostParts = 1 << 20;

// --- arguments

std::string text_argument(const Arguments& given, std::size_t place, std::string_view name,
                          std::string_view fallback) {
  const Value* value = given.find(place, name);
  if (value == nullptr || value->is(Kind::none)) return std::string(fallback);
  if (!value->is(Kind::text))
    fail("argument '" + std::string(name) + "' must be a text, not " +
         std::string(value->type_name()));
  return *value->text;
}
std::int64_t number_argument(const Arguments& given, std::size_t place, std::string_view name,
                             std::int64_t fallback) {
  const Value* value = given.find(place, name);
  if (value == nullptr || value->is(Kind::none)) return fallback;
  if (!value->is(Kind::integer) && !value->is(Kind::boolean))
    fail("argument '" + std::string(name) + "' must be a whole number, not " +
         std::string(value->type_name()));
  return value->integer;
}
bool flag_argument(const Arguments& given, std::size_t place, std::string_view name,
                   bool fallback) {
  const Value* value = given.find(place, name);
  return value == nullptr ? fallback : truthy(*value);
}
const Value& need_argument(const Arguments& given, std::size_t place, std::string_view name) {
  const Value* value = given.find(place, name);
  if (value == nullptr) fail("argument '" + std::string(name) + "' is missing");
  return *value;
}

// --- texts

bool in_set(std::string_view text, std::size_t begin, std::size_t end, std::string_view set) {
  if (set.empty()) {
    std::size_t at = begin;
    const char32_t c = next_char(text, at);
    return is_white(c) || (c >= 0x1C && c <= 0x1F);  // Python's str.isspace
  }
  return set.find(text.substr(begin, end - begin)) != std::string_view::npos;
}

/// Characters of `set` (white space where it is empty) taken from the ends.
std::string stripped(std::string_view text, std::string_view set, bool left, bool right) {
  while (left && !text.empty()) {
    std::size_t end = 0;
    next_char(text, end);
    if (!in_set(text, 0, end, set)) break;
    text.remove_prefix(end);
  }
  while (right && !text.empty()) {
    const std::size_t begin = char_before(text, text.size());
    if (!in_set(text, begin, text.size(), set)) break;
    text = text.substr(0, begin);
  }
  return std::string(text);
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to,
                     std::int64_t count) {
  std::string out;
  std::size_t at = 0;
  const auto grow = [&](std::string_view part) {
    if (out.size() + part.size() > (std::size_t{64} << 20)) fail("a text grows above 64 MiB");
    out += part;
  };
  if (from.empty()) {  // Python puts it between all characters
    while (count != 0) {
      grow(to);
      if (at >= text.size()) return out;
      const std::size_t begin = at;
      next_char(text, at);
      grow(text.substr(begin, at - begin));
      --count;
    }
    grow(text.substr(at));
    return out;
  }
  for (auto found = text.find(from); found != std::string_view::npos && count != 0;
       found = text.find(from, at), --count) {
    grow(text.substr(at, found - at));
    grow(to);
    at = found + from.size();
  }
  grow(text.substr(at));
  return out;
}

List split_white(std::string_view text, std::int64_t most) {
  List out;
  std::size_t at = 0;
  const auto white_at = [&](std::size_t place) {
    std::size_t behind = place;
    return is_white(next_char(text, behind)) ? behind : place;
  };
  while (true) {
    while (at < text.size() && white_at(at) != at) at = white_at(at);
    if (at >= text.size()) return out;
    if (most >= 0 && static_cast<std::int64_t>(out.size()) >= most) {
      out.push_back(Value::string(stripped(text.substr(at), "", false, true)));
      return out;
    }
    const std::size_t begin = at;
    while (at < text.size() && white_at(at) == at) next_char(text, at);
    out.push_back(Value::string(std::string(text.substr(begin, at - begin))));
  }
}

List split(std::string_view text, const Arguments& given, bool from_right) {
  const std::int64_t most = number_argument(given, 1, "maxsplit", -1);
  const Value* separator = given.find(0, "sep");
  if (separator == nullptr || separator->is(Kind::none)) {
    if (from_right && most >= 0) fail_unsupported("rsplit by white space with maxsplit");
    return split_white(text, most);
  }
  const std::string sep = text_argument(given, 0, "sep", "");
  if (sep.empty()) fail("split by an empty text");
  List out;
  const auto full = [&] {
    if (out.size() >= kMostParts) fail("a text is split into more than 1,048,576 parts");
    return most >= 0 && static_cast<std::int64_t>(out.size()) >= most;
  };
  if (from_right) {
    for (auto at = text.rfind(sep); !full() && at != std::string_view::npos; at = text.rfind(sep)) {
      out.push_back(Value::string(std::string(text.substr(at + sep.size()))));
      text = text.substr(0, at);
    }
    out.push_back(Value::string(std::string(text)));
    std::reverse(out.begin(), out.end());
    return out;
  }
  for (auto at = text.find(sep); !full() && at != std::string_view::npos; at = text.find(sep)) {
    out.push_back(Value::string(std::string(text.substr(0, at))));
    text.remove_prefix(at + sep.size());
  }
  out.push_back(Value::string(std::string(text)));
  return out;
}

List split_lines(std::string_view text, bool keep_ends) {
  List out;
  while (!text.empty()) {
    const auto end = text.find_first_of("\n\r\v\f");
    if (end == std::string_view::npos) {
      out.push_back(Value::string(std::string(text)));
      break;
    }
    const std::size_t behind = end + (text.substr(end).starts_with("\r\n") ? 2 : 1);
    out.push_back(Value::string(std::string(text.substr(0, keep_ends ? behind : end))));
    text.remove_prefix(behind);
  }
  return out;
}

/// Changes the letters of ASCII, and the others as far as one character becomes one.
std::string upper_case(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) append_utf8(out, upper_char(next_char(text, at)));
  return out;
}

enum class Words { one, method, filter };  // "it's": It's, It'S, It's
std::string capitalized(std::string_view text, Words words) {
  std::string out;
  bool starts = true;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t c = next_char(text, at);
    if (starts)
      append_utf8(out, upper_char(c));
    else
      out += lower_case(text.substr(begin, at - begin));
    if (words == Words::method)
      starts = !(is_word(c) && !is_numeric(c) && c != '_');
    else
      starts = words == Words::filter &&
               (is_white(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<');
  }
  return out;
}

bool affix(const Value& given, const std::function<bool(std::string_view)>& has) {
  if (given.is(Kind::text)) return has(given.str());
  if (!given.is(Kind::list)) fail("startswith and endswith need a text");
  return std::any_of(given.list->begin(), given.list->end(),
                     [&](const Value& each) { return each.is(Kind::text) && has(each.str()); });
}

Value text_method(std::string_view text, const std::string& name, const Arguments& given) {
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const Value* set = given.find(0, "chars");
    if (set != nullptr && set->is(Kind::text) && set->text->empty())
      return Value::string(std::string(text));
    return Value::string(
        stripped(text, text_argument(given, 0, "chars", ""), name != "rstrip", name != "lstrip"));
  }
  if (name == "split" || name == "rsplit")
    return Value::items(split(text, given, name == "rsplit"));
  if (name == "splitlines")
    return Value::items(split_lines(text, flag_argument(given, 0, "keepends", false)));
  if (name == "startswith")
    return Value::boolean(affix(need_argument(given, 0, "prefix"),
                                [&](std::string_view part) { return text.starts_with(part); }));
  if (name == "endswith")
    return Value::boolean(affix(need_argument(given, 0, "suffix"),
                                [&](std::string_view part) { return text.ends_with(part); }));
  if (name == "replace")
    return Value::string(replaced(text, text_argument(given, 0, "old", ""),
                                  text_argument(given, 1, "new", ""),
                                  number_argument(given, 2, "count", -1)));
  if (name == "upper") return Value::string(upper_case(text));
  if (name == "lower") return Value::string(lower_case(text));
  if (name == "title" || name == "capitalize")
    return Value::string(capitalized(text, name == "title" ? Words::method : Words::one));
  if (name == "removeprefix" || name == "removesuffix") {
    const std::string part = text_argument(given, 0, "part", "");
    if (name == "removeprefix" && text.starts_with(part)) text.remove_prefix(part.size());
    if (name == "removesuffix" && text.ends_with(part)) text.remove_suffix(part.size());
    return Value::string(std::string(text));
  }
  if (name == "find" || name == "rfind") {
    const std::string part = text_argument(given, 0, "sub", "");
    const auto at = name == "find" ? text.find(part) : text.rfind(part);
    if (at == std::string_view::npos) return Value::number(std::int64_t{-1});
    return Value::number(length(Value::string(std::string(text.substr(0, at)))));
  }
  if (name == "count") {
    const std::string part = text_argument(given, 0, "sub", "");
    if (part.empty()) fail("count of an empty text");
    std::int64_t count = 0;
    for (auto at = text.find(part); at != std::string_view::npos;
         at = text.find(part, at + part.size()))
      ++count;
    return Value::number(count);
  }
  if (name == "join") {
    std::string out;
    bool first = true;
    for (const auto& item : iterate(need_argument(given, 0, "iterable"))) {
      if (!item.is(Kind::text)) fail("join of something that is not a text");
      if (!first) out += text;
      first = false;
      out += item.str();
    }
    return Value::string(std::move(out));
  }
  if (name == "isdigit" || name == "isspace" || name == "isalpha" || name == "isalnum") {
    bool all = !text.empty();
    for (std::size_t at = 0; all && at < text.size();) {
      const char32_t c = next_char(text, at);
      const bool digit = is_numeric(c), letter = is_word(c) && !digit && c != '_';
      all = name == "isdigit"   ? digit
            : name == "isspace" ? is_white(c)
            : name == "isalpha" ? letter
                                : digit || letter;
    }
    return Value::boolean(all);
  }
  fail_unsupported("the method '" + clean_text(name, 40) + "' of a text");
}

Value pairs_of(const Value& dict) {
  List out;
  for (const auto& [key, item] : *dict.dict)
    out.push_back(Value::tuple({Value::string(key), item}));
  return Value::items(std::move(out));
}

/// `name` may lead through members: "function.name", "0".
Value member_by_path(Value value, std::string_view path) {
  for (const auto part : rigwise::split(path, '.')) {
    if (const auto index = to_integer(part); index && value.is(Kind::list)) {
      const bool there = *index >= 0 && *index < static_cast<std::int64_t>(value.list->size());
      value = there ? Value((*value.list)[static_cast<std::size_t>(*index)])
                    : Value::undefined(std::string(part));
      continue;
    }
    const Value* member = value.member(part);
    value = member != nullptr ? Value(*member) : Value::undefined(std::string(part));
  }
  return value;
}

// --- filters

Arguments rest_of(const Arguments& given, std::size_t from) {
  Arguments out;
  for (std::size_t i = from; i < given.positional.size(); ++i)
    out.positional.push_back(given.positional[i]);
  out.named = given.named;
  return out;
}

Value map_filter(const Value& value, const Arguments& given) {
  List out;
  if (const Value* attribute = given.find(99, "attribute")) {
    const Value* fallback = given.find(99, "default");
    for (const auto& item : iterate(value)) {
      Value member = member_by_path(item, text_of(*attribute));
      if (member.is(Kind::undefined) && fallback != nullptr) member = *fallback;
      out.push_back(std::move(member));
    }
    return Value::items(std::move(out));
  }
  const std::string name = text_argument(given, 0, "filter", "");
  if (!has_filter(name)) fail_unsupported("the filter '" + clean_text(name, 40) + "'");
  for (const auto& item : iterate(value))
    out.push_back(apply_filter(name, item, rest_of(given, 1)));
  return Value::items(std::move(out));
}

/// select, reject, selectattr, rejectattr.
Value choose(const Value& value, const Arguments& given, bool by_attribute, bool wanted) {
  const std::size_t place = by_attribute ? 1 : 0;
  const std::string attribute = by_attribute ? text_argument(given, 0, "attribute", "") : "";
  const bool has_name = given.positional.size() > place;
  const std::string test = has_name ? text_argument(given, place, "test", "") : "";
  if (has_name && !has_test(test)) fail_unsupported("the test '" + clean_text(test, 40) + "'");
  List out;
  for (const auto& item : iterate(value)) {
    const Value subject = by_attribute ? member_by_path(item, attribute) : item;
    const bool holds =
        has_name ? apply_test(test, subject, rest_of(given, place + 1)) : truthy(subject);
    if (holds == wanted) out.push_back(item);
  }
  return Value::items(std::move(out));
}

/// Texts in any case are equal to sort, unique and dictsort, unless they are told otherwise.
Value folded(const Value& value, bool case_sensitive) {
  return value.is(Kind::text) && !case_sensitive ? Value::string(lower_case(value.str())) : value;
}

Value sort_filter(const Value& value, const Arguments& given) {
  List out = iterate(value);
  const bool reverse = flag_argument(given, 0, "reverse", false);
  const bool sensitive = flag_argument(given, 1, "case_sensitive", false);
  const std::string attribute = text_argument(given, 2, "attribute", "");
  std::vector<std::pair<Value, Value>> keyed;
  for (auto& item : out)
    keyed.emplace_back(
        folded(attribute.empty() ? item : member_by_path(item, attribute), sensitive), item);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? compare(b.first, a.first) < 0 : compare(a.first, b.first) < 0;
  });
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = keyed[i].second;
  return Value::items(std::move(out));
}

Value unique_filter(const Value& value, const Arguments& given) {
  const bool sensitive = flag_argument(given, 0, "case_sensitive", false);
  List out, seen;
  for (const auto& item : iterate(value)) {
    const Value key = folded(item, sensitive);
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& s) { return equal(s, key); }))
      continue;
    if (seen.size() >= 2'000) fail("unique of more than 2,000 values");
    seen.push_back(key);
    out.push_back(item);
  }
  return Value::items(std::move(out));
}

std::string indent_filter(const Value& value, const Arguments& given) {
  const Value* width = given.find(0, "width");
  std::string by = width != nullptr && width->is(Kind::text)
                       ? *width->text
                       : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(
                                         number_argument(given, 0, "width", 4), 0, 1000)),
                                     ' ');
  const bool first = flag_argument(given, 1, "first", false);
  const bool blank = flag_argument(given, 2, "blank", false);
  std::string out;
  const std::string text = text_of(value);
  std::size_t line = 0;
  for (const auto part : rigwise::split(text, '\n')) {
    if (line > 0) out += '\n';
    if ((line > 0 || first) && (blank || !part.empty())) out += by;
    out += part;
    ++line;
  }
  return out;
}

std::string join_filter(const Value& value, const Arguments& given) {
  const std::string by = text_argument(given, 0, "d", "");
  const std::string attribute = text_argument(given, 1, "attribute", "");
  std::string out;
  bool first = true;
  for (const auto& item : iterate(value)) {
    if (!first) out += by;
    first = false;
    out += text_of(attribute.empty() ? item : member_by_path(item, attribute));
    if (out.size() > (std::size_t{64} << 20)) fail("a text grows above 64 MiB");
  }
  return out;
}

Value int_filter(const Value& value, const Arguments& given) {
  if (value.is(Kind::integer) || value.is(Kind::boolean)) return Value::number(value.integer);
  double number = NAN;
  if (value.is(Kind::real)) number = value.real;
  if (value.is(Kind::text)) {
    if (const auto whole = to_integer(trim(value.str()))) return Value::number(*whole);
    number = to_number(trim(value.str())).value_or(NAN);
  }
  if (!(std::abs(number) < 9e18)) return Value::number(number_argument(given, 0, "default", 0));
  return Value::number(static_cast<std::int64_t>(number));
}

Value float_filter(const Value& value) {
  if (value.is_number()) return Value::number(value.as_real());
  return Value::number(value.is(Kind::text) ? to_number(trim(value.str())).value_or(0) : 0.0);
}

Value round_filter(const Value& value, const Arguments& given) {
  if (!value.is_number()) fail("round of a value of type " + std::string(value.type_name()));
  const auto digits = number_argument(given, 0, "precision", 0);
  if (digits < 0 || digits > 15) fail("round to that many digits");
  const double scale = std::pow(10, static_cast<double>(digits));
  const std::string method = text_argument(given, 1, "method", "common");
  const double scaled = value.as_real() * scale;
  return Value::number((method == "ceil"    ? std::ceil(scaled)
                        : method == "floor" ? std::floor(scaled)
                                            : std::nearbyint(scaled)) /
                       scale);
}

Value tojson_filter(const Value& value, const Arguments& given) {
  const Value* indent = given.find(1, "indent");
  const bool indents = indent != nullptr && indent->is(Kind::integer);
  std::string item = indents ? "," : ", ", key = ": ";
  if (const Value* separators = given.find(2, "separators");
      separators != nullptr && separators->is(Kind::list)) {
    if (separators->list->size() != 2) fail("tojson's separators are two texts");
    item = text_of((*separators->list)[0]);
    key = text_of((*separators->list)[1]);
  }
  if (flag_argument(given, 0, "ensure_ascii", false)) fail_unsupported("tojson with ensure_ascii");
  return Value::string(to_json(
      value, indents ? static_cast<int>(std::clamp<std::int64_t>(indent->integer, 0, 64)) : -1,
      item, key, flag_argument(given, 3, "sort_keys", false)));
}

Value extreme(const Value& value, bool largest) {
  const List items = iterate(value);
  if (items.empty()) return Value::undefined("an item of an empty list");
  const Value* best = items.data();
  for (const auto& item : items) {
    const int order = compare(item, *best);
    if (largest ? order > 0 : order < 0) best = &item;
  }
  return *best;
}

Value dictsort_filter(const Value& value, const Arguments& given) {
  if (!value.is(Kind::dict)) fail("dictsort needs a dict");
  const bool sensitive = flag_argument(given, 0, "case_sensitive", false);
  const bool by_value = text_argument(given, 1, "by", "key") == "value";
  const bool reverse = flag_argument(given, 2, "reverse", false);
  Dict items = *value.dict;
  std::stable_sort(items.begin(), items.end(), [&](const auto& a, const auto& b) {
    const Value left = folded(by_value ? a.second : Value::string(a.first), sensitive);
    const Value right = folded(by_value ? b.second : Value::string(b.first), sensitive);
    return reverse ? compare(right, left) < 0 : compare(left, right) < 0;
  });
  return pairs_of(Value::mapping(std::move(items)));
}

Value default_filter(const Value& value, const Arguments& given) {
  const bool for_false = flag_argument(given, 1, "boolean", false);
  if (!value.is(Kind::undefined) && !(for_false && !truthy(value))) return value;
  const Value* fallback = given.find(0, "default_value");
  return fallback != nullptr ? *fallback : Value::string("");
}

Value edge(const Value& value, bool last) {
  const List items = iterate(value);
  if (items.empty()) return Value::undefined("an item of an empty list");
  return last ? items.back() : items.front();
}

Value reversed(const Value& value) {
  List items = iterate(value);
  std::reverse(items.begin(), items.end());
  if (!value.is(Kind::text)) return Value::items(std::move(items));
  std::string out;
  for (const auto& item : items) out += item.str();
  return Value::string(std::move(out));
}

using Filter = Value (*)(const Value&, const Arguments&);
const std::map<std::string, Filter, std::less<>>& filters() {
  using A = const Arguments&;
  using V = const Value&;
  static const std::map<std::string, Filter, std::less<>> table = {
      {"trim",
       [](V v, A a) {
         return Value::string(stripped(text_of(v), text_argument(a, 0, "chars", ""), true, true));
       }},
      {"length", [](V v, A) { return Value::number(length(v)); }},
      {"count", [](V v, A) { return Value::number(length(v)); }},
      {"upper", [](V v, A) { return Value::string(upper_case(text_of(v))); }},
      {"lower", [](V v, A) { return Value::string(lower_case(text_of(v))); }},
      {"capitalize", [](V v, A) { return Value::string(capitalized(text_of(v), Words::one)); }},
      {"title", [](V v, A) { return Value::string(capitalized(text_of(v), Words::filter)); }},
      {"string", [](V v, A) { return Value::string(text_of(v)); }},
      {"safe", [](V v, A) { return v; }},
      {"list", [](V v, A) { return Value::items(iterate(v)); }},
      {"int", int_filter},
      {"float", [](V v, A) { return float_filter(v); }},
      {"round", round_filter},
      {"abs",
       [](V v, A) {
         return v.is(Kind::real) ? Value::number(std::abs(v.real))
                : v.is_number() && v.integer > INT64_MIN
                    ? Value::number(v.integer < 0 ? -v.integer : v.integer)
                    : (fail("abs of no number"), v);
       }},
      {"min", [](V v, A) { return extreme(v, false); }},
      {"max", [](V v, A) { return extreme(v, true); }},
      {"default", default_filter},
      {"d", default_filter},
      {"first", [](V v, A) { return edge(v, false); }},
      {"last", [](V v, A) { return edge(v, true); }},
      {"reverse", [](V v, A) { return reversed(v); }},
      {"join", [](V v, A a) { return Value::string(join_filter(v, a)); }},
      {"replace",
       [](V v, A a) {
         return Value::string(replaced(text_of(v), text_argument(a, 0, "old", ""),
                                       text_argument(a, 1, "new", ""),
                                       number_argument(a, 2, "count", -1)));
       }},
      {"indent", [](V v, A a) { return Value::string(indent_filter(v, a)); }},
      {"tojson", tojson_filter},
      {"map", map_filter},
      {"select", [](V v, A a) { return choose(v, a, false, true); }},
      {"reject", [](V v, A a) { return choose(v, a, false, false); }},
      {"selectattr", [](V v, A a) { return choose(v, a, true, true); }},
      {"rejectattr", [](V v, A a) { return choose(v, a, true, false); }},
      {"sort", sort_filter},
      {"unique", unique_filter},
      {"items",
       [](V v, A) {
         return v.is(Kind::undefined) ? Value::items({})
                : v.is(Kind::dict)    ? pairs_of(v)
                                      : (fail("items of no dict"), v);
       }},
      {"dictsort", dictsort_filter},
  };
  return table;
}

// --- tests

bool ordered(const Value& value, const Arguments& given, bool (*holds)(int)) {
  return holds(compare(value, need_argument(given, 0, "other")));
}
bool is_whole(const Value& value) {
  return value.is(Kind::integer) || value.is(Kind::boolean);
}
std::int64_t whole(const Value& value) {
  if (!is_whole(value)) fail("a whole number is needed, not " + std::string(value.type_name()));
  return value.integer;
}

using Test = bool (*)(const Value&, const Arguments&);
const std::map<std::string, Test, std::less<>>& tests() {
  using A = const Arguments&;
  using V = const Value&;
  static const Test is_equal = [](V v, A a) { return equal(v, need_argument(a, 0, "other")); };
  static const Test differs = [](V v, A a) { return !equal(v, need_argument(a, 0, "other")); };
  static const Test less = [](V v, A a) { return ordered(v, a, [](int o) { return o < 0; }); };
  static const Test most = [](V v, A a) { return ordered(v, a, [](int o) { return o <= 0; }); };
  static const Test more = [](V v, A a) { return ordered(v, a, [](int o) { return o > 0; }); };
  static const Test least = [](V v, A a) { return ordered(v, a, [](int o) { return o >= 0; }); };
  static const std::map<std::string, Test, std::less<>> table = {
      {"defined", [](V v, A) { return !v.is(Kind::undefined); }},
      {"undefined", [](V v, A) { return v.is(Kind::undefined); }},
      {"none", [](V v, A) { return v.is(Kind::none); }},
      {"string", [](V v, A) { return v.is(Kind::text); }},
      {"mapping", [](V v, A) { return v.is(Kind::dict); }},
      {"sequence",
       [](V v, A) {
         return v.is(Kind::list) || v.is(Kind::text) || v.is(Kind::dict) || v.is(Kind::undefined);
       }},
      {"iterable",
       [](V v, A) {
         return v.is(Kind::list) || v.is(Kind::text) || v.is(Kind::dict) || v.is(Kind::undefined);
       }},
      {"number", [](V v, A) { return v.is_number(); }},
      {"integer", [](V v, A) { return v.is(Kind::integer); }},
      {"float", [](V v, A) { return v.is(Kind::real); }},
      {"boolean", [](V v, A) { return v.is(Kind::boolean); }},
      {"true", [](V v, A) { return v.is(Kind::boolean) && v.integer != 0; }},
      {"false", [](V v, A) { return v.is(Kind::boolean) && v.integer == 0; }},
      {"callable", [](V v, A) { return v.is(Kind::macro) || v.is(Kind::function); }},
      {"odd", [](V v, A) { return whole(v) % 2 != 0; }},
      {"even", [](V v, A) { return whole(v) % 2 == 0; }},
      {"divisibleby",
       [](V v, A a) {
         const auto by = whole(need_argument(a, 0, "num"));
         if (by == 0) fail("division by zero");
         return by == -1 || whole(v) % by == 0;
       }},
      {"in", [](V v, A a) { return contains(need_argument(a, 0, "seq"), v); }},
      {"sameas",
       [](V v, A a) {
         const Value& other = need_argument(a, 0, "other");
         return v.kind == other.kind && equal(v, other);
       }},
      {"eq", is_equal},
      {"equalto", is_equal},
      {"ne", differs},
      {"lt", less},
      {"lessthan", less},
      {"le", most},
      {"gt", more},
      {"greaterthan", more},
      {"ge", least},
      {"lower",
       [](V v, A) {
         const auto t = text_of(v);
         return t == lower_case(t) && t != upper_case(t);
       }},
      {"upper",
       [](V v, A) {
         const auto t = text_of(v);
         return t == upper_case(t) && t != lower_case(t);
       }},
  };
  return table;
}

}  // namespace

const Value* Arguments::find(std::size_t place, std::string_view name) const {
  if (place < positional.size()) return &positional[place];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

bool has_filter(std::string_view name) {
  return filters().contains(name);
}
bool has_test(std::string_view name) {
  return tests().contains(name);
}

Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments) {
  return filters().find(name)->second(value, arguments);
}
bool apply_test(const std::string& name, const Value& value, const Arguments& arguments) {
  return tests().find(name)->second(value, arguments);
}

Value call_method(const Value& object, const std::string& name, const Arguments& given) {
  if (object.is(Kind::text)) return text_method(object.str(), name, given);
  if (object.is(Kind::dict) || object.is(Kind::space)) {
    if (name == "items") return pairs_of(object);
    if (name == "keys") return Value::items(iterate(Value::mapping(*object.dict)));
    if (name == "values") {
      List out;
      for (const auto& [key, item] : *object.dict) out.push_back(item);
      return Value::items(std::move(out));
    }
    if (name == "get") {
      const Value& key = need_argument(given, 0, "key");
      const Value* member = key.is(Kind::text) ? object.member(key.str()) : nullptr;
      if (member != nullptr) return *member;
      const Value* fallback = given.find(1, "default");
      return fallback != nullptr ? *fallback : Value::none();
    }
    if (name == "copy") return Value::mapping(*object.dict);
  }
  if (object.is(Kind::list)) {
    if (name == "index" || name == "count") {
      const Value& wanted = need_argument(given, 0, "value");
      std::int64_t count = 0;
      for (std::size_t i = 0; i < object.list->size(); ++i) {
        if (!equal((*object.list)[i], wanted)) continue;
        if (name == "index") return Value::number(static_cast<std::int64_t>(i));
        ++count;
      }
      if (name == "index") fail("the value is not in the list");
      return Value::number(count);
    }
  }
  fail_unsupported("the method '" + clean_text(name, 40) + "' of a " +
                   std::string(object.type_name()));
}

}  // namespace rigwise::engine::jinja
