/* crop: y = x[start : start + shape] along every axis, with structural numbers; internal.
 *
 * The gradient of pad and, axis by axis, of concat; its own gradient is pad. (slice is the op
 * whose offsets are run-time numbers.) */
#include "ops/crop.h"

#include "ops/box.h"

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_crop_attrs, start, PCNN_ATTR_INTS, NULL),
    PCNN_ATTR(pcnn_crop_attrs, shape, PCNN_ATTR_INTS, NULL),
    {NULL, 0, 0, NULL, NULL},
};

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_crop_attrs *a = call->attrs;
    const pcnn_type *x = &call->in[0];
    if (a->start.n != x->ndim || a->shape.n != x->ndim)
        return pcnn_fail(PCNN_ERR_SHAPE, "crop: start and shape must have %d entries", x->ndim);
    *out = *x;
    for (int i = 0; i < x->ndim; i++) {
        int64_t start = a->start.at[i], extent = a->shape.at[i];
        if (start < 0 || extent < 0 || start > x->shape[i] || extent > x->shape[i] - start)
            return pcnn_fail(PCNN_ERR_SHAPE, "crop: axis %d of extent %lld has no %lld at %lld", i,
                             (long long)x->shape[i], (long long)extent, (long long)start);
        out->shape[i] = extent;
    }
    return PCNN_OK;
}

static pcnn_status
gradient(pcnn_grad *grad)
{
    if (!grad->wanted[0])
        return PCNN_OK;
    const pcnn_crop_attrs *a = grad->attrs;
    const pcnn_type *x = pcnn_value_type(grad->in[0]);
    pcnn_pad_attrs back = {.pads = {.n = 2 * x->ndim}};
    for (int i = 0; i < x->ndim; i++) {
        back.pads.at[2 * i] = a->start.at[i];
        back.pads.at[2 * i + 1] = x->shape[i] - a->start.at[i] - a->shape.at[i];
    }
    return PCNN_EMIT(grad, &grad->din[0], pad, &back, grad->dout[0]);
}

static const char *
refuse_n16(const pcnn_site *site)
{
    const pcnn_type *x = &site->in[0].type;
    if (x->ndim != 4 || !pcnn_is_float(x->dtype))
        return "x is not of rank 4 and a float dtype";
    return site->out[0].type.shape[0] == x->shape[0] ? NULL : "images are cut off";
}

static pcnn_status
run(const pcnn_site *site)
{
    const pcnn_crop_attrs *a = site->attrs;
    const pcnn_tensor *x = &site->in[0], *y = &site->out[0];
    const pcnn_storage_view from = pcnn_view_storage(&x->type, x->layout);
    const pcnn_storage_view to = pcnn_view_storage(&y->type, y->layout);
    pcnn_box box = {.ndim = to.ndim, .itemsize = to.itemsize};
    int64_t offset = 0;
    for (int i = 0; i < to.ndim; i++) {
        box.shape[i] = to.shape[i];
        box.source_strides[i] = from.strides[i];
        box.target_strides[i] = to.strides[i];
        offset += a->start.at[i] * from.strides[i];
    }
    pcnn_box_copy(&box, (const char *)x->data + offset, y->data);
    return PCNN_OK;
}

static const pcnn_impl impls[] = {
    {.name = "n16", .n16_in = 1, .n16_out = 1, .refuse = refuse_n16, .run = run},
    {.name = "reference", .run = run},
    {.name = NULL},
};

const pcnn_op pcnn_op_crop = {
    .name = "crop",
    .doc = "y = x[start : start + shape] along every axis.",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_crop_attrs),
    .flags = PCNN_OP_INTERNAL | PCNN_OP_FOLLOWS,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};
