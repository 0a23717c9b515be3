/* Elementwise operations of two operands with NumPy's broadcasting: add, sub, mul, div, maximum,
 * minimum, pow.
 *
 * Both operands have one dtype, float32 or float64. The gradient for an operand that was repeated
 * is summed to its shape (sum_to, reduce.c). Where maximum or minimum meets equal operands, the
 * whole gradient goes to a, as in TensorFlow. Loops stand in binary.kernel.c. */
#include "ops/elementwise.h"
#include "ops/reduce.h"

static pcnn_status
infer_binary(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(pcnn_expect_float(call, 0));
    PCNN_TRY(pcnn_expect_float(call, 1));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    out->dtype = call->in[0].dtype;
    return pcnn_broadcast_shape(call, out);
}

/* Sums `gradient` to the shape of operand i and makes it its gradient; takes over `gradient`. */
static pcnn_status
give(pcnn_grad *grad, int i, pcnn_value *gradient)
{
    return pcnn_emit_sum_to(grad, gradient, pcnn_value_type(grad->in[i]), &grad->din[i]);
}

/* give(op(a, b)), and give(op(op2(a, b), c)): most derivatives are one or two operations. */
static pcnn_status
give1(pcnn_grad *grad, int i, const pcnn_op *op, pcnn_value *a, pcnn_value *b)
{
    pcnn_value *t;
    PCNN_TRY(pcnn_emit(grad, op, NULL, (pcnn_value *const[]){a, b}, op->n_in, &t));
    return give(grad, i, t);
}

static pcnn_status
give2(pcnn_grad *grad, int i, const pcnn_op *op, const pcnn_op *op2, pcnn_value *a, pcnn_value *b,
      pcnn_value *c)
{
    pcnn_value *t;
    PCNN_TRY(pcnn_emit(grad, op2, NULL, (pcnn_value *const[]){a, b}, op2->n_in, &t));
    pcnn_status status = give1(grad, i, op, t, c);
    pcnn_value_release(t);
    return status;
}

static pcnn_status
add_gradient(pcnn_grad *grad) /* da = dy, db = dy */
{
    for (int i = 0; i < 2; i++)
        if (grad->wanted[i])
            PCNN_TRY(give(grad, i, pcnn_value_retain(grad->dout[0])));
    return PCNN_OK;
}

static pcnn_status
sub_gradient(pcnn_grad *grad) /* da = dy, db = -dy */
{
    if (grad->wanted[0])
        PCNN_TRY(give(grad, 0, pcnn_value_retain(grad->dout[0])));
    if (!grad->wanted[1])
        return PCNN_OK;
    /* Summed first: the negation is then of the smaller one. */
    pcnn_value *sum;
    PCNN_TRY(pcnn_emit_sum_to(grad, pcnn_value_retain(grad->dout[0]), pcnn_value_type(grad->in[1]),
                              &sum));
    pcnn_status status = PCNN_EMIT(grad, &grad->din[1], neg, NULL, sum);
    pcnn_value_release(sum);
    return status;
}

static pcnn_status
mul_gradient(pcnn_grad *grad) /* da = dy b, db = dy a */
{
    for (int i = 0; i < 2; i++)
        if (grad->wanted[i])
            PCNN_TRY(give1(grad, i, &pcnn_op_mul, grad->dout[0], grad->in[1 - i]));
    return PCNN_OK;
}

static pcnn_status
div_gradient(pcnn_grad *grad) /* da = dy / b, db = -(dy y) / b */
{
    pcnn_value *dy = grad->dout[0], *b = grad->in[1];
    if (grad->wanted[0])
        PCNN_TRY(give1(grad, 0, &pcnn_op_div, dy, b));
    if (!grad->wanted[1])
        return PCNN_OK;
    pcnn_value *negative;
    PCNN_TRY(PCNN_EMIT(grad, &negative, neg, NULL, dy));
    pcnn_status status = give2(grad, 1, &pcnn_op_div, &pcnn_op_mul, negative, grad->out[0], b);
    pcnn_value_release(negative);
    return status;
}

/* da = a wins ? dy : 0, db = a wins ? 0 : dy, where `wins` compares a and b. */
static pcnn_status
extremum_gradient(pcnn_grad *grad, const pcnn_op *wins)
{
    pcnn_value *mask, *zero, *part, *dy = grad->dout[0];
    PCNN_TRY(pcnn_emit(grad, wins, NULL, grad->in, 2, &mask));
    pcnn_status status = pcnn_emit_constant(grad, pcnn_value_type(dy)->dtype, 0, &zero);
    if (status == PCNN_OK) {
        for (int i = 0; i < 2 && status == PCNN_OK; i++) {
            if (!grad->wanted[i])
                continue;
            status = PCNN_EMIT(grad, &part, where, NULL, mask, i ? zero : dy, i ? dy : zero);
            if (status == PCNN_OK)
                status = give(grad, i, part);
        }
        pcnn_value_release(zero);
    }
    pcnn_value_release(mask);
    return status;
}

static pcnn_status
maximum_gradient(pcnn_grad *grad)
{
    return extremum_gradient(grad, &pcnn_op_greater_equal);
}

static pcnn_status
minimum_gradient(pcnn_grad *grad)
{
    return extremum_gradient(grad, &pcnn_op_less_equal);
}

static pcnn_status
pow_gradient(pcnn_grad *grad) /* da = dy b a^(b-1), db = dy y log(a), 0 where a <= 0 */
{
    pcnn_value *dy = grad->dout[0];
    if (grad->wanted[0])
        PCNN_TRY(
            give2(grad, 0, &pcnn_op_mul, &pcnn_op_pow_slope_base, grad->in[0], grad->in[1], dy));
    if (grad->wanted[1])
        PCNN_TRY(give2(grad, 1, &pcnn_op_mul, &pcnn_op_pow_slope_exponent, grad->in[0],
                       grad->out[0], dy));
    return PCNN_OK;
}

/* `zero`: the operation makes 0 of two zeros. The three N16 forms are both operands in N16, and
 * one of them beside numbers or one number a channel. */
#define BINARY(id, text, in_bits, out_bits, gradient_function, more_flags, zero, ns)           \
    static pcnn_status run_##id(const pcnn_site *site)                                         \
    {                                                                                          \
        const pcnn_kernels *kernels = pcnn_kernels_for(site->out[0].type.dtype);               \
        bool plain = site->in[0].layout != PCNN_N16 || site->in[1].layout != PCNN_N16;         \
        return pcnn_elementwise_run(site, kernels->id##_rows, 0, zero && !plain, ns);          \
    }                                                                                          \
    static void plane_##id(const pcnn_site *site, const pcnn_plane *plane)                     \
    {                                                                                          \
        const pcnn_kernels *kernels = pcnn_kernels_for(site->out[0].type.dtype);               \
        bool plain = site->in[0].layout != PCNN_N16 || site->in[1].layout != PCNN_N16;         \
        pcnn_elementwise_plane(site, plane, kernels->id##_rows, 0, zero && !plain);            \
    }                                                                                          \
    static const pcnn_planes id##_planes = {.apply = plane_##id,                               \
                                            .accepts = pcnn_elementwise_plane_accepts,         \
                                            .rows = pcnn_elementwise_plane_rows,               \
                                            .cheap = (ns) < 0.5};                              \
    static const pcnn_impl id##_impls[] = {                                                    \
        {"n16", 3, 1, 3, pcnn_elementwise_refuse_n16, NULL, run_##id, &id##_planes},           \
        {"n16_a", 1, 1, 1, pcnn_elementwise_refuse_n16, NULL, run_##id, &id##_planes},         \
        {"n16_b", 2, 1, 2, pcnn_elementwise_refuse_n16, NULL, run_##id, &id##_planes},         \
        {"plain", 0, 0, 3, NULL, NULL, run_##id, NULL},                                        \
        {0},                                                                                   \
    };                                                                                         \
    const pcnn_op pcnn_op_##id = {                                                             \
        .name = #id,                                                                           \
        .doc = text "\n\na, b: float32 or float64, shapes that broadcast as in NumPy; y: the " \
                    "shape they broadcast to.",                                                \
        .n_in = 2,                                                                             \
        .params = {{"a", false}, {"b", false}},                                                \
        .n_out = 1,                                                                            \
        .out_names = {"y"},                                                                    \
        .saves_in = in_bits,                                                                   \
        .saves_out = out_bits,                                                                 \
        .flags = PCNN_OP_FOLLOWS | (more_flags),                                               \
        .infer = infer_binary,                                                                 \
        .gradient = gradient_function,                                                         \
        .impls = id##_impls,                                                                   \
    };

BINARY(add, "y = a + b", 0, 0, add_gradient, 0, true, 0.4)
BINARY(sub, "y = a - b", 0, 0, sub_gradient, 0, true, 0.4)
BINARY(mul, "y = a * b", 3, 0, mul_gradient, 0, true, 0.4)
BINARY(div, "y = a / b", 2, 1, div_gradient, 0, false, 0.5)
BINARY(maximum, "y = the larger of a and b; NaN where either is", 3, 0, maximum_gradient, 0, true,
       0.4)
BINARY(minimum, "y = the smaller of a and b; NaN where either is", 3, 0, minimum_gradient, 0, true,
       0.4)
BINARY(pow, "y = a to the power of b", 3, 1, pow_gradient, 0, false, 12)
BINARY(pow_slope_base, "y = b * a^(b-1); 0 where b = 0", 0, 0, NULL, PCNN_OP_INTERNAL, false, 12)
BINARY(pow_slope_exponent, "y = b * log(a); 0 where a <= 0", 0, 0, NULL, PCNN_OP_INTERNAL, true, 8)
