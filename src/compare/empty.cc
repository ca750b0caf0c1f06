#include "rigwise/compare.h"
