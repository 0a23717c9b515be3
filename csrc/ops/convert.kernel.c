/* Numbers of any dtype as reals: the loops of convert.c that end in floats. */
#include "isa/kernels.h"
#include "ops/reals.h"

void
PCNN_K(to_reals)(int64_t dtype, const void *source, void *target, int64_t n)
{
    reals_of(dtype, source, n, target);
}
