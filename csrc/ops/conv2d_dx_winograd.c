/* conv2d_dx through Winograd's transforms (winograd_dx.kernel.c): in which pieces.
 *
 * Tiles of dy overlap in dx, so an item owns whole images: some blocks, and a group of channels of
 * dx. It adds tile after tile, in order, chunk by chunk of columns and slice by slice of channels
 * as in the forward pass. */
#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/conv2d.h"
#include "ops/winograd.h"

enum {
    D_BYTES = 1 << 18, /* of a chunk, about */
    R_BYTES = 1 << 17,
    MIN_COLUMNS = 2,  /* of a chunk */
    ITEM_COLUMNS = 4, /* of an item, at least, where there are so many */
    MIN_ITEMS = 8,
    GROUP_CHANNELS = 48, /* of a group, at least */
};

typedef struct {
    const pcnn_kernels *kernels;
    pcnn_conv2d_geometry f;        /* of the forward pass */
    pcnn_conv2d_geometry sum;      /* the products: over channels of dy, for channels of dx */
    int64_t N, size;               /* bytes of a real */
    int64_t elements, blocks, ranges, groups, tiles;
    int64_t map_tiles;                    /* of a block */
    int64_t most_columns, slice; /* of a chunk; tiles of channels that are multiplied at a time */
    int64_t U_step, D_step, R_step, slot; /* in reals */
    const void *dy, *w;
    char *dx, *U, *scratch;
} job;

static int64_t
between(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

static job
job_of(pcnn_dtype dtype, const pcnn_conv2d_geometry *forward, int64_t N)
{
    pcnn_conv2d_geometry tiled = *forward;
    (void)pcnn_winograd_dx(dtype, &tiled, N);
    const pcnn_conv2d_geometry *f = &tiled;
    job job = {.kernels = pcnn_kernels_for(dtype),
               .f = tiled,
               .elements = pcnn_winograd_elements(f),
               .sum = {.C = f->OC,
                       .OC = f->C,
                       .OH = f->OH, /* for the tiles of a map */
                       .OW = f->OW,
                       .KH = f->KH,
                       .KW = f->KW,
                       .w_out = f->w_in,
                       .w_in = f->w_out,
                       .w_row = f->w_row,
                       .w_column = f->w_column,
                       .tile = f->tile,
                       .cut = f->cut},
               .N = N,
               .size = (int64_t)pcnn_dtype_size(dtype)};
    job.blocks = pcnn_tiles(N, PCNN_BLOCK);
    job.map_tiles = pcnn_winograd_tiles(f);
    job.tiles = pcnn_tiles(f->C, job.kernels->winograd_channels());
    job.ranges = pcnn_tiles(job.blocks, pcnn_tiles(ITEM_COLUMNS, job.map_tiles));
    job.groups = 1;
    while (job.ranges * job.groups < MIN_ITEMS && job.groups < job.tiles &&
           f->C >= GROUP_CHANNELS * (job.groups + 1))
        job.groups++;
    const int64_t row = job.elements * PCNN_BLOCK * job.size;
    const int64_t channels = job.kernels->winograd_channels();
    job.most_columns =
        between(f->OC ? D_BYTES / (f->OC * row) : 0, MIN_COLUMNS, PCNN_WINOGRAD_COLUMNS);
    job.slice = between(R_BYTES / (job.most_columns * channels * row), 1, job.tiles);
    job.U_step = f->OC * f->C + PCNN_WINOGRAD_PAD;
    job.D_step = job.most_columns * f->OC * PCNN_BLOCK + PCNN_WINOGRAD_PAD;
    job.R_step = job.most_columns * job.slice * channels * PCNN_BLOCK + PCNN_WINOGRAD_PAD;
    job.slot = job.elements * (job.D_step + job.R_step);
    return job;
}

int64_t
pcnn_winograd_dx_bytes(pcnn_dtype dtype, const pcnn_conv2d_geometry *f, int64_t N)
{
    const job job = job_of(dtype, f, N);
    const int64_t slots = between(job.ranges * job.groups, 0, PCNN_WINOGRAD_SLOTS);
    return (job.elements * job.U_step + slots * job.slot) * job.size;
}

static void
transform_weights(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    (void)worker;
    job->kernels->winograd_weights(&job->sum, job->w, job->U, job->U_step, begin, end);
}

static void
run_item(const void *context, int64_t item, int64_t slot)
{
    const job *job = context;
    const pcnn_conv2d_geometry *f = &job->f;
    const pcnn_kernels *kernels = job->kernels;
    const int64_t range = item / job->groups, group = item % job->groups;
    const int64_t block0 = pcnn_tile_begin(job->blocks, job->ranges, range);
    const int64_t block1 = pcnn_tile_begin(job->blocks, job->ranges, range + 1);
    const int64_t tile0 = pcnn_tile_begin(job->tiles, job->groups, group);
    const int64_t tile1 = pcnn_tile_begin(job->tiles, job->groups, group + 1);
    char *D = job->scratch + slot * job->slot * job->size;
    char *R = D + job->elements * job->D_step * job->size;
    const int64_t first = block0 * job->map_tiles, columns = (block1 - block0) * job->map_tiles;
    const int64_t chunks = pcnn_tiles(columns, job->most_columns);
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        const int64_t begin = first + pcnn_tile_begin(columns, chunks, chunk);
        const int64_t end = first + pcnn_tile_begin(columns, chunks, chunk + 1);
        kernels->winograd_dx_input(f, job->dy, D, job->D_step, job->N, begin, end);
        for (int64_t tile = tile0; tile < tile1; tile += job->slice) {
            const int64_t to = between(tile + job->slice, tile, tile1);
            kernels->winograd_products(&job->sum, job->U, job->U_step, D, job->D_step, R,
                                       job->R_step, job->N, begin, end, tile, to);
            kernels->winograd_dx_output(f, R, job->R_step, job->dx, job->N, begin, end,
                                        pcnn_tile_begin(f->C, job->tiles, tile),
                                        pcnn_tile_begin(f->C, job->tiles, to));
        }
    }
}

void
pcnn_winograd_dx_run(pcnn_dtype dtype, const pcnn_conv2d_geometry *f, int64_t N, const void *dy,
                     const void *w, void *dx, void *work)
{
    job job = job_of(dtype, f, N);
    job.dy = dy;
    job.w = w;
    job.dx = dx;
    job.U = work;
    job.scratch = (char *)work + job.elements * job.U_step * job.size;
    const double weights = (double)f->OC * (double)f->C;
    const double columns = (double)(job.blocks * job.map_tiles);
    pcnn_parallel(job.tiles, 1, 8 * weights, transform_weights, &job);
    pcnn_winograd_parallel(job.ranges * job.groups,
                           weights * (double)job.elements * PCNN_BLOCK * columns /
                               (dtype == PCNN_F64 ? 12 : 25),
                           run_item, &job);
}
