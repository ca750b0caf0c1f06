// The flame graph as SVG (after B. Gregg's: width is share of samples, height is depth of stack).
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "report/figures.h"
#include "report/flame.h"
#include "report/layout.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

namespace {

constexpr double kWidth = 1200, kMargin = 10, kRow = 18, kGlyph = 6.7;  // px; a glyph at 11 px
constexpr double kNarrowest = 0.4;  // px: a frame below cannot be seen
constexpr std::size_t kMostRects = 20000;

/// Colours of web/src/page.css, so that a class looks the same everywhere. Dark ink stands on all.
struct WorkColour {
  std::string_view work, colour;
};
constexpr std::array kColours = {
    WorkColour{"startup", "#8e99a6"},    WorkColour{"input", "#e69f00"},
    WorkColour{"compute", "#149a74"},    WorkColour{"forward", "#149a74"},
    WorkColour{"backward", "#3fb08f"},   WorkColour{"optimizer", "#7cc9b1"},
    WorkColour{"sync", "#cc79a7"},       WorkColour{"host", "#b98f45"},
    WorkColour{"memory", "#a384d6"},     WorkColour{"checkpoint", "#4aa8e0"},
    WorkColour{"evaluation", "#e8d93a"}, WorkColour{"teardown", "#9aa6b5"},
};
constexpr std::string_view kUnclassed = "#c9d0d8";

std::string_view colour_of(std::string_view work) {
  for (const WorkColour& each : kColours) {
    if (each.work == work) return each.colour;
  }
  return kUnclassed;
}

/// For XML, which knows no &nbsp; (html_text has it).
std::string escaped(std::string_view text, std::size_t most_bytes) {
  std::string out;
  for (const char c : safe(text, most_bytes)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// As much of a name as fits; its end says most (the function stands behind the file).
std::string fitted(std::string_view name, double width) {
  const std::string whole = safe(name, 400);
  const auto cells = static_cast<std::size_t>(std::max(0.0, (width - 6) / kGlyph));
  if (display_width(whole) <= cells) return whole;
  if (cells < 4) return {};
  std::string_view rest = whole;
  const std::size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && display_width(rest.substr(colon + 1)) <= cells)
    return std::string(rest.substr(colon + 1));
  if (colon != std::string_view::npos) rest.remove_prefix(colon + 1);
  std::string out;
  for (const char c : rest) {
    const bool continues = (static_cast<unsigned char>(c) & 0xC0U) == 0x80;
    if (!continues && display_width(out) + 2 > cells) break;
    out += c;
  }
  return out + "…";
}

class Drawing {
 public:
  explicit Drawing(const FlameNode& root) : root_(root) {}

  void draw() {
    depth_ = 0;
    place(root_, "all", 0, kMargin);
  }
  [[nodiscard]] double height() const { return static_cast<double>(depth_ + 1) * kRow; }
  [[nodiscard]] std::int64_t left_out() const { return left_out_; }
  /// Rectangles whose ground lies at `y`.
  [[nodiscard]] std::string text(double y) const {
    std::string out;
    for (const Rect& rect : rects_) {
      const double top = y - static_cast<double>(rect.depth + 1) * kRow;
      out += fmt::format(
          "<g><title>{}</title><rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" "
          "height=\"{:.0f}\" rx=\"1.5\" fill=\"{}\"/>",
          rect.title, rect.x, top, std::max(0.3, rect.width - 0.6), kRow - 1, rect.colour);
      if (!rect.label.empty()) {
        out += fmt::format("<text class=\"n\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", rect.x + 3,
                           top + kRow - 5.5, rect.label);
      }
      out += "</g>\n";
    }
    return out;
  }

 private:
  struct Rect {
    double x, width;
    std::size_t depth;
    std::string_view colour;
    std::string label, title;
  };

  void place(const FlameNode& node, std::string_view name, std::size_t depth, double x) {
    const double scale = (kWidth - 2 * kMargin) / static_cast<double>(root_.samples);
    const double width = static_cast<double>(node.samples) * scale;
    if (width < kNarrowest || rects_.size() >= kMostRects) {
      ++left_out_;
      return;
    }
    depth_ = std::max(depth_, depth);
    const bool one_kind = node.work.size() == 1;
    Rect rect{x, width, depth, one_kind ? colour_of(node.work.begin()->first) : kUnclassed, {}, {}};
    rect.label = escaped(fitted(name, width), 400);
    rect.title = escaped(name, 400) + title_end(node);
    rects_.push_back(std::move(rect));
    for (const auto& [frame, above] : node.above) {
      place(*above, frame, depth + 1, x);
      x += static_cast<double>(above->samples) * scale;
    }
  }

  /// ": 1,234 samples, 12 %; input 80 %, forward 20 %".
  [[nodiscard]] std::string title_end(const FlameNode& node) const {
    const auto all = static_cast<double>(root_.samples), here = static_cast<double>(node.samples);
    std::string out =
        fmt::format(": {}, {}", count(node.samples, "sample"), format_share(here / all));
    std::vector<std::pair<std::int64_t, std::string_view>> parts;
    for (const auto& [work, samples] : node.work) parts.emplace_back(-samples, work);
    std::sort(parts.begin(), parts.end());
    const char* before = "; ";
    for (std::size_t i = 0; i < std::min<std::size_t>(parts.size(), 6); ++i) {
      const auto& [less, work] = parts[i];
      out += before + (work.empty() ? std::string("no class") : escaped(work, 40));
      if (parts.size() > 1) out += " " + format_share(static_cast<double>(-less) / here);
      before = ", ";
    }
    return out;
  }

  const FlameNode& root_;
  std::vector<Rect> rects_;
  std::size_t depth_ = 0;
  std::int64_t left_out_ = 0;
};

/// A square of colour, the class and its share, largest first.
std::string legend(const FlameNode& root, double y) {
  std::vector<std::pair<std::int64_t, std::string_view>> parts;
  for (const auto& [work, samples] : root.work) parts.emplace_back(-samples, work);
  std::sort(parts.begin(), parts.end());
  std::string out;
  double x = kMargin;
  for (const auto& [less, work] : parts) {
    const std::string text =
        fmt::format("{} {}", work.empty() ? std::string("no class") : safe(work, 40),
                    format_share(static_cast<double>(-less) / static_cast<double>(root.samples)));
    const double width = 20 + static_cast<double>(display_width(text)) * kGlyph + 14;
    if (x + width > kWidth - kMargin) break;
    out += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"12\" height=\"12\" rx=\"1.5\" "
        "fill=\"{}\"/><text class=\"q\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n",
        x, y - 10, colour_of(work), x + 17, y, escaped(text, 200));
    x += width;
  }
  return out;
}

// The system's colours: paper and ink change with them, and the dark ink of names stands on colours
// that do not.
constexpr std::string_view kStyle = R"(<style>
svg{color-scheme:light dark}
.p{fill:#ffffff}.t{fill:#16202c;font-size:15px;font-weight:600}.q{fill:#5a6675}.n{fill:#08121c;pointer-events:none}
text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:11px}
g:hover>rect{stroke:#16202c;stroke-width:1}
@media(prefers-color-scheme:dark){.p{fill:#10151b}.t{fill:#e4e9ef}.q{fill:#98a4b3}g:hover>rect{stroke:#e4e9ef}}
</style>
)";

}  // namespace

std::string flame_svg(const FlameInput& input) {
  const auto processes = flame_processes(input);
  const FlameNode root = flame_tree(processes);
  Drawing drawing(root);
  if (root.samples > 0) drawing.draw();
  constexpr double kHead = 62;
  const double ground = kHead + drawing.height() + 4, height = ground + 26;
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
      "height=\"{1:.0f}\" role=\"img\">\n",
      kWidth, height);
  const std::string title = fmt::format("{}: where Python stood", safe(input.run, 100));
  out += "<title>" + escaped(title, 400) + "</title>\n";
  out += kStyle;
  out += "<rect class=\"p\" width=\"100%\" height=\"100%\"/>\n";
  out += fmt::format("<text class=\"t\" x=\"{:.0f}\" y=\"24\">{}</text>\n", kMargin,
                     escaped(title, 400));
  out += legend(root, 46);
  out += drawing.text(ground);
  std::string foot =
      fmt::format("{} of {}; width is share of samples, colour the class of work",
                  count(root.samples, "sample"),
                  counted(static_cast<std::int64_t>(processes.size()), "process", "processes"));
  if (drawing.left_out() > 0)
    foot += fmt::format("; {} too narrow to draw", count(drawing.left_out(), "frame"));
  out += fmt::format("<text class=\"q\" x=\"{:.0f}\" y=\"{:.0f}\">{}</text>\n</svg>\n", kMargin,
                     height - 9, escaped(foot, 400));
  return out;
}

}  // namespace rigwise
