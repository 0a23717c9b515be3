/* Elementwise functions of one operand: relu, sigmoid, exp, ... and their gradients.
 *
 * FUNCTION(id, ...) makes the op `id`, SLOPE(name, z, ...) the internal op `name_grad`
 * (dy, z) -> dx that its gradient records, where z is the input x or the output y, whichever is
 * kept. relu, sigmoid, tanh, exp and sqrt keep the output only: they can be computed within the op
 * that makes x, and x then never exists. Loops stand in unary.kernel.c.
 *
 * Not handled: integers (float32 and float64 only), second derivatives of the internal ops. */
#include "ops/unary.h"

#include "ops/elementwise.h"

static const pcnn_attr leaky_relu_attr[] = {
    PCNN_ATTR(pcnn_leaky_relu_attrs, slope, PCNN_ATTR_REAL, "0.01"),
    {0},
};
static const pcnn_attr elu_attr[] = {
    PCNN_ATTR(pcnn_elu_attrs, alpha, PCNN_ATTR_REAL, "1.0"),
    {0},
};

#define NO_ATTRS
#define LEAKY_RELU_ATTRS .attrs = leaky_relu_attr, .attrs_size = sizeof(pcnn_leaky_relu_attrs),
#define ELU_ATTRS .attrs = elu_attr, .attrs_size = sizeof(pcnn_elu_attrs),

/* The number that kernels call `a`: both structs hold one double. */
static double
parameter(const pcnn_site *site)
{
    return site->op->attrs ? *(const double *)site->attrs : 0;
}

/* ---- backward ---- */

/* `zero` says whether the expression makes 0 from dy = z = 0 (0 * 0.5 / 0 of sqrt does not). */
#define SLOPE(id, z, text, attributes, zero, ns)                                                 \
    static pcnn_status run_##id##_grad(const pcnn_site *site)                                    \
    {                                                                                            \
        const pcnn_kernels *kernels = pcnn_kernels_for(site->out[0].type.dtype);                 \
        return pcnn_elementwise_run(site, kernels->id##_backward, parameter(site), zero, ns);    \
    }                                                                                            \
    static void plane_##id##_grad(const pcnn_site *site, const pcnn_plane *plane)                \
    {                                                                                            \
        const pcnn_kernels *kernels = pcnn_kernels_for(site->out[0].type.dtype);                 \
        pcnn_elementwise_plane(site, plane, kernels->id##_backward, parameter(site), zero);      \
    }                                                                                            \
    static const pcnn_planes id##_grad_planes = {.apply = plane_##id##_grad,                     \
                                                 .accepts = pcnn_elementwise_plane_accepts,      \
                                                 .rows = pcnn_elementwise_plane_rows};           \
    static const pcnn_impl id##_grad_impls[] = {                                                 \
        {"n16", 3, 1, 3, pcnn_elementwise_refuse_n16, NULL, run_##id##_grad, &id##_grad_planes}, \
        {"plain", 0, 0, 3, NULL, NULL, run_##id##_grad, NULL},                                   \
        {0},                                                                                     \
    };                                                                                           \
    const pcnn_op pcnn_op_##id##_grad = {                                                        \
        .name = #id "_grad",                                                                     \
        .doc = text,                                                                             \
        .n_in = 2,                                                                               \
        .params = {{"dy", false}, {z, false}},                                                   \
        .n_out = 1,                                                                              \
        .out_names = {"dx"},                                                                     \
        attributes /* its comma is in it */                                                      \
            .flags = PCNN_OP_INTERNAL | PCNN_OP_FOLLOWS,                                         \
        .infer = pcnn_infer_same,                                                                \
        .impls = id##_grad_impls,                                                                \
    };

SLOPE(relu, "y", "dx = y > 0 ? dy : 0", NO_ATTRS, true, 0.4)
SLOPE(leaky_relu, "x", "dx = x > 0 ? dy : slope * dy", LEAKY_RELU_ATTRS, true, 0.4)
SLOPE(elu, "x", "dx = x > 0 ? dy : alpha * exp(x) * dy", ELU_ATTRS, true, 1)
SLOPE(sigmoid, "y", "dx = dy * y * (1 - y)", NO_ATTRS, true, 0.4)
SLOPE(tanh, "y", "dx = dy * (1 - y^2)", NO_ATTRS, true, 0.4)
SLOPE(softplus, "x", "dx = dy * sigmoid(x)", NO_ATTRS, true, 1.5)
SLOPE(sqrt, "y", "dx = dy / (2 y)", NO_ATTRS, false, 0.6)
SLOPE(square, "x", "dx = 2 x dy", NO_ATTRS, true, 0.4)
SLOPE(abs, "x", "dx = sign(x) * dy", NO_ATTRS, true, 0.4)
SLOPE(erf, "x", "dx = dy * 2 / sqrt(pi) * exp(-x^2)", NO_ATTRS, true, 1)

/* `gradient` by the op's own SLOPE, which reads x or y. */
#define OF_X(id)                                                                                   \
    static pcnn_status id##_gradient(pcnn_grad *grad)                                              \
    {                                                                                              \
        return PCNN_EMIT(grad, &grad->din[0], id##_grad, grad->attrs, grad->dout[0], grad->in[0]); \
    }
#define OF_Y(id)                                                                     \
    static pcnn_status id##_gradient(pcnn_grad *grad)                                \
    {                                                                                \
        return PCNN_EMIT(grad, &grad->din[0], id##_grad, grad->attrs, grad->dout[0], \
                         grad->out[0]);                                              \
    }

OF_Y(relu)
OF_X(leaky_relu)
OF_X(elu)
OF_Y(sigmoid)
OF_Y(tanh)
OF_X(softplus)
OF_Y(sqrt)
OF_X(square)
OF_X(abs)
OF_X(erf)

static pcnn_status
exp_gradient(pcnn_grad *grad) /* dx = dy * y */
{
    return PCNN_EMIT(grad, &grad->din[0], mul, NULL, grad->dout[0], grad->out[0]);
}

static pcnn_status
log_gradient(pcnn_grad *grad) /* dx = dy / x */
{
    return PCNN_EMIT(grad, &grad->din[0], div, NULL, grad->dout[0], grad->in[0]);
}

static pcnn_status
neg_gradient(pcnn_grad *grad) /* dx = -dy */
{
    return PCNN_EMIT(grad, &grad->din[0], neg, NULL, grad->dout[0]);
}

static pcnn_status
flat_gradient(pcnn_grad *grad) /* a step function: zero, which is what a missing din means */
{
    (void)grad;
    return PCNN_OK;
}

/* ---- forward ---- */

enum { KEEPS_NOTHING = 0, KEEPS_X = 1, KEEPS_Y = 2 };

#define FUNCTION(id, text, attributes, keeps, derivative, zero, ns)                          \
    static pcnn_status run_##id(const pcnn_site *site)                                       \
    {                                                                                        \
        const pcnn_kernels *kernels = pcnn_kernels_for(site->out[0].type.dtype);             \
        return pcnn_elementwise_run(site, kernels->id##_forward, parameter(site), zero, ns); \
    }                                                                                        \
    static void plane_##id(const pcnn_site *site, const pcnn_plane *plane)                   \
    {                                                                                        \
        const pcnn_kernels *kernels = pcnn_kernels_for(site->out[0].type.dtype);             \
        pcnn_elementwise_plane(site, plane, kernels->id##_forward, parameter(site), zero);   \
    }                                                                                        \
    static const pcnn_planes id##_planes = {.apply = plane_##id,                             \
                                            .accepts = pcnn_elementwise_plane_accepts,       \
                                            .rows = pcnn_elementwise_plane_rows,             \
                                            .cheap = (ns) < 0.5};                            \
    static const pcnn_impl id##_impls[] = {                                                  \
        {"n16", 1, 1, 1, pcnn_elementwise_refuse_n16, NULL, run_##id, &id##_planes},         \
        {"plain", 0, 0, 1, NULL, NULL, run_##id, NULL},                                      \
        {0},                                                                                 \
    };                                                                                       \
    const pcnn_op pcnn_op_##id = {                                                           \
        .name = #id,                                                                         \
        .doc = text "\n\nx: any shape, float32 or float64; y: the same.",                    \
        .n_in = 1,                                                                           \
        .params = {{"x", false}},                                                            \
        .n_out = 1,                                                                          \
        .out_names = {"y"},                                                                  \
        attributes.saves_in = (keeps) == KEEPS_X,                                            \
        .saves_out = (keeps) == KEEPS_Y,                                                     \
        .flags = PCNN_OP_FOLLOWS,                                                            \
        .infer = pcnn_infer_same,                                                            \
        .gradient = derivative,                                                              \
        .impls = id##_impls,                                                                 \
    };

FUNCTION(relu, "y = max(x, 0); NaN stays NaN", NO_ATTRS, KEEPS_Y, relu_gradient, true, 0.3)
FUNCTION(leaky_relu, "y = x < 0 ? slope * x : x", LEAKY_RELU_ATTRS, KEEPS_X, leaky_relu_gradient,
         true, 0.3)
FUNCTION(elu, "y = x < 0 ? alpha * (exp(x) - 1) : x", ELU_ATTRS, KEEPS_X, elu_gradient, true, 1)
FUNCTION(sigmoid, "y = 1 / (1 + exp(-x))", NO_ATTRS, KEEPS_Y, sigmoid_gradient, false, 1)
FUNCTION(tanh, "y = tanh(x)", NO_ATTRS, KEEPS_Y, tanh_gradient, true, 1)
FUNCTION(softplus, "y = log(1 + exp(x))", NO_ATTRS, KEEPS_X, softplus_gradient, false, 2)
FUNCTION(exp, "y = exp(x)", NO_ATTRS, KEEPS_Y, exp_gradient, false, 0.7)
FUNCTION(log, "y = natural logarithm of x; -infinity at 0, NaN below", NO_ATTRS, KEEPS_X,
         log_gradient, false, 0.8)
FUNCTION(sqrt, "y = square root of x; NaN below 0", NO_ATTRS, KEEPS_Y, sqrt_gradient, true, 0.5)
FUNCTION(square, "y = x * x", NO_ATTRS, KEEPS_X, square_gradient, true, 0.3)
FUNCTION(neg, "y = -x", NO_ATTRS, KEEPS_NOTHING, neg_gradient, false, 0.3)
FUNCTION(abs, "y = |x|", NO_ATTRS, KEEPS_X, abs_gradient, true, 0.3)
FUNCTION(erf, "y = 2 / sqrt(pi) * integral of exp(-t^2) for t from 0 to x", NO_ATTRS, KEEPS_X,
         erf_gradient, true, 2)
FUNCTION(sign, "y = -1, 0 or 1; NaN stays NaN", NO_ATTRS, KEEPS_NOTHING, flat_gradient, true, 0.3)
FUNCTION(floor, "y = largest integer not above x", NO_ATTRS, KEEPS_NOTHING, flat_gradient, true,
         0.4)
