// Result and Error: how every function of the library says that it could not do what it was asked.
//
// Libraries neither print, exit nor throw. A message says what is wrong, where (`lab.toml:3`) and
// the offending text; a hint says the way out. Partial results are values with counts, never
// errors.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace rigwise {

enum class Errc {
  usage,        // the caller's words are off: flag, verb, threshold text
  not_found,    // no such run, file or host
  unavailable,  // evidence or a capability that this machine or run does not have
  malformed,    // bytes that do not parse
  conflict,     // locked, or two things that cannot be put side by side
  io,           // the operating system refused a read or a write
  remote,       // another host did not answer as expected
  internal,     // a bug of ours
};

struct Error {
  Errc code = Errc::internal;
  std::string message;
  std::string hint = {};

  /// Puts a place in front of the message: `std::move(error).at("lab.toml:3")`.
  Error at(std::string_view place) && {
    message.insert(0, std::string(place) + ": ");
    return std::move(*this);
  }
};

/// A T or the Error that says why there is none. Reading the wrong side is a broken invariant and
/// aborts.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error)
      : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  [[nodiscard]] const T& value() const& { return require(), *std::get_if<0>(&state_); }
  [[nodiscard]] T& value() & { return require(), *std::get_if<0>(&state_); }
  [[nodiscard]] T&& value() && { return require(), std::move(*std::get_if<0>(&state_)); }
  const T& operator*() const& { return value(); }
  T& operator*() & { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  const T* operator->() const { return &value(); }
  T* operator->() { return &value(); }

  [[nodiscard]] const Error& error() const& { return require_error(), *std::get_if<1>(&state_); }
  [[nodiscard]] Error&& error() && { return require_error(), std::move(*std::get_if<1>(&state_)); }

  [[nodiscard]] T value_or(T fallback) && {
    return ok() ? std::move(*std::get_if<0>(&state_)) : std::move(fallback);
  }

 private:
  void require() const {
    if (!ok()) {
      std::fprintf(stderr, "rigwise: value() of an error: %s\n",
                   std::get_if<1>(&state_)->message.c_str());
      std::abort();
    }
  }
  void require_error() const {
    if (ok()) {
      std::fputs("rigwise: error() of a value\n", stderr);
      std::abort();
    }
  }

  std::variant<T, Error> state_;
};

struct Ok {};
using Status = Result<Ok>;

}  // namespace rigwise

#define RW_CAT_(a, b) a##b
#define RW_CAT(a, b) RW_CAT_(a, b)

/// RW_TRY(auto run, open_run(path)); — binds the value, or returns the Error from the enclosing
/// function.
#define RW_TRY(decl, expr)                                                                   \
  auto RW_CAT(rw_result_, __LINE__) = (expr);                                                \
  if (!RW_CAT(rw_result_, __LINE__)) return std::move(RW_CAT(rw_result_, __LINE__)).error(); \
  decl = std::move(RW_CAT(rw_result_, __LINE__)).value()

/// RW_CHECK(write_file(path, bytes)); — returns the Error, if there is one, from the enclosing
/// function.
#define RW_CHECK(expr)                                   \
  do {                                                   \
    auto rw_status = (expr);                             \
    if (!rw_status) return std::move(rw_status).error(); \
  } while (false)
