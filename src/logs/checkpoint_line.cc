// Lines that say that a checkpoint is, or was, saved: "Saving model checkpoint to
// out/checkpoint-200", "Saving checkpoints for 100 into model.ckpt", "Wrote checkpoint to
// out/last.pt".
#include "base/text.h"
#include "logs/readers.h"
#include "logs/scan.h"

namespace rigwise::logs {
namespace {

constexpr std::size_t kMaxLine = 2048;
constexpr std::size_t kMaxPath = 1024;

bool has_any(std::string_view text, std::initializer_list<std::string_view> words) {
  for (const auto word : words)
    if (contains(text, word)) return true;
  return false;
}

/// Reads like a file's or a folder's name, not like a word.
bool is_path(std::string_view text) {
  if (text.starts_with("http://") || text.starts_with("https://")) return false;
  if (text.find_first_of("/\\") != std::string_view::npos) return true;
  if (has_any(text, {".safetensors", ".ckpt", ".pt", ".bin", ".pth", ".npz", ".h5", ".keras",
                     ".zip", ".gguf", ".pkl", ".json", ".distcp", ".nemo"}))
    return true;
  // "checkpoint-200", "samples_20016", "step_100": a name with a number
  return text.find_first_of("-_") != std::string_view::npos &&
         text.find_first_of("0123456789") != std::string_view::npos && is_letter(text[0]);
}

/// The path at the start of `rest`, quotes and marks taken off.
std::string_view path_at(std::string_view rest) {
  rest = strip(rest);
  while (!rest.empty() && (rest.front() == ':' || rest.front() == '='))
    rest = strip(rest.substr(1));
  if (rest.empty()) return {};
  if (rest.front() == '\'' || rest.front() == '"' || rest.front() == '`') {
    const std::size_t close = rest.find(rest.front(), 1);
    rest = rest.substr(1, close == std::string_view::npos ? close : close - 1);
  } else {
    rest = rest.substr(0, rest.find_first_of(" \t,;"));
  }
  while (!rest.empty() && contains(".:)]'\"`!", rest.substr(rest.size() - 1)))
    rest.remove_suffix(1);
  return rest.size() > kMaxPath ? std::string_view{} : rest;
}

/// "out" of "Model successfully saved to out": a bare word that ends the line.
std::string_view bare_path(std::string_view text, std::string_view low, std::size_t verb) {
  const std::size_t at = low.find(" to ", verb);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = strip(text.substr(at + 4));
  const std::string_view path = path_at(rest);
  if (path.empty() || rest.size() > path.size() + 3 || !is_word(path[0])) return {};
  for (const std::string_view word :
       {"disk", "hub", "file", "cpu", "memory", "wandb", "storage", "directory"})
    if (equals_word(path, word)) return {};
  return path;
}

/// The path behind "to", "in", "into", "at" or a colon, seen from the verb on.
std::string_view path_behind(std::string_view text, std::string_view low, std::size_t verb) {
  std::string_view best;
  std::size_t best_at = std::string_view::npos;
  for (const std::string_view word :
       {" to ", " into ", " in ", " at ", ": ", " as ", "=", " at: "}) {
    for (std::size_t at = low.find(word, verb); at != std::string_view::npos;
         at = low.find(word, at + 1)) {
      const std::string_view path = path_at(text.substr(at + word.size()));
      if (path.empty() || !is_path(path)) continue;
      if (at < best_at) {
        best = path;
        best_at = at;
      }
      break;
    }
  }
  if (!best.empty()) return best;
  // "Saving checkpoint out/step-100", "Saved checkpoint-200": the word behind the noun
  for (const std::string_view noun :
       {"checkpoint ", "model ", "weights ", "adapter ", "adapters "}) {
    const std::size_t at = low.find(noun, verb);
    if (at == std::string_view::npos) continue;
    const std::string_view path = path_at(text.substr(at + noun.size()));
    if (!path.empty() && is_path(path)) return path;
  }
  const std::size_t behind = text.find(' ', verb);
  const std::string_view next =
      behind == std::string_view::npos ? std::string_view{} : path_at(text.substr(behind));
  if (!next.empty() && next.find('/') != std::string_view::npos && is_path(next)) return next;
  const std::string_view rest = strip(text.substr(verb));  // "save  0000006_adapters.safetensors"
  if (verb == 0 && !next.empty() && is_path(next) && rest.ends_with(next)) return next;
  return bare_path(text, low, verb);
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

/// "Saving checkpoint at 1 epochs", "Saving checkpoint at step 100", "Saving checkpoints for 0
/// into".
struct Counted {
  std::optional<std::int64_t> step = {};
  std::string name = {};  // "epoch 1"
};

Counted counted(std::string_view text, std::string_view low, std::size_t verb) {
  Counted out;
  const auto number_at = [&](std::size_t at, Number& number) {
    return at < text.size() && is_digit(text[at]) && scan_number(text.substr(at), number) &&
           number.whole;
  };
  Number number;
  for (const std::string_view words : {"checkpoints for ", "checkpoint at ", "checkpoint for "}) {
    std::size_t at = low.find(words, verb);
    if (at == std::string_view::npos) continue;
    at += words.size();
    bool step = low.substr(at).starts_with("step ");
    bool epoch = low.substr(at).starts_with("epoch ");
    const bool iteration = low.substr(at).starts_with("iteration ");
    if (step || epoch || iteration) at = low.find(' ', at) + 1;
    if (low.substr(at).starts_with("epoch:") || low.substr(at).starts_with("step:")) {
      (low[at] == 'e' ? epoch : step) = true;
      at = low.find(':', at) + 1;
    }
    while (at < text.size() && text[at] == ' ') ++at;
    if (!number_at(at, number)) continue;
    const std::string_view behind = low.substr(at + number.size);
    if (epoch || behind.starts_with(" epoch"))
      out.name = "epoch " + std::string(text.substr(at, number.size));
    else if (step || iteration || behind.starts_with(" iter") || behind.starts_with(" step") ||
             words == "checkpoints for ")
      out.step = whole_number(number.value);
    if (out.step || !out.name.empty()) return out;
  }
  return out;
}

}  // namespace

bool read_checkpoint_line(Session& session, const Piece& piece, std::string_view line) {
  const std::string_view text = strip(line);
  if (text.size() > kMaxLine) return false;
  const std::string low = lower_ascii(text);
  std::size_t verb = std::string::npos;
  for (const std::string_view word :
       {"saving ", "saved", "save ", "writing ", "wrote ", "written "}) {
    verb = low.find(word);
    if (verb == std::string::npos) continue;
    // Much is written; only what is called a checkpoint is one.
    if (word[0] == 'w' && !has_any(low, {"checkpoint", "ckpt", "weights"})) return false;
    break;
  }
  if (verb == std::string::npos) return false;
  if (has_any(low, {"tokens file saved", "tokenizer config file saved", "configuration saved"})) {
    const std::string_view folder = checkpoint_folder(path_behind(text, low, verb));
    if (folder.empty()) return false;
    session.checkpoint(folder, {}, true, piece);
    return true;
  }
  if (!has_any(low, {"checkpoint", "model", "weights", "adapter", "lora", "state dict", "optimizer",
                     "ckpt", "saving to", "saving file to", "current state to", "pipeline to"}))
    return false;
  if (has_any(low, {"will be saved",
                    "to be saved",
                    "tokens file",
                    "tokenizer config",
                    "tokenizer file",
                    "data_collator",
                    "configuration saved",
                    "config saved",
                    "figure",
                    "plot",
                    "not sav",
                    "not writ",
                    "failed",
                    "could not",
                    "can't",
                    "deleting",
                    "model card",
                    "no longer",
                    "save_",
                    "removed",
                    "checkpoints are saved",
                    "be saved",
                    "saved every",
                    "tokenizer to",
                    "optimizer state",
                    "random states",
                    "scheduler state",
                    "sampler state",
                    "chat template",
                    "preprocessor",
                    "pre-saving",
                    "model config"}))
    return false;
  Counted count = counted(text, low, verb);
  const std::string_view path = path_behind(text, low, verb);
  if (path.empty() && !count.step && count.name.empty()) return false;
  // A path that names the step tells more than the step.
  const std::string_view name = path.substr(path.find_last_of("/\\") + 1);
  if (count.step && contains(name, std::to_string(*count.step))) count.step.reset();
  const bool done = has_any(low, {"saved", "finished", "wrote", "written"});
  session.checkpoint(path.empty() ? std::string_view(count.name) : path, count.step, done, piece);
  return true;
}

}  // namespace rigwise::logs
