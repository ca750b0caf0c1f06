// Gradients of one global batch under a strategy, for strategies_test.py: parallel_dump
// REQUEST.json under as many ranks as the strategy needs (their places come from the environment),
// with
//   {"model": DIR, "method": "full", "lora" or "qlora", "adapter": DIR, "strategy": "ddp:2",
//    "micro_batch": N, "pipeline": "gpipe", "recompute": bool, "windows": [[ids]], "out": FILE}
// Rank 0 writes the gradient of every trained tensor, the loss and the norm.
#include "dump.h"
#include "engine/parallel/distributed_model.h"

namespace rigwise::engine {
namespace {}  // namespace

Status dump(const Json& request) {
  RW_TRY(const RankPlace place, place_from_environment());
  at::set_num_threads(1);
  RW_TRY(const std::shared_ptr<Comm> world, connect(place, {.timeout_s = 30}));
  const auto windows = request.at("windows").get<IdWindows>();
  ModelOptions options{.model = request.at("model").get<std::string>()};
  const std::string method = request.value("method", "full");
  options.method = method == "full"   ? Method::full
                   : method == "lora" ? Method::lora
                                      : Method::qlora;
  if (request.contains("adapter")) {
    options.adapter_from = request.at("adapter").get<std::string>();
    RW_TRY(options.adapter, read_adapter_config(*options.adapter_from));
    options.adapter.dropout = request.value("dropout", 0.0);
  }
  options.longest = static_cast<std::int64_t>(windows[0].size());
  RW_TRY(options.layout, parse_strategy(request.value("strategy", "single"), place.size));
  if (request.value("pipeline", "1f1b") == "gpipe") options.schedule = Schedule::gpipe;
  if (request.contains("stage_layers")) {
    options.stage_layers = request.at("stage_layers").get<std::vector<std::int64_t>>();
  }
  options.recompute = request.value("recompute", false);
  RW_TRY(const auto model, DistributedModel::make(options, world));

  const auto ranks = static_cast<std::size_t>(options.layout.data);
  const auto share = windows.size() / ranks;
  const std::size_t first = share * static_cast<std::size_t>(model->mesh().data->rank());
  const auto micro = request.value("micro_batch", share);
  std::vector<MicroBatch> batches;
  for (std::size_t at = first; at < first + share; at += micro) {
    batches.push_back(batch_of(windows, at, std::min(at + micro, first + share)));
  }
  const double tokens = static_cast<double>(windows.size() * (windows[0].size() - 1));
  // Twice: what one step leaves behind must not reach the next.
  model->gradients(batches, 1 / tokens);
  const auto outcome = model->gradients(batches, 1 / tokens);
  std::vector<NamedTensor> out = model->gather(DistributedModel::Part::gradient);
  if (place.rank != 0) return Ok{};
  out.push_back({.name = "loss", .value = at::tensor({outcome.loss}, at::kDouble)});
  out.push_back({.name = "norm", .value = at::tensor({outcome.gradient_norm}, at::kDouble)});
  return save_tensors(request.at("out").get<std::string>(), out);
}

}  // namespace rigwise::engine

int main(int, char** argv) {
  return rigwise::engine::run_request(argv[1], rigwise::engine::dump);
}
