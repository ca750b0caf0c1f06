// Any bytes as tokenizer.json, and as a text through the small tokenizers of tests/fixtures: no
// crash, no hang; ids are ids of the tokenizer, decoded text is UTF-8, byte-level text comes back.
#include <algorithm>
#include <string_view>

#include "engine/text/tokenizer.h"
#include "engine/text/unicode.h"
#include "hold.h"

namespace {

using rigwise::engine::Tokenizer;

void encode(Tokenizer& tokenizer, std::string_view text) {
  const std::pair<std::size_t, std::size_t> spans[] = {{text.size() / 3, text.size() / 2}};
  const auto marked = tokenizer.encode_marked(text, spans);
  if (!marked) return;
  hold(marked->ids.size() == marked->inside.size(), "one mark a token");
  for (const auto id : marked->ids) {
    hold(id >= 0 && id < tokenizer.id_end() && tokenizer.token(id) != nullptr, "an id of its own");
  }
  const auto again = tokenizer.encode(text);
  hold(again.ok() && *again == marked->ids, "the same ids from memory");
  for (const bool skip : {false, true}) {
    const auto back = tokenizer.decode(marked->ids, skip);
    hold(rigwise::engine::first_invalid_utf8(back) == std::string::npos, "decoded UTF-8");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto own = Tokenizer::parse(bytes, "tokenizer.json");
  if (own) {
    for (const std::string_view text :
         {std::string_view("Hello  w\u00f6rld, it's 12 o'clock\r\n\n <|endoftext|> <s>▁x\t"),
          bytes.substr(0, 2048)})
      encode(*own, text);
  }
  static std::vector<Tokenizer> known = [] {
    std::vector<Tokenizer> out;
    for (const char* name :
         {"gpt2", "llama3", "qwen", "falcon", "llama2", "metaspace_first", "odd"})
      out.push_back(
          *Tokenizer::read(std::string(RIGWISE_FIXTURES "/tokenizers/") + name + ".json"));
    return out;
  }();
  encode(known[size % known.size()], bytes);
  const auto ids = known[0].encode(bytes);
  hold(ids.ok() && known[0].decode(*ids, false) == rigwise::engine::replace_invalid_utf8(bytes),
       "byte-level text comes back");
  return 0;
}
