#include "engine/text/tokenizer_json.h"

#include <optional>

#include "base/text.h"

namespace rigwise::engine {

namespace {

constexpr std::size_t kMostBytes = std::size_t{256} << 20, kMostDepth = 64, kMostMembers = 4000;

/// nlohmann's SAX interface: its function names are not ours.
class Handler {
 public:
  explicit Handler(TokenizerJson& out) : out_(out) {}

  bool null() { return value(Json(nullptr)); }
  bool boolean(bool v) { return value(Json(v)); }
  bool number_integer(std::int64_t v) { return integer(v); }
  bool number_unsigned(std::uint64_t v) {
    return v > std::uint64_t{1} << 62 ? refuse("a number is out of range")
                                      : integer(static_cast<std::int64_t>(v));
  }
  bool number_float(double v, const std::string&) { return value(Json(v)); }
  bool string(std::string& v) {
    if (place_ == Place::merges) return string_merge(v);
    if (place_ == Place::merge) {
      if (halves_.size() >= 2) return refuse_merge();
      halves_.push_back(std::move(v));
      return true;
    }
    return value(Json(std::move(v)));
  }
  bool binary(Json::binary_t&) { return refuse("binary data"); }

  bool key(std::string& name) {
    key_ = std::move(name);
    if (place_ == Place::rest && open_.back()->size() >= kMostMembers)
      return refuse("an object has more than 4,000 members");
    if (place_ == Place::rest && open_.back()->contains(key_))
      return refuse("'" + clean_text(key_, 60) + "' is there twice in one object");
    return true;
  }
  bool start_object(std::size_t) {
    if (place_ == Place::vocabulary || place_ == Place::merges || place_ == Place::merge)
      return refuse("an object inside model.vocab or model.merges");
    if (place_ == Place::scores) return ++skipped_depth_, deeper();
    if (at_model() && key_ == "vocab") {
      if (!out_.vocabulary.empty()) return refuse("model.vocab is there twice");
      place_ = Place::vocabulary;
      return deeper();
    }
    return open(Json::object());
  }
  bool end_object() { return end(); }
  bool start_array(std::size_t) {
    if (place_ == Place::vocabulary || place_ == Place::merge)
      return refuse("a list inside model.vocab or a merge");
    if (place_ == Place::merges) {
      place_ = Place::merge;
      halves_.clear();
      return deeper();
    }
    if (place_ == Place::scores) return ++skipped_depth_, deeper();
    if (at_model() && key_ == "merges") {
      if (!out_.merges.empty()) return refuse("model.merges is there twice");
      place_ = Place::merges;
      return deeper();
    }
    if (at_model() && key_ == "vocab") {
      out_.has_vocabulary_list = true;
      place_ = Place::scores;
      return deeper();
    }
    return open(Json::array());
  }
  bool end_array() { return end(); }
  bool parse_error(std::size_t byte, const std::string&, const nlohmann::json::exception&) {
    return refuse("byte " + std::to_string(byte) + ": not valid JSON");
  }

  [[nodiscard]] const std::optional<std::string>& problem() const { return problem_; }

 private:
  enum class Place { rest, vocabulary, merges, merge, scores };

  bool refuse(std::string why) {
    if (!problem_) problem_ = std::move(why);
    return false;
  }
  bool refuse_merge() {
    return refuse("model.merges[" + std::to_string(out_.merges.size()) +
                  "] is not a pair of tokens");
  }
  bool deeper() { return ++depth_ <= kMostDepth || refuse("nested more than 64 deep"); }
  [[nodiscard]] bool at_model() const {
    return place_ == Place::rest && open_.size() == 2 && open_.back() == model_;
  }
  /// "a b": exactly one blank, as the old form has it.
  bool string_merge(const std::string& text) {
    if (text.starts_with("#version")) return true;
    const auto blank = text.find(' ');
    if (blank == std::string::npos || text.find(' ', blank + 1) != std::string::npos)
      return refuse_merge();
    out_.merges.emplace_back(text.substr(0, blank), text.substr(blank + 1));
    return true;
  }
  bool integer(std::int64_t v) {
    if (place_ != Place::vocabulary) return value(Json(v));
    if (v < 0 || v > INT32_MAX)
      return refuse("model.vocab: id " + std::to_string(v) + " of '" + clean_text(key_, 60) +
                    "' is out of range");
    out_.vocabulary.emplace_back(key_, static_cast<std::int32_t>(v));
    return true;
  }
  bool value(Json v) {
    switch (place_) {
      case Place::vocabulary:
        return refuse("model.vocab: '" + clean_text(key_, 60) + "' has no whole number as its id");
      case Place::merges:
      case Place::merge:
        return refuse_merge();
      case Place::scores:
        return true;
      case Place::rest:
        break;
    }
    return add(std::move(v)) != nullptr;
  }
  Json* add(Json v) {
    if (open_.empty()) {
      refuse("not a JSON object");
      return nullptr;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    return &(parent[key_] = std::move(v));
  }
  bool open(Json container) {
    if (open_.empty()) {
      if (!container.is_object()) return refuse("not a JSON object");
      out_.rest = std::move(container);
      open_.push_back(&out_.rest);
      return deeper();
    }
    const bool is_model = open_.size() == 1 && key_ == "model" && container.is_object();
    Json* added = add(std::move(container));
    if (added == nullptr) return false;
    open_.push_back(added);
    if (is_model) model_ = added;
    return deeper();
  }
  bool end() {
    --depth_;
    switch (place_) {
      case Place::merge:
        if (halves_.size() != 2) return refuse_merge();
        out_.merges.emplace_back(std::move(halves_[0]), std::move(halves_[1]));
        place_ = Place::merges;
        return true;
      case Place::scores:
        if (skipped_depth_ > 0) {
          --skipped_depth_;
          return true;
        }
        [[fallthrough]];
      case Place::vocabulary:
      case Place::merges:
        place_ = Place::rest;
        return true;
      case Place::rest:
        break;
    }
    open_.pop_back();
    return true;
  }

  TokenizerJson& out_;
  Place place_ = Place::rest;
  // Containers that are not finished yet: children never move while their parent's last element
  // is the one that grows
  std::vector<Json*> open_;
  Json* model_ = nullptr;
  std::string key_;
  std::vector<std::string> halves_;
  std::size_t depth_ = 0, skipped_depth_ = 0;
  std::optional<std::string> problem_;
};

}  // namespace

Result<TokenizerJson> read_tokenizer_json(std::string_view text) {
  if (text.size() > kMostBytes) return Error{Errc::malformed, "larger than 256 MiB"};
  TokenizerJson out;
  Handler handler(out);
  try {
    if (!Json::sax_parse(text, &handler) && !handler.problem())
      return Error{Errc::malformed, "not valid JSON"};
  } catch (const nlohmann::json::exception&) {
    return Error{Errc::malformed, "not valid JSON"};
  }
  if (handler.problem()) return Error{Errc::malformed, *handler.problem()};
  return out;
}

}  // namespace rigwise::engine
