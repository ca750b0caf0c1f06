// Stack samples as a flame graph and for speedscope. Samples made by hand.
#include <gtest/gtest.h>

#include "base/json.h"
#include "report/flame.h"

namespace rigwise {
namespace {

StackCount seen(std::int64_t stack, std::int64_t samples, int pid = 10, std::optional<int> rank = 0,
                const std::string& role = "rank") {
  return {0, pid, role, rank, stack, samples};
}

FlameInput two_ranks() {
  FlameHost host;
  host.host = "vm";
  host.frames.rows = {{0, 1, "input", "train.py:main;loader.py:__next__"},
                      {0, 2, "forward", "train.py:main;model.py:forward"}};
  host.counts.rows = {seen(1, 30), seen(2, 10), seen(2, 40, 11, 1), seen(9, 20, 12, 0, "loader")};
  return {"two-gpu", {host}};
}

std::size_t occurrences(const std::string& text, const std::string& of) {
  std::size_t count = 0;
  for (std::size_t at = text.find(of); at != std::string::npos; at = text.find(of, at + 1)) ++count;
  return count;
}

TEST(Flame, ProcessesStandInTheOrderOfRanksAndLoadersBehindTheirs) {
  const auto processes = report::flame_processes(two_ranks());
  ASSERT_EQ(processes.size(), 3u);
  EXPECT_EQ(processes[0].name, "rank 0 on vm (pid 10)");
  EXPECT_EQ(processes[1].name, "rank 0's loader on vm (pid 12)");
  EXPECT_EQ(processes[2].name, "rank 1 on vm (pid 11)");
  const FlameSize size = flame_size(two_ranks());
  EXPECT_EQ(size.samples, 100);
  EXPECT_EQ(size.processes, 3);
  EXPECT_EQ(size.stacks, 2);
}

TEST(Flame, TheTreeCountsEachSampleAtEachOfItsFrames) {
  const auto tree = report::flame_tree(report::flame_processes(two_ranks()));
  EXPECT_EQ(tree.samples, 100);
  EXPECT_EQ(tree.work.at("input"), 30);
  EXPECT_EQ(tree.work.at("forward"), 50);
  EXPECT_EQ(tree.work.at(""), 20);
  const auto& rank = *tree.above.at("rank 0 on vm (pid 10)");
  const auto& main = *rank.above.at("train.py:main");
  EXPECT_EQ(main.samples, 40);
  EXPECT_EQ(main.above.at("loader.py:__next__")->samples, 30);
  EXPECT_EQ(tree.above.at("rank 0's loader on vm (pid 12)")->above.begin()->first,
            "(frames not recorded)");
}

TEST(Flame, ThePictureNamesEveryFrameAndItsShare) {
  const std::string svg = flame_svg(two_ranks());
  EXPECT_NE(svg.find("<title>loader.py:__next__: 30 samples, 30 %; input</title>"),
            std::string::npos);
  EXPECT_NE(svg.find("<title>train.py:main: 40 samples, 40 %; input 75 %, forward 25 %</title>"),
            std::string::npos);
  EXPECT_NE(svg.find("100 samples of 3 processes"), std::string::npos);
  EXPECT_NE(svg.find("prefers-color-scheme:dark"), std::string::npos);
  EXPECT_EQ(svg.find("<script"), std::string::npos);
  EXPECT_EQ(svg.find("http", svg.find("http") + 1), std::string::npos);  // the namespace alone
}

TEST(Flame, HostileNamesAreText) {
  FlameInput input = two_ranks();
  input.run = "a<b>&\"c";
  input.hosts[0].host = "</svg>";
  input.hosts[0].frames.rows[0].frames = "<script>alert(1)</script>:f;\x1b[31m\xff&amp;";
  input.hosts[0].frames.rows[0].work = "\"><x";
  const std::string svg = flame_svg(input);
  EXPECT_EQ(svg.find("<script"), std::string::npos);
  EXPECT_EQ(svg.find("<x"), std::string::npos);
  EXPECT_EQ(svg.find('\x1b'), std::string::npos);
  EXPECT_EQ(occurrences(svg, "</svg>"), 1u);
  EXPECT_NE(svg.find("a&lt;b&gt;&amp;&quot;c: where Python stood"), std::string::npos);
  EXPECT_TRUE(parse_json(flame_speedscope(input)).ok());
}

TEST(Flame, RecursionAndManyFramesAreBounded) {
  FlameInput input = two_ranks();
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += "walk.py:walk;";
  input.hosts[0].frames.rows[0].frames = deep;
  for (int i = 0; i < 30000; ++i) {
    input.hosts[0].frames.rows.push_back({0, 100 + i, "input", "f" + std::to_string(i)});
    input.hosts[0].counts.rows.push_back(seen(100 + i, 1));
  }
  EXPECT_EQ(report::flame_frames(deep).size(), report::kMostFlameFrames);
  const std::string svg = flame_svg(input);
  EXPECT_LE(occurrences(svg, "<g>"), 20000u);
  EXPECT_NE(svg.find(" frames too narrow to draw"), std::string::npos);
}

TEST(Flame, NothingSeenIsAnEmptyPicture) {
  EXPECT_EQ(flame_size({}).samples, 0);
  EXPECT_NE(flame_svg({}).find("0 samples of 0 processes"), std::string::npos);
  FlameInput negative = two_ranks();
  for (auto& row : negative.hosts[0].counts.rows) row.samples = -5;
  EXPECT_EQ(flame_size(negative).samples, 0);
}

TEST(Flame, SpeedscopeHasOneSampledProfileAProcess) {
  const auto document = parse_json(flame_speedscope(two_ranks()));
  ASSERT_TRUE(document.ok());
  EXPECT_EQ((*document)["$schema"], "https://www.speedscope.app/file-format-schema.json");
  const auto& profiles = (*document)["profiles"];
  ASSERT_EQ(profiles.size(), 3u);
  const auto& frames = (*document)["shared"]["frames"];
  for (const auto& profile : profiles) {
    EXPECT_EQ(profile["type"], "sampled");
    ASSERT_EQ(profile["samples"].size(), profile["weights"].size());
    std::int64_t sum = 0;
    for (const auto& weight : profile["weights"]) sum += weight.get<std::int64_t>();
    EXPECT_EQ(profile["endValue"], sum);
    for (const auto& sample : profile["samples"]) {
      for (const auto& frame : sample) EXPECT_LT(frame.get<std::size_t>(), frames.size());
    }
  }
  EXPECT_EQ(frames[0]["name"], "train.py:main");
  EXPECT_EQ(frames[0]["file"], "train.py");
}

}  // namespace
}  // namespace rigwise
