/* dense_maps: a dense layer on maps, which it flattens: y[n][o] = activation(b[o] + the sum over
 * rows r of w of x[n][c(r)][p(r)] w[r][o]), p a pixel. Rows are in the order (p, c) with
 * channels_last, as Keras flattens, else (c, p). And its gradients
 *
 *     dx[n][c(r)][p(r)] = sum over o of dy[n][o] w[r][o]
 *     dw[r][o] = sum over n of x[n][c(r)][p(r)] dy[n][o]
 *
 * In layout N16 a product takes maps as they lie, without a transposition (dense_lines.c). The plan
 * puts these ops where a graph flattens maps, multiplies, and goes back (plan/flatten.c). Not
 * handled: w stored [O, I]. */
#include "isa/kernels.h"
#include "ops/activation.h"
#include "ops/dense_lines.h"
#include "ops/dense_maps.h"
#include "ops/op.h"
#include "ops/reduce.h"

static pcnn_dense_maps
geometry_of(const pcnn_type *x, int64_t O, int64_t channels_last)
{
    return (pcnn_dense_maps){.N = x->shape[0],
                             .C = x->shape[1],
                             .S = x->shape[2] * x->shape[3],
                             .O = O,
                             .channels_last = channels_last};
}

/* ---- forward ---- */

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_type *x = &call->in[0], *w = &call->in[1];
    for (int i = 0; i < 3; i++)
        PCNN_TRY(pcnn_expect_float(call, i));
    PCNN_TRY(pcnn_expect_rank(call, 0, 4));
    PCNN_TRY(pcnn_expect_rank(call, 1, 2));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 2));
    const int64_t features = x->shape[1] * x->shape[2] * x->shape[3];
    if (features != w->shape[0]) {
        char x_text[PCNN_SHAPE_TEXT], w_text[PCNN_SHAPE_TEXT];
        return pcnn_fail(PCNN_ERR_SHAPE,
                         "dense_maps: x has %lld features but w expects %lld (x has shape %s = "
                         "N,C,H,W; w has shape %s = I,O)",
                         (long long)features, (long long)w->shape[0], pcnn_shape_text(x, x_text),
                         pcnn_shape_text(w, w_text));
    }
    PCNN_TRY(pcnn_expect_shape1(call, 2, w->shape[1], "one for each output of w"));
    *out = (pcnn_type){.dtype = x->dtype, .ndim = 2, .shape = {x->shape[0], w->shape[1]}};
    return PCNN_OK;
}

static pcnn_status
gradient(pcnn_grad *grad)
{
    const pcnn_dense_maps_attrs *attrs = grad->attrs;
    pcnn_value *x = grad->in[0], *w = grad->in[1], *dy = grad->dout[0];
    if (attrs->activation != PCNN_ACT_NONE)
        return pcnn_fail(PCNN_ERR_NOT_IMPLEMENTED,
                         "dense_maps: no gradient through a fused activation; differentiate first");
    if (grad->wanted[0]) {
        const int64_t *shape = pcnn_value_type(x)->shape;
        const pcnn_dense_maps_dx_attrs maps = {attrs->channels_last,
                                               {3, {shape[1], shape[2], shape[3]}}};
        PCNN_TRY(PCNN_EMIT(grad, &grad->din[0], dense_maps_dx, &maps, dy, w));
    }
    if (grad->wanted[1]) {
        const pcnn_dense_maps_dw_attrs order = {attrs->channels_last};
        PCNN_TRY(PCNN_EMIT(grad, &grad->din[1], dense_maps_dw, &order, x, dy));
    }
    if (grad->n_in > 2 && grad->in[2] != NULL && grad->wanted[2]) {
        const pcnn_reduce_attrs rows = {.axis = {.n = 1, .at = {0}}};
        PCNN_TRY(PCNN_EMIT(grad, &grad->din[2], sum, &rows, dy));
    }
    return PCNN_OK;
}

static pcnn_dense_maps
forward_geometry(const pcnn_site *site)
{
    return geometry_of(&site->in[0].type, site->out[0].type.shape[1],
                       ((const pcnn_dense_maps_attrs *)site->attrs)->channels_last);
}

static int64_t
workspace_n16(const pcnn_site *site)
{
    const pcnn_dense_maps g = forward_geometry(site);
    return pcnn_dense_lines_workspace(site->in[0].type.dtype, &g);
}

static pcnn_status
run_n16(const pcnn_site *site)
{
    const pcnn_dense_maps g = forward_geometry(site);
    pcnn_dense_lines_forward(site->in[0].type.dtype, &g, site->in[0].data, site->in[1].data,
                             site->n_in > 2 ? site->in[2].data : NULL,
                             ((const pcnn_dense_maps_attrs *)site->attrs)->activation,
                             site->out[0].data, site->work);
    return PCNN_OK;
}

static pcnn_status
run_reference(const pcnn_site *site)
{
    const pcnn_dense_maps g = forward_geometry(site);
    const pcnn_kernels *kernels = pcnn_kernels_for(site->in[0].type.dtype);
    kernels->dense_maps_reference(&g, site->in[0].data, site->in[1].data, site->out[0].data);
    kernels->bias_activation(site->out[0].data, g.N, g.O, g.O,
                             site->n_in > 2 ? site->in[2].data : NULL, 0, 1,
                             ((const pcnn_dense_maps_attrs *)site->attrs)->activation);
    return PCNN_OK;
}

/* ---- the gradient of x ---- */

static pcnn_status
infer_dx(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_ints *maps = &((const pcnn_dense_maps_dx_attrs *)call->attrs)->maps;
    const pcnn_type *dy = &call->in[0], *w = &call->in[1];
    char text[PCNN_SHAPE_TEXT], other[PCNN_SHAPE_TEXT];
    PCNN_TRY(pcnn_expect_float(call, 0));
    PCNN_TRY(pcnn_expect_rank(call, 0, 2));
    PCNN_TRY(pcnn_expect_rank(call, 1, 2));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    if (maps->n != 3 || maps->at[0] * maps->at[1] * maps->at[2] != w->shape[0] ||
        dy->shape[1] != w->shape[1])
        return pcnn_fail(PCNN_ERR_SHAPE,
                         "dense_maps_dx: dy of shape %s and w of shape %s do not fit the maps",
                         pcnn_shape_text(dy, text), pcnn_shape_text(w, other));
    *out = (pcnn_type){.dtype = dy->dtype,
                       .ndim = 4,
                       .shape = {dy->shape[0], maps->at[0], maps->at[1], maps->at[2]}};
    return PCNN_OK;
}

static pcnn_dense_maps
dx_geometry(const pcnn_site *site)
{
    return geometry_of(&site->out[0].type, site->in[0].type.shape[1],
                       ((const pcnn_dense_maps_dx_attrs *)site->attrs)->channels_last);
}

static int64_t
workspace_dx(const pcnn_site *site)
{
    const pcnn_dense_maps g = dx_geometry(site);
    return pcnn_dense_lines_dx_workspace(site->in[0].type.dtype, &g);
}

static pcnn_status
run_dx_n16(const pcnn_site *site)
{
    const pcnn_dense_maps g = dx_geometry(site);
    pcnn_dense_lines_dx(site->in[0].type.dtype, &g, site->in[0].data, site->in[1].data,
                        site->out[0].data, site->work);
    return PCNN_OK;
}

static pcnn_status
run_dx_reference(const pcnn_site *site)
{
    const pcnn_dense_maps g = dx_geometry(site);
    pcnn_kernels_for(site->in[0].type.dtype)
        ->dense_maps_dx_reference(&g, site->in[0].data, site->in[1].data, site->out[0].data);
    return PCNN_OK;
}

/* ---- the gradient of w ---- */

static pcnn_status
infer_dw(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_type *x = &call->in[0], *dy = &call->in[1];
    PCNN_TRY(pcnn_expect_float(call, 0));
    PCNN_TRY(pcnn_expect_rank(call, 0, 4));
    PCNN_TRY(pcnn_expect_rank(call, 1, 2));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    if (x->shape[0] != dy->shape[0])
        return pcnn_fail(PCNN_ERR_SHAPE, "dense_maps_dw: %lld images, but dy has %lld rows",
                         (long long)x->shape[0], (long long)dy->shape[0]);
    *out = (pcnn_type){.dtype = x->dtype,
                       .ndim = 2,
                       .shape = {x->shape[1] * x->shape[2] * x->shape[3], dy->shape[1]}};
    return PCNN_OK;
}

static pcnn_dense_maps
dw_geometry(const pcnn_site *site)
{
    return geometry_of(&site->in[0].type, site->in[1].type.shape[1],
                       ((const pcnn_dense_maps_dw_attrs *)site->attrs)->channels_last);
}

static int64_t
workspace_dw(const pcnn_site *site)
{
    const pcnn_dense_maps g = dw_geometry(site);
    return pcnn_dense_lines_dw_workspace(site->in[0].type.dtype, &g);
}

static pcnn_status
run_dw_n16(const pcnn_site *site)
{
    const pcnn_dense_maps g = dw_geometry(site);
    pcnn_dense_lines_dw(site->in[0].type.dtype, &g, site->in[0].data, site->in[1].data,
                        site->out[0].data, site->work);
    return PCNN_OK;
}

static pcnn_status
run_dw_reference(const pcnn_site *site)
{
    const pcnn_dense_maps g = dw_geometry(site);
    pcnn_kernels_for(site->in[0].type.dtype)
        ->dense_maps_dw_reference(&g, site->in[0].data, site->in[1].data, site->out[0].data);
    return PCNN_OK;
}

/* ---- the ops ---- */

static const char *const activations[] = {"none", "relu", "sigmoid", "tanh", NULL};

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_dense_maps_attrs, channels_last, PCNN_ATTR_BOOL, "False"),
    {"activation", PCNN_ATTR_CHOICE, offsetof(pcnn_dense_maps_attrs, activation), "none",
     activations},
    {NULL, PCNN_ATTR_INT, 0, NULL, NULL},
};

static const pcnn_attr dx_attrs[] = {
    PCNN_ATTR(pcnn_dense_maps_dx_attrs, channels_last, PCNN_ATTR_BOOL, "False"),
    PCNN_ATTR(pcnn_dense_maps_dx_attrs, maps, PCNN_ATTR_INTS, NULL),
    {NULL, PCNN_ATTR_INT, 0, NULL, NULL},
};

static const pcnn_attr dw_attrs[] = {
    PCNN_ATTR(pcnn_dense_maps_dw_attrs, channels_last, PCNN_ATTR_BOOL, "False"),
    {NULL, PCNN_ATTR_INT, 0, NULL, NULL},
};

static const pcnn_impl impls[] = {
    {.name = "n16", .n16_in = 1, .workspace = workspace_n16, .run = run_n16},
    {.name = "reference", .run = run_reference},
    {.name = NULL},
};

static const pcnn_impl dx_impls[] = {
    {.name = "n16", .n16_out = 1, .workspace = workspace_dx, .run = run_dx_n16},
    {.name = "reference", .run = run_dx_reference},
    {.name = NULL},
};

static const pcnn_impl dw_impls[] = {
    {.name = "n16", .n16_in = 1, .workspace = workspace_dw, .run = run_dw_n16},
    {.name = "reference", .run = run_dw_reference},
    {.name = NULL},
};

const pcnn_op pcnn_op_dense_maps = {
    .name = "dense_maps",
    .doc = "y = flatten(x) w + b, a fully connected layer on maps.\n"
           "\n"
           "x [N, C, H, W], w [C*H*W, O], b [O] -> y [N, O]; w's rows are in the order C,H,W, or\n"
           "H,W,C with channels_last.\n"
           "ShapeError: ranks, features or b do not fit. TypeError: dtypes differ or no floats.",
    .n_in = 3,
    .params = {{"x", false}, {"w", false}, {"b", true}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_dense_maps_attrs),
    .saves_in = 1 | 2,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};

const pcnn_op pcnn_op_dense_maps_dx = {
    .name = "dense_maps_dx",
    .doc = "The gradient of dense_maps with respect to x.\n"
           "\n"
           "dy [N, O], w [C*H*W, O] -> dx [N, C, H, W]; maps = (C, H, W).",
    .n_in = 2,
    .params = {{"dy", false}, {"w", false}},
    .n_out = 1,
    .out_names = {"dx"},
    .attrs = dx_attrs,
    .attrs_size = sizeof(pcnn_dense_maps_dx_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_dx,
    .impls = dx_impls,
};

const pcnn_op pcnn_op_dense_maps_dw = {
    .name = "dense_maps_dw",
    .doc = "The gradient of dense_maps with respect to w.\n"
           "\n"
           "x [N, C, H, W], dy [N, O] -> dw [C*H*W, O].",
    .n_in = 2,
    .params = {{"x", false}, {"dy", false}},
    .n_out = 1,
    .out_names = {"dw"},
    .attrs = dw_attrs,
    .attrs_size = sizeof(pcnn_dense_maps_dw_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_dw,
    .impls = dw_impls,
};
