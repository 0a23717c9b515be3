/* Numbers of any dtype as reals, rounded to nearest: the loops of convert.c that end in floats. */
#include "core/tensor.h"
#include "isa/kernels.h"
#include "isa/vec.h"

#define LOOP(S)                         \
    do {                                \
        const S *s = source;            \
        for (int64_t i = 0; i < n; i++) \
            y[i] = (real)s[i];          \
    } while (0)

void
PCNN_K(to_reals)(int64_t dtype, const void *restrict source, void *restrict target, int64_t n)
{
    real *restrict y = target;
    switch (dtype) {
    case PCNN_F32: LOOP(float); break;
    case PCNN_F64: LOOP(double); break;
    case PCNN_I64: LOOP(int64_t); break;
    case PCNN_I32: LOOP(int32_t); break;
    default: LOOP(uint8_t); /* bool is stored as a byte too */
    }
}
