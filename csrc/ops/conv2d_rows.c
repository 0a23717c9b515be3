/* Convolution in plain layout, forward: small batches, down to one image.
 *
 * Runs the kernel of conv2d_rows.kernel.c over images, tiles of output channels and strips of
 * pixels. Its source is made first, one of two:
 *
 * - the image with its padding around it. A tap is then a shift by a constant, and a row of y is a
 *   row of the source; the KW-1 positions by which a row of the source is longer are computed in
 *   vain;
 * - the columns of im2col, y's pixels of all rows side by side: for strides, and where rows are so
 *   short and output channels so many that copying costs less than those positions.
 *
 * Neither weights nor sums are packed or split: one image pays for nothing that is done once. */
#include <string.h>

#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/conv2d.h"
#include "ops/conv2d_rows.h"

enum {
    MOST_IMAGES = 16,      /* worked on at once */
    MOST_BYTES = 32 << 20, /* of their sources, unless one alone takes more */
    ITEMS = 16,            /* enough to keep a few threads evenly busy */
    LEAST_STRIP = 64,      /* positions */
};

typedef struct {
    const pcnn_kernels *kernels;
    pcnn_conv2d_geometry g;
    pcnn_conv2d_rows s;
    int64_t size; /* bytes of a real */
    bool columns; /* the source is im2col's */
    int64_t source_bytes, channel_bytes; /* of an image, of a channel */
    int64_t N, images, first;            /* images of the batch, at once, from */
    int64_t tiles, row_strips, column_strips;
    const char *x, *w, *b;
    char *y, *sources;
} job;

static int64_t
aligned(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* Whether positions computed in vain cost more than im2col: about 50 multiply-adds, and 4 elements
 * copied, a nanosecond, and 3 nanoseconds a row. */
static bool
prefers_columns(const pcnn_conv2d_geometry *g)
{
    if (g->SH != 1 || g->SW != 1)
        return true;
    const double vain = (double)(g->OC * g->OH * (g->KW - 1)) / 50;
    return vain > (double)(g->OH * g->OW) / 4 + (double)g->OH * 3;
}

static job
job_of(const pcnn_site *site)
{
    const pcnn_conv2d_attrs *attrs = site->attrs;
    const pcnn_tensor *x = &site->in[0], *w = &site->in[1];
    job job = {.kernels = pcnn_kernels_for(x->type.dtype),
               .size = (int64_t)pcnn_dtype_size(x->type.dtype),
               .N = x->type.shape[0],
               .x = x->data,
               .w = w->data,
               .b = site->n_in > 2 ? site->in[2].data : NULL,
               .y = site->out[0].data};
    job.g = pcnn_conv2d_geometry_of(&x->type, &w->type, &attrs->stride, &attrs->padding);
    const pcnn_conv2d_geometry *g = &job.g;
    const int64_t taps = g->KH * g->KW;
    job.columns = prefers_columns(g);
    job.s = (pcnn_conv2d_rows){.taps = g->C * taps,
                               .OC = g->OC,
                               .OH = job.columns ? 1 : g->OH,
                               .OW = job.columns ? g->OH * g->OW : g->OW,
                               .pitch = job.columns ? g->OH * g->OW : g->OW + g->KW - 1,
                               .activation = attrs->activation};
    const int64_t channel = job.columns ? taps * job.s.pitch : (g->OH + g->KH - 1) * job.s.pitch;
    job.channel_bytes = channel * job.size;
    job.source_bytes = aligned(g->C * job.channel_bytes + PCNN_ROWS_SLACK * job.size);
    const int64_t most = MOST_BYTES / job.source_bytes;
    job.images = most < 1 ? 1 : most > MOST_IMAGES ? MOST_IMAGES : most;
    if (job.images > job.N)
        job.images = job.N;
    return job;
}

/* How y is cut, into strips of at most PCNN_ROWS_STRIP positions and into enough items. */
static void
cut(job *job)
{
    const pcnn_conv2d_rows *s = &job->s;
    job->tiles = pcnn_tiles(s->OC, job->kernels->conv2d_rows_channels());
    const int64_t rows = PCNN_ROWS_STRIP / s->pitch;
    job->row_strips = pcnn_tiles(s->OH, rows < 1 ? 1 : rows);
    job->column_strips = rows < 1 ? pcnn_tiles(s->OW, PCNN_ROWS_STRIP) : 1;
    int64_t items = job->images * job->tiles * job->row_strips * job->column_strips;
    if (s->OH == 1 && items < ITEMS)
        job->column_strips = pcnn_tiles(s->OW, LEAST_STRIP);
    while (s->OH > 1 && items < ITEMS && 2 * job->row_strips <= s->OH &&
           s->OH / (2 * job->row_strips) * s->pitch >= LEAST_STRIP) {
        job->row_strips *= 2;
        items *= 2;
    }
}

static void
fill_offsets(const job *job, int64_t *offset)
{
    const pcnn_conv2d_geometry *g = &job->g;
    const int64_t pitch = job->s.pitch;
    for (int64_t c = 0; c < g->C; c++)
        for (int64_t i = 0; i < g->KH; i++)
            for (int64_t j = 0; j < g->KW; j++)
                *offset++ = job->columns ? ((c * g->KH + i) * g->KW + j) * pitch
                                         : (c * (g->OH + g->KH - 1) + i) * pitch + j;
}

/* The rows and columns of channel x that y sees, zeros around. */
static void
pad_channel(const job *job, const char *x, char *to)
{
    const pcnn_conv2d_geometry *g = &job->g;
    const int64_t columns = job->s.pitch, size = job->size;
    const int64_t left = g->PL < columns ? g->PL : columns;
    const int64_t inside = g->W < columns - left ? g->W : columns - left;
    for (int64_t i = 0; i < g->OH + g->KH - 1; i++, to += columns * size) {
        const int64_t h = i - g->PT;
        if (h < 0 || h >= g->H) {
            memset(to, 0, (size_t)(columns * size));
            continue;
        }
        memset(to, 0, (size_t)(left * size));
        memcpy(to + left * size, x + h * g->W * size, (size_t)(inside * size));
        memset(to + (left + inside) * size, 0, (size_t)((columns - left - inside) * size));
    }
}

static void
make_sources(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    const int64_t C = job->g.C;
    pcnn_conv2d_geometry one = job->g;
    one.C = 1;
    (void)worker;
    for (int64_t item = begin; item < end; item++) {
        const int64_t image = item / C, c = item % C;
        const char *x = job->x + ((job->first + image) * C + c) * job->g.H * job->g.W * job->size;
        char *to = job->sources + image * job->source_bytes + c * job->channel_bytes;
        if (job->columns)
            job->kernels->im2col(&one, x, to);
        else
            pad_channel(job, x, to);
    }
}

static void
sum_items(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    const pcnn_conv2d_rows *s = &job->s;
    (void)worker;
    for (int64_t item = begin; item < end; item++) {
        int64_t rest = item;
        const int64_t tile = rest % job->tiles;
        rest /= job->tiles;
        const int64_t column = rest % job->column_strips;
        rest /= job->column_strips;
        const int64_t row = rest % job->row_strips, image = rest / job->row_strips;
        job->kernels->conv2d_rows(s, job->sources + image * job->source_bytes, job->w, job->b,
                                  job->y + (job->first + image) * s->OC * s->OH * s->OW * job->size,
                                  tile, pcnn_tile_begin(s->OH, job->row_strips, row),
                                  pcnn_tile_begin(s->OH, job->row_strips, row + 1),
                                  pcnn_tile_begin(s->OW, job->column_strips, column),
                                  pcnn_tile_begin(s->OW, job->column_strips, column + 1));
    }
}

int64_t
pcnn_conv2d_rows_workspace(const pcnn_site *site)
{
    const job job = job_of(site);
    return aligned(job.s.taps * (int64_t)sizeof(int64_t)) + job.images * job.source_bytes;
}

pcnn_status
pcnn_conv2d_rows_run(const pcnn_site *site)
{
    job job = job_of(site);
    const pcnn_conv2d_rows *s = &job.s;
    if (job.N * s->OC * s->OH * s->OW == 0)
        return PCNN_OK;
    cut(&job);
    int64_t *offset = site->work;
    fill_offsets(&job, offset);
    job.s.offset = offset;
    job.sources = (char *)site->work + aligned(s->taps * (int64_t)sizeof(int64_t));
    const double copied = (double)job.channel_bytes / 10;
    const double sums = (double)(s->OC * s->taps) * (double)(s->OH * s->pitch) / 40;
    for (job.first = 0; job.first < job.N; job.first += job.images) {
        const int64_t rest = job.N - job.first, images = rest < job.images ? rest : job.images;
        pcnn_parallel(images * job.g.C, 1, (double)(images * job.g.C) * copied, make_sources, &job);
        pcnn_parallel(images * job.tiles * job.row_strips * job.column_strips, 1,
                      (double)images * sums, sum_items, &job);
    }
    return PCNN_OK;
}
