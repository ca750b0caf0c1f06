#include "engine/text/tokenizer.h"

#include <algorithm>
#include <unordered_map>

#include "base/files.h"
#include "base/text.h"
#include "engine/text/added_tokens.h"
#include "engine/text/bpe.h"
#include "engine/text/text_steps.h"
#include "engine/text/tokenizer_json.h"
#include "engine/text/unicode.h"

namespace rigwise::engine {

namespace {

constexpr std::uint64_t kMostFileBytes = std::uint64_t{256} << 20;
constexpr std::size_t kMostTextBytes = std::size_t{1} << 30, kMostAdded = 1 << 20;
constexpr std::size_t kMostPostIds = 64;
constexpr std::string_view kSupported =
    "Supported are byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) and SentencePiece BPE (Llama 2, "
    "Mistral).";

std::string shown(std::string_view text) {
  return "'" + clean_text(text, 60) + "'";
}

/// What goes around every text.
struct PostProcessor {
  std::vector<std::int32_t> prefix = {}, suffix = {};
};

Status read_template(const Json& json, const std::string& place, PostProcessor& out) {
  const auto malformed = [&](const std::string& why) {
    return Error{Errc::malformed, place + ": " + why};
  };
  const auto single = json.find("single");
  if (single == json.end() || !single->is_array() || single->size() > kMostPostIds)
    return malformed("single must be a short list");
  PostProcessor around;
  bool seen_text = false;
  for (const auto& item : *single) {
    if (item.is_object() && item.contains("Sequence")) {
      if (seen_text) return malformed("single has more than one Sequence");
      seen_text = true;
      continue;
    }
    const auto special = item.is_object() ? item.find("SpecialToken") : item.end();
    if (!item.is_object() || special == item.end() || !special->is_object())
      return malformed("single holds something other than Sequence and SpecialToken");
    const auto name = get<std::string>(*special, "id");
    const auto tokens = json.find("special_tokens");
    if (!name || tokens == json.end() || !tokens->is_object() || !tokens->contains(*name))
      return malformed("special_tokens has no entry for " + shown(name.value_or("")));
    const auto& token = (*tokens)[*name];
    const auto ids = token.is_object() ? token.find("ids") : token.end();
    if (!token.is_object() || ids == token.end() || !ids->is_array() || ids->size() > kMostPostIds)
      return malformed("special_tokens." + clean_text(*name, 60) + " has no ids");
    for (const auto& id : *ids) {
      if (!id.is_number_integer() || id.get<std::int64_t>() < 0 ||
          id.get<std::int64_t>() > INT32_MAX)
        return malformed("special_tokens." + clean_text(*name, 60) + " has an id out of range");
      (seen_text ? around.suffix : around.prefix).push_back(id.get<std::int32_t>());
    }
  }
  if (!seen_text) return malformed("single has no Sequence");
  out.prefix.insert(out.prefix.begin(), around.prefix.begin(), around.prefix.end());
  out.suffix.insert(out.suffix.end(), around.suffix.begin(), around.suffix.end());
  return Ok{};
}

Status read_post_processor(const Json& json, const std::string& place, int depth,
                           PostProcessor& out) {
  if (json.is_null()) return Ok{};
  const auto type = json.is_object() ? get<std::string>(json, "type") : std::nullopt;
  if (!type) return Error{Errc::malformed, place + ": has no type"};
  if (*type == "ByteLevel") return Ok{};  // offsets alone
  if (*type == "TemplateProcessing") return read_template(json, place, out);
  if (*type == "Sequence" && depth < 8) {
    const auto list = json.find("processors");
    if (list == json.end() || !list->is_array() || list->size() > kMostPostIds)
      return Error{Errc::malformed, place + ": a Sequence without a short list of processors"};
    std::size_t i = 0;
    for (const auto& inner : *list)
      RW_CHECK(read_post_processor(inner, place + "[" + std::to_string(i++) + "]", depth + 1, out));
    return Ok{};
  }
  return Error{Errc::unavailable, place + ": type " + shown(*type) + " is not supported",
               "TemplateProcessing, ByteLevel and Sequence are."};
}

Result<std::vector<AddedToken>> read_added_tokens(const Json& json) {
  std::vector<AddedToken> out;
  const auto list = json.find("added_tokens");
  if (list == json.end() || list->is_null()) return out;
  if (!list->is_array() || list->size() > kMostAdded)
    return Error{Errc::malformed, "added_tokens is not a list of at most 1,048,576 tokens"};
  for (const auto& item : *list) {
    const std::string place = "added_tokens[" + std::to_string(out.size()) + "]";
    AddedToken token;
    const auto content = item.is_object() ? get<std::string>(item, "content") : std::nullopt;
    const auto id = item.is_object() && item.contains("id") && item["id"].is_number_integer()
                        ? item["id"].get<std::int64_t>()
                        : -1;
    if (!content || content->empty() || id < 0 || id >= 1 << 22)
      return Error{Errc::malformed, place + ": needs content and an id from 0 to 4194303"};
    token.id = static_cast<std::int32_t>(id);
    token.content = *content;
    token.single_word = get<bool>(item, "single_word").value_or(false);
    token.lstrip = get<bool>(item, "lstrip").value_or(false);
    token.rstrip = get<bool>(item, "rstrip").value_or(false);
    token.special = get<bool>(item, "special").value_or(false);
    token.normalized = get<bool>(item, "normalized").value_or(!token.special);
    out.push_back(std::move(token));
  }
  return out;
}

Result<BpeOptions> read_bpe_options(const TokenizerJson& json) {
  const auto model = json.rest.find("model");
  if (model == json.rest.end() || !model->is_object())
    return Error{Errc::malformed, "has no model: not a tokenizer.json"};
  std::string type = get<std::string>(*model, "type").value_or("");
  if (type.empty()) {  // files from before `type` was written
    type = json.has_vocabulary_list                                              ? "Unigram"
           : model->contains("continuing_subword_prefix") && json.merges.empty() ? "WordPiece"
                                                                                 : "BPE";
  }
  if (type != "BPE")
    return Error{Errc::unavailable, "model.type is " + shown(type) + ", which is not supported",
                 std::string(kSupported)};
  if (json.has_vocabulary_list)
    return Error{Errc::malformed, "model.vocab is a list, BPE needs an object"};
  const auto refuse = [&](const char* key) {
    return Error{
        Errc::unavailable,
        std::string("model.") + key + " is " +
            clean_text((*model)[key].dump(-1, ' ', false, Json::error_handler_t::replace), 60) +
            ", which is not supported",
        std::string(kSupported)};
  };
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (model->contains(key) && !(*model)[key].is_null() && (*model)[key] != "") return refuse(key);
  }
  if (model->contains("dropout") && !(*model)["dropout"].is_null() && (*model)["dropout"] != 0)
    return refuse("dropout");
  BpeOptions out;
  out.unk_token = get<std::string>(*model, "unk_token");
  out.fuse_unk = get<bool>(*model, "fuse_unk").value_or(false);
  out.byte_fallback = get<bool>(*model, "byte_fallback").value_or(false);
  out.ignore_merges = get<bool>(*model, "ignore_merges").value_or(false);
  return out;
}

}  // namespace

struct Tokenizer::Tables {
  TextSteps steps;
  Bpe bpe;
  AddedTokenFinder raw, normalized;  // looked for before and after the normalizer
  std::unordered_map<std::int32_t, AddedToken> added = {};
  std::unordered_map<std::string, std::int32_t> added_ids = {};
  PostProcessor post = {};
  std::int32_t id_end = 0;
  TokenizerSettings settings = {};

  [[nodiscard]] std::optional<std::int32_t> id(std::string_view token) const {
    const auto found = added_ids.find(std::string(token));
    return found != added_ids.end() ? found->second : bpe.id(token);
  }
  [[nodiscard]] bool has(std::int32_t id) const {
    return added.contains(id) || bpe.token(id) != nullptr;
  }
  Status add(std::vector<AddedToken> tokens);
};

struct Tokenizer::Memory {
  Bpe::Memory words;
  TextScratch scratch;
  explicit Memory(const Tables& tables) {
    for (const auto& regex : tables.steps.regexes) scratch.emplace_back(regex);
  }
};

Status Tokenizer::Tables::add(std::vector<AddedToken> tokens) {
  TextScratch scratch;
  for (const auto& regex : steps.regexes) scratch.emplace_back(regex);
  std::optional<std::int32_t> largest;
  std::size_t i = 0;
  for (auto& token : tokens) {
    const std::string place = "added_tokens[" + std::to_string(i++) + "]: ";
    const auto known = id(token.content);
    if (known && *known != token.id)
      return Error{Errc::malformed, place + shown(token.content) + " has id " +
                                        std::to_string(token.id) + " and also " +
                                        std::to_string(*known)};
    // `tokenizers` numbers what the vocabulary lacks itself, whatever the file says
    const auto size = static_cast<std::int32_t>(bpe.size());
    const auto next = largest && *largest >= size ? *largest + 1 : size;
    if (!known && (token.id != next || bpe.token(next) != nullptr))
      return Error{Errc::malformed, place + shown(token.content) + " has id " +
                                        std::to_string(token.id) + ", the next free one is " +
                                        std::to_string(next)};
    largest = std::max(largest.value_or(0), token.id);
    added_ids[token.content] = token.id;
    if (token.normalized) {
      RW_TRY(auto content, normalize(steps, token.content, scratch));
      normalized.add(token, content);
      token.content = std::move(content);  // what it decodes to
    } else {
      raw.add(token, token.content);
    }
    id_end = std::max(id_end, token.id + 1);
    added[token.id] = std::move(token);
  }
  return Ok{};
}

Tokenizer::Tokenizer(std::shared_ptr<const Tables> tables)
    : tables_(std::move(tables)), memory_(std::make_unique<Memory>(*tables_)) {}
Tokenizer::Tokenizer(const Tokenizer& other) : Tokenizer(other.tables_) {}
Tokenizer& Tokenizer::operator=(const Tokenizer& other) {
  return *this = Tokenizer(other);
}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::parse(std::string_view tokenizer_json, std::string_view place,
                                   TokenizerSettings settings) {
  const auto make = [&]() -> Result<std::shared_ptr<const Tables>> {
    RW_TRY(auto json, read_tokenizer_json(tokenizer_json));
    RW_TRY(auto options, read_bpe_options(json));
    RW_TRY(auto steps, TextSteps::make(json.rest));
    RW_TRY(auto added, read_added_tokens(json.rest));
    RW_TRY(auto bpe, Bpe::make(std::move(json.vocabulary), json.merges, std::move(options)));
    auto tables = std::make_shared<Tables>(Tables{std::move(steps), std::move(bpe), {}, {}});
    tables->id_end = tables->bpe.id_end();
    RW_CHECK(tables->add(std::move(added)));
    if (json.rest.contains("post_processor"))
      RW_CHECK(read_post_processor(json.rest["post_processor"], "post_processor", 0, tables->post));
    for (const auto* ids : {&tables->post.prefix, &tables->post.suffix}) {
      for (const auto id : *ids) {
        if (!tables->has(id))
          return Error{Errc::malformed,
                       "post_processor: no token has the id " + std::to_string(id)};
      }
    }
    tables->settings = std::move(settings);
    return std::shared_ptr<const Tables>(std::move(tables));
  };
  auto tables = make();
  if (!tables) return std::move(tables).error().at(place);
  return Tokenizer(std::move(*tables));
}

Result<Tokenizer> Tokenizer::read(const std::filesystem::path& folder_or_file) {
  std::error_code ignored;
  auto file = folder_or_file;
  if (std::filesystem::is_directory(file, ignored)) file /= "tokenizer.json";
  auto text = read_file(file, kMostFileBytes);
  if (!text) {
    Error error = std::move(text).error();
    if (error.code != Errc::not_found) return error;
    error.hint = "A Hugging Face model folder holds tokenizer.json. " + std::string(kSupported);
    for (const char* other : {"tokenizer.model", "spiece.model", "vocab.txt", "tiktoken.model",
                              "vocab.json", "merges.txt"}) {
      if (std::filesystem::exists(file.parent_path() / other, ignored)) {
        error.hint = std::string("There is a ") + other +
                     ": AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of "
                     "transformers writes a tokenizer.json from it.";
        break;
      }
    }
    return error;
  }
  RW_TRY(auto settings, read_tokenizer_settings(file.parent_path()));
  return parse(*text, file.string(), std::move(settings));
}

Result<std::vector<std::int32_t>> Tokenizer::encode(std::string_view text, bool add_special) {
  if (text.size() > kMostTextBytes)
    return Error{Errc::unavailable, "a text above 1 GiB is not encoded in one piece"};
  std::string mended;
  if (first_invalid_utf8(text) != std::string_view::npos) {
    mended = replace_invalid_utf8(text);
    text = mended;
  }
  const Tables& tables = *tables_;
  std::vector<std::int32_t> out;
  out.reserve(text.size() / 4 + 8);
  if (add_special) out = tables.post.prefix;
  bool at_start = true;
  for (const auto& piece : tables.raw.cut(text)) {
    if (piece.token) {
      out.push_back(*piece.token);
      at_start = false;
      continue;
    }
    RW_TRY(const auto normal, normalize(tables.steps, piece.text, memory_->scratch));
    for (const auto& inner : tables.normalized.cut(normal)) {
      if (inner.token) {
        out.push_back(*inner.token);
      } else {
        RW_TRY(const auto words,
               pre_tokenize(tables.steps, inner.text, at_start, memory_->scratch));
        for (const auto& [begin, end] : words.words)
          tables.bpe.encode(std::string_view(words.text).substr(begin, end - begin),
                            words.byte_level, memory_->words, out);
      }
      at_start = false;
    }
    at_start = false;
  }
  if (add_special) out.insert(out.end(), tables.post.suffix.begin(), tables.post.suffix.end());
  return out;
}

/// What a token stands for in the text, if the normalizer left the text alone.
std::string Tokenizer::surface(std::int32_t id) const {
  const std::string* text = token(id);
  if (text == nullptr) return "";
  const auto added = tables_->added.find(id);
  if (added != tables_->added.end() && !added->second.normalized) return *text;
  return token_surface(tables_->steps, *text);
}

/// Where each token's text ends; nothing where tokens and text do not run side by side.
std::optional<std::vector<std::size_t>> Tokenizer::token_ends(
    std::string_view text, std::span<const std::int32_t> ids) const {
  std::vector<std::size_t> out;
  out.reserve(ids.size());
  std::size_t at = 0;
  for (const auto id : ids) {
    const std::string token = surface(id);
    std::string_view part = token;
    if (!text.substr(at).starts_with(part)) {
      // A blank that the tokenizer put before the text, or white space that an added token took
      if (part.starts_with(' ') && text.substr(at).starts_with(part.substr(1))) {
        part.remove_prefix(1);
      } else {
        std::size_t behind = at;
        while (behind < text.size() && is_white(static_cast<unsigned char>(text[behind]))) ++behind;
        if (!text.substr(behind).starts_with(part)) return std::nullopt;
        at = behind;
      }
    }
    at += part.size();
    out.push_back(at);
  }
  return out;
}

Result<Tokenizer::Marked> Tokenizer::encode_marked(
    std::string_view text, std::span<const std::pair<std::size_t, std::size_t>> spans,
    bool add_special) {
  RW_TRY(auto ids, encode(text, add_special));
  const std::size_t before = add_special ? tables_->post.prefix.size() : 0;
  const std::size_t behind = add_special ? tables_->post.suffix.size() : 0;
  const std::size_t count = ids.size() - before - behind;
  Marked out;
  out.inside.assign(ids.size(), false);
  if (const auto ends = token_ends(text, std::span(ids).subspan(before, count))) {
    auto span = spans.begin();
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t begin = i == 0 ? 0 : (*ends)[i - 1];
      while (span != spans.end() && span->second <= begin) ++span;
      if (span == spans.end()) break;
      out.inside[before + i] = span->first < (*ends)[i] && begin < (*ends)[i];
    }
  } else {
    for (const auto& [begin, end] : spans) {
      RW_TRY(const auto until_begin, encode(text.substr(0, begin), false));
      RW_TRY(const auto until_end, encode(text.substr(0, end), false));
      for (std::size_t i = until_begin.size(); i < std::min(until_end.size(), count); ++i)
        out.inside[before + i] = true;
    }
  }
  out.ids = std::move(ids);
  return out;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const auto id : ids) {
    if (skip_special && is_special(id)) continue;
    if (const auto* text = token(id)) tokens.push_back(*text);
  }
  return decode_tokens(tables_->steps, std::move(tokens));
}

std::optional<std::int32_t> Tokenizer::id(std::string_view token) const {
  return tables_->id(token);
}

const std::string* Tokenizer::token(std::int32_t id) const {
  const auto found = tables_->added.find(id);
  return found != tables_->added.end() ? &found->second.content : tables_->bpe.token(id);
}

bool Tokenizer::is_special(std::int32_t id) const {
  const auto found = tables_->added.find(id);
  return found != tables_->added.end() && found->second.special;
}

std::int32_t Tokenizer::id_end() const {
  return tables_->id_end;
}

namespace {

std::optional<std::int32_t> id_of(const Tokenizer& tokenizer,
                                  const std::optional<std::string>& token) {
  return token ? tokenizer.id(*token) : std::nullopt;
}

}  // namespace

std::optional<std::int32_t> Tokenizer::bos() const {
  return id_of(*this, settings().bos_token);
}
std::optional<std::int32_t> Tokenizer::eos() const {
  return id_of(*this, settings().eos_token);
}
std::optional<std::int32_t> Tokenizer::pad() const {
  return id_of(*this, settings().pad_token);
}
std::optional<std::int32_t> Tokenizer::unk() const {
  return id_of(*this, settings().unk_token);
}
const TokenizerSettings& Tokenizer::settings() const {
  return tables_->settings;
}

}  // namespace rigwise::engine
