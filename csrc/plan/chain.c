/* Pass: chains. Steps in N16 that work plane by plane (pcnn_planes in op.h), each on what the one
 * before it made, become one sweep over the planes: what no other step reads lives in a plane of
 * scratch memory that stays in the cache, and is never written to the arena.
 *
 * Forming: a step joins the chain that makes one of its N16 inputs, if all else that it reads is
 * made before that chain starts, since the chain runs where its first step stood.
 *
 * Phases: a step that needs numbers of a whole channel (batch normalisation) makes its sums in one
 * phase of the sweep and its result in the next. A value made in one phase and read in a later one
 * is stored, and so is what anybody outside of the chain reads.
 *
 * Making again: a value that only chains read, of a step that is cheap, is made again in each of
 * them from inputs that are stored in any case, instead of being stored itself. That trades a
 * write (and where the map leaves the cache, the read that precedes it in hardware) and a read of
 * a map for a few operations on planes at hand: batch normalisation's result, which pooling's
 * gradient wants back, costs 22 MB each way in the first lab and 0.1 ms to make again. Dropout is
 * not cheap (ten rounds of Philox for four numbers).
 *
 * Not handled: values without planes of their own inside a chain (a broadcast, a reduction to few
 * numbers); two chains are never joined by a step that reads both. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/parallel.h"

enum { INPUTS = 8 };

typedef struct {
    pcnn_program *program;
    int32_t *head; /* of a node: the first of its chain (it alone, perhaps); -1: cannot be in one */
    int32_t *length; /* of a head: nodes in its chain */
    int32_t *phase; /* of a node: when it first reads */
    bool *again; /* of a value: made again in every chain that reads it */
} forming;

static const pcnn_pvalue *
value_of(const forming *f, int32_t v)
{
    return &f->program->values[v];
}

static bool
is_n16(const forming *f, int32_t v)
{
    return v >= 0 && value_of(f, v)->layout == PCNN_N16;
}

static bool
has_sums(const pcnn_pnode *node)
{
    return node->impl->planes->sums != NULL;
}

/* Can this step run plane by plane? All N16 operands have to have the same planes. */
static bool
is_planar(const forming *f, const pcnn_pnode *node)
{
    if (node->impl->planes == NULL || node->effect || node->n_in > INPUTS ||
        !is_n16(f, node->in[0]) || !is_n16(f, node->out[0]))
        return false;
    const int64_t *shape = value_of(f, node->out[0])->type.shape;
    pcnn_tensor in[INPUTS] = {{.type.ndim = 0}}, out[PCNN_MAX_OUT] = {{.type.ndim = 0}};
    for (int32_t k = 0; k < node->n_in + node->n_out; k++) {
        int32_t v = k < node->n_in ? node->in[k] : node->out[k - node->n_in];
        pcnn_tensor *tensor = k < node->n_in ? &in[k] : &out[k - node->n_in];
        tensor->type.ndim = -1;
        if (v < 0)
            continue;
        tensor->type = value_of(f, v)->type;
        tensor->layout = value_of(f, v)->layout;
        if (tensor->layout == PCNN_N16 &&
            (tensor->type.shape[0] != shape[0] || tensor->type.shape[1] != shape[1]))
            return false;
    }
    const pcnn_site site = {.op = node->op,
                            .attrs = node->attrs,
                            .n_in = node->n_in,
                            .n_out = node->n_out,
                            .in = in,
                            .out = out};
    return node->impl->planes->accepts == NULL || node->impl->planes->accepts(&site);
}

/* Where a node runs: chains run where their first node stood. */
static int32_t
place_of(const forming *f, int32_t n)
{
    return f->head[n] >= 0 ? f->head[n] : n;
}

/* Does an effect between `from` and `to` write memory of the caller's that node `n` reads? */
static bool
is_overtaken(const forming *f, int32_t n, int32_t from, int32_t to)
{
    const pcnn_pnode *nodes = f->program->nodes;
    for (int32_t i = 0; i < nodes[n].n_in; i++) {
        int32_t v = nodes[n].in[i];
        if (v < 0 || value_of(f, v)->external < 0)
            continue;
        for (int32_t m = from; m < to; m++)
            for (int o = 0; nodes[m].effect && o < nodes[m].n_out; o++)
                if (value_of(f, nodes[m].out[o])->external == value_of(f, v)->external)
                    return true;
    }
    return false;
}

static bool
can_join(const forming *f, int32_t n, int32_t head)
{
    const pcnn_pnode *node = &f->program->nodes[n];
    if (f->length[head] >= PCNN_CHAIN_STEPS)
        return false;
    for (int32_t i = 0; i < node->n_in; i++) {
        int32_t producer = node->in[i] >= 0 ? value_of(f, node->in[i])->producer : -1;
        if (producer < 0)
            continue;
        bool inside = f->head[producer] == head;
        if (inside ? !is_n16(f, node->in[i]) : place_of(f, producer) >= head)
            return false;
    }
    const int64_t *mine = value_of(f, node->out[0])->type.shape,
                  *first = value_of(f, f->program->nodes[head].out[0])->type.shape;
    return mine[0] == first[0] && mine[1] == first[1] && !is_overtaken(f, n, head, n);
}

/* The phase in which the producer's N16 outputs are there, for a reader in its chain; else 0. */
static int32_t
there(const forming *f, int32_t head, int32_t v)
{
    int32_t producer = v >= 0 ? value_of(f, v)->producer : -1;
    if (producer < 0 || f->head[producer] != head)
        return 0;
    return f->phase[producer] + has_sums(&f->program->nodes[producer]);
}

static void
form(forming *f)
{
    for (int32_t n = 0; n < f->program->n_nodes; n++) {
        const pcnn_pnode *node = &f->program->nodes[n];
        f->head[n] = -1;
        if (!is_planar(f, node))
            continue;
        int32_t head = -1;
        for (int32_t i = 0; i < node->n_in; i++) {
            int32_t producer = is_n16(f, node->in[i]) ? value_of(f, node->in[i])->producer : -1;
            if (producer >= 0 && f->head[producer] > head && can_join(f, n, f->head[producer]))
                head = f->head[producer];
        }
        f->head[n] = head >= 0 ? head : n;
        f->length[f->head[n]]++;
        for (int32_t i = 0; i < node->n_in && head >= 0; i++) {
            int32_t phase = there(f, head, node->in[i]);
            f->phase[n] = phase > f->phase[n] ? phase : f->phase[n];
        }
    }
}

/* ---- making again ---- */

/* Has a reader, or stands in the arena for another reason, outside of its producer's chain? */
static bool
is_stored(const forming *f, int32_t v)
{
    const pcnn_program *program = f->program;
    int32_t producer = value_of(f, v)->producer;
    if (producer < 0 || f->head[producer] < 0)
        return true;
    if (f->again[v])
        return false;
    for (int32_t n = 0; n < program->n_nodes; n++)
        for (int32_t i = 0; i < program->nodes[n].n_in; i++)
            if (program->nodes[n].in[i] == v && f->head[n] != f->head[producer])
                return true;
    return false;
}

/* Can the chain that starts at `head` make v again? The number of steps it takes, or 0. */
static int
steps_again(const forming *f, int32_t v, int32_t head)
{
    int32_t n = value_of(f, v)->producer;
    if (n < 0 || f->head[n] < 0 || f->head[n] >= head)
        return 0;
    const pcnn_pnode *node = &f->program->nodes[n];
    if (!node->impl->planes->cheap || node->out[0] != v || is_overtaken(f, n, n, head) ||
        (has_sums(node) && node->op != &pcnn_op_batch_norm))
        return 0;
    int steps = 1;
    for (int32_t i = 0; i < node->n_in; i++) {
        if (!is_n16(f, node->in[i]) || is_stored(f, node->in[i]))
            continue;
        int more = steps_again(f, node->in[i], head);
        if (more == 0)
            return 0;
        steps += more;
    }
    return steps;
}

/* Is v better made again than stored? All its readers have to run in chains, in one phase of each:
 * otherwise it is stored in any case. */
static bool
is_made_again(const forming *f, int32_t v)
{
    const pcnn_program *program = f->program;
    int32_t producer = value_of(f, v)->producer;
    if (producer < 0 || f->head[producer] < 0 || !program->nodes[producer].impl->planes->cheap)
        return false;
    bool elsewhere = false;
    for (int32_t n = producer + 1; n < program->n_nodes; n++)
        for (int32_t i = 0; i < program->nodes[n].n_in; i++) {
            if (program->nodes[n].in[i] != v)
                continue;
            if (f->head[n] < 0 || has_sums(&program->nodes[n]))
                return false;
            if (f->head[n] != f->head[producer]) {
                elsewhere = true;
                if (steps_again(f, v, f->head[n]) == 0)
                    return false;
            }
            else if (f->phase[n] != there(f, f->head[n], v)) {
                return false;
            }
        }
    return elsewhere;
}

/* ---- writing the program anew, chains in one piece ---- */

typedef struct {
    const forming *f;
    pcnn_program *result;
    int32_t made[PCNN_CHAIN_STEPS], from[PCNN_CHAIN_STEPS]; /* values made again in this chain */
    int32_t phases[PCNN_CHAIN_STEPS];
    int n_made;
    int32_t first; /* node of the chain, in the result */
} writing;

static pcnn_status
no_memory(void)
{
    return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
}

static pcnn_status
append(writing *w, const pcnn_pnode *node, int32_t phase)
{
    int32_t n =
        pcnn_program_node(w->result, node->op, node->attrs, node->in, node->n_in, node->out);
    if (n < 0)
        return no_memory();
    pcnn_pnode *moved = &w->result->nodes[n];
    moved->impl = node->impl;
    moved->origin = node->origin;
    moved->work_bytes = node->work_bytes;
    moved->phase = phase;
    memcpy(moved->refused, node->refused, sizeof moved->refused);
    return PCNN_OK;
}

/* Appends the steps that make v again, and gives its new number. */
static pcnn_status
make_again(writing *w, int32_t v, int32_t head, int32_t phase, int32_t *result)
{
    const forming *f = w->f;
    for (int k = 0; k < w->n_made; k++)
        if (w->from[k] == v && w->phases[k] == phase) {
            *result = w->made[k];
            return PCNN_OK;
        }
    pcnn_pnode node = f->program->nodes[value_of(f, v)->producer];
    int32_t in[INPUTS];
    memcpy(in, node.in, (size_t)node.n_in * sizeof *in);
    for (int32_t i = 0; i < node.n_in; i++)
        if (is_n16(f, in[i]) && !is_stored(f, in[i]))
            PCNN_TRY(make_again(w, in[i], head, phase, &in[i]));
    if (node.op == &pcnn_op_batch_norm) { /* its statistics are known now: the same formula */
        const int32_t known[5] = {in[0], node.out[1], node.out[2], node.n_in > 1 ? in[1] : -1,
                                  node.n_in > 2 ? in[2] : -1};
        memcpy(in, known, sizeof known);
        node.op = &pcnn_op_batch_norm_inference;
        node.impl = node.op->impls;
        node.n_in = 5;
        node.n_out = 1;
        node.work_bytes = 0;
    }
    node.in = in;
    const pcnn_type type = value_of(f, v)->type;
    int32_t id = pcnn_program_value(w->result, &type);
    if (id < 0)
        return no_memory();
    w->result->values[id].layout = PCNN_N16;
    node.out[0] = id;
    PCNN_TRY(append(w, &node, phase));
    w->made[w->n_made] = id;
    w->from[w->n_made] = v;
    w->phases[w->n_made++] = phase;
    *result = id;
    return PCNN_OK;
}

static pcnn_status
write_chain(writing *w, int32_t head)
{
    const forming *f = w->f;
    const int32_t n_nodes = f->program->n_nodes;
    int32_t left = f->length[head], room = PCNN_CHAIN_STEPS - left;
    w->first = w->result->n_nodes;
    w->n_made = 0;
    for (int32_t n = head; n < n_nodes && left > 0; n++) {
        if (f->head[n] != head)
            continue;
        pcnn_pnode node = f->program->nodes[n];
        int32_t in[INPUTS];
        for (int32_t i = 0; i < node.n_in; i++) {
            int32_t v = in[i] = node.in[i];
            if (!is_n16(f, v) || !f->again[v] || f->head[value_of(f, v)->producer] == head ||
                steps_again(f, v, head) > room)
                continue;
            int32_t before = w->result->n_nodes;
            PCNN_TRY(make_again(w, v, head, f->phase[n], &in[i]));
            room -= w->result->n_nodes - before;
        }
        node.in = in;
        PCNN_TRY(append(w, &node, f->phase[n]));
        left--;
    }
    int32_t length = w->result->n_nodes - w->first;
    for (int32_t k = 0; k < length && length > 1; k++)
        w->result->nodes[w->first + k].chain = k ? -1 : length;
    return PCNN_OK;
}

static pcnn_status
write_program(const forming *f, pcnn_program *result)
{
    writing w = {.f = f, .result = result};
    pcnn_status status = PCNN_OK;
    for (int32_t n = 0; n < f->program->n_nodes && status == PCNN_OK; n++) {
        if (f->head[n] < 0)
            status = append(&w, &f->program->nodes[n], 0);
        else if (f->head[n] == n)
            status = write_chain(&w, n);
    }
    return status;
}

/* ---- scratch memory ---- */

typedef struct {
    int32_t phase, first, last; /* when it lives, in positions of the chain */
    int64_t offset, bytes;
} plane_block;

int64_t
pcnn_plane_bytes(const pcnn_type *type)
{
    return type->shape[2] * type->shape[3] * PCNN_BLOCK * (int64_t)pcnn_dtype_size(type->dtype);
}

/* Is output v of step `at`, made in `phase`, read in its own phase of its own chain only? Then
 * `last` is the position of the last reader. */
static bool
stays_inside(const pcnn_program *program, int32_t first, int32_t at, int32_t v, int32_t phase,
             int32_t *last)
{
    const pcnn_pvalue *value = &program->values[v];
    if (value->layout != PCNN_N16 || value->output >= 0 || value->external >= 0)
        return false;
    *last = at;
    for (int32_t n = at + 1; n < program->n_nodes; n++) {
        const pcnn_pnode *node = &program->nodes[n];
        for (int32_t i = 0; i < node->n_in; i++) {
            if (node->in[i] != v)
                continue;
            if (n >= first + program->nodes[first].chain || node->phase != phase || has_sums(node))
                return false;
            *last = n;
        }
    }
    return true;
}

/* Decides which values of a chain are scratch, and places those that live at once side by side. */
static void
place_scratch(pcnn_program *program, int32_t first)
{
    pcnn_pnode *head = &program->nodes[first];
    plane_block blocks[PCNN_CHAIN_STEPS * PCNN_MAX_OUT];
    int n_blocks = 0;
    for (int32_t n = first; n < first + head->chain; n++) {
        const pcnn_pnode *node = &program->nodes[n];
        const int32_t phase = node->phase + has_sums(node);
        for (int o = 0; o < node->n_out; o++) {
            plane_block b = {.phase = phase, .first = n};
            pcnn_pvalue *value = &program->values[node->out[o]];
            if (!stays_inside(program, first, n, node->out[o], phase, &b.last))
                continue;
            b.bytes = (pcnn_plane_bytes(&value->type) + 63) / 64 * 64;
            for (int k = 0; k < n_blocks; k++)
                if (blocks[k].phase == phase && blocks[k].last >= n &&
                    blocks[k].offset < b.offset + b.bytes &&
                    b.offset < blocks[k].offset + blocks[k].bytes) {
                    b.offset = blocks[k].offset + blocks[k].bytes;
                    k = -1; /* look at all of them again */
                }
            value->scratch = true;
            value->offset = b.offset;
            blocks[n_blocks++] = b;
            if (head->piece_bytes < b.offset + b.bytes)
                head->piece_bytes = b.offset + b.bytes;
        }
    }
    const int64_t *shape = program->values[head->out[0]].type.shape;
    const int64_t planes = (shape[0] + PCNN_BLOCK - 1) / PCNN_BLOCK * shape[1];
    head->pieces = planes < pcnn_threads() ? planes : pcnn_threads();
}

pcnn_status
pcnn_pass_chain(pcnn_program *program)
{
    const size_t n = (size_t)program->n_nodes + 1, n_values = (size_t)program->n_values + 1;
    forming f = {.program = program,
                 .head = calloc(n, sizeof *f.head),
                 .length = calloc(n, sizeof *f.length),
                 .phase = calloc(n, sizeof *f.phase),
                 .again = calloc(n_values, sizeof *f.again)};
    /* The new program has a table of its own: the old one still tells the old producers. */
    pcnn_program result = *program;
    result.nodes = NULL;
    result.n_nodes = result.cap_nodes = 0;
    result.cap_values = program->n_values;
    result.values = malloc(n_values * sizeof *result.values);
    pcnn_status status = PCNN_OK;
    if (!f.head || !f.length || !f.phase || !f.again || !result.values)
        status = no_memory();
    if (status == PCNN_OK) {
        memcpy(result.values, program->values, (n_values - 1) * sizeof *result.values);
        form(&f);
        for (int32_t v = 0; v < program->n_values; v++)
            f.again[v] = is_n16(&f, v) && is_made_again(&f, v);
        status = write_program(&f, &result);
    }
    for (int32_t k = 0; status == PCNN_OK && k < result.n_nodes; k++)
        if (result.nodes[k].chain > 0)
            place_scratch(&result, k);
    free(f.head);
    free(f.length);
    free(f.phase);
    free(f.again);
    pcnn_program_free(status == PCNN_OK ? program : &result);
    if (status == PCNN_OK)
        *program = result;
    return status;
}
