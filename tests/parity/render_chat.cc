// Renders chats through a template, for comparison with transformers.
//
//   render_chat TEMPLATE_FILE < requests > answers
//
// A request is a line of JSON: {"chat": {"messages": …}, "generation": bool, "tokens":
// {"bos_token": …}}. The answer is a line: {"text": …, "assistant": [texts] or null} or {"error":
// …}.
#include <cstdio>
#include <iostream>

#include "base/files.h"
#include "engine/text/chat_template.h"

int main(int argc, char** argv) {
  using namespace rigwise;
  if (argc != 2) return 2;
  const auto source = read_file(argv[1]);
  if (!source) return 1;
  for (std::string line; std::getline(std::cin, line);) {
    const auto request = parse_json(line);
    if (!request) return 2;
    engine::TokenizerSettings settings;
    settings.bos_token = get<std::string>((*request)["tokens"], "bos_token");
    settings.eos_token = get<std::string>((*request)["tokens"], "eos_token");
    auto chat = engine::ChatTemplate::parse(*source, settings);
    Json answer;
    if (!chat) {
      answer = {{"error", chat.error().message}};
    } else {
      const auto out =
          chat->render((*request)["chat"], get<bool>(*request, "generation").value_or(false));
      if (!out) {
        answer = {{"error", out.error().message}};
      } else {
        answer = {{"text", out->text}, {"assistant", nullptr}};
        if (out->assistant) {
          answer["assistant"] = Json::array();
          for (const auto& [begin, end] : *out->assistant)
            answer["assistant"].push_back(out->text.substr(begin, end - begin));
        }
      }
    }
    std::cout << answer.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  }
  return 0;
}
