/* Conversion of numbers: a loop for each pair of dtypes. Those to floats stand in convert.kernel.c. */
#include "ops/convert.h"

#include <string.h>

#include "isa/kernels.h"

static inline int64_t
integer_of(double v)
{
    if (!(v >= -0x1p63))
        return v < 0 ? INT64_MIN : 0; /* NaN is not below 0 */
    return v < 0x1p63 ? (int64_t)v : INT64_MAX;
}

/* How a number v of one kind becomes one of the type T. */
#define FROM_REAL_TO_INTEGER(T, v) ((T)integer_of((double)(v)))
#define FROM_INTEGER_TO_INTEGER(T, v) ((T)(v))
#define FROM_ANY_TO_BOOL(T, v) ((T)((v) != 0))

#define LOOP(S, T, CONVERT)             \
    do {                                \
        const S *s = source;            \
        T *t = target;                  \
        for (int64_t i = 0; i < n; i++) \
            t[i] = CONVERT(T, s[i]);    \
    } while (0);                        \
    break

#define DEFINE_FROM(name, S, KIND)                                                      \
    static void from_##name(pcnn_dtype to, void *target, const void *source, int64_t n) \
    {                                                                                   \
        switch (to) {                                                                   \
        case PCNN_I64: LOOP(S, int64_t, FROM_##KIND##_TO_INTEGER);                      \
        case PCNN_I32: LOOP(S, int32_t, FROM_##KIND##_TO_INTEGER);                      \
        case PCNN_U8: LOOP(S, uint8_t, FROM_##KIND##_TO_INTEGER);                       \
        default: LOOP(S, uint8_t, FROM_ANY_TO_BOOL);                                    \
        }                                                                               \
    }

DEFINE_FROM(f32, float, REAL)
DEFINE_FROM(f64, double, REAL)
DEFINE_FROM(i64, int64_t, INTEGER)
DEFINE_FROM(i32, int32_t, INTEGER)
DEFINE_FROM(u8, uint8_t, INTEGER) /* bool is stored as a byte too */

void
pcnn_convert(pcnn_dtype to, void *target, pcnn_dtype from, const void *source, int64_t n)
{
    if (to == from) {
        if (target != source && n > 0)
            memcpy(target, source, (size_t)n * pcnn_dtype_size(to));
        return;
    }
    if (pcnn_is_float(to)) {
        pcnn_kernels_for(to)->to_reals(from, source, target, n);
        return;
    }
    switch (from) {
    case PCNN_F32: from_f32(to, target, source, n); break;
    case PCNN_F64: from_f64(to, target, source, n); break;
    case PCNN_I64: from_i64(to, target, source, n); break;
    case PCNN_I32: from_i32(to, target, source, n); break;
    default: from_u8(to, target, source, n);
    }
}
