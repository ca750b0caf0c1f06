// Rules: pure functions from facts to checks, one a rung. A rule that finds nothing wrong says what
// it saw; one whose evidence is missing says so and is no pass.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "doctor/facts.h"
#include "rigwise/doctor.h"

namespace rigwise::doctor {

/// Makes checks of codes. Every code is one of doctor_rules(). What looks like a secret in a text
/// is shown as "***".
class Judge {
 public:
  // What {gpu}, {bdf} … stand for. "vendor" chooses the tools where the card is not NVIDIA's.
  using Names = std::map<std::string, std::string>;

  explicit Judge(std::vector<Check>& into) : into_(into) {}
  void pass(std::string_view code, std::string seen);
  /// `shown`: the evidence, a place that can be opened and what is there.
  void fail(std::string_view code, std::string claim, std::vector<Evidence> shown,
            const Names& names = {});
  void not_judged(std::string_view code, std::string why);
  void skip(std::string_view code, std::string why);

 private:
  Check& add(std::string_view code, CheckState state, const Names& names);
  std::vector<Check>& into_;
};

/// The rule of a code; a code that is not in the table is a bug.
const DoctorRule& rule_of(std::string_view code);

/// The words of a rule that name NVIDIA's tools, for other cards. Empty: as in the rule.
struct OtherTools {
  std::string_view code, change, by_hand, confirms;
};
const std::vector<OtherTools>& other_tools();

void judge_host(const DoctorFacts& facts, Judge& judge);
void judge_devices(const DoctorFacts& facts, Judge& judge);
/// Links as they were read while the GPU was busy, by whoever kept it busy. Part of devices where a
/// GPU works anyway, of framework where the probe put the load on.
void judge_links(const DoctorFacts& facts, Judge& judge, bool load_put_on);
/// True where GPUs are there and the run is to use none: told, and nothing of theirs is judged.
bool judge_left_out(const DoctorFacts& facts, Judge& judge);
void judge_framework(const DoctorFacts& facts, Judge& judge);
void judge_launcher(const DoctorFacts& facts, Judge& judge);
void judge_collective(const DoctorFacts& facts, Judge& judge);
void judge_storage(const DoctorFacts& facts, Judge& judge);
void judge_smoke(const SmokeResult& result, Judge& judge);
/// `found`: the newest smoke test of the command, where there is one. `names`: {runs}, the runs'
/// folder, and {command}, the command as one word of a shell.
void judge_ready(const Result<std::optional<SmokeResult>>& found, double now_unix_s,
                 const Judge::Names& names, Judge& judge);

/// One piece of evidence: a file that can be opened and what it says, or what a probe said.
std::vector<Evidence> shown(std::string file, std::string what);
std::vector<Evidence> words(std::string what);
/// "GeForce RTX 3090 at 0000:06:00.0".
std::string card_words(const PciGpu& gpu);

/// Cards that a run could use: a driver is bound to them, and they are given to this process.
std::vector<const PciGpu*> usable_gpus(const DeviceFacts& facts);
/// "GPU 1 (RTX 3090, 0000:06:00.0)".
std::string gpu_words(const DriverGpu& gpu);

}  // namespace rigwise::doctor
