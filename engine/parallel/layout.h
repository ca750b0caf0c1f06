// Which ranks do what: "ddp", "fsdp", "tp", "pp", "split", or "ddp:2,tp:2", and the groups of ranks
// that come of it.
//
// Ranks are numbered with the tensor-parallel place fastest (its ranks talk most and should be
// nearest), then the pipeline stage, then the data-parallel place.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/comm/comm.h"
#include "engine/files/model_config.h"
#include "rigwise/result.h"

namespace rigwise::engine {

struct Layout {
  int data = 1, tensor = 1, pipeline = 1;  // ranks along each; their product is the world
  bool sharded = false;                    // fsdp: data-parallel ranks share the weights out
  int split = 1;                           // parts of the layers in one process, one a device
  [[nodiscard]] int ranks() const { return data * tensor * pipeline; }
  bool operator==(const Layout&) const = default;
};

/// "single", "ddp", "fsdp", "tp", "pp", "split" take all ranks; "ddp:2,tp:2" says how many each;
/// "split:3" how many parts. Errors: usage (unknown name, sizes that do not multiply to `ranks`,
/// combinations that are not supported), with what is.
Result<Layout> parse_strategy(std::string_view text, int ranks);
/// "ddp:2,tp:2", "single".
std::string strategy_text(const Layout& layout);

/// Can the model be laid out so? Errors: usage, naming the size that does not divide, or more
/// stages than layers.
Status check_layout(const Layout& layout, const ModelConfig& config);

/// Blocks [first, last) of each stage (or part): `given` layers each, or as even as they can be,
/// earlier stages longer. Errors: usage (`given` does not add up).
Result<std::vector<std::pair<std::int64_t, std::int64_t>>> stage_bounds(
    std::int64_t layers, int stages, const std::vector<std::int64_t>& given);

/// This rank's place and the groups it is in. A group of one rank is a Comm too.
struct Mesh {
  Layout layout = {};
  std::shared_ptr<Comm> world, data, tensor, pipeline;
  [[nodiscard]] bool first_stage() const { return pipeline->rank() == 0; }
  [[nodiscard]] bool last_stage() const { return pipeline->rank() + 1 == pipeline->size(); }
};

/// Collective.
Mesh make_mesh(const Layout& layout, const std::shared_ptr<Comm>& world);

}  // namespace rigwise::engine
