/* conv2d_dw: the gradients of conv2d's weights and bias,
 *
 *     dw[oc][c][i][j] = sum over n, oh, ow of dy[n][oc][oh][ow] x[n][c][oh*SH-PT+i][ow*SW-PL+j]
 *     db[oc] = sum over n, oh, ow of dy[n][oc][oh][ow]
 *
 * Work is cut into tiles of channels of dy, groups of parts (channels of x and taps) and, where that
 * gives too few items, ranges of blocks, whose partial sums are added in order afterwards. All of it
 * depends on shapes only. db has no elements unless the attribute `bias` asks for it.
 * Has no gradient of its own. */
#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/conv2d.h"
#include "ops/winograd.h"

static pcnn_conv2d_geometry
forward_of(const pcnn_site *site)
{
    const pcnn_conv2d_dw_attrs *attrs = site->attrs;
    return pcnn_conv2d_geometry_of(&site->in[0].type, &site->out[0].type, &attrs->stride,
                                   &attrs->padding);
}

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_conv2d_dw_attrs *attrs = call->attrs;
    const pcnn_type *x = &call->in[0], *dy = &call->in[1];
    int64_t expected[2];
    PCNN_TRY(pcnn_expect_float(call, 0));
    PCNN_TRY(pcnn_expect_rank(call, 0, 4));
    PCNN_TRY(pcnn_expect_rank(call, 1, 4));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    PCNN_TRY(pcnn_conv2d_output("conv2d_dw", &x->shape[2], attrs->kernel.at, &attrs->stride,
                                &attrs->padding, expected));
    if (dy->shape[0] != x->shape[0] || dy->shape[2] != expected[0] || dy->shape[3] != expected[1]) {
        char text[PCNN_SHAPE_TEXT];
        return pcnn_fail(PCNN_ERR_SHAPE,
                         "conv2d_dw: dy must have shape (%lld, OC, %lld, %lld), got %s",
                         (long long)x->shape[0], (long long)expected[0], (long long)expected[1],
                         pcnn_shape_text(dy, text));
    }
    out[0] =
        (pcnn_type){.dtype = x->dtype,
                    .ndim = 4,
                    .shape = {dy->shape[1], x->shape[1], attrs->kernel.at[0], attrs->kernel.at[1]}};
    out[1] = (pcnn_type){.dtype = x->dtype, .ndim = 1, .shape = {attrs->bias ? dy->shape[1] : 0}};
    return PCNN_OK;
}

/* ---- N16 ---- */

enum { MIN_ITEMS = 32 };

typedef struct {
    const pcnn_site *site;
    const pcnn_kernels *kernels;
    pcnn_conv2d_geometry g;
    bool bias, by_taps; /* by_taps: the kernel for few channels of x, which has no groups */
    int64_t N, blocks, size;        /* size: bytes of a real */
    int64_t tiles, groups, ranges;  /* the items */
    int64_t weights, biases;        /* elements of dw and db */
    double flops;
} job;

static job
job_of(const pcnn_site *site, bool by_taps)
{
    const pcnn_conv2d_dw_attrs *attrs = site->attrs;
    job job = {.site = site, .g = forward_of(site), .bias = attrs->bias != 0, .by_taps = by_taps};
    const pcnn_dtype dtype = site->in[0].type.dtype;
    job.kernels = pcnn_kernels_for(dtype);
    job.size = (int64_t)pcnn_dtype_size(dtype);
    job.N = site->in[0].type.shape[0];
    job.blocks = (job.N + PCNN_BLOCK - 1) / PCNN_BLOCK;
    job.weights = pcnn_type_size(&site->out[0].type);
    job.biases = pcnn_type_size(&site->out[1].type);
    job.tiles = by_taps ? pcnn_tiles(job.g.OC, job.kernels->conv2d_dw_taps_channels(&job.g))
                        : job.kernels->conv2d_dw_tiles(&job.g);
    job.groups = by_taps ? 1 : job.kernels->conv2d_dw_groups(&job.g);
    job.flops = 2.0 * (double)job.weights * (double)(job.g.OH * job.g.OW * job.blocks * PCNN_BLOCK);

    /* Ranges of blocks: for enough items, each worth its start (clearing and adding up totals). */
    const double worthwhile = 1e6;
    const int64_t items = job.tiles * job.groups;
    job.ranges = 1;
    if (by_taps) { /* each block by itself, as in a chain; few weights are quickly added up */
        job.ranges = job.blocks > 1 ? job.blocks : 1;
        return job;
    }
    while (job.ranges * items < MIN_ITEMS && job.ranges < job.blocks &&
           job.flops >= worthwhile * (double)(items * (job.ranges + 1)))
        job.ranges++;
    return job;
}

static int64_t
workspace_of(const job job)
{
    return job.ranges > 1 ? job.ranges * (job.weights + job.biases) * job.size : 0;
}

static int64_t
workspace_n16(const pcnn_site *site)
{
    return workspace_of(job_of(site, false));
}

static int64_t
workspace_taps(const pcnn_site *site)
{
    return workspace_of(job_of(site, true));
}

/* Few channels leave registers of a tile of channels empty; three do not, but then the gradient of
 * the map can be made and taken in one chain. */
static const char *
refuse_taps(const pcnn_site *site)
{
    const pcnn_conv2d_geometry g = forward_of(site);
    if (g.C < 1 || g.C > 3)
        return "x has not one to three channels";
    if (g.OC * g.OH * g.OW == 0)
        return "dy is empty";
    const pcnn_kernels *kernels = pcnn_kernels_for(site->in[0].type.dtype);
    return kernels->conv2d_dw_taps_channels(&g) ? NULL : "the kernel has too many taps";
}

/* Images in blocks begin .. end-1. */
static int64_t
images_between(const job *job, int64_t begin, int64_t end)
{
    const int64_t last = end * PCNN_BLOCK;
    return (last < job->N ? last : job->N) - begin * PCNN_BLOCK;
}

/* Workspace: dw of every range, then db of every range. */
static void
run_items(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    const pcnn_conv2d_geometry *g = &job->g;
    const pcnn_site *site = job->site;
    (void)worker;
    for (int64_t item = begin; item < end; item++) {
        const int64_t range = item / (job->tiles * job->groups);
        const int64_t tile = item / job->groups % job->tiles, group = item % job->groups;
        const int64_t block = pcnn_tile_begin(job->blocks, job->ranges, range);
        const int64_t end = pcnn_tile_begin(job->blocks, job->ranges, range + 1);
        const int64_t images = images_between(job, block, end);
        const int64_t x_block = g->C * g->H * g->W * PCNN_BLOCK * job->size;
        const int64_t dy_block = g->OC * g->OH * g->OW * PCNN_BLOCK * job->size;
        char *dw = site->out[0].data, *db = site->out[1].data;
        if (job->ranges > 1) {
            dw = (char *)site->work + range * job->weights * job->size;
            db =
                (char *)site->work + (job->ranges * job->weights + range * job->biases) * job->size;
        }
        const char *x = (const char *)site->in[0].data + block * x_block;
        const char *dy = (const char *)site->in[1].data + block * dy_block;
        if (!job->bias || group > 0)
            db = NULL;
        if (job->by_taps)
            job->kernels->conv2d_dw_taps(g, x, dy, dw, db, images, tile);
        else
            job->kernels->conv2d_dw_n16(g, x, dy, dw, db, images, tile, group, job->groups);
    }
}

static void
add_up_ranges(const job *job)
{
    const pcnn_site *site = job->site;
    if (job->ranges == 1)
        return;
    job->kernels->sum_parts(site->work, job->ranges, job->weights, job->weights, site->out[0].data);
    job->kernels->sum_parts((const char *)site->work + job->ranges * job->weights * job->size,
                            job->ranges, job->biases, job->biases, site->out[1].data);
}

static pcnn_status
run_job(const pcnn_site *site, job job)
{
    const double rate = site->in[0].type.dtype == PCNN_F64 ? 25 : 50;
    pcnn_parallel(job.ranges * job.tiles * job.groups, 1, job.flops / rate, run_items, &job);
    add_up_ranges(&job);
    return PCNN_OK;
}

/* ---- at the end of a chain: a tile of one block ---- */

static int64_t
sink_width(const pcnn_site *site)
{
    const pcnn_conv2d_geometry g = forward_of(site);
    return pcnn_kernels_for(site->in[0].type.dtype)->conv2d_dw_taps_channels(&g);
}

static void
sink_take(const pcnn_site *site, int64_t block, int64_t tile, int64_t tiles, const void *planes)
{
    const job job = job_of(site, true);
    const int64_t first = pcnn_tile_begin(job.g.OC, tiles, tile);
    /* A convolution with the tile's channels only. */
    pcnn_conv2d_geometry part = job.g;
    part.OC = pcnn_tile_begin(job.g.OC, tiles, tile + 1) - first;
    char *dw = site->out[0].data, *db = site->out[1].data;
    if (job.ranges > 1) {
        dw = (char *)site->work + block * job.weights * job.size;
        db = (char *)site->work + (job.ranges * job.weights + block * job.biases) * job.size;
    }
    const int64_t weights = job.g.C * job.g.KH * job.g.KW;
    const int64_t x_block = job.g.C * job.g.H * job.g.W * PCNN_BLOCK * job.size;
    job.kernels->conv2d_dw_taps(&part, (const char *)site->in[0].data + block * x_block, planes,
                                dw + first * weights * job.size,
                                job.bias ? db + first * job.size : NULL,
                                images_between(&job, block, block + 1), 0);
}

static void
sink_finish(const pcnn_site *site)
{
    const job job = job_of(site, true);
    add_up_ranges(&job);
}

static const pcnn_sink sink = {sink_width, sink_take, sink_finish};
static const pcnn_planes planes = {.sink = &sink};

static pcnn_status
run_n16(const pcnn_site *site)
{
    return run_job(site, job_of(site, false));
}

static pcnn_status
run_taps(const pcnn_site *site)
{
    return run_job(site, job_of(site, true));
}

/* ---- reference ---- */

static pcnn_status
run_reference(const pcnn_site *site)
{
    const pcnn_conv2d_geometry g = forward_of(site);
    const pcnn_kernels *kernels = pcnn_kernels_for(site->in[0].type.dtype);
    const int64_t N = site->in[0].type.shape[0];
    kernels->conv2d_dw_reference(&g, site->in[0].data, site->in[1].data, site->out[0].data, N);
    if (((const pcnn_conv2d_dw_attrs *)site->attrs)->bias)
        kernels->conv2d_db(&g, site->in[1].data, site->out[1].data, N);
    return PCNN_OK;
}

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_conv2d_dw_attrs, stride, PCNN_ATTR_INTS, "(1, 1)"),
    PCNN_ATTR(pcnn_conv2d_dw_attrs, padding, PCNN_ATTR_INTS, "(0, 0, 0, 0)"),
    PCNN_ATTR(pcnn_conv2d_dw_attrs, kernel, PCNN_ATTR_INTS, NULL),
    PCNN_ATTR(pcnn_conv2d_dw_attrs, bias, PCNN_ATTR_BOOL, "True"),
    {NULL, PCNN_ATTR_INT, 0, NULL, NULL},
};

static const pcnn_impl impls[] = {
    {.name = "winograd",
     .n16_in = 1 | 2,
     .refuse = pcnn_winograd_dw_refuse,
     .workspace = pcnn_winograd_dw_workspace,
     .run = pcnn_winograd_dw_run},
    {.name = "n16_taps",
     .n16_in = 1 | 2,
     .refuse = refuse_taps,
     .workspace = workspace_taps,
     .run = run_taps,
     .planes = &planes},
    {.name = "n16", .n16_in = 1 | 2, .workspace = workspace_n16, .run = run_n16},
    {.name = "im2col",
     .refuse = pcnn_conv2d_dw_im2col_refuse,
     .workspace = pcnn_conv2d_dw_im2col_workspace,
     .run = pcnn_conv2d_dw_im2col},
    {.name = "reference", .run = run_reference},
    {.name = NULL},
};

const pcnn_op pcnn_op_conv2d_dw = {
    .name = "conv2d_dw",
    .doc = "The gradients of conv2d with respect to w and b.\n"
           "\n"
           "x [N, C, H, W], dy [N, OC, OH, OW] -> dw [OC, C, KH, KW], db [OC] ([0] without bias);\n"
           "kernel = (KH, KW).",
    .n_in = 2,
    .params = {{"x", false}, {"dy", false}},
    .n_out = 2,
    .out_names = {"dw", "db"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_conv2d_dw_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer,
    .impls = impls,
};
