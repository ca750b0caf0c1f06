// Stands in for a header of Gloo, which torch's wheels use but do not carry. See context.h.
#pragma once
