// What the reader's general mechanisms make of the shapes that trainers print. All excerpts are
// made up in the shape that the named trainer prints.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "logs/meaning.h"
#include "rigwise/logs.h"

namespace rigwise {
namespace {

template <class T>
void put(std::string& text, const char* name, const std::optional<T>& value) {
  if (!value) return;
  text += std::string(" ") + name + '=';
  if constexpr (std::is_integral_v<T>)
    text += std::to_string(*value);
  else
    text += fmt::format("{:.8g}", *value);
}

std::string text_of(const StepRecord& r) {
  std::string text(to_string(r.kind));
  put(text, "step", r.step);
  put(text, "epoch", r.epoch);
  put(text, "loss", r.loss);
  put(text, "eval_loss", r.eval_loss);
  put(text, "lr", r.lr);
  put(text, "grad_norm", r.grad_norm);
  put(text, "step_time_s", r.step_time_s);
  put(text, "steps_per_s", r.steps_per_s);
  put(text, "samples_per_s", r.samples_per_s);
  put(text, "tokens_per_s", r.tokens_per_s);
  put(text, "mem_gib", r.mem_gib);
  put(text, "mfu", r.mfu_frac);
  put(text, "rank", r.rank);
  if (r.per_device) text += " per_device";
  return text;
}

/// One line an entry or checkpoint; bars that tell no rate and no metric are left out.
std::string read(std::string_view log, std::vector<LogPattern> patterns = {}) {
  LogReader reader("log/out.log", std::move(patterns));
  std::string text;
  const auto take = [&text](const LogBatch& batch) {
    std::size_t event = 0;
    for (std::size_t i = 0; i <= batch.steps.size(); ++i) {
      for (; event < batch.events.size() && batch.steps_before[event] <= i; ++event) {
        const Event& told = batch.events[event];
        if (told.kind != EventKind::checkpoint) continue;
        text += "saved " + told.name;
        put(text, "step", told.step);
        text += '\n';
      }
      if (i == batch.steps.size()) break;
      const StepRecord& record = batch.steps[i];
      if (record.kind == RecordKind::progress && !record.step_time_s && !record.steps_per_s)
        continue;
      text += text_of(record) + '\n';
    }
  };
  take(reader.push(log, 1));
  take(reader.finish(1));
  return text;
}

#define EXPECT_READ(log, entries) EXPECT_EQ(read(log), entries)

TEST(LogFormats, Pairs) {
  // torchtitan, with its colours
  EXPECT_READ(
      "[rank0]:[titan] 2026-01-05 10:00:00,100 - root - INFO - \x1b[31mstep: 10  \x1b[32mloss:  "
      "5.2015"
      "  \x1b[38;2;180;60;0mgrad_norm:  1.25  \x1b[33mmemory: 40.31GiB(50.10%)  \x1b[34mtps: 5,790"
      "  \x1b[36mtflops: 335.33  \x1b[35mmfu: 33.91%\x1b[39m\n",
      "train step=10 loss=5.2015 grad_norm=1.25 tokens_per_s=5790 mem_gib=40.31 mfu=0.3391 "
      "rank=0\n");
  // Megatron-LM
  EXPECT_READ(
      " [2026-01-05 10:00:00] iteration       20/    5000 | consumed samples:          320 | "
      "elapsed "
      "time per iteration (ms): 1082.5 | throughput per GPU (TFLOP/s/GPU): 210.1 | learning rate: "
      "8.000000E-06 | global batch size:    16 | lm loss: 8.440352E+00 | loss scale: 1.0 | grad "
      "norm: "
      "3.089 | num zeros: 0 | number of skipped iterations:   0 | number of nan iterations:   0 "
      "|\n",
      "train step=20 loss=8.440352 lr=8e-06 grad_norm=3.089 step_time_s=1.0825\n");
  // Megatron's validation
  EXPECT_READ(
      " validation loss at iteration 1000 | lm loss value: 5.100000E+00 | lm loss PPL: 1.64E+02 "
      "|\n",
      "eval step=1000 eval_loss=5.1\n");
  // nanoGPT
  EXPECT_READ("step 250: train loss 2.4000, val loss 2.5000\n",
              "train step=250 loss=2.4 eval_loss=2.5\n");
  EXPECT_READ("iter 260: loss 2.4100, time 26.50ms, mfu 17.40%\n",
              "train step=260 loss=2.41 step_time_s=0.0265 mfu=0.174\n");
  // PyTorch's MNIST, ImageNet, word language model and beginner's examples
  EXPECT_READ("Train Epoch: 2 [640/60000 (1%)]\tLoss: 2.315000\n", "train epoch=2 loss=2.315\n");
  EXPECT_READ("\nTest set: Average loss: 0.0515, Accuracy: 9830/10000 (98%)\n",
              "eval eval_loss=0.0515\n");
  EXPECT_READ(
      "Epoch: [3][ 10/500]\tTime  0.225 ( 0.306)\tData  0.010 ( 0.109)\tLoss 6.5e-01 "
      "(6.9e-01)\tAcc@1 "
      " 50.00 ( 48.00)\n",
      "train epoch=3 loss=0.65 step_time_s=0.225\n");
  EXPECT_READ(
      "| epoch   1 |   200/ 2983 batches | lr 20.00 | ms/batch 12.50 | loss  7.60 | ppl 1998.2\n",
      "train epoch=1 loss=7.6 lr=20 step_time_s=0.0125\n");
  EXPECT_READ("| end of epoch   1 | time: 46.60s | valid loss  6.09 | valid ppl   443.1\n",
              "eval epoch=1 eval_loss=6.09\n");
  EXPECT_READ("Epoch [2/5], Step [100/600], Loss: 0.2500\n", "train step=100 epoch=2 loss=0.25\n");
  // mmdetection, detectron2
  EXPECT_READ(
      "2026-01-05 10:00:00,100 - mmdet - INFO - Epoch [1][50/7330]\tlr: 1.978e-03, eta: 1 day, "
      "2:03:04, time: 0.358, data_time: 0.051, memory: 3900, loss_rpn_cls: 0.64, loss: 4.5100\n",
      "train epoch=1 loss=4.51 lr=0.001978 step_time_s=0.358 mem_gib=3.8085938\n");
  // DeepSpeed
  EXPECT_READ(
      "[2026-01-05 10:00:00,100] [INFO] [logging.py:96:log_dist] [Rank 0] step=10, skipped=0, "
      "lr=[9.5e-06], mom=[[0.9, 0.95]]\n",
      "train step=10 lr=9.5e-06 rank=0\n");
  // TRL on a TPU, levanter, EasyLM and other JAX trainers print tqdm or "step = …"
  EXPECT_READ("I0105 10:00:00.123456 140 train.py:210] step = 100, loss = 3.5, steps/sec = 2.5\n",
              "train step=100 loss=3.5 steps_per_s=2.5\n");
  // SpeechBrain, ESPnet, Flair
  EXPECT_READ(
      "speechbrain.utils.train_logger - epoch: 3, lr: 1.00e-03 - train loss: 1.50 - valid loss: "
      "1.75, "
      "valid PER: 20.1\n",
      "train epoch=3 loss=1.5 eval_loss=1.75 lr=0.001\n");
  EXPECT_READ(
      "2026-01-05 10:00:00,100 epoch 1 - iter 12/120 - loss 0.6442 - time (sec): 3.02 - "
      "samples/sec: "
      "187.96 - lr: 0.100000 - momentum: 0.000000\n",
      "train step=12 epoch=1 loss=0.6442 lr=0.1 samples_per_s=187.96\n");
  // OpenRLHF, verl, federated rounds
  EXPECT_READ(
      "step:3 - actor/pg_loss:0.012 - actor/grad_norm:1.5 - critic/score/mean:0.2 - "
      "perf/throughput:1200.5\n",
      "train step=3 grad_norm=1.5\n");
  EXPECT_READ("Round 3: loss = 0.5, accuracy = 0.9\n", "train step=3 loss=0.5\n");
}

TEST(LogFormats, MorePairs) {
  // fairseq
  EXPECT_READ(
      "2026-01-05 10:00:00 | INFO | train_inner | epoch 003:    100 / 487 loss=4.5, nll_loss=3, "
      "wps=52000, ups=2.5, num_updates=1100, lr=0.0003, gnorm=0.9, loss_scale=16, wall=120\n",
      "train step=1100 epoch=3 loss=4.5 lr=0.0003 grad_norm=0.9 steps_per_s=2.5 "
      "tokens_per_s=52000\n");
  EXPECT_READ(
      "| valid | epoch 003 | valid on 'valid' subset | loss 5.1 | ppl 34 | wps 0 | "
      "num_updates 3000 | best_loss 5\n",
      "eval step=3000 epoch=3 eval_loss=5.1\n");
  // PaddleDetection, Swin, DeiT
  EXPECT_READ(
      "[01/05 10:00:00] ppdet.engine INFO: Epoch: [2] [10/100] learning_rate: 0.001 loss: 2.5 "
      "eta: 1:00:00 batch_cost: 0.5 data_cost: 0.01 ips: 16.5 images/s\n",
      "train epoch=2 loss=2.5 lr=0.001 step_time_s=0.5 samples_per_s=16.5\n");
  EXPECT_READ(
      "INFO Train: [3/300][10/1251]\teta 0:10:00 lr 0.000001\ttime 0.35 (0.50)\tloss 6.90 "
      "(6.92)\tgrad_norm 1.5 (1.6)\tmem 9216MB\n",
      "train epoch=3 loss=6.9 lr=1e-06 grad_norm=1.5 step_time_s=0.35 mem_gib=9\n");
  EXPECT_READ("Test:  [ 0/10]  eta: 0:00:10  loss: 6.5 (6.5)  time: 1.0  data: 0.5\n",
              "eval eval_loss=6.5\n");
  // names behind their numbers, two counters in brackets, speedruns, tf.estimator
  EXPECT_READ("  9  512.00 ms run,  7.25 loss, 0.0001 LR, 10.00 GB used\n",
              "train loss=7.25 lr=0.0001\n");
  EXPECT_READ("[2,  2000] loss: 2.25\n", "train epoch=2 loss=2.25\n");
  EXPECT_READ("step:100/1750 train_loss:4.5000 train_time:15000ms step_avg:150.00ms\n",
              "train step=100 loss=4.5 step_time_s=0.15\n");
  EXPECT_READ(
      "INFO:tensorflow:Saving dict for global step 200: accuracy = 0.9, global_step = 200, loss = "
      "0.5\n",
      "eval step=200 eval_loss=0.5\n");
  EXPECT_READ("[10] train_loss=0.25, learning_rate=0.5\n", "train step=10 loss=0.25 lr=0.5\n");
  EXPECT_READ(
      "===== Step 3/100 =====\nGenerating\n  \xe2\x80\xa2 Loss: 0.125\n  \xe2\x80\xa2 Reward: "
      "0.5\n\nend\n",
      "train step=3 loss=0.125\n");
  EXPECT_READ("[ 500/5000 10:00 < 1:30:00, 0.83 it/s, Epoch 1.2/12]\n",
              "progress step=500 epoch=1.2 steps_per_s=0.83\n");
}

TEST(LogFormats, RatesAndUnits) {
  EXPECT_READ("step 5 | loss 2.0 | 153.8 samples/s | 12.5k tok/s | 512 MiB\n",
              "train step=5 loss=2 samples_per_s=153.8 tokens_per_s=12500\n");
  EXPECT_READ("step 5 loss 2.0 tokens_per_second_per_gpu: 1500 peak_memory_gb: 12.5\n",
              "train step=5 loss=2 tokens_per_s=1500 mem_gib=12.5 per_device\n");
  EXPECT_READ("step=5 loss=2.0 mem=2048MB step_time_ms=250 mfu=-100.00%\n",
              "train step=5 loss=2 step_time_s=0.25 mem_gib=2\n");
  EXPECT_READ("step: 5; loss: 0,4217; lr: 0,001\n", "train step=5 loss=0.4217 lr=0.001\n");
  // A decimal comma that showed once is one from then on, where a group of thousands could be
  // meant.
  EXPECT_READ("step: 5; loss: 0,4217\nstep: 6; loss: 1,234\n",
              "train step=5 loss=0.4217\ntrain step=6 loss=1.234\n");
  EXPECT_READ("step 5 loss nan grad_norm inf\nstep 6 loss: -inf\n",
              "train step=5 loss=nan grad_norm=inf\ntrain step=6 loss=-inf\n");
  EXPECT_READ("step 5 loss: tensor(2.5, device='cuda:0') lr 1e-4\n",
              "train step=5 loss=2.5 lr=0.0001\n");
}

TEST(LogFormats, ProseTellsNothing) {
  EXPECT_READ("loading configuration: lr=0.1 batch_size=8 epochs=3\n", "");
  EXPECT_READ("rank loss = 4.0 is not a training loss\n", "");
  EXPECT_READ("Warning: the loss: 0 above may be wrong\n", "");
  EXPECT_READ("Best val loss: 0.34 at epoch 3\n", "");
  EXPECT_READ("Dumping profiler traces at step 200\n", "");
  EXPECT_READ("Finished dumping profiler traces in 0.22 seconds\n", "");
  EXPECT_READ("Setting learning rate to 0.001\n", "");
  EXPECT_READ("loss scale: 65536.0, number of nan iterations: 0\n", "");
  EXPECT_READ("==> 0.000263929 seconds to Reading GT results\n", "");
  EXPECT_READ("2026-01-05 10:00:00,186 INFO Waiting for the process, code 0 received\n", "");
  EXPECT_READ("Namespace(lr=0.001, epochs=10, batch_size=64, gpu_memory=0.9, seed=42)\n", "");
  EXPECT_READ("nvidia-cublas 12.4.5 and torch 2.13.0 in 10.0.0.1:29500\n", "");
}

TEST(LogFormats, GluedAndTornRanks) {
  EXPECT_READ(
      "Epoch: 0, Step: 2, Rank: 6, loss = 2.5625Epoch: 0, Step: 2, Rank: 3, loss = 2.484375\n",
      "train step=2 epoch=0 loss=2.5625 rank=6\ntrain step=2 epoch=0 loss=2.484375 rank=3\n");
  EXPECT_READ(
      "rank=1 step=4 loss=0.3rank=0 step=4 loss=0.4 lr=1e-3 dt=0.05s\n lr=1e-3 dt=0.06s\n"
      "rank=0 step=5 loss=0.2 lr=1e-3 dt=0.07s\n",
      "train step=4 loss=0.3 lr=0.001 step_time_s=0.06 rank=1\n"
      "train step=4 loss=0.4 lr=0.001 step_time_s=0.05 rank=0\n"
      "train step=5 loss=0.2 lr=0.001 step_time_s=0.07 rank=0\n");
  EXPECT_READ("[default1]:{'loss': 2.5, 'epoch': 0.5}\n", "train epoch=0.5 loss=2.5 rank=1\n");
  EXPECT_READ("[1,2]<stdout>:step 3 loss 2.5\n3: step 3 loss 2.25\n",
              "train step=3 loss=2.5 rank=2\ntrain step=3 loss=2.25 rank=3\n");
}

TEST(LogFormats, NamesBehindNumbers) {
  EXPECT_READ("step 40 loss 1.25 tokens/s 9000\n", "train step=40 loss=1.25 tokens_per_s=9000\n");
  EXPECT_READ("step 40 loss 1.25 | 9000 tokens/s\n", "train step=40 loss=1.25 tokens_per_s=9000\n");
  EXPECT_READ("epoch: 1 step: 100, loss is 2.5\n", "train step=100 epoch=1 loss=2.5\n");
  EXPECT_READ("step:12 - actor/lr:1e-06 - perf/max_memory_allocated_gb:41.5\n",
              "train step=12 lr=1e-06 mem_gib=41.5\n");
}

TEST(LogFormats, Mappings) {
  EXPECT_READ("step 7: {'loss': '0.5', 'learning_rate': '1e-4'}\n",
              "train step=7 loss=0.5 lr=0.0001\n");
  EXPECT_READ("epoch 2: {'accuracy': 0.75, 'f1': 0.8}\n", "eval epoch=2\n");
  EXPECT_READ(
      "{'loss': 0.5, 'global_step/max_steps': '3/60', 'memory(GiB)': '14.3', 'elapsed': '1m 3s'}\n",
      "train step=3 loss=0.5 mem_gib=14.3\n");
  EXPECT_READ("{'loss': 1.5, 'ppl': 4.4, ...}\n", "train loss=1.5\n");
  // torn by the end
  EXPECT_READ("{'loss': 1.5, 'grad_norm': 2.5, 'learn", "train loss=1.5 grad_norm=2.5\n");
  // a container's or a logger's JSON around the line
  EXPECT_READ(
      R"({"log":"step 3 | loss: 2.5 | lr: 0.1\n","stream":"stdout","time":"2026-01-05T10:00:00Z"})"
      "\n",
      "train step=3 loss=2.5 lr=0.1\n");
  EXPECT_READ(R"({"level":"info","message":"{\"loss\": 2.5, \"step\": 3}"})"
              "\n",
              "train step=3 loss=2.5\n");
  EXPECT_READ(
      R"(:::MLLOG {"time_ms": 17, "key": "eval_accuracy", "value": 0.7, "metadata": {"epoch_num": 4}})"
      "\n",
      "eval\n");
}

TEST(LogFormats, BrokenJsonIsMalformed) {
  LogReader reader("log/out.log");
  const auto batch = reader.push("{\"loss\": 1.0, \"x\": bad\n{\"loss\": 2.0, \"step\": 1}\n", 1);
  EXPECT_EQ(batch.steps.size(), 1u);
  reader.finish(1);
  EXPECT_EQ(reader.statistics().malformed, 1);
  EXPECT_EQ(reader.statistics().first_bad_line, 1);
}

TEST(LogFormats, EngineSaysWhatIsTrained) {
  LogReader reader("log/out.log");
  const auto batch =
      reader.push("m by LoRA on t.txt (4096 of 5082368 parameters trained), ddp, 2 ranks\n", 1);
  std::string facts;
  for (const Fact& fact : batch.facts) facts += fact.key + '=' + fact.value + ' ';
  EXPECT_EQ(facts, "trainable_parameters=4096 parameters=5082368 ");
  for (const char* odd : {"(5 of 4 parameters trained)\n", "(x of 9 parameters trained)\n",
                          "of 9 parameters trained)\n", "( of  parameters trained)\n"}) {
    EXPECT_TRUE(LogReader("log/out.log").push(odd, 1).facts.empty()) << odd;
  }
}

TEST(LogFormats, Bars) {
  EXPECT_READ(
      "\rEpoch 3:  50%|#####     | 50/100 [00:10<00:10,  5.00it/s, v_num=0, loss=2.0, "
      "train_loss=1.5]\n",
      "train epoch=3 loss=1.5 steps_per_s=5\n");
  EXPECT_READ("1|78|Loss: 1.5416: 100%|#####| 78/78 [01:02<00:00,  1.25it/s]\n",
              "train step=78 epoch=1 loss=1.5416 steps_per_s=1.25\n");
  EXPECT_READ(
      "Epoch 1/2\n\r 1/10 \xe2\x94\x81\xe2\x94\x81\xe2\x94\x81 9s 90ms/step - loss: 2.0"
      "\b\b\b\b\b\b\b\b\b\b\b\b\r10/10 \xe2\x94\x81\xe2\x94\x81\xe2\x94\x81 1s 95ms/step - loss: "
      "1.5 - val_loss: 1.75\n",
      "train epoch=1 loss=2 step_time_s=0.09\n"
      "train epoch=1 loss=1.5 eval_loss=1.75 step_time_s=0.095\n");
  EXPECT_READ("Epoch 2/2\n5/5 - 1s - 97ms/step - accuracy: 0.8 - loss: 0.5\n",
              "train epoch=2 loss=0.5 step_time_s=0.097\n");
  // downloads and evaluations are no training
  EXPECT_READ(
      "\rDownloading: 100%|####| 6/6 [00:00<00:00, 89877.94it/s]\n"
      "Calculating loss...: 100%|####| 25/25 [00:26<00:00,  1.06s/it]\n"
      "11490434/11490434 \xe2\x94\x81\xe2\x94\x81\xe2\x94\x81 0s 0us/step\n",
      "");
  // a log collector wrote the control characters out
  EXPECT_READ(
      "#015  1%|1   | 1/100 [01:35<02:36, 95.08s/it, loss=8.26]#015  2%|1  | 2/100 [02:46<02:12, "
      "81.01s/it, loss=8.54]\n",
      "train step=1 loss=8.26 step_time_s=95.08\ntrain step=2 loss=8.54 step_time_s=81.01\n");
}

TEST(LogFormats, Tables) {
  EXPECT_READ(
      "epoch     train_loss  valid_loss  accuracy  time    \n"
      "0         6.4545      5.9681      0.0942    02:40   \n"
      "1         5.8416      5.3465      0.1818    02:35   \n",
      "train epoch=0 loss=6.4545 eval_loss=5.9681\ntrain epoch=1 loss=5.8416 eval_loss=5.3465\n");
  EXPECT_READ("Step\tTraining Loss\tValidation Loss\n10\tNo log\t2.5\n20\t2.25\t2.0\n",
              "eval step=10 eval_loss=2.5\ntrain step=20 loss=2.25 eval_loss=2\n");
  EXPECT_READ("epoch,step,train_loss,val_loss\n0,9,2.5,\n0,9,,2.25\n",
              "train step=9 epoch=0 loss=2.5\neval step=9 epoch=0 eval_loss=2.25\n");
  EXPECT_READ("| Step | Training Loss | Validation Loss |\n|---|---|---|\n| 10 | 2.5 | 2.75 |\n",
              "train step=10 loss=2.5 eval_loss=2.75\n");
  EXPECT_READ("<tr><th>Step</th><th>Training Loss</th></tr>\n<tr><td>10</td><td>2.5</td></tr>\n",
              "train step=10 loss=2.5\n");
  EXPECT_READ(
      "E    #       LOSS TOK2VEC  LOSS NER  SCORE \n---  ------  ------------  --------  ------\n"
      "  0       0          0.00     85.26    0.00\n",
      "train step=0 epoch=0\n");
  // Ultralytics: the row stands in front of a bar
  EXPECT_READ(
      "      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size\n"
      "\r      1/100      2.5G      1.207      3.331      1.545         45        640: 100%|####| "
      "10/10 [00:03<00:00,  3.02it/s]\n",
      "train epoch=1 steps_per_s=3.02 mem_gib=2.5\n");
}

TEST(LogFormats, Blocks) {
  EXPECT_READ(
      "-----------------------------\n| rollout/        |         |\n|    ep_rew_mean  | 13.6    "
      "|\n"
      "| time/           |         |\n|    fps          | 882     |\n|    total_timesteps | 8192 "
      "|\n"
      "| train/          |         |\n|    learning_rate | 0.0003 |\n|    loss         | 0.5     "
      "|\n"
      "-----------------------------\n",
      "train step=8192 loss=0.5 lr=0.0003 samples_per_s=882\n");
  EXPECT_READ(
      "***** eval metrics *****\n  epoch     =  3.0\n  eval_loss = 0.368\n  eval_runtime = "
      "0:00:10.48\n\nnext\n",
      "eval epoch=3 eval_loss=0.368\n");
  EXPECT_READ(
      "[batch=10/100]:\n\t Train time/batch: 9\n\t Train loss/train/total: "
      "5.5\n[batch=20/100]:\n\t Train loss/train/total: 4.5\n",
      "train step=10 loss=5.5\ntrain step=20 loss=4.5\n");
  EXPECT_READ(
      "wandb: Run summary:\nwandb:   train/loss 0.5\nwandb: train/global_step 100\nwandb: \n",
      "summary step=100 loss=0.5\n");
  EXPECT_READ(
      "   --> STEP: 4/7 -- GLOBAL_STEP: 12\n     | > loss: 0.99  (1.04)\n     | > current_lr: "
      "0.05\n\n",
      "train step=12 loss=0.99 lr=0.05\n");
}

TEST(LogFormats, BoostedTrees) {
  EXPECT_READ("[4]\ttrain-rmse:0.57968\tvalid-rmse:0.74490\n",
              "train step=4 loss=0.57968 eval_loss=0.7449\n");
  EXPECT_READ("[10]\tvalid_0's binary_logloss: 0.69\n", "eval step=10 eval_loss=0.69\n");
  EXPECT_READ("4:\tlearn: 0.57\ttest: 0.61\tbest: 0.61 (4)\ttotal: 3ms\tremaining: 9ms\n",
              "train step=4 loss=0.57 eval_loss=0.61\n");
}

TEST(LogFormats, Checkpoints) {
  EXPECT_READ("Saving model checkpoint to out/checkpoint-20\n", "saved out/checkpoint-20\n");
  EXPECT_READ("Saving checkpoints for 100 into out/model.ckpt.\n",
              "saved out/model.ckpt step=100\n");
  EXPECT_READ("INFO - Saving checkpoint at 2 epochs\n", "saved epoch 2\n");
  EXPECT_READ(
      "{\"kind\":\"checkpoint_saved\",\"step\":20,\"path\":\"out/"
      "checkpoint-20\",\"checkpoint_s\":0.5}\n"
      "{\"event\":\"checkpoint\",\"path\":\"C:\\\\out\\\\ckpt\"}\n"
      "{\"event\":\"load_checkpoint\",\"path\":\"out/checkpoint-10\"}\n",
      "saved out/checkpoint-20\nsaved C:\\out\\ckpt\n");
  EXPECT_READ(
      "Checkpoints will be saved to out.\nFigure saved at: out/loss.png\nSaving tokenizer to "
      "out/tok\n",
      "");
  EXPECT_READ(
      "Saving current state to out/step_3\nModel weights saved in out/step_3/model.safetensors\n",
      "saved out/step_3\n");
  EXPECT_READ("\nEpoch 1: val_loss improved from inf to 0.45203, saving model to best.keras\n",
              "eval epoch=1 eval_loss=0.45203\nsaved best.keras\n");
}

TEST(LogFormats, Ends) {
  EXPECT_READ("Overall training speed: 997 iterations in 0:11:18 (0.6804 s / it)\n",
              "summary step=997\n");
  EXPECT_READ("Epoch 0 training took 19.5 seconds\n", "summary epoch=0\n");
}

TEST(LogFormats, UserPatterns) {
  const std::vector<LogPattern> patterns = {{"r{step} | cost {loss} * {tokens_per_s} t/s", false},
                                            {"check: {loss}", true}};
  EXPECT_EQ(read("r12   | cost 2.50 (ok) 1500 t/s\nnothing\ncheck: 0.5\n", patterns),
            "train step=12 loss=2.5 tokens_per_s=1500\neval eval_loss=0.5\n");
  EXPECT_EQ(unknown_figure("a {los} b"), "los");
  EXPECT_EQ(unknown_figure("a {loss} b"), std::nullopt);
  EXPECT_EQ(unknown_figure("no figure"), "");
}

TEST(Meaning, Keys) {
  using logs::Figure;
  const auto figure = [](std::string_view key) { return logs::meaning_of(key).figure; };
  for (const auto key :
       {"loss", "Train Loss", "train_loss", "lm loss", "total_loss", "loss/train/total",
        "main_model_loss", "reduced_train_loss", "step_loss", "trainLoss", "CE loss"})
    EXPECT_EQ(figure(key), Figure::loss) << key;
  for (const auto key :
       {"eval_loss", "val_loss", "validation loss", "test/loss", "dev_loss", "loss/eval/total"})
    EXPECT_EQ(figure(key), Figure::eval_loss) << key;
  for (const auto key :
       {"loss_scale", "loss scale", "num_loss_counted_tokens", "best_loss", "loss weight"})
    EXPECT_NE(figure(key), Figure::loss) << key;
  for (const auto key : {"box_loss", "nll_loss", "actor/vf_loss", "score/mean"})
    EXPECT_EQ(figure(key), Figure::component) << key;
  for (const auto key :
       {"tokens/sec", "Tokens/s/device", "tokens per gpu per second (tgs)", "tps", "wps",
        "tokens_per_second_per_gpu", "train_tokens_per_second", "throughput/device/tokens_per_sec"})
    EXPECT_EQ(figure(key), Figure::tokens_per_s) << key;
  EXPECT_TRUE(logs::meaning_of("tokens per gpu per second (tgs)").per_device);
  EXPECT_FALSE(logs::meaning_of("tokens/sec").per_device);
  for (const auto key :
       {"samples_per_second", "CurrSamplesPerSec", "images/sec", "fps", "examples/s"})
    EXPECT_EQ(figure(key), Figure::samples_per_s) << key;
  for (const auto key : {"steps_per_sec", "it/s", "global_step/sec", "ups", "train_speed(iter/s)"})
    EXPECT_EQ(figure(key), Figure::steps_per_s) << key;
  for (const auto key :
       {"step_time", "iter time", "time_per_step_s", "elapsed time per iteration (ms)", "dt",
        "ms/step", "sec/batch", "batch_time", "train_step_timing in s", "timing_s/step"})
    EXPECT_EQ(figure(key), Figure::step_time_s) << key;
  for (const auto key :
       {"total time", "time/batch", "eta", "data_loader", "TFLOP/s/device", "elapsed"})
    EXPECT_NE(figure(key), Figure::step_time_s) << key;
  for (const auto key :
       {"max_mem", "peak memory", "memory(GiB)", "GPU_mem", "MaxMemAllocated", "cuda memory"})
    EXPECT_EQ(figure(key), Figure::mem) << key;
  for (const auto key : {"cpu_mem", "free memory", "memory util", "total memory"})
    EXPECT_EQ(figure(key), Figure::none) << key;
  for (const auto key :
       {"step", "global_step", "iter", "iteration", "num_updates", "completed step"})
    EXPECT_EQ(figure(key), Figure::step) << key;
  for (const auto key :
       {"max_steps", "warmup_steps", "eval_steps", "number of skipped iterations", "num_steps"})
    EXPECT_NE(figure(key), Figure::step) << key;
  EXPECT_EQ(figure("critic/lr"), Figure::none);
  EXPECT_EQ(figure("actor/lr(1e-4)"), Figure::lr);
  EXPECT_DOUBLE_EQ(logs::meaning_of("actor/lr(1e-4)").scale, 1e-4);
  EXPECT_EQ(figure("lr_scale"), Figure::none);
}

}  // namespace
}  // namespace rigwise
