/* Convolutions as matrix products, in plain layout: for small batches.
 *
 * With col[c, i, j][oh, ow] = x[c][oh*SH-PT+i][ow*SW-PL+j], one image is
 *
 *     y[OC][OH OW] = w[OC][C KH KW] col,  dcol = w^T dy,  dw += dy col^T.
 *
 * A 1x1 kernel of stride 1 without padding needs no copy: col is x. Images are worked on side by
 * side, as many as there are buffers (a number that depends on shapes only), each by one thread;
 * a single image's product is cut into tiles instead. */
#include "blas/gemm.h"
#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/conv2d.h"

enum {
    MOST_IMAGES = 16,           /* worked on at once */
    MOST_BYTES = 64 << 20,      /* of buffers, unless one image alone takes more */
};

typedef enum { FORWARD, DX, DW } pass;

typedef struct {
    const pcnn_site *site;
    const pcnn_kernels *kernels;
    pcnn_conv2d_geometry g;
    pcnn_dtype dtype;
    int64_t N, size;         /* size: bytes of a real */
    int64_t taps, pixels;    /* col is [taps][pixels] */
    int64_t buffers;         /* images at once */
    int64_t col_bytes, dw_bytes;
    bool copies;             /* col differs from x */
    const char *x, *w, *b, *dy;
    char *y, *dx, *dw, *col, *parts;
} job;

static int64_t
aligned(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static job
job_of(const pcnn_site *site, pass pass)
{
    job job = {.site = site};
    const pcnn_tensor *in = site->in, *out = site->out;
    if (pass == FORWARD) {
        const pcnn_conv2d_attrs *attrs = site->attrs;
        job.g = pcnn_conv2d_geometry_of(&in[0].type, &in[1].type, &attrs->stride, &attrs->padding);
        job.g.activation = attrs->activation;
        job.x = in[0].data;
        job.w = in[1].data;
        job.b = site->n_in > 2 ? in[2].data : NULL;
        job.y = out[0].data;
    }
    else if (pass == DX) {
        const pcnn_conv2d_dx_attrs *attrs = site->attrs;
        job.g = pcnn_conv2d_geometry_of(&out[0].type, &in[1].type, &attrs->stride, &attrs->padding);
        job.dy = in[0].data;
        job.w = in[1].data;
        job.dx = out[0].data;
    }
    else {
        const pcnn_conv2d_dw_attrs *attrs = site->attrs;
        job.g = pcnn_conv2d_geometry_of(&in[0].type, &out[0].type, &attrs->stride, &attrs->padding);
        job.x = in[0].data;
        job.dy = in[1].data;
        job.dw = out[0].data;
    }
    const pcnn_conv2d_geometry *g = &job.g;
    job.dtype = in[0].type.dtype;
    job.kernels = pcnn_kernels_for(job.dtype);
    job.size = (int64_t)pcnn_dtype_size(job.dtype);
    job.N = in[0].type.shape[0];
    job.taps = g->C * g->KH * g->KW;
    job.pixels = g->OH * g->OW;
    job.copies = !(g->KH == 1 && g->KW == 1 && g->SH == 1 && g->SW == 1 && g->OH == g->H &&
                   g->OW == g->W && g->PT == 0 && g->PL == 0);
    job.col_bytes = job.copies ? aligned(job.taps * job.pixels * job.size) : 0;
    job.dw_bytes = pass == DW ? aligned(g->OC * job.taps * job.size) : 0;
    int64_t bytes = job.col_bytes + job.dw_bytes, most = bytes ? MOST_BYTES / bytes : MOST_IMAGES;
    most = most < 1 ? 1 : most > MOST_IMAGES ? MOST_IMAGES : most;
    job.buffers = job.N < most ? job.N : most;
    job.col = site->work;
    if (site->work)
        job.parts = (char *)site->work + job.buffers * job.col_bytes;
    return job;
}

static const char *
refuse(const pcnn_site *site, pass pass)
{
    const job job = job_of(site, pass);
    if (job.taps > PCNN_GEMM_MAX || job.pixels > PCNN_GEMM_MAX || job.g.OC > PCNN_GEMM_MAX)
        return "an extent is too large for BLAS";
    return NULL;
}

static int64_t
workspace(const pcnn_site *site, pass pass)
{
    const job job = job_of(site, pass);
    /* The sums of a single buffer are made in dw itself. */
    return job.buffers * (job.col_bytes + (job.buffers > 1 ? job.dw_bytes : 0));
}

/* col of image n, in buffer `buffer`. */
static const char *
columns(const job *job, int64_t n, int64_t buffer)
{
    const pcnn_conv2d_geometry *g = &job->g;
    const char *x = job->x + n * g->C * g->H * g->W * job->size;
    if (!job->copies)
        return x;
    char *col = job->col + buffer * job->col_bytes;
    job->kernels->im2col(g, x, col);
    return col;
}

static void
forward_image(const job *job, int64_t n, int64_t buffer, bool serial)
{
    const pcnn_conv2d_geometry *g = &job->g;
    char *y = job->y + n * g->OC * job->pixels * job->size;
    pcnn_gemm(job->dtype, false, false, g->OC, job->pixels, job->taps, 1, job->w, job->taps,
              columns(job, n, buffer), job->pixels, 0, y, job->pixels, serial);
    if (job->b || g->activation)
        job->kernels->bias_activation(y, g->OC, job->pixels, job->pixels, job->b, 1, 0,
                                      g->activation);
}

static void
dx_image(const job *job, int64_t n, int64_t buffer, bool serial)
{
    const pcnn_conv2d_geometry *g = &job->g;
    const char *dy = job->dy + n * g->OC * job->pixels * job->size;
    char *dx = job->dx + n * g->C * g->H * g->W * job->size;
    char *col = job->copies ? job->col + buffer * job->col_bytes : dx;
    pcnn_gemm(job->dtype, true, false, job->taps, job->pixels, g->OC, 1, job->w, job->taps, dy,
              job->pixels, 0, col, job->pixels, serial);
    if (job->copies)
        job->kernels->col2im(g, col, dx);
}

static void
dw_image(const job *job, int64_t n, int64_t buffer, bool serial)
{
    const pcnn_conv2d_geometry *g = &job->g;
    const char *dy = job->dy + n * g->OC * job->pixels * job->size;
    char *dw = job->buffers > 1 ? job->parts + buffer * job->dw_bytes : job->dw;
    pcnn_gemm(job->dtype, false, true, g->OC, job->taps, job->pixels, 1, dy, job->pixels,
              columns(job, n, buffer), job->pixels, n < job->buffers ? 0 : 1, dw, job->taps,
              serial);
}

typedef void (*image_function)(const job *job, int64_t n, int64_t buffer, bool serial);

typedef struct {
    const job *job;
    image_function image;
    int64_t first;
} batch;

static void
run_images(void *context, int64_t begin, int64_t end, int worker)
{
    const batch *batch = context;
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        batch->image(batch->job, batch->first + i, i, true);
}

static void
run(const job *job, image_function image)
{
    const double flops = 2.0 * (double)job->g.OC * (double)job->taps * (double)job->pixels;
    batch batch = {.job = job, .image = image};
    for (int64_t n = 0; n < job->N; n += job->buffers) {
        const int64_t images = job->N - n < job->buffers ? job->N - n : job->buffers;
        batch.first = n;
        if (job->buffers == 1)
            image(job, n, 0, false);
        else
            pcnn_parallel(images, 1, (double)images * flops / 25, run_images, &batch);
    }
}

const char *
pcnn_conv2d_im2col_refuse(const pcnn_site *site)
{
    return refuse(site, FORWARD);
}

int64_t
pcnn_conv2d_im2col_workspace(const pcnn_site *site)
{
    return workspace(site, FORWARD);
}

pcnn_status
pcnn_conv2d_im2col(const pcnn_site *site)
{
    const job job = job_of(site, FORWARD);
    run(&job, forward_image);
    return PCNN_OK;
}

const char *
pcnn_conv2d_dx_im2col_refuse(const pcnn_site *site)
{
    return refuse(site, DX);
}

int64_t
pcnn_conv2d_dx_im2col_workspace(const pcnn_site *site)
{
    return workspace(site, DX);
}

pcnn_status
pcnn_conv2d_dx_im2col(const pcnn_site *site)
{
    const job job = job_of(site, DX);
    run(&job, dx_image);
    return PCNN_OK;
}

const char *
pcnn_conv2d_dw_im2col_refuse(const pcnn_site *site)
{
    return refuse(site, DW);
}

int64_t
pcnn_conv2d_dw_im2col_workspace(const pcnn_site *site)
{
    return workspace(site, DW);
}

pcnn_status
pcnn_conv2d_dw_im2col(const pcnn_site *site)
{
    const job job = job_of(site, DW);
    const pcnn_conv2d_dw_attrs *attrs = site->attrs;
    if (job.N == 0) {
        /* A product over no pixels: BLAS's wrapper clears dw. */
        pcnn_gemm(job.dtype, false, true, job.g.OC, job.taps, 0, 1, NULL, 1, NULL, 1, 0, job.dw,
                  job.taps, true);
    }
    run(&job, dw_image);
    if (job.buffers > 1)
        job.kernels->sum_parts(job.parts, job.buffers, job.dw_bytes / job.size, job.g.OC * job.taps,
                               job.dw);
    if (attrs->bias)
        job.kernels->conv2d_db(&job.g, job.dy, site->out[1].data, job.N);
    return PCNN_OK;
}
