/* concat: the inputs behind one another along an axis; all other extents are equal.
 *
 * Any dtype. Backward cuts the gradient into the inputs' pieces. */
#include "ops/box.h"
#include "ops/crop.h"

typedef struct {
    int64_t axis;
} concat_attrs;

static const pcnn_attr attrs[] = {
    PCNN_ATTR(concat_attrs, axis, PCNN_ATTR_INT, "0"),
    {NULL, 0, 0, NULL, NULL},
};

static int
axis_of(const void *attrs, const pcnn_type *x)
{
    int64_t axis = ((const concat_attrs *)attrs)->axis;
    return (int)(axis < 0 ? axis + x->ndim : axis);
}

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const concat_attrs *a = call->attrs;
    char text[PCNN_SHAPE_TEXT], other[PCNN_SHAPE_TEXT];
    if (call->n_in < 1)
        return pcnn_fail(PCNN_ERR_VALUE, "concat: needs at least one input");
    const pcnn_type *first = &call->in[0];
    if (first->ndim < 1)
        return pcnn_fail(PCNN_ERR_SHAPE, "concat: the inputs must have at least one dimension");
    int axis;
    PCNN_TRY(pcnn_normalize_axis(call, a->axis, first->ndim, &axis));
    *out = *first;
    for (int k = 1; k < call->n_in; k++) {
        const pcnn_type *x = &call->in[k];
        if (x->dtype != first->dtype)
            return pcnn_fail(PCNN_ERR_TYPE,
                             "concat: all inputs must have one dtype, got %s and (input %d) %s",
                             pcnn_dtype_name(first->dtype), k, pcnn_dtype_name(x->dtype));
        bool fits = x->ndim == first->ndim;
        for (int i = 0; i < first->ndim && fits; i++)
            fits = i == axis || x->shape[i] == first->shape[i];
        if (!fits)
            return pcnn_fail(
                PCNN_ERR_SHAPE,
                "concat: input %d has shape %s, which does not fit %s of input 0: only "
                "axis %d may differ",
                k, pcnn_shape_text(x, text), pcnn_shape_text(first, other), axis);
        if (__builtin_add_overflow(out->shape[axis], x->shape[axis], &out->shape[axis]))
            return pcnn_fail(PCNN_ERR_SHAPE, "concat: the result is too large");
    }
    return PCNN_OK;
}

static pcnn_status
gradient(pcnn_grad *grad)
{
    const pcnn_type *first = pcnn_value_type(grad->in[0]);
    const int axis = axis_of(grad->attrs, first), ndim = first->ndim;
    pcnn_crop_attrs piece = {.start = {.n = ndim}, .shape = {.n = ndim}};
    for (int k = 0; k < grad->n_in; k++) {
        const pcnn_type *x = pcnn_value_type(grad->in[k]);
        for (int i = 0; i < ndim; i++)
            piece.shape.at[i] = x->shape[i];
        if (grad->wanted[k])
            PCNN_TRY(PCNN_EMIT(grad, &grad->din[k], crop, &piece, grad->dout[0]));
        piece.start.at[axis] += x->shape[axis];
    }
    return PCNN_OK;
}

static const char *
refuse_n16(const pcnn_site *site)
{
    const pcnn_type *x = &site->in[0].type;
    if (x->ndim != 4 || !pcnn_is_float(x->dtype))
        return "the inputs are not of rank 4 and a float dtype";
    if (site->n_in > 32)
        return "more than 32 inputs";
    return axis_of(site->attrs, x) != 0 ? NULL : "images are joined";
}

static pcnn_status
run(const pcnn_site *site)
{
    const pcnn_tensor *y = &site->out[0];
    const int axis = axis_of(site->attrs, &y->type);
    const pcnn_storage_view to = pcnn_view_storage(&y->type, y->layout);
    char *target = y->data;
    for (int k = 0; k < site->n_in; k++) {
        const pcnn_tensor *x = &site->in[k];
        const pcnn_storage_view from = pcnn_view_storage(&x->type, x->layout);
        pcnn_box box = {.ndim = to.ndim, .itemsize = to.itemsize};
        for (int i = 0; i < to.ndim; i++) {
            box.shape[i] = from.shape[i];
            box.source_strides[i] = from.strides[i];
            box.target_strides[i] = to.strides[i];
        }
        pcnn_box_copy(&box, x->data, target);
        target += from.shape[axis] * to.strides[axis];
    }
    return PCNN_OK;
}

static const pcnn_impl impls[] = {
    {.name = "n16", .n16_in = UINT32_MAX, .n16_out = 1, .refuse = refuse_n16, .run = run},
    {.name = "reference", .run = run},
    {.name = NULL},
};

const pcnn_op pcnn_op_concat = {
    .name = "concat",
    .doc = "y = the inputs behind one another along `axis`.\n"
           "\n"
           "Inputs of one dtype whose shapes are equal but for `axis`.\n"
           "Raises ShapeError when other extents differ, TypeError when dtypes differ.",
    .n_in = PCNN_VARIADIC,
    .params = {{"xs", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(concat_attrs),
    .flags = PCNN_OP_FOLLOWS,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};
