// Stats: pure numbers. No I/O, no state; resampling is seeded, so the same input gives the same
// bytes.
#pragma once
