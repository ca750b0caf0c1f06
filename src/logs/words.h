// The vocabulary: what a word can be in a key. meaning.cc says how the words of one combine.
#pragma once

#include <cstdint>
#include <string_view>

namespace rigwise::logs {

// What a word can be in a key. One bit a role; in a name space of their own, as they are plain
// words.
namespace role {
enum Role : std::uint64_t {
  loss = 1ull << 0,
  train = 1ull << 1,
  eval = 1ull << 2,
  average = 1ull << 3,
  current = 1ull << 4,
  total = 1ull << 5,
  model = 1ull << 6,  // whose: says nothing about what
  lr = 1ull << 7,
  learning = 1ull << 8,
  rate = 1ull << 9,
  grad = 1ull << 10,
  norm = 1ull << 11,
  step = 1ull << 12,
  update = 1ull << 13,
  iter = 1ull << 14,
  batch = 1ull << 15,
  epoch = 1ull << 16,
  time = 1ull << 17,
  per = 1ull << 18,
  second = 1ull << 19,
  milli = 1ull << 20,
  token = 1ull << 21,
  sample = 1ull << 22,
  device = 1ull << 23,
  mem = 1ull << 24,
  peak = 1ull << 25,
  alloc = 1ull << 26,
  reserved = 1ull << 27,
  gib = 1ull << 28,
  mib = 1ull << 29,
  bytes = 1ull << 30,
  mfu = 1ull << 31,
  rank = 1ull << 32,
  runtime = 1ull << 33,
  quality = 1ull << 34,
  data = 1ull << 35,
  speed = 1ull << 36,
  timestep = 1ull << 37,
  done = 1ull << 38,
  number = 1ull << 39,
  seen = 1ull << 40,
  actor = 1ull << 41,
  final = 1ull << 42,
  precision = 1ull << 43,
  elapsed = 1ull << 44,
  reward = 1ull << 45,
  blocked = 1ull << 46,  // turns a key into something else: "loss scale", "max grad norm"
  gradnorm = 1ull << 47,
  dt = 1ull << 48,
  plural = 1ull << 49,  // steps, iterations, epochs: counts rather than names one
  micro = 1ull << 50,
  unknown = 1ull << 63,
};
}  // namespace role

/// The roles of a lower-case word; role::unknown for one that the vocabulary does not hold.
std::uint64_t roles_of(std::string_view word);

}  // namespace rigwise::logs
