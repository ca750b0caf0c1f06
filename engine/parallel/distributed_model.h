// A model that is trained, laid out over the ranks of a run: described, parted, filled, and from
// then on stepped. Who trains it says what the batches are; nobody needs to know how many ranks
// there are to do so.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "engine/files/adapter_config.h"
#include "engine/model/model.h"
#include "engine/model/weights.h"
#include "engine/parallel/layout.h"
#include "engine/parallel/pipeline.h"
#include "engine/parallel/replicas.h"
#include "engine/parallel/step_clock.h"
#include "rigwise/result.h"

namespace rigwise::engine {

enum class Method { full, lora, qlora };

struct ModelOptions {
  std::filesystem::path model = {};  // a Hugging Face folder
  Method method = Method::lora;
  AdapterConfig adapter = {};                         // of LoRA and QLoRA
  std::optional<std::filesystem::path> adapter_from;  // start from this PEFT folder
  at::ScalarType dtype = at::kFloat;
  Storage quantised = Storage::nf4_double;  // of QLoRA
  std::uint64_t seed = 0;                   // of new adapters
  std::int64_t longest = 0;                 // tokens of a window
  std::int64_t rows = 1024;                 // tokens of a micro-batch, about
  Layout layout = {};
  Schedule schedule = Schedule::one_f_one_b;
  std::vector<std::int64_t> stage_layers = {};  // of pp and split; empty: even
  bool recompute = false;
  std::vector<at::Device> devices = {at::kCPU};  // of the parts of a split; one otherwise
};

class DistributedModel {
 public:
  /// Collective. Errors: of the files, and usage where the layout does not fit the model.
  static Result<std::unique_ptr<DistributedModel>> make(const ModelOptions& options,
                                                        const std::shared_ptr<Comm>& world);

  /// Gradients of scale * sum of the nll over the micro-batches of all data-parallel ranks. Only
  /// those of this rank's are given; its place in tensor or pipeline groups sees the same ones.
  /// Collective. Throws CommFailure.
  struct Outcome {
    double loss = 0;           // the scaled sum, over all ranks
    double gradient_norm = 0;  // of all trained parameters together
  };
  Outcome gradients(const std::vector<MicroBatch>& micro_batches, double scale);

  /// What this rank updates.
  [[nodiscard]] std::vector<Piece>& pieces() { return replicas_->pieces(); }

  /// Each element of each trained parameter belongs to one rank of all that hold it: does this
  /// piece to this rank?
  [[nodiscard]] bool owns(const Piece& piece) const;

  /// The whole of what `pick` gives for each trained parameter's pieces, put together from all
  /// ranks, on the CPU of rank 0 (elsewhere undefined), in the order of the whole model.
  /// Collective.
  enum class Part { value, gradient, moment1, moment2 };
  std::vector<NamedTensor> gather(Part part);
  /// Puts whole tensors, by name, back into this rank's pieces.
  /// Errors: not_found, malformed (a shape: both are told).
  Status restore(Part part, const std::function<Result<at::Tensor>(const Parameter&)>& whole_of);

  [[nodiscard]] Model& model() { return *model_; }
  [[nodiscard]] const Mesh& mesh() const { return mesh_; }
  [[nodiscard]] StepClock& clock() { return clock_; }
  [[nodiscard]] const ModelOptions& options() const { return options_; }
  /// Of the files that the model was read from (ModelFolder::fingerprint).
  [[nodiscard]] const std::string& base_fingerprint() const { return base_fingerprint_; }
  /// Of the whole model, whatever this rank holds of it.
  [[nodiscard]] std::int64_t trained_elements() const { return trained_elements_; }
  [[nodiscard]] std::int64_t all_elements() const { return all_elements_; }

 private:
  DistributedModel(ModelOptions options, Mesh mesh, at::Device device)
      : options_(std::move(options)), mesh_(std::move(mesh)), clock_(device) {}
  Status describe();
  Status part();
  Status fill();
  double run_plain(const std::vector<MicroBatch>& micro_batches, double scale);
  double run_staged(const std::vector<MicroBatch>& micro_batches, double scale);
  void sum_partial_gradients();
  void sum_tied_gradients();
  Outcome sum_outcome(double loss);

  ModelOptions options_;
  Mesh mesh_;
  StepClock clock_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Replicas> replicas_;
  /// Names and shapes of all that is trained, in the order of the whole model.
  struct Trained {
    std::string name;
    std::vector<std::int64_t> shape;
  };
  std::vector<Trained> trained_;
  std::string base_fingerprint_;
  std::string tied_;                 // the parameter that two stages train, or empty
  std::shared_ptr<Comm> tied_ends_;  // first and last stage, where that is so
  std::int64_t trained_elements_ = 0, all_elements_ = 0;
};

}  // namespace rigwise::engine
