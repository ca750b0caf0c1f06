#include "engine/text/added_tokens.h"

#include <algorithm>

#include "engine/text/unicode.h"

namespace rigwise::engine {

namespace {

bool word_at(std::string_view text, std::size_t at) {
  return at < text.size() && is_word(next_char(text, at));
}

bool word_before(std::string_view text, std::size_t at) {
  return at > 0 && word_at(text, char_before(text, at));
}

std::size_t white_begin(std::string_view text, std::size_t at) {
  while (at > 0) {
    const std::size_t begin = char_before(text, at);
    std::size_t behind = begin;
    if (!is_white(next_char(text, behind))) break;
    at = begin;
  }
  return at;
}

std::size_t white_end(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    std::size_t behind = at;
    if (!is_white(next_char(text, behind))) break;
    at = behind;
  }
  return at;
}

}  // namespace

void AddedTokenFinder::add(const AddedToken& token, std::string content) {
  if (content.empty()) return;
  auto& lengths = by_first_[static_cast<unsigned char>(content.front())].lengths;
  const auto place =
      std::lower_bound(lengths.begin(), lengths.end(), content.size(), std::greater<>());
  if (place == lengths.end() || *place != content.size()) lengths.insert(place, content.size());
  tokens_.emplace(std::move(content), token);
}

std::optional<AddedTokenFinder::Hit> AddedTokenFinder::find(std::string_view text,
                                                            std::size_t from) const {
  std::string key;
  for (std::size_t at = from; at < text.size(); ++at) {
    for (const std::size_t length : by_first_[static_cast<unsigned char>(text[at])].lengths) {
      if (at + length > text.size()) continue;
      key.assign(text, at, length);
      if (const auto found = tokens_.find(key); found != tokens_.end())
        return Hit{at, at + length, &found->second};
    }
  }
  return std::nullopt;
}

std::vector<TextPiece> AddedTokenFinder::cut(std::string_view text) const {
  std::vector<TextPiece> out;
  std::size_t done = 0;
  const auto text_until = [&](std::size_t end) {
    if (end > done) out.push_back({text.substr(done, end - done), {}});
  };
  std::size_t from = 0;
  while (const auto hit = find(text, from)) {
    from = hit->end;
    if (hit->token->single_word && (word_before(text, hit->begin) || word_at(text, hit->end)))
      continue;
    std::size_t begin = hit->begin, end = hit->end;
    if (hit->token->lstrip) begin = std::max(white_begin(text, begin), done);
    if (hit->token->rstrip) end = white_end(text, end);
    text_until(begin);
    out.push_back({{}, hit->token->id});
    done = end;
  }
  text_until(text.size());
  return out;
}

}  // namespace rigwise::engine
