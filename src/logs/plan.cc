#include "logs/plan.h"

#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "logs/scan.h"

namespace rigwise::logs {
namespace {

constexpr std::uint64_t kFirst = 0x9E3779B97F4A7C15ull, kSecond = 0xC2B2AE3D27D4EB4Full;

std::uint64_t mix(std::uint64_t state, std::uint64_t part, std::uint64_t factor) {
  state = (state ^ part) * factor;
  return state ^ (state >> 32);
}

/// Sixteen bytes at `at`, every digit as '0', as two words.
void load_shape(const char* at, std::uint64_t& low, std::uint64_t& high) {
#if defined(__SSE2__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  const __m128i zero = _mm_set1_epi8('0');
  const __m128i from_zero = _mm_sub_epi8(bytes, zero);
  const __m128i digit = _mm_cmpeq_epi8(_mm_min_epu8(from_zero, _mm_set1_epi8(9)), from_zero);
  const __m128i shape = _mm_or_si128(_mm_and_si128(digit, zero), _mm_andnot_si128(digit, bytes));
  low = static_cast<std::uint64_t>(_mm_cvtsi128_si64(shape));
  high = static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm_unpackhi_epi64(shape, shape)));
#else
  char shape[16];
  for (int i = 0; i < 16; ++i) shape[i] = is_digit(at[i]) ? '0' : at[i];
  std::memcpy(&low, shape, 8);
  std::memcpy(&high, shape + 8, 8);
#endif
}

}  // namespace

Signature signature_of(std::string_view text, char end) {
  const auto start =
      (static_cast<std::uint64_t>(text.size()) << 8) | static_cast<unsigned char>(end);
  std::uint64_t a = start * kFirst, b = start * kSecond;
  const char* at = text.data();
  std::size_t left = text.size();
  std::uint64_t low = 0, high = 0;
  for (; left >= 16; at += 16, left -= 16) {
    load_shape(at, low, high);
    a = mix(a, low, kFirst);
    b = mix(b, high, kSecond);
  }
  if (left > 0) {
    char rest[16] = {};
    std::memcpy(rest, at, left);
    load_shape(rest, low, high);
    a = mix(a, low, kFirst);
    b = mix(b, high, kSecond);
  }
  return {mix(a, b, kSecond), mix(b, a, kFirst) | 1};  // never that of an empty slot
}

void Trace::begin(std::string_view base) {
  base_ = base;
  failed_ = false;
  plan_.count = 0;
  plan_.kind = Plan::Kind::none;
}

bool Trace::offset_of(const char* at, std::uint16_t& offset) {
  if (at < base_.data() || at >= base_.data() + base_.size()) {
    failed_ = true;
    return false;
  }
  offset = static_cast<std::uint16_t>(at - base_.data());
  return true;
}

bool Trace::set(Entry& entry, const Meaning& meaning, const Value& value, const char* at,
                const char* total) {
  const bool taken = entry.set(meaning, value);
  if (failed_) return taken;
  if (plan_.count == Plan::kMaxValues || value.seconds || value.number.sure_comma ||
      value.total.has_value() != (total != nullptr)) {
    failed_ = true;
    return taken;
  }
  PlannedValue& planned = plan_.values[plan_.count];
  planned = PlannedValue{};
  planned.meaning = meaning;
  planned.unit = value.unit;
  planned.has_mean = value.has_mean;
  planned.taken = taken;
  if (value.number.grouped) planned.size = static_cast<std::uint8_t>(value.number.size);
  if (!offset_of(at, planned.at)) return taken;
  if (total != nullptr && !offset_of(total, planned.total_at)) return taken;
  ++plan_.count;
  return taken;
}

void Trace::told(const Entry& entry, Form form, const char* format) {
  if (plan_.kind != Plan::Kind::none) failed_ = true;  // a second one in the line
  plan_.kind = Plan::Kind::entry;
  plan_.evaluation = entry.evaluation;
  plan_.summary = entry.summary;
  plan_.pairs = entry.pairs;
  plan_.form = form;
  plan_.format = format;
}

void Trace::told(const Bar& bar, std::string_view text) {
  if (plan_.kind != Plan::Kind::none || bar.open || bar.glyphs || bar.counter_at == 0 ||
      strip(text.substr(bar.end)).size() > 0) {
    failed_ = true;
    return;
  }
  plan_.kind = Plan::Kind::bar;
  plan_.use = bar.use;
  plan_.has_epoch = bar.epoch.has_value();
  plan_.evaluation = bar.figures.evaluation;
  plan_.description_size = static_cast<std::uint16_t>(bar.description.size());
  plan_.description_at = 0;
  if (!bar.description.empty()) offset_of(bar.description.data(), plan_.description_at);
  offset_of(text.data() + bar.counter_at, plan_.counter_at);
  offset_of(text.data() + bar.elapsed_at, plan_.elapsed_at);
}

PlanCache::PlanCache()
    : plans_(std::make_unique<std::array<Plan, kPlans>>()),
      names_(std::make_unique<std::array<Signature, kPlans>>()),
      nothings_(std::make_unique<std::array<std::uint64_t, kNothings>>()) {}

const Plan* PlanCache::find(const Signature& signature) const {
  const std::size_t slot = signature.a % kPlans;
  return (*names_)[slot] == signature ? &(*plans_)[slot] : nullptr;
}

bool PlanCache::is_nothing(const Signature& signature) const {
  return (*nothings_)[signature.a % kNothings] == signature.b;
}

void PlanCache::keep(const Plan& plan, const Signature& signature) {
  const std::size_t slot = signature.a % kPlans;
  (*plans_)[slot] = plan;
  (*names_)[slot] = signature;
}

void PlanCache::keep_nothing(const Signature& signature) {
  (*nothings_)[signature.a % kNothings] = signature.b;
}

bool follow(const Plan& plan, std::string_view text, Entry& entry) {
  Value value;
  for (std::size_t i = 0; i < plan.count; ++i) {
    const PlannedValue& planned = plan.values[i];
    const bool commas = planned.size > 0;
    if (!scan_number(text.substr(planned.at), value.number, commas)) return false;
    if (commas && (value.number.size != planned.size || value.number.sure_comma)) return false;
    value.total.reset();
    if (planned.total_at > 0) {
      Number total;
      if (!scan_number(text.substr(planned.total_at), total, false)) return false;
      value.total = total.value;
    }
    value.unit = planned.unit;
    value.has_mean = planned.has_mean;
    if (entry.set(planned.meaning, value) != planned.taken) return false;
  }
  entry.evaluation = plan.evaluation;
  entry.summary = plan.kind == Plan::Kind::entry && plan.summary;
  entry.pairs = plan.pairs;
  return true;
}

bool follow(const Plan& plan, std::string_view text, Bar& bar) {
  if (!follow(plan, text, bar.figures)) return false;
  bar.figures.drop(Figure::batch);
  bar.use = plan.use;
  bar.description = text.substr(plan.description_at, plan.description_size);
  if (plan.has_epoch) bar.epoch = bar.figures.value(Figure::epoch);
  Number number;
  std::string_view rest = text.substr(plan.counter_at);
  if (!scan_number(rest, number, false) || !number.whole || !(number.value < 9e15)) return false;
  bar.n = static_cast<std::int64_t>(number.value);
  rest.remove_prefix(number.size);
  if (rest.starts_with('/')) {
    if (!scan_number(rest.substr(1), number, false) || !number.whole || !(number.value < 9e15))
      return false;
    bar.total = static_cast<std::int64_t>(number.value);
  }
  const std::string_view clock = text.substr(plan.elapsed_at);
  const std::size_t size = clock.find_first_of("<,]");
  if (!clock.starts_with('?')) bar.elapsed_s = scan_clock(clock.substr(0, size));
  bar.end = text.size();
  return true;
}

}  // namespace rigwise::logs
