// Lines that say that a checkpoint is, or was, saved: "Saving model checkpoint to
// out/checkpoint-200".
#include "base/text.h"
#include "logs/readers.h"

namespace rigwise::logs {
namespace {

bool has_any(std::string_view text, std::initializer_list<std::string_view> words) {
  for (const auto word : words)
    if (contains(text, word)) return true;
  return false;
}

/// The path behind "to", "in", "into", "at" or a colon, seen from the verb on.
std::string_view path_behind(std::string_view text, std::string_view low, std::size_t verb) {
  std::string_view best;
  for (const std::string_view word : {" to ", " into ", " in ", " at ", ": ", " as "}) {
    const std::size_t at = low.find(word, verb);
    if (at == std::string_view::npos) continue;
    std::string_view rest = trim(text.substr(at + word.size()));
    if (rest.starts_with(':')) rest = trim(rest.substr(1));
    if (!rest.empty() && (rest.front() == '\'' || rest.front() == '"' || rest.front() == '`')) {
      const std::size_t close = rest.find(rest.front(), 1);
      rest = rest.substr(1, close == std::string_view::npos ? close : close - 1);
    } else {
      rest = rest.substr(0, rest.find_first_of(" \t,;"));
    }
    while (!rest.empty() && contains(".:)]'\"`", rest.substr(rest.size() - 1)))
      rest.remove_suffix(1);
    if (rest.empty() || rest.size() > 1024) continue;
    const bool path = contains(rest, "/") || rest.starts_with("checkpoint") ||
                      has_any(rest, {".safetensors", ".ckpt", ".pt", ".bin", ".pth"});
    if (path && best.empty()) best = rest;
  }
  return best;
}

/// The folder of a file when its name is a checkpoint's: "out/checkpoint-300/tokenizer.json".
std::string_view checkpoint_folder(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return {};
  const std::string_view folder = path.substr(0, slash);
  const std::size_t before = folder.rfind('/');
  const std::string_view name =
      before == std::string_view::npos ? folder : folder.substr(before + 1);
  return name.starts_with("checkpoint-") ? folder : std::string_view{};
}

}  // namespace

Outcome read_checkpoint_line(Session& session, const Piece& piece, std::string_view text) {
  if (text.size() > 2048 || !contains(text, "av")) return Outcome::none;
  const std::string low = lower_ascii(text);
  std::size_t verb = low.find("saving ");
  if (verb == std::string::npos) verb = low.find("saved");
  if (verb == std::string::npos) verb = low.find("save ");
  if (verb == std::string::npos) return Outcome::none;
  if (has_any(low, {"tokens file saved", "tokenizer config file saved", "configuration saved"})) {
    const std::string_view folder = checkpoint_folder(path_behind(text, low, verb));
    if (folder.empty()) return Outcome::none;
    session.checkpoint(folder, piece);
    return Outcome::matched;
  }
  if (!has_any(low,
               {"checkpoint", "model", "weights", "adapter", "lora", "state dict", "optimizer"}))
    return Outcome::none;
  if (has_any(low,
              {"will be saved", "to be saved", "tokens file", "tokenizer config", "tokenizer file",
               "data_collator", "configuration saved", "config saved", "figure", "plot", "not sav",
               "failed", "could not", "can't", "deleting", "model card", "no longer", "save_"}))
    return Outcome::none;
  const std::string_view path = path_behind(text, low, verb);
  if (path.empty()) return Outcome::none;
  session.checkpoint(path, piece);
  return Outcome::matched;
}

}  // namespace rigwise::logs
