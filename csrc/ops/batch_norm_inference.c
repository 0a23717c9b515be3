/* batch_norm_inference: y = (x - mean) / sqrt(var + eps) * gamma + beta, with given statistics.
 *
 * mean and var are inputs (running statistics), of one number a channel. Backward needs x, mean,
 * var and gamma; gradients of mean and var are made too when somebody wants them. */
#include <math.h>

#include "core/parallel.h"
#include "ops/norm.h"

/* ---- forward: in x, mean, var, gamma, beta ---- */

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    int64_t C;
    PCNN_TRY(pcnn_norm_check(call, &C));
    out[0] = call->in[0];
    return PCNN_OK;
}

static void
forward_coefficients(const pcnn_norm_job *job, int64_t c, double coef[3])
{
    const pcnn_tensor *in = job->site->in;
    coef[0] = pcnn_real_get(&in[1], c, 0);
    coef[1] = pcnn_real_get(&in[3], c, 1) / sqrt(pcnn_real_get(&in[2], c, 0) + job->eps);
    coef[2] = pcnn_real_get(&in[4], c, 0);
}

static void
forward_finish(const void *context, int64_t c)
{
    double coef[3];
    forward_coefficients(context, c, coef);
    pcnn_norm_put_coefficients(context, c, 3, coef);
}

static pcnn_status
run_forward(const pcnn_site *site)
{
    pcnn_norm_job job = pcnn_norm_make_job(site);
    pcnn_channel_passes passes = {NULL, forward_finish, pcnn_norm_affine, job.bytes * 0.4};
    pcnn_channels_run(&job.view, &passes, &job);
    return PCNN_OK;
}

/* In a chain: a plane's three coefficients are made anew for each, without workspace. */
static void
plane_apply(const pcnn_site *site, const pcnn_plane *plane)
{
    const pcnn_norm_job *job = plane->job;
    const pcnn_chunk chunk = pcnn_norm_whole(job, plane);
    (void)site;
    double exact[3], rounded[3];
    forward_coefficients(job, plane->channel, exact);
    for (int i = 0; i < 3; i++)
        pcnn_real_put(job->dtype, rounded, i, exact[i]);
    job->kernels->batch_norm_row_apply(plane->in[0], plane->out[0], chunk.n, chunk.lanes, 1,
                                       rounded);
}

static int64_t
plane_rows(const pcnn_site *site, int k)
{
    (void)site, (void)k;
    return 1;
}

static const pcnn_planes planes = {
    .prepare = pcnn_norm_prepare, .apply = plane_apply, .rows = plane_rows, .cheap = true};

static void
reference_task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const pcnn_norm_job *job = context;
    const pcnn_channels *view = &job->view;
    for (int64_t c = begin; c < end; c++) {
        double coef[3];
        forward_coefficients(job, c, coef);
        job->kernels->batch_norm_reference_apply(job->site->in[0].data, job->site->out[0].data,
                                                 view->outer, view->C, view->inner, c, coef);
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

static pcnn_status
gradient(pcnn_grad *grad)
{
    pcnn_value *x = grad->in[0], *mean = grad->in[1], *var = grad->in[2], *gamma = grad->in[3];
    bool wants_statistics = grad->wanted[1] || grad->wanted[2];
    bool wants_gamma = gamma && grad->wanted[3], wants_beta = grad->in[4] && grad->wanted[4];
    if (!grad->wanted[0] && !wants_statistics && !wants_gamma && !wants_beta)
        return PCNN_OK;
    pcnn_value *results[3], *statistics[2];
    PCNN_TRY(PCNN_EMIT(grad, results, batch_norm_inference_grad, grad->attrs, grad->dout[0], x,
                       mean, var, gamma));
    pcnn_status status = PCNN_OK;
    if (wants_statistics)
        status = PCNN_EMIT(grad, statistics, batch_norm_inference_grad_statistics, grad->attrs,
                           results[1], results[2], var, gamma);
    if (wants_statistics && status == PCNN_OK)
        for (int i = 0; i < 2; i++) {
            if (grad->wanted[1 + i])
                grad->din[1 + i] = statistics[i];
            else
                pcnn_value_release(statistics[i]);
        }
    const int input[3] = {0, 3, 4};
    const bool wanted[3] = {grad->wanted[0], wants_gamma, wants_beta};
    for (int i = 0; i < 3; i++) {
        if (wanted[i] && status == PCNN_OK)
            grad->din[input[i]] = results[i];
        else
            pcnn_value_release(results[i]);
    }
    return status;
}

const pcnn_op pcnn_op_batch_norm_inference = {
    .name = "batch_norm_inference",
    .doc = "y = (x - mean) / sqrt(var + eps) * gamma + beta, with given mean and var.\n"
           "\n"
           "x of 2 to 5 dimensions, C channels at `axis`; mean[C], var[C]; gamma[C] and beta[C]\n"
           "may be absent (1 and 0) -> y like x.\n"
           "Raises ShapeError when an input does not have one number a channel, ValueError for a\n"
           "negative or non-finite eps.",
    .n_in = 5,
    .params = {{"x", false}, {"mean", false}, {"var", false}, {"gamma", true}, {"beta", true}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = pcnn_norm_attr_list,
    .attrs_size = sizeof(pcnn_norm_attrs),
    .saves_in = 1 | 2 | 4 | 8,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};

/* ---- gradient: in dy, x, mean, var, gamma; out dx, dgamma, dbeta ----
 *
 * With r = 1 / sqrt(var + eps): dx = gamma r dy, dgamma = r sum dy (x - mean), dbeta = sum dy. */

static pcnn_status
infer_grad(const pcnn_call *call, pcnn_type *out)
{
    out[0] = call->in[1];
    out[1] = out[2] = call->in[2];
    return PCNN_OK;
}

/* Stores dgamma and dbeta; fills the coefficients of dx = (dy - 0) * coef[1] + 0. */
static void
grad_coefficients(const pcnn_norm_job *job, int64_t c, double sum, double product, double coef[3])
{
    const pcnn_site *site = job->site;
    double r = 1 / sqrt(pcnn_real_get(&site->in[3], c, 0) + job->eps);
    coef[0] = coef[2] = 0;
    coef[1] = pcnn_real_get(&site->in[4], c, 1) * r;
    pcnn_real_put(job->dtype, site->out[1].data, c, product * r);
    pcnn_real_put(job->dtype, site->out[2].data, c, sum);
}

static void
grad_finish(const void *context, int64_t c)
{
    double sums[2], coef[3];
    pcnn_norm_total(context, c, sums);
    grad_coefficients(context, c, sums[0], sums[1], coef);
    pcnn_norm_put_coefficients(context, c, 3, coef);
}

static pcnn_status
run_grad(const pcnn_site *site)
{
    pcnn_norm_job job = pcnn_norm_make_job(site);
    pcnn_channel_passes passes = {pcnn_norm_grad_sums, grad_finish, pcnn_norm_affine,
                                  job.bytes * 0.8};
    pcnn_channels_run(&job.view, &passes, &job);
    return PCNN_OK;
}

static void
plane_grad_finish(const pcnn_site *site, int64_t channel)
{
    const pcnn_norm_job job = pcnn_norm_make_job(site);
    grad_finish(&job, channel);
}

static const pcnn_planes grad_planes = {.prepare = pcnn_norm_prepare,
                                        .sums = pcnn_norm_plane_grad_sums,
                                        .finish = plane_grad_finish,
                                        .apply = pcnn_norm_plane_affine,
                                        .rows = pcnn_norm_plane_rows};

static void
grad_reference_task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const pcnn_norm_job *job = context;
    const pcnn_channels *view = &job->view;
    const pcnn_site *site = job->site;
    const void *dy = site->in[0].data;
    for (int64_t c = begin; c < end; c++) {
        double sums[2], coef[3], mean = pcnn_real_get(&site->in[2], c, 0);
        job->kernels->batch_norm_reference_grad_sums(dy, site->in[1].data, view->outer, view->C,
                                                     view->inner, c, mean, sums);
        grad_coefficients(job, c, sums[0], sums[1], coef);
        job->kernels->batch_norm_reference_apply(dy, site->out[0].data, view->outer, view->C,
                                                 view->inner, c, coef);
    }
}

static pcnn_status
run_grad_reference(const pcnn_site *site)
{
    pcnn_norm_job job = pcnn_norm_make_job(site);
    pcnn_parallel(job.view.C, 1, job.bytes, grad_reference_task, &job);
    return PCNN_OK;
}

/* A channel's sums are made before its first element is overwritten: dx may lie on dy or x. */
static const pcnn_impl grad_impls[] = {
    {"n16", 3, 1, 3, pcnn_norm_refuse_n16, pcnn_norm_workspace, run_grad, &grad_planes},
    {"rows", 0, 0, 3, pcnn_norm_refuse_rows, pcnn_norm_workspace, run_grad, NULL},
    {"columns", 0, 0, 3, pcnn_norm_refuse_columns, pcnn_norm_workspace, run_grad, NULL},
    {"reference", 0, 0, 3, NULL, NULL, run_grad_reference, NULL},
    {.name = NULL},
};

const pcnn_op pcnn_op_batch_norm_inference_grad = {
    .name = "batch_norm_inference_grad",
    .doc = "dx, dgamma and dbeta of batch_norm_inference.",
    .n_in = 5,
    .params = {{"dy", false}, {"x", false}, {"mean", false}, {"var", false}, {"gamma", true}},
    .n_out = 3,
    .out_names = {"dx", "dgamma", "dbeta"},
    .attrs = pcnn_norm_attr_list,
    .attrs_size = sizeof(pcnn_norm_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_grad,
    .impls = grad_impls,
};

/* ---- gradients of the statistics, from those of gamma and beta ----
 *
 * dmean = -gamma r dbeta, dvar = -gamma r^2 dgamma / 2. In dgamma, dbeta, var, gamma. */

static pcnn_status
infer_statistics(const pcnn_call *call, pcnn_type *out)
{
    out[0] = out[1] = call->in[0];
    return PCNN_OK;
}

static pcnn_status
run_statistics(const pcnn_site *site)
{
    const pcnn_norm_attrs *attrs = site->attrs;
    const pcnn_tensor *in = site->in;
    const int64_t C = in[0].type.shape[0];
    const pcnn_dtype dtype = in[0].type.dtype;
    for (int64_t c = 0; c < C; c++) {
        double gamma = pcnn_real_get(&in[3], c, 1);
        double r = 1 / sqrt(pcnn_real_get(&in[2], c, 0) + attrs->eps);
        double dgamma = pcnn_real_get(&in[0], c, 0), dbeta = pcnn_real_get(&in[1], c, 0);
        pcnn_real_put(dtype, site->out[0].data, c, -gamma * r * dbeta);
        pcnn_real_put(dtype, site->out[1].data, c, -0.5 * gamma * r * r * dgamma);
    }
    return PCNN_OK;
}

static const pcnn_impl statistics_impls[] = {
    {.name = "reference", .run = run_statistics},
    {.name = NULL},
};

const pcnn_op pcnn_op_batch_norm_inference_grad_statistics = {
    .name = "batch_norm_inference_grad_statistics",
    .doc = "dmean and dvar of batch_norm_inference.",
    .n_in = 4,
    .params = {{"dgamma", false}, {"dbeta", false}, {"var", false}, {"gamma", true}},
    .n_out = 2,
    .out_names = {"dmean", "dvar"},
    .attrs = pcnn_norm_attr_list,
    .attrs_size = sizeof(pcnn_norm_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_statistics,
    .impls = statistics_impls,
};
