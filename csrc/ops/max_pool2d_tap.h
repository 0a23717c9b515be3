/* When a tap of a window takes the maximum's place: the earlier of equal values stays, and so does
 * the first NaN, which beats everything. */
#ifndef PCNN_OPS_MAX_POOL2D_TAP_H
#define PCNN_OPS_MAX_POOL2D_TAP_H

#include "isa/vec.h"
#include "ops/max_pool2d.h"

ALWAYS_INLINE ivec
beats(vec tap, vec best)
{
    return (best == best) & ~(tap <= best);
}

ALWAYS_INLINE bool
tap_beats(real tap, real best)
{
    return best == best && !(tap <= best);
}

#endif
