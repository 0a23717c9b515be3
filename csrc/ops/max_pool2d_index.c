/* max_pool2d_index and max_pool2d_scatter: max pooling that remembers where each maximum was, and
 * the gradient that is made from it.
 *
 *     max_pool2d_index:    y as max_pool2d, index = the position of the first maximum in its window
 *     max_pool2d_scatter:  dx = the gradients dy of all windows whose first maximum is here
 *
 * The plan makes them of max_pool2d and max_pool2d_grad where one plan holds both: backward then
 * reads a byte for each pooled element and not the maps x and y, four bytes an element, and x need
 * not be kept. Where x was made by relu whose gradient follows (attribute `relu_input`), positions
 * with y <= 0 are -1 and the mask x > 0 comes with them: x > 0 at the maximum is y > 0.
 * First maximum, NaN and the order of sums are those of max_pool2d and its gradient, bit for bit.
 * Not handled: windows of more than 127 taps. */
#include <string.h>

#include "isa/kernels.h"
#include "ops/max_pool2d.h"

typedef void (*index_kernel)(const void *, const void *, void *, int8_t *, bool);
typedef void (*scatter_kernel)(const void *, const void *, const int8_t *, void *);

pcnn_type
pcnn_max_pool2d_index_type(const pcnn_type *y)
{
    const int64_t *shape = y->shape;
    const int64_t blocks = (shape[0] + PCNN_BLOCK - 1) / PCNN_BLOCK;
    return (pcnn_type){
        .dtype = PCNN_U8, .ndim = 5, .shape = {blocks, shape[1], shape[2], shape[3], PCNN_BLOCK}};
}

/* A map is sixteen images' channel in N16, and one image's in plain layout, whose positions stand
 * sixteen apart. */
typedef struct {
    pcnn_pool2d geometry;
    index_kernel index_map;
    scatter_kernel scatter_map;
    bool relu;
    const char *source; /* x, or dy */
    char *target;       /* y, or dx */
    int8_t *index;
    int64_t source_bytes, target_bytes; /* of one map */
    int64_t index_bytes;                /* of sixteen images' map */
    int64_t C;
    bool n16;
} job;

static int8_t *
index_of(const job *job, int64_t map)
{
    if (job->n16)
        return job->index + map * job->index_bytes;
    const int64_t n = map / job->C, c = map % job->C;
    return job->index + (n / PCNN_BLOCK * job->C + c) * job->index_bytes + n % PCNN_BLOCK;
}

static void
index_task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    for (int64_t m = begin; m < end; m++)
        job->index_map(&job->geometry, job->source + m * job->source_bytes,
                       job->target + m * job->target_bytes, index_of(job, m), job->relu);
}

static void
scatter_task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    for (int64_t m = begin; m < end; m++)
        job->scatter_map(&job->geometry, job->source + m * job->source_bytes, index_of(job, m),
                         job->target + m * job->target_bytes);
}

/* `large` is x or dx, `small` y or dy. */
static void
fill_job(job *job, const pcnn_window2d *window, const pcnn_tensor *large, const pcnn_tensor *small)
{
    pcnn_pool2d_geometry(window, large, small, &job->geometry);
    job->n16 = large->layout == PCNN_N16;
    job->C = large->type.shape[1];
    job->index_bytes = job->geometry.OH * job->geometry.OW * PCNN_BLOCK;
}

static const pcnn_kernels *
kernels(const pcnn_site *site)
{
    return pcnn_kernels_for(site->in[0].type.dtype);
}

/* ---- forward ---- */

static pcnn_status
infer_index(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(pcnn_pool2d_infer(call, call->attrs, &out[0]));
    out[1] = pcnn_max_pool2d_index_type(&out[0]);
    return PCNN_OK;
}

static pcnn_status
run_index(const pcnn_site *site, index_kernel kernel)
{
    const pcnn_max_pool2d_grad_attrs *a = site->attrs;
    const pcnn_tensor *x = &site->in[0], *y = &site->out[0];
    job job = {.index_map = kernel,
               .relu = a->relu_input != 0,
               .source = x->data,
               .target = y->data,
               .index = site->out[1].data,
               .source_bytes = pcnn_pool2d_map_bytes(x),
               .target_bytes = pcnn_pool2d_map_bytes(y)};
    fill_job(&job, &a->window, x, y);
    if (!job.n16) /* no image writes the positions that pad the last block */
        memset(job.index, 0, (size_t)pcnn_type_size(&site->out[1].type));
    pcnn_pool2d_share_out(&job.geometry, x, index_task, &job);
    return PCNN_OK;
}

static pcnn_status
run_index_2x2(const pcnn_site *site)
{
    return run_index(site, kernels(site)->max_pool2d_index_2x2);
}

static pcnn_status
run_index_n16(const pcnn_site *site)
{
    return run_index(site, kernels(site)->max_pool2d_index_n16);
}

static pcnn_status
run_index_plain(const pcnn_site *site)
{
    return run_index(site, kernels(site)->max_pool2d_index_plain);
}

/* In a chain: positions are no N16 value, and always lie in one piece. `row` is of the pooled map. */
static int8_t *
index_of_plane(const job *job, void *index, const pcnn_plane *plane, int64_t row)
{
    return (int8_t *)index + (plane->block * job->C + plane->channel) * job->index_bytes +
           row * job->geometry.OW * PCNN_BLOCK;
}

static void
index_plane(const pcnn_site *site, const pcnn_plane *plane, index_kernel kernel)
{
    const pcnn_max_pool2d_grad_attrs *a = site->attrs;
    job job;
    fill_job(&job, &a->window, &site->in[0], &site->out[0]);
    const int64_t row = pcnn_pool2d_cut(&job.geometry, plane, false);
    kernel(&job.geometry, plane->in[0], plane->out[0],
           index_of_plane(&job, plane->out[1], plane, row), a->relu_input != 0);
}

static void
index_plane_2x2(const pcnn_site *site, const pcnn_plane *plane)
{
    index_plane(site, plane, kernels(site)->max_pool2d_index_2x2);
}

static void
index_plane_n16(const pcnn_site *site, const pcnn_plane *plane)
{
    index_plane(site, plane, kernels(site)->max_pool2d_index_n16);
}

static int64_t
index_plane_rows(const pcnn_site *site, int k)
{
    return pcnn_pool2d_rows(site->attrs, k == 0);
}

static const pcnn_planes index_planes_2x2 = {.apply = index_plane_2x2, .rows = index_plane_rows},
                         index_planes_n16 = {.apply = index_plane_n16, .rows = index_plane_rows};

static const pcnn_impl index_impls[] = {
    {.name = "n16_2x2",
     .n16_in = 1,
     .n16_out = 1,
     .refuse = pcnn_pool2d_refuse_other_than_2x2,
     .run = run_index_2x2,
     .planes = &index_planes_2x2},
    {.name = "n16", .n16_in = 1, .n16_out = 1, .run = run_index_n16, .planes = &index_planes_n16},
    {.name = "reference", .run = run_index_plain},
    {.name = NULL},
};

const pcnn_op pcnn_op_max_pool2d_index = {
    .name = "max_pool2d_index",
    .doc = "max_pool2d that also gives the position of each maximum in its window.",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 2,
    .out_names = {"y", "index"},
    .attrs = pcnn_max_pool2d_grad_attr_list,
    .attrs_size = sizeof(pcnn_max_pool2d_grad_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_index,
    .impls = index_impls,
};

/* ---- backward ---- */

static pcnn_status
infer_scatter(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_max_pool2d_scatter_attrs *a = call->attrs;
    *out = call->in[0];
    out->shape[2] = a->height;
    out->shape[3] = a->width;
    return PCNN_OK;
}

static pcnn_status
run_scatter(const pcnn_site *site, scatter_kernel kernel)
{
    const pcnn_max_pool2d_scatter_attrs *a = site->attrs;
    const pcnn_tensor *dy = &site->in[0], *dx = &site->out[0];
    job job = {.scatter_map = kernel,
               .source = dy->data,
               .target = dx->data,
               .index = site->in[1].data,
               .source_bytes = pcnn_pool2d_map_bytes(dy),
               .target_bytes = pcnn_pool2d_map_bytes(dx)};
    fill_job(&job, &a->window, dx, dy);
    pcnn_pool2d_share_out(&job.geometry, dx, scatter_task, &job);
    return PCNN_OK;
}

static pcnn_status
run_scatter_2x2(const pcnn_site *site)
{
    return run_scatter(site, kernels(site)->max_pool2d_scatter_2x2);
}

static pcnn_status
run_scatter_n16(const pcnn_site *site)
{
    return run_scatter(site, kernels(site)->max_pool2d_scatter_n16);
}

static pcnn_status
run_scatter_plain(const pcnn_site *site)
{
    return run_scatter(site, kernels(site)->max_pool2d_scatter_plain);
}

static const pcnn_attr scatter_attrs[] = {
    PCNN_WINDOW2D_ATTRS(0),
    PCNN_ATTR(pcnn_max_pool2d_scatter_attrs, height, PCNN_ATTR_INT, NULL),
    PCNN_ATTR(pcnn_max_pool2d_scatter_attrs, width, PCNN_ATTR_INT, NULL),
    {NULL, 0, 0, NULL, NULL},
};

static void
scatter_plane(const pcnn_site *site, const pcnn_plane *plane, scatter_kernel kernel)
{
    const pcnn_max_pool2d_scatter_attrs *a = site->attrs;
    job job;
    fill_job(&job, &a->window, &site->out[0], &site->in[0]);
    const int64_t row = pcnn_pool2d_cut(&job.geometry, plane, true);
    kernel(&job.geometry, plane->in[0], index_of_plane(&job, site->in[1].data, plane, row),
           plane->out[0]);
}

static void
scatter_plane_2x2(const pcnn_site *site, const pcnn_plane *plane)
{
    scatter_plane(site, plane, kernels(site)->max_pool2d_scatter_2x2);
}

static void
scatter_plane_n16(const pcnn_site *site, const pcnn_plane *plane)
{
    scatter_plane(site, plane, kernels(site)->max_pool2d_scatter_n16);
}

/* Inputs dy and positions; output dx. */
static int64_t
scatter_plane_rows(const pcnn_site *site, int k)
{
    return pcnn_pool2d_rows(site->attrs, k == 2);
}

static const pcnn_planes scatter_planes_2x2 = {
    .apply = scatter_plane_2x2, .rows = scatter_plane_rows, .cheap = true};
static const pcnn_planes scatter_planes_n16 = {
    .apply = scatter_plane_n16, .rows = scatter_plane_rows, .cheap = true};

static const pcnn_impl scatter_impls[] = {
    {.name = "n16_2x2",
     .n16_in = 1,
     .n16_out = 1,
     .refuse = pcnn_pool2d_refuse_other_than_2x2,
     .run = run_scatter_2x2,
     .planes = &scatter_planes_2x2},
    {.name = "n16",
     .n16_in = 1,
     .n16_out = 1,
     .run = run_scatter_n16,
     .planes = &scatter_planes_n16},
    {.name = "reference", .run = run_scatter_plain},
    {.name = NULL},
};

const pcnn_op pcnn_op_max_pool2d_scatter = {
    .name = "max_pool2d_scatter",
    .doc = "dx of max_pool2d from dy and the positions of the maxima.",
    .n_in = 2,
    .params = {{"dy", false}, {"index", false}},
    .n_out = 1,
    .out_names = {"dx"},
    .attrs = scatter_attrs,
    .attrs_size = sizeof(pcnn_max_pool2d_scatter_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_scatter,
    .impls = scatter_impls,
};
