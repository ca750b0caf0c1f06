#include <algorithm>
#include <array>

#include "base/text.h"
#include "engine/text/jinja_program.h"

namespace rigwise::engine::jinja {

namespace {

constexpr int kMostDepth = 200;  // of expressions in expressions, blocks in blocks
using TokenKind = Token::Kind;
using Kind = Expression::Kind;

class Parser {
 public:
  explicit Parser(const std::vector<Token>& tokens) : tokens_(tokens) {}

  Parsed run() {
    Parsed out;
    out.block = block({});
    if (now().kind != TokenKind::end) fail_here("unexpected {% " + now().text + " %}");
    out.marks_generation = marks_generation_;
    return out;
  }

 private:
  // --- tokens

  [[nodiscard]] const Token& now() const { return tokens_[at_]; }
  [[nodiscard]] const Token& ahead() const {
    return tokens_[std::min(at_ + 1, tokens_.size() - 1)];
  }
  void next() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  [[nodiscard]] bool is_sign(std::string_view sign) const {
    return now().kind == TokenKind::sign && now().text == sign;
  }
  [[nodiscard]] bool is_name(std::string_view name) const {
    return now().kind == TokenKind::name && now().text == name;
  }
  bool take_sign(std::string_view sign) {
    if (!is_sign(sign)) return false;
    next();
    return true;
  }
  bool take_name(std::string_view name) {
    if (!is_name(name)) return false;
    next();
    return true;
  }
  void need_sign(std::string_view sign) {
    if (!take_sign(sign)) fail_here("expected '" + std::string(sign) + "', found " + shown());
  }
  std::string need_name() {
    if (now().kind != TokenKind::name) fail_here("expected a name, found " + shown());
    std::string out = now().text;
    next();
    return out;
  }
  void need(TokenKind kind, const char* what) {
    if (now().kind != kind) fail_here(std::string("expected ") + what + ", found " + shown());
    next();
  }
  [[nodiscard]] std::string shown() const {
    switch (now().kind) {
      case TokenKind::end:
        return "the end of the template";
      case TokenKind::variable_end:
        return "}}";
      case TokenKind::block_end:
        return "%}";
      case TokenKind::data:
        return "text";
      default:
        return "'" + clean_text(now().text, 40) + "'";
    }
  }
  [[noreturn]] void fail_here(const std::string& why) const {
    fail("line " + std::to_string(now().line) + ": " + why);
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    fail_unsupported("line " + std::to_string(now().line) + ": " + what);
  }

  struct Deeper {
    explicit Deeper(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > kMostDepth) parser_.fail_here("nested more than 200 deep");
    }
    ~Deeper() { --parser_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    Parser& parser_;
  };

  ExpressionPtr make(Kind kind, std::string text = "", ExpressionPtr first = nullptr,
                     ExpressionPtr second = nullptr) {
    auto out = std::make_unique<Expression>();
    out->kind = kind;
    out->line = now().line;
    out->text = std::move(text);
    if (first) add(*out, std::move(first));
    if (second) add(*out, std::move(second));
    return out;
  }
  /// Chains ("a + b + c …") are as deep as nests, to whoever walks the tree.
  void add(Expression& parent, ExpressionPtr child) {
    if (child) {
      parent.depth = std::max(parent.depth, child->depth + 1);
      if (parent.depth > kMostDepth) fail_here("an expression is longer than 200 steps");
    }
    parent.children.push_back(std::move(child));
  }

  // --- statements

  /// Until one of `ends` stands in a block tag; that name is the current token then.
  Block block(const std::vector<std::string_view>& ends) {
    const Deeper guard(*this);
    Block out;
    while (now().kind != TokenKind::end) {
      if (now().kind == TokenKind::data) {
        auto data = statement<Statement>(Statement::Kind::data);
        data->text = now().text;
        next();
        out.push_back(std::move(data));
      } else if (now().kind == TokenKind::variable_begin) {
        next();
        auto print = statement<Statement>(Statement::Kind::print);
        print->expressions.push_back(tuple());
        need(TokenKind::variable_end, "}}");
        out.push_back(std::move(print));
      } else {
        need(TokenKind::block_begin, "{%");
        if (std::any_of(ends.begin(), ends.end(), [&](auto end) { return is_name(end); }))
          return out;
        if (now().kind != TokenKind::name) fail_here("expected a statement, found " + shown());
        if (is_name("elif") || is_name("else") || now().text.starts_with("end"))
          fail_here("unexpected {% " + clean_text(now().text, 40) + " %}");
        out.push_back(tag());
      }
    }
    if (!ends.empty()) fail_here("{% " + std::string(ends.back()) + " %} is missing");
    return out;
  }

  template <class T>
  std::unique_ptr<T> statement(Statement::Kind kind) {
    auto out = std::make_unique<T>();
    out->kind = kind;
    out->line = now().line;
    return out;
  }
  void end_tag() { need(TokenKind::block_end, "%}"); }

  std::unique_ptr<Statement> tag() {
    if (is_name("if")) return condition();
    if (is_name("for")) return loop();
    if (is_name("set")) return set();
    if (is_name("macro")) return macro();
    if (is_name("generation")) {
      auto out = statement<Statement>(Statement::Kind::generation);
      next();
      end_tag();
      out->blocks.push_back(block({"endgeneration"}));
      next();
      end_tag();
      marks_generation_ = true;
      return out;
    }
    if (is_name("break") || is_name("continue")) {
      auto out =
          statement<Statement>(is_name("break") ? Statement::Kind::stop : Statement::Kind::skip);
      if (loops_ == 0) fail_here("'" + now().text + "' outside of a loop");
      next();
      end_tag();
      return out;
    }
    unsupported("{% " + clean_text(now().text, 40) + " %}");
  }

  std::unique_ptr<Statement> condition() {
    auto out = statement<Statement>(Statement::Kind::condition);
    do {
      next();
      out->expressions.push_back(tuple());
      end_tag();
      out->blocks.push_back(block({"elif", "else", "endif"}));
    } while (is_name("elif"));
    if (take_name("else")) {
      end_tag();
      out->blocks.push_back(block({"endif"}));
    }
    next();
    end_tag();
    return out;
  }

  std::vector<std::string> names() {
    std::vector<std::string> out;
    const bool in_brackets = take_sign("(");
    do {
      if (is_sign(")") || is_name("in") || is_sign("=")) break;  // a comma at the end
      out.push_back(need_name());
    } while (take_sign(","));
    if (in_brackets) need_sign(")");
    if (out.empty()) fail_here("expected a name, found " + shown());
    return out;
  }

  std::unique_ptr<Statement> loop() {
    auto out = statement<Statement>(Statement::Kind::loop);
    next();
    out->targets = names();
    if (!take_name("in")) fail_here("expected 'in', found " + shown());
    out->expressions.push_back(tuple(false));
    out->expressions.push_back(take_name("if") ? expression() : nullptr);
    if (is_name("recursive")) unsupported("a recursive loop");
    end_tag();
    ++loops_;
    out->blocks.push_back(block({"else", "endfor"}));
    --loops_;
    if (take_name("else")) {
      end_tag();
      out->blocks.push_back(block({"endfor"}));
    }
    next();
    end_tag();
    return out;
  }

  std::unique_ptr<Statement> set() {
    auto out = statement<Statement>(Statement::Kind::set);
    next();
    out->targets = names();
    if (out->targets.size() == 1 && take_sign(".")) out->attribute = need_name();
    if (take_sign("=")) {
      out->expressions.push_back(tuple());
      end_tag();
      return out;
    }
    if (is_sign("|")) unsupported("a filter on {% set %}");
    end_tag();
    if (out->targets.size() > 1) fail_here("{% set %} of several names needs '='");
    out->kind = Statement::Kind::set_block;
    out->blocks.push_back(block({"endset"}));
    next();
    end_tag();
    return out;
  }

  std::unique_ptr<Statement> macro() {
    auto out = statement<MacroStatement>(Statement::Kind::macro);
    next();
    out->text = need_name();
    need_sign("(");
    while (!is_sign(")")) {
      std::string name = need_name();
      out->parameters.emplace_back(std::move(name), take_sign("=") ? expression() : nullptr);
      if (!take_sign(",")) break;
    }
    need_sign(")");
    end_tag();
    const int loops = loops_;
    loops_ = 0;
    out->blocks.push_back(block({"endmacro"}));
    loops_ = loops;
    next();
    end_tag();
    return out;
  }

  // --- expressions, weakest first

  ExpressionPtr tuple(bool with_condition = true) {
    auto first = with_condition ? expression() : either();
    if (!is_sign(",")) return first;
    auto out = make(Kind::list, "tuple", std::move(first));
    while (take_sign(",")) {
      if (now().kind == TokenKind::block_end || now().kind == TokenKind::variable_end) break;
      add(*out, with_condition ? expression() : either());
    }
    return out;
  }

  ExpressionPtr expression() {
    const Deeper guard(*this);
    auto out = either();
    while (take_name("if")) {
      auto choice = make(Kind::conditional, "", std::move(out));
      add(*choice, either());
      add(*choice, take_name("else") ? expression() : nullptr);
      out = std::move(choice);
    }
    return out;
  }
  ExpressionPtr either() {
    auto out = both();
    while (take_name("or")) out = make(Kind::either, "", std::move(out), both());
    return out;
  }
  ExpressionPtr both() {
    auto out = negation();
    while (take_name("and")) out = make(Kind::both, "", std::move(out), negation());
    return out;
  }
  ExpressionPtr negation() {
    if (!is_name("not")) return comparison();
    const Deeper guard(*this);
    next();
    return make(Kind::negate, "", negation());
  }
  ExpressionPtr comparison() {
    auto left = sum();
    ExpressionPtr out;
    while (true) {
      std::string op;
      for (const std::string_view sign : {"==", "!=", "<=", ">=", "<", ">"}) {
        if (is_sign(sign)) op = sign;
      }
      if (is_name("in")) op = "in";
      if (is_name("not") && ahead().kind == TokenKind::name && ahead().text == "in") op = "not in";
      if (op.empty()) return out ? std::move(out) : std::move(left);
      if (out) unsupported("a chain of comparisons");
      if (op == "not in") next();
      next();
      out = make(Kind::comparison, op, std::move(left), sum());
    }
  }
  ExpressionPtr chain(std::initializer_list<std::string_view> signs,
                      ExpressionPtr (Parser::*inner)()) {
    auto out = (this->*inner)();
    while (true) {
      const auto found =
          std::find_if(signs.begin(), signs.end(), [&](auto sign) { return is_sign(sign); });
      if (found == signs.end()) return out;
      next();
      out = make(Kind::binary, std::string(*found), std::move(out), (this->*inner)());
    }
  }
  ExpressionPtr sum() { return chain({"+", "-"}, &Parser::joined); }
  ExpressionPtr joined() { return chain({"~"}, &Parser::product); }
  ExpressionPtr product() { return chain({"*", "//", "/", "%"}, &Parser::power); }
  ExpressionPtr power() { return chain({"**"}, &Parser::unary_with_filter); }
  ExpressionPtr unary_with_filter() { return unary(true); }

  ExpressionPtr unary(bool with_filter) {
    const Deeper guard(*this);
    ExpressionPtr out;
    if (take_sign("-")) {
      out = make(Kind::minus, "", unary(false));
    } else if (take_sign("+")) {
      out = make(Kind::plus, "", unary(false));
    } else {
      out = primary();
    }
    out = postfix(std::move(out));
    return with_filter ? filtered(std::move(out)) : std::move(out);
  }

  ExpressionPtr primary() {
    const Token token = now();
    auto constant = [&](Value value) {
      auto out = make(Kind::constant);
      out->value = std::move(value);
      return out;
    };
    switch (token.kind) {
      case TokenKind::name: {
        next();
        if (token.text == "true" || token.text == "True") return constant(Value::boolean(true));
        if (token.text == "false" || token.text == "False") return constant(Value::boolean(false));
        if (token.text == "none" || token.text == "None") return constant(Value::none());
        return make(Kind::name, token.text);
      }
      case TokenKind::string: {
        std::string text;
        for (; now().kind == TokenKind::string; next()) text += now().text;
        return constant(Value::string(std::move(text)));
      }
      case TokenKind::integer: {
        next();
        const auto number = to_integer(token.text);
        if (!number) fail_here("the number " + clean_text(token.text, 40) + " is too large");
        return constant(Value::number(*number));
      }
      case TokenKind::real: {
        next();
        return constant(Value::number(to_number(token.text).value_or(0)));
      }
      default:
        break;
    }
    if (take_sign("(")) return bracketed();
    if (take_sign("[")) {
      auto out = make(Kind::list);
      while (!is_sign("]")) {
        add(*out, expression());
        if (!take_sign(",")) break;
      }
      need_sign("]");
      return out;
    }
    if (take_sign("{")) {
      auto out = make(Kind::dict);
      while (!is_sign("}")) {
        add(*out, expression());
        need_sign(":");
        add(*out, expression());
        if (!take_sign(",")) break;
      }
      need_sign("}");
      return out;
    }
    fail_here("expected an expression, found " + shown());
  }
  /// Behind "(": one expression, or a tuple.
  ExpressionPtr bracketed() {
    if (take_sign(")")) return make(Kind::list, "tuple");
    auto first = expression();
    if (take_sign(")")) return first;
    auto out = make(Kind::list, "tuple", std::move(first));
    while (take_sign(",")) {
      if (is_sign(")")) break;
      add(*out, expression());
    }
    need_sign(")");
    return out;
  }

  ExpressionPtr postfix(ExpressionPtr out) {
    while (true) {
      if (take_sign(".")) {
        if (now().kind == TokenKind::integer) {
          auto place = make(Kind::constant);
          place->value = Value::number(to_integer(now().text).value_or(0));
          next();
          out = make(Kind::item, "", std::move(out), std::move(place));
        } else {
          out = make(Kind::attribute, need_name(), std::move(out));
        }
      } else if (take_sign("[")) {
        out = subscript(std::move(out));
      } else if (is_sign("(")) {
        auto call = make(Kind::call, "", std::move(out));
        arguments(*call);
        out = std::move(call);
      } else {
        return out;
      }
    }
  }
  ExpressionPtr subscript(ExpressionPtr object) {
    std::array<ExpressionPtr, 3> parts;
    std::size_t colons = 0;
    while (!is_sign("]")) {
      if (take_sign(":")) {
        if (++colons > 2) fail_here("a slice has three parts at most");
      } else {
        if (parts[colons]) fail_here("expected ']', found " + shown());
        parts[colons] = expression();
      }
    }
    next();
    if (colons == 0) {
      if (!parts[0]) fail_here("an empty [ ]");
      return make(Kind::item, "", std::move(object), std::move(parts[0]));
    }
    auto out = make(Kind::slice, "", std::move(object));
    for (auto& part : parts) add(*out, std::move(part));
    return out;
  }
  void arguments(Expression& call) {
    need_sign("(");
    while (!is_sign(")")) {
      if (is_sign("*") || is_sign("**")) unsupported("'" + now().text + "' in a call");
      if (now().kind == TokenKind::name && ahead().kind == TokenKind::sign && ahead().text == "=") {
        std::string name = need_name();
        next();
        auto value = expression();
        call.depth = std::max(call.depth, value->depth + 1);
        call.named.emplace_back(std::move(name), std::move(value));
      } else {
        if (!call.named.empty()) fail_here("an argument without a name behind one with a name");
        add(call, expression());
      }
      if (!take_sign(",")) break;
    }
    need_sign(")");
  }

  ExpressionPtr filtered(ExpressionPtr out) {
    while (true) {
      if (take_sign("|")) {
        std::string name = need_name();
        if (!has_filter(name)) unsupported("the filter '" + clean_text(name, 40) + "'");
        auto filter = make(Kind::filter, std::move(name), std::move(out));
        if (is_sign("(")) arguments(*filter);
        out = std::move(filter);
      } else if (take_name("is")) {
        out = test(std::move(out));
      } else if (is_sign("(")) {
        unsupported("a call of what a filter gives");
      } else {
        return out;
      }
    }
  }
  ExpressionPtr test(ExpressionPtr object) {
    const bool negated = take_name("not");
    std::string name = need_name();
    if (!has_test(name)) unsupported("the test '" + clean_text(name, 40) + "'");
    auto out = make(Kind::test, std::move(name), std::move(object));
    if (is_sign("(")) {
      arguments(*out);
    } else if (now().kind == TokenKind::string || now().kind == TokenKind::integer ||
               now().kind == TokenKind::real || is_sign("[") || is_sign("{") ||
               (now().kind == TokenKind::name && !is_name("else") && !is_name("or") &&
                !is_name("and") && !is_name("is") && !is_name("if"))) {
      const Deeper guard(*this);
      add(*out, postfix(primary()));
    }
    return negated ? make(Kind::negate, "", std::move(out)) : std::move(out);
  }

  const std::vector<Token>& tokens_;
  std::size_t at_ = 0;
  int depth_ = 0, loops_ = 0;
  bool marks_generation_ = false;
};

}  // namespace

Parsed parse_program(const std::vector<Token>& tokens) {
  return Parser(tokens).run();
}

}  // namespace rigwise::engine::jinja
