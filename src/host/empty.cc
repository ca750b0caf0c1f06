#include "rigwise/host.h"
