#include "engine/text/chat_template.h"

#include <algorithm>

#include "base/text.h"

namespace rigwise::engine {

namespace {

using Span = std::pair<std::size_t, std::size_t>;

/// As transformers has it: whatever name the reasoning came under, the template finds it.
Json with_reasoning(Json message) {
  if (!message.is_object()) return message;
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    if (!message.contains(name) || message[name].is_null()) continue;
    const Json reasoning = message[name];
    if (!message.contains("thinking")) message["thinking"] = reasoning;
    message["reasoning_content"] = reasoning;
    break;
  }
  return message;
}

std::string_view trimmed_end(std::string_view text) {
  const auto last = text.find_last_not_of(" \t\r\n");
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

bool is_assistant(const Json& message) {
  return message.is_object() && get<std::string>(message, "role") == "assistant";
}

/// What the assistant said in the text that its message became.
std::optional<Span> said(std::string_view text, Span region, const Json& message,
                         std::string_view opening) {
  std::string_view turn = text.substr(region.first, region.second - region.first);
  const std::string content(trim(get<std::string>(message, "content").value_or("")));
  std::size_t begin = 0;
  if (!opening.empty() && turn.starts_with(opening)) {
    begin = opening.size();
  } else if (const auto at = turn.find(content); !content.empty() && at != std::string_view::npos) {
    begin = at;
  }
  turn.remove_prefix(begin);
  // White space behind an end marker is not said; without a marker it may be the end itself
  const std::string_view whole = trimmed_end(turn);
  const bool marked = !whole.ends_with(content) || content.empty();
  if (marked) turn = whole;
  if (turn.empty()) return std::nullopt;
  return Span{region.first + begin, region.first + begin + turn.size()};
}

}  // namespace

Result<ChatTemplate> ChatTemplate::parse(std::string_view source,
                                         const TokenizerSettings& settings) {
  auto jinja = JinjaTemplate::parse(source);
  if (!jinja) return std::move(jinja).error().at("chat template");
  ChatTemplate out;
  out.jinja_ = std::move(*jinja);
  const auto put_token = [&](const char* key, const std::optional<std::string>& token) {
    if (token) out.tokens_[key] = *token;
  };
  put_token("bos_token", settings.bos_token);
  put_token("eos_token", settings.eos_token);
  put_token("unk_token", settings.unk_token);
  put_token("pad_token", settings.pad_token);
  const Json probe = {{"messages", {{{"role", "user"}, {"content", "x"}}}}};
  const auto without = out.run(probe, false), with = out.run(probe, true);
  if (without && with && with->text.starts_with(without->text))
    out.opening_ = with->text.substr(without->text.size());
  return out;
}

Result<ChatTemplate> ChatTemplate::of(const TokenizerSettings& settings, const std::string& name) {
  if (const auto* source = settings.chat_template(name)) return parse(*source, settings);
  std::vector<std::string> names;
  for (const auto& [key, text] : settings.chat_templates) names.push_back(key);
  return Error{Errc::not_found,
               names.empty() ? std::string("the tokenizer has no chat template")
                             : "the tokenizer has no chat template called '" + name + "'",
               names.empty() ? "Give prompt and completion instead of messages, or add "
                               "chat_template.jinja to the model's folder."
                             : "It has: " + join(names, ", ") + "."};
}

Result<JinjaOutput> ChatTemplate::run(const Json& chat, bool add_generation_prompt) const {
  // As transformers passes them: tools and documents are None where they are not given
  Json variables = {{"messages", Json::array()}, {"tools", nullptr}, {"documents", nullptr}};
  for (const auto& [key, value] : tokens_.items()) variables[key] = value;
  for (const auto& [key, value] : chat.items()) variables[key] = value;
  for (auto& message : variables["messages"]) message = with_reasoning(std::move(message));
  variables["add_generation_prompt"] = add_generation_prompt;
  std::tm now = {};
  if (now_) {
    now = *now_;
  } else {
    const std::time_t seconds = std::time(nullptr);
    ::localtime_r(&seconds, &now);
  }
  return jinja_.render(variables, "messages", &now);
}

Result<RenderedChat> ChatTemplate::render(const Json& chat, bool add_generation_prompt) const {
  const auto messages = chat.is_object() ? chat.find("messages") : chat.end();
  if (!chat.is_object() || messages == chat.end() || !messages->is_array() || messages->empty())
    return Error{Errc::malformed, "messages is not a list of messages"};
  for (const auto& message : *messages) {
    if (!message.is_object() || !get<std::string>(message, "role"))
      return Error{Errc::malformed, "a message has no role"};
  }
  auto output = run(chat, add_generation_prompt);
  if (!output) return std::move(output).error().at("chat template");
  RenderedChat out;
  out.text = std::move(output->text);
  std::vector<Span> spans;
  if (jinja_.marks_generation()) {
    for (const auto& region : output->generations) spans.emplace_back(region.begin, region.end);
    if (!output->generation_lost) out.assistant = std::move(spans);
    return out;
  }
  std::vector<bool> found(messages->size(), false);
  for (const auto& region : output->regions) {
    const Json& message = (*messages)[region.item];
    found[region.item] = true;
    if (!is_assistant(message)) continue;
    if (const auto span = said(out.text, {region.begin, region.end}, message, opening_))
      spans.push_back(*span);
  }
  std::sort(spans.begin(), spans.end());
  for (std::size_t i = 0; i < messages->size(); ++i) {
    if (is_assistant((*messages)[i]) && !found[i]) return out;  // written elsewhere
  }
  for (std::size_t i = 1; i < spans.size(); ++i) {
    if (spans[i].first < spans[i - 1].second) return out;  // a loop in a loop over messages
  }
  out.assistant = std::move(spans);
  return out;
}

}  // namespace rigwise::engine
