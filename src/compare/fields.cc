#include "compare/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "base/text.h"

namespace rigwise::compare_fields {

using compare_data::RunData;
using compare_rules::FieldRule;
using compare_rules::rule_of;

namespace {

/// "2e-4" and "0.0002", "true" and "True": the same.
std::string canonical(std::string_view value) {
  const std::string_view bare = trim(value);
  if (const auto number = to_number(bare)) return number_text(*number);
  const std::string low = lower(bare);
  if (low == "true" || low == "false" || low == "none") return low;
  return std::string(bare);
}

/// A digest is told apart by its first digits; all of them push everything else off the line.
std::string shown(std::string value) {
  constexpr std::size_t kDigits = 12;
  const auto colon = value.find(':');
  if (value.starts_with("sha256") && colon != std::string::npos) {
    value.resize(std::min(value.size(), colon + 1 + kDigits));
  }
  return value;
}

bool all_unknown(const Values& values) {
  return std::all_of(values.begin(), values.end(), [](const auto& v) { return v.empty(); });
}
bool any_unknown(const Values& values) {
  return std::any_of(values.begin(), values.end(), [](const auto& v) { return v.empty(); });
}

std::set<std::string> known(const Values& values) {
  std::set<std::string> found;
  for (const std::string& value : values) {
    if (!value.empty()) found.insert(canonical(value));
  }
  return found;
}

Impact at_most(Impact impact, Impact limit) {
  return static_cast<int>(impact) > static_cast<int>(limit) ? limit : impact;
}

Values fact_values(const Side& side, const std::string& key) {
  Values values;
  for (const RunData& run : side.runs) {
    if (key == "global_batch") {
      values.push_back(run.global_batch ? number_text(*run.global_batch) : "");
    } else {
      values.push_back(compare_data::fact(run, key).value_or(""));
    }
  }
  return values;
}

/// "argv --max_steps" → "--max_steps".
std::string flag_of(const Fact& fact) {
  const auto dash = fact.source.find("--");
  if (!fact.source.starts_with("argv") || dash == std::string::npos) return {};
  const auto end = fact.source.find_first_of(" =;,", dash);
  return fact.source.substr(dash, end == std::string::npos ? end : end - dash);
}

constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kNamedContents = {{
    {"model", "model_config_hash"},
    {"data", "data_hash"},
    {"script", "script_hash"},
    {"evaluation_data", "evaluation_data_hash"},
    {"tokenizer", "model_config_hash"},
}};

/// Where contents are known and equal, another name for them is no difference.
std::string_view hash_of(std::string_view field) {
  for (const auto& [name, hash] : kNamedContents) {
    if (name == field) return hash;
  }
  return {};
}

/// "data_hash" → "data"; empty for a field that is no hash.
std::string_view content_of(std::string_view field) {
  for (const auto& [name, hash] : kNamedContents) {
    if (hash == field) return name;
  }
  return {};
}

/// "rerun two-gpu with --max_steps 200 (it had 100)".
std::string change_of(const FieldRule& rule, const Side& a, const Side& b,
                      const ComparedField& field) {
  const bool at_fault_a = field.a != "as asked" && field.a != "finished";
  const bool at_fault_b = field.b != "as asked" && field.b != "finished";
  const std::string at_fault = at_fault_a && at_fault_b ? "both sides"
                               : at_fault_a             ? a.name
                                                        : b.name;
  if (rule.field == "ranks_trained" && field.note.find("torchrun") != std::string::npos) {
    return fmt::format("start the ranks of {} with torchrun --nproc_per_node", at_fault);
  }
  if (rule.field == "ranks_trained") {
    return fmt::format("repeat {} so that every rank that is asked for trains", at_fault);
  }
  if (rule.field == "run_ended") return fmt::format("repeat {} to its end", at_fault);
  if (!rule.change.empty()) return std::string(rule.change);
  const std::string key(rule.field);
  if (field.a.empty() || field.b.empty()) {
    const std::string& name = field.a.empty() ? a.name : b.name;
    return fmt::format("rerun {} so that its {} is known", name, key);
  }
  // Nobody passes a hash: what can be changed is the content's name (data_hash → --data).
  const std::string_view content = content_of(rule.field);
  const std::string asked = content.empty() ? key : std::string(content);
  std::string flag, value_a = field.a, value_b = field.b;
  for (const Side* side : {&a, &b}) {
    for (const RunData& run : side->runs) {
      const auto found = run.facts.find(asked);
      if (found == run.facts.end()) continue;
      if (flag.empty()) flag = flag_of(found->second);
      if (!content.empty()) (side == &a ? value_a : value_b) = found->second.value;
    }
  }
  if (!content.empty() && value_a == value_b) {
    return fmt::format("put back {} as {} had it, then rerun {}", value_a, a.name, b.name);
  }
  return fmt::format("rerun {} with {} {} (it had {})", b.name, flag.empty() ? asked : flag,
                     value_a, value_b);
}

void add_fact_evidence(const Side& side, const std::string& key, ComparedField& field) {
  for (const RunData& run : side.runs) {
    const auto found = run.facts.find(key);
    if (found == run.facts.end()) continue;
    field.evidence.push_back({.run = run.label,
                              .file = "run.json",
                              .what = key + ", read from " + found->second.source});
    return;  // one a side is enough to open
  }
}

bool equal_and_known(const Side& a, const Side& b, std::string_view key) {
  const Values va = fact_values(a, std::string(key)), vb = fact_values(b, std::string(key));
  if (any_unknown(va) || any_unknown(vb)) return false;
  const auto sa = known(va);
  return sa.size() == 1 && sa == known(vb);
}

bool is_named_content(std::string_view field) {
  return !hash_of(field).empty();
}

std::optional<double> only_number(const Side& side, const std::string& key) {
  const Values values = fact_values(side, key);
  if (any_unknown(values) || known(values).size() != 1) return std::nullopt;
  return to_number(*known(values).begin());
}

std::optional<int> only_ranks(const Side& side) {
  std::optional<int> ranks;
  for (const RunData& run : side.runs) {
    if (!run.ranks || (ranks && *ranks != *run.ranks)) return std::nullopt;
    ranks = run.ranks;
  }
  return ranks;
}

bool near(double a, double b) {
  return std::fabs(a - b) <= 1e-6 * std::max(std::fabs(a), 1.0);
}

/// Strong: the batch of all ranks stays; weak: a rank's own share of it stays.
std::string scaling_kind(const Side& a, const Side& b) {
  const auto ranks_a = only_ranks(a), ranks_b = only_ranks(b);
  const auto batch_a = only_number(a, "global_batch"), batch_b = only_number(b, "global_batch");
  if (!ranks_a || !ranks_b || !batch_a || !batch_b || *ranks_a == *ranks_b) return {};
  if (near(*batch_a, *batch_b)) return "strong";
  if (near(*batch_a / *ranks_a, *batch_b / *ranks_b)) return "weak";
  return {};
}

/// Weak scaling changes the optimisation on purpose: losses may still be laid side by side where
/// they are counted in samples and the learning rate went along with the batch.
bool rate_scaled_with_batch(const Side& a, const Side& b) {
  const auto batch_a = only_number(a, "global_batch"), batch_b = only_number(b, "global_batch");
  const auto rate_a = only_number(a, "learning_rate"), rate_b = only_number(b, "learning_rate");
  if (!batch_a || !batch_b || !rate_a || !rate_b || !(*rate_a > 0) || !(*batch_a > 0)) return false;
  const double batch = *batch_b / *batch_a, rate = *rate_b / *rate_a;
  return !near(batch, 1) && (near(rate, batch) || std::fabs(rate - std::sqrt(batch)) < 0.01);
}

/// The same samples in all: max_steps times batch.
bool same_samples(const Side& a, const Side& b) {
  const auto steps_a = only_number(a, "max_steps"), steps_b = only_number(b, "max_steps");
  const auto batch_a = only_number(a, "global_batch"), batch_b = only_number(b, "global_batch");
  return steps_a && steps_b && batch_a && batch_b && near(*steps_a * *batch_a, *steps_b * *batch_b);
}

void adjust_to_factor(const Side& a, const Side& b, const std::string& factor, const Gate& gate,
                      ComparedField& field) {
  const std::string& key = field.field;
  if (key == factor) {
    field.is_factor = true;
    field.speed = Impact::none;
    field.loss = at_most(field.loss, Impact::caps);
    field.note = "under test";
    return;
  }
  if (compare_rules::follows(factor, key)) {
    field.speed = field.loss = Impact::noted;
    field.note = "follows from what is under test";
    return;
  }
  const bool scaled = rate_scaled_with_batch(a, b);
  if (key == "global_batch" && gate.scaling == "weak") {
    field.note = "weak scaling: a rank's share stays, the batch grows with the ranks";
    if (scaled) field.loss = Impact::caps;
  }
  if (key == "learning_rate" && scaled) {
    field.loss = Impact::caps;
    field.note = "scaled with the batch";
  }
  if ((key == "max_steps" || key == "epochs") && same_samples(a, b)) {
    field.loss = at_most(field.loss, Impact::caps);
    field.note = "the same number of samples in all";
  }
}

/// Unlike batches and an unknown one: steps of unknown size say nothing once ranks differ.
void adjust_batch(const Side& a, const Side& b, ComparedField& field, Gate& gate) {
  gate.batches_differ = !field.a.empty() && !field.b.empty() && field.a != field.b;
  const auto ranks_a = only_ranks(a), ranks_b = only_ranks(b);
  const bool known_everywhere =
      !any_unknown(fact_values(a, "global_batch")) && !any_unknown(fact_values(b, "global_batch"));
  if (known_everywhere) return;  // runs of one side may differ: each is divided by its own batch
  if (ranks_a && ranks_b && *ranks_a == *ranks_b) return;
  if (!ranks_a && !ranks_b) return;
  field.speed = field.loss = Impact::blocks;
  field.note = "the number of ranks differs and the samples in a step are not known";
}

void add_fact(const FieldRule& rule, const Side& a, const Side& b, Gate& gate) {
  const std::string key(rule.field);
  ComparedField field = lay(rule, fact_values(a, key), fact_values(b, key));
  const bool differs = field.a != field.b;
  if (is_named_content(rule.field) && differs && equal_and_known(a, b, hash_of(rule.field))) {
    field.speed = field.loss = Impact::noted;
    field.note = "the content is the same";
  }
  if (key == "global_batch") adjust_batch(a, b, field, gate);
  if (field.speed == Impact::none && field.loss == Impact::none && !differs) {
    gate.fields.push_back(std::move(field));
    return;
  }
  adjust_to_factor(a, b, gate.factor, gate, field);
  add_fact_evidence(a, key, field);
  add_fact_evidence(b, key, field);
  gate.fields.push_back(std::move(field));
}

/// What is under test. Named by the user, else by the sealed statement where that field differs,
/// else the ranks where no other setting would block.
Result<std::string> find_factor(const Side& a, const Side& b, const CompareOptions& options) {
  const auto ranks_a = only_ranks(a), ranks_b = only_ranks(b);
  const bool ranks_differ = ranks_a && ranks_b && *ranks_a != *ranks_b;
  const auto differs = [&](const std::string& field) {
    if (field == "ranks") return ranks_differ;
    for (const FieldRule& rule : compare_rules::state_rules()) {
      if (rule.field == field) return true;  // told by the machine's record later
    }
    return known(fact_values(a, field)) != known(fact_values(b, field));
  };
  if (options.factor) {
    const std::string word = lower(trim(split(*options.factor, '=')[0]));
    const std::string_view field = compare_rules::factor_field(word);
    if (!field.empty()) return std::string(field);
    if (auto argument = argument_in_words(a, b, word); !argument.empty()) return argument;
    std::vector<std::string> names{"gpus", "ranks"};
    for (const FieldRule& rule : compare_rules::fact_rules()) names.emplace_back(rule.field);
    for (const FieldRule& rule : compare_rules::state_rules()) names.emplace_back(rule.field);
    const auto near_name = nearest_name(word, names);
    return Error{Errc::usage,
                 fmt::format("'{}' is not a field that runs are compared by",
                             clean_text(*options.factor, 80)),
                 near_name ? fmt::format("did you mean '{}'?", *near_name)
                           : "for example ranks, precision, micro_batch, dataloader_workers"};
  }
  std::string stated;  // by the statement; used at last even where it was not seen to differ
  for (const Side* side : {&b, &a}) {
    for (const RunData& run : side->runs) {
      if (!run.run->info.statement) continue;
      const std::string& option = run.run->info.statement->option;
      const std::string field(compare_rules::factor_in_words(option));
      if (!field.empty() && differs(field)) return field;
      if (auto argument = argument_in_words(a, b, option); !argument.empty()) return argument;
      if (stated.empty()) stated = field;
    }
  }
  if (!ranks_differ) return stated;
  for (const FieldRule& rule : compare_rules::fact_rules()) {
    const bool matters = rule.speed == Impact::blocks || rule.speed == Impact::caps;
    if (!matters || compare_rules::follows("ranks", rule.field)) continue;
    const Values va = fact_values(a, std::string(rule.field));
    const Values vb = fact_values(b, std::string(rule.field));
    if (all_unknown(va) || all_unknown(vb) || known(va) == known(vb)) continue;
    if (is_named_content(rule.field) && equal_and_known(a, b, hash_of(rule.field))) continue;
    return stated;
  }
  return std::string("ranks");
}

std::string sentence(const ComparedField& field, const Side& a, const Side& b) {
  const auto side = [](const std::string& value) {
    return value.empty() ? std::string("not known") : value;
  };
  std::string text = fmt::format("{}: {} in {}, {} in {}", field.field, side(field.a), a.name,
                                 side(field.b), b.name);
  if (!field.note.empty()) text += " (" + field.note + ")";
  return text;
}

/// Capture, for one, is a blocker by itself on one side only; both values may read the same.
int weight(const ComparedField& field) {
  const int worst = std::max(static_cast<int>(field.speed), static_cast<int>(field.loss));
  return 4 * worst + (field.a != field.b ? 2 : 0) + (field.is_factor ? 1 : 0);
}

void conclude(const Side& a, const Side& b, Gate& gate) {
  std::stable_sort(
      gate.fields.begin(), gate.fields.end(),
      [](const ComparedField& x, const ComparedField& y) { return weight(x) > weight(y); });
  bool normalised = false, loss_matters = false;
  for (const ComparedField& field : gate.fields) {
    const FieldRule& rule = rule_of(field.field.substr(0, field.field.find(':')));
    if (field.speed == Impact::blocks) {
      gate.blockers.push_back(sentence(field, a, b));
      if (gate.smallest_change.empty()) gate.smallest_change = change_of(rule, a, b, field);
    }
    if (field.loss == Impact::blocks) gate.loss_blockers.push_back(sentence(field, a, b));
    const bool real = field.a != field.b && !field.a.empty() && !field.b.empty();
    if (rule.wall && !field.is_factor && real && field.speed != Impact::none &&
        !compare_rules::follows(gate.factor, field.field) &&
        field.note != "the same number of samples in all" &&
        field.note != "the content is the same") {
      gate.wall_blockers.push_back(sentence(field, a, b));
    }
    gate.capped = gate.capped || field.speed == Impact::caps;
    normalised = normalised || field.speed == Impact::normalise;
    loss_matters = loss_matters || (!field.is_factor &&
                                    (field.loss == Impact::blocks || field.loss == Impact::caps));
  }
  if (gate.batches_differ && !same_samples(a, b)) {
    gate.wall_blockers.push_back(
        "global_batch: the runs went through different numbers of samples");
  }
  if (!gate.blockers.empty()) {
    gate.comparable = Comparable::no;
  } else if (normalised) {
    gate.comparable = Comparable::per_sample;
  } else if (gate.capped || loss_matters) {
    gate.comparable = Comparable::caveats;
  }
}

/// Fields [begin, end): does a setting differ there, or is one not comparable with itself?
bool any_differs(const Gate& gate, std::size_t begin, std::size_t end) {
  return std::any_of(gate.fields.begin() + static_cast<std::ptrdiff_t>(begin),
                     gate.fields.begin() + static_cast<std::ptrdiff_t>(end),
                     [](const ComparedField& field) { return field.a != field.b; });
}

/// What is said to be under test must be seen to differ: else the verdict is about something else.
/// `--factor ranks=1,2` also says which values to expect.
void check_factor(const Side& a, const Side& b, const CompareOptions& options, Gate& gate) {
  if (gate.factor.empty()) return;
  const auto found = std::find_if(gate.fields.begin(), gate.fields.end(),
                                  [&](const auto& field) { return field.is_factor; });
  gate.factor_shown = found != gate.fields.end() && found->a != found->b;
  if (!gate.factor_shown) {
    gate.capped = true;
    if (gate.comparable == Comparable::yes) gate.comparable = Comparable::caveats;
    gate.findings.push_back(
        {.id = "factor-does-not-differ",
         .severity = Severity::warning,
         .claim = fmt::format("{} is under test, but it is the same on both sides{}", gate.factor,
                              found == gate.fields.end() || found->a.empty()
                                  ? std::string(" as far as the record tells")
                                  : ": " + found->a),
         .next_step = fmt::format("check how {} was started", b.name)});
    return;
  }
  const auto equals = options.factor ? options.factor->find('=') : std::string::npos;
  if (equals == std::string::npos) return;
  const auto wanted = split(std::string_view(*options.factor).substr(equals + 1), ',');
  if (wanted.size() != 2) return;
  if (canonical(wanted[0]) != canonical(found->a) || canonical(wanted[1]) != canonical(found->b)) {
    gate.findings.push_back(
        {.id = "factor-values-differ",
         .severity = Severity::warning,
         .claim =
             fmt::format("--factor says {} and {}, the runs had {} and {}",
                         clean_text(wanted[0], 40), clean_text(wanted[1], 40), found->a, found->b),
         .next_step = fmt::format("check that {} and {} are the runs you mean", a.name, b.name)});
  }
}

}  // namespace

std::string in_words(const Values& values) {
  std::vector<std::string> seen;
  bool unknown = false;
  for (const std::string& value : values) {
    if (value.empty()) {
      unknown = true;
      continue;
    }
    const std::string text = shown(canonical(value));
    if (std::find(seen.begin(), seen.end(), text) == seen.end()) seen.push_back(text);
  }
  if (seen.empty()) return {};
  if (unknown) seen.emplace_back("not known");
  return join(seen, ", ");
}

ComparedField lay(const FieldRule& rule, const Values& a, const Values& b) {
  ComparedField field{.field = std::string(rule.field), .a = in_words(a), .b = in_words(b)};
  const std::set<std::string> set_a = known(a), set_b = known(b);
  if (all_unknown(a) && all_unknown(b)) {
    field.speed = at_most(rule.speed, Impact::noted);
    field.loss = at_most(rule.loss, Impact::noted);
    field.note = "not known on either side";
    return field;
  }
  if (set_a.size() <= 1 && set_b.size() <= 1 && !set_a.empty() && !set_b.empty() &&
      set_a == set_b) {
    if (!any_unknown(a) && !any_unknown(b)) return field;
    field.speed = at_most(rule.speed, Impact::noted);
    field.loss = at_most(rule.loss, Impact::noted);
    field.note = "not known for every run";
    return field;
  }
  if (all_unknown(a) || all_unknown(b)) {
    field.speed = at_most(rule.speed, Impact::caps);
    field.loss = at_most(rule.loss, Impact::caps);
    field.note = "known on one side only";
    return field;
  }
  field.speed = rule.speed;
  field.loss = rule.loss;
  field.note = std::string(rule.why);
  if (set_a.size() > 1 || set_b.size() > 1) {
    field.note += fmt::format("; the runs of {} differ among themselves",
                              set_a.size() > 1 && set_b.size() > 1 ? "both sides"
                              : set_a.size() > 1                   ? "the first side"
                                                                   : "the second side");
  }
  return field;
}

Result<Gate> judge(const Side& a, const Side& b, const CompareOptions& options) {
  Gate gate;
  RW_TRY(gate.factor, find_factor(a, b, options));
  gate.scaling = scaling_kind(a, b);
  for (const FieldRule& rule : compare_rules::fact_rules()) add_fact(rule, a, b, gate);
  const std::size_t facts = gate.fields.size();
  look_at_conditions(a, b, gate.factor, gate);
  const std::size_t conditions = gate.fields.size();
  look_at_machines(a, b, gate);
  look_at_arguments(a, b, gate);
  gate.factor_shown =
      any_differs(gate, 0, facts) || any_differs(gate, conditions, gate.fields.size());
  for (std::size_t i = facts; i < gate.fields.size(); ++i) {
    ComparedField& field = gate.fields[i];
    const std::string name = field.field.substr(0, field.field.find(':'));
    const bool is_factor = name == gate.factor || field.field == gate.factor;
    if (field.a != field.b && (is_factor || compare_rules::follows(gate.factor, name))) {
      field.is_factor = is_factor;
      field.speed = is_factor ? Impact::none : Impact::noted;
      field.loss = at_most(field.loss, Impact::caps);
      field.note = is_factor ? "under test" : "follows from what is under test";
    }
  }
  conclude(a, b, gate);
  check_factor(a, b, options, gate);
  return gate;
}

}  // namespace rigwise::compare_fields
