// What a fuzz target promises of its input: a broken promise is a crash that libFuzzer keeps.
#pragma once

#include <cstdio>
#include <cstdlib>

inline void hold(bool promise, const char* what) {
  if (promise) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}
