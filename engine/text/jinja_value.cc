#include "engine/text/jinja_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

#include "base/text.h"
#include "engine/text/unicode.h"

namespace rigwise::engine::jinja {

namespace {

using Kind = Value::Kind;

constexpr std::size_t kMostCharacters = 1 << 20;
constexpr int kMostDepth = 64;  // of lists in lists, when they are printed

std::string repr_text(std::string_view text) {
  const char quote =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"'
                                                                                            : '\'';
  std::string out(1, quote);
  constexpr std::string_view kHex = "0123456789abcdef";
  for (const char c : text) {
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      out += {'\\', 'x', kHex[static_cast<unsigned char>(c) >> 4], kHex[c & 15]};
    } else {
      out += c;
    }
  }
  return out + quote;
}

std::string json_text(std::string_view text) {
  std::string out = "\"";
  constexpr std::string_view kHex = "0123456789abcdef";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += {'\\', 'u', '0', '0', kHex[static_cast<unsigned char>(c) >> 4], kHex[c & 15]};
        else
          out += c;
    }
  }
  return out + '"';
}

std::string repr_at(const Value& value, int depth) {
  if (depth > kMostDepth) fail("a value is nested too deep");
  switch (value.kind) {
    case Kind::text:
      return repr_text(value.str());
    case Kind::undefined:
      return "Undefined";
    case Kind::list: {
      std::string out = value.is_tuple ? "(" : "[";
      for (const auto& item : *value.list) {
        if (out.size() > 1) out += ", ";
        out += repr_at(item, depth + 1);
      }
      if (value.is_tuple && value.list->size() == 1) out += ',';
      return out + (value.is_tuple ? ")" : "]");
    }
    case Kind::dict:
    case Kind::space: {
      std::string out = "{";
      for (const auto& [key, item] : *value.dict) {
        if (out.size() > 1) out += ", ";
        out += repr_text(key) + ": " + repr_at(item, depth + 1);
      }
      return out + "}";
    }
    default:
      return text_of(value);
  }
}

class JsonWriter {
 public:
  JsonWriter(int indent, std::string_view item, std::string_view key, bool sorts)
      : indent_(indent), item_(item), key_(key), sorts_(sorts) {}

  void write(const Value& value, int depth) {
    if (depth > kMostDepth) fail("a value is nested too deep for tojson");
    switch (value.kind) {
      case Kind::none:
        out += "null";
        return;
      case Kind::boolean:
        out += value.integer != 0 ? "true" : "false";
        return;
      case Kind::integer:
        out += std::to_string(value.integer);
        return;
      case Kind::real:
        out += std::isnan(value.real)   ? "NaN"
               : std::isinf(value.real) ? (value.real > 0 ? "Infinity" : "-Infinity")
                                        : python_float(value.real);
        return;
      case Kind::text:
        out += json_text(value.str());
        return;
      case Kind::list:
        write_all(value.list->size(), '[', ']', depth,
                  [&](std::size_t i) { write((*value.list)[i], depth + 1); });
        return;
      case Kind::dict: {
        std::vector<const std::pair<std::string, Value>*> items;
        for (const auto& item : *value.dict) items.push_back(&item);
        if (sorts_)
          std::sort(items.begin(), items.end(),
                    [](auto* a, auto* b) { return a->first < b->first; });
        write_all(items.size(), '{', '}', depth, [&](std::size_t i) {
          out += json_text(items[i]->first);
          out += key_;
          write(items[i]->second, depth + 1);
        });
        return;
      }
      default:
        fail("tojson of a value of type " + std::string(value.type_name()));
    }
  }

  std::string out;

 private:
  void line(int depth) {
    if (indent_ < 0) return;
    out += '\n';
    out.append(static_cast<std::size_t>(indent_ * depth), ' ');
  }
  void write_all(std::size_t count, char open, char close, int depth,
                 const std::function<void(std::size_t)>& each) {
    out += open;
    for (std::size_t i = 0; i < count; ++i) {
      if (i > 0) out += item_;
      line(depth + 1);
      each(i);
    }
    if (count > 0) line(depth);
    out += close;
  }

  int indent_;
  std::string_view item_, key_;
  bool sorts_;
};

}  // namespace

void fail(std::string message) {
  throw Failure{{Errc::malformed, std::move(message)}};
}

void fail_unsupported(const std::string& what) {
  throw Failure{{Errc::unavailable, what + " is not supported"}};
}

Value Value::undefined(std::string name) {
  Value out;
  out.text = std::make_shared<const std::string>(std::move(name));
  return out;
}
Value Value::none() {
  Value out;
  out.kind = Kind::none;
  return out;
}
Value Value::boolean(bool value) {
  Value out;
  out.kind = Kind::boolean;
  out.integer = value ? 1 : 0;
  return out;
}
Value Value::number(std::int64_t value) {
  Value out;
  out.kind = Kind::integer;
  out.integer = value;
  return out;
}
Value Value::number(double value) {
  Value out;
  out.kind = Kind::real;
  out.real = value;
  return out;
}
Value Value::string(std::string value) {
  Value out;
  out.kind = Kind::text;
  out.text = std::make_shared<const std::string>(std::move(value));
  return out;
}
Value Value::items(List value) {
  Value out;
  out.kind = Kind::list;
  out.list = std::make_shared<const List>(std::move(value));
  return out;
}
Value Value::tuple(List value) {
  Value out = items(std::move(value));
  out.is_tuple = true;
  return out;
}
Value Value::mapping(Dict value) {
  Value out;
  out.kind = Kind::dict;
  out.dict = std::make_shared<Dict>(std::move(value));
  return out;
}

Value Value::from_json(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return boolean(json.get<bool>());
    case Json::value_t::number_integer:
      return number(json.get<std::int64_t>());
    case Json::value_t::number_unsigned:
      if (json.get<std::uint64_t>() > INT64_MAX) return number(json.get<double>());
      return number(json.get<std::int64_t>());
    case Json::value_t::number_float:
      return number(json.get<double>());
    case Json::value_t::string:
      return string(json.get<std::string>());
    case Json::value_t::array: {
      List list;
      for (const auto& item : json) list.push_back(from_json(item));
      return items(std::move(list));
    }
    case Json::value_t::object: {
      Dict dict;
      for (const auto& [key, item] : json.items()) dict.emplace_back(key, from_json(item));
      return mapping(std::move(dict));
    }
    default:
      return none();
  }
}

const Value* Value::member(std::string_view name) const {
  if (!dict) return nullptr;
  for (const auto& [key, item] : *dict) {
    if (key == name) return &item;
  }
  return nullptr;
}

std::string_view Value::type_name() const {
  switch (kind) {
    case Kind::undefined:
      return "Undefined";
    case Kind::none:
      return "NoneType";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
      return "int";
    case Kind::real:
      return "float";
    case Kind::text:
      return "str";
    case Kind::list:
      return "list";
    case Kind::dict:
      return "dict";
    case Kind::space:
      return "namespace";
    case Kind::macro:
    case Kind::function:
      return "function";
  }
  return "";
}

bool truthy(const Value& value) {
  switch (value.kind) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
    case Kind::integer:
      return value.integer != 0;
    case Kind::real:
      return value.real != 0;
    case Kind::text:
      return !value.text->empty();
    case Kind::list:
      return !value.list->empty();
    case Kind::dict:
      return !value.dict->empty();
    default:
      return true;
  }
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.kind != Kind::real && b.kind != Kind::real) return a.integer == b.integer;
    return a.as_real() == b.as_real();
  }
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Kind::undefined:
    case Kind::none:
      return true;
    case Kind::text:
      return *a.text == *b.text;
    case Kind::list:
      if (a.is_tuple != b.is_tuple) return false;
      return a.list == b.list ||
             std::equal(a.list->begin(), a.list->end(), b.list->begin(), b.list->end(), equal);
    case Kind::dict: {
      if (a.dict == b.dict) return true;
      if (a.dict->size() != b.dict->size()) return false;
      return std::all_of(a.dict->begin(), a.dict->end(), [&](const auto& item) {
        const Value* other = b.member(item.first);
        return other != nullptr && equal(item.second, *other);
      });
    }
    case Kind::space:
      return a.dict == b.dict;
    case Kind::macro:
      return a.macro == b.macro;
    default:
      return *a.text == *b.text;
  }
}

int compare(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.kind != Kind::real && b.kind != Kind::real)
      return a.integer < b.integer ? -1 : a.integer > b.integer ? 1 : 0;
    return a.as_real() < b.as_real() ? -1 : a.as_real() > b.as_real() ? 1 : 0;
  }
  if (a.is(Kind::text) && b.is(Kind::text)) return a.text->compare(*b.text);
  fail("values of type " + std::string(a.type_name()) + " and " + std::string(b.type_name()) +
       " have no order");
}

bool contains(const Value& container, const Value& item) {
  switch (container.kind) {
    case Kind::text:
      if (!item.is(Kind::text))
        fail("'in' of a text needs a text, not " + std::string(item.type_name()));
      return container.str().find(item.str()) != std::string_view::npos;
    case Kind::list:
      return std::any_of(container.list->begin(), container.list->end(),
                         [&](const Value& each) { return equal(each, item); });
    case Kind::dict:
    case Kind::space:
      return item.is(Kind::text) && container.member(item.str()) != nullptr;
    case Kind::undefined:
      return false;
    default:
      fail("a value of type " + std::string(container.type_name()) + " holds nothing");
  }
}

std::string python_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<std::size_t>(end.ptr - buffer));
  const auto e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  if (exponent < -4 || exponent >= 16) return std::string(text);
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  std::string out(buffer, static_cast<std::size_t>(fixed.ptr - buffer));
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

std::string text_of(const Value& value) {
  switch (value.kind) {
    case Kind::undefined:
      return "";
    case Kind::none:
      return "None";
    case Kind::boolean:
      return value.integer != 0 ? "True" : "False";
    case Kind::integer:
      return std::to_string(value.integer);
    case Kind::real:
      return python_float(value.real);
    case Kind::text:
      return *value.text;
    case Kind::list:
    case Kind::dict:
    case Kind::space:
      return repr(value);
    default:
      fail("a function is printed without being called");
  }
}

std::string repr(const Value& value) {
  return repr_at(value, 0);
}

std::string to_json(const Value& value, int indent, std::string_view item_separator,
                    std::string_view key_separator, bool sort_keys) {
  JsonWriter writer(indent, item_separator, key_separator, sort_keys);
  writer.write(value, 0);
  return std::move(writer.out);
}

List iterate(const Value& value) {
  switch (value.kind) {
    case Kind::undefined:
      return {};
    case Kind::list:
      return *value.list;
    case Kind::dict: {
      List out;
      for (const auto& [key, item] : *value.dict) out.push_back(Value::string(key));
      return out;
    }
    case Kind::text: {
      if (value.text->size() > kMostCharacters) fail("a text above 1 MiB is looped over");
      List out;
      for (std::size_t at = 0; at < value.text->size();) {
        const std::size_t begin = at;
        next_char(*value.text, at);
        out.push_back(Value::string(value.text->substr(begin, at - begin)));
      }
      return out;
    }
    default:
      fail("a value of type " + std::string(value.type_name()) + " cannot be looped over");
  }
}

std::int64_t length(const Value& value) {
  switch (value.kind) {
    case Kind::undefined:
      return 0;
    case Kind::list:
      return static_cast<std::int64_t>(value.list->size());
    case Kind::dict:
      return static_cast<std::int64_t>(value.dict->size());
    case Kind::text:
      return std::count_if(value.text->begin(), value.text->end(),
                           [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
    default:
      fail("a value of type " + std::string(value.type_name()) + " has no length");
  }
}

}  // namespace rigwise::engine::jinja
