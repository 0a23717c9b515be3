/* Runs the N16 kernel of conv2d.kernel.c over blocks of images, bands of rows and tiles of
 * channels. Every item writes outputs of its own, each summed in one order: nothing to combine. */
#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/conv2d.h"

enum {
    BAND_BYTES =
        131072, /* of x under a band: it and a tile's weights share the second-level cache */
    MIN_ITEMS = 32,      /* enough to keep eight threads evenly busy */
};

typedef struct {
    const pcnn_kernels *kernels;
    const pcnn_conv2d_geometry *g;
    int64_t N, size; /* bytes of a real */
    int64_t tiles, groups, bands;
    const char *x, *w, *b;
    char *y, *packed;
} job;

int64_t
pcnn_conv2d_packed_bytes(pcnn_dtype dtype, const pcnn_conv2d_geometry *g)
{
    return g->OC * g->C * g->KH * g->KW * (int64_t)pcnn_dtype_size(dtype);
}

/* A convolution with the channels of one tile only. */
static pcnn_conv2d_geometry
part_of(const pcnn_conv2d_geometry *g, int64_t first, int64_t end)
{
    pcnn_conv2d_geometry part = *g;
    part.OC = end - first;
    part.w_origin += first * g->w_out;
    return part;
}

static void
pack_tiles(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    const pcnn_conv2d_geometry *g = job->g;
    const int64_t bytes = g->C * g->KH * g->KW * job->size; /* of a channel of y */
    (void)worker;
    for (int64_t tile = begin; tile < end; tile++) {
        const int64_t first = pcnn_tile_begin(g->OC, job->tiles, tile);
        const pcnn_conv2d_geometry part =
            part_of(g, first, pcnn_tile_begin(g->OC, job->tiles, tile + 1));
        job->kernels->conv2d_pack(&part, job->w, job->packed + first * bytes);
    }
}

static void
run_items(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    const pcnn_conv2d_geometry *g = job->g;
    (void)worker;
    for (int64_t item = begin; item < end; item++) {
        const int64_t block = item / (job->bands * job->groups);
        const int64_t band = item / job->groups % job->bands, group = item % job->groups;
        const int64_t images = job->N - block * PCNN_BLOCK;
        const int64_t x_block = g->C * g->H * g->W * PCNN_BLOCK * job->size;
        const int64_t y_block = g->OC * g->y_channel * PCNN_BLOCK * job->size;
        job->kernels->conv2d_n16(
            g, job->x + block * x_block, job->packed, job->b, job->y + block * y_block,
            pcnn_tile_begin(job->tiles, job->groups, group),
            pcnn_tile_begin(job->tiles, job->groups, group + 1),
            pcnn_tile_begin(g->OH, job->bands, band), pcnn_tile_begin(g->OH, job->bands, band + 1),
            images < PCNN_BLOCK ? images : PCNN_BLOCK);
    }
}

static job
job_of(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N)
{
    job job = {.kernels = pcnn_kernels_for(dtype),
               .g = g,
               .N = N,
               .size = (int64_t)pcnn_dtype_size(dtype)};
    job.tiles = pcnn_tiles(g->OC, job.kernels->conv2d_channels());
    return job;
}

static void
pack(job *job)
{
    const pcnn_conv2d_geometry *g = job->g;
    const double weights = (double)g->OC * (double)g->C * (double)(g->KH * g->KW);
    pcnn_parallel(job->tiles, 1, weights, pack_tiles, job);
}

/* Rough cost of all sums in ns. */
static double
cost_of(const job *job)
{
    const pcnn_conv2d_geometry *g = job->g;
    const double weights = (double)g->OC * (double)g->C * (double)(g->KH * g->KW);
    const double pixels = (double)(g->OH * g->OW * pcnn_tiles(job->N, PCNN_BLOCK) * PCNN_BLOCK);
    return 2.0 * weights * pixels / (job->size == 8 ? 25 : 50);
}

void
pcnn_conv2d_n16_run(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N, const void *x,
                    const void *w, const void *b, void *y, void *packed)
{
    const int64_t blocks = (N + PCNN_BLOCK - 1) / PCNN_BLOCK;
    if (blocks * g->OC * g->OH * g->OW == 0)
        return;
    job job = job_of(dtype, g, N);
    job.x = x;
    job.w = w;
    job.b = b;
    job.y = y;
    job.packed = packed;
    pack(&job);

    const int64_t C = g->C < PCNN_CONV2D_CHUNK ? g->C : PCNN_CONV2D_CHUNK;
    const int64_t row_bytes = C * g->W * PCNN_BLOCK * job.size;
    int64_t rows = (row_bytes ? BAND_BYTES / row_bytes - g->KH : g->OH) / g->SH + 1;
    job.bands = pcnn_tiles(g->OH, rows < 1 ? 1 : rows > g->OH ? g->OH : rows);
    job.groups = pcnn_tiles(MIN_ITEMS, blocks * job.bands);
    if (job.groups > job.tiles)
        job.groups = job.tiles;
    pcnn_parallel(blocks * job.bands * job.groups, 1, cost_of(&job), run_items, &job);
}

/* ---- tile by tile ---- */

double
pcnn_conv2d_n16_pack(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N, const void *w,
                     int64_t tiles, void *packed)
{
    job job = job_of(dtype, g, N);
    job.w = w;
    job.packed = packed;
    job.tiles = tiles;
    pack(&job);
    return cost_of(&job);
}

void
pcnn_conv2d_n16_fill(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N, const void *x,
                     const void *b, const void *packed, int64_t block, int64_t tile, int64_t tiles,
                     void *planes)
{
    const int64_t size = (int64_t)pcnn_dtype_size(dtype), images = N - block * PCNN_BLOCK;
    const int64_t first = pcnn_tile_begin(g->OC, tiles, tile);
    const pcnn_conv2d_geometry part = part_of(g, first, pcnn_tile_begin(g->OC, tiles, tile + 1));
    pcnn_kernels_for(dtype)->conv2d_n16(
        &part, (const char *)x + block * g->C * g->H * g->W * PCNN_BLOCK * size,
        (const char *)packed + first * g->C * g->KH * g->KW * size,
        b ? (const char *)b + first * size : NULL, planes, 0, 1, 0, g->OH,
        images < PCNN_BLOCK ? images : PCNN_BLOCK);
}
