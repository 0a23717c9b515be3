/* slice: y[i0,i1,...] = x[start0 + i0*step0, start1 + i1*step1, ...].
 *
 * `start` is an input, so that a loop over pieces of an array keeps one plan; whether it lies in x
 * is checked when it runs. Steps may be negative, not zero. Any dtype. Backward puts dy where the
 * elements came from, in zeros. */
#include <string.h>

#include "ops/box.h"
#include "ops/op.h"

typedef struct {
    pcnn_ints shape, step;
} slice_attrs;

static const pcnn_attr attrs[] = {
    PCNN_ATTR(slice_attrs, shape, PCNN_ATTR_INTS, NULL),
    PCNN_ATTR(slice_attrs, step, PCNN_ATTR_INTS, "None"),
    {NULL, 0, 0, NULL, NULL},
};

static int64_t
step_of(const slice_attrs *a, int axis)
{
    return a->step.n < 0 ? 1 : a->step.at[axis];
}

/* Checks the inputs `start` and the attributes against the shape that is sliced. */
static pcnn_status
check(const pcnn_call *call, const pcnn_type *x, const pcnn_type *start)
{
    const slice_attrs *a = call->attrs;
    char text[PCNN_SHAPE_TEXT];
    if (start->dtype != PCNN_I64)
        return pcnn_fail(PCNN_ERR_TYPE, "%s: start must be int64, got %s", call->op->name,
                         pcnn_dtype_name(start->dtype));
    PCNN_TRY(pcnn_expect_shape1(call, 1, x->ndim, "one number for each dimension of x"));
    if (a->step.n >= 0 && a->step.n != x->ndim)
        return pcnn_fail(
            PCNN_ERR_VALUE,
            "%s: step must have one entry for each of the %d dimensions of x, got %lld",
            call->op->name, x->ndim, (long long)a->step.n);
    for (int i = 0; i < x->ndim; i++)
        if (step_of(a, i) == 0)
            return pcnn_fail(PCNN_ERR_VALUE, "%s: step must not be 0 (axis %d of x, shape %s)",
                             call->op->name, i, pcnn_shape_text(x, text));
    return PCNN_OK;
}

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const slice_attrs *a = call->attrs;
    const pcnn_type *x = &call->in[0];
    char text[PCNN_SHAPE_TEXT];
    if (a->shape.n != x->ndim)
        return pcnn_fail(PCNN_ERR_VALUE,
                         "slice: shape must have one entry for each of the %d dimensions of x "
                         "(shape %s), got %lld",
                         x->ndim, pcnn_shape_text(x, text), (long long)a->shape.n);
    PCNN_TRY(check(call, x, &call->in[1]));
    *out = *x;
    for (int i = 0; i < x->ndim; i++) {
        int64_t n = out->shape[i] = a->shape.at[i], step = step_of(a, i);
        if (n < 0)
            return pcnn_fail(PCNN_ERR_SHAPE, "slice: shape has a negative extent, %lld",
                             (long long)n);
        /* (n - 1) * |step| < extent, without overflow. */
        int64_t room = x->shape[i] - 1;
        bool fits = n <= 1                        ? n <= x->shape[i]
                    : step > room || step < -room ? false
                                                  : n - 1 <= room / (step < 0 ? -step : step);
        if (!fits)
            return pcnn_fail(
                PCNN_ERR_SHAPE,
                "slice: %lld elements with step %lld do not fit axis %d of x, shape %s",
                (long long)n, (long long)step, i, pcnn_shape_text(x, text));
    }
    return PCNN_OK;
}

static pcnn_status
gradient(pcnn_grad *grad)
{
    if (!grad->wanted[0])
        return PCNN_OK;
    const slice_attrs *a = grad->attrs;
    const pcnn_type *x = pcnn_value_type(grad->in[0]);
    slice_attrs back = {.shape = {.n = x->ndim}, .step = a->step};
    for (int i = 0; i < x->ndim; i++)
        back.shape.at[i] = x->shape[i];
    return PCNN_EMIT(grad, &grad->din[0], slice_grad, &back, grad->dout[0], grad->in[1]);
}

/* Checks `start` and fills the box of the part in x and y; where it begins in x, in bytes. */
static pcnn_status
make_box(const pcnn_site *site, const pcnn_type *x, const pcnn_type *y, bool from_x, pcnn_box *box,
         int64_t *offset)
{
    const slice_attrs *a = site->attrs;
    const int64_t *start = site->in[1].data;
    const pcnn_storage_view whole = pcnn_view_storage(x, PCNN_PLAIN);
    const pcnn_storage_view part = pcnn_view_storage(y, PCNN_PLAIN);
    char text[PCNN_SHAPE_TEXT];
    *box = (pcnn_box){.ndim = x->ndim, .itemsize = whole.itemsize};
    *offset = 0;
    for (int i = 0; i < x->ndim; i++) {
        int64_t step = step_of(a, i), n = y->shape[i];
        int64_t span = n > 0 ? (n - 1) * step : 0; /* from the first to the last */
        int64_t lowest = span < 0 ? -span : 0;
        int64_t highest = x->shape[i] - (n > 0 ? 1 : 0) - (span > 0 ? span : 0);
        if (start[i] < lowest || start[i] > highest)
            return pcnn_fail(PCNN_ERR_INDEX,
                             "slice: start %lld of axis %d must be from %lld to %lld "
                             "(x has shape %s, %lld elements with step %lld)",
                             (long long)start[i], i, (long long)lowest, (long long)highest,
                             pcnn_shape_text(x, text), (long long)n, (long long)step);
        box->shape[i] = n;
        int64_t *in_x = from_x ? box->source_strides : box->target_strides;
        int64_t *in_y = from_x ? box->target_strides : box->source_strides;
        in_x[i] = n > 1 ? whole.strides[i] * step : whole.strides[i];
        in_y[i] = part.strides[i];
        *offset += start[i] * whole.strides[i];
    }
    return PCNN_OK;
}

static pcnn_status
run(const pcnn_site *site)
{
    pcnn_box box;
    int64_t offset;
    const pcnn_tensor *x = &site->in[0], *y = &site->out[0];
    PCNN_TRY(make_box(site, &x->type, &y->type, true, &box, &offset));
    pcnn_box_copy(&box, (const char *)x->data + offset, y->data);
    return PCNN_OK;
}

static const pcnn_impl impls[] = {
    {.name = "reference", .run = run},
    {.name = NULL},
};

const pcnn_op pcnn_op_slice = {
    .name = "slice",
    .doc =
        "y[i0,i1,...] = x[start0 + i0*step0, start1 + i1*step1, ...].\n"
        "\n"
        "x of any shape and dtype, start int64[ndim] -> y of the given shape. step: one entry\n"
        "a dimension, None for ones; may be negative.\n"
        "Raises IndexError (when it runs) if a part lies outside x, ShapeError if it cannot fit.",
    .n_in = 2,
    .params = {{"x", false}, {"start", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(slice_attrs),
    .saves_in = 2,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};

/* ---- gradient: dx = zeros, and dy where the elements came from; `shape` is x's ---- */

static pcnn_status
infer_grad(const pcnn_call *call, pcnn_type *out)
{
    const slice_attrs *a = call->attrs;
    const pcnn_type *dy = &call->in[0];
    *out = *dy;
    for (int i = 0; i < dy->ndim; i++)
        out->shape[i] = a->shape.at[i];
    return check(call, out, &call->in[1]);
}

static pcnn_status
run_grad(const pcnn_site *site)
{
    pcnn_box box;
    int64_t offset;
    const pcnn_tensor *dy = &site->in[0], *dx = &site->out[0];
    PCNN_TRY(make_box(site, &dx->type, &dy->type, false, &box, &offset));
    int64_t bytes = pcnn_layout_bytes(&dx->type, PCNN_PLAIN);
    if (bytes > 0)
        memset(dx->data, 0, (size_t)bytes);
    pcnn_box_copy(&box, dy->data, (char *)dx->data + offset);
    return PCNN_OK;
}

static const pcnn_impl grad_impls[] = {
    {.name = "reference", .run = run_grad},
    {.name = NULL},
};

/* The gradient of the gradient is the slice again. */
static pcnn_status
gradient_of_grad(pcnn_grad *grad)
{
    if (!grad->wanted[0])
        return PCNN_OK;
    const slice_attrs *a = grad->attrs;
    const pcnn_type *dy = pcnn_value_type(grad->in[0]);
    slice_attrs forward = {.shape = {.n = dy->ndim}, .step = a->step};
    for (int i = 0; i < dy->ndim; i++)
        forward.shape.at[i] = dy->shape[i];
    return PCNN_EMIT(grad, &grad->din[0], slice, &forward, grad->dout[0], grad->in[1]);
}

const pcnn_op pcnn_op_slice_grad = {
    .name = "slice_grad",
    .doc = "dx of slice from dy and start.",
    .n_in = 2,
    .params = {{"dy", false}, {"start", false}},
    .n_out = 1,
    .out_names = {"dx"},
    .attrs = attrs,
    .attrs_size = sizeof(slice_attrs),
    .saves_in = 2,
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_grad,
    .gradient = gradient_of_grad,
    .impls = grad_impls,
};
