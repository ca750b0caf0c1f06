// Judge: a code and what was seen become a check, with the words of the table of rules.
#include <algorithm>
#include <cstdlib>

#include "base/secrets.h"
#include "base/text.h"
#include "doctor/rules.h"

namespace rigwise::doctor {

namespace {
/// Text with {name} replaced where a name is known; other braces stay.
std::string filled(std::string_view text, const Judge::Names& names) {
  std::string out(text);
  for (const auto& [name, value] : names) {
    const std::string hole = "{" + name + "}";
    for (auto at = out.find(hole); at != std::string::npos; at = out.find(hole, at + value.size()))
      out.replace(at, hole.size(), value);
  }
  return out;
}

/// For a text that is pasted into a shell: each value is one word to it, but {command}, which is a
/// line of it already.
Judge::Names quoted(Judge::Names names) {
  for (auto& [name, value] : names) {
    if (name != "command") value = shell_word(value);
  }
  return names;
}
}  // namespace

const DoctorRule& rule_of(std::string_view code) {
  const auto& rules = doctor_rules();
  const auto found = std::find_if(rules.begin(), rules.end(),
                                  [&](const DoctorRule& rule) { return rule.code == code; });
  if (found == rules.end()) std::abort();  // a slip of ours, found by the first test
  return *found;
}

Check& Judge::add(std::string_view code, CheckState state, const Names& names) {
  const DoctorRule& rule = rule_of(code);
  Check check;
  check.rung = rule.rung;
  check.state = state;
  check.finding.id = std::string(code);
  check.finding.severity = rule.severity;
  check.finding.threshold = std::string(rule.condition);
  OtherTools words = {code, rule.change, rule.by_hand, rule.confirms};
  const auto vendor = names.find("vendor");
  for (const OtherTools& other : other_tools()) {
    if (other.code != code || vendor == names.end()) continue;
    if (vendor->second != "amd" && vendor->second != "intel") continue;
    if (!other.change.empty()) words.change = other.change;
    if (!other.by_hand.empty()) words.by_hand = other.by_hand;
    if (!other.confirms.empty()) words.confirms = other.confirms;
  }
  check.finding.next_step = filled(words.change, names);
  check.finding.source = std::string(rule.source);
  check.by_hand = filled(words.by_hand, quoted(names));
  check.confirms = filled(words.confirms, names);
  into_.push_back(std::move(check));
  return into_.back();
}

void Judge::pass(std::string_view code, std::string seen) {
  add(code, CheckState::pass, {}).finding.claim = mask_secrets(seen);
}

void Judge::fail(std::string_view code, std::string claim, std::vector<Evidence> shown,
                 const Names& names) {
  Check& check = add(code, CheckState::fail, names);
  check.finding.claim = mask_secrets(claim);
  check.finding.evidence = std::move(shown);
  for (auto& evidence : check.finding.evidence) evidence.what = mask_secrets(evidence.what);
}

void Judge::not_judged(std::string_view code, std::string why) {
  add(code, CheckState::not_judged, {}).why = mask_secrets(why);
}

void Judge::skip(std::string_view code, std::string why) {
  add(code, CheckState::skipped, {}).why = mask_secrets(why);
}

std::vector<Evidence> shown(std::string file, std::string what) {
  return {{.file = std::move(file), .what = std::move(what)}};
}

std::vector<Evidence> words(std::string what) {
  return {{.what = std::move(what)}};
}

std::string card_words(const PciGpu& gpu) {
  return gpu.name + " at " + gpu.address;
}

}  // namespace rigwise::doctor
