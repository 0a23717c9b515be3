/* conv2d_dx: the gradient of conv2d's input,
 *
 *     dx[n][c][h][v] = sum over oc, i, j of w[oc][c][i][j] dy[n][oc][(h+PT-i)/SH][(v+PL-j)/SW]
 *
 * over those i, j for which the quotients are whole and inside dy.
 *
 * In N16 this is gathered, not scattered: the rows h = r, r + SH, r + 2 SH, ... see the same kernel
 * rows i = a, a + SH, ... with a = (r + PT) mod SH, so each of the SH x SW sub-grids of dx is a
 * convolution of dy of stride 1 with the mirrored sub-kernel: the forward kernel again, with exactly
 * the multiply-adds that are needed. Has no gradient of its own. */
#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/activation.h"
#include "ops/conv2d.h"
#include "ops/winograd.h"

/* The geometry of the forward pass that this is the gradient of. */
static pcnn_conv2d_geometry
forward_of(const pcnn_site *site)
{
    const pcnn_conv2d_dx_attrs *attrs = site->attrs;
    return pcnn_conv2d_geometry_of(&site->out[0].type, &site->in[1].type, &attrs->stride,
                                   &attrs->padding);
}

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_conv2d_dx_attrs *attrs = call->attrs;
    const pcnn_type *dy = &call->in[0], *w = &call->in[1];
    int64_t expected[2];
    PCNN_TRY(pcnn_expect_float(call, 0));
    PCNN_TRY(pcnn_expect_rank(call, 0, 4));
    PCNN_TRY(pcnn_expect_rank(call, 1, 4));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    PCNN_TRY(pcnn_conv2d_output("conv2d_dx", attrs->size.at, &w->shape[2], &attrs->stride,
                                &attrs->padding, expected));
    if (dy->shape[1] != w->shape[0] || dy->shape[2] != expected[0] || dy->shape[3] != expected[1]) {
        char text[PCNN_SHAPE_TEXT];
        return pcnn_fail(PCNN_ERR_SHAPE,
                         "conv2d_dx: dy must have shape (N, %lld, %lld, %lld), got %s",
                         (long long)w->shape[0], (long long)expected[0], (long long)expected[1],
                         pcnn_shape_text(dy, text));
    }
    *out = (pcnn_type){.dtype = dy->dtype,
                       .ndim = 4,
                       .shape = {dy->shape[0], w->shape[1], attrs->size.at[0], attrs->size.at[1]}};
    return PCNN_OK;
}

/* One dimension of a sub-grid: positions r + stride * u, u = 0 .. count-1, see `taps` taps
 * first + stride * t, t = 0 .. taps-1; mirrored, tap 0 meets dy at u - padding. */
typedef struct {
    int64_t count, first, taps, padding;
} phase;

static phase
phase_of(int64_t r, int64_t extent, int64_t kernel, int64_t stride, int64_t padding)
{
    phase p;
    p.count = (extent - r + stride - 1) / stride;
    p.first = (r + padding) % stride;
    p.taps = p.first < kernel ? (kernel - p.first + stride - 1) / stride : 0;
    p.padding = p.taps - 1 - (r + padding - p.first) / stride;
    return p;
}

static int64_t
smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static pcnn_conv2d_geometry
sub_geometry(const pcnn_conv2d_geometry *f, phase row, phase column)
{
    return (pcnn_conv2d_geometry){
        .C = f->OC,
        .H = f->OH,
        .W = f->OW,
        .OC = f->C,
        .OH = row.count,
        .OW = column.count,
        .KH = row.taps,
        .KW = column.taps,
        .SH = 1,
        .SW = 1,
        .PT = row.padding,
        .PL = column.padding,
        .y_channel = f->H * f->W,
        .y_row = f->SH * f->W,
        .y_column = f->SW,
        /* The last tap first: the kernel is mirrored. */
        .w_origin =
            (row.first + (row.taps - 1) * f->SH) * f->KW + column.first + (column.taps - 1) * f->SW,
        .w_out = f->KH * f->KW,
        .w_in = f->C * f->KH * f->KW,
        .w_row = -f->SH * f->KW,
        .w_column = -f->SW,
        .activation = PCNN_ACT_NONE,
    };
}

static int64_t
workspace_n16(const pcnn_site *site)
{
    const pcnn_conv2d_geometry f = forward_of(site);
    return pcnn_conv2d_packed_bytes(site->in[0].type.dtype, &f);
}

static pcnn_status
run_n16(const pcnn_site *site)
{
    const pcnn_conv2d_geometry f = forward_of(site);
    const pcnn_tensor *dy = &site->in[0];
    const int64_t size = (int64_t)pcnn_dtype_size(dy->type.dtype);
    for (int64_t r = 0; r < smaller(f.SH, f.H); r++)
        for (int64_t q = 0; q < smaller(f.SW, f.W); q++) {
            const pcnn_conv2d_geometry g = sub_geometry(&f, phase_of(r, f.H, f.KH, f.SH, f.PT),
                                                        phase_of(q, f.W, f.KW, f.SW, f.PL));
            pcnn_conv2d_n16_run(dy->type.dtype, &g, dy->type.shape[0], dy->data, site->in[1].data,
                                NULL, (char *)site->out[0].data + (r * f.W + q) * PCNN_BLOCK * size,
                                site->work);
        }
    return PCNN_OK;
}

static const char *
refuse_winograd(const pcnn_site *site)
{
    pcnn_conv2d_geometry f = forward_of(site);
    return pcnn_winograd_dx(site->in[0].type.dtype, &f, site->in[0].type.shape[0]);
}

static int64_t
workspace_winograd(const pcnn_site *site)
{
    const pcnn_conv2d_geometry f = forward_of(site);
    return pcnn_winograd_dx_bytes(site->in[0].type.dtype, &f, site->in[0].type.shape[0]);
}

static pcnn_status
run_winograd(const pcnn_site *site)
{
    const pcnn_conv2d_geometry f = forward_of(site);
    const pcnn_tensor *dy = &site->in[0];
    pcnn_winograd_dx_run(dy->type.dtype, &f, dy->type.shape[0], dy->data, site->in[1].data,
                         site->out[0].data, site->work);
    return PCNN_OK;
}

static void
reference_images(void *context, int64_t begin, int64_t end, int worker)
{
    const pcnn_site *site = context;
    const pcnn_conv2d_geometry g = forward_of(site);
    const pcnn_dtype dtype = site->in[0].type.dtype;
    const int64_t size = (int64_t)pcnn_dtype_size(dtype);
    (void)worker;
    for (int64_t n = begin; n < end; n++)
        pcnn_kernels_for(dtype)->conv2d_dx_reference(
            &g, (const char *)site->in[0].data + n * g.OC * g.OH * g.OW * size, site->in[1].data,
            (char *)site->out[0].data + n * g.C * g.H * g.W * size);
}

static pcnn_status
run_reference(const pcnn_site *site)
{
    const pcnn_conv2d_geometry g = forward_of(site);
    const int64_t N = site->in[0].type.shape[0];
    const double flops = 2.0 * (double)(N * g.OC * g.C) * (double)(g.KH * g.KW * g.OH * g.OW);
    pcnn_parallel(N, 1, flops, reference_images, (void *)site);
    return PCNN_OK;
}

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_conv2d_dx_attrs, stride, PCNN_ATTR_INTS, "(1, 1)"),
    PCNN_ATTR(pcnn_conv2d_dx_attrs, padding, PCNN_ATTR_INTS, "(0, 0, 0, 0)"),
    PCNN_ATTR(pcnn_conv2d_dx_attrs, size, PCNN_ATTR_INTS, NULL),
    {NULL, PCNN_ATTR_INT, 0, NULL, NULL},
};

static const pcnn_impl impls[] = {
    {.name = "winograd",
     .n16_in = 1,
     .n16_out = 1,
     .refuse = refuse_winograd,
     .workspace = workspace_winograd,
     .run = run_winograd},
    {.name = "n16", .n16_in = 1, .n16_out = 1, .workspace = workspace_n16, .run = run_n16},
    {.name = "im2col",
     .refuse = pcnn_conv2d_dx_im2col_refuse,
     .workspace = pcnn_conv2d_dx_im2col_workspace,
     .run = pcnn_conv2d_dx_im2col},
    {.name = "reference", .run = run_reference},
    {.name = NULL},
};

const pcnn_op pcnn_op_conv2d_dx = {
    .name = "conv2d_dx",
    .doc = "The gradient of conv2d with respect to x.\n"
           "\n"
           "dy [N, OC, OH, OW], w [OC, C, KH, KW] -> dx [N, C, H, W]; size = (H, W).",
    .n_in = 2,
    .params = {{"dy", false}, {"w", false}},
    .n_out = 1,
    .out_names = {"dx"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_conv2d_dx_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer,
    .impls = impls,
};
