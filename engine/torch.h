// The part of libtorch that every file of rigwise-engine uses: tensors and autograd. It is
// precompiled (cmake/engine.cmake). Not <torch/torch.h>: that takes twice as long to compile, and
// its modules, optimisers and data loaders are not used here.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>
