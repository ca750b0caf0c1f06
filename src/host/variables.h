// Environment variables as they may be recorded: values by allow-list, everything else by name
// only, nothing whose name or value looks like a secret.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "host/python.h"

namespace rigwise {

/// TOKEN, KEY, SECRET, PASSWORD, CREDENTIAL, AUTH … anywhere in the name (TOKENIZERS_… is none).
bool names_a_secret(std::string_view name);

/// On the allow-list: what steers training, and holds no secret.
bool may_record_value(std::string_view name);

/// `value` with passwords in URLs, token shapes and the given secret values as "***".
std::string mask_value(std::string_view value, const std::vector<std::string>& secrets);

void sort_variables(const Variables& env, std::map<std::string, std::string>& values,
                    std::vector<std::string>& names);

}  // namespace rigwise
