// A model's own chat template: messages → the text it was trained on, and which part of it the
// assistant said.
//
// The text is that of transformers' apply_chat_template. What the assistant said is found, in this
// order: by {% generation %} blocks; by what the template wrote while its loop stood at an
// assistant's message, without the words that open the assistant's turn (those of the generation
// prompt, or else what stands before the content). Both are exact for the text as it is rendered,
// also where a template treats the last turn in another way than the earlier ones.
#pragma once

#include <cstddef>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "engine/text/jinja.h"
#include "engine/text/tokenizer_settings.h"
#include "rigwise/result.h"

namespace rigwise::engine {

struct RenderedChat {
  std::string text = {};
  /// Bytes of `text`, in order, apart. Nothing where they could not be told.
  std::optional<std::vector<std::pair<std::size_t, std::size_t>>> assistant = {};
};

class ChatTemplate {
 public:
  /// `settings` gives the special tokens that a template may name. Errors: malformed, unavailable,
  /// with the template's line.
  static Result<ChatTemplate> parse(std::string_view source, const TokenizerSettings& settings);
  /// The one that `settings` holds under that name. Errors: also not_found (the hint lists names).
  static Result<ChatTemplate> of(const TokenizerSettings& settings,
                                 const std::string& name = "default");

  /// `chat`: {"messages": […], "tools": […], any other variable of the template}. Errors: malformed
  /// (no messages, or the template refuses them), unavailable.
  [[nodiscard]] Result<RenderedChat> render(const Json& chat,
                                            bool add_generation_prompt = false) const;

  /// What strftime_now says; without it, the time of the call.
  void set_clock(const std::tm& now) { now_ = now; }

 private:
  Result<JinjaOutput> run(const Json& chat, bool add_generation_prompt) const;
  JinjaTemplate jinja_;
  Json tokens_ = Json::object();  // bos_token …
  std::string opening_ = {};      // of the assistant's turn
  std::optional<std::tm> now_ = {};
};

}  // namespace rigwise::engine
