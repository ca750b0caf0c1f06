// Options, links, power, catalogues and model folders.
#include "rigwise/plan_options.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "rigwise/catalogue.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("rigwise-plan-" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// 3000 steps in eight hours on one GPU, as the second-GPU question has it.
MeasuredRun eight_hours() {
  MeasuredRun run;
  run.name = "single";
  run.wall_s = 28800;
  run.steps = 3000;
  run.rows = {{"startup", {180, 178, 182}},
              {"input", {2400, 2300, 2500}},
              {"compute", {24000, 23800, 24200}},
              {"checkpoint", {1900, 1880, 1920}},
              {"teardown", {30, 30, 30}}};
  run.workload.method = "lora";
  run.workload.micro_batch = 2;
  run.workload.grad_accum = 8;
  run.workload.grad_bytes = 160e6;
  run.settled_c = 71;
  run.slowdown_c = 92;
  run.gpu_mean_w = 320;
  run.gpu_limit_w = 350;
  return run;
}

OptionContext five_hours() {
  OptionContext context;
  context.work_steps = 3000;
  context.limit_s = 5 * 3600;
  context.gpu_price = 700;
  context.kwh_price = 0.3;
  context.psu_w = 1000;
  return context;
}

const OptionRow& option(const OptionPlan& plan, const std::string& id) {
  for (const auto& row : plan.options) {
    if (row.id == id) return row;
  }
  ADD_FAILURE() << "no option " << id;
  return plan.options.front();
}

TEST(PlanOptions, EveryOptionStandsInOneTable) {
  const auto addition = parse_addition("rtx3090 @ x4-chipset", {});
  ASSERT_TRUE(addition.ok()) << addition.error().message;
  const auto plan = plan_options(eight_hours(), {*addition}, five_hours());
  ASSERT_TRUE(plan.ok());
  EXPECT_NEAR(plan->as_measured_s, 28800, 1);
  std::set<std::string> ids;
  for (const auto& row : plan->options) ids.insert(row.id);
  const std::set<std::string> expected = {"nothing", "data", "memory",   "nvme", "evaluation",
                                          "gpu",     "jobs", "gpu+data", "rent"};
  EXPECT_EQ(ids, expected);
  EXPECT_NEAR(*option(*plan, "nothing").chance_frac, 0, 1e-9);
  const auto& gpu = option(*plan, "gpu");
  ASSERT_TRUE(gpu.wall_s);
  EXPECT_LT(gpu.wall_s->value, 20000);
  EXPECT_GT(gpu.wall_s->value, 24000 / 2.0);
  EXPECT_TRUE(gpu.assumed);  // a catalogue's link
  EXPECT_NE(gpu.risk.find("link assumed"), std::string::npos);
  EXPECT_GT(*gpu.chance_frac, *option(*plan, "nvme").chance_frac);
  EXPECT_LT(option(*plan, "gpu+data").wall_s->value, gpu.wall_s->value);
  EXPECT_TRUE(plan->options.back().wall_s == std::nullopt);  // rent: refused without a measurement
  for (const auto& row : plan->options) {
    if (!row.wall_s) continue;
    double sum = 0;
    for (const auto& part : row.rows) sum += part.seconds.value;
    EXPECT_NEAR(sum, row.wall_s->value, 1e-6 * sum) << row.id;
    EXPECT_LE(row.wall_s->low, row.wall_s->value);
    EXPECT_GE(row.wall_s->high, row.wall_s->value);
  }
}

TEST(PlanOptions, AnUnknownLinkIsRefusedWithWhatWouldSettleIt) {
  const auto addition = parse_addition("rtx3090", {});
  ASSERT_TRUE(addition.ok());
  const auto plan = plan_options(eight_hours(), {*addition}, five_hours());
  ASSERT_TRUE(plan.ok());
  const auto& gpu = option(*plan, "gpu");
  EXPECT_FALSE(gpu.wall_s);
  EXPECT_NE(gpu.evidence_needed.find("rigwise-engine link"), std::string::npos);
}

TEST(PlanOptions, AMeasuredLinkIsNarrowerThanACatalogues) {
  const auto text = R"({"schema":1,"hosts":["lab","lab"],"collectives":[{"operation":"all_reduce",
    "ranks":2,"sizes":[{"message_bytes":8,"time_s":4e-5,"time_low_s":4e-5,"time_high_s":5e-5},
    {"message_bytes":67108864,"time_s":0.0335,"time_low_s":0.033,"time_high_s":0.034}]}]})";
  const auto link = read_link(text, "link.json");
  ASSERT_TRUE(link.ok()) << link.error().message;
  EXPECT_NEAR(link->bytes_per_s.value, 67108864 / 0.0335, 1e3);
  EXPECT_FALSE(link->between_hosts);
  const auto measured = parse_addition("rtx3090", *link);
  const auto assumed = parse_addition("rtx3090 @ x4-chipset", {});
  const auto a = plan_options(eight_hours(), {*measured}, five_hours());
  const auto b = plan_options(eight_hours(), {*assumed}, five_hours());
  const auto width = [](const OptionRow& row) { return row.wall_s->high - row.wall_s->low; };
  EXPECT_LE(width(option(*a, "gpu")), width(option(*b, "gpu")));
  EXPECT_FALSE(option(*a, "gpu").assumed);
}

TEST(PlanOptions, SlowerThanOneGpuIsSaid) {
  auto run = eight_hours();
  run.workload.method = "full";
  run.workload.grad_bytes = 16e9;
  const auto plan = plan_options(run, {*parse_addition("rtx3090 @ 1gbe", {})}, five_hours());
  ASSERT_TRUE(plan.ok());
  const auto& host = option(*plan, "host");
  ASSERT_TRUE(host.wall_s);
  EXPECT_GT(host.wall_s->value, 28800);
  EXPECT_NE(host.risk.find("slower than one GPU"), std::string::npos);
}

TEST(PlanOptions, ABatchOfOneRowCannotBeShared) {
  auto run = eight_hours();
  run.workload.micro_batch = 1;
  run.workload.grad_accum = 1;
  const auto plan = plan_options(run, {*parse_addition("rtx3090 @ x16", {})}, five_hours());
  ASSERT_TRUE(plan.ok());
  EXPECT_NE(option(*plan, "gpu").refused.find("cannot be shared"), std::string::npos);
}

TEST(PlanOptions, NothingIsPlannedWithoutStepsOrCompute) {
  auto run = eight_hours();
  run.steps.reset();
  EXPECT_FALSE(plan_options(run, {}, {}).ok());
  run = eight_hours();
  run.rows.erase(run.rows.begin() + 2);
  EXPECT_FALSE(plan_options(run, {}, {}).ok());
}

TEST(PlanLinks, ThreeProgramsAndEveryCut) {
  const std::string nccl =
      "# nThread 1\n     67108864      16777216     float     sum      -1    20133    3.33    3.33 "
      "  "
      "   0\n";
  const auto table = read_link(nccl, "nccl.txt");
  ASSERT_TRUE(table.ok()) << table.error().message;
  EXPECT_NEAR(table->bytes_per_s.value, 3.33e9, 0.01e9);
  const std::string iperf = R"({"end":{"sum_received":{"bits_per_second":9.4e9}}})";
  const auto tcp = read_link(iperf, "iperf3.json");
  ASSERT_TRUE(tcp.ok());
  EXPECT_TRUE(tcp->between_hosts);
  EXPECT_NEAR(tcp->bytes_per_s.high, 1.175e9, 1e6);
  for (const auto& text : {nccl, iperf}) {
    for (std::size_t n = 0; n < text.size(); ++n) (void)read_link(text.substr(0, n), "cut").ok();
  }
}

TEST(PlanPower, GivesOneVerdictAWindow) {
  OptionContext context;
  context.psu_w = 1000;
  context.rest_w = 200;
  const auto one = plan_power(1, 350, context);
  EXPECT_EQ(one.windows.size(), 5U);
  for (const auto& window : one.windows) EXPECT_TRUE(window.holds_worst);
  const auto two = plan_power(2, 350, context);
  EXPECT_DOUBLE_EQ(two.continuous_w, 900);
  const auto four = plan_power(4, 350, context);
  EXPECT_FALSE(four.windows.front().holds);
  EXPECT_NE(four.verdict.find("beyond the supply"), std::string::npos);
  context.circuit = *find_circuit("us-15a");
  EXPECT_DOUBLE_EQ(*plan_power(2, 350, context).circuit_limit_w, 1440);
  EXPECT_TRUE(*plan_power(2, 350, context).circuit_holds);
}

TEST(PlanCatalogue, KnowsNamesAsDriversAndPeopleWriteThem) {
  for (const char* name : {"rtx3090", "RTX 3090", "NVIDIA GeForce RTX 3090", "3090"}) {
    const auto gpu = find_gpu(name);
    ASSERT_TRUE(gpu.ok()) << name;
    EXPECT_EQ(gpu->name, "rtx3090");
    EXPECT_DOUBLE_EQ(gpu->mem_bytes, 24 * 1073741824.0);
  }
  const auto unknown = find_gpu("rtx309");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().hint.find("did you mean 'rtx3090'?"), std::string::npos);
  for (const char* name : {"meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"}) {
    ASSERT_TRUE(find_model(name).ok()) << name;
    EXPECT_EQ(find_model(name)->shape.kv_heads, 8);
  }
  EXPECT_FALSE(find_link("x5-chipset").ok());
  // 8,030,261,248 parameters in Llama 3's index, 266,240 of them norms
  EXPECT_DOUBLE_EQ(shape_params(find_model("llama-3-8b")->shape), 8030261248.0 - 266240);
  EXPECT_EQ(psu_windows().size(), 4U);
}

constexpr const char* kConfig =
    R"({"model_type":"llama","num_hidden_layers":2,"hidden_size":64,"num_attention_heads":4,)"
    R"("num_key_value_heads":2,"intermediate_size":128,"vocab_size":1000,"tie_word_embeddings":true})";

TEST(PlanModel, ReadsAFolderAndItsHeaders) {
  const Folder folder;
  folder.write("config.json", kConfig);
  const auto model = read_model(folder.path());
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(model->shape.head_dim, 16);
  EXPECT_FALSE(model->params);
  const std::string header = R"({"a":{"dtype":"BF16","shape":[139000],"data_offsets":[0,278000]}})";
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  folder.write("model.safetensors", bytes + header);
  const auto counted = read_model(folder.path());
  ASSERT_TRUE(counted.ok());
  EXPECT_DOUBLE_EQ(counted->params.value_or(0), 139000);
  for (std::size_t n = 0; n < bytes.size() + header.size(); ++n) {
    folder.write("model.safetensors", (bytes + header).substr(0, n));
    EXPECT_FALSE(read_model(folder.path()).ok());
  }
}

TEST(PlanModel, HostileConfigsNeverCrash) {
  const Folder folder;
  const std::string config = kConfig;
  for (std::size_t n = 0; n < config.size(); ++n) {
    folder.write("config.json", config.substr(0, n));
    EXPECT_FALSE(read_model(folder.path()).ok());
  }
  for (const char* bad : {"0", "-1", "1e300", "\"x\"", "[]", "2.5", "null"}) {
    std::string changed = config;
    const auto at = changed.find("\"hidden_size\":64");
    changed.replace(at, 16, std::string("\"hidden_size\":") + bad);
    folder.write("config.json", changed);
    const auto model = read_model(folder.path());
    ASSERT_FALSE(model.ok()) << bad;
    EXPECT_NE(model.error().message.find("hidden_size"), std::string::npos);
  }
  folder.write("config.json", R"({"num_local_experts":8,"hidden_size":64})");
  EXPECT_FALSE(read_model(folder.path()).ok());
}

TEST(PlanFit, SaysWhatToChangeBeforeBuying) {
  Workload w;
  const auto model = find_model("llama-3.1-8b");
  w.model = model->name;
  w.shape = model->shape;
  w.method = "lora";
  w.lora_rank = 16;
  w.lora_targets = {"q", "v"};
  w.precision = "bf16";
  w.optimizer = "adamw";
  w.seq_len = 2048;
  w.micro_batch = 4;
  w.checkpointing = "none";
  w.attention = "flash";
  w.framework = "hf";
  w.strategy = "single";
  w.metric = "device";
  w.gpu = "rtx3090";
  w.gpu_mem_bytes = find_gpu("rtx3090")->mem_bytes;
  const auto plan = plan_fit(w);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->fit, Fit::does_not_fit);
  ASSERT_TRUE(plan->together_peak);
  EXPECT_LE(plan->together_peak->high, *plan->usable_bytes);
  EXPECT_FALSE(plan->reductions.empty());
  w.strategy = "tp";
  w.n_gpus = 3;
  const auto impossible = plan_fit(w);
  ASSERT_FALSE(impossible.ok());
  EXPECT_NE(impossible.error().message.find("32 heads"), std::string::npos);
}

}  // namespace
}  // namespace rigwise
