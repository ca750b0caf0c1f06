// Any bytes as a measured link, as published cases, and as a model's config.json: figures that come
// of them are finite, and intervals hold their value.
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "hold.h"
#include "rigwise/catalogue.h"
#include "rigwise/plan_options.h"

namespace {

using namespace rigwise;

void hold_interval(const Interval& x) {
  hold(std::isfinite(x.value) && std::isfinite(x.low) && std::isfinite(x.high), "finite");
  hold(x.low <= x.value * (1 + 1e-9) + 1e-9 && x.value <= x.high * (1 + 1e-9) + 1e-9, "ordered");
}

void link(std::string_view bytes) {
  const auto known = read_link(bytes, "link.json");
  if (!known) return;
  hold_interval(known->bytes_per_s);
  for (const auto operation : {Transfer::all_reduce, Transfer::all_gather, Transfer::one_way}) {
    for (const double size : {1.0, 1e6, 1e12}) {
      hold_interval(transfer_s(*known, operation, size, 3));
    }
  }
}

void cases(std::string_view bytes) {
  const auto read = read_plan_cases(bytes);
  if (!read) return;
  for (const auto& one : *read) {
    const auto predicted = predict_case(one);
    if (!predicted.refused) hold(std::isfinite(predicted.predicted), "a finite prediction");
  }
}

void model(std::string_view bytes) {
  static const auto folder =
      std::filesystem::temp_directory_path() / ("rigwise-plan-fuzz-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json", std::ios::binary) << bytes;
  const auto source = read_model(folder);
  if (!source) return;
  hold(std::isfinite(shape_params(source->shape)) && shape_params(source->shape) > 0, "parameters");
  Workload w;
  w.shape = source->shape;
  w.method = "lora";
  w.lora_targets = {"q", "down", "head"};
  w.seq_len = 4096;
  w.micro_batch = 2;
  if (const auto fit = plan_fit(w)) hold_interval(fit->estimate.peak);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 3) {
    case 0:
      link(bytes);
      break;
    case 1:
      cases(bytes);
      break;
    default:
      model(bytes);
  }
  return 0;
}
