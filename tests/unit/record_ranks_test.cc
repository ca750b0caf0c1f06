#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/text.h"
#include "record/rank_count.h"
#include "record/ranks.h"

namespace rigwise {
namespace {

std::vector<std::string> words(const std::string& line) {
  std::vector<std::string> out;
  for (const auto part : split(line, ' ')) out.emplace_back(part);
  return out;
}

struct Case {
  const char* command;
  int count;  // 0: not known
  const char* launcher;
};

TEST(RanksAsked, EveryLauncher) {
  RanksContext context;
  context.visible_gpus = 4;
  context.cpus = 8;
  context.home = "/nonexistent";
  for (const Case& c : {
           Case{"python train.py --n 3", 1, "python"},
           Case{"/venv/bin/python3.11 -u train.py", 1, "python"},
           Case{"./train.py", 1, "python"},
           Case{"torchrun --nproc_per_node 2 train.py --nproc_per_node 9", 2, "torchrun"},
           Case{"torchrun --standalone --nproc-per-node=3 -m pkg.train", 3, "torchrun"},
           Case{"torchrun train.py", 1, "torchrun"},
           Case{"torchrun --nnodes 1:2 --nproc_per_node gpu train.py", 8, "torchrun"},
           Case{"torchrun --nproc_per_node cpu t.py", 8, "torchrun"},
           Case{"/venv/bin/python /venv/bin/torchrun --nproc_per_node 2 t.py", 2, "torchrun"},
           Case{"python -m torch.distributed.run --nproc_per_node=2 --nnodes=2 t.py", 4,
                "torchrun"},
           Case{"python -u -m torch.distributed.launch --nproc_per_node 2 --use_env t.py", 2,
                "torchrun"},
           Case{"accelerate launch --cpu --num_processes 2 train.py", 2, "accelerate"},
           Case{"accelerate launch --multi_gpu --num-processes=3 t.py --num_processes 7", 3,
                "accelerate"},
           Case{"accelerate launch t.py", 4, "accelerate"},
           Case{"accelerate launch --cpu t.py", 1, "accelerate"},
           Case{"python -m accelerate.commands.launch --num_processes 2 t.py", 2, "accelerate"},
           Case{"deepspeed --num_gpus 2 --num_nodes 2 t.py", 4, "deepspeed"},
           Case{"deepspeed t.py", 4, "deepspeed"},
           Case{"mpirun --allow-run-as-root -np 4 -x PATH --mca btl tcp python t.py", 4, "mpirun"},
           Case{"mpiexec -n4 python t.py", 4, "mpiexec"},
           Case{"horovodrun -np 2 -H localhost:2 python t.py", 2, "horovodrun"},
           Case{"srun -N 2 --ntasks-per-node=4 python t.py", 8, "srun"},
           Case{"srun -n 6 python t.py", 6, "srun"},
           Case{"srun -N 2 -n 2 torchrun --nnodes 2 --nproc_per_node 4 t.py", 8, "torchrun"},
           Case{"env A=1 B=2 nice -n 5 torchrun --nproc_per_node 2 t.py", 2, "torchrun"},
           Case{"timeout -s INT 60 uv run torchrun --nproc_per_node 2 t.py", 2, "torchrun"},
           Case{"tune run --nproc_per_node 2 lora --config c.yaml", 2, "torchrun"},
           Case{"rigwise-engine train --model m --strategy ddp --ranks 2", 2, "rigwise-engine"},
           Case{"/opt/rigwise-engine train --ranks=4 --out o", 4, "rigwise-engine"},
           Case{"rigwise-engine train --out o", 1, "rigwise-engine"},
           Case{"torchrun --no-python --nproc_per_node 2 rigwise-engine train", 2, "torchrun"},
           Case{"bash train.sh", 0, "shell"},
           Case{"./llm.c/train", 0, "program"},
       }) {
    const RanksAsked asked = ranks_asked_of(words(c.command), context);
    EXPECT_EQ(asked.count.value_or(0), c.count) << c.command << ": " << asked.why;
    EXPECT_EQ(asked.launcher, c.launcher) << c.command;
    EXPECT_FALSE(asked.why.empty()) << c.command;
  }
}

TEST(RanksAsked, EnvironmentAndFiles) {
  const auto dir = std::filesystem::temp_directory_path() / "rigwise-ranks-test";
  std::filesystem::create_directories(dir / "accelerate");
  ASSERT_TRUE(write_file_atomic(dir / "accelerate/default_config.yaml",
                                "distributed_type: MULTI_CPU\nnum_machines: 1\nnum_processes: 2\n")
                  .ok());
  ASSERT_TRUE(write_file_atomic(dir / "hosts", "a slots=2\n# b slots=9\nc slots=4\n").ok());
  RanksContext context;
  context.cwd = dir.string();
  context.env = {"HF_HOME=" + dir.string(), "WORLD_SIZE=4", "SLURM_NTASKS=3"};
  EXPECT_EQ(ranks_asked_of(words("accelerate launch t.py"), context).count, 2);
  EXPECT_EQ(
      ranks_asked_of(words("accelerate launch --config_file none.yaml --cpu t.py"), context).count,
      1);
  EXPECT_EQ(ranks_asked_of(words("deepspeed --hostfile hosts t.py"), context).count, 6);
  EXPECT_EQ(ranks_asked_of(words("python t.py"), context).count, 4);
  EXPECT_EQ(ranks_asked_of(words("srun python t.py"), context).count, 3);
  std::filesystem::remove_all(dir);
}

TEST(RanksAsked, OwnOnesAndThoseElsewhere) {
  RanksContext context;
  context.visible_gpus = 2;
  context.home = "/nonexistent";
  struct Spread {
    const char* command;
    bool elsewhere;
    int here;  // 0: not known
  };
  for (const Spread& c : {
           Spread{"torchrun --nproc_per_node 2 t.py", false, 0},
           Spread{"torchrun --nnodes 2 --nproc_per_node 2 t.py", true, 2},
           Spread{"accelerate launch --num_processes 4 t.py", false, 0},
           Spread{"accelerate launch --num_processes 4 --num_machines 2 t.py", true, 2},
           Spread{"deepspeed --num_gpus 2 t.py", false, 0},
           Spread{"deepspeed --num_gpus 2 --num_nodes 2 t.py", true, 0},
           Spread{"mpirun -np 2 python t.py", false, 0},
           Spread{"mpirun -np 2 -H a,b python t.py", true, 0},
           Spread{"mpirun -np 2 -H localhost:2 python t.py", false, 0},
           Spread{"srun -n 2 python t.py", true, 0},
           Spread{"python t.py", false, 0},
           Spread{"rigwise-engine train --ranks 2", false, 0},
       }) {
    const RanksAsked asked = ranks_asked_of(words(c.command), context);
    EXPECT_EQ(asked.elsewhere, c.elsewhere) << c.command;
    EXPECT_EQ(asked.here.value_or(0), c.here) << c.command;
  }
  context.env = {"WORLD_SIZE=2", "RANK=0"};  // one of a launcher's
  for (const char* command : {"python t.py", "rigwise-engine train"}) {
    const RanksAsked asked = ranks_asked_of(words(command), context);
    EXPECT_EQ(asked.count, 2) << command;
    EXPECT_EQ(asked.here, 1) << command;
  }
  context.env = {"WORLD_SIZE=none"};
  EXPECT_EQ(ranks_asked_of(words("rigwise-engine train"), context).count, 1);
}

TEST(RanksCounted, ThoseElsewhereCountWhereTheyMet) {
  RanksAsked asked{.count = 4, .why = "torchrun", .launcher = "torchrun"};
  const RanksTrained two{.count = 2, .why = "ranks 0, 1 worked"};
  EXPECT_EQ(count_ranks(asked, Meeting::met, two).trained, 2);  // all were to be here
  asked.spread(2);
  EXPECT_EQ(count_ranks(asked, Meeting::met, two).trained, 4);
  EXPECT_EQ(count_ranks(asked, Meeting::not_met, two).trained, 2);
  EXPECT_FALSE(count_ranks(asked, Meeting::not_known, two).trained);
  EXPECT_EQ(count_ranks(asked, Meeting::met, {.count = 1, .why = "rank 0 worked"}).trained, 1);
  EXPECT_FALSE(count_ranks(asked, Meeting::met, {}).trained);
  asked.spread({});
  EXPECT_EQ(count_ranks(asked, Meeting::met, two).trained, 4);
  EXPECT_FALSE(count_ranks(asked, Meeting::not_met, two).trained);

  // "--nnodes 1:4": how many joined is not known by how many may
  RanksAsked elastic{.count = 8, .elastic = true, .why = "torchrun", .launcher = "torchrun"};
  elastic.spread(2);
  EXPECT_FALSE(count_ranks(elastic, Meeting::met, two).trained);

  const RanksAsked python{.count = 1, .why = "python: one process", .launcher = "python"};
  const RanksCounted own = count_ranks(python, Meeting::not_known, two);
  EXPECT_FALSE(own.asked);
  EXPECT_EQ(own.trained, 2);
}

TEST(RanksCounted, WhereRanksMeet) {
  const auto ends = [](const char* local, const char* remote) {
    return TcpSocket{.local = local, .remote = remote};
  };
  const TcpSocket store = ends("10.0.0.1:29500", "10.0.0.1:4000"),
                  client = ends("10.0.0.1:4000", "10.0.0.1:29500");
  EXPECT_EQ(meeting_at(29500, {}), Meeting::not_met);
  EXPECT_EQ(meeting_at(29500, {{1, store}, {2, client}}), Meeting::not_met);  // with itself
  EXPECT_EQ(meeting_at(29500, {{1, store}, {2, client}, {3, ends("10.0.0.1:29500", "10.0.0.2:5")}}),
            Meeting::met);
  EXPECT_EQ(meeting_at(29500, {{1, ends("10.0.0.2:5", "10.0.0.1:29500")}}), Meeting::met);
  EXPECT_EQ(meeting_at(29500, {{1, ends("10.0.0.2:5", "1.2.3.4:443")}}), Meeting::not_known);
  EXPECT_EQ(meeting_at(9500, {{1, ends("10.0.0.2:5", "10.0.0.1:29500")}}), Meeting::not_known);
}

TEST(RanksAsked, ShellIsAskedThroughTheTree) {
  const RanksContext context;
  const RanksAsked asked = ranks_asked_of_tree(
      {words("bash train.sh"), words("/v/bin/python /v/bin/torchrun --nproc_per_node 2 t.py"),
       words("/v/bin/python t.py")},
      context);
  EXPECT_EQ(asked.count, 2);
  EXPECT_EQ(ranks_asked_of_tree({words("bash t.sh"), words("python t.py")}, context).count, 1);
  EXPECT_FALSE(ranks_asked_of_tree({words("bash t.sh")}, context).count.has_value());
}

/// A process seen at every second of [from, to], busy by `cpu_per_s`.
void live(std::vector<ProcSample>& rows, int pid, const char* role, std::optional<int> rank,
          int from, int to, double cpu_per_s) {
  for (int t = from; t <= to; ++t) {
    ProcSample row;
    row.t_s = t;
    row.pid = pid;
    row.role = role;
    row.rank = rank;
    row.cpu_s = cpu_per_s * (t - from);
    rows.push_back(row);
  }
}

TEST(RanksTrained, PlainPairAndTheAccelerateTrap) {
  std::vector<ProcSample> plain, pair, trap;
  live(plain, 10, "rank", 0, 0, 60, 1);
  live(plain, 11, "loader", 0, 5, 60, 1);
  EXPECT_EQ(ranks_trained_of(plain, 10, 50).count, 1);

  live(pair, 9, "launcher", {}, 0, 60, 0.01);
  live(pair, 10, "rank", 0, 2, 60, 1);
  live(pair, 11, "rank", 1, 2, 60, 0.9);
  EXPECT_EQ(ranks_trained_of(pair, 10, 50).count, 2);
  EXPECT_EQ(ranks_trained_of(pair, 10, 50, 2).count, 1);  // never joined: two trainings

  live(trap, 9, "launcher", {}, 0, 60, 0.01);
  live(trap, 10, "rank", 0, 2, 60, 1);
  const RanksTrained trained = ranks_trained_of(trap, 10, 50);
  EXPECT_EQ(trained.count, 1);
  EXPECT_NE(trained.why.find("rank 0"), std::string::npos) << trained.why;
}

TEST(RanksTrained, DeadIdleRestartedAndUnknown) {
  std::vector<ProcSample> rows;
  live(rows, 10, "rank", 0, 0, 100, 1);
  live(rows, 11, "rank", 1, 0, 20, 1);   // died early
  live(rows, 12, "rank", 2, 0, 100, 0);  // waits for ever
  live(rows, 13, "rank", 3, 0, 50, 1);   // restarted
  live(rows, 14, "rank", 3, 51, 100, 1);
  EXPECT_EQ(ranks_trained_of(rows, 5, 95).count, 2);
  EXPECT_FALSE(ranks_trained_of({}, {}, {}).count.has_value());
  std::vector<ProcSample> others;
  live(others, 10, "other", {}, 0, 10, 1);
  EXPECT_FALSE(ranks_trained_of(others, {}, {}).count.has_value());
}

TEST(RanksTrained, ShortRunsWithOneTick) {
  std::vector<ProcSample> rows;
  live(rows, 10, "rank", 0, 3, 3, 1);
  live(rows, 11, "rank", 1, 3, 3, 1);
  EXPECT_EQ(ranks_trained_of(rows, 3.2, 3.8).count, 2);

  // Two ticks met the first rank and one the second: its CPU time has no difference yet.
  rows.clear();
  live(rows, 10, "rank", 0, 3, 4, 1);
  live(rows, 11, "rank", 1, 4, 4, 1);
  EXPECT_EQ(ranks_trained_of(rows, 3.2, 3.8).count, 2);
}

}  // namespace
}  // namespace rigwise
