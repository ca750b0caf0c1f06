// Training data: a file of texts → token ids, and which of them are trained on.
//
// Formats, by the file's ending:
//   .txt     documents parted by a line of only <|doc|> (the line end before it, and that of the
//            last document, are not theirs); without one, the file is one document, as it is
//   .jsonl   an object a line, one of
//            {"text": …}                     every token is trained on
//            {"prompt": …, "completion": …}  the completion alone, unless train_on_prompts
//            {"messages": […], "tools": …}   by the model's chat template; what the assistant said
//                                            alone, unless train_on_prompts. chat_template_kwargs
//                                            holds other variables of the template
// An end-of-text token is put behind each document that does not end with one, but not behind
// messages: their template says where a turn ends.
//
// The file is mapped, and only ids are kept: four bytes a token.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer.h"
#include "rigwise/result.h"

namespace rigwise::engine {

struct DataOptions {
  bool train_on_prompts = false;
  std::string chat_template = "default";  // its name in the tokenizer's settings
};

struct DataStatistics {
  std::int64_t documents = 0, tokens = 0;
  std::int64_t masked_tokens = 0;        // not trained on
  std::int64_t empty_documents = 0;      // left out
  std::int64_t unmarked_chats = 0;       // what was said could not be told: all is trained on
  std::int64_t untrained_documents = 0;  // prompts alone
  bool operator==(const DataStatistics&) const = default;
};

/// Documents one behind the other, as ids.
class Documents {
 public:
  [[nodiscard]] std::size_t size() const { return begins_.size() - 1; }
  [[nodiscard]] std::int64_t tokens() const { return begins_.back(); }
  /// Of document `index`, in the numbering of all tokens.
  [[nodiscard]] std::int64_t begin(std::size_t index) const { return begins_[index]; }
  [[nodiscard]] std::int64_t end(std::size_t index) const { return begins_[index + 1]; }
  [[nodiscard]] std::int32_t id(std::int64_t at) const {
    const auto stored = stored_[static_cast<std::size_t>(at)];
    return stored < 0 ? ~stored : stored;
  }
  /// Is the token one that the model learns to predict?
  [[nodiscard]] bool trained(std::int64_t at) const {
    return stored_[static_cast<std::size_t>(at)] >= 0;
  }
  [[nodiscard]] const DataStatistics& statistics() const { return statistics_; }

  /// `trained` has as many entries as `ids`, or none: then all are. An empty document is counted
  /// and left out.
  void add(const std::vector<std::int32_t>& ids, const std::vector<bool>& trained = {});

 private:
  friend class DocumentReader;
  std::vector<std::int32_t> stored_ = {};  // an id, or ~id where it is not trained on
  std::vector<std::int64_t> begins_ = {0};
  DataStatistics statistics_ = {};
};

/// `bytes` as the content of a file of that name. Errors: malformed ("notes.jsonl:3: …": not UTF-8,
/// not JSON, no such keys, an empty file, no document that holds anything), not_found (messages
/// without a chat template), usage (an ending that is not known).
Result<Documents> parse_documents(std::string_view bytes, std::string_view name,
                                  Tokenizer& tokenizer, const DataOptions& options = {});

/// The same for a file. Errors: also not_found, io.
Result<Documents> read_documents(const std::filesystem::path& file, Tokenizer& tokenizer,
                                 const DataOptions& options = {});

}  // namespace rigwise::engine
