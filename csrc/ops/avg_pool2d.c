/* avg_pool2d: y[n,c,i,j] = mean over taps (u,v) of x[n,c, i*SH-PT+u, j*SW-PL+v].
 *
 * Taps in the padding count as zeros if count_include_pad, else they do not take part in the mean
 * (as in Keras's 'same'). Backward needs no values, only the input's height and width, which the
 * gradient op has as an attribute; but where relu made x, the plan's fuse pass lets it take over
 * relu's gradient, dx = x > 0 ? dx : 0, and gives it x. Not handled: dilation, ceil mode, divisor
 * override. */
#include "isa/kernels.h"
#include "ops/pool2d.h"

typedef struct {
    pcnn_window2d window;
    int64_t count_include_pad;
} avg_attrs;

typedef struct {
    pcnn_window2d window;
    int64_t count_include_pad;
    int64_t height, width; /* of the input */
} grad_attrs;

static const pcnn_attr attrs[] = {
    PCNN_WINDOW2D_ATTRS(offsetof(avg_attrs, window)),
    PCNN_ATTR(avg_attrs, count_include_pad, PCNN_ATTR_BOOL, "False"),
    {NULL, 0, 0, NULL, NULL},
};

typedef void (*pool_kernel)(const void *, const void *, void *, int64_t);
typedef void (*grad_kernel)(const void *, const void *, const void *, void *, int64_t);

/* Forward reads x and writes y, backward reads dy and writes dx: one map after another. */
typedef struct {
    pcnn_pool2d geometry;
    pool_kernel kernel; /* forward, or */
    grad_kernel gradient;
    const char *source;
    const char *x; /* the gradient is masked by relu, which made this, or NULL */
    char *target;
    int64_t source_bytes, target_bytes; /* of one map */
} job;

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    const char *source = job->source + begin * job->source_bytes;
    char *target = job->target + begin * job->target_bytes;
    if (job->kernel)
        job->kernel(&job->geometry, source, target, end - begin);
    else
        job->gradient(&job->geometry, source, job->x ? job->x + begin * job->target_bytes : NULL,
                      target, end - begin);
}

/* `large` is x or dx, `small` y or dy. Both attribute structs begin with the window. */
static void
fill_geometry(const pcnn_site *site, bool count_include_pad, const pcnn_tensor *large,
              const pcnn_tensor *small, pcnn_pool2d *geometry)
{
    pcnn_pool2d_geometry(site->attrs, large, small, geometry);
    geometry->count_include_pad = count_include_pad;
}

static pcnn_status
run(const pcnn_site *site, job job, bool count_include_pad, const pcnn_tensor *large,
    const pcnn_tensor *small)
{
    const pcnn_tensor *source = &site->in[0], *target = &site->out[0];
    job.source = source->data;
    job.target = target->data;
    fill_geometry(site, count_include_pad, large, small, &job.geometry);
    job.source_bytes = pcnn_pool2d_map_bytes(source);
    job.target_bytes = pcnn_pool2d_map_bytes(target);
    pcnn_pool2d_share_out(&job.geometry, source, task, &job);
    return PCNN_OK;
}

static const pcnn_kernels *
kernels(const pcnn_site *site)
{
    return pcnn_kernels_for(site->in[0].type.dtype);
}

/* ---- forward ---- */

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const avg_attrs *a = call->attrs;
    return pcnn_pool2d_infer(call, &a->window, out);
}

static pcnn_status
run_forward(const pcnn_site *site, pool_kernel kernel)
{
    const avg_attrs *a = site->attrs;
    const job job = {.kernel = kernel};
    return run(site, job, a->count_include_pad != 0, &site->in[0], &site->out[0]);
}

static pcnn_status
run_2x2(const pcnn_site *site)
{
    return run_forward(site, kernels(site)->avg_pool2d_2x2);
}

static pcnn_status
run_n16(const pcnn_site *site)
{
    return run_forward(site, kernels(site)->avg_pool2d_n16);
}

static pcnn_status
run_rows(const pcnn_site *site)
{
    return run_forward(site, kernels(site)->avg_pool2d_rows);
}

static pcnn_status
run_plain(const pcnn_site *site)
{
    return run_forward(site, kernels(site)->avg_pool2d_plain);
}

static void
forward_plane(const pcnn_site *site, const pcnn_plane *plane, pool_kernel kernel)
{
    const avg_attrs *a = site->attrs;
    pcnn_pool2d geometry;
    fill_geometry(site, a->count_include_pad != 0, &site->in[0], &site->out[0], &geometry);
    (void)pcnn_pool2d_cut(&geometry, plane, false);
    kernel(&geometry, plane->in[0], plane->out[0], 1);
}

static void
plane_2x2(const pcnn_site *site, const pcnn_plane *plane)
{
    forward_plane(site, plane, kernels(site)->avg_pool2d_2x2);
}

static void
plane_n16(const pcnn_site *site, const pcnn_plane *plane)
{
    forward_plane(site, plane, kernels(site)->avg_pool2d_n16);
}

static int64_t
plane_rows(const pcnn_site *site, int k)
{
    const avg_attrs *a = site->attrs;
    return pcnn_pool2d_rows(&a->window, k == 0);
}

static const pcnn_planes planes_2x2 = {.apply = plane_2x2, .rows = plane_rows},
                         planes_n16 = {.apply = plane_n16, .rows = plane_rows};

static const pcnn_impl impls[] = {
    {.name = "n16_2x2",
     .n16_in = 1,
     .n16_out = 1,
     .refuse = pcnn_pool2d_refuse_other_than_2x2,
     .run = run_2x2,
     .planes = &planes_2x2},
    {.name = "n16", .n16_in = 1, .n16_out = 1, .run = run_n16, .planes = &planes_n16},
    {.name = "rows_2x2", .refuse = pcnn_pool2d_refuse_other_than_2x2, .run = run_rows},
    {.name = "reference", .run = run_plain},
    {.name = NULL},
};

static pcnn_status
gradient(pcnn_grad *grad)
{
    if (!grad->wanted[0])
        return PCNN_OK;
    const avg_attrs *forward = grad->attrs;
    const pcnn_type *x = pcnn_value_type(grad->in[0]);
    grad_attrs backward = {.window = forward->window,
                           .count_include_pad = forward->count_include_pad,
                           .height = x->shape[2],
                           .width = x->shape[3]};
    return PCNN_EMIT(grad, &grad->din[0], avg_pool2d_grad, &backward, grad->dout[0]);
}

const pcnn_op pcnn_op_avg_pool2d = {
    .name = "avg_pool2d",
    .doc = "y[n,c,i,j] = the mean of x[n,c] over the window at (i, j).\n"
           "\n"
           "x[N,C,H,W] -> y[N,C,OH,OW], OH = (H + top + bottom - KH) // SH + 1, OW likewise.\n"
           "kernel is (KH, KW), stride (SH, SW) or None for the kernel, padding (top, bottom,\n"
           "left, right), each smaller than the kernel. Padding counts as zeros in the mean if\n"
           "count_include_pad, else the mean is taken over the taps inside x.\n"
           "Raises ShapeError when the kernel is larger than the padded input.",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(avg_attrs),
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};

/* ---- gradient: dx = sum of dy / divisor over all windows that see the element ---- */

static const pcnn_attr attrs_of_grad[] = {
    PCNN_WINDOW2D_ATTRS(offsetof(grad_attrs, window)),
    PCNN_ATTR(grad_attrs, count_include_pad, PCNN_ATTR_BOOL, "False"),
    PCNN_ATTR(grad_attrs, height, PCNN_ATTR_INT, NULL),
    PCNN_ATTR(grad_attrs, width, PCNN_ATTR_INT, NULL),
    {NULL, 0, 0, NULL, NULL},
};

static pcnn_status
infer_grad(const pcnn_call *call, pcnn_type *out)
{
    const grad_attrs *a = call->attrs;
    *out = call->in[0];
    out->shape[2] = a->height;
    out->shape[3] = a->width;
    return PCNN_OK;
}

static pcnn_status
run_backward(const pcnn_site *site, grad_kernel kernel)
{
    const grad_attrs *a = site->attrs;
    const job job = {.gradient = kernel,
                     .x = pcnn_type_present(&site->in[1].type) ? site->in[1].data : NULL};
    return run(site, job, a->count_include_pad != 0, &site->out[0], &site->in[0]);
}

static pcnn_status
run_grad_2x2(const pcnn_site *site)
{
    return run_backward(site, kernels(site)->avg_pool2d_grad_2x2);
}

static pcnn_status
run_grad_n16(const pcnn_site *site)
{
    return run_backward(site, kernels(site)->avg_pool2d_grad_n16);
}

static pcnn_status
run_grad_plain(const pcnn_site *site)
{
    return run_backward(site, kernels(site)->avg_pool2d_grad_plain);
}

static void
backward_plane(const pcnn_site *site, const pcnn_plane *plane, grad_kernel kernel)
{
    const grad_attrs *a = site->attrs;
    pcnn_pool2d geometry;
    fill_geometry(site, a->count_include_pad != 0, &site->out[0], &site->in[0], &geometry);
    (void)pcnn_pool2d_cut(&geometry, plane, true);
    kernel(&geometry, plane->in[0], plane->in[1], plane->out[0], 1);
}

static void
grad_plane_2x2(const pcnn_site *site, const pcnn_plane *plane)
{
    backward_plane(site, plane, kernels(site)->avg_pool2d_grad_2x2);
}

static void
grad_plane_n16(const pcnn_site *site, const pcnn_plane *plane)
{
    backward_plane(site, plane, kernels(site)->avg_pool2d_grad_n16);
}

/* Inputs dy and x; output dx. */
static int64_t
grad_plane_rows(const pcnn_site *site, int k)
{
    const grad_attrs *a = site->attrs;
    return pcnn_pool2d_rows(&a->window, k > 0);
}

static const pcnn_planes grad_planes_2x2 = {.apply = grad_plane_2x2, .rows = grad_plane_rows},
                         grad_planes_n16 = {.apply = grad_plane_n16, .rows = grad_plane_rows};

static const pcnn_impl grad_impls[] = {
    {.name = "n16_2x2",
     .n16_in = 3,
     .n16_out = 1,
     .refuse = pcnn_pool2d_refuse_other_than_2x2,
     .run = run_grad_2x2,
     .planes = &grad_planes_2x2},
    {.name = "n16", .n16_in = 3, .n16_out = 1, .run = run_grad_n16, .planes = &grad_planes_n16},
    {.name = "reference", .run = run_grad_plain},
    {.name = NULL},
};

/* Pooling is linear: the gradient of its gradient is pooling. */
static pcnn_status
gradient_of_grad(pcnn_grad *grad)
{
    if (!grad->wanted[0])
        return PCNN_OK;
    const grad_attrs *a = grad->attrs;
    avg_attrs forward = {.window = a->window, .count_include_pad = a->count_include_pad};
    return PCNN_EMIT(grad, &grad->din[0], avg_pool2d, &forward, grad->dout[0]);
}

const pcnn_op pcnn_op_avg_pool2d_grad = {
    .name = "avg_pool2d_grad",
    .doc = "dx of avg_pool2d from dy; where relu made x and its gradient follows, also from x.",
    .n_in = 2,
    .params = {{"dy", false}, {"x", true}},
    .n_out = 1,
    .out_names = {"dx"},
    .attrs = attrs_of_grad,
    .attrs_size = sizeof(grad_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_grad,
    .gradient = gradient_of_grad,
    .impls = grad_impls,
};
