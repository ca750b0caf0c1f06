#include "rigwise/ledger.h"
