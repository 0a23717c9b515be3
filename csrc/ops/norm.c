/* Checks, jobs and passes of the batch normalisation ops. */
#include "ops/norm.h"

#include <math.h>
#include <string.h>

const pcnn_attr pcnn_norm_attr_list[] = {
    PCNN_ATTR(pcnn_norm_attrs, axis, PCNN_ATTR_INT, "1"),
    PCNN_ATTR(pcnn_norm_attrs, eps, PCNN_ATTR_REAL, "0.001"),
    {NULL, 0, 0, NULL, NULL},
};

pcnn_status
pcnn_norm_check(const pcnn_call *call, int64_t *C)
{
    const pcnn_norm_attrs *attrs = call->attrs;
    const pcnn_type *x = &call->in[0];
    char text[PCNN_SHAPE_TEXT];
    int axis;
    PCNN_TRY(pcnn_expect_float(call, 0));
    if (x->ndim < 2 || x->ndim > 5)
        return pcnn_fail(PCNN_ERR_SHAPE, "%s: x must have 2 to 5 dimensions, got shape %s",
                         call->op->name, pcnn_shape_text(x, text));
    PCNN_TRY(pcnn_normalize_axis(call, attrs->axis, x->ndim, &axis));
    if (!isfinite(attrs->eps) || attrs->eps < 0)
        return pcnn_fail(PCNN_ERR_VALUE,
                         "%s: eps must be a finite number that is not negative, got %g",
                         call->op->name, attrs->eps);
    *C = x->shape[axis];
    for (int i = 1; i < call->n_in; i++) {
        PCNN_TRY(pcnn_expect_same_dtype(call, 0, i));
        PCNN_TRY(pcnn_expect_shape1(call, i, *C, "the number of channels of x"));
    }
    return PCNN_OK;
}

/* ---- jobs ---- */

static int
axis_of(const pcnn_site *site)
{
    const pcnn_norm_attrs *attrs = site->attrs;
    return (int)(attrs->axis < 0 ? attrs->axis + site->in[0].type.ndim : attrs->axis);
}

pcnn_norm_job
pcnn_norm_make_job(const pcnn_site *site)
{
    const pcnn_norm_attrs *attrs = site->attrs;
    pcnn_norm_job job = {.site = site, .dtype = site->in[0].type.dtype, .eps = attrs->eps};
    job.kernels = pcnn_kernels_for(job.dtype);
    job.view = pcnn_channels_view(&site->in[0], axis_of(site));
    job.bytes = (double)job.view.count * (double)job.view.C * (double)job.view.itemsize;
    return job;
}

int64_t
pcnn_norm_workspace(const pcnn_site *site)
{
    pcnn_channels view = pcnn_channels_view(&site->in[0], axis_of(site));
    return pcnn_channels_workspace(&view);
}

void
pcnn_norm_put_coefficients(const pcnn_norm_job *job, int64_t c, int n, const double *coef)
{
    void *coefficients = pcnn_channels_coefficients(&job->view, job->site->work, c);
    for (int i = 0; i < n; i++)
        pcnn_real_put(job->dtype, coefficients, i * job->view.C, coef[i]);
}

void
pcnn_norm_total(const pcnn_norm_job *job, int64_t c, double sums[2])
{
    sums[0] = sums[1] = 0;
    for (int64_t k = 0; k < job->view.chunks; k++) {
        const double *part = pcnn_channels_partials(&job->view, job->site->work, k, c);
        sums[0] += part[0];
        sums[1] += part[job->view.C];
    }
}

/* ---- passes ---- */

static void
grad_sums(const pcnn_norm_job *job, int64_t k, int64_t c, const pcnn_chunk *chunk, const void *dy,
          const void *x)
{
    const pcnn_channels *view = &job->view;
    double *sums = pcnn_channels_partials(view, job->site->work, k, c);
    const void *mean = pcnn_norm_at(&job->site->in[2], c * (int64_t)view->itemsize);
    if (view->columns)
        job->kernels->batch_norm_column_grad_sums(dy, x, chunk->n, view->C, mean, sums);
    else
        job->kernels->batch_norm_row_grad_sums(dy, x, chunk->n, chunk->lanes, view->C, mean, sums);
}

void
pcnn_norm_grad_sums(const void *context, int64_t k, int64_t c)
{
    const pcnn_norm_job *job = context;
    const pcnn_tensor *in = job->site->in;
    pcnn_chunk chunk = pcnn_channels_chunk(&job->view, k, c);
    grad_sums(job, k, c, &chunk, pcnn_norm_at(&in[0], chunk.offset),
              pcnn_norm_at(&in[1], chunk.offset));
}

static void
affine(const pcnn_norm_job *job, int64_t c, const pcnn_chunk *chunk, const void *source,
       void *target)
{
    const pcnn_channels *view = &job->view;
    const void *coef = pcnn_channels_coefficients(view, job->site->work, c);
    if (view->columns)
        job->kernels->batch_norm_column_apply(source, target, chunk->n, view->C, coef);
    else
        job->kernels->batch_norm_row_apply(source, target, chunk->n, chunk->lanes, view->C, coef);
}

void
pcnn_norm_affine(const void *context, int64_t k, int64_t c)
{
    const pcnn_norm_job *job = context;
    pcnn_chunk chunk = pcnn_channels_chunk(&job->view, k, c);
    affine(job, c, &chunk, pcnn_norm_at(&job->site->in[0], chunk.offset),
           pcnn_norm_at(&job->site->out[0], chunk.offset));
}

/* ---- the same on a plane of N16 ---- */

void
pcnn_norm_prepare(const pcnn_site *site, pcnn_plane_job *job)
{
    const pcnn_norm_job made = pcnn_norm_make_job(site);
    _Static_assert(sizeof made <= sizeof *job, "a job of planes has room for that of norms");
    memcpy(job, &made, sizeof made);
}

void
pcnn_norm_plane(const pcnn_plane *plane, pcnn_norm_chunk_pass pass)
{
    const pcnn_norm_job *job = plane->job;
    const pcnn_channels *view = &job->view;
    /* Where rows are longer than chunks, planes are never cut. */
    const int64_t rows = view->rows > 0 ? view->rows : 1;
    const int64_t first = plane->begin / rows;
    const int64_t end =
        plane->end < job->site->in[0].type.shape[2] ? plane->end / rows : view->per_row;
    for (int64_t i = first; i < end; i++) {
        int64_t k = plane->block * view->per_row + i;
        pcnn_chunk chunk = pcnn_channels_chunk(view, k, plane->channel);
        chunk.within -= first * view->chunk * (int64_t)view->itemsize;
        pass(job, plane, k, &chunk);
    }
}

pcnn_chunk
pcnn_norm_whole(const pcnn_norm_job *job, const pcnn_plane *plane)
{
    const pcnn_channels *view = &job->view;
    const int64_t rows = plane->end - plane->begin;
    return (pcnn_chunk){.n = rows * job->site->in[0].type.shape[3] * PCNN_BLOCK,
                        .lanes = plane->block == view->outer - 1 ? view->lanes : PCNN_BLOCK};
}

int64_t
pcnn_norm_plane_rows(const pcnn_site *site, int k)
{
    (void)k;
    return pcnn_norm_make_job(site).view.rows;
}

static void
plane_grad_sums(const pcnn_norm_job *job, const pcnn_plane *plane, int64_t k,
                const pcnn_chunk *chunk)
{
    grad_sums(job, k, plane->channel, chunk, (const char *)plane->in[0] + chunk->within,
              (const char *)plane->in[1] + chunk->within);
}

void
pcnn_norm_plane_grad_sums(const pcnn_site *site, const pcnn_plane *plane)
{
    (void)site;
    pcnn_norm_plane(plane, plane_grad_sums);
}

void
pcnn_norm_plane_affine(const pcnn_site *site, const pcnn_plane *plane)
{
    const pcnn_norm_job *job = plane->job;
    const pcnn_chunk chunk = pcnn_norm_whole(job, plane);
    (void)site;
    affine(job, plane->channel, &chunk, plane->in[0], plane->out[0]);
}

/* ---- which implementation ---- */

const char *
pcnn_norm_refuse_n16(const pcnn_site *site)
{
    if (site->in[0].type.ndim != 4)
        return "x does not have 4 dimensions";
    return axis_of(site) == 1 ? NULL : "the channels are not axis 1";
}

static bool
channels_come_last(const pcnn_site *site)
{
    const pcnn_type *x = &site->in[0].type;
    int64_t inner = 1;
    for (int i = axis_of(site) + 1; i < x->ndim; i++)
        inner *= x->shape[i];
    return inner == 1;
}

const char *
pcnn_norm_refuse_rows(const pcnn_site *site)
{
    return channels_come_last(site) ? "nothing lies behind the channels" : NULL;
}

const char *
pcnn_norm_refuse_columns(const pcnn_site *site)
{
    return channels_come_last(site) ? NULL : "the channels are not the last axis";
}

/* ---- reals ---- */

double
pcnn_real_get(const pcnn_tensor *t, int64_t i, double absent)
{
    if (!pcnn_type_present(&t->type))
        return absent;
    return t->type.dtype == PCNN_F32 ? (double)((const float *)t->data)[i]
                                     : ((const double *)t->data)[i];
}

void
pcnn_real_put(pcnn_dtype dtype, void *data, int64_t i, double value)
{
    if (dtype == PCNN_F32)
        ((float *)data)[i] = (float)value;
    else
        ((double *)data)[i] = value;
}
