// Stands in for a header of Gloo. torch's wheels carry ProcessGroupGloo.hpp but not the Gloo headers
// that it includes. It only names these types behind shared pointers; the one function that it calls
// from a header, setTimeout, is never called by us, and Gloo's own stays inside libtorch.
#pragma once

#include <chrono>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
