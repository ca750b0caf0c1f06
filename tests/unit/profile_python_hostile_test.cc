// The stack reader on recorded memory: as it was, cut, changed, and changing while it is read. The
// snapshots under fixtures/python_memory are of real interpreters (Linux, x86-64), recorded by the
// last test here.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/files.h"
#include "profile/python_lines.h"
#include "unit/profile_python_found.h"
#include "unit/profile_python_snapshot.h"

namespace rigwise {
namespace {

using namespace std::chrono_literals;

constexpr const char* kRecorded = R"(
import time
class Loader:
    def __iter__(self):
        yield self.schlüssel_数(1)
    def schlüssel_数(self, i):
        print("ready", flush=True)
        time.sleep(
            600)
def main():
    for batch in Loader():
        pass
main()
)";
const std::vector<std::string> kFrames{"<module>:13", "main:11", "Loader.__iter__:5",
                                       "Loader.schlüssel_数:8"};

std::map<std::string, Snapshot> load_all() {
  std::map<std::string, Snapshot> all;
  for (const auto& entry : fs::directory_iterator(fs::path(RIGWISE_FIXTURES) / "python_memory")) {
    const auto text = read_file(entry.path());
    if (text) all[entry.path().filename()].parse(*text);
  }
  return all;
}

bool has_qualified_names(const std::string& name) {
  return name != "cpython-3.9.snapshot" && name != "cpython-3.10.snapshot";
}

// 3.9 and 3.10 keep no class with a function's name.
std::vector<std::string> frames_of(const std::string& name) {
  std::vector<std::string> out = kFrames;
  if (!has_qualified_names(name))
    for (std::string& frame : out)
      if (frame.starts_with("Loader.")) frame.erase(0, 7);
  return out;
}

TEST(PythonSnapshot, TellsTheStackThatWas) {
  auto all = load_all();
  ASSERT_EQ(all.size(), 5U);
  for (auto& [name, snapshot] : all) {
    SCOPED_TRACE(name);
    const SnapshotReading reading = read_snapshot(snapshot, snapshot);
    EXPECT_EQ(reading.error, "");
    EXPECT_EQ(reading.read, StackRead::whole);
    EXPECT_EQ(reading.frames, frames_of(name));
  }
}

// Any byte may be wrong: no crash, no endless loop, and nothing out of bounds (sanitizers watch).
TEST(PythonSnapshot, SurvivesChangedBytes) {
  std::mt19937_64 random(20261128);
  for (auto& [name, original] : load_all()) {
    SCOPED_TRACE(name);
    int whole = 0;
    for (int round = 0; round < 1500; ++round) {
      Snapshot snapshot;
      snapshot.files = original.files;
      snapshot.main_thread = original.main_thread;
      snapshot.stretches = original.stretches;
      for (int n = 0; n < 1 + round % 4; ++n) {
        auto it = std::next(snapshot.stretches.begin(),
                            static_cast<std::ptrdiff_t>(random() % snapshot.stretches.size()));
        char& byte = it->second[random() % it->second.size()];
        const std::array<char, 5> values{'\0', '\xff', '\x7f', '\x01', static_cast<char>(random())};
        byte = values[random() % values.size()];
      }
      const SnapshotReading reading = read_snapshot(snapshot, snapshot);
      ASSERT_LE(reading.frames.size(), 1024U);
      if (reading.error.empty() && reading.read == StackRead::whole) {
        ++whole;
        ASSERT_FALSE(reading.frames.empty());
      }
    }
    EXPECT_GT(whole, 100);
  }
}

TEST(PythonSnapshot, SurvivesEveryCut) {
  for (auto& [name, original] : load_all()) {
    SCOPED_TRACE(name);
    for (const auto& [address, bytes] : original.stretches) {
      for (std::size_t keep = 0; keep<bytes.size(); keep += bytes.size()> 600 ? 61 : 1) {
        Snapshot snapshot;
        snapshot.files = original.files;
        snapshot.main_thread = original.main_thread;
        snapshot.stretches = original.stretches;
        snapshot.stretches[address] = bytes.substr(0, keep);
        const SnapshotReading reading = read_snapshot(snapshot, snapshot);
        if (reading.error.empty() && reading.read == StackRead::whole) {
          ASSERT_EQ(reading.frames.size(), kFrames.size());
        }
      }
    }
  }
}

// The innermost frame changes between the two copies that one call makes.
class Moving final : public PythonMemory {
 public:
  explicit Moving(Snapshot& still) : still_(still) {}
  void read(std::span<MemoryPiece> pieces) override {
    still_.read(pieces);
    if (pieces.size() < 3 || pieces[0].bytes != 8) return;
    std::uint64_t root = 0;
    std::memcpy(&root, pieces[0].into, 8);
    bool first = true;
    for (MemoryPiece& piece : pieces.subspan(1)) {
      if (root < piece.address || root - piece.address + 72 > piece.bytes) continue;
      if (!std::exchange(first, false)) {
        std::memset(static_cast<char*>(piece.into) + (root - piece.address), 0x40, 72);
        ++moved;
      }
    }
  }
  int moved = 0;

 private:
  Snapshot& still_;
};

TEST(PythonSnapshot, LeavesOutWhatMovesMeanwhile) {
  for (auto& [name, snapshot] : load_all()) {
    SCOPED_TRACE(name);
    Moving moving(snapshot);
    const SnapshotReading reading = read_snapshot(moving, snapshot);
    EXPECT_GT(moving.moved, 0);
    EXPECT_EQ(reading.read, StackRead::whole);
    auto outer = frames_of(name);
    outer.pop_back();
    EXPECT_EQ(reading.frames, outer);
  }
}

TEST(PythonMaps, ParsesHostileLines) {
  const std::string maps =
      "00400000-00401000 r--p 00000000 08:01 1573060                    /usr/bin/python3.11\n"
      "7f0000000000-7f0000001000 r-xp 00001000 08:01 12 /usr/lib/libz.so.1\n"
      "7f0000100000-7f0000101000 r--p 00000000 08:01 12 /opt/a b/libpython3.12.so.1.0 (deleted)\n"
      "7fff0000-7fff1000 rw-p 00000000 00:00 0 [stack]\n";
  const auto files = parse_mapped_files(maps);
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].address, 0x400000U);
  EXPECT_EQ(files[0].end, 0x401000U);
  EXPECT_EQ(files[0].path, "/usr/bin/python3.11");
  EXPECT_EQ(files[1].path, "/opt/a b/libpython3.12.so.1.0 (deleted)");
  for (std::size_t keep = 0; keep < maps.size(); ++keep)
    EXPECT_LE(parse_mapped_files(std::string_view(maps).substr(0, keep)).size(), 2U);
  EXPECT_TRUE(parse_mapped_files("zz-ff r 0 0 0 /a\n- - - - - /b\n\n 1-2 /c").empty());
}

// What each interpreter says of its own tables: "MINOR FIRST_LINE TABLE" and "INSTRUCTION LINE".
constexpr const char* kTables = R"py(
import sys, dis, json
text = '''
def f(a,
      b=(1,
         2)):
    try:
        x = [i
             for i in a if i]

    except (ValueError,
            TypeError) as e:
        raise
    with open(a) as g: pass
    return (a +

            b)
''' + "\n" * 300 + '''
class C:
    def g(self): return lambda: (yield)
''' + "x = (1\n" + " + f(1)\n" * 200 + ")\n"
def codes(code):
    yield code
    for const in code.co_consts:
        if hasattr(const, "co_code"):
            yield from codes(const)
for code in codes(compile(text, "t", "exec")):
    minor = sys.version_info[1]
    table = code.co_lnotab if minor == 9 else code.co_linetable
    print("table", minor, code.co_firstlineno, table.hex() or "-")
    if minor == 9:
        starts = dict(dis.findlinestarts(code))
        line = code.co_firstlineno
        for at in range(0, len(code.co_code), 2):
            line = starts.get(at, line)
            print(at, line)
    else:
        for start, end, line in code.co_lines():
            for at in range(start, end, 2):
                print(at, line or 0)
)py";

TEST(PythonLines, AgreeWithEveryInterpreter) {
  if (interpreters().empty()) GTEST_SKIP() << "no CPython is found here";
  for (const auto& [minor, same] : interpreters()) {
    if (minor < 9) continue;
    SCOPED_TRACE(minor);
    const auto said = run_process({same.front().path, "-c", kTables}, {.limit = 60s});
    ASSERT_TRUE(said.ok());
    std::istringstream lines(said->out);
    std::string word, table;
    int first_line = 0, checked = 0, its_minor = 0;
    while (lines >> word) {
      if (word == "table") {
        std::string hex;
        lines >> its_minor >> first_line >> hex;
        table.clear();
        for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
          table += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
        continue;
      }
      int line = 0;
      lines >> line;
      const int at = std::stoi(word);
      ASSERT_EQ(python_line(its_minor, table, first_line, at), line) << "instruction " << at;
      ++checked;
      for (std::size_t keep = 0; keep < table.size(); keep += 7)  // cut: any line, no crash
        python_line(its_minor, table.substr(0, keep), first_line, at);
    }
    EXPECT_GT(checked, 500);
  }
}

// Not a test of anything: with RIGWISE_RECORD_PYTHON=FOLDER it records the snapshots anew.
class Recording final : public PythonMemory {
 public:
  Recording(PythonMemory& live, Snapshot& into) : live_(live), into_(into) {}
  void read(std::span<MemoryPiece> pieces) override {
    live_.read(pieces);
    for (const MemoryPiece& piece : pieces)
      if (piece.whole)
        into_.add(piece.address, std::string(static_cast<char*>(piece.into), piece.bytes));
  }

 private:
  PythonMemory& live_;
  Snapshot& into_;
};

TEST(PythonSnapshot, RecordsOnRequest) {
  const char* const folder = std::getenv("RIGWISE_RECORD_PYTHON");
  if (folder == nullptr) GTEST_SKIP() << "only with RIGWISE_RECORD_PYTHON=FOLDER";
  for (const auto& [minor, same] : interpreters()) {
    if (minor < 9) continue;
    Script script(same.front().path, kRecorded, "-c");
    ASSERT_EQ(script.line(), "ready");
    std::this_thread::sleep_for(500ms);
    const auto maps = read_file("/proc/" + std::to_string(script.pid()) + "/maps");
    ASSERT_TRUE(maps.ok());
    ProcessMemory live(script.pid());
    Snapshot snapshot;
    snapshot.main_thread = static_cast<std::uint64_t>(script.pid());
    for (const MappedFile& file : parse_mapped_files(*maps)) {
      const fs::path name = fs::path(file.path).filename();
      if (name.string().starts_with("libpython") || name.string().starts_with("python_memory"))
        snapshot.files.push_back({.address = file.address, .path = "/usr/lib/" + name.string()});
    }
    Recording recording(live, snapshot);
    const SnapshotReading reading = read_snapshot(recording, snapshot);
    ASSERT_EQ(reading.frames.size(), kFrames.size()) << reading.error;
    std::ofstream(fs::path(folder) / ("cpython-3." + std::to_string(minor) + ".snapshot"))
        << snapshot.text();
  }
}

}  // namespace
}  // namespace rigwise
