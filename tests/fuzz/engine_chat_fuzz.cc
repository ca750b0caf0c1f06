// Any bytes as a chat template: no crash, no hang, bounded output; what the assistant said lies in
// the text, in order, apart.
#include <string_view>

#include "engine/text/chat_template.h"
#include "hold.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace rigwise;
  using namespace rigwise::engine;
  static const Json chats = *parse_json(R"([
    {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": " a b\n"},
      {"role": "assistant", "content": "<think>\nx\n</think>\ny"}, {"role": "user", "content": "12"},
      {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"k": 1.5}}]}],
     "tools": [{"type": "function", "function": {"name": "f"}}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "t"}]}]}])");
  TokenizerSettings settings;
  settings.bos_token = "<s>";
  settings.eos_token = "</s>";
  const auto chat = ChatTemplate::parse({reinterpret_cast<const char*>(data), size}, settings);
  if (!chat) return 0;
  for (const auto& messages : chats) {
    const auto out = chat->render(messages, true);
    if (!out || !out->assistant) continue;
    std::size_t at = 0;
    for (const auto& [begin, end] : *out->assistant) {
      hold(at <= begin && begin < end && end <= out->text.size(), "spans in order");
      at = end;
    }
  }
  return 0;
}
