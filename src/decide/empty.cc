#include "rigwise/decide.h"
