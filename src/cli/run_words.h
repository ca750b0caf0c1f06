// Words of `rigwise run`: --profile (auto, none, or the user's own numbers), --hang-after,
// --on-hang.
#pragma once

#include <string_view>

#include "rigwise/record.h"

namespace rigwise::cli {

/// "windows=2,length=1.5,first=30,percent=0.5" in any order and choice. Errors: usage.
Result<ProfileOptions> profile_options(std::string_view words);

/// --hang-after and --on-hang: "auto", "off" or a duration of at least a second; "record" or
/// "stop". Errors: usage.
Result<HangOptions> hang_options(std::string_view after, std::string_view on_hang);

}  // namespace rigwise::cli
