/* Pass: what stands between the user's array and the first layer on images becomes one op.
 *
 *   gather or cast -> reshape or transpose(0, 3, 1, 2) -> add, sub, mul or div with a number, twice
 *   at most -> pad with zeros around the pixels
 *
 * in this order or with the movement among the operations, each step the only reader of the one
 * before, becomes load_images (ops/load_images.c), which reads the array once. Any of the steps may
 * be missing; where the array is itself the batch, movement alone stays as it is: layout.c brings
 * it into N16 in one pass anyway. The new op stands where the first step stood: an index out of
 * range is found before anything else is done, as without this pass. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "ops/crop.h"
#include "ops/load_images.h"

enum { DATA, INDEX, NUMBERS, INPUTS = NUMBERS + PCNN_LOAD_NUMBERS };

/* What the steps so far do to the rows. */
typedef struct {
    int32_t first, last; /* nodes */
    int32_t in[INPUTS];
    int64_t choice[PCNN_LOAD_NUMBERS];
    int steps, numbers;
    bool gathered, converted, moved, transposed, padded;
    pcnn_ints padding;
} loading;

typedef struct {
    pcnn_program *program;
    int32_t *readers, *reader; /* of each value: how many, and the last */
} state;

static const pcnn_type *
type_of(const state *s, int32_t v)
{
    return &s->program->values[v].type;
}

/* Is value v there before node `first`, and the same until node n reads it? */
static bool
is_there(const state *s, int32_t v, int32_t first, int32_t n)
{
    return s->program->values[v].producer < first &&
           !pcnn_program_overwrites(s->program, v, first, n);
}

/* The operation with a number that an op is, as pcnn_load_choices counts; 0: none. */
static int64_t
choice_of(const pcnn_op *op)
{
    for (int64_t c = 1; pcnn_load_choices[c]; c++)
        if (strcmp(op->name, pcnn_load_choices[c]) == 0)
            return c;
    return 0;
}

static bool
pads_pixels(const pcnn_pnode *node, pcnn_ints *padding)
{
    const pcnn_pad_attrs *a = node->attrs;
    const double zero = 0;
    if (a->pads.n != 8 || memcmp(&a->value, &zero, sizeof zero) != 0)
        return false;
    for (int i = 0; i < 4; i++)
        if (a->pads.at[i] != 0)
            return false;
    padding->n = 4;
    memcpy(padding->at, &a->pads.at[4], 4 * sizeof a->pads.at[0]);
    return true;
}

/* Adds node n, which reads value v, to the steps if it is one. */
static bool
take(const state *s, loading *l, int32_t n, int32_t v)
{
    const pcnn_pnode *node = &s->program->nodes[n];
    const pcnn_type *from = type_of(s, v), *to = type_of(s, node->out[0]);
    const int64_t choice = choice_of(node->op);
    if (node->in[0] != v || l->padded)
        return false;
    if (node->op == &pcnn_op_cast) {
        if (l->converted || l->numbers > 0)
            return false;
        l->converted = from->dtype != to->dtype;
    }
    else if (node->op == &pcnn_op_reshape) {
        if (l->transposed || to->ndim < 1 || to->shape[0] != from->shape[0])
            return false;
        l->moved = true;
    }
    else if (node->op == &pcnn_op_transpose) {
        if (l->transposed || !pcnn_permutes(node, 0, 3, 1, 2))
            return false;
        l->moved = l->transposed = true;
    }
    else if (choice > 0) {
        const int32_t number = node->in[1];
        if (l->numbers == PCNN_LOAD_NUMBERS || type_of(s, number)->ndim != 0 ||
            !is_there(s, number, l->first, n))
            return false;
        l->choice[l->numbers] = choice;
        l->in[NUMBERS + l->numbers++] = number;
    }
    else if (node->op == &pcnn_op_pad) {
        if (!pads_pixels(node, &l->padding))
            return false;
        l->padded = true;
    }
    else {
        return false;
    }
    l->last = n;
    l->steps++;
    return true;
}

static bool
is_worth_it(const state *s, const loading *l)
{
    const pcnn_type *y = type_of(s, s->program->nodes[l->last].out[0]);
    if (y->ndim != 4 || !pcnn_is_float(y->dtype) || pcnn_type_size(y) == 0)
        return false;
    if (l->gathered)
        return l->steps > 1;
    return l->moved && (l->converted || l->numbers > 0 || l->padded);
}

/* The most steps from node n on that are one load; none: steps is 0. */
static loading
find(const state *s, int32_t n)
{
    const pcnn_program *program = s->program;
    const pcnn_pnode *node = &program->nodes[n];
    loading l = {.first = n, .padding = {.n = 4}}, best = {.steps = 0};
    for (int i = 0; i < INPUTS; i++)
        l.in[i] = -1;
    l.in[DATA] = node->n_in > 0 ? node->in[0] : -1;
    if (node->op == &pcnn_op_gather) {
        l.in[INDEX] = node->in[1];
        l.gathered = true;
        l.converted = type_of(s, node->in[0])->dtype != type_of(s, node->out[0])->dtype;
        l.last = n;
        l.steps = 1;
    }
    else if ((node->op != &pcnn_op_cast && node->op != &pcnn_op_reshape &&
              node->op != &pcnn_op_transpose) ||
             program->values[l.in[DATA]].producer >= 0 || type_of(s, l.in[DATA])->ndim < 2 ||
             !take(s, &l, n, l.in[DATA])) {
        return best;
    }
    for (;;) {
        const int32_t v = program->nodes[l.last].out[0];
        if (is_worth_it(s, &l))
            best = l;
        if (s->readers[v] != 1 || program->values[v].output >= 0 ||
            program->values[v].external >= 0 || !take(s, &l, s->reader[v], v))
            return best;
    }
}

/* The first step becomes the load, the others die. */
static pcnn_status
become(const state *s, const loading *l)
{
    pcnn_program *program = s->program;
    pcnn_pnode *node = &program->nodes[l->first];
    const int32_t y = program->nodes[l->last].out[0];
    const pcnn_type *type = type_of(s, y);
    pcnn_load_images_attrs *a = calloc(1, sizeof *a);
    int32_t *in = malloc(INPUTS * sizeof *in);
    if (a == NULL || in == NULL) {
        free(a);
        free(in);
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    }
    a->dtype = type->dtype;
    a->channels_last = l->transposed;
    a->padding = l->padding;
    a->maps =
        (pcnn_ints){.n = 3,
                    .at = {type->shape[1], type->shape[2] - l->padding.at[0] - l->padding.at[1],
                           type->shape[3] - l->padding.at[2] - l->padding.at[3]}};
    a->first = l->choice[0];
    a->second = l->choice[1];
    memcpy(in, l->in, sizeof l->in);
    for (int32_t v = node->out[0]; v != y;) {
        pcnn_pnode *next = &program->nodes[s->reader[v]];
        next->dead = true;
        v = next->out[0];
    }
    free(node->attrs);
    free(node->in);
    node->attrs = a;
    node->in = in;
    node->n_in = INPUTS;
    node->op = &pcnn_op_load_images;
    node->out[0] = y;
    program->values[y].producer = l->first;
    return PCNN_OK;
}

pcnn_status
pcnn_pass_images(pcnn_program *program)
{
    state s = {.program = program};
    s.readers = calloc((size_t)program->n_values + 1, 2 * sizeof *s.readers);
    if (s.readers == NULL)
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    s.reader = s.readers + program->n_values;
    for (int32_t n = 0; n < program->n_nodes; n++) {
        const pcnn_pnode *node = &program->nodes[n];
        for (int32_t i = 0; i < node->n_in && !node->dead; i++)
            if (node->in[i] >= 0) {
                s.readers[node->in[i]]++;
                s.reader[node->in[i]] = n;
            }
    }
    pcnn_status status = PCNN_OK;
    for (int32_t n = 0; n < program->n_nodes && status == PCNN_OK; n++)
        if (!program->nodes[n].dead) {
            const loading l = find(&s, n);
            if (l.steps > 0)
                status = become(&s, &l);
        }
    free(s.readers);
    return status;
}
