#include "rigwise/run.h"
