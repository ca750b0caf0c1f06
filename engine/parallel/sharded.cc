#include <c10/util/accumulate.h>

#include <algorithm>
#include <map>

#include "engine/parallel/recompute.h"
#include "engine/parallel/replicas.h"

namespace rigwise::engine {
namespace {

constexpr std::int64_t kAlignBytes = 64;

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
}

/// Tensors of any types side by side as bytes, of which each rank keeps an even share.
class ByteShare {
 public:
  void add(Parameter& parameter) {
    entries_.push_back(
        {&parameter, bytes_, parameter.value.scalar_type(), parameter.value.sizes().vec()});
    bytes_ += aligned(static_cast<std::int64_t>(parameter.value.nbytes()));
  }

  [[nodiscard]] bool empty() const { return entries_.empty(); }

  /// Keeps this rank's share alone; the parameters lose their values.
  void cut(const Comm& group) {
    const at::NoGradGuard no_grad;
    share_ = (bytes_ + group.size() - 1) / group.size();
    share_ = aligned(share_);
    const at::TensorOptions options = entries_[0].parameter->value.options().requires_grad(false);
    at::Tensor whole = at::zeros({share_ * group.size()}, options.dtype(at::kByte));
    for (const Entry& entry : entries_) {
      whole.narrow(0, entry.at, bytes_of(entry))
          .copy_(entry.parameter->value.contiguous().flatten().view(at::kByte));
      entry.parameter->value = at::Tensor();
    }
    mine_ = whole.narrow(0, share_ * group.rank(), share_).clone();
  }

  void start_gather(Comm& group) {
    if (whole_.defined() || empty()) return;
    whole_ = at::empty({share_ * group.size()}, mine_.options());
    coming_ = group.all_gather(mine_, whole_);
  }

  /// Waits for the bytes and gives the parameters their values.
  void finish_gather(StepClock* clock) {
    if (empty()) return;
    {
      const Waiting waiting(clock);
      coming_.wait();
    }
    for (const Entry& entry : entries_) {
      entry.parameter->value = whole_.narrow(0, entry.at, bytes_of(entry))
                                   .view(entry.type)
                                   .view(entry.shape)
                                   .detach()
                                   .set_requires_grad(entry.parameter->trainable);
    }
  }

  void release() {
    for (const Entry& entry : entries_) entry.parameter->value = at::Tensor();
    whole_ = at::Tensor();
  }

  struct Entry {
    Parameter* parameter;
    std::int64_t at;  // byte
    at::ScalarType type;
    std::vector<std::int64_t> shape;
  };
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
  [[nodiscard]] const at::Tensor& mine() const { return mine_; }
  [[nodiscard]] std::int64_t share_bytes() const { return share_; }
  static std::int64_t bytes_of(const Entry& entry) {
    return static_cast<std::int64_t>(c10::elementSize(entry.type)) *
           c10::multiply_integers(entry.shape);
  }

 private:
  std::vector<Entry> entries_;
  std::int64_t bytes_ = 0, share_ = 0;
  at::Tensor mine_, whole_;
  Pending coming_;
};

/// What is gathered and given away together: a block, or all that is outside the blocks. Trained
/// tensors, all of one type, lie apart from frozen ones: their gradients come back the same way.
struct Unit {
  ByteShare frozen, trained;
  at::Tensor gradient;  // this rank's share, in the trained type
  struct Sum {
    at::Tensor whole, mine;
    Pending pending;
  };
  std::vector<Sum> sums = {};

  void start_gather(Comm& group) { frozen.start_gather(group), trained.start_gather(group); }
  void finish_gather(StepClock* clock) {
    frozen.finish_gather(clock), trained.finish_gather(clock);
  }
  void release() { frozen.release(), trained.release(); }
};

class ShardedReplicas final : public Sharded {
 public:
  ShardedReplicas(Model& model, std::shared_ptr<Comm> group, StepClock* clock)
      : model_(model), group_(std::move(group)), clock_(clock) {
    for (const std::unique_ptr<Block>& block : model.blocks()) order_.push_back(block.get());
    model.set_runner(recompute_blocks(
        {.before = [this](const Block& block, bool again) { before(block, again); },
         .after = [this](const Block& block, bool again) { after(block, again); }}));
  }

  void shard(Block& block) override { shard_unit(units_[&block], block.parameters()); }

  void shard_rest() override {
    std::vector<Parameter*> rest;
    for (Parameter* parameter : model_.parameters()) {
      if (parameter->value.defined()) rest.push_back(parameter);
    }
    shard_unit(rest_, rest);
  }

  void begin_step() override {
    for (Unit* unit : all_units()) {
      if (unit->gradient.defined()) unit->gradient.zero_();
    }
  }

  void begin_micro(bool /*last*/) override {
    rest_.start_gather(*group_);
    rest_.finish_gather(clock_);
  }

  void end_micro(bool /*last*/) override {
    send_gradients(rest_);
    rest_.release();
    for (auto& [block, unit] : units_) unit.release();
    // Sums are taken in now: the next micro-batch brings others, and memory is what this is for.
    for (Unit* unit : all_units()) take_sums(*unit);
  }

  void finish() override {}
  std::vector<Piece>& pieces() override { return pieces_; }

 private:
  std::vector<Unit*> all_units() {
    std::vector<Unit*> all;
    for (const Block* block : order_) all.push_back(&units_.at(block));
    all.push_back(&rest_);
    return all;
  }

  void shard_unit(Unit& unit, const std::vector<Parameter*>& parameters) {
    for (Parameter* parameter : parameters) {
      (parameter->trainable ? unit.trained : unit.frozen).add(*parameter);
    }
    if (!unit.frozen.empty()) unit.frozen.cut(*group_);
    if (unit.trained.empty()) return;
    unit.trained.cut(*group_);
    const at::Tensor values = unit.trained.mine().view(unit.trained.entries()[0].type);
    unit.gradient = at::zeros_like(values);
    add_pieces(unit, values);
  }

  /// The parts of parameters that fall into this rank's share.
  void add_pieces(Unit& unit, const at::Tensor& values) {
    const std::int64_t first = unit.trained.share_bytes() * group_->rank();
    const std::int64_t last = first + unit.trained.share_bytes();
    for (const ByteShare::Entry& entry : unit.trained.entries()) {
      const std::int64_t begin = std::max(first, entry.at);
      const std::int64_t end = std::min(last, entry.at + ByteShare::bytes_of(entry));
      if (begin >= end) continue;
      const auto size = static_cast<std::int64_t>(c10::elementSize(entry.type));
      Piece piece{.parameter = entry.parameter,
                  .begin = (begin - entry.at) / size,
                  .end = (end - entry.at) / size};
      piece.value = values.narrow(0, (begin - first) / size, (end - begin) / size);
      piece.gradient = unit.gradient.narrow(0, (begin - first) / size, (end - begin) / size);
      pieces_.push_back(std::move(piece));
    }
  }

  void before(const Block& block, bool again) {
    Unit& unit = units_.at(&block);
    unit.start_gather(*group_);
    unit.finish_gather(clock_);
    // The next one travels while this one is computed.
    const auto place = std::ranges::find(order_, &block) - order_.begin();
    const auto next = again ? place - 1 : place + 1;
    if (next >= 0 && next < std::ssize(order_)) {
      units_.at(order_[static_cast<std::size_t>(next)]).start_gather(*group_);
    }
  }

  void after(const Block& block, bool again) {
    Unit& unit = units_.at(&block);
    if (again) send_gradients(unit);
    // The backward pass begins with the block that the forward pass ended with.
    const bool stays = !again && &block == order_.back();
    if (!stays) unit.release();
  }

  void send_gradients(Unit& unit) {
    if (unit.trained.empty()) return;
    Unit::Sum sum;
    sum.mine = at::empty_like(unit.gradient);
    sum.whole = at::zeros({unit.gradient.numel() * group_->size()}, unit.gradient.options());
    for (const ByteShare::Entry& entry : unit.trained.entries()) {
      const at::Tensor gradient = entry.parameter->value.grad();
      if (!gradient.defined()) continue;
      const auto size = static_cast<std::int64_t>(c10::elementSize(entry.type));
      sum.whole.narrow(0, entry.at / size, gradient.numel()).copy_(gradient.flatten());
    }
    sum.pending = group_->reduce_scatter(sum.whole, sum.mine);
    unit.sums.push_back(std::move(sum));
  }

  void take_sums(Unit& unit) {
    for (Unit::Sum& sum : unit.sums) {
      {
        const Waiting waiting(clock_);
        sum.pending.wait();
      }
      unit.gradient.add_(sum.mine);
    }
    unit.sums.clear();
  }

  Model& model_;
  std::shared_ptr<Comm> group_;
  StepClock* clock_;
  std::vector<const Block*> order_;
  std::map<const Block*, Unit> units_;
  Unit rest_;
  std::vector<Piece> pieces_;
};

}  // namespace

std::unique_ptr<Sharded> Sharded::make(Model& model, const std::shared_ptr<Comm>& group,
                                       StepClock* clock) {
  return std::make_unique<ShardedReplicas>(model, group, clock);
}

}  // namespace rigwise::engine
