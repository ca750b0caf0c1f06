// Links: from a piece of evidence to the file that holds it, relative to the record that cites it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "rigwise/finding.h"
#include "rigwise/run.h"

namespace rigwise::report {

/// Escaping for text that stands inside a paragraph, list item, link label or table cell. Nothing
/// in the result can open a link, image, tag, code span, heading or new cell.
std::string markdown_text(std::string_view text, std::size_t max_bytes = 1000);
/// Escaping for HTML text and for attribute values in double quotes.
std::string html_text(std::string_view text, std::size_t max_bytes = 1000);

class EvidenceLinks {
 public:
  /// `folder`: where the record lies; empty = no links. Both it and the run directories absolute,
  /// or both relative to the same place.
  EvidenceLinks(std::vector<const Run*> runs, std::filesystem::path folder);

  /// "two-gpu · log/out.log:12-40"; the run's id where its name is not unique.
  [[nodiscard]] std::string label(const Evidence& evidence) const;
  /// Percent-encoded relative path; empty where the run is not known or the file leaves its folder.
  [[nodiscard]] std::string target(const Evidence& evidence) const;

  /// "[label](target)" and "<a href=…>label</a>", escaped; the label alone where there is no
  /// target.
  [[nodiscard]] std::string markdown(const Evidence& evidence) const;
  [[nodiscard]] std::string html(const Evidence& evidence) const;
  /// The same without the run's name, for places that say which run they speak of.
  [[nodiscard]] std::string html_short(const Evidence& evidence) const;

  [[nodiscard]] const std::vector<const Run*>& runs() const { return runs_; }

 private:
  [[nodiscard]] const Run* find(const std::string& run) const;
  [[nodiscard]] std::string html_as(const Evidence& evidence, const std::string& text) const;
  std::vector<const Run*> runs_;
  std::filesystem::path folder_;
};

}  // namespace rigwise::report
