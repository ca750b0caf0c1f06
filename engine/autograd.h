// The names that a function with a backward pass of its own is written with. For .cc files; headers
// need none of it.
#pragma once

#include "engine/torch.h"

namespace rigwise::engine {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

}  // namespace rigwise::engine
