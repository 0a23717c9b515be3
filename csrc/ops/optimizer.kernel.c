/* One step of gradient descent for n numbers of a parameter, in place.
 *
 * Each product is rounded by itself, as the libraries that these formulas come from do; no fused
 * multiply-adds, so that every instruction set takes the same step. */
#include "isa/vec.h"
#include "isa/kernels.h"
#include "ops/optimizer.h"

/* Loads up to a vector's worth at p + i into a vec; stores it back. */
#define LOAD(p) (rest >= LANES ? vload((p) + i) : vload_partial((p) + i, rest))
#define STORE(p, v) (rest >= LANES ? vstore((p) + i, v) : vstore_partial((p) + i, v, rest))

/* The numbers of a pcnn_step_gradient. */
typedef struct {
    real slope, a, b;
} numbers;

ALWAYS_INLINE numbers
numbers_of(const pcnn_step_gradient *gradient)
{
    const real *slope = gradient->slope, *a = gradient->a, *b = gradient->b;
    return (numbers){slope ? slope[0] : 0, a ? a[0] : 0, b ? b[0] : 0};
}

/* The gradient that the step uses: with that of a squared norm of the parameter (L2 regularisation),
 * if there is one, and clipped, as the ops that do these one after the other (binary.kernel.c). */
ALWAYS_INLINE vec
changed(vec g, vec w, const numbers by, const bool sloped, const int clip)
{
    if (sloped)
        g += w * by.slope;
    if (clip == PCNN_CLIP_FACTOR)
        return g * by.a;
    if (clip == PCNN_CLIP_NORM)
        return g * by.a / by.b;
    if (clip == PCNN_CLIP_VALUE) {
        g = vselect((g >= by.a) | (g != g), g, vset(by.a));
        g = vselect((g <= by.b) | (g != g), g, vset(by.b));
    }
    return g;
}

/* Calls LOOP(sloped, clip), `clip` being a constant: every kind of clipping has a loop of its own. */
#define FOR_EACH_KIND(gradient, LOOP)                                  \
    do {                                                               \
        const bool sloped_ = (gradient)->slope != NULL;                \
        switch ((gradient)->clip) {                                    \
        case PCNN_CLIP_FACTOR: LOOP(sloped_, PCNN_CLIP_FACTOR); break; \
        case PCNN_CLIP_NORM: LOOP(sloped_, PCNN_CLIP_NORM); break;     \
        case PCNN_CLIP_VALUE: LOOP(sloped_, PCNN_CLIP_VALUE); break;   \
        default:                                                       \
            if (sloped_)                                               \
                LOOP(true, PCNN_CLIP_NONE);                            \
            else                                                       \
                LOOP(false, PCNN_CLIP_NONE);                           \
        }                                                              \
    } while (0)

/* c: learning rate, momentum, weight decay, dampening. v is NULL without momentum; `first`: the
 * first step of torch's momentum, which takes the gradient as it is. */
ALWAYS_INLINE void
sgd(real *w_, const real *g_, real *v_, const numbers by, const bool sloped, const int clip,
    int64_t n, const double *c, const bool keras, const bool nesterov, const bool first,
    const bool momentum)
{
    const real rate = (real)c[0], factor = (real)c[1], decay = (real)c[2];
    const real fresh = (real)(1 - c[3]);
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t rest = n - i;
        vec w = LOAD(w_), g = changed(LOAD(g_), w, by, sloped, clip), v = {0};
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

ALWAYS_INLINE void
sgd_of_kind(void *w, const void *g, void *v, const numbers by, const bool sloped, const int clip,
            int64_t n, const double *c, bool keras, bool nesterov, bool first)
{
    if (v == NULL)
        sgd(w, g, v, by, sloped, clip, n, c, keras, false, false, false);
    else if (keras)
        sgd(w, g, v, by, sloped, clip, n, c, true, nesterov, false, true);
    else
        sgd(w, g, v, by, sloped, clip, n, c, false, nesterov, first, true);
}

void
PCNN_K(sgd_range)(void *w, const void *g, void *v, const void *gradient, int64_t n, const double *c,
                  bool keras, bool nesterov, bool first)
{
    const pcnn_step_gradient *how = gradient;
    const numbers by = numbers_of(how);
#define SGD(sloped, clip) sgd_of_kind(w, g, v, by, sloped, clip, n, c, keras, nesterov, first)
    FOR_EACH_KIND(how, SGD);
#undef SGD
}

/* c: step size, 1 - beta1, 1 - beta2, epsilon, weight decay, and for keras the learning rate, for
 * torch beta2 and sqrt(1 - beta2^t). */
ALWAYS_INLINE void
adam(real *w_, const real *g_, real *m_, real *v_, const numbers by, const bool sloped,
     const int clip, int64_t n, const double *c, const bool keras)
{
    const real size = (real)c[0], fresh1 = (real)c[1], fresh2 = (real)c[2], epsilon = (real)c[3];
    const real decay = (real)c[4], other = (real)c[5], correction = (real)c[6];
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t rest = n - i;
        vec w = LOAD(w_), g = changed(LOAD(g_), w, by, sloped, clip), m = LOAD(m_), v = LOAD(v_);
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
PCNN_K(adam_range)(void *w, const void *g, void *m, void *v, const void *gradient, int64_t n,
                   const double *c, bool keras)
{
    const pcnn_step_gradient *how = gradient;
    const numbers by = numbers_of(how);
#define KERAS(sloped, clip) adam(w, g, m, v, by, sloped, clip, n, c, true)
#define TORCH(sloped, clip) adam(w, g, m, v, by, sloped, clip, n, c, false)
    if (keras)
        FOR_EACH_KIND(how, KERAS);
    else
        FOR_EACH_KIND(how, TORCH);
#undef KERAS
#undef TORCH
}
