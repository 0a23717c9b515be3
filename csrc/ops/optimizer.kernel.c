/* One step of gradient descent for n numbers of a parameter, in place.
 *
 * Each product is rounded by itself, as the libraries that these formulas come from do; no fused
 * multiply-adds, so that every instruction set takes the same step. */
#include "isa/vec.h"
#include "isa/kernels.h"

/* Loads up to a vector's worth at p + i into a vec; stores it back. */
#define LOAD(p) (rest >= LANES ? vload((p) + i) : vload_partial((p) + i, rest))
#define STORE(p, v) (rest >= LANES ? vstore((p) + i, v) : vstore_partial((p) + i, v, rest))

/* The gradient, with that of a squared norm of the parameter (L2 regularisation), if there is one. */
ALWAYS_INLINE vec
with_slope(vec g, vec w, const real *slope)
{
    return slope ? g + w * slope[0] : g;
}

/* c: learning rate, momentum, weight decay, dampening. v is NULL without momentum; `first`: the
 * first step of torch's momentum, which takes the gradient as it is. */
ALWAYS_INLINE void
sgd(real *w_, const real *g_, real *v_, const real *slope, int64_t n, const double *c,
    const bool keras, const bool nesterov, const bool first, const bool momentum)
{
    const real rate = (real)c[0], factor = (real)c[1], decay = (real)c[2];
    const real fresh = (real)(1 - c[3]);
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t rest = n - i;
        vec w = LOAD(w_), g = with_slope(LOAD(g_), w, slope), v = {0};
        if (keras) {
            if (decay != 0)
                w -= w * decay * rate;
            vec step = g * rate;
            if (momentum) {
                v = LOAD(v_) * factor - step;
                w += nesterov ? v * factor - step : v;
            }
            else {
                w -= step;
            }
        }
        else {
            if (decay != 0)
                g += w * decay;
            if (momentum) {
                v = first ? g : LOAD(v_) * factor + g * fresh;
                g = nesterov ? g + v * factor : v;
            }
            w -= g * rate;
        }
        if (momentum)
            STORE(v_, v);
        STORE(w_, w);
    }
}

void
PCNN_K(sgd_range)(void *w, const void *g, void *v, const void *slope, int64_t n, const double *c,
                  bool keras, bool nesterov, bool first)
{
    if (v == NULL)
        sgd(w, g, v, slope, n, c, keras, false, false, false);
    else if (keras)
        sgd(w, g, v, slope, n, c, true, nesterov, false, true);
    else
        sgd(w, g, v, slope, n, c, false, nesterov, first, true);
}

/* c: step size, 1 - beta1, 1 - beta2, epsilon, weight decay, and for keras the learning rate, for
 * torch beta2 and sqrt(1 - beta2^t). */
ALWAYS_INLINE void
adam(real *w_, const real *g_, real *m_, real *v_, const real *slope, int64_t n, const double *c,
     const bool keras)
{
    const real size = (real)c[0], fresh1 = (real)c[1], fresh2 = (real)c[2], epsilon = (real)c[3];
    const real decay = (real)c[4], other = (real)c[5], correction = (real)c[6];
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t rest = n - i;
        vec w = LOAD(w_), g = with_slope(LOAD(g_), w, slope), m = LOAD(m_), v = LOAD(v_);
        if (keras) {
            if (decay != 0)
                w -= w * decay * other;
            m += (g - m) * fresh1;
            v += (g * g - v) * fresh2;
            w -= m * size / (vsqrt(v) + epsilon);
        }
        else {
            if (decay != 0)
                g += w * decay;
            m += (g - m) * fresh1;
            v = v * other + g * g * fresh2;
            w -= m / (vsqrt(v) / correction + epsilon) * size;
        }
        STORE(m_, m);
        STORE(v_, v);
        STORE(w_, w);
    }
}

void
PCNN_K(adam_range)(void *w, const void *g, void *m, void *v, const void *slope, int64_t n,
                   const double *c, bool keras)
{
    if (keras)
        adam(w, g, m, v, slope, n, c, true);
    else
        adam(w, g, m, v, slope, n, c, false);
}
