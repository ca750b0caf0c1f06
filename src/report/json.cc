// JSON documents of runs, ledgers, comparisons and decisions: schema 1, described in docs/json.md.
//
// The keys that docs/json.md calls "always there" are written as null where nothing is known, so
// that a reader may index them; every other key is left out. Strings are valid UTF-8: broken bytes
// become U+FFFD.
#include "base/json.h"

#include <algorithm>

#include "base/text.h"
#include "report/figures.h"
#include "report/hang.h"
#include "report/layout.h"
#include "rigwise/report.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

namespace {
constexpr int kSchema = 1;

std::string finish(const Json& document) {
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

template <class T>
Json or_null(const std::optional<T>& value) {
  if (!value) return nullptr;
  if constexpr (std::is_floating_point_v<T>) {
    return json_number(*value);
  } else {
    return *value;
  }
}

void put_text(Json& object, const char* key, const std::string& text) {
  if (!text.empty()) object[key] = text;
}

Json evidence_json(const std::vector<Evidence>& list) {
  Json array = Json::array();
  for (const Evidence& evidence : list) {
    Json item = Json::object();
    put_text(item, "run", evidence.run);
    put_text(item, "file", evidence.file);
    put(item, "first_row", evidence.first_row);
    put(item, "last_row", evidence.last_row);
    put_text(item, "what", evidence.what);
    array.push_back(std::move(item));
  }
  return array;
}

Json findings_json(const std::vector<Finding>& list) {
  Json array = Json::array();
  for (const Finding& finding : list) {
    Json item = {{"id", finding.id},
                 {"severity", to_string(finding.severity)},
                 {"claim", finding.claim},
                 {"evidence", evidence_json(finding.evidence)}};
    put_text(item, "threshold", finding.threshold);
    put_text(item, "next_step", finding.next_step);
    put_text(item, "source", finding.source);
    array.push_back(std::move(item));
  }
  return array;
}

Json statement_json(const Statement& statement) {
  Json item = Json::object();
  put_text(item, "experiment", statement.experiment);
  put_text(item, "bottleneck", statement.bottleneck);
  put_text(item, "threshold", statement.threshold);
  put_text(item, "option", statement.option);
  put_text(item, "reason", statement.reason);
  put_text(item, "stop", statement.stop);
  put_text(item, "baseline", statement.baseline);
  put_text(item, "candidate", statement.candidate);
  put_text(item, "hash", statement.hash);
  if (statement.sealed_unix_s) item["sealed"] = format_iso_utc(*statement.sealed_unix_s);
  return item;
}

Json recorder_json(const RunInfo& info) {
  if (!info.recorder)
    return {{"cpu_s", nullptr}, {"peak_rss_bytes", nullptr}, {"longest_tick_s", nullptr}};
  const RecorderCost& cost = *info.recorder;
  Json item = {{"cpu_s", or_null(cost.cpu_s)},
               {"peak_rss_bytes", or_null(cost.peak_rss_bytes)},
               {"longest_tick_s", or_null(cost.longest_tick_s)}};
  put(item, "keeper_cpu_s", cost.keeper_cpu_s);
  item["dropped_readings"] = cost.dropped_readings;
  if (cost.missed_ticks > 0) item["missed_ticks"] = cost.missed_ticks;
  item["lost_log_bytes"] = cost.lost_log_bytes;
  return item;
}

/// evidence.csv, where the run has one: its first rows, and how many there are.
void put_evidence(Json& item, const Run& run) {
  constexpr std::size_t kMost = 10000;
  const auto read = read_evidence(run);
  if (!read || read->rows.empty()) return;
  Json rows = Json::array();
  for (const Observation& row : read->rows) {
    if (rows.size() >= kMost) break;
    Json one = {{"source", row.source}};
    if (row.line > 0) one["line"] = row.line;
    put(one, "t_s", row.t_s);
    one["subject"] = row.subject;
    one["quantity"] = row.quantity;
    one["value"] = json_number(row.value);
    one["unit"] = row.unit;
    rows.push_back(std::move(one));
  }
  item["evidence_rows"] = read->rows.size();
  item["evidence"] = std::move(rows);
}

Json run_object(const Run& run, bool whole) {
  const RunInfo& info = run.info;
  const std::optional<Ending>& ending = info.ending;
  Json item = {{"name", info.name},
               {"id", info.id},
               {"dir", run.dir.string()},
               {"state", to_string(run.state)},
               {"exit_status", ending ? or_null(ending->exit_status) : Json(nullptr)},
               {"signal", ending ? or_null(ending->signal) : Json(nullptr)},
               {"wall_s", json_number(run.wall_s)},
               {"ranks_asked", or_null(info.ranks_asked)},
               {"ranks_trained", or_null(info.ranks_trained)},
               {"missing", run.missing},
               {"recorder", recorder_json(info)}};
  if (info.end_unwatched) item["end_unwatched"] = true;
  if (info.log_end_unread) item["log_end_unread"] = true;
  if (info.checkpoints_unwatched) item["checkpoints_unwatched"] = true;
  if (ending) put_text(item, "reason", ending->reason);
  put_text(item, "ranks_why", info.ranks_why);
  if (info.start_unix_s > 0) item["started"] = format_iso_utc(info.start_unix_s);
  put_text(item, "host", info.host);
  item["command"] = info.command;
  if (!whole) return item;
  put_text(item, "cwd", info.cwd);
  item["interval_s"] = json_number(info.interval_s);
  put_text(item, "version", info.version);
  item["warnings"] = info.warnings;
  Json facts = Json::array();
  for (const Fact& fact : info.facts) {
    Json one = {{"key", fact.key}, {"value", fact.value}};
    put_text(one, "source", fact.source);
    facts.push_back(std::move(one));
  }
  item["facts"] = std::move(facts);
  if (info.log_reading) {
    const ReadStatistics& log = *info.log_reading;
    Json one = {{"lines", log.lines},
                {"matched", log.matched},
                {"skipped", log.skipped},
                {"malformed", log.malformed}};
    if (log.first_bad_line > 0) {
      one["first_bad_line"] = log.first_bad_line;
      one["first_bad_text"] = log.first_bad_text;
    }
    item["log_reading"] = std::move(one);
  }
  if (info.statement) item["statement"] = statement_json(*info.statement);
  if (info.imported) {
    item["imported"] = true;
    item["untimed"] = info.untimed;
  }
  if (const auto hangs = read_hangs(run); hangs && !hangs->rows.empty())
    item["hangs"] = hangs_json(hangs->rows);
  put_evidence(item, run);
  return item;
}

Json with_schema(Json body) {
  Json document = {{"schema", kSchema}};
  for (auto& [key, value] : body.items()) document[key] = std::move(value);
  return document;
}

/// Known rows, and apart from them those without evidence either way: a sum over "rows" is the
/// wall time, and nothing that was not measured looks like a zero.
void put_rows(Json& object, const std::vector<LedgerRow>& rows) {
  Json known = Json::array(), unknown = Json::array();
  for (const LedgerRow& row : rows) {
    Json item = {{"class", to_string(row.cls)}};
    if (row.seconds) {
      item["seconds"] = json_number(*row.seconds);
      item["low_s"] = json_number(row.low_s.value_or(*row.seconds));
      item["high_s"] = json_number(row.high_s.value_or(*row.seconds));
      item["how"] = to_string(row.how);
      item["evidence"] = evidence_json(row.evidence);
      item["saves_at_most_s"] = or_null(row.saves_at_most_s);
    }
    put_text(item, "note", row.note);
    put_text(item, "would_measure", row.would_measure);
    (row.seconds ? known : unknown).push_back(std::move(item));
  }
  object["rows"] = std::move(known);
  object["not_measured"] = std::move(unknown);
}

Json effect_json(const Effect& effect) {
  Json item = {{"metric", effect.metric},
               {"percent", json_number(effect.percent)},
               {"low", json_number(effect.low)},
               {"high", json_number(effect.high)},
               {"runs_a", effect.runs_a},
               {"runs_b", effect.runs_b},
               {"level_a_s", json_number(effect.level_a_s)},
               {"level_b_s", json_number(effect.level_b_s)},
               {"clean_a", effect.clean_a},
               {"total_a", effect.total_a},
               {"clean_b", effect.clean_b},
               {"total_b", effect.total_b},
               {"ess_a", json_number(effect.ess_a)},
               {"ess_b", json_number(effect.ess_b)}};
  put(item, "floor_percent", effect.floor_percent);
  put_text(item, "method", effect.method);
  return item;
}

Json series_json(const std::vector<SeriesSummary>& list) {
  Json array = Json::array();
  for (const SeriesSummary& series : list) {
    Json points = Json::array();
    for (const double step : series.change_points) points.push_back(json_number(step));
    Json item = {{"run", series.run},
                 {"clean", series.clean},
                 {"total", series.total},
                 {"warm_up", series.warm_up},
                 {"events", series.events},
                 {"unexplained_events", series.unexplained_events},
                 {"ess", json_number(series.ess)},
                 {"median_s", json_number(series.median_s)},
                 {"change_points", std::move(points)}};
    put_text(item, "source", series.source);
    put_text(item, "trouble", series.trouble);
    array.push_back(std::move(item));
  }
  return array;
}

Json fields_json(const std::vector<ComparedField>& list) {
  Json array = Json::array();
  for (const ComparedField& field : list) {
    Json item = {{"field", field.field},
                 {"a", field.a.empty() ? Json(nullptr) : Json(field.a)},
                 {"b", field.b.empty() ? Json(nullptr) : Json(field.b)},
                 {"speed", to_string(field.speed)},
                 {"loss", to_string(field.loss)},
                 {"is_factor", field.is_factor}};
    put_text(item, "note", field.note);
    if (!field.evidence.empty()) item["evidence"] = evidence_json(field.evidence);
    array.push_back(std::move(item));
  }
  return array;
}

Json loss_json(const LossTrend& loss) {
  Json item = {{"verdict", loss.verdict}};
  put_text(item, "basis", loss.basis);
  put(item, "difference", loss.difference);
  put(item, "low", loss.low);
  put(item, "high", loss.high);
  put(item, "margin", loss.margin);
  put(item, "from_samples", loss.from_samples);
  put(item, "to_samples", loss.to_samples);
  item["notes"] = loss.notes;
  return item;
}

Json repeat_json(const std::optional<Repeatability>& repeat) {
  if (!repeat) return nullptr;
  Json item = {{"level", repeat->level}};
  put(item, "spread_percent", repeat->spread_percent);
  put_text(item, "note", repeat->note);
  return item;
}

Json threshold_json(const ThresholdOutcome& outcome) {
  Json item = {{"text", outcome.text}, {"state", outcome.state}};
  put_text(item, "why", outcome.why);
  return item;
}

Json sentences_json(const std::vector<Sentence>& list) {
  Json array = Json::array();
  for (const Sentence& sentence : list)
    array.push_back({{"text", sentence.text}, {"evidence", evidence_json(sentence.evidence)}});
  return array;
}
Json regret_json(const std::optional<Regret>& regret) {
  if (!regret) return nullptr;
  return {{"best", regret->best.empty() ? Json(nullptr) : Json(regret->best)},
          {"frac", regret->frac ? json_number(*regret->frac) : Json(nullptr)},
          {"why", regret->said.text}};
}

}  // namespace

std::string run_json(const Run& run) {
  return finish(with_schema(run_object(run, true)));
}

std::string runs_json(const std::vector<Run>& runs) {
  Json array = Json::array();
  for (const Run& run : runs) array.push_back(run_object(run, false));
  return finish({{"schema", kSchema}, {"runs", std::move(array)}});
}

std::string ledger_json(const Ledger& ledger, const std::optional<SealedThreshold>& sealed) {
  Json document = {
      {"schema", kSchema}, {"run", ledger.run}, {"wall_s", json_number(ledger.wall_s)}};
  put_rows(document, ledger.rows);
  Json ranks = Json::array();
  for (const RankLedger& rank : ledger.ranks) {
    Json item = {{"rank", rank.rank}};
    put_text(item, "host", rank.host);
    put_rows(item, rank.rows);
    ranks.push_back(std::move(item));
  }
  document["ranks"] = std::move(ranks);
  const std::optional<LedgerClass>& cls = ledger.bottleneck.cls;
  document["bottleneck"] = {{"class", cls ? Json(to_string(*cls)) : Json(nullptr)},
                            {"why", ledger.bottleneck.why}};
  put_text(document["bottleneck"], "next_step", ledger.bottleneck.next_step);
  if (sealed) {
    Json without = Json::array();
    for (const auto& row : sealed->gap.without) {
      without.push_back({{"class", to_string(row.cls)},
                         {"value_s", json_number(row.value_s)},
                         {"meets", row.meets}});
    }
    document["threshold"] = {{"text", sealed->text},
                             {"value_s", json_number(sealed->gap.value_s)},
                             {"meets", sealed->gap.meets},
                             {"without", std::move(without)}};
  }
  document["rules_version"] = ledger.rules_version;
  put(document, "steps", ledger.steps);
  put(document, "step_time_s", ledger.step_time_s);
  put(document, "step_time_half_width_s", ledger.step_time_half_width_s);
  document["findings"] = findings_json(ledger.findings);
  return finish(document);
}

std::string comparison_json(const Comparison& comparison) {
  Json document = {{"schema", kSchema},
                   {"comparable", to_string(comparison.comparable)},
                   {"blockers", comparison.blockers},
                   {"verdict", to_string(comparison.verdict)},
                   {"verdict_why", comparison.verdict_why},
                   {"effect", comparison.effect ? effect_json(*comparison.effect) : Json(nullptr)},
                   {"loss", comparison.loss ? loss_json(*comparison.loss) : Json(nullptr)},
                   {"efficiency", comparison.scaling ? json_number(comparison.scaling->efficiency)
                                                     : Json(nullptr)},
                   {"name_a", comparison.name_a},
                   {"name_b", comparison.name_b},
                   {"runs_a", comparison.runs_a},
                   {"runs_b", comparison.runs_b},
                   {"factor", comparison.factor},
                   {"factor_shown", comparison.factor_shown}};
  put_text(document, "smallest_change", comparison.smallest_change);
  document["likely"] = comparison.likely;
  if (!comparison.wall_blockers.empty()) document["wall_blockers"] = comparison.wall_blockers;
  if (comparison.advice) {
    const Advice& advice = *comparison.advice;
    Json item = {{"spread_percent", json_number(advice.spread_percent)},
                 {"reckoned_percent", json_number(advice.reckoned_percent)},
                 {"measured", advice.measured}};
    put(item, "runs_for_3_percent", advice.runs_for_3_percent);
    put(item, "runs_for_5_percent", advice.runs_for_5_percent);
    put(item, "runs_for_10_percent", advice.runs_for_10_percent);
    document["advice"] = std::move(item);
  }
  if (comparison.wall) document["wall"] = effect_json(*comparison.wall);
  put(document, "runs_needed", comparison.runs_needed);
  if (comparison.scaling) {
    const Scaling& scaling = *comparison.scaling;
    document["scaling"] = {{"ranks_a", scaling.ranks_a},
                           {"ranks_b", scaling.ranks_b},
                           {"kind", scaling.kind},
                           {"speedup", json_number(scaling.speedup)},
                           {"speedup_low", json_number(scaling.speedup_low)},
                           {"speedup_high", json_number(scaling.speedup_high)},
                           {"efficiency", json_number(scaling.efficiency)}};
  }
  document["repeatability"] = {{"a", repeat_json(comparison.repeat_a)},
                               {"b", repeat_json(comparison.repeat_b)}};
  Json effects = Json::array();
  for (const SideEffect& effect : comparison.side_effects) {
    effects.push_back({{"what", effect.what},
                       {"a", effect.a},
                       {"b", effect.b},
                       {"change", effect.change},
                       {"evidence", evidence_json(effect.evidence)}});
  }
  document["side_effects"] = std::move(effects);
  if (comparison.threshold) document["threshold"] = threshold_json(*comparison.threshold);
  document["fields"] = fields_json(comparison.fields);
  document["series"] = {{"a", series_json(comparison.series_a)},
                        {"b", series_json(comparison.series_b)}};
  document["findings"] = findings_json(comparison.findings);
  document["rules_version"] = comparison.rules_version;
  return finish(document);
}

std::string decision_json(const Decision& decision) {
  Json reasons = Json::array();
  for (const Sentence& sentence : decision.reasons) reasons.push_back(sentence.text);
  Json document = {{"schema", kSchema},
                   {"verdict", to_string(decision.verdict)},
                   {"fix", or_null(decision.fix)},
                   {"reasons", std::move(reasons)},
                   {"next_action", decision.next_action},
                   {"regret", regret_json(decision.regret)},
                   {"experiment", decision.experiment},
                   {"rung", decision.rung},
                   {"statement", statement_json(decision.statement)},
                   {"amendments", decision.amendments}};
  document["record"] = {{"reasons", sentences_json(decision.reasons)},
                        {"summary", sentences_json(decision.summary)},
                        {"baseline_result", sentences_json(decision.baseline_result)},
                        {"candidate_result", sentences_json(decision.candidate_result)},
                        {"side_effects", sentences_json(decision.side_effects)}};
  document["rules_version"] = decision.rules_version;
  return finish(document);
}

}  // namespace rigwise
