/* Reductions over axes: sum, mean, max, sum_squares, and sum_to, which undoes broadcasting.
 *
 * Gradients: of sum and mean dy repeated over the axes (expand); of max dy shared equally among
 * the elements that are the maximum, as in TensorFlow; of sum_squares 2 x dy.
 * The order of summation is fixed by the shape (fold.h). A mean over nothing is NaN; a maximum over
 * nothing is refused. Inputs in N16 are read as they lie. Not handled: integers. */
#include "ops/reduce.h"

#include "ops/fold.h"
#include "ops/pieces.h"

/* ---- shapes ---- */

/* A bit for each reduced dimension; `ndim` of the input. Axes have been checked by infer. */
static uint32_t
axes_of(const pcnn_ints *axis, int ndim)
{
    uint32_t axes = 0;
    if (axis->n < 0)
        return (1u << ndim) - 1;
    for (int64_t i = 0; i < axis->n; i++)
        axes |= 1u << (axis->at[i] < 0 ? axis->at[i] + ndim : axis->at[i]);
    return axes;
}

static pcnn_status
infer_reduce(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_reduce_attrs *attrs = call->attrs;
    const pcnn_type *x = &call->in[0];
    PCNN_TRY(pcnn_expect_float(call, 0));
    uint32_t seen = 0;
    for (int64_t i = 0; i < attrs->axis.n; i++) {
        int axis;
        PCNN_TRY(pcnn_normalize_axis(call, attrs->axis.at[i], x->ndim, &axis));
        if (seen >> axis & 1)
            return pcnn_fail(PCNN_ERR_VALUE, "%s: axis %lld is given twice", call->op->name,
                             (long long)attrs->axis.at[i]);
        seen |= 1u << axis;
    }
    uint32_t axes = axes_of(&attrs->axis, x->ndim);
    out->dtype = x->dtype;
    out->ndim = 0;
    for (int d = 0; d < x->ndim; d++) {
        if (!(axes >> d & 1))
            out->shape[out->ndim++] = x->shape[d];
        else if (attrs->keepdims)
            out->shape[out->ndim++] = 1;
    }
    return PCNN_OK;
}

static pcnn_status
infer_max(const pcnn_call *call, pcnn_type *out)
{
    char text[PCNN_SHAPE_TEXT];
    const pcnn_type *x = &call->in[0];
    PCNN_TRY(infer_reduce(call, out));
    uint32_t axes = axes_of(&((const pcnn_reduce_attrs *)call->attrs)->axis, x->ndim);
    for (int d = 0; d < x->ndim; d++)
        if ((axes >> d & 1) && x->shape[d] == 0)
            return pcnn_fail(PCNN_ERR_VALUE,
                             "max: x has shape %s: there is no maximum over axis %d, which is "
                             "empty",
                             pcnn_shape_text(x, text), d);
    return PCNN_OK;
}

static pcnn_status
infer_scalar(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(pcnn_expect_float(call, 0));
    out->dtype = call->in[0].dtype;
    out->ndim = 0;
    return PCNN_OK;
}

static uint32_t
site_axes(const pcnn_site *site)
{
    int ndim = site->in[0].type.ndim;
    if (site->op == &pcnn_op_sum_squares)
        return (1u << ndim) - 1;
    if (site->op == &pcnn_op_sum_to) {
        uint32_t axes = 0;
        int shift = ndim - site->out[0].type.ndim;
        for (int d = 0; d < ndim; d++)
            if (d < shift || site->out[0].type.shape[d - shift] != site->in[0].type.shape[d])
                axes |= 1u << d;
        return axes;
    }
    return axes_of(&((const pcnn_reduce_attrs *)site->attrs)->axis, ndim);
}

/* ---- implementations ---- */

static const char *
refuse_n16(const pcnn_site *site)
{
    const pcnn_type *x = &site->in[0].type;
    if (x->ndim != 4 || !pcnn_is_float(x->dtype))
        return "not a rank-4 float value";
    if (site->op == &pcnn_op_max && (site_axes(site) & 1))
        return "the zeros that pad N16 would take part in the maximum over images";
    return NULL;
}

static int64_t
workspace(const pcnn_site *site)
{
    return pcnn_fold_workspace(site, site_axes(site));
}

#define FOLD_IMPLS(id, kind)                                     \
    static pcnn_status run_##id(const pcnn_site *site)           \
    {                                                            \
        return pcnn_fold_run(site, kind, site_axes(site));       \
    }                                                            \
    static const pcnn_impl id##_impls[] = {                      \
        {"n16", 1, 0, 0, refuse_n16, workspace, run_##id, NULL}, \
        {"plain", 0, 0, 0, NULL, workspace, run_##id, NULL},     \
        {0},                                                     \
    };

FOLD_IMPLS(sum, PCNN_FOLD_SUM)
FOLD_IMPLS(mean, PCNN_FOLD_MEAN)
FOLD_IMPLS(max, PCNN_FOLD_MAX)
FOLD_IMPLS(sum_squares, PCNN_FOLD_SQUARES)
FOLD_IMPLS(sum_to, PCNN_FOLD_SUM)

/* A scalar is made of parts of 32,768 elements: pieces. */
static pcnn_status
prepare_sum_squares(const pcnn_site *site, void *job, int64_t *pieces, double *cost_ns)
{
    return pcnn_fold_prepare(site, PCNN_FOLD_SQUARES, site_axes(site), job, pieces, cost_ns);
}

static const pcnn_pieces sum_squares_pieces = {prepare_sum_squares, pcnn_fold_pieces,
                                               pcnn_fold_finish, 1};

/* sum_sloped_squares: internal, of a gradient to which a step adds the slope itself (plan/fuse.c). */

static uint32_t
all_axes(const pcnn_site *site)
{
    return (1u << site->in[0].type.ndim) - 1;
}

static pcnn_status
prepare_sloped(const pcnn_site *site, void *job, int64_t *pieces, double *cost_ns)
{
    return pcnn_fold_prepare(site, PCNN_FOLD_SLOPED_SQUARES, all_axes(site), job, pieces, cost_ns);
}

static int64_t
sloped_workspace(const pcnn_site *site)
{
    return pcnn_fold_workspace(site, all_axes(site));
}

static pcnn_status
run_sloped(const pcnn_site *site)
{
    return pcnn_pieces_run(site, 1, NULL);
}

static const pcnn_pieces sloped_pieces = {prepare_sloped, pcnn_fold_pieces, pcnn_fold_finish, 1};
static const pcnn_impl sloped_impls[] = {
    {"plain", 0, 0, 0, NULL, sloped_workspace, run_sloped, NULL},
    {0},
};

/* ---- gradients ---- */

static pcnn_ints
shape_of(const pcnn_type *type)
{
    pcnn_ints shape = {.n = type->ndim};
    for (int d = 0; d < type->ndim; d++)
        shape.at[d] = type->shape[d];
    return shape;
}

/* *result = value, which has the shape of a reduction of `x`, repeated to x's shape. */
static pcnn_status
emit_expand(pcnn_grad *grad, pcnn_value *value, bool mean, pcnn_value **result)
{
    const pcnn_reduce_attrs *attrs = grad->attrs;
    pcnn_expand_attrs expand = {shape_of(pcnn_value_type(grad->in[0])), attrs->axis, mean};
    return PCNN_EMIT(grad, result, expand, &expand, value);
}

static pcnn_status
sum_gradient(pcnn_grad *grad)
{
    return emit_expand(grad, grad->dout[0], false, &grad->din[0]);
}

static pcnn_status
mean_gradient(pcnn_grad *grad)
{
    return emit_expand(grad, grad->dout[0], true, &grad->din[0]);
}

static pcnn_status
max_gradient(pcnn_grad *grad) /* dx = (x = y) dy / number of x that are y */
{
    pcnn_value *largest = NULL, *mask = NULL, *count = NULL, *share = NULL, *shares = NULL;
    pcnn_status status = emit_expand(grad, grad->out[0], false, &largest);
    if (status == PCNN_OK)
        status = PCNN_EMIT(grad, &mask, equal, NULL, grad->in[0], largest);
    if (status == PCNN_OK)
        status = PCNN_EMIT(grad, &count, sum, grad->attrs, mask);
    if (status == PCNN_OK)
        status = PCNN_EMIT(grad, &share, div, NULL, grad->dout[0], count);
    if (status == PCNN_OK)
        status = emit_expand(grad, share, false, &shares);
    if (status == PCNN_OK)
        status = PCNN_EMIT(grad, &grad->din[0], mul, NULL, mask, shares);
    pcnn_value *all[] = {largest, mask, count, share, shares};
    for (int i = 0; i < 5; i++)
        if (all[i] != NULL)
            pcnn_value_release(all[i]);
    return status;
}

static pcnn_status
sum_squares_gradient(pcnn_grad *grad) /* dx = x (2 dy) */
{
    pcnn_value *two, *twice;
    PCNN_TRY(pcnn_emit_constant(grad, pcnn_value_type(grad->in[0])->dtype, 2, &two));
    pcnn_status status = PCNN_EMIT(grad, &twice, mul, NULL, grad->dout[0], two);
    pcnn_value_release(two);
    PCNN_TRY(status);
    status = PCNN_EMIT(grad, &grad->din[0], mul, NULL, grad->in[0], twice);
    pcnn_value_release(twice);
    return status;
}

pcnn_status
pcnn_emit_sum_to(pcnn_grad *grad, pcnn_value *value, const pcnn_type *like,
                 pcnn_value **destination)
{
    if (pcnn_shape_equal(pcnn_value_type(value), like)) {
        *destination = value;
        return PCNN_OK;
    }
    pcnn_sum_to_attrs attrs = {shape_of(like)};
    pcnn_status status = PCNN_EMIT(grad, destination, sum_to, &attrs, value);
    pcnn_value_release(value);
    return status;
}

/* ---- the ops ---- */

static const pcnn_attr reduce_attrs[] = {
    PCNN_ATTR(pcnn_reduce_attrs, axis, PCNN_ATTR_INTS, "None"),
    PCNN_ATTR(pcnn_reduce_attrs, keepdims, PCNN_ATTR_BOOL, "False"),
    {0},
};

#define REDUCTION(id, text, infer_function, in_bits, out_bits)                                   \
    const pcnn_op pcnn_op_##id = {                                                               \
        .name = #id,                                                                             \
        .doc = text "\n\nx: any shape, float32 or float64; axis: one or several, None for all; " \
                    "y: x's shape without those axes, or with 1 in their place (keepdims).",     \
        .n_in = 1,                                                                               \
        .params = {{"x", false}},                                                                \
        .n_out = 1,                                                                              \
        .out_names = {"y"},                                                                      \
        .attrs = reduce_attrs,                                                                   \
        .attrs_size = sizeof(pcnn_reduce_attrs),                                                 \
        .saves_in = in_bits,                                                                     \
        .saves_out = out_bits,                                                                   \
        .flags = PCNN_OP_FOLLOWS,                                                                \
        .infer = infer_function,                                                                 \
        .gradient = id##_gradient,                                                               \
        .impls = id##_impls,                                                                     \
    };

REDUCTION(sum, "y = sum of x over axes", infer_reduce, 0, 0)
REDUCTION(mean, "y = mean of x over axes", infer_reduce, 0, 0)
REDUCTION(max, "y = maximum of x over axes; NaN where there is one", infer_max, 1, 1)

const pcnn_op pcnn_op_sum_squares = {
    .name = "sum_squares",
    .doc = "y = sum of x^2 over all elements\n\nx: any shape, float32 or float64; y: a scalar.",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .saves_in = 1,
    .flags = PCNN_OP_FOLLOWS,
    .infer = infer_scalar,
    .gradient = sum_squares_gradient,
    .impls = sum_squares_impls,
    .pieces = &sum_squares_pieces,
};

static pcnn_status
infer_sloped(const pcnn_call *call, pcnn_type *out)
{
    char text[PCNN_SHAPE_TEXT], other[PCNN_SHAPE_TEXT];
    PCNN_TRY(infer_scalar(call, out));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 2));
    PCNN_TRY(pcnn_expect_rank(call, 2, 0));
    if (!pcnn_shape_equal(&call->in[0], &call->in[1]))
        return pcnn_fail(PCNN_ERR_SHAPE,
                         "sum_sloped_squares: w must have the shape of x, %s, got %s",
                         pcnn_shape_text(&call->in[0], text), pcnn_shape_text(&call->in[1], other));
    return PCNN_OK;
}

const pcnn_op pcnn_op_sum_sloped_squares = {
    .name = "sum_sloped_squares",
    .doc = "y = sum of (x + slope * w)^2 over all elements",
    .n_in = 3,
    .params = {{"x", false}, {"w", false}, {"slope", false}},
    .n_out = 1,
    .out_names = {"y"},
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_sloped,
    .impls = sloped_impls,
    .pieces = &sloped_pieces,
};

static pcnn_status
infer_sum_to(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_ints *shape = &((const pcnn_sum_to_attrs *)call->attrs)->shape;
    const pcnn_type *x = &call->in[0];
    char text[PCNN_SHAPE_TEXT];
    PCNN_TRY(pcnn_expect_float(call, 0));
    bool fits = shape->n >= 0 && shape->n <= x->ndim;
    out->dtype = x->dtype;
    out->ndim = fits ? (int)shape->n : 0;
    for (int d = 0; d < out->ndim; d++) {
        out->shape[d] = shape->at[d];
        fits &= shape->at[d] == 1 || shape->at[d] == x->shape[d + x->ndim - out->ndim];
    }
    if (!fits)
        return pcnn_fail(PCNN_ERR_SHAPE, "sum_to: x of shape %s was not made from the given shape",
                         pcnn_shape_text(x, text));
    return PCNN_OK;
}

static const pcnn_attr sum_to_attrs[] = {
    PCNN_ATTR(pcnn_sum_to_attrs, shape, PCNN_ATTR_INTS, NULL),
    {0},
};

const pcnn_op pcnn_op_sum_to = {
    .name = "sum_to",
    .doc = "y = x summed over the dimensions along which broadcasting repeated a value of shape "
           "`shape`",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = sum_to_attrs,
    .attrs_size = sizeof(pcnn_sum_to_attrs),
    .flags = PCNN_OP_INTERNAL | PCNN_OP_FOLLOWS,
    .infer = infer_sum_to,
    .impls = sum_to_impls,
};
