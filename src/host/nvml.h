// Our own minimal declarations of NVML's C interface, so that rigwise builds and runs where no
// NVIDIA driver is. Names, numbers and layouts are those of the public interface (versioned symbols
// included: the newest is looked up first, then the older ones). Shared with the stand-in library
// in tests/fakes.
#pragma once

#include <cstdint>

namespace rigwise::nvml {

using Device = void*;
using Return = int;

inline constexpr Return kSuccess = 0, kUninitialized = 1, kInvalidArgument = 2, kNotSupported = 3,
                        kNoPermission = 4, kInsufficientSize = 7, kDriverNotLoaded = 9,
                        kGpuIsLost = 15, kResetRequired = 16, kLibRmVersionMismatch = 18,
                        kUnknown = 999;

struct Utilization {
  unsigned gpu, memory;  // percent
};
struct Memory {
  unsigned long long total, free, used;  // bytes
};
struct MemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
inline constexpr unsigned kMemoryV2 = sizeof(MemoryV2) | (2u << 24);

struct PciInfo {
  char bus_id_legacy[16];
  unsigned domain, bus, device, pci_device_id, pci_sub_system_id;
  char bus_id[32];
};
struct ProcessV1 {
  unsigned pid;
  unsigned long long used_bytes;
};
struct ProcessV2 {  // of the _v2 and _v3 calls
  unsigned pid;
  unsigned long long used_bytes;
  unsigned gpu_instance, compute_instance;
};
inline constexpr unsigned long long kNotAvailable = ~0ull;

union Value {
  double d;
  unsigned ui;
  unsigned long ul;
  unsigned long long ull;
  signed long long sll;
  int si;
  unsigned short us;
};
enum ValueType : int {
  kDouble,
  kUnsigned,
  kUnsignedLong,
  kUnsignedLongLong,
  kSignedLongLong,
  kSigned,
  kUnsignedShort
};
struct FieldValue {
  unsigned field, scope;
  long long timestamp_us, latency_us;
  int value_type;
  Return result;
  Value value;
};
static_assert(sizeof(FieldValue) == 40 && sizeof(ProcessV2) == 24 && sizeof(MemoryV2) == 40 &&
              sizeof(PciInfo) == 68);

// Field numbers.
inline constexpr unsigned kFieldHeldPowerNs = 74, kFieldHeldSyncNs = 76, kFieldMemoryTempC = 82,
                          kFieldPcieTxBytes = 197, kFieldPcieRxBytes = 198,
                          kFieldHeldSwThermalNs = 269, kFieldHeldHwThermalNs = 270,
                          kFieldHeldBrakeNs = 271;

// Enumerators that the calls take.
inline constexpr int kTemperatureGpu = 0;
inline constexpr int kClockSm = 1, kClockMem = 2;
inline constexpr int kThresholdShutdown = 0, kThresholdSlowdown = 1;
inline constexpr int kPeerByNvlink = 2, kPeerOk = 0;  // P2P caps index; P2P status

}  // namespace rigwise::nvml
