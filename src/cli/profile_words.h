// --profile of `rigwise run`: "auto", "none", or the user's own numbers.
#pragma once

#include <string_view>

#include "rigwise/record.h"

namespace rigwise::cli {

/// "windows=2,length=1.5,first=30,percent=0.5" in any order and choice. Errors: usage.
Result<ProfileOptions> profile_options(std::string_view words);

}  // namespace rigwise::cli
