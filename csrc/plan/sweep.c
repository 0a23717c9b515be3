/* Runs a chain: its steps on one plane after another (chain.c says what a chain is).
 *
 * Without sums, a worker takes a few planes at a time. With sums, the work is either cut by
 * channels, so that the later phases find a channel's planes where the earlier ones left them, or,
 * where there are too few channels for all threads, by planes, phase after phase. Where a source
 * makes tiles of channels in the first phase, or a sink takes them in the last, the work is cut by
 * these; always so where a source's planes are kept for later phases. Within a plane the steps that
 * take strips go through it together, strip by strip (chain_strips.c). Partial sums lie in the steps'
 * workspaces and are combined there in their own order: the bits are always the same. */
#include "core/parallel.h"
#include "core/tiles.h"
#include "plan/plan.h"

enum { INPUTS = 8, GRAIN_BYTES = 1 << 15 };

/* Where an operand is: plane p = block * C + channel of a value at base + p * step; in scratch
 * memory (no base); or a whole (step 0). Of a tile, scratch memory has all planes, `channel` apart;
 * of planes that are kept, those of all blocks, `block` apart. Strips of a plane are `strip` apart,
 * or in the same place, where no more of it is kept. */
typedef struct {
    char *base;
    int64_t step, scratch, block, channel, strip;
} operand;

typedef struct {
    const pcnn_planes *planes;
    pcnn_site site;
    int32_t phase, until;
    int64_t height, rows; /* of output 0's planes, and of its strips where there are any */
    operand in[INPUTS], out[PCNN_MAX_OUT];
    int8_t moving[INPUTS + PCNN_MAX_OUT]; /* the operands whose strips are apart, inputs first */
    int n_moving;
    pcnn_plane_job job;
} step;

typedef struct {
    step steps[PCNN_CHAIN_STEPS];
    int n_steps;
    int32_t phases, phase;
    int64_t strips; /* of planes for steps first_cut .. end_cut - 1; or 0 */
    int first_cut, end_cut;
    int64_t blocks, C;
    const pcnn_source *source; /* of the first step, or NULL */
    const pcnn_sink *sink;     /* of the last step, or NULL */
    int32_t made, taken; /* the values that these make and take tile by tile, or -1 */
    int64_t tile, tiles; /* channels of a tile, and tiles, where there is one of these; else 0 */
    char *pieces; /* of scratch memory, one for each thread */
    int64_t piece_bytes;
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

/* The planes of this operand lie side by side in scratch memory: those of a tile of channels. */
static void
set_tiled(operand *o, const pcnn_pvalue *value, int64_t tile)
{
    o->channel = o->step;
    o->block = value->kept ? tile * o->step : 0;
}

/* Where the strips of a step's operands are. */
static void
set_strips(step *step, const pcnn_pnode *node, const pcnn_pvalue *values)
{
    const pcnn_site *site = &step->site;
    step->n_moving = 0;
    step->height = site->out[0].type.ndim == 4 ? site->out[0].type.shape[2] : 0;
    if (node->units == 0)
        return;
    for (int k = 0; k < node->n_in + node->n_out; k++) {
        const bool in = k < node->n_in;
        const int32_t v = in ? node->in[k] : node->out[k - node->n_in];
        operand *o = in ? &step->in[k] : &step->out[k - node->n_in];
        if (v < 0 || o->step == 0)
            continue;
        const int64_t rows = node->units * step->planes->rows(site, k);
        if (!in && k == node->n_in)
            step->rows = rows;
        if (values[v].strip)
            continue;
        o->strip = o->step / values[v].type.shape[2] * rows;
        step->moving[step->n_moving++] = (int8_t)k;
    }
}

/* `place` is the channel's in its tile. */
static char *
address_of(const operand *o, int64_t plane, int64_t block, int64_t place, char *piece)
{
    if (o->base)
        return o->base + plane * o->step;
    return o->step ? piece + o->scratch + block * o->block + place * o->channel : NULL;
}

/* A step's operands for the plane in hand, and what it is to do with them; NULL: nothing. */
typedef struct {
    const void *in[INPUTS];
    void *out[PCNN_MAX_OUT];
    pcnn_plane plane;
    void (*run)(const pcnn_site *, const pcnn_plane *);
} placed;

static void
place_step(const step *step, int32_t phase, int64_t block, int64_t channel, int64_t number,
           int64_t place, char *piece, placed *p)
{
    const pcnn_planes *planes = step->planes;
    p->run = NULL;
    if (phase < step->phase || phase > step->until)
        return;
    p->run = planes->sums && step->phase == phase ? planes->sums : planes->apply;
    for (int i = 0; i < step->site.n_in; i++)
        p->in[i] = address_of(&step->in[i], number, block, place, piece);
    for (int o = 0; o < step->site.n_out; o++)
        p->out[o] = address_of(&step->out[o], number, block, place, piece);
    p->plane = (pcnn_plane){.block = block,
                            .channel = channel,
                            .end = step->height,
                            .job = &step->job,
                            .in = p->in,
                            .out = p->out};
}

/* To the next strip of a plane, or the first one. */
static void
go_to_strip(const step *step, placed *p, int64_t strip, int64_t strips)
{
    for (int m = 0; m < step->n_moving && strip > 0; m++) {
        const int k = step->moving[m];
        if (k < step->site.n_in)
            p->in[k] = (const char *)p->in[k] + step->in[k].strip;
        else
            p->out[k - step->site.n_in] =
                (char *)p->out[k - step->site.n_in] + step->out[k - step->site.n_in].strip;
    }
    p->plane.begin = strip * step->rows;
    p->plane.end = strip + 1 < strips ? p->plane.begin + step->rows : step->height;
}

/* All that `phase` does on one plane, which has this place in its tile. */
static void
run_plane(const sweep *s, int32_t phase, int64_t block, int64_t channel, int64_t place, char *piece)
{
    const int64_t number = block * s->C + channel;
    const int first = s->source ? 1 : 0, end = s->n_steps - (s->sink ? 1 : 0);
    placed at[PCNN_CHAIN_STEPS];
    for (int k = first; k < end; k++)
        place_step(&s->steps[k], phase, block, channel, number, place, piece, &at[k]);
    for (int k = first; k < end; k++) {
        const bool cut = s->strips > 0 && k == s->first_cut;
        const int behind = cut ? s->end_cut : k + 1;
        const int64_t strips = cut ? s->strips : 1;
        for (int64_t strip = 0; strip < strips; strip++)
            for (int i = k; i < behind; i++)
                if (at[i].run) {
                    if (cut)
                        go_to_strip(&s->steps[i], &at[i], strip, strips);
                    at[i].run(&s->steps[i].site, &at[i].plane);
                }
        k = behind - 1;
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

/* One phase of a tile's planes of a block: made before it, or taken after it, if it is the turn. */
static void
run_tile_of_block(const sweep *s, int32_t phase, int64_t block, int64_t tile, char *piece)
{
    const int64_t begin = pcnn_tile_begin(s->C, s->tiles, tile);
    const int64_t end = pcnn_tile_begin(s->C, s->tiles, tile + 1);
    const int64_t number = block * s->C + begin;
    const step *first = &s->steps[0], *last = &s->steps[s->n_steps - 1];
    if (s->source && phase == 0)
        s->source->fill(&first->site, block, tile, s->tiles,
                        address_of(&first->out[0], number, block, 0, piece));
    for (int64_t c = begin; c < end; c++)
        run_plane(s, phase, block, c, c - begin, piece);
    if (s->sink && phase == s->phases - 1)
        s->sink->take(&last->site, block, tile, s->tiles,
                      address_of(&last->in[1], number, block, 0, piece));
}

static void
run_tile(const void *context, int64_t item, char *piece)
{
    const sweep *s = context;
    run_tile_of_block(s, s->phase, item / s->tiles, item % s->tiles, piece);
}

/* As run_channel, for all channels of a tile. */
static void
run_channels(const void *context, int64_t tile, char *piece)
{
    const sweep *s = context;
    const int64_t end = pcnn_tile_begin(s->C, s->tiles, tile + 1);
    for (int32_t phase = 0; phase < s->phases; phase++) {
        for (int64_t b = 0; b < s->blocks; b++)
            run_tile_of_block(s, phase, phase % 2 ? s->blocks - 1 - b : b, tile, piece);
        for (int64_t c = pcnn_tile_begin(s->C, s->tiles, tile); c < end; c++)
            finish(s, phase, c);
    }
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

static void
run_items(sweep *s, int64_t items, int64_t grain, double cost_ns,
          void (*run)(const void *, int64_t, char *))
{
    s->run = run;
    pcnn_parallel(items, grain, cost_ns, by_item, s);
}

/* Phase by phase, all planes; by tiles where these are made or taken. */
static void
run_phases(sweep *s, double cost_ns, int64_t grain)
{
    for (s->phase = 0; s->phase < s->phases; s->phase++) {
        if ((s->source && s->phase == 0) || (s->sink && s->phase == s->phases - 1))
            run_items(s, s->blocks * s->tiles, 1, cost_ns / s->phases, run_tile);
        else
            run_items(s, s->blocks * s->C, grain, cost_ns / s->phases, run_one_plane);
        if (s->phases > 1)
            pcnn_parallel(s->C, 16, 100.0 * (double)s->C, finish_channels, s);
    }
}

/* Looks a step's operands up. Returns the bytes that one plane of them takes. */
static int64_t
fill_step(const sweep *s, step *step, const pcnn_pnode *node, const pcnn_pvalue *values,
          const pcnn_tensor *tensors, char *arena)
{
    int64_t bytes = 0;
    step->planes = node->impl->planes;
    step->phase = node->phase;
    step->until = node->until;
    step->site = pcnn_pnode_site(node, tensors, arena);
    for (int k = 0; k < node->n_in + node->n_out; k++) {
        const bool in = k < node->n_in;
        const int32_t v = in ? node->in[k] : node->out[k - node->n_in];
        operand *o = in ? &step->in[k] : &step->out[k - node->n_in];
        *o = (operand){.base = NULL};
        if (v < 0)
            continue;
        *o = operand_of(&values[v], &tensors[k]);
        if (v == s->made || v == s->taken)
            set_tiled(o, &values[v], s->tile);
        bytes += o->step;
    }
    set_strips(step, node, values);
    if (step->planes->prepare)
        step->planes->prepare(&step->site, &step->job);
    return bytes;
}

pcnn_status
pcnn_sweep_run(const pcnn_pnode *nodes, const pcnn_pvalue *values, const pcnn_tensor *tensors,
               char *arena, char *pieces)
{
    const pcnn_pnode *tail = nodes + nodes->chain - 1;
    const pcnn_scratch *scratch = nodes->scratch;
    const int64_t *shape = values[nodes->out[0]].type.shape; /* the first step is no sink */
    sweep s = {.n_steps = nodes->chain,
               .pieces = pieces,
               .piece_bytes = scratch->bytes,
               .strips = scratch->strips,
               .first_cut = scratch->first_cut,
               .end_cut = scratch->end_cut,
               .source = nodes->impl->planes->source,
               .sink = tail->impl->planes->sink,
               .tile = scratch->tile,
               .blocks = (shape[0] + PCNN_BLOCK - 1) / PCNN_BLOCK,
               .C = shape[1]};
    s.made = s.source ? nodes->out[0] : -1;
    s.taken = s.sink ? tail->in[1] : -1;
    int64_t bytes = 0;
    for (int k = 0; k < s.n_steps; k++) {
        const pcnn_pnode *node = &nodes[k];
        bytes += fill_step(&s, &s.steps[k], node, values, tensors, arena);
        tensors += node->n_in + node->n_out;
        s.phases = node->until + 1 > s.phases ? node->until + 1 : s.phases;
    }
    const int64_t grain = GRAIN_BYTES / bytes + 1;
    double cost = (double)(s.blocks * s.C * bytes) / 10;
    if (s.source || s.sink)
        s.tiles = pcnn_tiles(s.C, s.tile);
    if (s.source)
        cost += s.source->prepare(&s.steps[0].site, s.tiles);
    const bool kept = s.source && values[s.made].kept;
    if (s.phases > 1 && s.tiles > 0 && (kept || s.tiles >= 2 * pcnn_threads()))
        run_items(&s, s.tiles, 1, cost, run_channels);
    else if (s.phases > 1 && s.tiles == 0 && s.C >= 4 * pcnn_threads())
        run_items(&s, s.C, 1, cost, run_channel);
    else
        run_phases(&s, cost, grain);
    if (s.sink)
        s.sink->finish(&s.steps[s.n_steps - 1].site);
    return PCNN_OK;
}
