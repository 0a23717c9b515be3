/* conv2d_dw through Winograd's transforms (winograd_dw.kernel.c): in which pieces.
 *
 * An item takes a range of columns and a group of panels (LANES output channels each), sums their
 * products, chunk by chunk of columns and slice by slice of panels, and transforms the sums to taps,
 * of which there are fewer, while they are warm: so sums are scratch memory of a thread. Afterwards
 * the taps of the ranges are added in order. All of it depends on shapes only. */
#include <string.h>

#include "core/options.h"
#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/conv2d.h"
#include "ops/winograd.h"

enum {
    ITEMS = 8,
    GROUP_CHANNELS = 64, /* of a group, at least */
    RANGE_COLUMNS = 4,   /* of a range, at least */
    /* Of a chunk. Long ones leave the second cache, but partial sums are read and written once for
     * each: short ones only where these are small as well, and a range is not one chunk anyway. */
    SCRATCH_BYTES = 1 << 18, /* for x; for dy, which is read once, twice that */
    MIN_COLUMNS = 6,
    SMALL_BYTES = 1 << 17, /* for x, and for partial sums */
    SMALL_MIN_COLUMNS = 4,
};

typedef struct {
    const pcnn_site *site;
    const pcnn_kernels *kernels;
    pcnn_conv2d_geometry g;
    bool bias;
    int64_t N, size; /* bytes of a real */
    int64_t elements, columns, ranges, panels, groups;
    int64_t most_columns, slice; /* of a chunk; panels that are multiplied at a time */
    int64_t lanes;
    int64_t taps_panel, taps_range; /* of the taps of one channel, of a range; in reals */
    int64_t V_step, D_step, sums_step, slot; /* in reals */
    char *taps, *biases, *scratch;
} job;

static pcnn_conv2d_geometry
forward_of(const pcnn_site *site)
{
    const pcnn_conv2d_dw_attrs *attrs = site->attrs;
    return pcnn_conv2d_geometry_of(&site->in[0].type, &site->out[0].type, &attrs->stride,
                                   &attrs->padding);
}

static int64_t
at_most(int64_t value, int64_t most)
{
    return value < most ? value : most;
}

static int64_t
at_least(int64_t value, int64_t least)
{
    return value > least ? value : least;
}

/* Ranges hold as many images each as can be, not columns: where this one begins. None is empty:
 * RANGE_COLUMNS columns have at least two full ones' images, or are all of one block. */
static int64_t
range_begin(const job *job, int64_t range)
{
    const int64_t tiles = pcnn_winograd_tiles(&job->g), full = job->N / PCNN_BLOCK * tiles;
    const int64_t images = pcnn_tile_begin(job->N * tiles, job->ranges, range);
    if (images <= full * PCNN_BLOCK)
        return images / PCNN_BLOCK;
    return full + (images - full * PCNN_BLOCK) / (job->N % PCNN_BLOCK);
}

static int64_t
longest_range(const job *job)
{
    int64_t most = 0;
    for (int64_t range = 0; range < job->ranges; range++)
        most = at_least(range_begin(job, range + 1) - range_begin(job, range), most);
    return most;
}

static job
job_of(const pcnn_site *site)
{
    const pcnn_conv2d_dw_attrs *attrs = site->attrs;
    const pcnn_dtype dtype = site->in[0].type.dtype;
    job job = {.site = site,
               .kernels = pcnn_kernels_for(dtype),
               .g = forward_of(site),
               .bias = attrs->bias != 0,
               .N = site->in[0].type.shape[0],
               .size = (int64_t)pcnn_dtype_size(dtype)};
    const pcnn_conv2d_geometry *g = &job.g;
    (void)pcnn_winograd_dw(dtype, &job.g, job.N);
    job.elements = pcnn_winograd_elements(g);
    job.columns = pcnn_tiles(job.N, PCNN_BLOCK) * pcnn_winograd_tiles(g);
    job.lanes = job.kernels->winograd_lanes();
    job.panels = pcnn_tiles(g->OC, job.lanes);
    job.groups = at_most(at_least(g->OC / GROUP_CHANNELS, 1), ITEMS);
    job.ranges = at_least(at_most(pcnn_tiles(ITEMS, job.groups), job.columns / RANGE_COLUMNS), 1);

    const int64_t row = job.elements * PCNN_BLOCK * job.size;
    const int64_t most_panels = pcnn_tiles(job.panels, job.groups);
    job.taps_panel = g->KH * g->KW * job.lanes;
    job.taps_range = g->C * job.panels * job.taps_panel;
    job.sums_step = g->C * most_panels * job.lanes + PCNN_WINOGRAD_PAD;
    const bool small = job.elements * job.sums_step * job.size <= SMALL_BYTES &&
                       job.columns > job.ranges * PCNN_WINOGRAD_COLUMNS;
    const int64_t bytes = small ? SMALL_BYTES : SCRATCH_BYTES;
    job.most_columns =
        at_most(at_least(g->C ? bytes / (g->C * row) : 0, small ? SMALL_MIN_COLUMNS : MIN_COLUMNS),
                at_most(PCNN_WINOGRAD_COLUMNS, at_least(longest_range(&job), 1)));
    /* Pairs of panels, which the products want. */
    job.slice = 2 * at_least(2 * bytes / (job.most_columns * 2 * job.lanes * row), 1);
    job.slice = at_most(job.slice, most_panels);
    job.V_step = job.most_columns * g->C * PCNN_BLOCK + PCNN_WINOGRAD_PAD;
    job.D_step = job.most_columns * job.slice * job.lanes * PCNN_BLOCK + PCNN_WINOGRAD_PAD;
    job.slot = job.elements * (job.V_step + job.D_step + job.sums_step);
    if (job.ranges == 1)
        job.slot += most_panels * job.taps_panel;
    job.taps = site->work;
    job.biases = job.taps + (job.ranges > 1 ? job.ranges * job.taps_range * job.size : 0);
    job.scratch = job.biases + job.ranges * job.panels * job.lanes * PCNN_BLOCK * job.size;
    return job;
}

int64_t
pcnn_winograd_dw_workspace(const pcnn_site *site)
{
    const job job = job_of(site);
    const int64_t slots = at_most(job.ranges * job.groups, PCNN_WINOGRAD_SLOTS);
    return ((job.ranges > 1 ? job.ranges * job.taps_range : 0) +
            job.ranges * job.panels * job.lanes * PCNN_BLOCK + slots * job.slot) *
           job.size;
}

static void
run_item(const void *context, int64_t item, int64_t slot)
{
    const job *job = context;
    const pcnn_conv2d_geometry *g = &job->g;
    const pcnn_kernels *kernels = job->kernels;
    const int64_t range = item / job->groups, group = item % job->groups;
    const int64_t panel0 = pcnn_tile_begin(job->panels, job->groups, group);
    const int64_t panel1 = pcnn_tile_begin(job->panels, job->groups, group + 1);
    const int64_t first = range_begin(job, range), columns = range_begin(job, range + 1) - first;
    const int64_t chunks = pcnn_tiles(columns, job->most_columns);
    char *V = job->scratch + slot * job->slot * job->size;
    char *D = V + job->elements * job->V_step * job->size;
    char *sums = D + job->elements * job->D_step * job->size;
    const int64_t sums_panel = job->lanes * job->size, bias_panel = PCNN_BLOCK * sums_panel;
    char *bias = job->biases + range * job->panels * bias_panel;
    memset(bias + panel0 * bias_panel, 0, (size_t)((panel1 - panel0) * bias_panel));
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        const int64_t begin = first + pcnn_tile_begin(columns, chunks, chunk);
        const int64_t end = first + pcnn_tile_begin(columns, chunks, chunk + 1);
        kernels->winograd_input(g, job->site->in[0].data, V, job->V_step, job->N, begin, end);
        for (int64_t panel = panel0; panel < panel1; panel += job->slice) {
            const int64_t to = at_most(panel + job->slice, panel1);
            kernels->winograd_dw_input(g, job->site->in[1].data, D, job->D_step,
                                       job->bias ? bias + panel * bias_panel : NULL, job->N, begin,
                                       end, panel, to);
            kernels->winograd_dw_products(
                g, V, job->V_step, D, job->D_step, sums + (panel - panel0) * sums_panel,
                job->sums_step, job->N, begin, end, to - panel, panel1 - panel0, chunk == 0);
        }
    }
    if (job->ranges > 1) {
        const int64_t at = range * job->taps_range + panel0 * job->taps_panel;
        kernels->winograd_dw_taps(g, sums, job->sums_step, job->taps + at * job->size,
                                  job->panels * job->taps_panel, panel1 - panel0, 0, g->C);
        return;
    }
    char *taps = sums + job->elements * job->sums_step * job->size;
    for (int64_t c = 0; c < g->C; c++) {
        kernels->winograd_dw_taps(g, sums, job->sums_step, taps, 0, panel1 - panel0, c, c + 1);
        kernels->winograd_dw_output(g, taps, 1, 0, job->site->out[0].data, panel0, panel1, c,
                                    c + 1);
    }
}

static void
finish_channels(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    (void)worker;
    const int64_t at = begin * job->panels * job->taps_panel;
    job->kernels->winograd_dw_output(&job->g, job->taps + at * job->size, job->ranges,
                                     job->taps_range, job->site->out[0].data, 0, job->panels, begin,
                                     end);
}

pcnn_status
pcnn_winograd_dw_run(const pcnn_site *site)
{
    job job = job_of(site);
    const pcnn_conv2d_geometry *g = &job.g;
    const double weights = (double)g->OC * (double)g->C;
    const double products = weights * (double)job.elements * PCNN_BLOCK * (double)job.columns;
    pcnn_winograd_parallel(job.ranges * job.groups, products / (job.size == 8 ? 12 : 25), run_item,
                           &job);
    if (job.ranges > 1)
        pcnn_parallel(g->C, 8, (double)(g->KH * g->KW) / 4 * weights * (double)job.ranges,
                      finish_channels, &job);
    if (job.bias)
        job.kernels->winograd_db_output(job.biases, job.ranges, job.panels, site->out[1].data,
                                        g->OC);
    return PCNN_OK;
}

const char *
pcnn_winograd_dw_refuse(const pcnn_site *site)
{
    pcnn_conv2d_geometry g = forward_of(site);
    return pcnn_winograd_dw(site->in[0].type.dtype, &g, site->in[0].type.shape[0]);
}
