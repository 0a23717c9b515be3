/* max_pool2d: y[n,c,i,j] = max over taps (u,v) of x[n,c, i*SH-PT+u, j*SW-PL+v].
 *
 * Taps in the padding do not take part. A NaN in a window makes its result NaN. The gradient of a
 * window goes to its first maximum in row-major order, as in TensorFlow and PyTorch; it is found
 * again from x and y. A plan that holds forward and backward keeps positions instead
 * (max_pool2d_index.c).
 * Not handled: dilation, ceil mode (pad at the bottom and right instead). */
#include "isa/kernels.h"
#include "ops/elementwise.h"
#include "ops/max_pool2d.h"

static const pcnn_attr attrs[] = {
    PCNN_WINDOW2D_ATTRS(0),
    {NULL, 0, 0, NULL, NULL},
};

typedef void (*forward_kernel)(const void *, const void *, void *, int64_t);
typedef void (*gradient_kernel)(const void *, const void *, const void *, const void *, void *,
                                int64_t);

typedef struct {
    pcnn_pool2d geometry;
    forward_kernel forward;
    gradient_kernel gradient;
    const char *dy, *x, *y;
    char *dx, *result;
    int64_t x_bytes, y_bytes; /* of one map */
    const pcnn_kernels *mask; /* the gradient is masked by relu while it is warm, or NULL */
    int64_t x_size;           /* elements of one map of x */
} job;

/* ---- forward ---- */

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    return pcnn_pool2d_infer(call, call->attrs, out);
}

static void
fill_job(job *job, const pcnn_window2d *window, const pcnn_tensor *x, const pcnn_tensor *y)
{
    pcnn_pool2d_geometry(window, x, y, &job->geometry);
    job->x_bytes = pcnn_pool2d_map_bytes(x);
    job->y_bytes = pcnn_pool2d_map_bytes(y);
    job->x = x->data;
}

static void
forward_task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    job->forward(&job->geometry, job->x + begin * job->x_bytes, job->result + begin * job->y_bytes,
                 end - begin);
}

static pcnn_status
run_forward(const pcnn_site *site, forward_kernel kernel)
{
    job job = {.forward = kernel, .result = site->out[0].data};
    fill_job(&job, site->attrs, &site->in[0], &site->out[0]);
    pcnn_pool2d_share_out(&job.geometry, &site->in[0], forward_task, &job);
    return PCNN_OK;
}

static const pcnn_kernels *
kernels(const pcnn_site *site)
{
    return pcnn_kernels_for(site->in[0].type.dtype);
}

static pcnn_status
run_2x2(const pcnn_site *site)
{
    return run_forward(site, kernels(site)->max_pool2d_2x2);
}

static pcnn_status
run_n16(const pcnn_site *site)
{
    return run_forward(site, kernels(site)->max_pool2d_n16);
}

static pcnn_status
run_rows(const pcnn_site *site)
{
    return run_forward(site, kernels(site)->max_pool2d_rows);
}

static pcnn_status
run_plain(const pcnn_site *site)
{
    return run_forward(site, kernels(site)->max_pool2d_plain);
}

/* ---- forward in a chain ---- */

static void
forward_plane(const pcnn_site *site, const pcnn_plane *plane, forward_kernel kernel)
{
    job job;
    fill_job(&job, site->attrs, &site->in[0], &site->out[0]);
    (void)pcnn_pool2d_cut(&job.geometry, plane, false);
    kernel(&job.geometry, plane->in[0], plane->out[0], 1);
}

static void
plane_2x2(const pcnn_site *site, const pcnn_plane *plane)
{
    forward_plane(site, plane, kernels(site)->max_pool2d_2x2);
}

static void
plane_n16(const pcnn_site *site, const pcnn_plane *plane)
{
    forward_plane(site, plane, kernels(site)->max_pool2d_n16);
}

static int64_t
plane_rows(const pcnn_site *site, int k)
{
    return pcnn_pool2d_rows(site->attrs, k == 0);
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

const pcnn_attr pcnn_max_pool2d_grad_attr_list[] = {
    PCNN_WINDOW2D_ATTRS(0),
    PCNN_ATTR(pcnn_max_pool2d_grad_attrs, relu_input, PCNN_ATTR_BOOL, "False"),
    {NULL, 0, 0, NULL, NULL},
};

static pcnn_status
gradient(pcnn_grad *grad)
{
    if (!grad->wanted[0])
        return PCNN_OK;
    pcnn_max_pool2d_grad_attrs back = {*(const pcnn_window2d *)grad->attrs, 0};
    return PCNN_EMIT(grad, &grad->din[0], max_pool2d_grad, &back, grad->dout[0], grad->in[0],
                     grad->out[0]);
}

const pcnn_op pcnn_op_max_pool2d = {
    .name = "max_pool2d",
    .doc = "y[n,c,i,j] = the maximum of x[n,c] over the window at (i, j).\n"
           "\n"
           "x[N,C,H,W] -> y[N,C,OH,OW], OH = (H + top + bottom - KH) // SH + 1, OW likewise.\n"
           "kernel is (KH, KW), stride (SH, SW) or None for the kernel, padding (top, bottom,\n"
           "left, right), each smaller than the kernel; padding never wins. NaN wins always. The\n"
           "gradient goes to the first maximum in row-major order.\n"
           "Raises ShapeError when the kernel is larger than the padded input.",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_window2d),
    .saves_in = 1,
    .saves_out = 1,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};

/* ---- gradient: dx = the gradients dy of all windows whose first maximum is here ---- */

static pcnn_status
infer_grad(const pcnn_call *call, pcnn_type *out)
{
    *out = call->in[1];
    return PCNN_OK;
}

static void
gradient_task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    job->gradient(&job->geometry, job->dy + begin * job->y_bytes, job->x + begin * job->x_bytes,
                  job->y + begin * job->y_bytes, job->dx + begin * job->x_bytes, end - begin);
    if (job->mask)
        pcnn_mask_by_relu(job->mask, job->dx + begin * job->x_bytes, job->x + begin * job->x_bytes,
                          (end - begin) * job->x_size);
}

static pcnn_status
run_gradient(const pcnn_site *site, gradient_kernel kernel)
{
    job job = {
        .gradient = kernel, .dy = site->in[0].data, .y = site->in[2].data, .dx = site->out[0].data};
    const pcnn_max_pool2d_grad_attrs *a = site->attrs;
    fill_job(&job, &a->window, &site->in[1], &site->in[2]);
    if (a->relu_input)
        job.mask = kernels(site);
    job.x_size = job.x_bytes / (int64_t)pcnn_dtype_size(site->in[1].type.dtype);
    pcnn_pool2d_share_out(&job.geometry, &site->in[1], gradient_task, &job);
    return PCNN_OK;
}

static pcnn_status
run_grad_2x2(const pcnn_site *site)
{
    return run_gradient(site, kernels(site)->max_pool2d_grad_2x2);
}

static pcnn_status
run_grad_n16(const pcnn_site *site)
{
    return run_gradient(site, kernels(site)->max_pool2d_grad_n16);
}

static pcnn_status
run_grad_plain(const pcnn_site *site)
{
    return run_gradient(site, kernels(site)->max_pool2d_grad_plain);
}

/* ---- gradient in a chain ---- */

static void
gradient_plane(const pcnn_site *site, const pcnn_plane *plane, gradient_kernel kernel)
{
    const pcnn_max_pool2d_grad_attrs *a = site->attrs;
    job job;
    fill_job(&job, &a->window, &site->in[1], &site->in[2]);
    (void)pcnn_pool2d_cut(&job.geometry, plane, true);
    kernel(&job.geometry, plane->in[0], plane->in[1], plane->in[2], plane->out[0], 1);
    if (a->relu_input)
        pcnn_mask_by_relu(kernels(site), plane->out[0], plane->in[1],
                          job.geometry.H * job.geometry.W * PCNN_BLOCK);
}

static void
grad_plane_2x2(const pcnn_site *site, const pcnn_plane *plane)
{
    gradient_plane(site, plane, kernels(site)->max_pool2d_grad_2x2);
}

static void
grad_plane_n16(const pcnn_site *site, const pcnn_plane *plane)
{
    gradient_plane(site, plane, kernels(site)->max_pool2d_grad_n16);
}

/* Inputs dy, x, y; output dx. */
static int64_t
grad_plane_rows(const pcnn_site *site, int k)
{
    return pcnn_pool2d_rows(site->attrs, k == 1 || k == 3);
}

static const pcnn_planes grad_planes_2x2 = {.apply = grad_plane_2x2, .rows = grad_plane_rows},
                         grad_planes_n16 = {.apply = grad_plane_n16, .rows = grad_plane_rows};

static const pcnn_impl grad_impls[] = {
    {.name = "n16_2x2",
     .n16_in = 7,
     .n16_out = 1,
     .refuse = pcnn_pool2d_refuse_other_than_2x2,
     .run = run_grad_2x2,
     .planes = &grad_planes_2x2},
    {.name = "n16", .n16_in = 7, .n16_out = 1, .run = run_grad_n16, .planes = &grad_planes_n16},
    {.name = "reference", .run = run_grad_plain},
    {.name = NULL},
};

const pcnn_op pcnn_op_max_pool2d_grad = {
    .name = "max_pool2d_grad",
    .doc = "dx of max_pool2d from dy, x and y.",
    .n_in = 3,
    .params = {{"dy", false}, {"x", false}, {"y", false}},
    .n_out = 1,
    .out_names = {"dx"},
    .attrs = pcnn_max_pool2d_grad_attr_list,
    .attrs_size = sizeof(pcnn_max_pool2d_grad_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_grad,
    .impls = grad_impls,
};
