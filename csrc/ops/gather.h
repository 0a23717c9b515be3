/* What gather and the op that it is fused into share. */
#ifndef PCNN_OPS_GATHER_H
#define PCNN_OPS_GATHER_H

#include "core/tensor.h"

/* Fails with gather's message where one of the B indices is outside 0 .. N-1. */
pcnn_status pcnn_gather_check(const int64_t *index, int64_t B, int64_t N);

#endif
