/* conv2d through Winograd's transforms (winograd.kernel.c): when, and in which pieces.
 *
 * Weights are transformed first. Then every item takes some columns and a group of output channels
 * and does all the rest for them: transforms of x, then, for a slice of channels at a time,
 * products and transforms to y. What lies between stays in a piece of scratch memory that shares
 * the second cache with the weights that pass. Few columns mean that every item reads all
 * transformed weights for little work, many that the scratch memory leaves the cache. Groups of
 * channels, each of which transforms x anew, are for deep layers with few columns. */
#include "core/options.h"
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
    WHOLE_TILE_CHANNELS = 32, /* of x, for tiles of 4x4 outputs on padded maps, at least */
};

typedef struct {
    const pcnn_kernels *kernels;
    pcnn_conv2d_geometry g;
    int64_t N, size; /* bytes of a real */
    int64_t columns, chunks, groups, tiles;
    int64_t most_columns, most_channels; /* of an item, of a slice */
    int64_t slice; /* tiles of channels multiplied and transformed at a time */
    int64_t U_step, V_step, M_step, slot; /* in reals */
    const void *x, *w, *b;
    void *y;
    char *U, *scratch;
} job;

/* The smallest and the largest padding of the four sides. */
static void
paddings(const pcnn_conv2d_geometry *g, int64_t *smallest, int64_t *largest)
{
    const int64_t sides[4] = {g->PT, g->OH + g->KH - 1 - g->PT - g->H, g->PL,
                              g->OW + g->KW - 1 - g->PL - g->W};
    *smallest = *largest = sides[0];
    for (int i = 1; i < 4; i++) {
        *smallest = sides[i] < *smallest ? sides[i] : *smallest;
        *largest = sides[i] > *largest ? sides[i] : *largest;
    }
}

/* Rows of outputs of a tile of the forward pass, at most. Tiles of 3x3 instead of 4x4, F(3x3,3x3),
 * have smaller errors, which the corners of a padded map need that are sums of few products. Where a
 * map's outer tiles are smaller anyway, they are enough. */
static int64_t
forward_tile(const pcnn_conv2d_geometry *g)
{
    int64_t smallest, largest;
    paddings(g, &smallest, &largest);
    if (g->KH != 3 || largest <= 0 || g->C >= WHOLE_TILE_CHANNELS)
        return 0;
    const bool smaller_outside = pcnn_tiles(g->OH, 4) * 4 - g->OH >= 2 &&
                                 pcnn_tiles(g->OW, 4) * 4 - g->OW >= 2;
    return smaller_outside ? 0 : 3;
}

static job
job_of(pcnn_dtype dtype, const pcnn_conv2d_geometry *geometry, int64_t N)
{
    job job = {.kernels = pcnn_kernels_for(dtype),
               .g = *geometry,
               .N = N,
               .size = (int64_t)pcnn_dtype_size(dtype)};
    const pcnn_conv2d_geometry *g = &job.g;
    job.g.tile = forward_tile(g);
    job.columns = (N + PCNN_BLOCK - 1) / PCNN_BLOCK * pcnn_winograd_tiles(g);
    job.tiles = pcnn_tiles(g->OC, job.kernels->winograd_channels());
    const int64_t column = PCNN_WINOGRAD_ELEMENTS * g->C * PCNN_BLOCK * job.size;
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
    job.slice = M_BYTES / (PCNN_WINOGRAD_ELEMENTS * most * channels * PCNN_BLOCK * job.size);
    if (job.slice < 1)
        job.slice = 1;
    if (job.slice > job.tiles)
        job.slice = job.tiles;
    job.most_channels = job.slice * channels;
    job.U_step = g->OC * g->C + PCNN_WINOGRAD_PAD;
    job.V_step = job.most_columns * g->C * PCNN_BLOCK + PCNN_WINOGRAD_PAD;
    job.M_step = job.most_columns * job.most_channels * PCNN_BLOCK + PCNN_WINOGRAD_PAD;
    job.slot = PCNN_WINOGRAD_ELEMENTS * (job.V_step + job.M_step);
    return job;
}

int64_t
pcnn_winograd_bytes(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N)
{
    const job job = job_of(dtype, g, N);
    const int64_t items = job.chunks * job.groups;
    const int64_t slots = items < PCNN_WINOGRAD_SLOTS ? items : PCNN_WINOGRAD_SLOTS;
    return (PCNN_WINOGRAD_ELEMENTS * job.U_step + slots * job.slot) * job.size;
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
    char *M = V + PCNN_WINOGRAD_ELEMENTS * job->V_step * job->size;
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
    job.scratch = (char *)work + PCNN_WINOGRAD_ELEMENTS * job.U_step * job.size;
    const double weights = (double)g->OC * (double)g->C;
    pcnn_parallel(job.tiles, 1, 8 * weights, transform_weights, &job);
    const double products = weights * PCNN_WINOGRAD_ELEMENTS * PCNN_BLOCK * (double)job.columns;
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

/* ---- when ---- */

/* Pairs of an output and a kernel row (or column) whose input exists: 0 <= o - padding + i < n. */
static int64_t
pairs(int64_t kernel, int64_t outputs, int64_t inputs, int64_t padding)
{
    int64_t count = 0;
    for (int64_t i = 0; i < kernel; i++) {
        const int64_t first = padding - i > 0 ? padding - i : 0;
        const int64_t end = inputs + padding - i < outputs ? inputs + padding - i : outputs;
        count += end > first ? end - first : 0;
    }
    return count;
}

int64_t
pcnn_winograd_elements(const pcnn_conv2d_geometry *g)
{
    const int64_t outputs[2] = {g->OH, g->OW};
    const int64_t tiles[2] = {pcnn_winograd_tile_rows(g), pcnn_winograd_tile_columns(g)};
    int64_t elements = 1;
    for (int axis = 0; axis < 2; axis++) {
        /* Tiles are even: those that are not whole lack one output, or all lack more. */
        const int64_t missing = tiles[axis] * pcnn_winograd_tile(g) - outputs[axis];
        elements *= 6 * tiles[axis] - (missing < tiles[axis] ? missing : tiles[axis]);
    }
    return elements;
}

/* The direct sum takes a multiply-add for every channel pair and tap that exists. Here there are 36
 * a whole tile, the transforms, which cost as much as TRANSFORM more channels on the other side, and once
 * for all blocks the weights. Measured: 6->16 to 256->512 channels, 3x3 to 28x28 pixels. */
static bool
pays(const pcnn_conv2d_geometry *g, int64_t blocks)
{
    const double TRANSFORM = g->KH == 3 ? 9 : 7, WEIGHTS = 1.5, MARGIN = 1.05;
    const double C = (double)g->C, OC = (double)g->OC;
    const double taps = (double)pairs(g->KH, g->OH, g->H, g->PT) *
                        (double)pairs(g->KW, g->OW, g->W, g->PL) * (double)blocks;
    const double elements = (double)(pcnn_winograd_elements(g) * blocks);
    const double cost =
        elements * (C * OC + TRANSFORM * (C + OC)) + PCNN_WINOGRAD_ELEMENTS * WEIGHTS * C * OC;
    return MARGIN * cost < taps * C * OC;
}

const char *
pcnn_winograd_refuse(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N, int64_t terms,
                     int64_t least)
{
    if (pcnn_option_winograd == PCNN_WINOGRAD_OFF)
        return "switched off";
    if (g->KH != g->KW || (g->KH != 3 && g->KH != 5))
        return "the kernel is neither 3x3 nor 5x5";
    if (g->SH != 1 || g->SW != 1)
        return "the stride is not 1";
    if (pcnn_option_winograd == PCNN_WINOGRAD_ALWAYS)
        return NULL;
    if (dtype != PCNN_F32)
        return "float64 is for checking: the direct sum rounds less";
    if (terms < least)
        return "too short sums: rounding errors would not average out";
    if (!pays(g, pcnn_tiles(N, PCNN_BLOCK)))
        return "the transforms would cost more than they save";
    return NULL;
}

/* A tile's errors are those of its largest numbers, but the corner of a padded map is a sum of only
 * a part of the taps: it needs more channels for its own errors to be as large, or smaller tiles.
 * The figures of `least` are measured on normal and ReLU-like numbers. */
const char *
pcnn_winograd_forward_refuse(pcnn_dtype dtype, const pcnn_conv2d_geometry *geometry, int64_t N)
{
    pcnn_conv2d_geometry g = *geometry;
    g.tile = forward_tile(&g);
    int64_t smallest, largest;
    paddings(&g, &smallest, &largest);
    if (largest > g.KH / 2 && pcnn_option_winograd != PCNN_WINOGRAD_ALWAYS)
        return "padding above half the kernel: outputs of few products would lose digits";
    const int64_t least = g.KH == 3 ? 16 : largest > 0 ? 8 : 6;
    return pcnn_winograd_refuse(dtype, &g, N, g.C, least);
}

/* For dx it is the other way round: without padding its corners have one product a channel. */
const char *
pcnn_winograd_dx_refuse(pcnn_dtype dtype, const pcnn_conv2d_geometry *f, int64_t N)
{
    const int64_t least = f->KH == 3 ? 40 : 16, padded_least = f->KH == 3 ? 16 : 8;
    int64_t smallest, largest;
    paddings(f, &smallest, &largest);
    return pcnn_winograd_refuse(dtype, f, N, f->OC, smallest < f->KH / 2 ? least : padded_least);
}
