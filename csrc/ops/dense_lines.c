/* The products of a dense layer, over lines of sixteen images: what dense_maps, dense and matmul
 * share. Whatever the layout that the numbers come from, each result has the same bits:
 *
 *   y[n][o] = sum over r of x[n][r] w[r][o]: parts of r, each one chain of multiply-adds in the order
 *             of w's rows, added in order; how many parts depends on the shape only
 *   dx[n][r] = sum over o of dy[n][o] w[r][o], one chain in the order of o
 *   dw[r][o] = sum over n of x[n][r] dy[n][o], one chain in the order of n
 *
 * So a plan may take x from maps in layout N16 as they lie, or from rows, which are brought into lines
 * first (they are a product's packed panels). */
#include "ops/dense_lines.h"

#include <string.h>

#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/reorder.h"

typedef struct {
    const pcnn_kernels *kernels;
    pcnn_dense_maps g;
    int64_t size;          /* bytes of a real */
    int64_t blocks;        /* of images */
    int64_t parts, groups; /* forward: of rows, and of blocks */
    const char *x, *w, *b;
    char *y, *work;
    int64_t activation;
} job;

static job
job_of(pcnn_dtype dtype, const pcnn_dense_maps *g)
{
    job job = {.kernels = pcnn_kernels_for(dtype), .g = *g};
    job.size = (int64_t)pcnn_dtype_size(dtype);
    job.blocks = (g->N + PCNN_BLOCK - 1) / PCNN_BLOCK;
    /* A part costs a pass over its sums: it should be long. Blocks in a group share what was
     * fetched of w: short products, whose w stays in the cache, are cut there. */
    const int64_t rows = g->C * g->S, group = rows >= 1536 ? 8 : 2;
    job.groups = (job.blocks + group - 1) / group;
    job.parts = rows / 384;
    if (job.parts * job.groups > 16)
        job.parts = 16 / job.groups;
    if (job.parts < 1)
        job.parts = 1;
    return job;
}

static double
cost_ns(const job *job)
{
    const pcnn_dense_maps *g = &job->g;
    return 2.0 * (double)(g->N * g->O) * (double)(g->C * g->S) / (job->size == 8 ? 25 : 50);
}

/* ---- forward ---- */

int64_t
pcnn_dense_lines_workspace(pcnn_dtype dtype, const pcnn_dense_maps *g)
{
    const job job = job_of(dtype, g);
    return job.parts * job.blocks * g->O * PCNN_BLOCK * job.size;
}

static void
sum_task(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    const int64_t rows = job->g.C * job->g.S;
    (void)worker;
    for (int64_t item = begin; item < end; item++) {
        const int64_t part = item % job->parts, group = item / job->parts;
        job->kernels->dense_maps_forward(
            &job->g, job->x, job->w,
            job->work + part * job->blocks * job->g.O * PCNN_BLOCK * job->size,
            pcnn_tile_begin(job->blocks, job->groups, group),
            pcnn_tile_begin(job->blocks, job->groups, group + 1),
            pcnn_tile_begin(rows, job->parts, part), pcnn_tile_begin(rows, job->parts, part + 1));
    }
}

/* A block's sums: parts added up, turned into rows of y, bias and activation. */
static void
finish_task(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    const int64_t O = job->g.O, line = O * PCNN_BLOCK;
    (void)worker;
    for (int64_t b = begin; b < end; b++) {
        char *sums = job->work + b * line * job->size;
        char *y = job->y + b * line * job->size;
        const int64_t images = job->g.N - b * PCNN_BLOCK;
        const int64_t rows = images < PCNN_BLOCK ? images : PCNN_BLOCK;
        if (job->parts > 1)
            job->kernels->sum_parts(sums, job->parts, job->blocks * line, line, sums);
        job->kernels->reorder_to_rows(sums, y, rows, 1, O, 0, O);
        if (job->b || job->activation)
            job->kernels->bias_activation(y, rows, O, O, job->b, 0, 1, job->activation);
    }
}

void
pcnn_dense_lines_forward(pcnn_dtype dtype, const pcnn_dense_maps *g, const void *x, const void *w,
                         const void *b, int64_t activation, void *y, void *work)
{
    job job = job_of(dtype, g);
    if (g->O == 0 || g->N == 0)
        return;
    job.x = x;
    job.w = w;
    job.b = b;
    job.y = y;
    job.work = work;
    job.activation = activation;
    if (g->C * g->S == 0)
        memset(work, 0, (size_t)pcnn_dense_lines_workspace(dtype, g));
    else
        pcnn_parallel(job.parts * job.groups, 1, cost_ns(&job), sum_task, &job);
    pcnn_parallel(job.blocks, 1, (double)(g->O * PCNN_BLOCK * job.blocks * (job.parts + 2)) / 4,
                  finish_task, &job);
}

/* ---- the gradient of x ---- */

/* Rows of w in an item of both gradients: a multiple of every tile's. */
enum { ROWS = 48 };

static int64_t
items_of(const job *job)
{
    return (job->g.C * job->g.S + ROWS - 1) / ROWS;
}

static int64_t
item_end(const job *job, int64_t item)
{
    const int64_t rows = job->g.C * job->g.S, end = (item + 1) * ROWS;
    return end < rows ? end : rows;
}

int64_t
pcnn_dense_lines_dx_workspace(pcnn_dtype dtype, const pcnn_dense_maps *g)
{
    const job job = job_of(dtype, g);
    return job.blocks * g->O * PCNN_BLOCK * job.size;
}

static void
dx_task(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    (void)worker;
    job->kernels->dense_maps_dx(&job->g, job->work, job->w, job->y, begin * ROWS,
                                item_end(job, end - 1));
}

void
pcnn_dense_lines_dx(pcnn_dtype dtype, const pcnn_dense_maps *g, const void *dy, const void *w,
                    void *dx, void *work)
{
    job job = job_of(dtype, g);
    job.w = w;
    job.y = dx;
    job.work = work;
    pcnn_reorder_to_n16(dtype, (pcnn_rows){g->N, 1, g->O}, dy, work);
    pcnn_parallel(items_of(&job), 1, cost_ns(&job), dx_task, &job);
}

/* ---- the gradient of w ---- */

int64_t
pcnn_dense_lines_dw_workspace(pcnn_dtype dtype, const pcnn_dense_maps *g)
{
    return (g->O + PCNN_BLOCK - 1) / PCNN_BLOCK * PCNN_BLOCK * g->N *
           (int64_t)pcnn_dtype_size(dtype);
}

/* dy in panels of sixteen columns, the last filled up with zeros. */
static void
make_panels(const job *job, const char *dy, char *panels)
{
    const int64_t O = job->g.O, N = job->g.N, line = PCNN_BLOCK * job->size;
    for (int64_t o = 0; o < O; o += PCNN_BLOCK, panels += N * line) {
        const int64_t bytes = (O - o < PCNN_BLOCK ? O - o : PCNN_BLOCK) * job->size;
        const char *from = dy + o * job->size;
        for (int64_t n = 0; n < N; n++) {
            memcpy(panels + n * line, from + n * O * job->size, (size_t)bytes);
            memset(panels + n * line + bytes, 0, (size_t)(line - bytes));
        }
    }
}

static void
dw_task(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    (void)worker;
    job->kernels->dense_maps_dw(&job->g, job->x, job->work, job->y, begin * ROWS,
                                item_end(job, end - 1));
}

void
pcnn_dense_lines_dw(pcnn_dtype dtype, const pcnn_dense_maps *g, const void *x, const void *dy,
                    void *dw, void *work)
{
    job job = job_of(dtype, g);
    job.x = x;
    job.y = dw;
    job.work = work;
    make_panels(&job, dy, work);
    pcnn_parallel(items_of(&job), 1, cost_ns(&job), dw_task, &job);
}

/* ---- from rows and to rows ---- */

bool
pcnn_dense_lines_suit(int64_t N, int64_t I, int64_t O)
{
    return N >= 8 && I > 0 && O > 0 && N <= PCNN_DENSE_LINES_MAX / O;
}

static pcnn_dense_maps
rows_geometry(int64_t N, int64_t I, int64_t O)
{
    return (pcnn_dense_maps){.N = N, .C = I, .S = 1, .O = O};
}

static int64_t
lines_bytes(pcnn_dtype dtype, int64_t N, int64_t I)
{
    return (N + PCNN_BLOCK - 1) / PCNN_BLOCK * PCNN_BLOCK * I * (int64_t)pcnn_dtype_size(dtype);
}

/* The lines lie at the beginning of the workspace. */
int64_t
pcnn_dense_rows_workspace(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O, pcnn_dense_pass pass)
{
    const pcnn_dense_maps g = rows_geometry(N, I, O);
    const int64_t lines = lines_bytes(dtype, N, I);
    switch (pass) {
    case PCNN_DENSE_FORWARD: return lines + pcnn_dense_lines_workspace(dtype, &g);
    case PCNN_DENSE_DX: return lines + pcnn_dense_lines_dx_workspace(dtype, &g);
    default: return lines + pcnn_dense_lines_dw_workspace(dtype, &g);
    }
}

void
pcnn_dense_rows_forward(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O, const void *x,
                        const void *w, const void *b, int64_t activation, void *y, void *work)
{
    const pcnn_dense_maps g = rows_geometry(N, I, O);
    pcnn_reorder_to_n16(dtype, (pcnn_rows){N, 1, I}, x, work);
    pcnn_dense_lines_forward(dtype, &g, work, w, b, activation, y,
                             (char *)work + lines_bytes(dtype, N, I));
}

void
pcnn_dense_rows_dx(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O, const void *dy, const void *w,
                   void *dx, void *work)
{
    const pcnn_dense_maps g = rows_geometry(N, I, O);
    pcnn_dense_lines_dx(dtype, &g, dy, w, work, (char *)work + lines_bytes(dtype, N, I));
    pcnn_reorder_to_rows(dtype, (pcnn_rows){N, 1, I}, work, dx);
}

void
pcnn_dense_rows_dw(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O, const void *x, const void *dy,
                   void *dw, void *work)
{
    const pcnn_dense_maps g = rows_geometry(N, I, O);
    pcnn_reorder_to_n16(dtype, (pcnn_rows){N, 1, I}, x, work);
    pcnn_dense_lines_dw(dtype, &g, work, dy, dw, (char *)work + lines_bytes(dtype, N, I));
}
