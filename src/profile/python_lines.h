// CPython's line tables: which source line an instruction belongs to.
//
// Formats: co_lnotab of 3.9 (Objects/lnotab_notes.txt), co_linetable of 3.10 (PEP 626), the
// location table of 3.11 on (Objects/locations.md). Bytes are untrusted.
#pragma once

#include <string_view>

namespace rigwise {

/// `instruction` = byte offset into the code. 0 where the table gives it no line.
int python_line(int minor, std::string_view table, int first_line, int instruction);

}  // namespace rigwise
