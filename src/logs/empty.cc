#include "rigwise/logs.h"
