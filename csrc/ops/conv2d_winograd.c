/* conv2d through Winograd's transforms (winograd.kernel.c): in which pieces.
 *
 * Weights are transformed first. Then every item takes some columns and a group of output channels
 * and does all the rest for them: transforms of x, then, for a slice of channels at a time,
 * products and transforms to y. What lies between stays in a piece of scratch memory that shares
 * the second cache with the weights that pass. Few columns mean that every item reads all
 * transformed weights for little work, many that the scratch memory leaves the cache. Groups of
 * channels, each of which transforms x anew, are for deep layers with few columns. */
#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/conv2d.h"
#include "ops/winograd.h"

enum {
    V_BYTES = 1 << 18, /* of an item, about */
    M_BYTES = 1 << 17,
    MIN_COLUMNS = 2, /* of an item */
    MIN_ITEMS = 16,
    GROUP_CHANNELS = 48, /* of a group, at least */
};

typedef struct {
    const pcnn_kernels *kernels;
    pcnn_conv2d_geometry g;
    int64_t N, size; /* bytes of a real */
    int64_t elements, columns, chunks, groups, tiles;
    int64_t most_columns, most_channels; /* of an item, of a slice */
    int64_t slice; /* tiles of channels multiplied and transformed at a time */
    int64_t U_step, V_step, M_step, slot; /* in reals */
    const void *x, *w, *b;
    void *y;
    char *U, *scratch;
} job;

static job
job_of(pcnn_dtype dtype, const pcnn_conv2d_geometry *geometry, int64_t N)
{
    job job = {.kernels = pcnn_kernels_for(dtype),
               .g = *geometry,
               .N = N,
               .size = (int64_t)pcnn_dtype_size(dtype)};
    const pcnn_conv2d_geometry *g = &job.g;
    (void)pcnn_winograd_forward(dtype, &job.g, N);
    job.elements = pcnn_winograd_elements(g);
    job.columns = (N + PCNN_BLOCK - 1) / PCNN_BLOCK * pcnn_winograd_tiles(g);
    job.tiles = pcnn_tiles(g->OC, job.kernels->winograd_channels());
    const int64_t column = job.elements * g->C * PCNN_BLOCK * job.size;
    int64_t most = column ? V_BYTES / column : PCNN_WINOGRAD_COLUMNS;
    most = most < MIN_COLUMNS             ? MIN_COLUMNS
           : most > PCNN_WINOGRAD_COLUMNS ? PCNN_WINOGRAD_COLUMNS
                                          : most;
    job.chunks = pcnn_tiles(job.columns, most);
    job.groups = 1;
    while (job.chunks * job.groups < MIN_ITEMS && job.groups < job.tiles &&
           g->OC >= GROUP_CHANNELS * (job.groups + 1))
        job.groups++;
    job.most_columns = job.chunks ? pcnn_tiles(job.columns, job.chunks) : 0;
    const int64_t channels = job.kernels->winograd_channels();
    job.slice = M_BYTES / (job.elements * most * channels * PCNN_BLOCK * job.size);
    if (job.slice < 1)
        job.slice = 1;
    if (job.slice > job.tiles)
        job.slice = job.tiles;
    job.most_channels = job.slice * channels;
    job.U_step = g->OC * g->C + PCNN_WINOGRAD_PAD;
    job.V_step = job.most_columns * g->C * PCNN_BLOCK + PCNN_WINOGRAD_PAD;
    job.M_step = job.most_columns * job.most_channels * PCNN_BLOCK + PCNN_WINOGRAD_PAD;
    job.slot = job.elements * (job.V_step + job.M_step);
    return job;
}

int64_t
pcnn_winograd_bytes(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N)
{
    const job job = job_of(dtype, g, N);
    const int64_t items = job.chunks * job.groups;
    const int64_t slots = items < PCNN_WINOGRAD_SLOTS ? items : PCNN_WINOGRAD_SLOTS;
    return (job.elements * job.U_step + slots * job.slot) * job.size;
}

static void
transform_weights(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    (void)worker;
    job->kernels->winograd_weights(&job->g, job->w, job->U, job->U_step, begin, end);
}

static void
run_item(const void *context, int64_t item, int64_t slot)
{
    const job *job = context;
    const pcnn_conv2d_geometry *g = &job->g;
    const pcnn_kernels *kernels = job->kernels;
    const int64_t chunk = item / job->groups, group = item % job->groups;
    const int64_t begin = pcnn_tile_begin(job->columns, job->chunks, chunk);
    const int64_t end = pcnn_tile_begin(job->columns, job->chunks, chunk + 1);
    const int64_t tile0 = pcnn_tile_begin(job->tiles, job->groups, group);
    const int64_t tile1 = pcnn_tile_begin(job->tiles, job->groups, group + 1);
    char *V = job->scratch + slot * job->slot * job->size;
    char *M = V + job->elements * job->V_step * job->size;
    kernels->winograd_input(g, job->x, V, job->V_step, job->N, begin, end);
    for (int64_t tile = tile0; tile < tile1; tile += job->slice) {
        const int64_t to = tile + job->slice < tile1 ? tile + job->slice : tile1;
        kernels->winograd_products(g, job->U, job->U_step, V, job->V_step, M, job->M_step, job->N,
                                   begin, end, tile, to);
        kernels->winograd_output(g, M, job->M_step, job->b, job->y, job->N, begin, end,
                                 pcnn_tile_begin(g->OC, job->tiles, tile),
                                 pcnn_tile_begin(g->OC, job->tiles, to));
    }
}

void
pcnn_winograd_run(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N, const void *x,
                  const void *w, const void *b, void *y, void *work)
{
    job job = job_of(dtype, g, N);
    if (job.columns * g->OC == 0)
        return;
    job.x = x;
    job.w = w;
    job.b = b;
    job.y = y;
    job.U = work;
    job.scratch = (char *)work + job.elements * job.U_step * job.size;
    const double weights = (double)g->OC * (double)g->C;
    pcnn_parallel(job.tiles, 1, 8 * weights, transform_weights, &job);
    const double products = weights * (double)job.elements * PCNN_BLOCK * (double)job.columns;
    pcnn_winograd_parallel(job.chunks * job.groups, products / (dtype == PCNN_F64 ? 12 : 25),
                           run_item, &job);
}

/* ---- scratch memory for items ---- */

typedef struct {
    int64_t items, slots;
    pcnn_winograd_item run;
    const void *job;
} shared;

static void
by_item(void *context, int64_t begin, int64_t end, int worker)
{
    const shared *shared = context;
    for (int64_t item = begin; item < end; item++)
        shared->run(shared->job, item, worker);
}

static void
by_slot(void *context, int64_t begin, int64_t end, int worker)
{
    const shared *shared = context;
    (void)worker;
    for (int64_t slot = begin; slot < end; slot++)
        for (int64_t item = slot; item < shared->items; item += shared->slots)
            shared->run(shared->job, item, slot);
}

void
pcnn_winograd_parallel(int64_t items, double cost_ns, pcnn_winograd_item run, const void *job)
{
    shared shared = {.items = items,
                     .slots = items < PCNN_WINOGRAD_SLOTS ? items : PCNN_WINOGRAD_SLOTS,
                     .run = run,
                     .job = job};
    /* A worker keeps its piece, which stays warm; with more workers than pieces a piece takes
     * items of its own. */
    if (pcnn_threads() <= shared.slots)
        pcnn_parallel(items, 1, cost_ns, by_item, &shared);
    else
        pcnn_parallel(shared.slots, 1, cost_ns, by_slot, &shared);
}
