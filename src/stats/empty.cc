#include "rigwise/stats.h"
