// The gate: every row of the severity table, known and unknown, and what is under test.
#include <gtest/gtest.h>

#include "compare/rules.h"
#include "compare_made.h"

namespace {

using namespace rigwise;
using namespace rigwise::compare_made;
namespace rules = rigwise::compare_rules;

Comparison compared(const std::vector<rigwise::Run>& a, const std::vector<rigwise::Run>& b,
                    const CompareOptions& options = {}) {
  auto result = compare(a, b, options);
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().message);
  return std::move(*result);
}

/// One run against one that differs in what `change` does to it.
Comparison against(const Folder& folder, const std::function<void(Made&)>& change,
                   const CompareOptions& options = {}) {
  Made a{.name = "base", .seed = 1}, b{.name = "other", .start_unix_s = 1.8e9 + 300, .seed = 2};
  change(b);
  return compared({make(folder.path(), a)}, {make(folder.path(), b)}, options);
}

TEST(CompareGate, EveryFactRowHasItsSeverity) {
  const Folder folder;
  int at = 0;
  for (const rules::FieldRule& rule : rules::fact_rules()) {
    const std::string key(rule.field);
    // The value of one side is known by default or made known here; the other differs.
    Made a{.name = "a" + std::to_string(++at), .seed = 1};
    Made b{.name = "b" + std::to_string(at), .start_unix_s = 1.8e9 + 100, .seed = 2};
    a.steps = b.steps = 60;
    // Epochs say nothing where the same max_steps and batch rule.
    if (key == "epochs") a.facts["max_steps"] = b.facts["max_steps"] = "";
    a.facts[key] = "4";
    b.facts[key] = "6";
    const Comparison comparison = compared({make(folder.path(), a)}, {make(folder.path(), b)}, {});
    const ComparedField* field = field_of(comparison, key);
    ASSERT_NE(field, nullptr) << key;
    EXPECT_EQ(field->a, "4") << key;
    EXPECT_EQ(field->b, "6") << key;
    // A name of something whose content is known to be equal is no difference.
    const bool content = key == "model" || key == "data" || key == "script" || key == "tokenizer";
    EXPECT_EQ(field->speed, content ? Impact::noted : rule.speed) << key;
    EXPECT_EQ(field->loss, content ? Impact::noted : rule.loss) << key;
    EXPECT_FALSE(field->evidence.empty()) << key;
    if (rule.speed == Impact::blocks && !content) {
      EXPECT_EQ(comparison.comparable, Comparable::no) << key;
      // Nobody passes a digest: another content under one name has to be put back.
      const std::string change = key == "data_hash"           ? "put back train.jsonl as " + a.name
                                 : key == "model_config_hash" ? "put back tiny as " + a.name
                                                              : "--" + key + " 4";
      EXPECT_NE(comparison.smallest_change.find(change), std::string::npos)
          << comparison.smallest_change;
      EXPECT_NE(comparison.blockers[0].find(key), std::string::npos);
    }
    if (rule.speed == Impact::caps) {
      EXPECT_EQ(comparison.comparable, Comparable::caveats) << key;
    }
    if (rule.loss == Impact::blocks && !content) {
      ASSERT_TRUE(comparison.loss) << key;
      EXPECT_EQ(comparison.loss->verdict, "blocked") << key;
      EXPECT_NE(comparison.loss->notes[0].find(key), std::string::npos) << key;
    }
    if (rule.wall && !content) {
      EXPECT_FALSE(comparison.wall) << key;
      EXPECT_FALSE(comparison.wall_blockers.empty()) << key;
    }
  }
}

TEST(CompareGate, UnknownOnOneSideCapsOnBothIsNoted) {
  const Folder folder;
  const Comparison one = against(folder, [](Made& b) { b.facts["precision"] = ""; });
  EXPECT_EQ(field_of(one, "precision")->speed, Impact::caps);
  EXPECT_EQ(field_of(one, "data_hash")->speed, Impact::none);
  EXPECT_EQ(one.comparable, Comparable::caveats);
  EXPECT_EQ(field_of(one, "compile")->speed, Impact::noted);  // neither side says
  const Comparison model = against(folder, [](Made& b) { b.facts["model_config_hash"] = ""; });
  EXPECT_EQ(field_of(model, "model_config_hash")->speed, Impact::caps);
  EXPECT_EQ(field_of(model, "model_config_hash")->loss, Impact::caps);
}

TEST(CompareGate, OtherDataIsNotComparableAndNamesTheField) {
  const Folder folder;
  const Comparison comparison = against(folder, [](Made& b) { b.facts["data_rows"] = "3000"; });
  EXPECT_EQ(comparison.verdict, Verdict::not_comparable);
  EXPECT_NE(comparison.blockers[0].find("12000"), std::string::npos);
  EXPECT_EQ(comparison.smallest_change, "rerun other with --data_rows 12000 (it had 3000)");
  EXPECT_EQ(comparison.loss->verdict, "blocked");
}

TEST(CompareGate, AnotherEvaluationIntervalSparesStepTimeButNotTotalTime) {
  const Folder folder;
  const Comparison comparison =
      against(folder, [](Made& b) { b.facts["evaluation_interval"] = "50 steps"; });
  EXPECT_NE(comparison.verdict, Verdict::not_comparable);
  EXPECT_EQ(field_of(comparison, "evaluation_interval")->speed, Impact::noted);
  EXPECT_FALSE(comparison.wall);
  ASSERT_FALSE(comparison.wall_blockers.empty());
  EXPECT_NE(comparison.wall_blockers[0].find("evaluation_interval"), std::string::npos);
}

TEST(CompareGate, NumbersAreComparedAsNumbers) {
  const Folder folder;
  const Comparison comparison =
      against(folder, [](Made& b) { b.facts["learning_rate"] = "0.0002"; });
  EXPECT_EQ(field_of(comparison, "learning_rate")->loss, Impact::none);
}

TEST(CompareGate, RunsOfOneSideMustAgreeToo) {
  const Folder folder;
  Made odd{.name = "a", .seed = 5};
  odd.facts = {{"precision", "bf16"}};
  const Comparison comparison =
      compared({make(folder.path(), {.name = "a"}), make(folder.path(), odd)},
               {make(folder.path(), {.name = "b", .seed = 6})});
  const ComparedField* field = field_of(comparison, "precision");
  EXPECT_EQ(field->a, "fp32, bf16");
  EXPECT_EQ(field->speed, Impact::caps);
  EXPECT_NE(field->note.find("differ among themselves"), std::string::npos);
}

TEST(CompareGate, TheFactorIsNoMismatch) {
  const Folder folder;
  const auto bf16 = [](Made& b) { b.facts["precision"] = "bf16"; };
  const Comparison named = against(folder, bf16, {.factor = "precision"});
  EXPECT_TRUE(field_of(named, "precision")->is_factor);
  EXPECT_EQ(field_of(named, "precision")->speed, Impact::none);
  EXPECT_FALSE(named.likely);
  // The sealed statement names it as well.
  const Comparison sealed = against(folder, [&](Made& b) {
    bf16(b);
    b.more = [](RunWriter&, RunInfo& info) {
      info.statement = Statement{.option = "train in bf16 instead of fp32"};
    };
  });
  EXPECT_EQ(sealed.factor, "precision");
  // A factor that does not differ is said.
  const Comparison none = against(folder, [](Made&) {}, {.factor = "ranks=1,2"});
  EXPECT_TRUE(has_finding(none, "factor-does-not-differ"));
}

TEST(CompareGate, WhatIsUnderTestMustBeSeenToDiffer) {
  const Folder folder;
  const Comparison named = against(folder, [](Made&) {}, {.factor = "precision"});
  EXPECT_FALSE(named.factor_shown);
  EXPECT_EQ(named.comparable, Comparable::caveats);
  // A statement's field that both sides share, and nothing else that differs.
  const Comparison sealed = against(folder, [](Made& b) {
    b.more = [](RunWriter&, RunInfo& info) {
      info.statement = Statement{.option = "four data-loader workers"};
    };
  });
  EXPECT_EQ(sealed.factor, "dataloader_workers");
  EXPECT_FALSE(sealed.factor_shown);
  // The same command twice names nothing and differs in nothing; no caveat comes of it.
  const Comparison same = against(folder, [](Made&) {});
  EXPECT_FALSE(same.factor_shown);
  EXPECT_EQ(same.comparable, Comparable::yes);
}

TEST(CompareGate, ArgumentsThatNoFactReadsAreShownAndCap) {
  const Folder folder;
  const auto differ = [](Made& b) {
    b.command = {"python", "train.py", "--prefetch", "8", "--output_dir", "out/b", "--seed", "42"};
  };
  const Comparison found = against(folder, differ);
  const ComparedField* field = field_of(found, "argument:--prefetch");
  ASSERT_NE(field, nullptr);
  EXPECT_EQ(field->a, "not given");
  EXPECT_EQ(field->b, "8");
  EXPECT_EQ(field->speed, Impact::caps);
  EXPECT_EQ(found.comparable, Comparable::caveats);
  // An output's name is no setting, and --seed is a fact.
  EXPECT_EQ(field_of(found, "argument:--output_dir"), nullptr);
  EXPECT_EQ(field_of(found, "argument:--seed"), nullptr);
  // Named, it is what is under test.
  for (const char* word : {"prefetch", "--prefetch"}) {
    const Comparison named = against(folder, differ, {.factor = word});
    EXPECT_EQ(named.factor, "argument:--prefetch");
    EXPECT_TRUE(named.factor_shown);
    EXPECT_TRUE(field_of(named, "argument:--prefetch")->is_factor);
    EXPECT_EQ(named.comparable, Comparable::yes);
  }
}

TEST(CompareGate, RanksAreNotTakenForTheFactorBesideOtherDifferences) {
  const Folder folder;
  const Comparison comparison = against(folder, [](Made& b) {
    b.ranks = 2;
    b.facts["data_rows"] = "3000";
    b.facts["checkpoint_interval"] = "50 steps";
  });
  EXPECT_EQ(comparison.factor, "");
  EXPECT_EQ(comparison.comparable, Comparable::no);
  EXPECT_EQ(field_of(comparison, "ranks")->speed, Impact::blocks);
}

TEST(CompareGate, RanksWithoutAKnownBatchBlock) {
  const Folder folder;
  Made a{.name = "a"}, b{.name = "b", .ranks = 2};
  for (Made* made : {&a, &b}) made->facts = {{"global_batch", ""}, {"micro_batch", ""}};
  const Comparison comparison =
      compared({make(folder.path(), a)}, {make(folder.path(), b)}, {.factor = "ranks"});
  EXPECT_EQ(comparison.verdict, Verdict::not_comparable);
  EXPECT_EQ(field_of(comparison, "global_batch")->speed, Impact::blocks);
}

TEST(CompareGate, BatchFromRatesAndRatesThatDoNotFit) {
  const Folder folder;
  const auto summary = [](double samples_per_s) {
    return [=](RunWriter& writer, RunInfo&) {
      StepRecord record;
      record.t_s = 120;
      record.kind = RecordKind::summary;
      record.runtime_s = 100;
      record.steps_per_s = 2;
      record.samples_per_s = samples_per_s;
      writer.append(record);
    };
  };
  const Comparison fits = against(folder, [&](Made& b) {
    b.facts["global_batch"] = b.facts["micro_batch"] = "";
    b.more = summary(16);
  });
  EXPECT_EQ(field_of(fits, "global_batch")->b, "8");
  EXPECT_EQ(field_of(fits, "metric_meaning")->speed, Impact::none);
  const Comparison odd = against(folder, [&](Made& b) { b.more = summary(64); });
  EXPECT_EQ(field_of(odd, "metric_meaning")->speed, Impact::caps);
}

TEST(CompareGate, SoftwareVersions) {
  const Folder folder;
  const auto with = [](const std::string& package, const std::string& version) {
    return [=](Made& b) {
      b.more = [=](RunWriter& writer, RunInfo&) {
        Environment environment = default_environment();
        environment.versions[package] = version;
        EXPECT_TRUE(writer.write(environment).ok());
      };
    };
  };
  const Comparison torch = against(folder, with("torch", "2.4.1"));
  EXPECT_EQ(field_of(torch, "software:torch")->speed, Impact::caps);
  EXPECT_TRUE(torch.comparable == Comparable::caveats);
  const Comparison python = against(folder, with("python", "3.12.1"));
  EXPECT_EQ(field_of(python, "software:python")->speed, Impact::noted);
  // Only the patch level differs: a caveat with single runs.
  EXPECT_EQ(field_of(against(folder, with("torch", "2.13.1")), "software:torch")->speed,
            Impact::caps);
}

TEST(CompareGate, CodeAndVariables) {
  const Folder folder;
  const Comparison comparison = against(folder, [](Made& b) {
    b.more = [](RunWriter& writer, RunInfo&) {
      Environment environment = default_environment();
      environment.facts["git_commit"] = "def456";
      environment.facts["git_dirty_hash"] = "sha256:99";
      environment.variables["OMP_NUM_THREADS"] = "1";
      environment.variables["HF_HOME"] = "/data";
      EXPECT_TRUE(writer.write(environment).ok());
    };
  });
  EXPECT_EQ(field_of(comparison, "code_revision")->speed, Impact::caps);
  EXPECT_EQ(field_of(comparison, "code_changes")->speed, Impact::caps);
  EXPECT_EQ(field_of(comparison, "environment_variable:OMP_NUM_THREADS")->speed, Impact::caps);
  EXPECT_EQ(field_of(comparison, "environment_variable:HF_HOME")->speed, Impact::noted);
}

void write_gpu(RunWriter& writer, const std::string& name, double width, double temp_c,
               double held_s, double others) {
  Rig rig = default_rig();
  GpuDevice device;
  device.gpu = 0;
  device.name = name;
  device.power_limit_w = 350;
  device.slowdown_c = 90;
  rig.gpus = {device};
  EXPECT_TRUE(writer.write(rig).ok());
  for (int i = 0; i <= 100; ++i) {
    GpuSample sample;
    sample.t_s = i;
    sample.util_frac = 0.9;
    sample.temp_c = temp_c + 0.1 * i;
    sample.power_w = 300;
    sample.used_bytes = 8e9;
    sample.pcie_width = width;
    sample.pcie_width_max = 16;
    sample.held_hw_thermal_s = held_s * i / 100;
    sample.tree_processes = 1;
    sample.other_processes = others;
    writer.append("box", sample);
  }
}

Comparison gpus(const Folder& folder, const std::string& name, double width, double temp_c,
                double held_s, double others) {
  Made a{.name = "base"}, b{.name = "other", .seed = 2};
  a.more = [](RunWriter& writer, RunInfo&) { write_gpu(writer, "Card", 16, 40, 0, 0); };
  b.more = [=](RunWriter& writer, RunInfo&) {
    write_gpu(writer, name, width, temp_c, held_s, others);
  };
  return compared({make(folder.path(), a)}, {make(folder.path(), b)});
}

TEST(CompareGate, Devices) {
  const Folder folder;
  EXPECT_EQ(gpus(folder, "Card", 16, 42, 0, 0).comparable, Comparable::yes);
  const Comparison model = gpus(folder, "Other card", 16, 40, 0, 0);
  EXPECT_EQ(field_of(model, "gpu_model")->speed, Impact::blocks);
  EXPECT_EQ(model.verdict, Verdict::not_comparable);
  EXPECT_EQ(field_of(gpus(folder, "Card", 4, 40, 0, 0), "gpu_link")->speed, Impact::blocks);
  const Comparison hot = gpus(folder, "Card", 16, 40, 20, 0);
  EXPECT_EQ(field_of(hot, "throttle")->speed, Impact::caps);
  EXPECT_TRUE(field_of(hot, "throttle")->evidence[0].first_row.has_value());
  EXPECT_EQ(field_of(gpus(folder, "Card", 16, 60, 0, 0), "start_temperature")->speed, Impact::caps);
  const Comparison shared = gpus(folder, "Card", 16, 40, 0, 1);
  EXPECT_EQ(field_of(shared, "foreign_gpu")->speed, Impact::blocks);
  EXPECT_TRUE(has_finding(gpus(folder, "Card", 16, 80, 0, 0), "near-slowdown"));
}

TEST(CompareGate, HostsAndForeignLoad) {
  const Folder folder;
  const Comparison host = against(folder, [](Made& b) {
    b.more = [](RunWriter& writer, RunInfo&) {
      Rig rig = default_rig();
      rig.cpu_model = "Other CPU";
      rig.mem_bytes = 16e9;
      rig.disks[0].rotational = true;
      EXPECT_TRUE(writer.write(rig).ok());
    };
  });
  EXPECT_EQ(field_of(host, "cpu")->speed, Impact::caps);
  EXPECT_EQ(field_of(host, "host_memory")->speed, Impact::caps);
  EXPECT_EQ(field_of(host, "storage")->speed, Impact::caps);
  const Comparison busy = against(folder, [](Made& b) {
    b.more = [](RunWriter& writer, RunInfo&) {
      for (int i = 0; i < 100; ++i) {
        HostSample sample;
        sample.t_s = 110 + i * 0.01;  // after the default samples; others then took 100 s
        sample.others_cpu_s = 1000;
        sample.top_other = "chrome:4127";
        writer.append("box", sample);
      }
    };
  });
  EXPECT_EQ(field_of(busy, "foreign_load")->speed, Impact::caps);
  EXPECT_NE(field_of(busy, "foreign_load")->evidence[0].what.find("chrome:4127"),
            std::string::npos);
}

TEST(CompareGate, OrderAndCache) {
  const Folder folder;
  const Comparison apart = against(folder, [](Made& b) { b.start_unix_s = 1.8e9 + 9000; });
  EXPECT_EQ(field_of(apart, "order")->speed, Impact::caps);
  const Comparison near_by = against(folder, [](Made&) {});
  EXPECT_EQ(field_of(near_by, "order")->speed, Impact::noted);
  const Comparison cold = against(folder, [](Made& b) {
    b.more = [](RunWriter&, RunInfo& info) { info.start_monotonic_s = 60; };
  });
  EXPECT_EQ(field_of(cold, "cache_state")->speed, Impact::caps);
}

TEST(CompareGate, CaptureBelowFourFifthsBlocks) {
  const Folder folder;
  const auto losing = [](int every) {
    return [=](Made& b) {
      b.edit = [=](StepRecord& record) {
        if (*record.step % every == 0) return;
        record.kind = RecordKind::system;  // as if the line had not been read
      };
    };
  };
  // Every second step read: records are means of two, and nothing is lost.
  EXPECT_EQ(field_of(against(folder, losing(2)), "capture")->speed, Impact::none);
  const Comparison cut = against(folder, [](Made& b) {
    b.edit = [](StepRecord& record) {
      if (*record.step > 150) record.kind = RecordKind::system;
    };
  });
  EXPECT_EQ(field_of(cut, "capture")->speed, Impact::blocks);
  EXPECT_EQ(cut.verdict, Verdict::not_comparable);
}

TEST(CompareGate, UnexplainedPausesCap) {
  const Folder folder;
  const Comparison comparison = against(
      folder, [](Made& b) { b.stretch = [](int step) { return step % 10 == 0 ? 3.0 : 1.0; }; });
  EXPECT_EQ(field_of(comparison, "unexplained_pauses")->speed, Impact::caps);
  EXPECT_GT(comparison.series_b[0].unexplained_events, 10);
}

TEST(CompareGate, EveryFieldHasARule) {
  const Folder folder;
  const Comparison comparison = against(folder, [](Made&) {});
  for (const ComparedField& field : comparison.fields) {
    rules::rule_of(field.field.substr(0, field.field.find(':')));  // aborts on an unknown name
  }
  EXPECT_GT(comparison.fields.size(), 50u);
}

}  // namespace
