/* Rows of elementwise operations of two operands; an operand of step 0 is one number.
 *
 * Maximum and minimum give NaN where either operand is NaN, as NumPy does. */
#include "isa/vecmath.h"
#include "isa/kernels.h"

/* `expression` in terms of vectors a and b. */
#define ROWS(name, expression)                                                                 \
    ALWAYS_INLINE vec name##_of(vec a, vec b)                                                  \
    {                                                                                          \
        return expression;                                                                     \
    }                                                                                          \
    void PCNN_K(name##_rows)(const void *const *in, const int64_t *step, void *out, int64_t n, \
                             double parameter)                                                 \
    {                                                                                          \
        const real *a = in[0], *b = in[1];                                                     \
        real *y = out;                                                                         \
        int64_t i = 0;                                                                         \
        (void)parameter;                                                                       \
        if (n <= 0)                                                                            \
            return;                                                                            \
        vec first_a = vset(a[0]), first_b = vset(b[0]);                                        \
        if (step[0] && step[1])                                                                \
            for (; i + LANES <= n; i += LANES)                                                 \
                vstore(y + i, name##_of(vload(a + i), vload(b + i)));                          \
        else if (step[0])                                                                      \
            for (; i + LANES <= n; i += LANES)                                                 \
                vstore(y + i, name##_of(vload(a + i), first_b));                               \
        else                                                                                   \
            for (; i + LANES <= n; i += LANES)                                                 \
                vstore(y + i, name##_of(first_a, vload(b + i)));                               \
        if (i < n) {                                                                           \
            vec tail_a = step[0] ? vload_partial(a + i, n - i) : first_a;                      \
            vec tail_b = step[1] ? vload_partial(b + i, n - i) : first_b;                      \
            vstore_partial(y + i, name##_of(tail_a, tail_b), n - i);                           \
        }                                                                                      \
    }

/* Powers go through the C library one number at a time: the one function whose argument cannot be
 * reduced without arithmetic wider than `real`. */
#if defined(PCNN_REAL_F64)
#define POWER pow
#define LOGARITHM log
#else
#define POWER powf
#define LOGARITHM logf
#endif

ALWAYS_INLINE vec
vtruth(ivec mask)
{
    return vselect(mask, vset(1), vset(0));
}

ROWS(add, a + b)
ROWS(sub, a - b)
ROWS(mul, (a) * (b))
ROWS(div, a / b)
ROWS(maximum, vselect((a >= b) | (a != a), a, b))
ROWS(minimum, vselect((a <= b) | (a != a), a, b))
ROWS(equal, vtruth(a == b))
ROWS(not_equal, vtruth(a != b))
ROWS(greater, vtruth(a > b))
ROWS(greater_equal, vtruth(a >= b))
ROWS(less, vtruth(a < b))
ROWS(less_equal, vtruth(a <= b))

#define SCALAR_ROWS(name, expression)                                                          \
    void PCNN_K(name##_rows)(const void *const *in, const int64_t *step, void *out, int64_t n, \
                             double parameter)                                                 \
    {                                                                                          \
        const real *pa = in[0], *pb = in[1];                                                   \
        real *y = out;                                                                         \
        (void)parameter;                                                                       \
        for (int64_t i = 0; i < n; i++) {                                                      \
            real a = pa[i * step[0]], b = pb[i * step[1]];                                     \
            y[i] = expression;                                                                 \
        }                                                                                      \
    }

/* d(a^b)/da, where b = 0 gives 0 even at a = 0; d(a^b)/db in terms of a and y = a^b. */
SCALAR_ROWS(pow_slope_base, b == 0 ? 0 : b * POWER(a, b - 1))
SCALAR_ROWS(pow_slope_exponent, a > 0 ? b * LOGARITHM(a) : a == a ? 0 : a)

/* Squares, the common case, are worth their own loop: a * a rounds as well as pow(a, 2). */
void
PCNN_K(pow_rows)(const void *const *in, const int64_t *step, void *out, int64_t n, double parameter)
{
    const real *a = in[0], *b = in[1];
    real *y = out;
    (void)parameter;
    if (step[1] == 0 && n > 0 && b[0] == 2) {
        for (int64_t i = 0; i < n; i++)
            y[i] = a[i * step[0]] * a[i * step[0]];
        return;
    }
    for (int64_t i = 0; i < n; i++)
        y[i] = POWER(a[i * step[0]], b[i * step[1]]);
}
