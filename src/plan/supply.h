// What is taken of a host that nobody measured.
#pragma once

namespace rigwise::plan {

constexpr double kHostW = 200;             // processor under load, board, drives, fans
constexpr double kSupplyEfficiency = 0.9;  // watts of the parts over watts at the wall

}  // namespace rigwise::plan
