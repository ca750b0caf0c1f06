#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "rigwise/plan.h"

namespace rigwise {

namespace {

constexpr std::size_t kMostBytesALine = 1 << 20;
constexpr std::size_t kMostSamples = 100'000;

std::string text_of(const Json& object, const char* key) {
  auto value = get<std::string>(object, key);
  return value ? clean_text(*value, 200) : std::string();
}
std::optional<double> number_of(const Json& object, const char* key) {
  const auto value = get<double>(object, key);
  return value && std::isfinite(*value) ? value : std::nullopt;
}
std::int64_t count_of(const Json& object, const char* key, std::int64_t otherwise) {
  const auto value = number_of(object, key);
  return value && *value >= 0 && *value < 1e9 ? static_cast<std::int64_t>(*value) : otherwise;
}
/// "unknown" is the format's word for not stated.
std::string word_of(const Json& object, const char* key) {
  std::string word = lower(text_of(object, key));
  return word == "unknown" ? std::string() : word;
}
const Json& member(const Json& object, const char* key) {
  static const Json kEmpty = Json::object();
  const auto found = object.find(key);
  return found != object.end() && found->is_object() ? *found : kEmpty;
}

std::optional<ModelShape> shape_of(const Json& arch) {
  if (arch.empty()) return std::nullopt;
  ModelShape shape;
  shape.layers = count_of(arch, "layers", 0);
  shape.hidden = count_of(arch, "hidden", 0);
  shape.heads = count_of(arch, "heads", 0);
  shape.kv_heads = count_of(arch, "kv_heads", shape.heads);
  shape.head_dim = count_of(arch, "head_dim", shape.heads > 0 ? shape.hidden / shape.heads : 0);
  shape.ffn = count_of(arch, "ffn", 0);
  shape.vocab = count_of(arch, "vocab", 0);
  shape.gated_mlp = get<bool>(arch, "gated_mlp").value_or(true);
  shape.tied_embeddings = get<bool>(arch, "tied_embeddings").value_or(false);
  return shape;
}

Interconnect link_of(const Json& json) {
  Interconnect link;
  link.type = word_of(json, "type");
  link.p2p = get<bool>(json, "p2p");
  link.copy_bytes_per_s = number_of(json, "measured_copy_bytes_per_s");
  link.inter_node_bits_per_s = number_of(member(json, "inter_node"), "bits_per_s");
  link.inter_node_per_gpu = word_of(member(json, "inter_node"), "per") == "gpu";
  return link;
}

Workload workload_of(const Json& setup) {
  Workload w;
  w.model = text_of(setup, "model");
  w.shape = shape_of(member(setup, "arch"));
  w.params = number_of(setup, "params");
  w.trainable_params = number_of(setup, "trainable_params");
  w.method = word_of(setup, "method");
  const Json& lora = member(setup, "lora");
  w.lora_rank = number_of(lora, "r");
  w.lora_dtype = word_of(lora, "dtype");
  if (const auto targets = lora.find("targets"); targets != lora.end() && targets->is_array()) {
    for (const auto& target : *targets) {
      if (target.is_string() && w.lora_targets.size() < 64) {
        w.lora_targets.push_back(target.get<std::string>());
      }
    }
  }
  w.quant = word_of(setup, "quant");
  w.precision = word_of(setup, "precision");
  w.optimizer = word_of(setup, "optimizer");
  w.seq_len = number_of(setup, "seq_len");
  w.mean_seq_len = number_of(setup, "mean_seq_len");
  w.seq_is_upper_bound = word_of(setup, "seq_len_is") == "upper_bound";
  w.micro_batch = number_of(setup, "micro_batch");
  w.grad_accum = number_of(setup, "grad_accum");
  w.global_batch = number_of(setup, "global_batch");
  w.checkpointing = word_of(setup, "grad_checkpointing");
  w.attention = word_of(setup, "attention");
  w.logits = word_of(setup, "logits");
  w.compiled = get<bool>(setup, "compile");
  w.framework = word_of(setup, "framework");
  w.strategy = word_of(setup, "strategy");
  w.n_gpus = std::max<std::int64_t>(1, count_of(setup, "n_gpus", 1));
  w.n_nodes = std::max<std::int64_t>(1, count_of(setup, "n_nodes", 1));
  w.gpu = word_of(setup, "gpu");
  if (const auto gib = number_of(setup, "gpu_mem_gib")) w.gpu_mem_bytes = *gib * kGibBytes;
  w.metric = word_of(setup, "metric");
  w.grad_bytes = number_of(setup, "grad_bytes");
  if (const Json& link = member(setup, "interconnect"); !link.empty()) w.link = link_of(link);
  return w;
}

/// The smaller run: the setup with what the baseline says was different.
std::optional<RateBase> base_of(const Json& setup, const Json& baseline) {
  if (baseline.empty()) return std::nullopt;
  Json merged = setup;
  for (const auto& [key, value] : baseline.items()) merged[key] = value;
  RateBase base;
  base.n_gpus = std::max<std::int64_t>(1, count_of(baseline, "n_gpus", 1));
  base.samples_per_s = number_of(baseline, "samples_per_s");
  base.workload = workload_of(merged);
  return base;
}

void add_anchor(PlanCase& into, const Json& anchor) {
  const Json& setup = member(anchor, "setup");
  const Json& measured = member(anchor, "measured");
  if (setup.empty() || measured.empty()) return;
  if (into.kind == "memory") {
    if (const auto bytes = number_of(measured, "bytes")) {
      into.memory_anchors.push_back({workload_of(setup), *bytes});
    }
    return;
  }
  RateAnchor rate;
  rate.workload = workload_of(setup);
  rate.n_gpus = count_of(anchor, "n_gpus", rate.workload.n_gpus);
  rate.base = base_of(setup, member(anchor, "baseline"));
  rate.samples_per_s = number_of(measured, "samples_per_s");
  rate.speedup = number_of(measured, "speedup");
  into.rate_anchors.push_back(std::move(rate));
}

void add_points(PlanCase& into, const Json& setup) {
  const auto points = setup.find("points");
  if (points == setup.end() || !points->is_array()) return;
  for (const auto& point : *points) {
    if (!point.is_object() || into.cap_points.size() + into.collective_points.size() > 1000) break;
    if (into.kind == "power_cap") {
      into.cap_points.push_back({number_of(point, "cap_w").value_or(0),
                                 number_of(point, "rate").value_or(0), number_of(point, "draw_w")});
    } else {
      into.collective_points.push_back(
          {number_of(point, "bytes").value_or(0), number_of(point, "time_s").value_or(0)});
    }
  }
}

/// Reads everything but `measured` and what stands beside it.
Result<PlanCase> case_of(const Json& json) {
  PlanCase out;
  out.id = text_of(json, "id");
  out.kind = word_of(json, "kind");
  out.predict = word_of(json, "predict");
  const Json& setup = member(json, "setup");
  if (out.id.empty() || out.kind.empty() || setup.empty()) {
    return Error{Errc::malformed, "a plan case needs id, kind and setup", "docs/plan.md"};
  }
  out.workload = workload_of(setup);
  out.base = base_of(setup, member(json, "baseline"));
  if (const Json& anchor = member(json, "anchor"); !anchor.empty()) {
    out.anchored = true;
    add_anchor(out, anchor);
  }
  if (const auto more = json.find("more_anchors"); more != json.end() && more->is_array()) {
    for (const auto& anchor : *more) {
      if (anchor.is_object() && out.rate_anchors.size() + out.memory_anchors.size() < 100) {
        add_anchor(out, anchor);
      }
    }
  }
  if (const auto samples = setup.find("samples_c"); samples != setup.end() && samples->is_array()) {
    for (const auto& sample : *samples) {
      if (sample.is_number() && out.samples_c.size() < kMostSamples) {
        out.samples_c.push_back(sample.get<double>());
      }
    }
  }
  add_points(out, setup);
  out.cap_w = number_of(setup, "cap_w").value_or(0);
  out.collective_bytes = number_of(setup, "bytes").value_or(0);
  return out;
}

template <class T, class Make>
Result<std::vector<T>> each_line(std::string_view text, Make make) {
  std::vector<T> all;
  int line = 0;
  for (const auto row : split(text, '\n')) {
    ++line;
    if (trim(row).empty()) continue;
    const std::string place = "line " + std::to_string(line);
    auto json = parse_foreign_json(row, kMostBytesALine);
    if (!json) return std::move(json).error().at(place);
    if (!json->is_object()) {
      return Error{Errc::malformed, "not a JSON object", "one plan case a line"}.at(place);
    }
    auto made = make(*json);
    if (!made) return std::move(made).error().at(place);
    all.push_back(std::move(*made));
  }
  return all;
}

}  // namespace

Result<std::vector<PlanCase>> read_plan_cases(std::string_view text) {
  return each_line<PlanCase>(text, case_of);
}

Result<std::vector<PlanTruth>> read_plan_truths(std::string_view text) {
  return each_line<PlanTruth>(text, [](const Json& json) -> Result<PlanTruth> {
    const Json& measured = member(json, "measured");
    PlanTruth truth;
    truth.value = number_of(measured, text_of(json, "predict").c_str());
    truth.speedup = number_of(measured, "speedup");
    truth.source = text_of(json, "source");
    // owner/repo of owner/repo@commit:path
    truth.source = truth.source.substr(0, truth.source.find_first_of("@:#"));
    truth.family = text_of(json, "family");
    truth.quality = text_of(json, "quality");
    truth.scale_class = text_of(json, "scale_class");
    return truth;
  });
}

}  // namespace rigwise
