#include "engine/data/dataset.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/text/chat_template.h"
#include "engine/text/unicode.h"

namespace rigwise::engine {

namespace {

constexpr std::size_t kMostLineBytes = std::size_t{64} << 20;
constexpr std::string_view kSeparator = "<|doc|>", kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kFormats =
    "Data is a .txt file, or a .jsonl file of objects with text, prompt and completion, or "
    "messages.";

class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid())
      return Error{errno == ENOENT ? Errc::not_found : Errc::io,
                   path.string() + ": " + errno_text(errno), std::string(kFormats)};
    struct stat facts = {};
    if (::fstat(fd.get(), &facts) != 0)
      return Error{Errc::io, path.string() + ": " + errno_text(errno)};
    if (!S_ISREG(facts.st_mode))
      return Error{Errc::usage, path.string() + ": not a plain file", std::string(kFormats)};
    MappedFile out;
    out.size_ = static_cast<std::size_t>(facts.st_size);
    if (out.size_ == 0) return out;
    void* mapped = ::mmap(nullptr, out.size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (mapped == MAP_FAILED) return Error{Errc::io, path.string() + ": " + errno_text(errno)};
    ::madvise(mapped, out.size_, MADV_SEQUENTIAL);
    out.data_ = static_cast<const char*>(mapped);
    return out;
  }
  MappedFile(MappedFile&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&&) = delete;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
    if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
  }
  [[nodiscard]] std::string_view bytes() const { return {data_ == nullptr ? "" : data_, size_}; }

 private:
  MappedFile() = default;
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

std::string_view without_return(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace

void Documents::add(const std::vector<std::int32_t>& ids, const std::vector<bool>& trained) {
  if (ids.empty()) {
    ++statistics_.empty_documents;
    return;
  }
  std::int64_t masked = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const bool is_trained = trained.empty() || trained[i];
    stored_.push_back(is_trained ? ids[i] : ~ids[i]);
    masked += is_trained ? 0 : 1;
  }
  const auto count = static_cast<std::int64_t>(ids.size());
  begins_.push_back(begins_.back() + count);
  ++statistics_.documents;
  statistics_.tokens += count;
  statistics_.masked_tokens += masked;
  if (masked == count) ++statistics_.untrained_documents;
}

class DocumentReader {
 public:
  DocumentReader(std::string_view name, Tokenizer& tokenizer, const DataOptions& options)
      : name_(name), tokenizer_(tokenizer), options_(options), eos_(tokenizer.eos()) {}

  Result<Documents> read(std::string_view bytes) {
    const std::string ending = lower(std::filesystem::path(name_).extension().string());
    if (ending != ".txt" && ending != ".jsonl")
      return Error{
          Errc::usage,
          clean_text(name_) + ": what ends in '" + clean_text(ending, 20) + "' is not read",
          std::string(kFormats)};
    if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
    if (bytes.empty()) return Error{Errc::malformed, name_ + ": the file is empty"};
    if (const auto bad = first_invalid_utf8(bytes); bad != std::string_view::npos) {
      line_ = 1 + std::count(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(bad), '\n');
      return here(Errc::malformed, "byte " + std::to_string(bad) + " is not UTF-8",
                  "Convert it: iconv -f LATIN1 -t UTF-8 (or whatever it was written in).");
    }
    if (ending == ".txt")
      RW_CHECK(read_text(bytes));
    else
      RW_CHECK(read_lines(bytes));
    if (out_.size() == 0)
      return Error{Errc::malformed, name_ + ": no document in it holds anything",
                   std::string(kFormats)};
    if (out_.statistics_.masked_tokens == out_.statistics_.tokens)
      return Error{Errc::malformed,
                   name_ +
                       ": nothing in it is to be learnt: every completion is empty, "
                       "or no assistant says anything"};
    out_.stored_.shrink_to_fit();
    return std::move(out_);
  }

 private:
  [[nodiscard]] Error here(Errc code, const std::string& what, std::string hint = "") const {
    return Error{code, name_ + ":" + std::to_string(line_) + ": " + what, std::move(hint)};
  }
  [[nodiscard]] Error here(Error error) const {
    return std::move(error).at(name_ + ":" + std::to_string(line_));
  }

  Status read_text(std::string_view bytes) {
    std::size_t begin = 0;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
      if (without_return(bytes.substr(at, end - at)) == kSeparator) {
        RW_CHECK(add_text(bytes.substr(begin, at - begin), true));
        begin = std::min(end + 1, bytes.size());
      }
      at = end + 1;
      ++line_;
    }
    const bool has_parts = begin > 0;
    if (has_parts && begin == bytes.size()) return Ok{};  // the separator was the last line
    return add_text(bytes.substr(begin), has_parts);
  }
  /// The line end before a separator belongs to the separator.
  Status add_text(std::string_view text, bool drops_line_end) {
    if (drops_line_end && text.ends_with('\n'))
      text = without_return(text.substr(0, text.size() - 1));
    return add_plain(text);
  }

  Status add_plain(std::string_view text) {
    if (trim(text).empty()) {
      out_.add({});
      return Ok{};
    }
    auto ids = tokenizer_.encode(text);
    if (!ids) return here(std::move(ids).error());
    end_with_eos(*ids);
    out_.add(*ids);
    return Ok{};
  }
  bool end_with_eos(std::vector<std::int32_t>& ids) const {
    if (!eos_ || (!ids.empty() && ids.back() == *eos_)) return false;
    ids.push_back(*eos_);
    return true;
  }

  Status read_lines(std::string_view bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
      ++line_;
      const auto line = trim(bytes.substr(at, end - at));
      at = end + 1;
      if (!line.empty()) RW_CHECK(read_line(line));
    }
    return Ok{};
  }

  Status read_line(std::string_view line) {
    auto json = parse_foreign_json(line, kMostLineBytes);
    if (!json) return here(std::move(json).error());
    if (!json->is_object())
      return here(Errc::malformed, "not a JSON object: " + clean_text(line, 60),
                  std::string(kFormats));
    if (json->contains("messages")) return add_messages(*json);
    if (json->contains("prompt") || json->contains("completion")) return add_completion(*json);
    if (json->contains("text")) {
      const auto text = get<std::string>(*json, "text");
      if (!text) return here(Errc::malformed, "text is no text");
      return add_plain(*text);
    }
    std::vector<std::string> keys;
    for (const auto& [key, value] : json->items()) {
      if (keys.size() < 8) keys.push_back(clean_text(key, 40));
    }
    return here(Errc::malformed,
                "has none of text, prompt and completion, messages" +
                    (keys.empty() ? "" : "; it has " + join(keys, ", ")),
                std::string(kFormats));
  }

  Status add_completion(const Json& json) {
    const auto prompt = get<std::string>(json, "prompt");
    const auto completion = get<std::string>(json, "completion");
    if (!prompt || !completion)
      return here(Errc::malformed,
                  std::string(prompt ? "completion" : "prompt") + " is missing or no text");
    if (completion->empty() && trim(*prompt).empty()) {
      out_.add({});
      return Ok{};
    }
    const std::string text = *prompt + *completion;
    const std::vector<std::pair<std::size_t, std::size_t>> spans = {{prompt->size(), text.size()}};
    auto marked = tokenizer_.encode_marked(text, spans);
    if (!marked) return here(std::move(marked).error());
    const bool ended = end_with_eos(marked->ids);
    if (ended)
      marked->inside.push_back(true);
    else if (!marked->inside.empty())
      marked->inside.back() = true;  // the end that the tokenizer put there
    if (options_.train_on_prompts || completion->empty()) {
      const bool all = options_.train_on_prompts;
      marked->inside.assign(marked->ids.size(), all);
    }
    out_.add(marked->ids, marked->inside);
    return Ok{};
  }

  Status add_messages(const Json& json) {
    if (!template_) {
      auto parsed = ChatTemplate::of(tokenizer_.settings(), options_.chat_template);
      if (!parsed) return here(std::move(parsed).error());
      template_ = std::move(*parsed);
    }
    // Other members of the line (an id, a source) are no business of the template
    Json input = Json::object();
    if (const auto more = json.find("chat_template_kwargs");
        more != json.end() && more->is_object())
      input = *more;
    for (const char* key : {"messages", "tools", "documents"}) {
      if (json.contains(key)) input[key] = json[key];
    }
    auto chat = template_->render(input);
    if (!chat) return here(std::move(chat).error());
    if (trim(chat->text).empty()) {
      out_.add({});
      return Ok{};
    }
    const bool all = options_.train_on_prompts || !chat->assistant;
    if (!options_.train_on_prompts && !chat->assistant) ++out_.statistics_.unmarked_chats;
    // The template writes the special tokens itself
    auto marked = tokenizer_.encode_marked(
        chat->text, all ? std::vector<std::pair<std::size_t, std::size_t>>() : *chat->assistant,
        false);
    if (!marked) return here(std::move(marked).error());
    out_.add(marked->ids, all ? std::vector<bool>() : marked->inside);
    return Ok{};
  }

  std::string name_;
  Tokenizer& tokenizer_;
  const DataOptions& options_;
  std::optional<std::int32_t> eos_;
  std::optional<ChatTemplate> template_;
  std::int64_t line_ = 0;
  Documents out_;
};

Result<Documents> parse_documents(std::string_view bytes, std::string_view name,
                                  Tokenizer& tokenizer, const DataOptions& options) {
  return DocumentReader(name, tokenizer, options).read(bytes);
}

Result<Documents> read_documents(const std::filesystem::path& file, Tokenizer& tokenizer,
                                 const DataOptions& options) {
  RW_TRY(const auto mapped, MappedFile::open(file));
  return parse_documents(mapped.bytes(), file.string(), tokenizer, options);
}

}  // namespace rigwise::engine
