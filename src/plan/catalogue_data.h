// The text of data/*.csv, embedded at build time (cmake/data.cmake).
#pragma once

#include <string_view>

namespace rigwise::plan {

extern const std::string_view k_gpus_csv, k_links_csv, k_psus_csv, k_circuits_csv, k_models_csv;

}  // namespace rigwise::plan
