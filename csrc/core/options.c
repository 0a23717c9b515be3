/* The switches and their defaults; python/module.c sets them. */
#include "core/options.h"

_Atomic int pcnn_option_winograd = PCNN_WINOGRAD_AUTO;
