// The page: inert, whole, honest about what is missing. RIGWISE_SAMPLE_PAGES=FOLDER makes the test
// leave its pages there, to look at.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "unit/report_sample.h"

namespace rigwise {
namespace {

std::string keep(const std::string& name, std::string page) {
  if (const char* folder = std::getenv("RIGWISE_SAMPLE_PAGES"))
    std::ofstream(std::string(folder) + "/" + name + ".html") << page;
  return page;
}

TEST(ReportPage, WholeExperiment) {
  const sample::Experiment experiment(3);
  const std::string page = keep("experiment", report_html(experiment.page));
  EXPECT_NE(page.find("FIX ANOTHER BOTTLENECK FIRST"), std::string::npos);
}

TEST(ReportPage, OneRunASide) {
  const sample::Experiment experiment(1);
  keep("pair", report_html(experiment.page));
}

TEST(ReportPage, OneRun) {
  const sample::Experiment experiment(1);
  ReportInput input;
  input.runs.push_back(experiment.page.runs.back());
  keep("one", report_html(input));
}

TEST(ReportPage, NothingAtAll) {
  keep("nothing", report_html({}));
}

}  // namespace
}  // namespace rigwise
