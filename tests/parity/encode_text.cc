// Token ids of texts, for comparison with the `tokenizers` package.
//
//   encode_text TOKENIZER_JSON_OR_FOLDER < requests > answers
//
// A request is a line of JSON: {"hex": bytes of a text, "special": bool}. The answer is a line:
// {"ids": […], "text": decoded without special tokens, "full": decoded with them} or {"error": …}.
#include <cstdio>
#include <iostream>
#include <string>

#include "base/json.h"
#include "engine/text/tokenizer.h"

int main(int argc, char** argv) {
  using namespace rigwise;
  if (argc != 2) return 2;
  auto tokenizer = engine::Tokenizer::read(argv[1]);
  if (!tokenizer) {
    std::fprintf(stderr, "%s\n%s\n", tokenizer.error().message.c_str(),
                 tokenizer.error().hint.c_str());
    return 1;
  }
  for (std::string line; std::getline(std::cin, line);) {
    const auto request = parse_json(line);
    const auto hex = request ? get<std::string>(*request, "hex") : std::nullopt;
    if (!hex) return 2;
    std::string text;
    for (std::size_t i = 0; i + 1 < hex->size(); i += 2)
      text += static_cast<char>(std::stoi(hex->substr(i, 2), nullptr, 16));
    Json answer;
    auto ids = tokenizer->encode(text, get<bool>(*request, "special").value_or(true));
    if (ids) {
      answer = {{"ids", *ids},
                {"text", tokenizer->decode(*ids)},
                {"full", tokenizer->decode(*ids, false)}};
    } else {
      answer = {{"error", ids.error().message}};
    }
    std::cout << answer.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  }
  return 0;
}
