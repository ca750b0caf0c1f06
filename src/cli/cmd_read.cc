#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/files.h"
#include "base/text.h"
#include "cli/lab_patterns.h"
#include "cli/read_log.h"
#include "cli/verbs.h"

namespace rigwise::cli {

namespace {

constexpr std::size_t kChunkBytes = 64 << 10;
constexpr std::size_t kFlushBytes = 1 << 20;

/// A log that is open, and what a message calls it.
struct OpenLog {
  Fd fd = {};
  std::string name = {};
};

Result<OpenLog> open_log(const std::string& file) {
  OpenLog log;
  if (file == "-") {
    log.fd.reset(::dup(STDIN_FILENO));
    log.name = "standard input";
    if (!log.fd.valid()) return Error{Errc::io, "standard input is closed"};
    return log;
  }
  log.name = clean_text(file, 1000);
  log.fd.reset(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!log.fd.valid()) {
    const Errc code = errno == ENOENT ? Errc::not_found : Errc::io;
    return Error{code, fmt::format("{}: {}", log.name, errno_text(errno)),
                 code == Errc::not_found ? "rigwise read train.log" : ""};
  }
  struct stat status = {};
  if (::fstat(log.fd.get(), &status) == 0 && S_ISDIR(status.st_mode)) {
    return Error{Errc::usage, log.name + " is a folder",
                 "name the logs in it: rigwise read " + log.name + "/*.log"};
  }
  return log;
}

/// More control bytes at its beginning than a text has. One or two are no sign: models print any
/// bytes in their samples.
bool is_binary(std::string_view bytes) {
  bytes = bytes.substr(0, 8192);
  std::size_t strange = 0;
  for (const char byte : bytes) {
    const bool control = static_cast<unsigned char>(byte) < 0x20;
    if (control && (byte == '\0' || std::strchr("\t\n\r\b\a\f\v\x1b", byte) == nullptr)) ++strange;
  }
  return strange * 50 > bytes.size();
}

bool is_utf16(std::string_view bytes) {
  return bytes.starts_with("\xff\xfe") || bytes.starts_with("\xfe\xff");
}

/// Reads the log to its end; each batch goes to `take`. Errors: io, malformed (binary).
template <class Take>
Status read_through(const OpenLog& log, LogReader& reader, const Take& take) {
  std::string chunk(kChunkBytes, '\0');
  LogBatch batch;
  bool first = true;
  while (true) {
    const ssize_t count = ::read(log.fd.get(), chunk.data(), chunk.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Error{Errc::io, log.name + ": " + errno_text(errno)};
    if (count == 0) break;
    const std::string_view bytes(chunk.data(), static_cast<std::size_t>(count));
    if (first && is_binary(bytes)) {
      return Error{Errc::malformed, log.name + " is not text",
                   is_utf16(bytes) ? "it is UTF-16: iconv -f utf-16 -t utf-8 LOG | rigwise read -"
                                   : "rigwise read takes logs as the trainer printed them"};
    }
    first = false;
    reader.push_into(bytes, 0, batch);
    take(batch);
  }
  take(reader.finish(0));
  return Ok{};
}

void add(ReadStatistics& all, const ReadStatistics& one) {
  if (all.first_bad_line == 0) {
    all.first_bad_line = one.first_bad_line;
    all.first_bad_text = one.first_bad_text;
  }
  all.lines += one.lines;
  all.matched += one.matched;
  all.skipped += one.skipped;
  all.malformed += one.malformed;
}

/// Steps and events of a batch in the order of the log.
template <class OnStep, class OnEvent>
void in_order(const LogBatch& batch, const OnStep& on_step, const OnEvent& on_event) {
  std::size_t event = 0;
  for (std::size_t step = 0; step <= batch.steps.size(); ++step) {
    for (; event < batch.events.size() && batch.steps_before[event] <= step; ++event)
      on_event(batch.events[event]);
    if (step < batch.steps.size()) on_step(batch.steps[step]);
  }
}

class JsonPrinter {
 public:
  void line(const Json& object) {
    text_ += object.dump(-1, ' ', false, Json::error_handler_t::replace);
    text_ += '\n';
    if (text_.size() > kFlushBytes) flush();
  }
  void flush() {
    if (code_ == kOk) code_ = print(text_);
    text_.clear();
  }
  [[nodiscard]] int code() const { return code_; }

 private:
  std::string text_ = {};
  int code_ = kOk;
};

}  // namespace

int cmd_read(const ReadArgs& args) {
  const auto patterns = lab_patterns(args.lab);
  if (!patterns) return fail(patterns.error());
  std::vector<OpenLog> logs;
  for (const auto& file : args.files) {  // all of them, before a line is printed
    auto log = open_log(file);
    if (!log) return fail(log.error());
    logs.push_back(std::move(*log));
  }
  LogPage page;
  JsonPrinter printer;
  int code = kOk;
  for (const OpenLog& log : logs) {
    const std::string name = logs.size() > 1 ? log.name : std::string();
    page.files.push_back(log.name);
    LogReader reader("", *patterns);  // each entry is printed with the log's name where it matters
    const auto take = [&](const LogBatch& batch) {
      in_order(
          batch,
          [&](const StepRecord& record) {
            note(page, record);
            if (args.json && is_told(record)) printer.line(entry_json(record, name));
          },
          [&](const Event& event) {
            note(page, event);
            if (args.json && event.kind == EventKind::checkpoint)
              printer.line(checkpoint_json(event, name));
          });
    };
    if (const auto read = read_through(log, reader, take); !read) {
      code = fail(read.error());
      continue;
    }
    if (page.statistics.first_bad_line == 0) page.first_bad_file = name;
    add(page.statistics, reader.statistics());
  }
  if (code != kOk && logs.size() == 1) return code;
  if (args.json) {
    printer.line(summary_json(page.summary));
    printer.line(statistics_json(page.statistics));
    printer.flush();
    return code == kOk ? printer.code() : code;
  }
  const int printed = print(page_text(page, args.rows, style_of(STDOUT_FILENO)));
  return code == kOk ? printed : code;
}

}  // namespace rigwise::cli
