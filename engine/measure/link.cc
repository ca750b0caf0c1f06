#include "engine/measure/link.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

namespace rigwise::engine {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Bytes that no other message of the measurement has: splitmix64 (Steele, Lea, Flood 2014).
at::Tensor pattern(std::int64_t bytes, std::uint64_t seed) {
  at::Tensor out = at::empty({bytes}, at::kByte);
  auto* at = out.data_ptr<std::uint8_t>();
  for (std::int64_t offset = 0; offset < bytes; offset += 8) {
    std::uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    z ^= z >> 31;
    std::memcpy(at + offset, &z,
                static_cast<std::size_t>(std::min<std::int64_t>(8, bytes - offset)));
  }
  return out;
}

void compare(const at::Tensor& got, const at::Tensor& want, ByteCheck& check) {
  const at::Tensor here = got.cpu().view(-1).view(at::kByte);
  const at::Tensor there = want.view(-1).view(at::kByte);
  check.checked_bytes += there.numel();
  if (at::equal(here, there)) return;
  const at::Tensor wrong = at::ne(here, there);
  check.wrong_bytes += wrong.sum().item<std::int64_t>();
  if (!check.message_bytes) {
    check.message_bytes = there.numel();
    check.first_offset_bytes = wrong.nonzero()[0].item<std::int64_t>();
  }
}

LinkSize sized(std::int64_t bytes, const std::vector<double>& times_s, double bus_factor) {
  LinkSize size;
  size.bytes = bytes;
  size.time = spread_of(times_s);
  size.algbw_bytes_per_s = static_cast<double>(bytes) / size.time.median_s;
  size.busbw_bytes_per_s = size.algbw_bytes_per_s * bus_factor;
  return size;
}

/// Arithmetic as training has it: products of matrices, and passes over memory between them.
class Arithmetic {
 public:
  explicit Arithmetic(at::Device device)
      : x_TH(at::ones({256, 512}, device)), w_HF(at::full({512, 1024}, 1e-3, device)) {}

  void run(std::int64_t rounds) {
    for (std::int64_t round = 0; round < rounds; ++round) {
      const at::Tensor up_TF = at::gelu(at::mm(x_TH, w_HF));
      x_TH = at::mm(up_TF, w_HF.t()).add_(x_TH, 0.5).clamp_(-1, 1);
    }
  }

 private:
  at::Tensor x_TH, w_HF;  // tokens, hidden, MLP
};

constexpr std::int64_t kLeastHidden = 64 << 10;         // smaller messages are latency
constexpr double kLeastWork_s = 0.02, kMostWork_s = 1;  // of the arithmetic beside an all-reduce
constexpr double kOverlap_s = 3;                        // of one collective's repeats, about
constexpr int kFewRepeats = 3, kManyRepeats = 16;
constexpr int kTogetherRepeats = 8;
constexpr double kTogetherWork_s = 0.15;

class Measurement {
 public:
  Measurement(Comm& comm, const LinkOptions& options) : comm_(comm), options_(options) {}

  LinkPair pair(int from, int to) {
    LinkPair out;
    out.from = from;
    out.to = to;
    std::vector<double> round_trips_s = share(messages(out, 8, false), from);
    out.latency_s = spread_of(round_trips_s).median_s / 2;
    for (const std::int64_t bytes : options_.sizes_bytes) {
      std::vector<double> times_s = share(messages(out, bytes, true), from);
      // a message that is not slower than the answer cannot be told from it
      for (double& time_s : times_s) time_s = std::max(time_s - out.latency_s, time_s / 2);
      out.sizes.push_back(sized(bytes, times_s, 1));
    }
    out.check = shared(out.check, to);
    return out;
  }

  LinkCollective collective(const char* operation) {
    LinkCollective out;
    out.operation = operation;
    for (const std::int64_t bytes : options_.sizes_bytes) {
      const std::int64_t parts = std::max<std::int64_t>(1, bytes / 4 / comm_.size());
      const std::int64_t count = parts * comm_.size();
      const auto times_s = runs(out, count);
      out.sizes.push_back(sized(count * 4, times_s, bus_factor(out.operation)));
    }
    out.check = worst(out.check);
    if (options_.sizes_bytes.back() >= kLeastHidden && out.operation != "broadcast")
      out.overlap = overlap(out.operation, out.sizes.back().bytes / 4);
    return out;
  }

  LinkTogether together() {
    LinkTogether out;
    out.repeats = kTogetherRepeats;
    Arithmetic arithmetic(comm_.device());
    const std::int64_t rounds = rounds_for(arithmetic, kTogetherWork_s);
    std::vector<double> factors, works_s;
    for (int repeat = 0; repeat <= out.repeats; ++repeat) {
      double alone_s = 0;
      for (int rank = 0; rank < comm_.size(); ++rank) {
        const bool mine = comm_.rank() == rank;
        alone_s = std::max(alone_s, slowest(timed([&] { arithmetic.run(mine ? rounds : 0); })));
      }
      const double together_s = slowest(timed([&] { arithmetic.run(rounds); }));
      if (repeat == 0) continue;  // warms up
      factors.push_back(std::max(1.0, together_s / alone_s));
      works_s.push_back(alone_s);
    }
    out.work_s = spread_of(works_s).median_s;
    out.factor = spread_of(factors).median_s;
    out.factor_least = *std::min_element(factors.begin(), factors.end());
    out.factor_most = *std::max_element(factors.begin(), factors.end());
    return out;
  }

 private:
  LinkOverlap overlap(const std::string& operation, std::int64_t count) {
    LinkOverlap out;
    out.bytes = count * 4;
    const std::int64_t part = count / comm_.size();
    const at::Tensor in = on_device(at::zeros({count}, at::kFloat));
    at::Tensor result = operation == "reduce_scatter" ? in.narrow(0, 0, part).clone() : in.clone();
    Arithmetic arithmetic(comm_.device());
    const auto alone = [&] { begin(operation, in, result, part).wait(); };
    slowest(timed(alone));  // warms up
    const double alone_s = slowest(timed(alone));
    const std::int64_t rounds =
        rounds_for(arithmetic, std::clamp(alone_s, kLeastWork_s, kMostWork_s));
    out.repeats =
        std::clamp(static_cast<int>(kOverlap_s / (4 * alone_s + 1e-9)), kFewRepeats, kManyRepeats);
    std::vector<double> alones_s, works_s, boths_s, shares;
    for (int repeat = 0; repeat < out.repeats; ++repeat) {
      alones_s.push_back(slowest(timed(alone)));
      works_s.push_back(slowest(timed([&] { arithmetic.run(rounds); })));
      boths_s.push_back(slowest(timed([&] {
        Pending moved = begin(operation, in, result, part);
        arithmetic.run(rounds);
        moved.wait();
      })));
      const double saved_s = alones_s.back() + works_s.back() - boths_s.back();
      shares.push_back(std::clamp(saved_s / std::min(alones_s.back(), works_s.back()), 0.0, 1.0));
    }
    out.alone_s = spread_of(alones_s).median_s;
    out.compute_together_s = spread_of(works_s).median_s;
    out.both_s = spread_of(boths_s).median_s;
    out.hidden = spread_of(shares).median_s;
    out.hidden_least = *std::min_element(shares.begin(), shares.end());
    out.hidden_most = *std::max_element(shares.begin(), shares.end());
    return out;
  }

  /// How much arithmetic takes about so long on all ranks at once; the same on every rank.
  std::int64_t rounds_for(Arithmetic& arithmetic, double target_s) {
    constexpr int kTries = 3;  // the fastest counts: what else runs only slows it
    const auto took_s = [&](std::int64_t rounds) {
      double least_s = slowest(timed([&] { arithmetic.run(rounds); }));
      for (int again = 1; again < kTries; ++again)
        least_s = std::min(least_s, slowest(timed([&] { arithmetic.run(rounds); })));
      return least_s;
    };
    std::int64_t rounds = 1;
    double one_s = took_s(rounds);
    for (; one_s < target_s / 4; one_s = took_s(rounds)) rounds *= 2;
    const double wanted = static_cast<double>(rounds) * target_s / one_s;
    return std::max<std::int64_t>(1, std::llround(wanted));
  }

  /// Seconds from a common start to this rank's own end.
  template <class Work>
  double timed(Work work) {
    synchronize(comm_.device());
    comm_.barrier();
    const auto start = Clock::now();
    work();
    synchronize(comm_.device());
    return seconds_since(start);
  }

  double slowest(double seconds) {
    at::Tensor all = on_device(at::tensor({seconds}, at::kDouble));
    comm_.all_reduce(all, ReduceOp::max).wait();
    return all.item<double>();
  }

  [[nodiscard]] at::Tensor on_device(const at::Tensor& x) const { return x.to(comm_.device()); }

  /// Repeats of one message from `pair.from` to `pair.to` and an answer; the round trips' times on
  /// the sender, nothing elsewhere. The first one and the last one are compared.
  std::vector<double> messages(LinkPair& pair, std::int64_t bytes, bool check) {
    std::vector<double> times_s;
    if (comm_.rank() != pair.from && comm_.rank() != pair.to) return times_s;
    const bool sends = comm_.rank() == pair.from;
    const int peer = sends ? pair.to : pair.from;
    const at::Tensor want = pattern(bytes, seed(pair.from, pair.to, bytes));
    at::Tensor message = sends ? on_device(want) : at::zeros({bytes}, on_device(want).options());
    at::Tensor answer = at::zeros({8}, message.options());
    for (int repeat = 0; repeat <= options_.repeats; ++repeat) {  // the first is a warm-up
      synchronize(comm_.device());
      const auto start = Clock::now();
      if (sends) {
        comm_.send(message, peer).wait();
        comm_.recv(answer, peer).wait();
        synchronize(comm_.device());
        if (repeat > 0) times_s.push_back(seconds_since(start));
      } else {
        comm_.recv(message, peer).wait();
        comm_.send(answer, peer).wait();
        if (check && (repeat == 0 || repeat == options_.repeats))
          compare(message, want, pair.check);
        if (repeat + 1 >= options_.repeats) message.zero_();
      }
    }
    return times_s;
  }

  /// Repeats of one collective over `count` floats; the slowest rank's times.
  std::vector<double> runs(LinkCollective& out, std::int64_t count) {
    const int size = comm_.size();
    const std::int64_t part = count / size;
    const auto of_rank = [&](int rank) {  // small whole numbers: exact in any order of summing
      return (at::arange(count, at::kFloat).remainder(97) * (rank + 1)).remainder(31) - 15;
    };
    at::Tensor want;
    if (out.operation == "all_reduce" || out.operation == "reduce_scatter") {
      want = of_rank(0);
      for (int rank = 1; rank < size; ++rank) want.add_(of_rank(rank));
      if (out.operation == "reduce_scatter") want = want.narrow(0, comm_.rank() * part, part);
    } else if (out.operation == "all_gather") {
      std::vector<at::Tensor> parts;
      for (int rank = 0; rank < size; ++rank) parts.push_back(of_rank(rank).narrow(0, 0, part));
      want = at::cat(parts);
    } else {
      want = of_rank(0);
    }
    const at::Tensor given = on_device(of_rank(comm_.rank()));
    at::Tensor in = given.clone();  // once: fresh memory would be part of what is timed
    at::Tensor result = in;
    if (out.operation == "all_gather") result = at::empty({count}, in.options());
    if (out.operation == "reduce_scatter") result = at::empty({part}, in.options());
    std::vector<double> times_s;
    for (int repeat = 0; repeat <= options_.repeats; ++repeat) {
      result.zero_();
      in.copy_(given);
      synchronize(comm_.device());
      comm_.barrier();
      const auto start = Clock::now();
      begin(out.operation, in, result, part).wait();
      synchronize(comm_.device());
      if (repeat > 0) times_s.push_back(seconds_since(start));
      if (repeat == 0 || repeat == options_.repeats) compare(result, want.contiguous(), out.check);
    }
    at::Tensor slowest = on_device(at::tensor(times_s, at::kDouble));
    comm_.all_reduce(slowest, ReduceOp::max).wait();
    slowest = slowest.cpu();
    return {slowest.data_ptr<double>(), slowest.data_ptr<double>() + slowest.numel()};
  }

  Pending begin(const std::string& operation, const at::Tensor& in, at::Tensor& result,
                std::int64_t part) {
    if (operation == "all_reduce") return comm_.all_reduce(result);
    if (operation == "all_gather") return comm_.all_gather(in.narrow(0, 0, part), result);
    if (operation == "reduce_scatter") return comm_.reduce_scatter(in, result);
    return comm_.broadcast(result, 0);
  }

  [[nodiscard]] double bus_factor(const std::string& operation) const {
    const double n = comm_.size();
    if (operation == "all_reduce") return 2 * (n - 1) / n;
    return operation == "broadcast" ? 1 : (n - 1) / n;
  }

  [[nodiscard]] static std::uint64_t seed(int from, int to, std::int64_t bytes) {
    return static_cast<std::uint64_t>(from) * 1'000'003 + static_cast<std::uint64_t>(to) * 10'007 +
           static_cast<std::uint64_t>(bytes);
  }

  /// `root`'s numbers on every rank; there are options_.repeats of them.
  std::vector<double> share(std::vector<double> values, int root) {
    values.resize(static_cast<std::size_t>(options_.repeats));
    at::Tensor all = on_device(at::tensor(values, at::kDouble));
    comm_.broadcast(all, root).wait();
    all = all.cpu();
    return {all.data_ptr<double>(), all.data_ptr<double>() + all.numel()};
  }

  ByteCheck shared(const ByteCheck& check, int root) {
    at::Tensor all = on_device(to_tensor(check));
    comm_.broadcast(all, root).wait();
    return to_check(all.cpu());
  }

  /// The check of the rank that saw the most wrong bytes; bytes checked by all together.
  ByteCheck worst(const ByteCheck& check) {
    at::Tensor all_W4 = at::empty({comm_.size(), 4}, on_device(to_tensor(check)).options());
    comm_.all_gather(on_device(to_tensor(check)), all_W4).wait();
    all_W4 = all_W4.cpu();
    ByteCheck out = to_check(all_W4[all_W4.select(1, 1).argmax().item<std::int64_t>()]);
    out.checked_bytes = all_W4.select(1, 0).sum().item<std::int64_t>();
    return out;
  }

  static at::Tensor to_tensor(const ByteCheck& check) {
    return at::tensor({check.checked_bytes, check.wrong_bytes, check.message_bytes.value_or(0),
                       check.first_offset_bytes.value_or(0)},
                      at::kLong);
  }
  static ByteCheck to_check(const at::Tensor& values) {
    ByteCheck check;
    check.checked_bytes = values[0].item<std::int64_t>();
    check.wrong_bytes = values[1].item<std::int64_t>();
    if (check.wrong_bytes > 0) {
      check.message_bytes = values[2].item<std::int64_t>();
      check.first_offset_bytes = values[3].item<std::int64_t>();
    }
    return check;
  }

  Comm& comm_;
  const LinkOptions& options_;
};

}  // namespace

LinkReport measure_link(Comm& comm, const LinkOptions& options) {
  const at::NoGradGuard no_grad;
  LinkReport report;
  report.hosts = comm.hosts();
  report.device = comm.device().str();
  report.notes = comm.notes();
  Measurement measurement(comm, options);
  for (int from = 0; options.pairs && from < comm.size(); ++from) {
    for (int to = 0; to < comm.size(); ++to) {
      if (from != to) report.pairs.push_back(measurement.pair(from, to));
    }
  }
  if (options.collectives) {
    for (const char* operation : {"all_reduce", "all_gather", "reduce_scatter", "broadcast"}) {
      report.collectives.push_back(measurement.collective(operation));
    }
    if (options.sizes_bytes.back() >= kLeastHidden) report.together = measurement.together();
  }
  return report;
}

}  // namespace rigwise::engine
