// Stands in for headers of Gloo, which torch's wheels use but do not carry (see ../context.h).
#pragma once

namespace gloo::transport {

class Device;

class UnboundBuffer {
 public:
  virtual ~UnboundBuffer() = default;
};

}  // namespace gloo::transport
