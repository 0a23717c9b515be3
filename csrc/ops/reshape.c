/* reshape: the same numbers in the same row-major order, with another shape.
 *
 * Any dtype. In plain layout nothing moves: the plan lets y lie on x's bytes. From layout N16 the
 * numbers are brought into rows, in C,H,W order, as Flatten before a dense layer wants them. */
#include <string.h>

#include "ops/op.h"
#include "ops/reorder.h"

typedef struct {
    pcnn_ints shape;
} reshape_attrs;

static const pcnn_attr attrs[] = {
    PCNN_ATTR(reshape_attrs, shape, PCNN_ATTR_INTS, NULL),
    {NULL, 0, 0, NULL, NULL},
};

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_ints *shape = &((const reshape_attrs *)call->attrs)->shape;
    const pcnn_type *x = &call->in[0];
    char text[PCNN_SHAPE_TEXT], wanted[PCNN_SHAPE_TEXT];
    if (shape->n < 0 || shape->n > PCNN_MAX_NDIM)
        return pcnn_fail(PCNN_ERR_VALUE, "reshape: shape must have 0 to %d entries, got %lld",
                         PCNN_MAX_NDIM, (long long)shape->n);
    pcnn_type type = {.dtype = x->dtype, .ndim = (int)shape->n};
    const int64_t size = pcnn_type_size(x);
    int64_t known = 1;
    int unknown = -1;
    for (int i = 0; i < type.ndim; i++) {
        int64_t extent = type.shape[i] = shape->at[i];
        if (extent < -1)
            return pcnn_fail(PCNN_ERR_SHAPE, "reshape: shape has a negative extent, %lld",
                             (long long)extent);
        if (extent == -1 && unknown >= 0)
            return pcnn_fail(PCNN_ERR_SHAPE, "reshape: shape may have one -1 only, got two");
        if (extent == -1)
            unknown = i;
        else if (__builtin_mul_overflow(known, extent, &known))
            return pcnn_fail(PCNN_ERR_SHAPE, "reshape: shape is too large");
    }
    pcnn_shape_text(&type, wanted);
    if (unknown >= 0) {
        if (known == 0 || size % known)
            return pcnn_fail(PCNN_ERR_SHAPE,
                             "reshape: x of shape %s (%lld elements) does not fit %s",
                             pcnn_shape_text(x, text), (long long)size, wanted);
        type.shape[unknown] = size / known;
    }
    else if (known != size)
        return pcnn_fail(PCNN_ERR_SHAPE,
                         "reshape: x of shape %s has %lld elements, %s would have %lld",
                         pcnn_shape_text(x, text), (long long)size, wanted, (long long)known);
    *out = type;
    return PCNN_OK;
}

static pcnn_status
gradient(pcnn_grad *grad)
{
    if (!grad->wanted[0])
        return PCNN_OK;
    const pcnn_type *x = pcnn_value_type(grad->in[0]);
    reshape_attrs back = {.shape = {.n = x->ndim}};
    for (int i = 0; i < x->ndim; i++)
        back.shape.at[i] = x->shape[i];
    return PCNN_EMIT(grad, &grad->din[0], reshape, &back, grad->dout[0]);
}

static const char *
refuse_from_n16(const pcnn_site *site)
{
    const pcnn_type *x = &site->in[0].type;
    return x->ndim == 4 && pcnn_is_float(x->dtype) ? NULL : "x is not of rank 4 and a float dtype";
}

static pcnn_status
run_from_n16(const pcnn_site *site)
{
    const int64_t *shape = site->in[0].type.shape;
    pcnn_rows rows = {shape[0], shape[1] * shape[2] * shape[3], 1};
    pcnn_reorder_to_rows(site->in[0].type.dtype, rows, site->in[0].data, site->out[0].data);
    return PCNN_OK;
}

static pcnn_status
run_alias(const pcnn_site *site)
{
    const pcnn_tensor *x = &site->in[0];
    if (site->out[0].data != x->data)
        memcpy(site->out[0].data, x->data, (size_t)pcnn_layout_bytes(&x->type, PCNN_PLAIN));
    return PCNN_OK;
}

static const pcnn_impl impls[] = {
    {.name = "from_n16", .n16_in = 1, .refuse = refuse_from_n16, .run = run_from_n16},
    {.name = "alias", .in_place = 1, .run = run_alias},
    {.name = NULL},
};

const pcnn_op pcnn_op_reshape = {
    .name = "reshape",
    .doc = "y = the numbers of x in row-major order, with the given shape.\n"
           "\n"
           "x of any shape and dtype; one extent of shape may be -1: what is left.\n"
           "Raises ShapeError when the number of elements would change.",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(reshape_attrs),
    .flags = PCNN_OP_ALIAS | PCNN_OP_FOLLOWS,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};
