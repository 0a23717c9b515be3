/* Pass: chains. Steps in N16 that work plane by plane (pcnn_planes in op.h), each on what the one
 * before it made, become one sweep over the planes: what no other step reads lives in a plane of
 * scratch memory that stays in the cache, and is never written to the arena.
 *
 * Forming: a step joins the chain that makes one of its N16 inputs, if all else that it reads is
 * made before that chain starts, since the chain runs where its first step stood.
 *
 * A source (convolution) can be the first step: it makes a tile of channels, whose planes then go
 * through the rest one by one. Where a later phase reads them, too, the planes of all blocks are
 * kept until the tile is through, if that is not too much for the cache.
 *
 * A sink (a first layer's gradient of the weights) can be the last: it takes a tile of channels.
 *
 * Phases: a step that needs numbers of a whole channel (batch normalisation) makes its sums in one
 * phase of the sweep and its result in the next. A value made in one phase and read in a later one
 * is stored, or made again in each if that is cheap. What anybody outside of the chain reads is
 * stored.
 *
 * Making again: a value that only chains read, of a step that is cheap, is made again in each of
 * them from inputs that are stored in any case, instead of being stored itself. That trades a
 * write (and where the map leaves the cache, the read that precedes it in hardware) and a read of
 * a map for a few operations on planes at hand: batch normalisation of the first lab's map takes
 * 22 MB each way, and 0.8 ms of one core to make again. Dropout is not cheap (ten rounds of Philox
 * for four numbers). A convolution of few products (a first layer's) is made again, too, as the
 * first step of a chain that has no source of its own: the first lab's largest map is then never in
 * memory.
 *
 * Not handled: values without planes of their own inside a chain (a broadcast, a reduction to few
 * numbers); two chains are never joined by a step that reads both. */
#include "plan/chain.h"

#include <stdlib.h>
#include <string.h>

enum { INPUTS = PCNN_CHAIN_INPUTS };

typedef struct {
    pcnn_program *program;
    int32_t *head; /* of a node: the first of its chain (it alone, perhaps); -1: cannot be in one */
    int32_t *length; /* of a head: nodes in its chain */
    int32_t *phase; /* of a node: when it first reads */
    bool *again; /* of a value: made again in every chain that reads it */
    bool *closed; /* of a head: its chain has a last step, a sink */
    int32_t *sourced; /* of a head: 1 + the value of a source that its chain makes again, or 0 */
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

/* Can this step run plane by plane? All N16 operands, but for those that sources and sinks need as
 * a whole, have to have the same planes. */
static bool
is_planar(const forming *f, const pcnn_pnode *node)
{
    if (node->impl->planes == NULL || node->effect || node->n_in > INPUTS ||
        !is_n16(f, node->in[0]) || !is_n16(f, planes_of(node)))
        return false;
    const int64_t *shape = value_of(f, planes_of(node))->type.shape;
    const bool whole = is_source(node) || is_sink(node);
    for (int32_t k = 0; k < node->n_in + node->n_out; k++) {
        const int32_t v = k < node->n_in ? node->in[k] : node->out[k - node->n_in];
        if (is_n16(f, v) && !(whole && v != planes_of(node)) &&
            (value_of(f, v)->type.shape[0] != shape[0] ||
             value_of(f, v)->type.shape[1] != shape[1]))
            return false;
    }
    pcnn_planned planned;
    pcnn_chain_site(f->program, node, &planned);
    return node->impl->planes->accepts == NULL || node->impl->planes->accepts(&planned.site);
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
    const pcnn_pnode *node = &f->program->nodes[n];
    for (int32_t i = 0; i < node->n_in; i++)
        if (node->in[i] >= 0 && pcnn_program_overwrites(f->program, node->in[i], from, to))
            return true;
    return false;
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

/* Has the chain phases behind the one in which the planes of sink n are there? */
static bool
is_late(const forming *f, int32_t n, int32_t head)
{
    const int32_t phase = there(f, head, planes_of(&f->program->nodes[n]));
    for (int32_t m = head; m < n; m++)
        if (f->head[m] == head && f->phase[m] + has_sums(&f->program->nodes[m]) > phase)
            return true;
    return false;
}

/* Is there room for what this source makes, where later phases read it? */
static bool
can_keep(const forming *f, const pcnn_pnode *source)
{
    return pcnn_chain_tile(f->program, source, NULL, true) > 0;
}

static bool
can_join(const forming *f, int32_t n, int32_t head)
{
    const pcnn_pnode *node = &f->program->nodes[n];
    const pcnn_pnode *first = &f->program->nodes[head];
    if (f->length[head] >= PCNN_CHAIN_STEPS || f->closed[head] || is_source(node) ||
        (is_source(first) && (is_sink(node) || (has_sums(node) && !can_keep(f, first)))))
        return false;
    for (int32_t i = 0; i < node->n_in; i++) {
        int32_t producer = node->in[i] >= 0 ? value_of(f, node->in[i])->producer : -1;
        if (producer < 0)
            continue;
        bool inside = f->head[producer] == head;
        if (inside ? !is_n16(f, node->in[i]) : place_of(f, producer) >= head)
            return false;
        if (is_sink(node) && (inside != (i == 1) || is_late(f, n, head)))
            return false; /* also where x is dy: it is needed as a whole */
    }
    const int64_t *mine = value_of(f, planes_of(node))->type.shape,
                  *theirs = value_of(f, planes_of(first))->type.shape;
    return mine[0] == theirs[0] && mine[1] == theirs[1] && !is_overtaken(f, n, head, n);
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
        f->closed[f->head[n]] |= is_sink(node);
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

static bool
is_cheap(const forming *f, const pcnn_pnode *node)
{
    if (!is_source(node))
        return node->impl->planes->cheap;
    pcnn_planned planned;
    pcnn_chain_site(f->program, node, &planned);
    return node->impl->planes->source->cheap(&planned.site);
}

/* Can the chain that starts at `head` make v again? The number of steps it takes, or 0. */
static int
steps_again(const forming *f, int32_t v, int32_t head)
{
    int32_t n = value_of(f, v)->producer;
    if (n < 0 || f->head[n] < 0 || f->head[n] >= head)
        return 0;
    const pcnn_pnode *node = &f->program->nodes[n];
    if (node->out[0] != v || is_overtaken(f, n, n, head) || !is_cheap(f, node))
        return 0;
    if (is_source(node)) /* all chains that read it directly get it; there is room for one */
        return f->sourced[head] == v + 1;
    if (has_sums(node) && node->op != &pcnn_op_batch_norm)
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
    if (producer < 0 || f->head[producer] < 0 || is_source(&program->nodes[producer]) ||
        !is_cheap(f, &program->nodes[producer]))
        return false;
    bool elsewhere = false;
    for (int32_t n = producer + 1; n < program->n_nodes; n++)
        for (int32_t i = 0; i < program->nodes[n].n_in; i++) {
            if (program->nodes[n].in[i] != v)
                continue;
            if (f->head[n] < 0 || has_sums(&program->nodes[n]) || is_source(&program->nodes[n]) ||
                is_sink(&program->nodes[n]))
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

/* The same of what a source makes: it is kept where phases follow, so that sums may read it. The
 * chains that are to make it are noted in `sourced`. */
static bool
is_source_made_again(forming *f, int32_t v)
{
    const pcnn_program *program = f->program;
    const int32_t producer = value_of(f, v)->producer;
    if (producer < 0 || f->head[producer] < 0 || f->length[f->head[producer]] < 2)
        return false;
    const pcnn_pnode *source = &program->nodes[producer];
    if (!is_source(source) || !is_cheap(f, source) || !can_keep(f, source))
        return false;
    bool elsewhere = false;
    for (int32_t n = producer + 1; n < program->n_nodes; n++) {
        const pcnn_pnode *node = &program->nodes[n];
        for (int32_t i = 0; i < node->n_in; i++) {
            const int32_t head = f->head[n];
            if (node->in[i] != v || head == f->head[producer])
                continue;
            if (head < 0 || is_source(node) || is_sink(node) || is_source(&program->nodes[head]) ||
                f->sourced[head] > 0 || f->length[head] >= PCNN_CHAIN_STEPS ||
                is_overtaken(f, producer, producer, head))
                return false;
            elsewhere = true;
        }
    }
    for (int32_t n = producer + 1; elsewhere && n < program->n_nodes; n++)
        for (int32_t i = 0; i < program->nodes[n].n_in; i++)
            if (program->nodes[n].in[i] == v && f->head[n] != f->head[producer])
                f->sourced[f->head[n]] = v + 1;
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
    moved->phase = (int8_t)phase;
    memcpy(moved->refused, node->refused, sizeof moved->refused);
    return PCNN_OK;
}

/* Appends the steps that make v again, and gives its new number. */
static pcnn_status
make_again(writing *w, int32_t v, int32_t head, int32_t phase, int32_t *result)
{
    const forming *f = w->f;
    const bool source = is_source(&f->program->nodes[value_of(f, v)->producer]);
    for (int k = 0; k < w->n_made; k++)
        if (w->from[k] == v && (w->phases[k] == phase || source)) {
            *result = w->made[k];
            return PCNN_OK;
        }
    pcnn_pnode node = f->program->nodes[value_of(f, v)->producer];
    int32_t in[INPUTS];
    memcpy(in, node.in, (size_t)node.n_in * sizeof *in);
    for (int32_t i = 0; i < node.n_in; i++)
        if (!source && is_n16(f, in[i]) && !is_stored(f, in[i]))
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
    if (f->sourced[head] > 0) { /* has to stand before all else */
        int32_t made;
        PCNN_TRY(make_again(w, f->sourced[head] - 1, head, 0, &made));
        room--;
    }
    for (int32_t n = head; n < n_nodes && left > 0; n++) {
        if (f->head[n] != head)
            continue;
        pcnn_pnode node = f->program->nodes[n];
        int32_t in[INPUTS];
        for (int32_t i = 0; i < node.n_in; i++) {
            int32_t v = in[i] = node.in[i];
            if (!is_n16(f, v) || !f->again[v] || f->head[value_of(f, v)->producer] == head ||
                (f->sourced[head] != v + 1 && steps_again(f, v, head) > room))
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
        w->result->nodes[w->first + k].chain = (int8_t)(k ? -1 : length);
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

/* Is there anything to run together or to make again? */
static bool
is_worthwhile(const forming *f)
{
    bool found = false;
    for (int32_t n = 0; n < f->program->n_nodes; n++)
        found |= f->length[n] > 1;
    for (int32_t v = 0; v < f->program->n_values; v++)
        found |= f->again[v];
    return found;
}

/* The program with its chains in one piece, in place of `program`. */
static pcnn_status
replace(const forming *f, pcnn_program *program)
{
    /* The new program has a table of its own: the old one still tells the old producers. */
    const size_t n_values = (size_t)program->n_values;
    pcnn_program result = *program;
    result.nodes = NULL;
    result.n_nodes = result.cap_nodes = 0;
    result.cap_values = program->n_values;
    result.values = malloc((n_values + 1) * sizeof *result.values);
    if (result.values == NULL)
        return no_memory();
    memcpy(result.values, program->values, n_values * sizeof *result.values);
    pcnn_status status = write_program(f, &result);
    for (int32_t n = 0; status == PCNN_OK && n < result.n_nodes; n++)
        if (result.nodes[n].chain > 0)
            status = pcnn_chain_place(&result, n);
    pcnn_program_free(status == PCNN_OK ? program : &result);
    if (status == PCNN_OK)
        *program = result;
    return status;
}

pcnn_status
pcnn_pass_chain(pcnn_program *program)
{
    bool any = false;
    for (int32_t v = 0; v < program->n_values; v++)
        any |= program->values[v].layout == PCNN_N16;
    if (!any)
        return PCNN_OK;
    const size_t n = (size_t)program->n_nodes + 1;
    forming f = {.program = program,
                 .head = calloc(n, sizeof *f.head),
                 .length = calloc(n, sizeof *f.length),
                 .phase = calloc(n, sizeof *f.phase),
                 .closed = calloc(n, sizeof *f.closed),
                 .sourced = calloc(n, sizeof *f.sourced),
                 .again = calloc((size_t)program->n_values + 1, sizeof *f.again)};
    pcnn_status status = PCNN_OK;
    if (!f.head || !f.length || !f.phase || !f.closed || !f.sourced || !f.again) {
        status = no_memory();
    }
    else {
        form(&f);
        for (int32_t v = 0; v < program->n_values; v++)
            f.again[v] = is_n16(&f, v) && is_source_made_again(&f, v);
        for (int32_t v = 0; v < program->n_values; v++)
            f.again[v] |= is_n16(&f, v) && is_made_again(&f, v);
        if (is_worthwhile(&f))
            status = replace(&f, program);
    }
    free(f.head);
    free(f.length);
    free(f.phase);
    free(f.closed);
    free(f.sourced);
    free(f.again);
    return status;
}
