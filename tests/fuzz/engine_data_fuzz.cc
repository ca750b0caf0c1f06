// Any bytes as training data: no crash, no hang; every token is in one window, and each target is
// the token behind it.
#include <string_view>

#include "engine/data/windows.h"
#include "hold.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace rigwise::engine;
  if (size == 0) return 0;
  static Tokenizer tokenizer = [] {
    TokenizerSettings settings;
    settings.eos_token = "<|endoftext|>";
    settings.chat_templates = {{"default",
                                "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content "
                                "}}<|im_end|>\n{% endfor %}"}};
    std::string json;
    FILE* file = std::fopen(RIGWISE_FIXTURES "/tokenizers/gpt2.json", "rb");
    for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) json += static_cast<char>(c);
    std::fclose(file);
    return *Tokenizer::parse(json, "gpt2.json", settings);
  }();
  const unsigned pick = data[0];
  auto read = parse_documents({reinterpret_cast<const char*>(data + 1), size - 1},
                              pick % 2 == 0 ? "a.txt" : "a.jsonl", tokenizer,
                              {.train_on_prompts = pick % 4 >= 2});
  if (!read) return 0;
  const auto documents = std::make_shared<const Documents>(std::move(*read));
  hold(documents->size() > 0 && documents->tokens() == documents->statistics().tokens, "counts");
  for (const auto pack : {Pack::concat, Pack::documents, Pack::none}) {
    const std::int64_t seq = 2 + pick / 4;
    const auto windows = Windows::make(documents, pack, seq, 0);
    if (!windows) continue;
    std::int64_t tokens = 0, predicted = 0;
    for (std::size_t i = 0; i < windows->size(); ++i) {
      const auto window = windows->window(i);
      hold(window.segments.front() == 0 &&
               window.segments.back() == static_cast<std::int32_t>(window.ids.size()),
           "segments cover the window");
      for (std::size_t t = 0; t < window.ids.size(); ++t) {
        hold(window.ids[t] >= 0 && window.ids[t] < tokenizer.id_end(), "an id");
        hold(window.targets[t] == kIgnored ||
                 (t + 1 < window.ids.size() && window.targets[t] == window.ids[t + 1]),
             "a target is the next token");
      }
      tokens += window.tokens;
      predicted += window.predicted;
    }
    hold(tokens + windows->statistics().truncated_tokens == documents->tokens(),
         "every token once");
    hold(predicted == windows->statistics().predicted, "predictions counted");
  }
  return 0;
}
