#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>

#include "base/csv.h"
#include "base/files.h"
#include "base/subprocess.h"
#include "base/text.h"
#include "rigwise/units.h"

namespace rigwise {
namespace {

TEST(Text, CleanTextDropsControlsAndRepairsUtf8) {
  EXPECT_EQ(clean_text("a\x1b[31mb\tc\xff"), "a[31mb\tc\xEF\xBF\xBD");
  EXPECT_EQ(clean_text("\xC3\xA9t\xC3\xA9", 4), "\xC3\xA9t");  // never cut inside a character
  EXPECT_EQ(clean_text("\xC2\x9B"
                       "x"),
            "x");  // C1 control: a terminal would obey it
}

TEST(Text, NearestNameFindsSlipsOnly) {
  EXPECT_EQ(nearest_name("legder", {"ledger", "run"}), "ledger");
  EXPECT_EQ(nearest_name("xyz", {"ledger", "run"}), std::nullopt);
}

TEST(Csv, RoundTripWithQuotesAndTornRow) {
  CsvRow row;
  row.add("a,\"b\"\n").add(std::optional<double>()).add(0.1);
  const std::string text = row.line() + "half,ro";
  CsvReader reader(text);
  std::vector<std::string_view> fields;
  ASSERT_TRUE(reader.next(fields));
  ASSERT_EQ(fields.size(), 3u);
  EXPECT_EQ(fields[0], "a,\"b\"");
  EXPECT_EQ(fields[1], "");
  EXPECT_EQ(fields[2], "0.1");
  EXPECT_FALSE(reader.next(fields));
  EXPECT_TRUE(reader.torn());
}

TEST(Units, Durations) {
  EXPECT_EQ(format_duration(0.4215), "0.42 s");
  EXPECT_EQ(format_duration(372), "6 min 12 s");
  EXPECT_EQ(format_duration(8 * 3600 + 120), "8 h 02 min");
  EXPECT_EQ(format_duration(1.712, 0.031), "1.71 ± 0.03 s");
  EXPECT_DOUBLE_EQ(parse_duration("1h30m").value(), 5400);
  EXPECT_DOUBLE_EQ(parse_duration("20 s").value(), 20);
  EXPECT_FALSE(parse_duration("fast").ok());
}

TEST(Units, Bytes) {
  EXPECT_EQ(format_bytes(312e6), "312 MB");
  EXPECT_DOUBLE_EQ(parse_bytes("22GiB").value(), 22.0 * 1024 * 1024 * 1024);
  EXPECT_FALSE(parse_bytes("22 parsecs").ok());
}

TEST(Text, AShellReadsBackTheWord) {
  for (const std::string word :
       {"plain/path-1.2", "", "two words", "it's", "$HOME;`id`", "--a=*"}) {
    const auto said = run_process({"sh", "-c", "printf %s " + shell_word(word)});
    ASSERT_TRUE(said.ok());
    EXPECT_EQ(said->out, word);
  }
  EXPECT_EQ(shell_word("/data/runs"), "/data/runs");
  EXPECT_EQ(shell_line({"python", "my train.py"}), "python 'my train.py'");
}

TEST(Subprocess, OutputStatusAndLimit) {
  const auto hello = run_process({"sh", "-c", "echo out; echo err >&2; exit 3"});
  ASSERT_TRUE(hello.ok());
  EXPECT_EQ(hello->out, "out\n");
  EXPECT_EQ(hello->err, "err\n");
  EXPECT_EQ(hello->exit_status, 3);
  ProcessOptions quick;
  quick.limit = std::chrono::milliseconds(50);
  EXPECT_EQ(run_process({"sleep", "5"}, quick).error().code, Errc::unavailable);
  EXPECT_EQ(run_process({"no-such-program-here"}).error().code, Errc::not_found);
  // what it leaves behind holds its output open, and keeps nobody waiting
  ProcessOptions patient;
  patient.limit = std::chrono::seconds(60);
  const auto left = run_process({"sh", "-c", "sleep 120 & echo $!"}, patient);
  ASSERT_TRUE(left.ok()) << left.error().message;
  const auto daemon = to_integer(trim(left->out));
  ASSERT_TRUE(daemon.has_value());
  ::kill(static_cast<pid_t>(*daemon), SIGKILL);
}

// A helper that a guarded child started ends with it.
TEST(Subprocess, WhatAGuardedChildStartedEndsWithIt) {
  const auto file =
      std::filesystem::temp_directory_path() / ("rigwise-guarded-" + std::to_string(::getpid()));
  const auto hung = run_in_child(
      [&] {
        ProcessOptions patient;
        patient.limit = std::chrono::seconds(600);
        (void)run_process({"sh", "-c", "echo $$ > " + file.string() + "; exec sleep 600"}, patient)
            .ok();
        return std::string();
      },
      std::chrono::milliseconds(1500));
  EXPECT_FALSE(hung.ok());
  const auto text = read_file(file, 64);
  std::filesystem::remove(file);
  const auto pid = text ? to_integer(trim(*text)) : std::nullopt;
  ASSERT_TRUE(pid.has_value());
  for (int i = 0; i < 500 && ::kill(static_cast<pid_t>(*pid), 0) == 0; ++i) ::usleep(20000);
  EXPECT_NE(::kill(static_cast<pid_t>(*pid), 0), 0);
}

}  // namespace
}  // namespace rigwise
