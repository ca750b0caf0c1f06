// Tables: which member of a row stands in which CSV column. One list a row type, used for writing
// and for reading, so the two cannot drift apart. Reading goes by column name: an unknown column is
// passed over, a missing one stays absent.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/csv.h"
#include "rigwise/run.h"

namespace rigwise::tables {

/// "t_s,gpu,util_frac,…\n".
template <class T>
std::string header();

/// One row's text, newline included.
template <class T>
std::string line(const T& row);

/// All whole rows of a file's text. A row with another number of fields than the header, without a
/// finite instant, or with a field that is no value of its column's type (a word for a number, an
/// integer that does not fit) is bad: half of it cannot be trusted where the other half is broken.
template <class T>
Rows<T> parse(std::string_view text);

/// The same rows one at a time, with the instant and the named columns only; columns that nobody
/// named are not looked at. False from `visit` ends the walk.
template <class T>
void walk(std::string_view text, const ColumnNames& columns, const RowVisitor<T>& visit);

}  // namespace rigwise::tables
