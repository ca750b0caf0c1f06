// Log tail: reads what the keeper appends to log/NAME.log, with the receive times that it notes in
// log/NAME.idx.csv, and hands it to a consumer piece by piece. Never more than 64 KiB in memory,
// however long a line is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "base/files.h"

namespace rigwise {

class LogTail {
 public:
  /// `stream` is "out" or "err".
  LogTail(std::filesystem::path run_dir, std::string stream);

  using Consumer = std::function<void(std::string_view bytes, double t_s)>;

  /// Hands over what has come since, up to `max_bytes`. Bytes for which no receive time is known
  /// yet wait for it up to 2 s, `at_end` not at all. True: there is more.
  bool read(const Consumer& consumer, double now_s, std::size_t max_bytes, bool at_end);

  /// Bytes of the log that were not handed over.
  [[nodiscard]] std::int64_t left_bytes();
  [[nodiscard]] const std::string& file() const { return file_; }

 private:
  bool next_mark();

  std::filesystem::path dir_;
  std::string file_, index_file_;
  Fd log_, index_;
  std::int64_t position_ = 0, index_position_ = 0;
  std::string rows_ = {};        // index text that is not used yet
  std::int64_t mark_bytes_ = 0;  // receive time of bytes before this offset is mark_s_
  double mark_s_ = 0;
  double unmarked_since_s_ = -1;
};

}  // namespace rigwise
