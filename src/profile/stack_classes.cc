#include "profile/stack_classes.h"

#include <array>

namespace rigwise {

namespace {
constexpr std::array kRules = {
    StackRule{"torch/utils/data/dataloader.py", "__next__", "input", true, "torch 2.13"},
};
}  // namespace

std::span<const StackRule> stack_rules() {
  return kRules;
}

}  // namespace rigwise
