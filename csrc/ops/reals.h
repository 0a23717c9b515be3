/* Numbers of any dtype as reals, rounded to nearest; for kernels. */
#ifndef PCNN_OPS_REALS_H
#define PCNN_OPS_REALS_H

#include "core/tensor.h"
#include "isa/vec.h"

#define PCNN_TO_REALS(S)                \
    do {                                \
        const S *s = source;            \
        for (int64_t i = 0; i < n; i++) \
            y[i] = (real)s[i];          \
    } while (0)

/* n may be a literal: then the loops have constant trip counts. */
ALWAYS_INLINE void
reals_of(int64_t dtype, const void *restrict source, int64_t n, real *restrict y)
{
    switch (dtype) {
    case PCNN_F32: PCNN_TO_REALS(float); break;
    case PCNN_F64: PCNN_TO_REALS(double); break;
    case PCNN_I64: PCNN_TO_REALS(int64_t); break;
    case PCNN_I32: PCNN_TO_REALS(int32_t); break;
    default: PCNN_TO_REALS(uint8_t); /* bool is stored as a byte too */
    }
}

#endif
