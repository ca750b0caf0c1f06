#include "engine/model/packed.h"

#include <ATen/core/dispatch/Dispatcher.h>

namespace rigwise::engine {
namespace {

using PackOp = at::Tensor(const at::Tensor&, std::optional<c10::SymInt>);
using ProductOp = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                             std::string_view, c10::List<std::optional<at::Scalar>>,
                             std::optional<std::string_view>);

template <class Op>
std::optional<c10::TypedOperatorHandle<Op>> find(const char* name) {
  const auto found = c10::Dispatcher::singleton().findSchema({name, ""});
  if (!found) return std::nullopt;
  return found->typed<Op>();
}

// Not part of ATen's headers: they are registered for torch.compile. Where a libtorch has them no
// more, or with other arguments, nothing is packed.
struct Operators {
  std::optional<c10::TypedOperatorHandle<PackOp>> pack;
  std::optional<c10::TypedOperatorHandle<ProductOp>> product;
};

const Operators& operators() {
  static const Operators found = []() -> Operators {
    try {
      return {find<PackOp>("mkldnn::_reorder_linear_weight"),
              find<ProductOp>("mkldnn::_linear_pointwise")};
    } catch (const c10::Error&) {
      return {};
    }
  }();
  return found;
}

}  // namespace

bool can_pack(at::Device device, at::ScalarType dtype) {
  return device.is_cpu() && (dtype == at::kFloat || dtype == at::kBFloat16) && operators().pack &&
         operators().product;
}

at::Tensor pack_matrix(const at::Tensor& w_OI, std::int64_t rows) {
  const at::NoGradGuard no_grad;
  return operators().pack->call(w_OI.contiguous(), c10::SymInt(rows));
}

at::Tensor times_packed(const at::Tensor& x_NI, const at::Tensor& packed_OI,
                        const std::optional<at::Tensor>& bias_O) {
  const at::NoGradGuard no_grad;
  return operators().product->call(x_NI, packed_OI, bias_O, "none",
                                   c10::List<std::optional<at::Scalar>>(), "");
}

}  // namespace rigwise::engine
