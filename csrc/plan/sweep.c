/* Runs a chain: its steps on one plane after another (chain.c says what a chain is).
 *
 * Without sums, a worker takes a few planes at a time. With sums, the work is either cut by
 * channels, so that the later phases find a channel's planes where the earlier ones left them, or,
 * where there are too few channels for all threads, by planes, phase after phase. Where a source
 * makes tiles of channels, or a sink takes them, the work of its phase is cut by these. Partial sums
 * lie in the steps' workspaces and are combined there in their own order: the bits are always the
 * same. */
#include "core/parallel.h"
#include "plan/plan.h"

enum { INPUTS = 8, GRAIN_BYTES = 1 << 15 };

/* Where an operand is: plane p = block * C + channel of a value at base + p * step, a plane of
 * scratch memory (no base), one of a tile's planes there, or a whole (step 0). */
typedef struct {
    char *base;
    int64_t step, scratch;
    bool tiled;
} operand;

typedef struct {
    const pcnn_planes *planes;
    pcnn_site site;
    int32_t phase, until;
    operand in[INPUTS], out[PCNN_MAX_OUT];
} step;

typedef struct {
    step steps[PCNN_CHAIN_STEPS];
    int n_steps;
    int32_t phases, phase;
    int64_t blocks, C;
    const pcnn_source *source; /* of the first step, or NULL */
    const pcnn_sink *sink;     /* of the last step, or NULL */
    const step *tiler;         /* which of them there is */
    int64_t tiles;
    char *pieces;
    int64_t piece_bytes, n_pieces;
    int64_t items; /* of this call of the pool */
    void (*run)(const void *sweep, int64_t item, char *piece);
} sweep;

static operand
operand_of(const pcnn_pvalue *value, const pcnn_tensor *tensor)
{
    operand result = {.base = tensor->data};
    if (tensor->layout == PCNN_N16) {
        result.step = pcnn_plane_bytes(&tensor->type);
        result.scratch = value->offset;
    }
    return result;
}

static void *
address_of(const operand *o, int64_t plane, int64_t place, char *piece)
{
    if (o->base)
        return o->base + plane * o->step;
    return o->step ? piece + o->scratch + (o->tiled ? place * o->step : 0) : NULL;
}

/* All that `phase` does on one plane, which has this place in its tile. */
static void
run_plane(const sweep *s, int32_t phase, int64_t block, int64_t channel, int64_t place, char *piece)
{
    const void *in[INPUTS];
    void *out[PCNN_MAX_OUT];
    const pcnn_plane plane = {block, channel, in, out};
    for (int k = s->source ? 1 : 0; k < s->n_steps - (s->sink ? 1 : 0); k++) {
        const step *step = &s->steps[k];
        const bool sums = step->planes->sums && step->phase == phase;
        if (phase < step->phase || phase > step->until)
            continue;
        for (int i = 0; i < step->site.n_in; i++)
            in[i] = address_of(&step->in[i], block * s->C + channel, place, piece);
        for (int o = 0; o < step->site.n_out; o++)
            out[o] = address_of(&step->out[o], block * s->C + channel, place, piece);
        (sums ? step->planes->sums : step->planes->apply)(&step->site, &plane);
    }
}

static void
finish(const sweep *s, int32_t phase, int64_t channel)
{
    for (int k = 0; k < s->n_steps; k++)
        if (s->steps[k].planes->sums && s->steps[k].phase == phase)
            s->steps[k].planes->finish(&s->steps[k].site, channel);
}

/* Every other phase goes backwards: it starts with what is still in the cache. */
static void
run_channel(const void *context, int64_t channel, char *piece)
{
    const sweep *s = context;
    for (int32_t phase = 0; phase < s->phases; phase++) {
        for (int64_t b = 0; b < s->blocks; b++)
            run_plane(s, phase, phase % 2 ? s->blocks - 1 - b : b, channel, 0, piece);
        finish(s, phase, channel);
    }
}

static void
run_one_plane(const void *context, int64_t item, char *piece)
{
    const sweep *s = context;
    run_plane(s, s->phase, item / s->C, item % s->C, 0, piece);
}

/* The first channel of a tile. */
static int64_t
tile_channel(const sweep *s, int64_t tile)
{
    return s->source ? s->source->channel(&s->tiler->site, tile)
                     : s->sink->channel(&s->tiler->site, tile);
}

static void
run_tile_of_block(const sweep *s, int64_t block, int64_t tile, char *piece)
{
    const int64_t begin = tile_channel(s, tile), end = tile_channel(s, tile + 1);
    const step *first = &s->steps[0], *last = &s->steps[s->n_steps - 1];
    const int64_t plane = block * s->C + begin;
    if (s->source)
        s->source->fill(&first->site, block, tile, address_of(&first->out[0], plane, 0, piece));
    for (int64_t c = begin; c < end; c++)
        run_plane(s, s->phases - 1, block, c, c - begin, piece);
    if (s->sink)
        s->sink->take(&last->site, block, tile, address_of(&last->in[1], plane, 0, piece));
}

static void
run_tile(const void *context, int64_t item, char *piece)
{
    const sweep *s = context;
    run_tile_of_block(s, item / s->tiles, item % s->tiles, piece);
}

/* As run_channel, with a sink, for all channels of a tile. */
static void
run_channels(const void *context, int64_t tile, char *piece)
{
    const sweep *s = context;
    const int64_t end = tile_channel(s, tile + 1);
    const int32_t last = s->phases - 1;
    for (int64_t c = tile_channel(s, tile); c < end; c++)
        for (int32_t phase = 0; phase < last; phase++) {
            for (int64_t b = 0; b < s->blocks; b++)
                run_plane(s, phase, phase % 2 ? s->blocks - 1 - b : b, c, 0, piece);
            finish(s, phase, c);
        }
    for (int64_t b = 0; b < s->blocks; b++)
        run_tile_of_block(s, last % 2 ? s->blocks - 1 - b : b, tile, piece);
}

static void
finish_channels(void *context, int64_t begin, int64_t end, int worker)
{
    const sweep *s = context;
    (void)worker;
    for (int64_t c = begin; c < end; c++)
        finish(s, s->phase, c);
}

/* ---- the pool ---- */

static void
by_item(void *context, int64_t begin, int64_t end, int worker)
{
    const sweep *s = context;
    for (int64_t item = begin; item < end; item++)
        s->run(s, item, s->pieces + worker * s->piece_bytes);
}

/* Threads may have become more since the plan was made: then a piece takes items of its own. */
static void
by_piece(void *context, int64_t begin, int64_t end, int worker)
{
    const sweep *s = context;
    (void)worker;
    for (int64_t piece = begin; piece < end; piece++)
        for (int64_t item = piece; item < s->items; item += s->n_pieces)
            s->run(s, item, s->pieces + piece * s->piece_bytes);
}

static void
run_items(sweep *s, int64_t items, int64_t grain, double cost_ns,
          void (*run)(const void *, int64_t, char *))
{
    s->items = items;
    s->run = run;
    if (s->piece_bytes == 0 || pcnn_threads() <= s->n_pieces)
        pcnn_parallel(items, grain, cost_ns, by_item, s);
    else
        pcnn_parallel(s->n_pieces, 1, cost_ns, by_piece, s);
}

int64_t
pcnn_tile_width(const pcnn_planes *planes, const pcnn_site *site)
{
    int64_t (*const channel)(const pcnn_site *, int64_t) =
        planes->source ? planes->source->channel : planes->sink->channel;
    const int64_t tiles = planes->source ? planes->source->tiles(site) : planes->sink->tiles(site);
    int64_t width = 0;
    for (int64_t t = 0; t < tiles; t++) {
        const int64_t n = channel(site, t + 1) - channel(site, t);
        width = n > width ? n : width;
    }
    return width;
}

/* Phase by phase, all planes; the last phase by tiles, if it has them. */
static void
run_phases(sweep *s, double cost_ns, int64_t grain)
{
    for (s->phase = 0; s->phase < s->phases; s->phase++) {
        if (s->tiler && s->phase == s->phases - 1)
            run_items(s, s->blocks * s->tiles, 1, cost_ns / s->phases, run_tile);
        else
            run_items(s, s->blocks * s->C, grain, cost_ns / s->phases, run_one_plane);
        if (s->phases > 1)
            pcnn_parallel(s->C, 16, 100.0 * (double)s->C, finish_channels, s);
    }
}

pcnn_status
pcnn_sweep_run(const pcnn_pnode *nodes, const pcnn_pvalue *values, const pcnn_tensor *tensors,
               char *arena)
{
    sweep s = {.n_steps = nodes->chain,
               .pieces = arena + nodes->scratch->offset,
               .piece_bytes = nodes->scratch->bytes,
               .n_pieces = nodes->scratch->pieces};
    const pcnn_pnode *tail = nodes + nodes->chain - 1;
    s.source = nodes->impl->planes->source;
    s.sink = tail->impl->planes->sink;
    s.tiler = s.source ? &s.steps[0] : s.sink ? &s.steps[s.n_steps - 1] : NULL;
    const int32_t tiled = s.source ? nodes->out[0] : s.sink ? tail->in[1] : -1;
    const int64_t *shape = values[nodes->out[0]].type.shape; /* the first step is no sink */
    s.blocks = (shape[0] + PCNN_BLOCK - 1) / PCNN_BLOCK;
    s.C = shape[1];
    int64_t bytes = 0; /* that one plane of all operands takes */
    for (int k = 0; k < s.n_steps; k++) {
        const pcnn_pnode *node = &nodes[k];
        step *step = &s.steps[k];
        step->planes = node->impl->planes;
        step->phase = node->phase;
        step->until = node->until;
        step->site = (pcnn_site){.op = node->op,
                                 .attrs = node->attrs,
                                 .n_in = node->n_in,
                                 .n_out = node->n_out,
                                 .in = tensors,
                                 .out = tensors + node->n_in,
                                 .work = node->work_bytes > 0 ? arena + node->work_offset : NULL};
        for (int i = 0; i < node->n_in; i++, tensors++) {
            step->in[i] = (operand){.base = NULL};
            if (node->in[i] >= 0)
                step->in[i] = operand_of(&values[node->in[i]], tensors);
            step->in[i].tiled = node->in[i] == tiled && tiled >= 0;
            bytes += step->in[i].step;
        }
        for (int o = 0; o < node->n_out; o++, tensors++) {
            step->out[o] = operand_of(&values[node->out[o]], tensors);
            step->out[o].tiled = node->out[o] == tiled;
            bytes += step->out[o].step;
        }
        const int32_t phases = node->until + 1;
        s.phases = phases > s.phases ? phases : s.phases;
    }
    const int64_t grain = GRAIN_BYTES / bytes + 1;
    double cost = (double)(s.blocks * s.C * bytes) / 10;
    if (s.tiler) {
        const pcnn_site *site = &s.tiler->site;
        const int64_t tile = nodes->scratch->tile; /* 0: its planes are in the arena */
        if (tile > 0 && pcnn_tile_width(s.tiler->planes, site) > tile)
            return pcnn_fail(PCNN_ERR_RUNTIME,
                             "%s: this plan was made for another instruction set: make it anew",
                             site->op->name);
        s.tiles = s.source ? s.source->tiles(site) : s.sink->tiles(site);
        if (s.source)
            cost += s.source->prepare(site);
    }
    if (s.phases > 1 && s.sink && s.tiles >= 2 * pcnn_threads())
        run_items(&s, s.tiles, 1, cost, run_channels);
    else if (s.phases > 1 && !s.sink && s.C >= 4 * pcnn_threads())
        run_items(&s, s.C, 1, cost, run_channel);
    else
        run_phases(&s, cost, grain);
    if (s.sink)
        s.sink->finish(&s.tiler->site);
    return PCNN_OK;
}
