// Codec: RunInfo, Environment, Rig, KeeperRecord and Hang as JSON and back. Member names are the
// field names; absent optionals are left out. Reading never trusts: a member of another type is
// taken as absent.
#pragma once

#include <string>
#include <string_view>

#include "rigwise/hang.h"
#include "rigwise/run.h"

namespace rigwise {

std::string encode(const RunInfo& info);
std::string encode(const Environment& environment);
std::string encode(const Rig& rig);
std::string encode(const KeeperRecord& record);

/// One line of hangs.jsonl: what was found, or, where `t_end_s` is set, how it ended.
std::string encode_line(const Hang& hang);
/// Of whole lines; see read_hangs().
Rows<Hang> decode_hangs(std::string_view text);

/// Errors: malformed; for RunInfo also when "format" is newer than this program.
Result<RunInfo> decode_run_info(std::string_view text);
Result<Environment> decode_environment(std::string_view text);
Result<Rig> decode_rig(std::string_view text);
Result<KeeperRecord> decode_keeper_record(std::string_view text);

}  // namespace rigwise
