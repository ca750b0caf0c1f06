// Reads N MB of each of the five main families of logs through LogReader, in the pieces in which a
// log file is read, and prints one JSON object a family: MB/s of CPU time, entries, peak memory.
//
//   read_speed [MEGABYTES] [FAMILY]
//
// Each family is a block of seeded text that is read again and again: digits vary from entry to
// entry inside the block. `line` is one line without an end, of all the bytes.
#include <fmt/format.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <string_view>

#include "rigwise/logs.h"

namespace {

using namespace rigwise;

constexpr std::size_t kBlockBytes = 4 << 20;
constexpr std::size_t kChunkBytes = 64 << 10;

std::mt19937_64 random_bits(7);

double uniform(double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(random_bits);
}

std::string bar(int step, int steps, int width) {
  std::string glyphs;
  for (int i = 0; i < width; ++i) glyphs += i < width * step / steps ? "█" : " ";
  return fmt::format("{:3}%|{}| {}/{} [{:02}:{:02}<05:12,  1.{:02}s/it", 100 * step / steps, glyphs,
                     step, steps, step / 60 % 60, step % 60, static_cast<int>(uniform(10, 99)));
}

/// Hugging Face: a bar cleared, a dict line.
void hf(std::string& text, int i) {
  const int step = i % 2000;
  text += '\r' + bar(step, 2000, 40) + "]\r" + std::string(80, ' ') + '\r';
  text += fmt::format(
      "{{'loss': {:.4f}, 'grad_norm': {:.16g}, 'learning_rate': {:.16g}, 'epoch': {:.2f}}}\n",
      uniform(1, 4), uniform(0.1, 3), uniform(1e-6, 1e-4), step * 0.01);
}

void bars(std::string& text, int i) {
  text += "\rEpoch 0: " + bar(i % 4000, 4000, 30) +
          fmt::format(", loss={:.3f}, lr={:.2e}]", uniform(1, 4), uniform(1e-6, 1e-4));
  if (i % 4000 == 3999) text += '\n';
}

/// Megatron and torchtitan.
void pairs(std::string& text, int i) {
  text += fmt::format(
      " [2026-01-05 10:00:00] iteration {:8}/  317892 | consumed samples: {:12} | elapsed time per "
      "iteration "
      "(ms): {:.1f} | learning rate: {:.6E} | global batch size:   768 | lm loss: {:.6E} | loss "
      "scale: 1.0 | "
      "grad norm: {:.3f} | number of skipped iterations:   0 | number of nan iterations:   0 |\n",
      i, 768LL * i, uniform(900, 1100), uniform(1e-6, 1e-4), uniform(1, 4), uniform(0.1, 3));
  text += fmt::format(
      "[rank0]:[titan] 2026-01-05 10:00:00,322 - root - INFO - step: {:2}  loss: {:7.4f}  "
      "grad_norm: {:7.4f}  "
      "memory: 47.31GiB(49.80%)  tps: 5,{:03}  tflops: {:.2f}  mfu: {:.2f}%\n",
      i, uniform(1, 4), uniform(0.1, 3), static_cast<int>(uniform(0, 999)), uniform(300, 350),
      uniform(30, 40));
}

void json(std::string& text, int i) {
  text += fmt::format(
      "{{\"type\": \"train\", \"step\": {}, \"loss\": {}, \"lr\": {}, \"grad_norm\": {}, "
      "\"step_time\": {}, "
      "\"tokens_per_sec\": {}}}\n",
      i, uniform(1, 4), uniform(1e-6, 1e-4), uniform(0.1, 3), uniform(0.1, 0.3),
      uniform(9000, 11000));
}

/// What stands around metrics: loggers' lines, warnings, paths, a table now and then.
void plain(std::string& text, int i) {
  static constexpr std::string_view kWords[] = {
      "loading", "shard", "worker", "started", "cache", "hit",  "tokenizer",
      "for",     "rank",  "with",   "device",  "of",    "queue"};
  std::string message;
  for (int w = 0; w < 8; ++w) {  // no two lines have the same words
    message += ' ';
    message += kWords[random_bits() % std::size(kWords)];
    if (w % 3 == 2) message += ' ' + std::to_string(random_bits() % 10000);
  }
  text += fmt::format("2026-01-05 10:{:02}:{:02},{:03} - root - INFO -{}\n", i / 60 % 60, i % 60,
                      i % 1000, message);
  text += fmt::format(
      "2026-01-05 10:{:02}:{:02},{:03} - data - INFO - Loading dataset shard {} of 2000 from "
      "/data/shards/part-{:05}.parquet\n",
      i / 60 % 60, i % 60, i % 1000, i % 2000, i % 2000);
  text +=
      "/opt/venv/lib/python3.11/site-packages/torch/utils/data/dataloader.py:557: UserWarning: "
      "This DataLoader "
      "will create 8 worker processes in total.\n  warnings.warn(_create_warning_msg(\n";
  text += "NCCL INFO Channel 00/02 :    0   1\n";
  if (i % 50 == 0) {
    text += "epoch     train_loss  valid_loss  accuracy  time    \n";
    for (int row = 0; row < 5; ++row)
      text += fmt::format("{:<10}{:.6f}    {:.6f}    {:.6f}  02:4{}   \n", row, uniform(1, 4),
                          uniform(1, 4), uniform(0, 1), row);
  }
}

void line(std::string& text, int i) {
  text += fmt::format("x{} ", i);
}

double cpu_s() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

double resident_mib() {
  long pages = 0, resident = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r"); file != nullptr) {
    if (std::fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return static_cast<double>(resident) * 4096 / (1 << 20);
}

}  // namespace

int main(int argc, char** argv) {
  const double megabytes = argc > 1 ? std::atof(argv[1]) : 1000;
  const std::string_view only = argc > 2 ? argv[2] : "";
  const std::pair<const char*, void (*)(std::string&, int)> families[] = {
      {"hf", hf},     {"bars", bars},   {"pairs", pairs},
      {"json", json}, {"plain", plain}, {"line", line}};
  for (const auto& [name, make] : families) {
    if (!only.empty() && only != name) continue;
    std::string block;
    for (int i = 0; block.size() < kBlockBytes; ++i) make(block, i);
    const double before_mib = resident_mib();
    double peak_mib = before_mib, total = 0;
    std::size_t entries = 0;
    LogReader reader("log/out.log");
    LogBatch batch;
    const double start_s = cpu_s();
    while (total < megabytes * 1e6) {
      for (std::size_t at = 0; at < block.size(); at += kChunkBytes) {
        reader.push_into(std::string_view(block).substr(at, kChunkBytes), total * 1e-6, batch);
        entries += batch.steps.size();
      }
      total += static_cast<double>(block.size());
      peak_mib = std::max(peak_mib, resident_mib());
    }
    entries += reader.finish(total * 1e-6).steps.size();
    const double took_s = cpu_s() - start_s;
    const auto& read = reader.statistics();
    fmt::print(
        "{{\"family\": \"{}\", \"mb_per_s\": {:.0f}, \"mb\": {:.0f}, \"entries\": {}, \"lines\": "
        "{}, "
        "\"matched\": {}, \"reader_mib\": {:.1f}}}\n",
        name, total * 1e-6 / took_s, total * 1e-6, entries, read.lines, read.matched,
        peak_mib - before_mib);
    std::fflush(stdout);
  }
}
