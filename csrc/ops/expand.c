/* y = x repeated along axes: the gradient of sums and means (with `mean`, divided by the number of
 * repetitions). x has y's shape with extent 1 at those axes, or without them.
 *
 * Internal: made by gradients. A gradient of its own is not needed. */
#include "core/parallel.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"

/* The shape of x when the repeated axes are kept with extent 1. */
static pcnn_type
kept_shape(const pcnn_expand_attrs *attrs, const pcnn_type *y)
{
    pcnn_type kept = *y;
    for (int64_t i = 0; i < attrs->axis.n; i++) {
        int64_t axis = attrs->axis.at[i];
        kept.shape[axis < 0 ? axis + y->ndim : axis] = 1;
    }
    for (int d = 0; d < y->ndim && attrs->axis.n < 0; d++)
        kept.shape[d] = 1;
    return kept;
}

static pcnn_status
infer_expand(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_expand_attrs *attrs = call->attrs;
    char text[PCNN_SHAPE_TEXT], other[PCNN_SHAPE_TEXT];
    PCNN_TRY(pcnn_expect_float(call, 0));
    out->dtype = call->in[0].dtype;
    if (attrs->shape.n < 0 || attrs->shape.n > PCNN_MAX_NDIM)
        return pcnn_fail(PCNN_ERR_VALUE, "expand: shape must have 0 to %d numbers", PCNN_MAX_NDIM);
    out->ndim = (int)attrs->shape.n;
    for (int d = 0; d < out->ndim; d++)
        out->shape[d] = attrs->shape.at[d];
    for (int64_t i = 0; i < attrs->axis.n; i++) {
        int axis;
        PCNN_TRY(pcnn_normalize_axis(call, attrs->axis.at[i], out->ndim, &axis));
    }
    pcnn_type kept = kept_shape(attrs, out);
    if (pcnn_type_size(&kept) != pcnn_type_size(&call->in[0]))
        return pcnn_fail(PCNN_ERR_SHAPE, "expand: x of shape %s cannot be repeated to %s",
                         pcnn_shape_text(&call->in[0], text), pcnn_shape_text(out, other));
    return PCNN_OK;
}

static double
divisor(const pcnn_site *site)
{
    const pcnn_expand_attrs *attrs = site->attrs;
    int64_t size = pcnn_type_size(&site->in[0].type);
    return attrs->mean && size > 0 ? (double)(pcnn_type_size(&site->out[0].type) / size) : 1;
}

/* Broadcasting does the rest once x has its axes back. */
static pcnn_status
run_rows(const pcnn_site *site)
{
    pcnn_tensor x = site->in[0];
    x.type = kept_shape(site->attrs, &site->out[0].type);
    pcnn_site kept = *site;
    kept.in = &x;
    const pcnn_kernels *kernels = pcnn_kernels_for(x.type.dtype);
    return pcnn_elementwise_run(&kept, kernels->expand_rows, divisor(site), false, 0.3);
}

static const char *
refuse_rows_n16(const pcnn_site *site)
{
    pcnn_tensor x = site->in[0];
    x.type = kept_shape(site->attrs, &site->out[0].type);
    pcnn_site kept = *site;
    kept.in = &x;
    return pcnn_elementwise_refuse_n16(&kept);
}

/* [N, C] repeated over rows and columns of maps. */
static const char *
refuse_maps(const pcnn_site *site)
{
    const pcnn_type *y = &site->out[0].type;
    if (y->ndim != 4 || !pcnn_is_float(y->dtype))
        return "not a rank-4 float value";
    pcnn_type kept = kept_shape(site->attrs, y);
    if (kept.shape[0] != y->shape[0] || kept.shape[1] != y->shape[1] || kept.shape[2] != 1 ||
        kept.shape[3] != 1)
        return "the axes repeated are not rows and columns";
    return NULL;
}

typedef struct {
    const pcnn_site *site;
    const pcnn_kernels *kernels;
    double divisor;
} maps_job;

static void
maps_task(void *context, int64_t begin, int64_t end, int worker)
{
    const maps_job *job = context;
    const int64_t *shape = job->site->out[0].type.shape;
    (void)worker;
    job->kernels->expand_maps_n16(job->site->in[0].data, job->site->out[0].data, shape[0], shape[1],
                                  shape[2] * shape[3], begin, end, job->divisor);
}

static pcnn_status
run_maps(const pcnn_site *site)
{
    const pcnn_type *y = &site->out[0].type;
    maps_job job = {site, pcnn_kernels_for(y->dtype), divisor(site)};
    int64_t maps = (y->shape[0] + PCNN_BLOCK - 1) / PCNN_BLOCK * y->shape[1];
    if (pcnn_type_size(y) > 0)
        pcnn_parallel(maps, 4, (double)pcnn_type_size(y) * 0.3, maps_task, &job);
    return PCNN_OK;
}

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_expand_attrs, shape, PCNN_ATTR_INTS, NULL),
    PCNN_ATTR(pcnn_expand_attrs, axis, PCNN_ATTR_INTS, "None"),
    PCNN_ATTR(pcnn_expand_attrs, mean, PCNN_ATTR_BOOL, "False"),
    {0},
};

static const pcnn_impl impls[] = {
    {"n16_maps", 0, 1, 0, refuse_maps, NULL, run_maps, NULL},
    {"n16", 0, 1, 0, refuse_rows_n16, NULL, run_rows, NULL},
    {"plain", 0, 0, 0, NULL, NULL, run_rows, NULL},
    {0},
};

const pcnn_op pcnn_op_expand = {
    .name = "expand",
    .doc = "y = x repeated along the axes `axis` to `shape`",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_expand_attrs),
    .flags = PCNN_OP_INTERNAL | PCNN_OP_FOLLOWS,
    .infer = infer_expand,
    .impls = impls,
};
