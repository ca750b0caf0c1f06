// Texts are held to golden.json: what transformers' renderer gives (tests/fixtures/chat_templates/
// make.py). Templates of many more models: tests/parity/chat_template_parity.py.
#include <gtest/gtest.h>

#include "engine/text/chat_template.h"
#include "unit/engine_made_files.h"

namespace rigwise::engine {
namespace {

std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(RIGWISE_FIXTURES) / "chat_templates" / name;
}

const Json& golden() {
  static const Json json = *parse_json(file_bytes(fixture("golden.json")));
  return json;
}

TokenizerSettings tokens() {
  TokenizerSettings out;
  out.bos_token = "<s>";
  out.eos_token = "</s>";
  return out;
}

TEST(Jinja, SnippetsGiveWhatJinjaGives) {
  for (const auto& snippet : golden()["snippets"]) {
    const auto source = snippet[0].get<std::string>();
    const auto parsed = JinjaTemplate::parse(source);
    const auto out =
        parsed ? parsed->render(golden()["variables"]) : Result<JinjaOutput>(parsed.error());
    if (snippet[1].is_null()) {
      EXPECT_FALSE(out.ok()) << source;
      continue;
    }
    ASSERT_TRUE(out.ok()) << source << "\n" << out.error().message;
    EXPECT_EQ(out->text, snippet[1].get<std::string>()) << source;
  }
}

std::string why(std::string_view source) {
  const auto parsed = JinjaTemplate::parse(source);
  if (!parsed) return parsed.error().message;
  const auto out = parsed->render({{"n", 3}, {"t", "abc"}});
  return out ? "" : out.error().message;
}

TEST(Jinja, WhatIsNotSupportedIsNamedWithItsLine) {
  const auto says = [](std::string_view source, const std::string& line, const std::string& word) {
    const auto message = why(source);
    EXPECT_TRUE(message.starts_with("line " + line + ": ")) << source << "\n" << message;
    EXPECT_NE(message.find(word), std::string::npos) << source << "\n" << message;
  };
  says("a\n{% include 'x' %}", "2", "{% include %}");
  says("{% call f() %}{% endcall %}", "1", "{% call %}");
  says("\n\n{{ n | wordwrap }}", "3", "filter 'wordwrap'");
  says("{{ n is prime }}", "1", "test 'prime'");
  says("{{ t.encode() }}", "1", "method 'encode' of a text");
  says("{{ 1 < 2 < 3 }}", "1", "chain of comparisons");
  says("{{ '%s' % 1 }}", "1", "'%' on a text");
  says("{% for a in b recursive %}{% endfor %}", "1", "recursive");
  says("{{ f(*a) }}", "1", "'*' in a call");
  says("x\n{% if n %}\n{{ raise_exception('not so') }}{% endif %}", "3", "not so");
  says("{{ m.x.y }}", "1", "'m' is undefined");
  says("{{ n.x.y }}", "1", "'x' is undefined");
  says("{% endfor %}", "1", "unexpected {% endfor %}");
  says("{% if n %}\n\n", "2", "{% endif %} is missing");
}

TEST(Jinja, HostileTemplatesAreBounded) {
  const std::size_t many = 100'000;
  EXPECT_NE(why("{{ " + std::string(many, '(') + "1" + std::string(many, ')') + " }}").find("deep"),
            std::string::npos);
  EXPECT_NE(why("{{ " + std::string(many, '[') + std::string(many, ']') + " }}").find("deep"),
            std::string::npos);
  std::string chain = "{{ 1";
  for (int i = 0; i < 100'000; ++i) chain += "+1";
  EXPECT_NE(why(chain + " }}").find("200"), std::string::npos);
  std::string filters = "{{ t";
  for (int i = 0; i < 100'000; ++i) filters += "|trim";
  EXPECT_NE(why(filters + " }}").find("200"), std::string::npos);
  std::string nots = "{{ ", minus = "{{ ";
  for (int i = 0; i < 100'000; ++i) nots += "not ", minus += "-";
  for (const auto& each : {nots, minus})
    EXPECT_NE(why(each + "1 }}").find("deep"), std::string::npos);
  std::string blocks;
  for (int i = 0; i < 10'000; ++i) blocks += "{% if n %}";
  EXPECT_NE(why(blocks).find("deep"), std::string::npos);
  // Work and size
  const std::string loops =
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
  EXPECT_NE(why(loops).find("too many steps"), std::string::npos);
  const std::string doubling =
      "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% "
      "endfor %}";
  EXPECT_NE(why(doubling).find("64 MiB"), std::string::npos);
  EXPECT_NE(why("{{ 'x' * 99999999999 }}").find("64 MiB"), std::string::npos);
  EXPECT_NE(why("{{ ('x' * 60000000).replace('', 'yyyyyyyy') }}").find("64 MiB"),
            std::string::npos);
  EXPECT_NE(why("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").find("64 deep"),
            std::string::npos);
  EXPECT_NE(why("{{ 9223372036854775807 + 1 }}").find("out of range"), std::string::npos);
  EXPECT_NE(why("{{ 2 ** 999999999 }}").find("out of range"), std::string::npos);
  EXPECT_NE(why("{% set ns = namespace(a=1) %}{% set ns.b = ns %}{{ ns }}").find("deep"),
            std::string::npos);
}

TEST(Jinja, CutAtAnyByteIsAnErrorOrATemplate) {
  for (const std::string name : {"qwen3.jinja", "marked.jinja", "mistral_manner.jinja"}) {
    const std::string whole = file_bytes(fixture(name));
    for (std::size_t cut = 0; cut < whole.size(); ++cut) {
      const auto parsed = JinjaTemplate::parse(whole.substr(0, cut));
      if (parsed) (void)parsed->render(golden()["chats"][1]).ok();
    }
  }
}

TEST(ChatTemplate, GivesTheTextOfTransformers) {
  for (const auto& [name, texts] : golden()["templates"].items()) {
    const auto chat = ChatTemplate::parse(file_bytes(fixture(name)), tokens());
    ASSERT_TRUE(chat.ok()) << name << ": " << chat.error().message;
    std::size_t i = 0;
    for (const auto& messages : golden()["chats"]) {
      for (const bool generation : {false, true}) {
        const auto out = chat->render(messages, generation);
        const Json& want = texts[i++];
        if (want.is_null()) {
          EXPECT_FALSE(out.ok()) << name << " " << i;
        } else {
          ASSERT_TRUE(out.ok()) << name << ": " << out.error().message;
          EXPECT_EQ(out->text, want.get<std::string>()) << name << " " << i;
        }
      }
    }
  }
}

std::vector<std::string> said(const std::string& name, const Json& chat) {
  const auto parsed = ChatTemplate::parse(file_bytes(fixture(name)), tokens());
  const auto out = parsed->render(chat);
  if (!out || !out->assistant) return {"not told"};
  std::vector<std::string> texts;
  for (const auto& [begin, end] : *out->assistant)
    texts.push_back(out->text.substr(begin, end - begin));
  return texts;
}

TEST(ChatTemplate, TellsWhatTheAssistantSaid) {
  const Json chat = {{"messages",
                      {{{"role", "user"}, {"content", "Yo"}},
                       {{"role", "assistant"}, {"content", "Yo"}},
                       {{"role", "user"}, {"content", "more"}},
                       {{"role", "assistant"}, {"content", "No. "}}}}};
  using Texts = std::vector<std::string>;
  EXPECT_EQ(said("llama2_manner.jinja", chat), (Texts{"Yo </s>", "No. </s>"}));
  EXPECT_EQ(said("llama3_manner.jinja", chat), (Texts{"Yo<|eot_id|>", "No.<|eot_id|>"}));
  EXPECT_EQ(said("mistral_manner.jinja", chat), (Texts{"Yo</s>", "No.</s>"}));
  EXPECT_EQ(said("gemma_manner.jinja", chat), (Texts{"Yo<end_of_turn>", "No.<end_of_turn>"}));
  EXPECT_EQ(said("zephyr_manner.jinja", chat), (Texts{"Yo</s>", "No. </s>"}));
  EXPECT_EQ(said("smollm2.jinja", chat), (Texts{"Yo<|im_end|>", "No. <|im_end|>"}));
  EXPECT_EQ(said("marked.jinja", chat), (Texts{"Yo<|end|>", "No. <|end|>"}));
  // The last turn has an empty thought before it, the earlier ones do not
  EXPECT_EQ(said("qwen3.jinja", chat),
            (Texts{"Yo<|im_end|>", "<think>\n\n</think>\n\nNo. <|im_end|>"}));
  // Tool calls are said, results of tools are not
  EXPECT_EQ(said("qwen3.jinja", golden()["chats"][3]).size(), 2U);
}

TEST(ChatTemplate, SaysWhenItCannotTell) {
  const Json chat = {
      {"messages",
       {{{"role", "user"}, {"content", "a"}}, {{"role", "assistant"}, {"content", "b"}}}}};
  for (const char* source :
       {"{{ messages[0].content }}{{ messages[1].content }}",
        "{% set all %}{% for m in messages %}{{ m.content }}{% endfor %}{% endset %}{{ all }}",
        "{% set x %}{% generation %}b{% endgeneration %}{% endset %}{{ x }}"}) {
    const auto out = ChatTemplate::parse(source, tokens())->render(chat);
    ASSERT_TRUE(out.ok());
    EXPECT_FALSE(out->assistant) << source;
  }
}

TEST(ChatTemplate, ClockTokensAndErrors) {
  auto chat = ChatTemplate::parse(
      "{{ strftime_now('%d %b %Y') }}{{ bos_token }}{{ pad_token is defined }}{{ tools is none }}",
      tokens());
  std::tm now = {};
  now.tm_mday = 26, now.tm_mon = 6, now.tm_year = 124;
  chat->set_clock(now);
  const Json hi = {{"messages", {{{"role", "user"}, {"content", "a"}}}}};
  EXPECT_EQ(chat->render(hi)->text, "26 Jul 2024<s>FalseTrue");
  for (const Json& bad :
       {Json(), Json(3), Json::object(), Json{{"messages", "x"}}, Json{{"messages", Json::array()}},
        Json{{"messages", {1}}}, Json{{"messages", {{{"content", "x"}}}}}})
    EXPECT_FALSE(chat->render(bad).ok());
  TokenizerSettings none;
  EXPECT_EQ(ChatTemplate::of(none).error().code, Errc::not_found);
  none.chat_templates = {{"default", "x"}, {"tool_use", "{% broken %}"}};
  EXPECT_TRUE(ChatTemplate::of(none).ok());
  EXPECT_NE(ChatTemplate::of(none, "tool_use").error().message.find("line 1"), std::string::npos);
  EXPECT_NE(ChatTemplate::of(none, "rag").error().hint.find("tool_use"), std::string::npos);
}

}  // namespace
}  // namespace rigwise::engine
