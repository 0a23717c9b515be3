/* Rows of elementwise functions of one operand, forward and backward.
 *
 * FORWARD(name, y in terms of x) and BACKWARD(name, dx in terms of dy and z), where z is x or y,
 * as unary.c says; `a` is the op's attribute. A tail shorter than a vector goes through the same
 * expression, so that a number's bits do not depend on where it stands. */
#include "isa/vecmath.h"
#include "isa/kernels.h"

#define FORWARD(name, expression)                                                                 \
    ALWAYS_INLINE vec name##_of(vec x, real a)                                                    \
    {                                                                                             \
        (void)a;                                                                                  \
        return expression;                                                                        \
    }                                                                                             \
    void PCNN_K(name##_forward)(const void *const *in, const int64_t *step, void *out, int64_t n, \
                                double parameter)                                                 \
    {                                                                                             \
        const real *x = in[0], a = (real)parameter;                                               \
        real *y = out;                                                                            \
        int64_t i = 0;                                                                            \
        (void)step;                                                                               \
        for (; i + LANES <= n; i += LANES)                                                        \
            vstore(y + i, name##_of(vload(x + i), a));                                            \
        if (i < n)                                                                                \
            vstore_partial(y + i, name##_of(vload_partial(x + i, n - i), a), n - i);              \
    }

#define BACKWARD(name, expression)                                                                 \
    ALWAYS_INLINE vec name##_slope(vec dy, vec z, real a)                                          \
    {                                                                                              \
        (void)a;                                                                                   \
        return expression;                                                                         \
    }                                                                                              \
    void PCNN_K(name##_backward)(const void *const *in, const int64_t *step, void *out, int64_t n, \
                                 double parameter)                                                 \
    {                                                                                              \
        const real *dy = in[0], *z = in[1], a = (real)parameter;                                   \
        real *dx = out;                                                                            \
        int64_t i = 0;                                                                             \
        (void)step;                                                                                \
        for (; i + LANES <= n; i += LANES)                                                         \
            vstore(dx + i, name##_slope(vload(dy + i), vload(z + i), a));                          \
        if (i < n)                                                                                 \
            vstore_partial(                                                                        \
                dx + i,                                                                            \
                name##_slope(vload_partial(dy + i, n - i), vload_partial(z + i, n - i), a),        \
                n - i);                                                                            \
    }

/* Below 2^52 (2^23) adding and taking away that number rounds to an integer; larger ones are. */
ALWAYS_INLINE vec
vfloor(vec x)
{
    vec big = vset((real)((integer)1 << MATH_MANTISSA)), a = vabs(x);
    vec rounded = vcopysign((a + big) - big, x);
    vec down = rounded - vselect(rounded > x, vset(1), vset(0));
    return vselect(a < big, vcopysign(down, x), x);
}

/* x - x is 0, or NaN where x is. */
ALWAYS_INLINE vec
vsign(vec x)
{
    return vselect(x > 0, vset(1), vselect(x < 0, vset(-1), x - x));
}

/* 2 / sqrt(pi): the slope of erf at 0. */
#define ERF_SLOPE ((real)1.12837916709551257390)

FORWARD(relu, vrelu(x))
FORWARD(leaky_relu, vselect(x < 0, x *a, x))
FORWARD(elu, vselect(x < 0, vexpm1(x) * a, x))
FORWARD(sigmoid, vsigmoid(x))
FORWARD(tanh, vtanh(x))
FORWARD(softplus, vsoftplus(x))
FORWARD(exp, vexp(x))
FORWARD(log, vlog(x))
FORWARD(sqrt, vsqrt(x))
FORWARD(square, x *x)
FORWARD(neg, -x)
FORWARD(abs, vabs(x))
FORWARD(erf, verf(x))
FORWARD(sign, vsign(x))
FORWARD(floor, vfloor(x))

BACKWARD(relu, vselect(z > 0, dy, vset(0)))
BACKWARD(leaky_relu, vselect(z > 0, dy, dy *a))
BACKWARD(elu, vselect(z > 0, dy, dy *(vexp(z) * a)))
BACKWARD(sigmoid, dy *(z * (1 - z)))
BACKWARD(tanh, dy * (1 - z * z))
BACKWARD(softplus, dy *vsigmoid(z))
BACKWARD(sqrt, dy *(real)0.5 / z)
BACKWARD(square, dy *(z + z))
BACKWARD(abs, dy *vsign(z))
BACKWARD(erf, dy *(vexp(-z *z) * ERF_SLOPE))

/* Keeps lanes 0 .. valid-1 of each group of 16 and stores zeros in the others. */
void
PCNN_K(clear_lanes)(void *y_, int64_t groups, int64_t valid)
{
    real *y = y_;
    for (int64_t g = 0; g < groups; g++)
        for (int64_t l = valid; l < PCNN_BLOCK; l++)
            y[g * PCNN_BLOCK + l] = 0;
}
