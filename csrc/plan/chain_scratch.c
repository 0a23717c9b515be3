/* The scratch memory of a chain: which values live in it, in which phases, and where.
 *
 * A value is scratch if only steps of its chain read it, in phases in which its maker runs. A cheap
 * maker runs again in every phase that wants its result; any other runs once, and what a later
 * phase reads of it is stored. Values lie in a piece by first fit; a tile's planes, which wait for
 * the others of the tile, all through. */
#include "plan/chain.h"

#include <stdlib.h>

#include "core/parallel.h"

enum {
    /* Of a thread: more than the second-level cache, less than its share of the last one. */
    KEPT_BYTES = 3 << 19,
    NARROWEST = 3, /* channels: narrower tiles leave a convolution's registers too empty */
};

typedef struct {
    int32_t phase, until; /* when it lives: in each of these phases, */
    int32_t first, last; /* from one position in the chain to another */
    int64_t offset, bytes;
} plane_block;

int64_t
pcnn_plane_bytes(const pcnn_type *type)
{
    return type->shape[2] * type->shape[3] * PCNN_BLOCK * (int64_t)pcnn_dtype_size(type->dtype);
}

/* The last phase in which the steps of a chain read v, a value that it made in step `at`, and the
 * last of these steps; -1: somebody else reads it, too. */
static int32_t
read_until(const pcnn_program *program, int32_t first, int32_t at, int32_t v, int32_t *last)
{
    const pcnn_pvalue *value = &program->values[v];
    int32_t phase = 0;
    if (value->layout != PCNN_N16 || value->output >= 0 || value->external >= 0)
        return -1;
    *last = at;
    for (int32_t n = at + 1; n < program->n_nodes; n++) {
        const pcnn_pnode *node = &program->nodes[n];
        for (int32_t i = 0; i < node->n_in; i++) {
            if (node->in[i] != v)
                continue;
            if (n >= first + program->nodes[first].chain)
                return -1;
            phase = node->until > phase ? node->until : phase;
            *last = n;
        }
    }
    return phase;
}

/* Cheap steps run again in every phase that reads their result, which then need not be stored. */
static void
set_phases(pcnn_program *program, int32_t first)
{
    for (int32_t n = first + program->nodes[first].chain - 1; n >= first; n--) {
        pcnn_pnode *node = &program->nodes[n];
        node->until = (int8_t)(node->phase + has_sums(node));
        int32_t last, until = 0;
        for (int o = 0; o < node->n_out; o++) {
            int32_t phase = read_until(program, first, n, node->out[o], &last);
            until = phase < 0 || until < 0 ? -1 : phase > until ? phase : until;
        }
        if (until > node->until && node->impl->planes->cheap && !has_sums(node))
            node->until = (int8_t)until;
    }
}

void
pcnn_chain_site(const pcnn_program *program, const pcnn_pnode *node, pcnn_planned *planned)
{
    for (int32_t k = 0; k < node->n_in + node->n_out; k++) {
        const int32_t v = k < node->n_in ? node->in[k] : node->out[k - node->n_in];
        pcnn_tensor *tensor = k < node->n_in ? &planned->in[k] : &planned->out[k - node->n_in];
        *tensor = (pcnn_tensor){.type.ndim = -1};
        if (v >= 0) {
            tensor->type = program->values[v].type;
            tensor->layout = program->values[v].layout;
        }
    }
    planned->site = (pcnn_site){.op = node->op,
                                .attrs = node->attrs,
                                .n_in = node->n_in,
                                .n_out = node->n_out,
                                .in = planned->in,
                                .out = planned->out};
}

int64_t
pcnn_chain_tile(const pcnn_program *program, const pcnn_pnode *source, const pcnn_pnode *sink,
                bool kept)
{
    pcnn_planned planned;
    int64_t width = INT64_MAX;
    if (source) {
        pcnn_chain_site(program, source, &planned);
        width = source->impl->planes->source->width(&planned.site);
    }
    if (sink) {
        pcnn_chain_site(program, sink, &planned);
        const int64_t widest = sink->impl->planes->sink->width(&planned.site);
        width = widest < width ? widest : width;
    }
    if (!kept)
        return width;
    const pcnn_type *type = &program->values[planes_of(source)].type;
    const int64_t blocks = (type->shape[0] + PCNN_BLOCK - 1) / PCNN_BLOCK;
    const int64_t bytes = blocks * pcnn_plane_bytes(type);
    const int64_t room = bytes ? KEPT_BYTES / bytes : width;
    if (room < width && room < NARROWEST)
        return 0;
    width = room < width ? room : width;
    /* So many tiles that all threads have their share, as far as tiles stay wide enough. */
    const int64_t even = type->shape[1] / (2 * pcnn_threads());
    return even >= width ? width : even < NARROWEST ? NARROWEST < width ? NARROWEST : width : even;
}

/* Values that live at once are placed side by side. */
static void
place(pcnn_scratch *scratch, plane_block *blocks, int *n_blocks, plane_block b)
{
    for (int k = 0; k < *n_blocks; k++)
        if (blocks[k].phase <= b.until && b.phase <= blocks[k].until && blocks[k].last >= b.first &&
            b.last >= blocks[k].first && blocks[k].offset < b.offset + b.bytes &&
            b.offset < blocks[k].offset + blocks[k].bytes) {
            b.offset = blocks[k].offset + blocks[k].bytes;
            k = -1; /* look at all of them again */
        }
    blocks[(*n_blocks)++] = b;
    if (scratch->bytes < b.offset + b.bytes)
        scratch->bytes = b.offset + b.bytes;
}

/* What only steps of the strips want of node n's output o is a strip; what others want, too, waits in
 * its place while they run. */
static void
set_strip(const pcnn_program *program, int32_t first, int32_t n, int o, plane_block *b)
{
    pcnn_pvalue *value = &program->values[program->nodes[n].out[o]];
    const pcnn_scratch *scratch = program->nodes[first].scratch;
    const int32_t begin = first + scratch->first_cut, end = first + scratch->end_cut;
    if (scratch->strips == 0 || b->first >= end || b->last < begin)
        return;
    value->strip = n >= begin && b->last < end;
    if (value->strip) {
        b->bytes /= value->type.shape[2];
        b->bytes *= pcnn_longest_strip(program, first, &program->nodes[n], o);
        return;
    }
    b->first = b->first < begin ? b->first : begin;
    b->last = b->last >= end ? b->last : end - 1;
}

pcnn_status
pcnn_chain_place(pcnn_program *program, int32_t first)
{
    pcnn_pnode *head = &program->nodes[first], *tail = head + head->chain - 1;
    const pcnn_pnode *source = is_source(head) ? head : NULL, *sink = is_sink(tail) ? tail : NULL;
    plane_block blocks[PCNN_CHAIN_STEPS * PCNN_MAX_OUT];
    int n_blocks = 0;
    pcnn_scratch *scratch = head->scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL)
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    set_phases(program, first);
    pcnn_chain_cut(program, first);
    bool kept = false; /* what the source makes, for later phases */
    if (source) {
        int32_t last, until = read_until(program, first, first, head->out[0], &last);
        kept = until > 0;
        head->until = (int8_t)(kept ? until : 0);
    }
    if (source || sink)
        scratch->tile = pcnn_chain_tile(program, source, sink, kept);
    const int64_t *shape = program->values[planes_of(head)].type.shape;
    const int64_t n16_blocks = (shape[0] + PCNN_BLOCK - 1) / PCNN_BLOCK;
    for (int32_t n = first; n < first + head->chain; n++) {
        const pcnn_pnode *node = &program->nodes[n];
        for (int o = 0; o < node->n_out; o++) {
            plane_block b = {
                .phase = node->phase + has_sums(node), .until = node->until, .first = n};
            pcnn_pvalue *value = &program->values[node->out[o]];
            const int32_t until = read_until(program, first, n, node->out[o], &b.last);
            if (until < 0 || until > node->until)
                continue;
            b.bytes = pcnn_plane_bytes(&value->type);
            set_strip(program, first, n, o, &b);
            b.bytes = (b.bytes + 63) / 64 * 64;
            if ((source && n == first) || (sink && node->out[o] == sink->in[1])) {
                /* Planes that wait for the others of their tile, and for later phases. */
                value->kept = kept && n == first;
                b.bytes *= scratch->tile * (value->kept ? n16_blocks : 1);
                b.first = first;
                b.last = program->n_nodes;
            }
            place(scratch, blocks, &n_blocks, b);
            value->scratch = true;
            value->offset = blocks[n_blocks - 1].offset;
        }
    }
    scratch->pieces = pcnn_threads();
    return PCNN_OK;
}
