// Which work a stack stands for. Stacks as recorded from torch 2.13, transformers 5 and accelerate,
// shortened.
#include <gtest/gtest.h>

#include <deque>

#include "profile/stack_classes.h"

namespace rigwise {
namespace {

const std::string kLib = "/home/ann/env/lib/python3.11/site-packages/";

class Classes : public ::testing::Test {
 protected:
  /// Outermost first: {file, function}, …
  std::string work(const std::vector<std::pair<std::string, std::string>>& stack) {
    std::vector<PythonFrame> frames;
    for (auto place = stack.rbegin(); place != stack.rend(); ++place) {
      codes_.push_back(PythonCode{place->first, place->second, 1});
      frames.push_back(PythonFrame{&codes_.back(), -1});
    }
    return std::string(classifier_.work_of(frames));
  }
  std::deque<PythonCode> codes_;
  StackClassifier classifier_;
};

TEST_F(Classes, TheStepsOfATrainer) {
  const std::pair<std::string, std::string> main = {"/home/ann/train.py", "main"};
  const std::pair<std::string, std::string> loop = {kLib + "transformers/trainer.py",
                                                    "Trainer._inner_training_loop"};
  const std::pair<std::string, std::string> step = {kLib + "transformers/trainer.py",
                                                    "Trainer.training_step"};
  EXPECT_EQ(work({main,
                  loop,
                  step,
                  {kLib + "torch/nn/modules/module.py", "Module._call_impl"},
                  {kLib + "torch/nn/functional.py", "linear"}}),
            "forward");
  EXPECT_EQ(work({main,
                  loop,
                  step,
                  {kLib + "accelerate/accelerator.py", "Accelerator.backward"},
                  {kLib + "torch/_tensor.py", "Tensor.backward"},
                  {kLib + "torch/autograd/graph.py", "_engine_run_backward"}}),
            "backward");
  EXPECT_EQ(
      work({main,
            loop,
            {kLib + "torch/optim/optimizer.py", "Optimizer.profile_hook_step.<locals>.wrapper"},
            {kLib + "torch/optim/adamw.py", "_single_tensor_adamw"}}),
      "optimizer");
  EXPECT_EQ(work({main,
                  loop,
                  {kLib + "transformers/trainer.py", "Trainer.get_batch_samples"},
                  {kLib + "torch/utils/data/dataloader.py", "_BaseDataLoaderIter.__next__"},
                  {"/home/ann/train.py", "Rows.__getitem__"}}),
            "input");
  EXPECT_EQ(work({main,
                  loop,
                  {kLib + "transformers/trainer.py", "Trainer._save_checkpoint"},
                  {kLib + "torch/serialization.py", "save"}}),
            "checkpoint");
  EXPECT_EQ(work({main, loop}), kOtherPythonWork);
  EXPECT_EQ(work({}), kNoPythonWork);
}

TEST_F(Classes, AnEvaluationIsOneWhateverItCalls) {
  const std::pair<std::string, std::string> eval = {kLib + "transformers/trainer.py",
                                                    "Trainer.evaluation_loop"};
  EXPECT_EQ(work({eval, {kLib + "torch/utils/data/dataloader.py", "_BaseDataLoaderIter.__next__"}}),
            "evaluation");
  EXPECT_EQ(work({eval, {kLib + "torch/nn/modules/module.py", "Module._call_impl"}}), "evaluation");
  EXPECT_EQ(work({{"/home/ann/loop.py", "validate"},
                  {kLib + "torch/nn/modules/module.py", "Module._call_impl"}}),
            "evaluation");
  EXPECT_EQ(work({{kLib + "somebody/loop.py", "validate"},
                  {kLib + "torch/nn/modules/module.py", "Module._call_impl"}}),
            "forward");
}

TEST_F(Classes, WhatMakesGradientsTrains) {
  EXPECT_EQ(
      work({{"/home/ann/evaluate.py", "evaluate"}, {kLib + "torch/_tensor.py", "Tensor.backward"}}),
      "backward");
  EXPECT_EQ(work({{"/home/ann/train.py", "save"}, {kLib + "torch/optim/sgd.py", "SGD.step"}}),
            "optimizer");
}

TEST_F(Classes, ActivationCheckpointsAreNoFiles) {
  EXPECT_EQ(work({{"/home/ann/train.py", "checkpoint"},
                  {kLib + "torch/nn/modules/module.py", "Module._call_impl"}}),
            "forward");
  EXPECT_EQ(work({{"/home/ann/train.py", "checkpoint"}, {"/home/ann/train.py", "write"}}),
            "checkpoint");
}

TEST_F(Classes, ImportsAreNotTheWorkOfWhatIsImported) {
  EXPECT_EQ(work({{"<frozen importlib._bootstrap>", "_find_and_load"},
                  {kLib + "torch/_dynamo/convert_frame.py", "<module>"}}),
            "import");
  EXPECT_EQ(work({{kLib + "torch/_dynamo/convert_frame.py", "ConvertFrame.__call__"}}), "compile");
}

TEST_F(Classes, FilesMatchAtASlashOnly) {
  EXPECT_EQ(work({{kLib + "mytransformers/trainer.py", "evaluate"}}), kOtherPythonWork);
  EXPECT_EQ(work({{kLib + "xwandb/run.py", "log"}}), kOtherPythonWork);
  EXPECT_EQ(work({{kLib + "wandb/run.py", "log"}}), "log");
}

TEST_F(Classes, UsersRowsGoFirst) {
  classifier_ = StackClassifier(
      {{"train.py", "refill|feed", "input", true}, {"train.py", "learn", "backward", true}});
  EXPECT_EQ(work({{"/home/ann/train.py", "Loop.refill"},
                  {kLib + "torch/nn/modules/module.py", "Module._call_impl"}}),
            "input");
  EXPECT_EQ(work({{"/home/ann/train.py", "learn"}, {"/home/ann/train.py", "spin"}}), "backward");
  EXPECT_EQ(work({{"/home/ann/other.py", "refill"}}), kOtherPythonWork);
}

TEST_F(Classes, EveryRowNamesAWorkAndASource) {
  const auto works = stack_works();
  for (const auto& rule : stack_rules()) {
    EXPECT_NE(std::find(works.begin(), works.end(), rule.work), works.end())
        << rule.file << ' ' << rule.work;
    EXPECT_FALSE(rule.source.empty()) << rule.file;
  }
}

}  // namespace
}  // namespace rigwise
