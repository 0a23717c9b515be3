/* conv2d: y[n][oc][oh][ow] = activation(b[oc] + sum over c, i, j of
 *                             w[oc][c][i][j] x[n][c][oh*SH-PT+i][ow*SW-PL+j])
 *
 * x outside its H x W counts as 0 (padding); the kernel is not mirrored, as in every network
 * library. OH = (H + PT + PB - KH) / SH + 1, rounded down, and OW likewise.
 *
 * Backward needs x and w: dx is conv2d_dx(dy, w), dw and db are conv2d_dw(x, dy). The activation is
 * set by the plan after differentiation; there is no gradient through it here.
 * Dilation and groups are not handled. */
#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/activation.h"
#include "ops/conv2d.h"
#include "ops/winograd.h"

/* Sizes that stay far from overflow in sums and products of two. */
static const int64_t largest = INT32_MAX;

static int64_t
first(const pcnn_ints *ints)
{
    return ints->at[0];
}

static int64_t
second(const pcnn_ints *ints)
{
    return ints->at[ints->n > 1 ? 1 : 0];
}

/* One int stands for all four sides. */
static int64_t
side(const pcnn_ints *padding, int i)
{
    return padding->n == 4 ? padding->at[i] : padding->at[0];
}

pcnn_status
pcnn_conv2d_output(const char *op, const int64_t size[2], const int64_t kernel[2],
                   const pcnn_ints *stride, const pcnn_ints *padding, int64_t out[2])
{
    if (stride->n != 1 && stride->n != 2)
        return pcnn_fail(PCNN_ERR_VALUE,
                         "%s: stride must be one int or two (height, width), got %lld ints", op,
                         (long long)stride->n);
    const int64_t SH = first(stride), SW = second(stride);
    if (SH < 1 || SW < 1 || SH > largest || SW > largest)
        return pcnn_fail(PCNN_ERR_VALUE, "%s: stride must be 1 or more, got (%lld, %lld)", op,
                         (long long)SH, (long long)SW);
    if (padding->n != 1 && padding->n != 4)
        return pcnn_fail(PCNN_ERR_VALUE,
                         "%s: padding must be one int or four (top, bottom, left, right), got %lld "
                         "ints",
                         op, (long long)padding->n);
    for (int i = 0; i < 4; i++)
        if (side(padding, i) < 0 || side(padding, i) > largest)
            return pcnn_fail(PCNN_ERR_VALUE, "%s: padding must not be negative, got %lld", op,
                             (long long)side(padding, i));
    const int64_t padded[2] = {size[0] + side(padding, 0) + side(padding, 1),
                               size[1] + side(padding, 2) + side(padding, 3)};
    if (kernel[0] < 1 || kernel[1] < 1)
        return pcnn_fail(PCNN_ERR_SHAPE, "%s: kernel %lldx%lld must be at least 1x1", op,
                         (long long)kernel[0], (long long)kernel[1]);
    if (size[0] < 1 || size[1] < 1)
        return pcnn_fail(PCNN_ERR_SHAPE, "%s: the input maps are empty (%lldx%lld)", op,
                         (long long)size[0], (long long)size[1]);
    if (kernel[0] > padded[0] || kernel[1] > padded[1])
        return pcnn_fail(
            PCNN_ERR_SHAPE, "%s: kernel %lldx%lld is larger than the padded input %lldx%lld", op,
            (long long)kernel[0], (long long)kernel[1], (long long)padded[0], (long long)padded[1]);
    out[0] = (padded[0] - kernel[0]) / SH + 1;
    out[1] = (padded[1] - kernel[1]) / SW + 1;
    return PCNN_OK;
}

pcnn_conv2d_geometry
pcnn_conv2d_geometry_of(const pcnn_type *x, const pcnn_type *w, const pcnn_ints *stride,
                        const pcnn_ints *padding)
{
    int64_t out[2] = {0, 0};
    /* Checked when recorded; the message of a failure here could not be reached. */
    (void)pcnn_conv2d_output("conv2d", &x->shape[2], &w->shape[2], stride, padding, out);
    const int64_t KH = w->shape[2], KW = w->shape[3];
    return (pcnn_conv2d_geometry){
        .C = x->shape[1],
        .H = x->shape[2],
        .W = x->shape[3],
        .OC = w->shape[0],
        .OH = out[0],
        .OW = out[1],
        .KH = KH,
        .KW = KW,
        .SH = first(stride),
        .SW = second(stride),
        .PT = side(padding, 0),
        .PL = side(padding, 2),
        .y_channel = out[0] * out[1],
        .y_row = out[1],
        .y_column = 1,
        .w_out = x->shape[1] * KH * KW,
        .w_in = KH * KW,
        .w_row = KW,
        .w_column = 1,
        .activation = PCNN_ACT_NONE,
    };
}

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_conv2d_attrs *attrs = call->attrs;
    const pcnn_type *x = &call->in[0], *w = &call->in[1];
    for (int i = 0; i < 3; i++)
        PCNN_TRY(pcnn_expect_float(call, i));
    PCNN_TRY(pcnn_expect_rank(call, 0, 4));
    PCNN_TRY(pcnn_expect_rank(call, 1, 4));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 2));
    PCNN_TRY(pcnn_expect_shape1(call, 2, w->shape[0], "one for each output channel of w"));
    if (x->shape[1] != w->shape[1]) {
        char x_text[PCNN_SHAPE_TEXT], w_text[PCNN_SHAPE_TEXT];
        return pcnn_fail(
            PCNN_ERR_SHAPE,
            "conv2d: x has %lld channels but w expects %lld (x has shape %s = N,C,H,W; "
            "w has shape %s = OC,C,KH,KW)",
            (long long)x->shape[1], (long long)w->shape[1], pcnn_shape_text(x, x_text),
            pcnn_shape_text(w, w_text));
    }
    *out = (pcnn_type){.dtype = x->dtype, .ndim = 4, .shape = {x->shape[0], w->shape[0]}};
    return pcnn_conv2d_output("conv2d", &x->shape[2], &w->shape[2], &attrs->stride, &attrs->padding,
                              &out->shape[2]);
}

static pcnn_status
gradient(pcnn_grad *grad)
{
    const pcnn_conv2d_attrs *attrs = grad->attrs;
    pcnn_value *x = grad->in[0], *w = grad->in[1], *dy = grad->dout[0];
    if (attrs->activation != PCNN_ACT_NONE)
        return pcnn_fail(PCNN_ERR_NOT_IMPLEMENTED,
                         "conv2d: no gradient through a fused activation; differentiate first");
    if (grad->wanted[0]) {
        pcnn_conv2d_dx_attrs dx = {.stride = attrs->stride, .padding = attrs->padding};
        const pcnn_type *type = pcnn_value_type(x);
        dx.size = (pcnn_ints){.n = 2, .at = {type->shape[2], type->shape[3]}};
        PCNN_TRY(PCNN_EMIT(grad, &grad->din[0], conv2d_dx, &dx, dy, w));
    }
    const bool bias = grad->n_in > 2 && grad->in[2] != NULL && grad->wanted[2];
    if (grad->wanted[1] || bias) {
        pcnn_conv2d_dw_attrs dw = {
            .stride = attrs->stride, .padding = attrs->padding, .bias = bias};
        const pcnn_type *type = pcnn_value_type(w);
        dw.kernel = (pcnn_ints){.n = 2, .at = {type->shape[2], type->shape[3]}};
        pcnn_value *out[2];
        PCNN_TRY(PCNN_EMIT(grad, out, conv2d_dw, &dw, x, dy));
        if (grad->wanted[1])
            grad->din[1] = out[0];
        else
            pcnn_value_release(out[0]);
        if (bias)
            grad->din[2] = out[1];
        else
            pcnn_value_release(out[1]);
    }
    return PCNN_OK;
}

static pcnn_conv2d_geometry
geometry_of(const pcnn_site *site)
{
    const pcnn_conv2d_attrs *attrs = site->attrs;
    pcnn_conv2d_geometry g = pcnn_conv2d_geometry_of(&site->in[0].type, &site->in[1].type,
                                                     &attrs->stride, &attrs->padding);
    g.activation = attrs->activation;
    return g;
}

static int64_t
workspace_n16(const pcnn_site *site)
{
    const pcnn_conv2d_geometry g = geometry_of(site);
    return pcnn_conv2d_packed_bytes(site->in[0].type.dtype, &g);
}

static pcnn_status
run_n16(const pcnn_site *site)
{
    const pcnn_conv2d_geometry g = geometry_of(site);
    const pcnn_tensor *x = &site->in[0];
    pcnn_conv2d_n16_run(x->type.dtype, &g, x->type.shape[0], x->data, site->in[1].data,
                        site->n_in > 2 ? site->in[2].data : NULL, site->out[0].data, site->work);
    return PCNN_OK;
}

/* ---- at the head of a chain ---- */

static int64_t
source_width(const pcnn_site *site)
{
    return pcnn_kernels_for(site->in[0].type.dtype)->conv2d_channels();
}

static double
source_prepare(const pcnn_site *site, int64_t tiles)
{
    const pcnn_conv2d_geometry g = geometry_of(site);
    const pcnn_type *x = &site->in[0].type;
    return pcnn_conv2d_n16_pack(x->dtype, &g, x->shape[0], site->in[1].data, tiles, site->work);
}

static void
source_fill(const pcnn_site *site, int64_t block, int64_t tile, int64_t tiles, void *planes)
{
    const pcnn_conv2d_geometry g = geometry_of(site);
    const pcnn_tensor *x = &site->in[0];
    pcnn_conv2d_n16_fill(x->type.dtype, &g, x->type.shape[0], x->data,
                         site->n_in > 2 ? site->in[2].data : NULL, site->work, block, tile, tiles,
                         planes);
}

/* To store a map takes a write of memory, which reads it first, and a read when it is used: as long
 * as some sixteen multiply-adds an element. What other activations cost is more. */
static bool
source_is_cheap(const pcnn_site *site)
{
    const pcnn_conv2d_geometry g = geometry_of(site);
    return g.C * g.KH * g.KW <= 16 &&
           (g.activation == PCNN_ACT_NONE || g.activation == PCNN_ACT_RELU);
}

static const pcnn_source source = {source_width, source_prepare, source_fill, source_is_cheap};
static const pcnn_planes planes = {.source = &source};

static const char *
refuse_winograd(const pcnn_site *site)
{
    pcnn_conv2d_geometry g = geometry_of(site);
    return pcnn_winograd_forward(site->in[0].type.dtype, &g, site->in[0].type.shape[0]);
}

static int64_t
workspace_winograd(const pcnn_site *site)
{
    const pcnn_conv2d_geometry g = geometry_of(site);
    return pcnn_winograd_bytes(site->in[0].type.dtype, &g, site->in[0].type.shape[0]);
}

static pcnn_status
run_winograd(const pcnn_site *site)
{
    const pcnn_conv2d_geometry g = geometry_of(site);
    const pcnn_tensor *x = &site->in[0];
    pcnn_winograd_run(x->type.dtype, &g, x->type.shape[0], x->data, site->in[1].data,
                      site->n_in > 2 ? site->in[2].data : NULL, site->out[0].data, site->work);
    return PCNN_OK;
}

static void
reference_images(void *context, int64_t begin, int64_t end, int worker)
{
    const pcnn_site *site = context;
    const pcnn_conv2d_geometry g = geometry_of(site);
    const pcnn_dtype dtype = site->in[0].type.dtype;
    const pcnn_kernels *kernels = pcnn_kernels_for(dtype);
    const int64_t size = (int64_t)pcnn_dtype_size(dtype), pixels = g.OH * g.OW;
    (void)worker;
    for (int64_t n = begin; n < end; n++) {
        char *y = (char *)site->out[0].data + n * g.OC * pixels * size;
        kernels->conv2d_reference(&g, (const char *)site->in[0].data + n * g.C * g.H * g.W * size,
                                  site->in[1].data, site->n_in > 2 ? site->in[2].data : NULL, y);
        if (g.activation != PCNN_ACT_NONE)
            kernels->bias_activation(y, g.OC, pixels, pixels, NULL, 0, 0, g.activation);
    }
}

static pcnn_status
run_reference(const pcnn_site *site)
{
    const pcnn_conv2d_geometry g = geometry_of(site);
    const int64_t N = site->in[0].type.shape[0];
    const double flops = 2.0 * (double)(N * g.OC * g.C) * (double)(g.KH * g.KW * g.OH * g.OW);
    pcnn_parallel(N, 1, flops, reference_images, (void *)site);
    return PCNN_OK;
}

static const char *const activations[] = {"none", "relu", "sigmoid", "tanh", NULL};

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_conv2d_attrs, stride, PCNN_ATTR_INTS, "(1, 1)"),
    PCNN_ATTR(pcnn_conv2d_attrs, padding, PCNN_ATTR_INTS, "(0, 0, 0, 0)"),
    {"activation", PCNN_ATTR_CHOICE, offsetof(pcnn_conv2d_attrs, activation), "none", activations},
    {NULL, PCNN_ATTR_INT, 0, NULL, NULL},
};

static const pcnn_impl impls[] = {
    {.name = "winograd",
     .n16_in = 1,
     .n16_out = 1,
     .refuse = refuse_winograd,
     .workspace = workspace_winograd,
     .run = run_winograd},
    {.name = "n16",
     .n16_in = 1,
     .n16_out = 1,
     .workspace = workspace_n16,
     .run = run_n16,
     .planes = &planes},
    {.name = "rows", .workspace = pcnn_conv2d_rows_workspace, .run = pcnn_conv2d_rows_run},
    {.name = "im2col",
     .refuse = pcnn_conv2d_im2col_refuse,
     .workspace = pcnn_conv2d_im2col_workspace,
     .run = pcnn_conv2d_im2col},
    {.name = "reference", .run = run_reference},
    {.name = NULL},
};

const pcnn_op pcnn_op_conv2d = {
    .name = "conv2d",
    .doc =
        "y = x * w + b, the convolution of images: every output is a weighted sum over a window.\n"
        "\n"
        "x [N, C, H, W], w [OC, C, KH, KW], b [OC] -> y [N, OC, OH, OW] with\n"
        "OH = (H + top + bottom - KH) // stride + 1, OW likewise.\n"
        "stride: two ints (height, width) or one for both.\n"
        "padding: four ints (top, bottom, left, right) or one for all; outside, x counts as 0.\n"
        "ShapeError: ranks, channels or b do not fit, or the kernel exceeds the padded input.\n"
        "ValueError: a stride below 1, negative padding. TypeError: dtypes differ or no floats.",
    .n_in = 3,
    .params = {{"x", false}, {"w", false}, {"b", true}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_conv2d_attrs),
    .saves_in = 1 | 2,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};
