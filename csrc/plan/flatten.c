/* Pass: dense layers that flatten maps take the maps themselves.
 *
 * Where maps are in layout N16, the transposition to rows and the copies that a matrix product
 * makes of them are saved by dense_maps (ops/dense_maps.c). Rewritten are
 *
 *   dense(flatten(x), w, b)             to  dense_maps(x, w, b)
 *   matmul(flatten(x)^T, dy)            to  dense_maps_dw(x, dy)
 *   unflatten(matmul(dy, w^T))          to  dense_maps_dx(dy, w), with the w of such a dense
 *
 * the first for more rows than dense sums as few (ops/dense_few.h), so that the sums have the order of
 * dense's. flatten is a reshape (channels first) or a transposition to N,H,W,C and a reshape. This is a
 * choice of layout like those of layout.c, so it does not depend on whether fusing is on, nor on
 * what else is read: the rows that somebody looks at are made from the maps. The bits are the same
 * either way (ops/dense_lines.c). */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "ops/dense_few.h"
#include "ops/dense_lines.h"

/* Where flattened rows come from: maps, and the order of a row. */
typedef struct {
    int32_t maps; /* -1: from elsewhere */
    bool channels_last;
} source;

static const pcnn_pnode *
producer_of(const pcnn_program *program, int32_t v)
{
    return program->values[v].producer < 0 ? NULL : &program->nodes[program->values[v].producer];
}

static const pcnn_type *
type_of(const pcnn_program *program, int32_t v)
{
    return &program->values[v].type;
}

/* Would value v be in N16? A prediction, which costs a change of layout where it is wrong: ops that
 * compute on images take N16 where they can, and those that follow stay there. */
static bool
in_n16(const pcnn_program *program, int32_t v, int depth)
{
    const pcnn_type *type = type_of(program, v);
    const pcnn_pnode *node = producer_of(program, v);
    if (type->ndim != 4 || !pcnn_is_float(type->dtype) ||
        type->shape[0] < pcnn_plan_options.min_n16_batch || pcnn_type_size(type) == 0 ||
        node == NULL || depth > 32)
        return false;
    if (!(node->op->flags & PCNN_OP_FOLLOWS))
        return node->op->impls[0].n16_out & 1;
    for (int32_t i = 0; i < node->n_in && i < 32; i++)
        if (node->in[i] >= 0 && (node->op->impls[0].n16_in >> i & 1) &&
            in_n16(program, node->in[i], depth + 1))
            return true;
    return false;
}

static source
flattened_from(const pcnn_program *program, int32_t rows)
{
    const source none = {-1, false};
    const pcnn_pnode *reshape = producer_of(program, rows);
    if (reshape == NULL || reshape->op != &pcnn_op_reshape)
        return none;
    int32_t maps = reshape->in[0];
    const pcnn_type *type = type_of(program, maps);
    if (type->ndim != 4 || type_of(program, rows)->ndim != 2 ||
        type->shape[0] != type_of(program, rows)->shape[0])
        return none;
    const pcnn_pnode *transpose = producer_of(program, maps);
    if (transpose != NULL && transpose->op == &pcnn_op_transpose &&
        pcnn_permutes(transpose, 0, 2, 3, 1))
        return in_n16(program, transpose->in[0], 0) ? (source){transpose->in[0], true} : none;
    return in_n16(program, maps, 0) ? (source){maps, false} : none;
}

static int64_t
flag(const pcnn_pnode *node, const char *name)
{
    return *(const int64_t *)(const void *)((const char *)node->attrs +
                                            pcnn_op_attr(node->op, name)->offset);
}

/* ---- the three rewritings, in place ---- */

typedef struct {
    int32_t w;
    source source;
} weights;

typedef struct {
    pcnn_program *program;
    weights *seen; /* those that multiply flattened maps */
    int32_t n_seen;
} state;

/* `node` becomes `op` with these operands; its output stays. */
static pcnn_status
become(pcnn_pnode *node, const pcnn_op *op, const void *attrs, int32_t first, int32_t second)
{
    void *copy = calloc(1, op->attrs_size);
    if (copy == NULL)
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    memcpy(copy, attrs, op->attrs_size);
    free(node->attrs);
    node->attrs = copy;
    node->op = op;
    node->in[0] = first;
    node->in[1] = second;
    return PCNN_OK;
}

static pcnn_status
rewrite_dense(state *s, pcnn_pnode *node)
{
    const source from = flattened_from(s->program, node->in[0]);
    const int64_t *rows = type_of(s->program, node->in[0])->shape;
    if (from.maps < 0 || flag(node, "transpose_w") ||
        !pcnn_dense_lines_suit(rows[0], rows[1], type_of(s->program, node->out[0])->shape[1]))
        return PCNN_OK;
    s->seen[s->n_seen++] = (weights){node->in[1], from};
    if (rows[0] <= PCNN_FEW_ROWS)
        return PCNN_OK; /* dense sums few rows in another order, and faster */
    const pcnn_dense_maps_attrs attrs = {.channels_last = from.channels_last,
                                         .activation = flag(node, "activation")};
    return become(node, &pcnn_op_dense_maps, &attrs, from.maps, node->in[1]);
}

static pcnn_status
rewrite_dw(state *s, pcnn_pnode *node)
{
    const source from = flattened_from(s->program, node->in[0]);
    const int64_t *rows = type_of(s->program, node->in[0])->shape;
    if (from.maps < 0 ||
        !pcnn_dense_lines_suit(rows[0], rows[1], type_of(s->program, node->in[1])->shape[1]))
        return PCNN_OK;
    const pcnn_dense_maps_dw_attrs attrs = {.channels_last = from.channels_last};
    return become(node, &pcnn_op_dense_maps_dw, &attrs, from.maps, node->in[1]);
}

/* The node after `after` that reads v as its first input with `op`; -1: none. */
static int32_t
reader_of(const pcnn_program *program, int32_t after, int32_t v, const pcnn_op *op)
{
    for (int32_t n = after + 1; n < program->n_nodes; n++)
        if (!program->nodes[n].dead && program->nodes[n].op == op && program->nodes[n].in[0] == v)
            return n;
    return -1;
}

/* Brings node `from` to position `to`, before it. */
static void
move_up(pcnn_program *program, int32_t from, int32_t to)
{
    const pcnn_pnode node = program->nodes[from];
    memmove(&program->nodes[to + 1], &program->nodes[to],
            (size_t)(from - to) * sizeof *program->nodes);
    program->nodes[to] = node;
    for (int32_t n = to; n <= from; n++)
        for (int32_t o = 0; o < program->nodes[n].n_out; o++)
            program->values[program->nodes[n].out[o]].producer = n;
}

static void
set_ints(pcnn_pnode *node, const char *name, int64_t n, const int64_t *numbers)
{
    pcnn_ints ints = {.n = n};
    memcpy(ints.at, numbers, (size_t)n * sizeof *numbers);
    memcpy((char *)node->attrs + pcnn_op_attr(node->op, name)->offset, &ints, sizeof ints);
}

/* matmul makes rows, and from them maps come into being; now it makes the maps. The nodes between
 * turn round and make the rows from the maps, for others that read them. */
static pcnn_status
rewrite_dx(state *s, int32_t at)
{
    pcnn_program *program = s->program;
    const source *from = NULL;
    for (int32_t k = 0; k < s->n_seen; k++)
        if (s->seen[k].w == program->nodes[at].in[1])
            from = &s->seen[k].source;
    const int32_t rows = program->nodes[at].out[0];
    int32_t r = from ? reader_of(program, at, rows, &pcnn_op_reshape) : -1, t = -1;
    if (r < 0)
        return PCNN_OK;
    const int32_t reshaped = program->nodes[r].out[0];
    int32_t maps = reshaped;
    if (from->channels_last) {
        t = reader_of(program, r, reshaped, &pcnn_op_transpose);
        if (t < 0 || !pcnn_permutes(&program->nodes[t], 0, 3, 1, 2))
            return PCNN_OK;
        maps = program->nodes[t].out[0];
    }
    const pcnn_type *x = type_of(program, from->maps), *type = type_of(program, maps);
    const int64_t *size = type_of(program, rows)->shape;
    if (type->ndim != 4 || type->shape[0] != size[0] ||
        memcmp(&type->shape[1], &x->shape[1], 3 * sizeof type->shape[0]) != 0)
        return PCNN_OK;
    /* The batch may be another one than that of the dense layer that multiplied with w. */
    if (size[0] < pcnn_plan_options.min_n16_batch ||
        !pcnn_dense_lines_suit(size[0], size[1],
                               type_of(program, program->nodes[at].in[0])->shape[1]))
        return PCNN_OK;
    const pcnn_dense_maps_dx_attrs attrs = {
        .channels_last = from->channels_last,
        .maps = {.n = 3, .at = {x->shape[1], x->shape[2], x->shape[3]}}};
    PCNN_TRY(become(&program->nodes[at], &pcnn_op_dense_maps_dx, &attrs, program->nodes[at].in[0],
                    program->nodes[at].in[1]));
    program->nodes[at].out[0] = maps;
    program->values[maps].producer = at;

    pcnn_pnode *reshape = &program->nodes[r];
    set_ints(reshape, "shape", 2, type_of(program, rows)->shape);
    reshape->in[0] = reshaped;
    reshape->out[0] = rows;
    reshape->origin = program->nodes[at].origin;
    program->values[rows].producer = r;
    if (t >= 0) {
        pcnn_pnode *transpose = &program->nodes[t];
        set_ints(transpose, "perm", 4, (const int64_t[]){0, 2, 3, 1});
        transpose->in[0] = maps;
        transpose->out[0] = reshaped;
        transpose->origin = program->nodes[at].origin;
        program->values[reshaped].producer = t;
        move_up(program, t, at + 1);
        move_up(program, r + 1, at + 2);
    }
    else {
        move_up(program, r, at + 1);
    }
    return PCNN_OK;
}

pcnn_status
pcnn_pass_flatten(pcnn_program *program)
{
    if (!pcnn_plan_options.n16 || pcnn_forced_impl(&pcnn_op_dense) ||
        pcnn_forced_impl(&pcnn_op_matmul))
        return PCNN_OK;
    state s = {.program = program};
    int32_t layers = 0;
    for (int32_t n = 0; n < program->n_nodes; n++)
        layers += program->nodes[n].op == &pcnn_op_dense;
    if (layers == 0)
        return PCNN_OK;
    s.seen = calloc((size_t)layers, sizeof *s.seen);
    if (s.seen == NULL)
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    pcnn_status status = PCNN_OK;
    for (int32_t n = 0; n < program->n_nodes && status == PCNN_OK; n++) {
        pcnn_pnode *node = &program->nodes[n];
        if (node->dead)
            continue;
        if (node->op == &pcnn_op_dense)
            status = rewrite_dense(&s, node);
        else if (node->op == &pcnn_op_matmul && type_of(program, node->in[0])->ndim == 2) {
            const bool ta = flag(node, "transpose_a"), tb = flag(node, "transpose_b");
            if (ta && !tb)
                status = rewrite_dw(&s, node);
            else if (!ta && tb)
                status = rewrite_dx(&s, n);
        }
    }
    free(s.seen);
    return status == PCNN_OK ? pcnn_pass_dead(program) : status;
}
