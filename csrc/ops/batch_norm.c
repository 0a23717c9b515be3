/* batch_norm: y = (x - mean) / sqrt(var + eps) * gamma + beta, over all axes but the channels'.
 *
 * Training mode: mean and biased variance are those of this batch, and outputs, so that running
 * statistics can be made of them (Ioffe, Szegedy: "Batch normalization", 2015). Backward needs x,
 * gamma, mean and var. Statistics: each chunk of a channel is looked at twice, for its mean and
 * for the squares around it; chunks are combined in double (Chan, Golub, LeVeque 1983). An empty
 * batch has mean and variance 0. Not handled: masks, groups. */
#include <math.h>

#include "core/parallel.h"
#include "ops/elementwise.h"
#include "ops/norm.h"

/* ---- forward: in x, gamma, beta; out y, mean, var; coefficients mean, scale, shift ---- */

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    int64_t C;
    PCNN_TRY(pcnn_norm_check(call, &C));
    out[0] = call->in[0];
    out[1] = out[2] = (pcnn_type){.dtype = call->in[0].dtype, .ndim = 1, .shape = {C}};
    return PCNN_OK;
}

static void
sums_of_chunk(const pcnn_norm_job *job, int64_t k, int64_t c, const pcnn_chunk *chunk,
              const void *x)
{
    const pcnn_channels *view = &job->view;
    double *sums = pcnn_channels_partials(view, job->site->work, k, c);
    if (view->columns)
        job->kernels->batch_norm_column_sums(x, chunk->n, view->C, sums);
    else
        job->kernels->batch_norm_row_sums(x, chunk->n, chunk->lanes, chunk->count, view->C, sums);
}

static void
forward_sums(const void *context, int64_t k, int64_t c)
{
    const pcnn_norm_job *job = context;
    pcnn_chunk chunk = pcnn_channels_chunk(&job->view, k, c);
    sums_of_chunk(job, k, c, &chunk, pcnn_norm_at(&job->site->in[0], chunk.offset));
}

/* Stores mean and var, and the coefficients made of their rounded values: backward sees those. */
static void
store_statistics(const pcnn_norm_job *job, int64_t c, double mean, double var, double coef[3])
{
    const pcnn_site *site = job->site;
    pcnn_real_put(job->dtype, site->out[1].data, c, mean);
    pcnn_real_put(job->dtype, site->out[2].data, c, var);
    coef[0] = pcnn_real_get(&site->out[1], c, 0);
    coef[1] =
        pcnn_real_get(&site->in[1], c, 1) / sqrt(pcnn_real_get(&site->out[2], c, 0) + job->eps);
    coef[2] = pcnn_real_get(&site->in[2], c, 0);
}

static void
forward_finish(const void *context, int64_t c)
{
    const pcnn_norm_job *job = context;
    const pcnn_channels *view = &job->view;
    const double count = view->count > 0 ? (double)view->count : 1;
    double mean = 0, squares = 0, coef[3];
    for (int64_t k = 0; k < view->chunks; k++)
        mean += *pcnn_channels_partials(view, job->site->work, k, c);
    mean /= count;
    for (int64_t k = 0; k < view->chunks; k++) {
        const double *sums = pcnn_channels_partials(view, job->site->work, k, c);
        double n = (double)pcnn_channels_chunk(view, k, c).count;
        /* The kernel's centre: the chunk's mean, rounded to real. */
        double centre = job->dtype == PCNN_F32 ? (double)(float)(sums[0] / n) : sums[0] / n;
        double shift = centre - mean;
        squares += sums[view->C] + 2 * shift * (sums[0] - n * centre) + n * shift * shift;
    }
    store_statistics(job, c, mean, squares > 0 || isnan(squares) ? squares / count : 0, coef);
    pcnn_norm_put_coefficients(job, c, 3, coef);
}

static pcnn_status
run_forward(const pcnn_site *site)
{
    pcnn_norm_job job = pcnn_norm_make_job(site);
    pcnn_channel_passes passes = {forward_sums, forward_finish, pcnn_norm_affine, job.bytes / 2};
    pcnn_channels_run(&job.view, &passes, &job);
    return PCNN_OK;
}

/* ---- in a chain, plane by plane ---- */

static void
plane_sums_of_chunk(const pcnn_norm_job *job, const pcnn_plane *plane, int64_t k,
                    const pcnn_chunk *chunk)
{
    sums_of_chunk(job, k, plane->channel, chunk, (const char *)plane->in[0] + chunk->within);
}

static void
plane_sums(const pcnn_site *site, const pcnn_plane *plane)
{
    (void)site;
    pcnn_norm_plane(plane, plane_sums_of_chunk);
}

static void
plane_finish(const pcnn_site *site, int64_t channel)
{
    const pcnn_norm_job job = pcnn_norm_make_job(site);
    forward_finish(&job, channel);
}

static const pcnn_planes planes = {
    .prepare = pcnn_norm_prepare,
    .sums = plane_sums,
    .finish = plane_finish,
    .apply = pcnn_norm_plane_affine,
    .rows = pcnn_norm_plane_rows,
    .cheap = true,
};

static void
reference_task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const pcnn_norm_job *job = context;
    const pcnn_channels *view = &job->view;
    const void *x = job->site->in[0].data;
    for (int64_t c = begin; c < end; c++) {
        double statistics[2], coef[3];
        job->kernels->batch_norm_reference_statistics(x, view->outer, view->C, view->inner, c,
                                                      statistics);
        store_statistics(job, c, statistics[0], statistics[1], coef);
        job->kernels->batch_norm_reference_apply(x, job->site->out[0].data, view->outer, view->C,
                                                 view->inner, c, coef);
    }
}

static pcnn_status
run_reference(const pcnn_site *site)
{
    pcnn_norm_job job = pcnn_norm_make_job(site);
    pcnn_parallel(job.view.C, 1, job.bytes, reference_task, &job);
    return PCNN_OK;
}

static const pcnn_impl impls[] = {
    {"n16", 1, 1, 1, pcnn_norm_refuse_n16, pcnn_norm_workspace, run_forward, &planes},
    {"rows", 0, 0, 1, pcnn_norm_refuse_rows, pcnn_norm_workspace, run_forward, NULL},
    {"columns", 0, 0, 1, pcnn_norm_refuse_columns, pcnn_norm_workspace, run_forward, NULL},
    {"reference", 0, 0, 1, NULL, NULL, run_reference, NULL},
    {.name = NULL},
};

/* `relu_input` is set by the plan's fuse pass: x was made by relu, whose gradient follows. */
typedef struct {
    pcnn_norm_attrs norm;
    int64_t relu_input;
} batch_norm_grad_attrs;

static const pcnn_attr grad_attr_list[] = {
    PCNN_ATTR(pcnn_norm_attrs, axis, PCNN_ATTR_INT, "1"),
    PCNN_ATTR(pcnn_norm_attrs, eps, PCNN_ATTR_REAL, "0.001"),
    PCNN_ATTR(batch_norm_grad_attrs, relu_input, PCNN_ATTR_BOOL, "False"),
    {NULL, 0, 0, NULL, NULL},
};

static pcnn_status
gradient(pcnn_grad *grad)
{
    pcnn_value *x = grad->in[0], *gamma = grad->in[1], *beta = grad->in[2];
    pcnn_value *mean = grad->out[1], *var = grad->out[2];
    bool wants_gamma = gamma && grad->wanted[1], wants_beta = beta && grad->wanted[2];
    if (!grad->wanted[0] && !wants_gamma && !wants_beta)
        return PCNN_OK;

    /* Only the statistics were used: y's gradient is zero. */
    pcnn_value *zero = NULL, *results[3];
    if (!grad->dout[0])
        PCNN_TRY(PCNN_EMIT(grad, &zero, sub, NULL, x, x));
    pcnn_value *dy = zero ? zero : grad->dout[0];
    batch_norm_grad_attrs back = {*(const pcnn_norm_attrs *)grad->attrs, 0};
    pcnn_status status = PCNN_EMIT(grad, results, batch_norm_grad, &back, dy, x, mean, var, gamma,
                                   grad->dout[1], grad->dout[2]);
    if (zero)
        pcnn_value_release(zero);
    if (status != PCNN_OK)
        return status;
    const bool wanted[3] = {grad->wanted[0], wants_gamma, wants_beta};
    for (int i = 0; i < 3; i++) {
        if (wanted[i])
            grad->din[i] = results[i];
        else
            pcnn_value_release(results[i]);
    }
    return PCNN_OK;
}

const pcnn_op pcnn_op_batch_norm = {
    .name = "batch_norm",
    .doc = "y = (x - mean) / sqrt(var + eps) * gamma + beta, with this batch's mean and var.\n"
           "\n"
           "x of 2 to 5 dimensions, C channels at `axis`; gamma[C] and beta[C] may be absent\n"
           "(1 and 0) -> y like x, mean[C], var[C] (biased: divided by the number of elements).\n"
           "Raises ShapeError when gamma or beta do not have one number a channel, ValueError for\n"
           "a negative or non-finite eps. Ioffe, Szegedy: Batch normalization, 2015.",
    .n_in = 3,
    .params = {{"x", false}, {"gamma", true}, {"beta", true}},
    .n_out = 3,
    .out_names = {"y", "mean", "var"},
    .attrs = pcnn_norm_attr_list,
    .attrs_size = sizeof(pcnn_norm_attrs),
    .saves_in = 1 | 2,
    .saves_out = 2 | 4,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};

/* ---- gradient: in dy, x, mean, var, gamma, dmean, dvar; out dx, dgamma, dbeta ----
 *
 * With r = 1 / sqrt(var + eps), n elements a channel, sums over the channel:
 *   dbeta = sum dy,  dgamma = r * sum dy (x - mean),
 *   dx = gamma r (dy - dbeta / n - (x - mean) r dgamma / n) + dmean / n + dvar 2 (x - mean) / n,
 * which is a dy + b (x - mean) + c: the coefficients are mean, a, b, c. */

static pcnn_status
infer_grad(const pcnn_call *call, pcnn_type *out)
{
    out[0] = call->in[1];
    out[1] = out[2] = call->in[2];
    return PCNN_OK;
}

/* From sum dy and sum dy (x - mean) of channel c: stores dgamma and dbeta, fills coef. */
static void
grad_coefficients(const pcnn_norm_job *job, int64_t c, double sum, double product, double coef[4])
{
    const pcnn_site *site = job->site;
    double count = job->view.count > 0 ? (double)job->view.count : 1;
    double r = 1 / sqrt(pcnn_real_get(&site->in[3], c, 0) + job->eps);
    double dmean = pcnn_real_get(&site->in[5], c, 0), dvar = pcnn_real_get(&site->in[6], c, 0);
    coef[0] = pcnn_real_get(&site->in[2], c, 0);
    coef[1] = pcnn_real_get(&site->in[4], c, 1) * r;
    coef[2] = (2 * dvar - coef[1] * r * r * product) / count;
    coef[3] = (dmean - coef[1] * sum) / count;
    pcnn_real_put(job->dtype, site->out[1].data, c, product * r);
    pcnn_real_put(job->dtype, site->out[2].data, c, sum);
}

static void
grad_finish(const void *context, int64_t c)
{
    const pcnn_norm_job *job = context;
    double sums[2], coef[4];
    pcnn_norm_total(job, c, sums);
    grad_coefficients(job, c, sums[0], sums[1], coef);
    pcnn_norm_put_coefficients(job, c, 4, coef);
}

static bool
masks(const pcnn_site *site)
{
    const batch_norm_grad_attrs *a = site->attrs;
    return a->relu_input != 0;
}

static void
grad_of_chunk(const pcnn_norm_job *job, int64_t c, const pcnn_chunk *chunk, const void *dy,
              const void *x, void *dx)
{
    const pcnn_channels *view = &job->view;
    const void *coef = pcnn_channels_coefficients(view, job->site->work, c);
    if (view->columns)
        job->kernels->batch_norm_column_grad_apply(dy, x, dx, chunk->n, view->C, coef);
    else
        job->kernels->batch_norm_row_grad_apply(dy, x, dx, chunk->n, chunk->lanes, view->C, coef,
                                                masks(job->site));
    if (view->columns && masks(job->site))
        pcnn_mask_by_relu(job->kernels, dx, x, chunk->n * view->C);
}

static void
grad_apply(const void *context, int64_t k, int64_t c)
{
    const pcnn_norm_job *job = context;
    const pcnn_site *site = job->site;
    pcnn_chunk chunk = pcnn_channels_chunk(&job->view, k, c);
    grad_of_chunk(job, c, &chunk, pcnn_norm_at(&site->in[0], chunk.offset),
                  pcnn_norm_at(&site->in[1], chunk.offset),
                  pcnn_norm_at(&site->out[0], chunk.offset));
}

static pcnn_status
run_grad(const pcnn_site *site)
{
    pcnn_norm_job job = pcnn_norm_make_job(site);
    pcnn_channel_passes passes = {pcnn_norm_grad_sums, grad_finish, grad_apply, job.bytes};
    pcnn_channels_run(&job.view, &passes, &job);
    return PCNN_OK;
}

static void
plane_grad_finish(const pcnn_site *site, int64_t channel)
{
    const pcnn_norm_job job = pcnn_norm_make_job(site);
    grad_finish(&job, channel);
}

static void
plane_grad_apply(const pcnn_site *site, const pcnn_plane *plane)
{
    const pcnn_norm_job *job = plane->job;
    const pcnn_chunk chunk = pcnn_norm_whole(job, plane);
    (void)site;
    grad_of_chunk(job, plane->channel, &chunk, plane->in[0], plane->in[1], plane->out[0]);
}

static const pcnn_planes grad_planes = {
    .prepare = pcnn_norm_prepare,
    .sums = pcnn_norm_plane_grad_sums,
    .finish = plane_grad_finish,
    .apply = plane_grad_apply,
    .rows = pcnn_norm_plane_rows,
};

static void
grad_reference_task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const pcnn_norm_job *job = context;
    const pcnn_channels *view = &job->view;
    const pcnn_site *site = job->site;
    const void *dy = site->in[0].data, *x = site->in[1].data;
    for (int64_t c = begin; c < end; c++) {
        double sums[2], coef[4], mean = pcnn_real_get(&site->in[2], c, 0);
        job->kernels->batch_norm_reference_grad_sums(dy, x, view->outer, view->C, view->inner, c,
                                                     mean, sums);
        grad_coefficients(job, c, sums[0], sums[1], coef);
        job->kernels->batch_norm_reference_grad_apply(dy, x, site->out[0].data, view->outer,
                                                      view->C, view->inner, c, coef);
    }
}

static pcnn_status
run_grad_reference(const pcnn_site *site)
{
    pcnn_norm_job job = pcnn_norm_make_job(site);
    pcnn_parallel(job.view.C, 1, job.bytes, grad_reference_task, &job);
    if (masks(site))
        pcnn_mask_by_relu(job.kernels, site->out[0].data, site->in[1].data,
                          pcnn_type_size(&site->in[1].type));
    return PCNN_OK;
}

/* A channel's sums are made before its first element is overwritten: dx may lie on dy. Not on x,
 * which the mask still reads. */
static const pcnn_impl grad_impls[] = {
    {"n16", 3, 1, 1, pcnn_norm_refuse_n16, pcnn_norm_workspace, run_grad, &grad_planes},
    {"rows", 0, 0, 1, pcnn_norm_refuse_rows, pcnn_norm_workspace, run_grad, NULL},
    {"columns", 0, 0, 1, pcnn_norm_refuse_columns, pcnn_norm_workspace, run_grad, NULL},
    {"reference", 0, 0, 1, NULL, NULL, run_grad_reference, NULL},
    {.name = NULL},
};

const pcnn_op pcnn_op_batch_norm_grad = {
    .name = "batch_norm_grad",
    .doc = "dx, dgamma and dbeta of batch_norm; dmean and dvar are gradients of its statistics.",
    .n_in = 7,
    .params = {{"dy", false},
               {"x", false},
               {"mean", false},
               {"var", false},
               {"gamma", true},
               {"dmean", true},
               {"dvar", true}},
    .n_out = 3,
    .out_names = {"dx", "dgamma", "dbeta"},
    .attrs = grad_attr_list,
    .attrs_size = sizeof(batch_norm_grad_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_grad,
    .impls = grad_impls,
};
