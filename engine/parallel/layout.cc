#include "engine/parallel/layout.h"

#include <fmt/ranges.h>

#include <charconv>
#include <map>

#include "base/text.h"

namespace rigwise::engine {
namespace {

constexpr std::string_view kForms =
    "single, ddp, fsdp, tp, pp, split, or sizes as in ddp:2,tp:2 and ddp:2,pp:2";

Error unknown(std::string_view text) {
  return Error{Errc::usage, fmt::format("--strategy {}: not a strategy", text),
               fmt::format("strategies are {}", kForms)};
}

/// Name -> size, 0 where none is given.
Result<std::map<std::string, int, std::less<>>> parse_parts(std::string_view text) {
  std::map<std::string, int, std::less<>> parts;
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t comma = rest.find(',');
    const std::string_view part = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
    const std::size_t colon = part.find(':');
    const std::string_view name = part.substr(0, colon);
    int size = 0;
    if (colon != std::string_view::npos) {
      const std::string_view digits = part.substr(colon + 1);
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), size);
      if (error != std::errc() || end != digits.data() + digits.size() || size < 1) {
        return unknown(text);
      }
    }
    const bool known = name == "single" || name == "ddp" || name == "fsdp" || name == "tp" ||
                       name == "pp" || name == "split";
    if (!known || !parts.emplace(name, size).second) return unknown(text);
  }
  if (parts.empty()) return unknown(text);
  return parts;
}

}  // namespace

Result<Layout> parse_strategy(std::string_view text, int ranks) {
  RW_TRY(auto parts, parse_parts(text));
  Layout layout;
  const bool alone = parts.size() == 1;
  const auto size_of = [&](std::string_view name) {
    const auto found = parts.find(name);
    if (found == parts.end()) return 1;
    return found->second != 0 ? found->second : (alone ? ranks : 0);
  };
  if (parts.contains("split")) {
    if (!alone || ranks != 1) {
      return Error{Errc::usage,
                   fmt::format("--strategy {} with {} rank{}: a layer split runs in one process",
                               text, ranks, ranks == 1 ? "" : "s"),
                   "use pp for several ranks"};
    }
    layout.split = parts.at("split") != 0 ? parts.at("split") : 2;
    return layout;
  }
  if (parts.contains("single") && (!alone || ranks != 1)) {
    return Error{Errc::usage, fmt::format("--strategy {} with {} ranks", text, ranks),
                 "single is one rank; for several: ddp, fsdp, tp or pp"};
  }
  if (parts.contains("fsdp") && !alone) {
    return Error{Errc::usage, fmt::format("--strategy {}: fsdp stands alone", text),
                 fmt::format("strategies are {}", kForms)};
  }
  layout.sharded = parts.contains("fsdp");
  layout.data = layout.sharded ? size_of("fsdp") : size_of("ddp");
  layout.tensor = size_of("tp");
  layout.pipeline = size_of("pp");
  if (layout.tensor > 1 && layout.pipeline > 1) {
    return Error{Errc::usage, fmt::format("--strategy {}: tp and pp do not go together", text),
                 fmt::format("strategies are {}", kForms)};
  }
  if (layout.ranks() != ranks) {
    return Error{Errc::usage,
                 fmt::format("--strategy {} needs {} ranks, but {} {} here", text, layout.ranks(),
                             ranks, ranks == 1 ? "is" : "are"),
                 "the sizes must multiply to --ranks (or to the launcher's world size)"};
  }
  return layout;
}

std::string strategy_text(const Layout& layout) {
  if (layout.split > 1) return fmt::format("split:{}", layout.split);
  std::string text;
  const auto add = [&](std::string_view name, int size) {
    if (size == 1) return;
    text += fmt::format("{}{}:{}", text.empty() ? "" : ",", name, size);
  };
  add(layout.sharded ? "fsdp" : "ddp", layout.data);
  add("tp", layout.tensor);
  add("pp", layout.pipeline);
  return text.empty() ? "single" : text;
}

Status check_layout(const Layout& layout, const ModelConfig& config) {
  const auto divides = [&](std::string_view what, std::int64_t size) -> Status {
    if (size % layout.tensor == 0) return Ok{};
    return Error{Errc::usage,
                 fmt::format("tp:{} does not divide the model's {} {}", layout.tensor, size, what),
                 "choose a tp that divides heads, key-value heads and the MLP's width, or another "
                 "strategy"};
  };
  RW_CHECK(divides("attention heads", config.heads));
  RW_CHECK(divides("key-value heads", config.kv_heads));
  RW_CHECK(divides("MLP columns (intermediate_size)", config.intermediate_size));
  const int stages = std::max(layout.pipeline, layout.split);
  if (stages > config.layers) {
    return Error{
        Errc::usage,
        fmt::format("{} stages are more than the model's {} layers", stages, config.layers),
        "use fewer stages"};
  }
  return Ok{};
}

Result<std::vector<std::pair<std::int64_t, std::int64_t>>> stage_bounds(
    std::int64_t layers, int stages, const std::vector<std::int64_t>& given) {
  std::vector<std::pair<std::int64_t, std::int64_t>> bounds;
  std::int64_t at = 0;
  for (int stage = 0; stage < stages; ++stage) {
    std::int64_t size = layers / stages + (stage < layers % stages ? 1 : 0);
    if (!given.empty()) {
      size = static_cast<std::size_t>(stage) < given.size() ? given[static_cast<std::size_t>(stage)]
                                                            : 0;
    }
    if (size < 1) break;
    bounds.emplace_back(at, at + size);
    at += size;
  }
  if (at != layers || static_cast<int>(bounds.size()) != stages ||
      (!given.empty() && static_cast<int>(given.size()) != stages)) {
    return Error{
        Errc::usage,
        fmt::format("stages of {} layers do not make up {} stages of the model's {} layers",
                    fmt::join(given, ","), stages, layers),
        "name a number of layers for each stage, at least 1, that sum to the model's"};
  }
  return bounds;
}

Mesh make_mesh(const Layout& layout, const std::shared_ptr<Comm>& world) {
  const int rank = world->rank();
  const int tensor = rank % layout.tensor;
  const int stage = rank / layout.tensor % layout.pipeline;
  const int data = rank / (layout.tensor * layout.pipeline);
  Mesh mesh{.layout = layout, .world = world};
  mesh.tensor = world->split(data * layout.pipeline + stage);
  mesh.pipeline = world->split(data * layout.tensor + tensor);
  mesh.data = world->split(stage * layout.tensor + tensor);
  return mesh;
}

}  // namespace rigwise::engine
