// Logs that were kept by hand: the log reader's rows, with the instants that the lines state.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/files.h"
#include "base/text.h"
#include "base/wall_time.h"
#include "record/import_parts.h"

namespace rigwise::importing {

namespace {

constexpr std::size_t kMostSteps = 5'000'000, kMostEvents = 200'000, kMostFacts = 500;
constexpr std::size_t kStampWithin = 256;  // bytes of a line in which its stamp is looked for
constexpr double kDay_s = 86400, kOldest_s = 1.2e9;

/// Finds the stamp of a line, at the place where the last line had it first.
class Stamps {
 public:
  explicit Stamps(double now_unix_s) : now_unix_s_(now_unix_s) {}

  std::optional<WallTime> find(std::string_view line) {
    line = line.substr(0, kStampWithin);
    if (last_at_ < line.size()) {
      if (auto stamp = try_at(line, last_at_)) return stamp;
    }
    for (std::size_t at = 0; at < line.size(); ++at) {
      if (at > 0 && !is_boundary(line[at - 1])) continue;
      if (!may_begin(line, at)) continue;
      if (auto stamp = try_at(line, at)) {
        last_at_ = at;
        return stamp;
      }
    }
    return std::nullopt;
  }

 private:
  static bool is_boundary(char c) {
    return c == ' ' || c == '[' || c == '(' || c == '|' || c == '>' || c == '"' || c == '\'' ||
           c == '\t' || c == 'm' || c == ']' || c == '=' || c == ':' || c == '\r';
  }
  /// A digit, or a letter that could begin a day, a month or glog's level, with digits near.
  static bool may_begin(std::string_view line, std::size_t at) {
    const char c = line[at];
    if (is_digit(c)) return true;
    if (!is_letter(c) || at + 5 > line.size()) return false;
    return std::any_of(line.begin() + static_cast<std::ptrdiff_t>(at) + 1,
                       line.begin() + static_cast<std::ptrdiff_t>(std::min(at + 10, line.size())),
                       is_digit);
  }
  std::optional<WallTime> try_at(std::string_view line, std::size_t at) const {
    const auto stamp = parse_wall_time(line.substr(at), now_unix_s_);
    if (!stamp) return std::nullopt;
    if (stamp->has_date) return stamp->unix_s >= kOldest_s ? stamp : std::nullopt;
    // "00:12:34" is a bar's clock as often as a time of day: only in front, with what loggers put
    // there
    for (std::size_t i = 0; i < at; ++i) {
      if (is_digit(line[i])) return std::nullopt;
    }
    const bool bar = at + stamp->length < line.size() && line[at + stamp->length] == '<';
    return at <= 24 && !bar ? stamp : std::nullopt;
  }

  double now_unix_s_;
  std::size_t last_at_ = 0;
};

/// Pushes the lines of a log through the reader, each with its instant.
class Importer {
 public:
  Importer(const std::string& log_file, std::optional<double> start_unix_s,
           std::optional<double> written_unix_s)
      : reader_(log_file),
        stamps_(written_unix_s.value_or(unix_s())),
        start_unix_s_(start_unix_s),
        written_unix_s_(written_unix_s) {}

  /// One line with its newline, or the last one without.
  void line(std::string_view bytes) {
    const auto stamp = stamps_.find(bytes);
    bool stated = false;
    if (stamp && (stamp->has_date || !dated_)) stated = take(*stamp);
    auto text = bytes;
    if (offset_ == 0 && text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // Notepad's mark
    push(reader_.push(text, at_unix_s_), stated);
    offset_ += static_cast<std::int64_t>(bytes.size());
    if (stated && out_.marks.size() < 100'000 &&
        (out_.marks.empty() || at_unix_s_ - out_.marks.back().unix_s >= 1)) {
      out_.marks.push_back({offset_, at_unix_s_});
    }
  }

  Training finish() {
    push(reader_.finish(at_unix_s_), false);
    out_.reading = reader_.statistics();
    // Rows have the instant of the last stamp before them: true only where most lines have one.
    const bool timed = stated_lines_ >= 2 && (train_rows_ > 0 ? stated_rows_ * 2 >= train_rows_
                                                              : stated_lines_ * 2 >= lines_);
    out_.timed = timed;
    if (!timed) {
      out_.first_unix_s.reset();
      out_.last_unix_s.reset();
      out_.marks.clear();
      if (stated_lines_ > 0 && train_rows_ > 0) {
        out_.notes.emplace_back(
            "few of its metric lines carry a time stamp: times were not joined");
      }
    } else if (!dated_) {
      place_days();
    }
    // rows before the first stamp: no earlier than it
    if (timed && out_.first_unix_s) {
      for (auto& row : out_.steps) row.t_s = std::max(row.t_s, *out_.first_unix_s);
      for (auto& event : out_.events) {
        event.t_s = std::max(event.t_s, *out_.first_unix_s);
        if (event.t_end_s) event.t_end_s = std::max(*event.t_end_s, *out_.first_unix_s);
      }
    }
    return std::move(out_);
  }

 private:
  bool take(const WallTime& stamp) {
    double at = stamp.unix_s;
    if (stamp.has_date) {
      if (!dated_) {  // a first date: what was read as a time of day before says less
        dated_ = true;
        out_.first_unix_s.reset();
      }
      if (!stamp.has_zone) out_.local_time = true;
    } else {
      if (last_of_day_ && at < *last_of_day_ - kDay_s / 2) ++days_;  // past midnight
      last_of_day_ = at;
      at += days_ * kDay_s;
    }
    ++stated_lines_;
    // ranks interleave: a stamp a little older than the last is no step back
    if (at > at_unix_s_ || at_unix_s_ - at > 60) at_unix_s_ = at;
    if (!out_.first_unix_s) out_.first_unix_s = at;
    out_.first_unix_s = std::min(*out_.first_unix_s, at);
    out_.last_unix_s = std::max(out_.last_unix_s.value_or(at), at);
    return true;
  }

  void push(LogBatch batch, bool stated) {
    ++lines_;
    for (auto& row : batch.steps) {
      if (out_.steps.size() >= kMostSteps) {
        if (!full_)
          out_.notes.emplace_back("more than 5,000,000 entries: the rest was passed over");
        full_ = true;
        break;
      }
      const bool train = row.kind == RecordKind::train;
      train_rows_ += train ? 1 : 0;
      stated_rows_ += train && stated ? 1 : 0;
      out_.ended = out_.ended || row.kind == RecordKind::summary;
      out_.steps.push_back(std::move(row));
    }
    for (auto& event : batch.events) {
      out_.ended = out_.ended || event.kind == EventKind::train_end;
      if (out_.events.size() < kMostEvents) out_.events.push_back(std::move(event));
    }
    for (auto& fact : batch.facts) {
      if (out_.facts.size() < kMostFacts) out_.facts.push_back(std::move(fact));
    }
  }

  /// Times of day get the date that --start or the file's own time suggests.
  void place_days() {
    const double near = start_unix_s_ ? *start_unix_s_ : written_unix_s_.value_or(unix_s());
    const auto seconds = static_cast<std::time_t>(near);
    std::tm day = {};
    ::localtime_r(&seconds, &day);
    day.tm_hour = day.tm_min = day.tm_sec = 0;
    day.tm_isdst = -1;
    double midnight = static_cast<double>(::mktime(&day));
    if (start_unix_s_) {  // training may begin the next morning
      while (midnight + *out_.last_unix_s < *start_unix_s_ - 1) midnight += kDay_s;
    } else {
      while (midnight + *out_.last_unix_s > near + 60) midnight -= kDay_s;
      out_.guessed_date = true;
    }
    const auto shift = [&](double& at) { at += midnight; };
    for (auto& row : out_.steps) shift(row.t_s);
    for (auto& event : out_.events) {
      shift(event.t_s);
      if (event.t_end_s) shift(*event.t_end_s);
    }
    for (auto& mark : out_.marks) shift(mark.unix_s);
    shift(*out_.first_unix_s);
    shift(*out_.last_unix_s);
    out_.local_time = true;
    out_.notes.push_back(start_unix_s_ ? "its times have no date: taken as that of the start"
                                       : "its times have no date: taken from the file's own time");
  }

  LogReader reader_;
  Stamps stamps_;
  std::optional<double> start_unix_s_, written_unix_s_;
  Training out_;
  double at_unix_s_ = 0;
  bool dated_ = false, full_ = false;
  std::optional<double> last_of_day_;
  int days_ = 0;
  std::int64_t offset_ = 0, lines_ = 0, stated_lines_ = 0, train_rows_ = 0, stated_rows_ = 0;
};

/// Calls `each` for every line of `text`; the half line at its end stays in `text`.
template <class Each>
void take_lines(std::string_view& text, Each each) {
  for (auto end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    each(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
  }
}

}  // namespace

Training read_log_text(std::string_view text, const std::string& log_file,
                       std::optional<double> start_unix_s, std::optional<double> written_unix_s) {
  Importer importer(log_file, start_unix_s, written_unix_s);
  take_lines(text, [&](std::string_view line) { importer.line(line); });
  if (!text.empty()) importer.line(text);
  return importer.finish();
}

Training read_log(const std::filesystem::path& path, const std::string& log_file,
                  std::optional<double> start_unix_s) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status = {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0) return {};
  Importer importer(log_file, start_unix_s, static_cast<double>(status.st_mtim.tv_sec));
  constexpr std::size_t kChunk = 1 << 20, kLongest = 1 << 20;
  std::string kept;
  std::string chunk(kChunk, '\0');
  for (;;) {
    const ssize_t got = ::read(fd.get(), chunk.data(), chunk.size());
    if (got <= 0) break;
    kept.append(chunk, 0, static_cast<std::size_t>(got));
    std::string_view rest = kept;
    take_lines(rest, [&](std::string_view line) { importer.line(line); });
    if (rest.size() > kLongest) {  // a bar's file is one long line
      importer.line(rest);
      rest = {};
    }
    kept.erase(0, kept.size() - rest.size());
  }
  if (!kept.empty()) importer.line(kept);
  return importer.finish();
}

Training read_entries(const MetricStore& store, const std::string& log_file) {
  LogReader reader(log_file);
  Training out;
  out.reading = store.reading;
  out.notes = store.notes;
  std::size_t timed = 0;
  const auto take = [&](LogBatch batch) {
    for (auto& row : batch.steps) {
      row.log_line = 0;  // the store has no lines of its own
      row.log_format = store.kind;
      out.ended = out.ended || row.kind == RecordKind::summary;
      out.steps.push_back(std::move(row));
    }
    for (auto& event : batch.events) out.events.push_back(std::move(event));
  };
  double at = 0;
  for (const auto& entry : store.entries) {
    if (out.steps.size() >= kMostSteps) break;
    if (entry.unix_s) {
      at = std::max(at, *entry.unix_s);
      ++timed;
      out.first_unix_s = std::min(out.first_unix_s.value_or(*entry.unix_s), *entry.unix_s);
      out.last_unix_s = std::max(out.last_unix_s.value_or(*entry.unix_s), *entry.unix_s);
    }
    take(reader.push(json_line(entry), at));
  }
  take(reader.finish(at));
  out.timed = timed > 0 && timed * 2 >= store.entries.size();
  if (!out.timed) {
    out.first_unix_s.reset();
    out.last_unix_s.reset();
  }
  return out;
}

}  // namespace rigwise::importing
