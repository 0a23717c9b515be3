/* Pass: give every value a place. Externals and outputs live in the caller's memory; the rest is
 * placed in one arena by live ranges, largest first, at the lowest offset that is free for the
 * whole range. Reshapes share the memory of what they reshape, and an elementwise step may write
 * over an input that nobody reads afterwards. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64, GUARD = 64 };

static int64_t
padded(int64_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN + (pcnn_storage_poison() ? GUARD : 0);
}

static int64_t
bytes_of(const pcnn_pvalue *value)
{
    return pcnn_layout_bytes(&value->type, value->layout);
}

static int32_t
root_of(pcnn_pvalue *values, int32_t v)
{
    while (values[v].root != v)
        v = values[v].root;
    return v;
}

static bool
in_arena(const pcnn_pvalue *value)
{
    return value->external < 0 && value->output < 0 && !value->scratch;
}

static void
join(pcnn_pvalue *values, int32_t root, int32_t v)
{
    values[v].root = root;
    if (values[v].last > values[root].last)
        values[root].last = values[v].last;
}

/* When step n runs: the steps of a chain run at once. */
static int32_t
time_of(const pcnn_program *program, int32_t n)
{
    while (program->nodes[n].chain < 0)
        n--;
    return n;
}

static void
find_ranges(pcnn_program *program)
{
    for (int32_t n = 0; n < program->n_nodes; n++) {
        const pcnn_pnode *node = &program->nodes[n];
        const int32_t now = time_of(program, n);
        for (int32_t i = 0; i < node->n_in; i++)
            if (node->in[i] >= 0)
                program->values[node->in[i]].last = now;
        for (int32_t o = 0; o < node->n_out; o++) {
            program->values[node->out[o]].first = now;
            if (program->values[node->out[o]].last < now)
                program->values[node->out[o]].last = now;
        }
    }
}

/* Does a step of the same chain read input v after step n has written? Sources and sinks do:
 * they need all of it. In a group nobody asks: its steps do not write over inputs in the arena
 * (group.c, can_run_together). */
static bool
is_read_later(const pcnn_program *program, int32_t n, int32_t v)
{
    const pcnn_pnode *nodes = program->nodes;
    const int32_t first = time_of(program, n);
    for (int32_t m = first; m < first + nodes[first].chain; m++)
        for (int32_t i = 0; i < nodes[m].n_in; i++)
            if (nodes[m].in[i] == v && m != n &&
                (nodes[m].impl->planes->source || nodes[m].impl->planes->sink ||
                 nodes[m].until > nodes[n].until || (nodes[m].until == nodes[n].until && m > n)))
                return true;
    return false;
}

static void
share(pcnn_program *program)
{
    pcnn_pvalue *values = program->values;
    for (int32_t n = 0; n < program->n_nodes; n++) {
        const pcnn_pnode *node = &program->nodes[n];
        pcnn_pvalue *out = &values[node->out[0]];
        if (!in_arena(out))
            continue;
        if ((node->op->flags & PCNN_OP_ALIAS) && node->in[0] >= 0 && out->layout == PCNN_PLAIN &&
            values[node->in[0]].layout == PCNN_PLAIN) {
            /* Memory that an effect overwrites must not be read through a view later on. */
            if (values[node->in[0]].external >= 0 &&
                !pcnn_program_overwrites(program, node->in[0], 0, program->n_nodes))
                out->external = values[node->in[0]].external; /* read-only view of the caller's */
            else if (in_arena(&values[node->in[0]]))
                join(values, root_of(values, node->in[0]), node->out[0]);
            continue;
        }
        for (int32_t i = 0; i < node->n_in && i < 32; i++) {
            int32_t v = node->in[i];
            if (v < 0 || !(node->impl->in_place >> i & 1) || !in_arena(&values[v]))
                continue;
            int32_t root = root_of(values, v);
            if (values[root].last != time_of(program, n) || is_read_later(program, n, v) ||
                values[v].layout != out->layout || values[v].type.dtype != out->type.dtype ||
                bytes_of(&values[v]) != bytes_of(out))
                continue;
            /* Another input in the same memory would be overwritten while it is read. */
            bool twice = false;
            for (int32_t k = 0; k < node->n_in; k++)
                if (k != i && node->in[k] >= 0 && node->in[k] != v &&
                    in_arena(&values[node->in[k]]) && root_of(values, node->in[k]) == root)
                    twice = true;
            if (!twice) {
                join(values, root, node->out[0]);
                break;
            }
        }
    }
}

typedef struct {
    int64_t bytes, offset;
    /* id: a value; behind all values, two for each node: its workspace, its chain's scratch memory */
    int32_t first, last, id;
} block;

static int
largest_first(const void *a, const void *b)
{
    const block *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int
by_offset(const void *a, const void *b)
{
    const block *const *x = a, *const *y = b;
    return (*x)->offset<(*y)->offset ? -1 : (*x)->offset>(*y)->offset;
}

/* The lowest offset at which no placed block with an overlapping range lies. */
static int64_t
place(const block *blocks, int32_t placed, const block *b, const block **busy)
{
    int32_t n = 0;
    for (int32_t k = 0; k < placed; k++)
        if (blocks[k].first <= b->last && b->first <= blocks[k].last)
            busy[n++] = &blocks[k];
    qsort(busy, (size_t)n, sizeof *busy, by_offset);
    int64_t offset = 0;
    for (int32_t k = 0; k < n; k++) {
        if (busy[k]->offset >= offset + b->bytes)
            break;
        int64_t end = busy[k]->offset + busy[k]->bytes;
        if (end > offset)
            offset = end;
    }
    return offset;
}

pcnn_status
pcnn_pass_memory(pcnn_program *program, int64_t *arena_bytes)
{
    find_ranges(program);
    share(program);
    int32_t capacity = program->n_values + 1, n = 0;
    for (int32_t k = 0; k < program->n_nodes; k++)
        capacity += (program->nodes[k].work_bytes > 0) + (program->nodes[k].scratch != NULL);
    block *blocks = calloc((size_t)capacity, sizeof *blocks);
    const block **busy = calloc((size_t)capacity, sizeof(block *));
    if (blocks == NULL || busy == NULL) {
        free(blocks);
        free(busy);
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    }
    for (int32_t v = 0; v < program->n_values; v++) {
        const pcnn_pvalue *value = &program->values[v];
        if (value->root == v && in_arena(value) && value->first >= 0)
            blocks[n++] = (block){padded(bytes_of(value)), 0, value->first, value->last, v};
    }
    for (int32_t k = 0; k < program->n_nodes; k++) {
        const pcnn_pnode *node = &program->nodes[k];
        const int32_t now = time_of(program, k), id = program->n_values + 2 * k;
        if (node->work_bytes > 0)
            blocks[n++] = (block){padded(node->work_bytes), 0, now, now, id};
        const pcnn_scratch *scratch = node->scratch;
        if (scratch && scratch->bytes > 0)
            blocks[n++] = (block){padded(scratch->pieces * scratch->bytes), 0, k, k, id + 1};
    }
    qsort(blocks, (size_t)n, sizeof *blocks, largest_first);
    *arena_bytes = 0;
    for (int32_t k = 0; k < n; k++) {
        block *b = &blocks[k];
        b->offset = place(blocks, k, b, busy);
        if (b->offset + b->bytes > *arena_bytes)
            *arena_bytes = b->offset + b->bytes;
        const int32_t at = b->id - program->n_values;
        if (at < 0)
            program->values[b->id].offset = b->offset;
        else if (at % 2 == 0)
            program->nodes[at / 2].work_offset = b->offset;
        else
            program->nodes[at / 2].scratch->offset = b->offset;
    }
    for (int32_t v = 0; v < program->n_values; v++) {
        if (program->values[v].scratch)
            continue;
        int32_t root = root_of(program->values, v);
        program->values[v].root = root;
        program->values[v].offset = program->values[root].offset;
    }
    free(blocks);
    free(busy);
    return PCNN_OK;
}
