// Page: the parts of report.html. Everything a reader needs is plain HTML written here; the plots
// are drawn over it by web/ from the data island.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "report/links.h"
#include "rigwise/report.h"

namespace rigwise::report {

/// The bundled script and style of web/dist, embedded by the build.
extern const std::string_view kPageScript;
extern const std::string_view kPageStyle;

/// The runs of a report by side: 0 = baseline, 1 = candidate. A report of one name has one side.
struct Page {
  const ReportInput& input;
  EvidenceLinks links;
  std::vector<int> side = {};                 // one a run
  std::array<std::string, 2> side_name = {};  // second empty: one side only
  explicit Page(const ReportInput& report_input);

  /// The first run of a side, drawn by default; nullptr where the side has none.
  [[nodiscard]] const ReportRun* first(int which) const;
  [[nodiscard]] bool two_sided() const { return !side_name[1].empty(); }
};

std::string header_html(const Page& page);      // verdict, what was asked, what was shown
std::string ledger_html(const Page& page);      // stacked bars and their table
std::string comparison_html(const Page& page);  // figures, side effects, comparability table
std::string settings_html(const Page& page);    // environment differences, statement
std::string proof_html(const Page& page);       // commands, limits of the evidence
std::string data_island(const Page& page);      // JSON for the plots, safe inside <script>

/// "<tr>" of cells that are HTML already.
std::string table_row(const std::vector<std::string>& cells, std::string_view cell = "td");
/// Evidence links joined by commas, at most `most` of them.
std::string evidence_html(const Page& page, const std::vector<Evidence>& list,
                          std::size_t most = 3);

}  // namespace rigwise::report
