/* The scratch memory of a chain: which values live in it, in which phases, and where.
 *
 * A value is scratch if only steps of its chain read it, in phases in which its maker runs. A cheap
 * maker runs again in every phase that wants its result; any other runs once, and what a later
 * phase reads of it is stored. Values lie in a piece by first fit; a tile's planes, which wait for
 * the others of the tile, all through. */
#include "plan/chain.h"

#include <stdlib.h>

#include "core/parallel.h"

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

/* Channels of the widest tile that a step makes or takes. */
static int64_t
width_of(const pcnn_program *program, const pcnn_pnode *node)
{
    pcnn_tensor in[PCNN_CHAIN_INPUTS] = {{.type.ndim = 0}}, out[PCNN_MAX_OUT] = {{.type.ndim = 0}};
    for (int32_t i = 0; i < node->n_in; i++) {
        in[i].type.ndim = -1;
        if (node->in[i] >= 0)
            in[i].type = program->values[node->in[i]].type;
    }
    for (int o = 0; o < node->n_out; o++)
        out[o].type = program->values[node->out[o]].type;
    const pcnn_site site = {.op = node->op,
                            .attrs = node->attrs,
                            .n_in = node->n_in,
                            .n_out = node->n_out,
                            .in = in,
                            .out = out};
    return pcnn_tile_width(node->impl->planes, &site);
}

/* Values that live at once are placed side by side. */
pcnn_status
pcnn_chain_place(pcnn_program *program, int32_t first)
{
    pcnn_pnode *head = &program->nodes[first];
    const pcnn_pnode *tail = head + head->chain - 1;
    const int32_t tiled = is_source(head) ? head->out[0] : is_sink(tail) ? tail->in[1] : -1;
    plane_block blocks[PCNN_CHAIN_STEPS * PCNN_MAX_OUT];
    int n_blocks = 0;
    pcnn_scratch *scratch = head->scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL)
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    set_phases(program, first);
    for (int32_t n = first; n < first + head->chain; n++) {
        const pcnn_pnode *node = &program->nodes[n];
        for (int o = 0; o < node->n_out; o++) {
            plane_block b = {
                .phase = node->phase + has_sums(node), .until = node->until, .first = n};
            pcnn_pvalue *value = &program->values[node->out[o]];
            const int32_t until = read_until(program, first, n, node->out[o], &b.last);
            if (until < 0 || until > node->until)
                continue;
            b.bytes = (pcnn_plane_bytes(&value->type) + 63) / 64 * 64;
            if (node->out[o] == tiled) { /* planes that wait for the others of their tile */
                b.bytes *= scratch->tile = width_of(program, is_source(head) ? head : tail);
                b.first = first;
                b.last = program->n_nodes;
            }
            for (int k = 0; k < n_blocks; k++)
                if (blocks[k].phase <= b.until && b.phase <= blocks[k].until &&
                    blocks[k].last >= b.first && blocks[k].offset < b.offset + b.bytes &&
                    b.offset < blocks[k].offset + blocks[k].bytes) {
                    b.offset = blocks[k].offset + blocks[k].bytes;
                    k = -1; /* look at all of them again */
                }
            value->scratch = true;
            value->offset = b.offset;
            blocks[n_blocks++] = b;
            if (scratch->bytes < b.offset + b.bytes)
                scratch->bytes = b.offset + b.bytes;
        }
    }
    const int64_t *shape = program->values[planes_of(head)].type.shape;
    const int64_t planes = (shape[0] + PCNN_BLOCK - 1) / PCNN_BLOCK * shape[1];
    scratch->pieces = planes < pcnn_threads() ? planes : pcnn_threads();
    return PCNN_OK;
}
