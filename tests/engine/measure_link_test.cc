// The link measurement among two threads of this process (each with a Comm of its own), and with a
// Comm that changes bytes on the way.
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "engine/comm/sockets.h"
#include "engine/measure/link.h"

namespace rigwise::engine {
namespace {

/// Passes everything on, and changes one byte of what arrives at rank 1 from rank 0, or of what an
/// all-gather brings, where the message is `bytes` long.
class Corrupting final : public Comm {
 public:
  Corrupting(std::shared_ptr<Comm> below, std::int64_t bytes, bool gathers)
      : Comm(below->rank(), below->members()),
        below_(std::move(below)),
        bytes_(bytes),
        gathers_(gathers) {}
  [[nodiscard]] at::Device device() const override { return below_->device(); }
  Pending all_reduce(at::Tensor x, ReduceOp op) override { return below_->all_reduce(x, op); }
  Pending all_gather(at::Tensor in, at::Tensor out) override {
    below_->all_gather(in, out).wait();
    if (gathers_ && out.nbytes() == static_cast<std::size_t>(bytes_)) {
      out.view(at::kByte)[5].bitwise_xor_(16);
    }
    return {};
  }
  Pending reduce_scatter(at::Tensor in, at::Tensor out, ReduceOp op) override {
    return below_->reduce_scatter(in, out, op);
  }
  Pending broadcast(at::Tensor x, int root) override { return below_->broadcast(x, root); }
  Pending send(at::Tensor x, int peer, int tag) override { return below_->send(x, peer, tag); }
  Pending recv(at::Tensor x, int peer, int tag) override {
    below_->recv(x, peer, tag).wait();
    if (!gathers_ && rank() == 1 && x.numel() == bytes_) x[77].bitwise_xor_(1);
    return {};
  }
  void barrier() override { below_->barrier(); }
  std::shared_ptr<Comm> split(int colour, int key) override { return below_->split(colour, key); }
  [[nodiscard]] std::vector<std::string> hosts() const override { return below_->hosts(); }
  [[nodiscard]] CommCounters counters() override { return below_->counters(); }
  [[nodiscard]] std::vector<std::string> notes() const override { return below_->notes(); }

 private:
  std::shared_ptr<Comm> below_;
  std::int64_t bytes_;
  bool gathers_;
};

LinkReport measured(const LinkOptions& options, std::int64_t corrupt_bytes = 0,
                    bool gathers = false) {
  const auto socket = listen_on("127.0.0.1", 0);
  RankPlace place;
  place.size = 2;
  place.local_size = 2;
  place.master_port = *port_of(*socket);
  ::close(*socket);
  std::vector<LinkReport> reports(2);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      RankPlace own = place;
      own.rank = rank;
      auto comm = connect(own);
      ASSERT_TRUE(comm) << comm.error().message;
      Corrupting corrupting(*comm, corrupt_bytes, gathers);
      reports[static_cast<std::size_t>(rank)] = measure_link(corrupting, options);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(reports[0].pairs.size(), reports[1].pairs.size());
  for (std::size_t at = 0; at < reports[0].pairs.size(); ++at) {  // every rank knows the same
    EXPECT_EQ(reports[0].pairs[at].latency_s, reports[1].pairs[at].latency_s);
    EXPECT_EQ(reports[0].pairs[at].check.wrong_bytes, reports[1].pairs[at].check.wrong_bytes);
  }
  return reports[0];
}

LinkOptions small() {
  LinkOptions options;
  options.sizes_bytes = {8, 4096, 100000};
  options.repeats = 3;
  return options;
}

TEST(Link, EveryPairAndCollectiveOfEverySize) {
  const LinkReport report = measured(small());
  ASSERT_EQ(report.pairs.size(), 2U);
  EXPECT_EQ(report.pairs[0].from, 0);
  EXPECT_EQ(report.pairs[0].to, 1);
  EXPECT_EQ(report.pairs[1].from, 1);
  EXPECT_EQ(report.collectives.size(), 4U);
  EXPECT_EQ(report.hosts.size(), 2U);
  for (const auto& pair : report.pairs) {
    EXPECT_GT(pair.latency_s, 0);
    EXPECT_EQ(pair.check.wrong_bytes, 0);
    EXPECT_EQ(pair.check.checked_bytes, 2 * (8 + 4096 + 100000));  // the first and the last message
    ASSERT_EQ(pair.sizes.size(), 3U);
    for (const auto& size : pair.sizes) {
      EXPECT_EQ(size.time.repeats, 3);
      EXPECT_LE(size.time.low_s, size.time.median_s);
      EXPECT_LE(size.time.median_s, size.time.high_s);
      EXPECT_DOUBLE_EQ(size.algbw_bytes_per_s,
                       static_cast<double>(size.bytes) / size.time.median_s);
      EXPECT_EQ(size.busbw_bytes_per_s, size.algbw_bytes_per_s);
    }
  }
  ASSERT_TRUE(report.together);
  EXPECT_GE(report.together->factor_least, 1);
  EXPECT_LE(report.together->factor_least, report.together->factor);
  EXPECT_LE(report.together->factor, report.together->factor_most);
  // nccl-tests' factors for two ranks: all_reduce 2(n-1)/n = 1, all_gather and reduce_scatter 1/2
  for (const auto& collective : report.collectives) {
    const double factor =
        collective.operation == "all_gather" || collective.operation == "reduce_scatter" ? 0.5 : 1;
    EXPECT_EQ(collective.check.wrong_bytes, 0) << collective.operation;
    EXPECT_GT(collective.check.checked_bytes, 0);
    ASSERT_EQ(collective.overlap.has_value(), collective.operation != "broadcast");
    if (collective.overlap) {
      EXPECT_EQ(collective.overlap->bytes, 100000);
      EXPECT_GT(collective.overlap->both_s, 0);
    }
    for (const auto& size : collective.sizes) {
      EXPECT_DOUBLE_EQ(size.busbw_bytes_per_s, size.algbw_bytes_per_s * factor);
    }
  }
}

TEST(Link, OneChangedByteOfAPairIsFound) {
  const LinkReport report = measured(small(), 4096);
  EXPECT_EQ(report.pairs[0].check.wrong_bytes, 2);  // in both messages that were compared
  EXPECT_EQ(report.pairs[0].check.message_bytes, 4096);
  EXPECT_EQ(report.pairs[0].check.first_offset_bytes, 77);
  EXPECT_EQ(report.pairs[1].check.wrong_bytes, 0);
  for (const auto& collective : report.collectives) EXPECT_EQ(collective.check.wrong_bytes, 0);
}

TEST(Link, OneChangedByteOfACollectiveIsFound) {
  const LinkReport report = measured(small(), 100000, true);
  for (const auto& pair : report.pairs) EXPECT_EQ(pair.check.wrong_bytes, 0);
  for (const auto& collective : report.collectives) {
    EXPECT_EQ(collective.check.wrong_bytes, collective.operation == "all_gather" ? 2 : 0);
    if (collective.operation == "all_gather") {
      EXPECT_EQ(collective.check.first_offset_bytes, 5);
    }
  }
}

TEST(Spread, QuartilesOfKnownNumbers) {
  const Spread spread = spread_of({4, 1, 3, 2, 5});
  EXPECT_EQ(spread.repeats, 5);
  EXPECT_EQ(spread.median_s, 3);
  EXPECT_EQ(spread.low_s, 2);
  EXPECT_EQ(spread.high_s, 4);
  EXPECT_EQ(spread_of({1, 2}).median_s, 1.5);
  EXPECT_EQ(spread_of({7}).high_s, 7);
}

}  // namespace
}  // namespace rigwise::engine
