/* Pass: fuse what follows an op into it, where the op can do it while its result is warm. The
 * formula and its order of operations stay the same, so the bits do too.
 *
 * - An op with an attribute `activation`, whose choices are names of ops, takes over the activation
 *   that is the only reader of its result (convolution, dense).
 * - A gradient op with an attribute `relu_input` takes over relu's gradient, where its own input x
 *   is what that relu made: dx = x > 0 ? dx : 0 (max pooling, batch normalisation). Average pooling's
 *   gradient, which has no use for x otherwise, gets it as an input of its own.
 * - An optimiser's step takes over the clipping of its gradient: of g * a, g * a / b and
 *   min(max(g, a), b) with numbers a and b it gets these and g. What remains before it is the norm.
 * - An optimiser's step takes over L2 regularisation: of grad + slope * param it gets grad and
 *   slope, as it reads the parameter anyway. The norm by which that is clipped does the same. */
#include "ops/optimizer.h"
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

static int64_t *
activation_of(pcnn_pnode *node, const char *name, int64_t *choice)
{
    const pcnn_attr *attr = pcnn_op_attr(node->op, "activation");
    if (attr == NULL || attr->kind != PCNN_ATTR_CHOICE)
        return NULL;
    for (int64_t c = 0; attr->choices[c]; c++)
        if (strcmp(attr->choices[c], name) == 0) {
            *choice = c;
            return (int64_t *)((char *)node->attrs + attr->offset);
        }
    return NULL;
}

/* The node that made value v, where v has so many readers and nobody sees it; else NULL. */
static pcnn_pnode *
producer_for(pcnn_program *program, const int32_t *readers, int32_t v, int32_t count)
{
    const pcnn_pvalue *value = &program->values[v];
    if (value->producer < 0 || value->output >= 0 || value->external >= 0 || readers[v] != count)
        return NULL;
    pcnn_pnode *producer = &program->nodes[value->producer];
    return producer->out[0] == v ? producer : NULL;
}

static pcnn_pnode *
sole_producer(pcnn_program *program, const int32_t *readers, int32_t v)
{
    return producer_for(program, readers, v, 1);
}

/* `producer` now makes what `node` made of its result. */
static void
take_over(pcnn_program *program, pcnn_pnode *producer, pcnn_pnode *node)
{
    producer->out[0] = node->out[0];
    program->values[node->out[0]].producer = (int32_t)(producer - program->nodes);
    node->dead = true;
}

static void
fuse_activation(pcnn_program *program, const int32_t *readers, pcnn_pnode *node)
{
    if (node->n_in != 1 || node->n_out != 1)
        return;
    pcnn_pnode *producer = sole_producer(program, readers, node->in[0]);
    int64_t choice,
        *activation = producer ? activation_of(producer, node->op->name, &choice) : NULL;
    if (activation == NULL || *activation != 0)
        return;
    *activation = choice;
    take_over(program, producer, node);
}

static void
fuse_relu_gradient(pcnn_program *program, const int32_t *readers, pcnn_pnode *node)
{
    if (node->op != &pcnn_op_relu_grad)
        return;
    pcnn_pnode *producer = sole_producer(program, readers, node->in[0]);
    if (producer != NULL && producer->op == &pcnn_op_avg_pool2d_grad) {
        const int32_t x = node->in[1], made = program->values[x].producer;
        if (producer->in[1] >= 0 || made >= producer - program->nodes)
            return; /* x is not there yet */
        producer->in[1] = x;
        take_over(program, producer, node);
        return;
    }
    const pcnn_attr *attr = producer ? pcnn_op_attr(producer->op, "relu_input") : NULL;
    if (attr == NULL || producer->in[1] != node->in[1])
        return;
    *(int64_t *)((char *)producer->attrs + attr->offset) = 1;
    take_over(program, producer, node);
}

/* ---- optimiser's steps ---- */

enum { PARAM, GRAD }; /* the first inputs of all */

/* Where an optimiser's step has its input `which`: PCNN_STEP_SLOPE, ...; of other nodes NULL. */
static int32_t *
step_input(pcnn_pnode *node, int which)
{
    if ((node->op != &pcnn_op_sgd_ && node->op != &pcnn_op_adam_) || node->n_in < node->op->n_in)
        return NULL;
    return &node->in[node->n_in - 1 - PCNN_STEP_CLIP_B + which];
}

/* The node that makes v as `op` of a value and one number of its type, for one reader; else NULL. */
static pcnn_pnode *
made_with_number(pcnn_program *program, const int32_t *readers, int32_t v, const pcnn_op *op)
{
    pcnn_pnode *node = sole_producer(program, readers, v);
    if (node == NULL || node->op != op)
        return NULL;
    const pcnn_type *number = &program->values[node->in[1]].type;
    return number->ndim == 0 && number->dtype == program->values[v].type.dtype ? node : NULL;
}

static void
fuse_clipping(pcnn_program *program, const int32_t *readers, pcnn_pnode *node)
{
    const pcnn_attr *attr = pcnn_op_attr(node->op, "clip");
    int32_t *slope = attr ? step_input(node, PCNN_STEP_SLOPE) : NULL;
    if (slope == NULL || *slope >= 0 || *(int64_t *)((char *)node->attrs + attr->offset) != 0)
        return; /* the slope would come before the clipping */
    static const struct {
        const pcnn_op *first, *then;
        int64_t clip;
    } kinds[] = {{&pcnn_op_mul, &pcnn_op_div, PCNN_CLIP_NORM},
                 {&pcnn_op_maximum, &pcnn_op_minimum, PCNN_CLIP_VALUE},
                 {&pcnn_op_mul, NULL, PCNN_CLIP_FACTOR}};
    const int32_t here = (int32_t)(node - program->nodes);
    for (int k = 0; k < 3; k++) {
        int32_t v = node->in[GRAD], numbers[2] = {-1, -1};
        pcnn_pnode *last = NULL;
        if (kinds[k].then) {
            last = made_with_number(program, readers, v, kinds[k].then);
            if (last == NULL)
                continue;
            numbers[1] = last->in[1];
            v = last->in[0];
        }
        pcnn_pnode *first = made_with_number(program, readers, v, kinds[k].first);
        if (first == NULL)
            continue;
        numbers[0] = first->in[1];
        const int32_t from = (int32_t)(first - program->nodes);
        if (pcnn_program_overwrites(program, first->in[0], from, here) ||
            pcnn_program_overwrites(program, numbers[0], from, here) ||
            (last && pcnn_program_overwrites(program, numbers[1], from, here)))
            continue;
        node->in[GRAD] = first->in[0];
        *step_input(node, PCNN_STEP_CLIP_A) = numbers[0];
        *step_input(node, PCNN_STEP_CLIP_B) = numbers[1];
        *(int64_t *)((char *)node->attrs + attr->offset) = kinds[k].clip;
        first->dead = true;
        if (last)
            last->dead = true;
        return;
    }
}

/* Is `node` the product of v and one number of the same type? Then *slope is that number. */
static bool
is_multiple_of(const pcnn_program *program, const pcnn_pnode *node, int32_t v, int32_t *slope)
{
    if (node == NULL || node->op != &pcnn_op_mul)
        return false;
    for (int i = 0; i < 2; i++)
        if (node->in[i] == v && program->values[node->in[1 - i]].type.ndim == 0) {
            *slope = node->in[1 - i];
            return program->values[v].type.ndim > 0 &&
                   program->values[*slope].type.dtype == program->values[v].type.dtype;
        }
    return false;
}

/* May this node take v in N16 of its own accord, so that v gets a copy for all who follow? */
static bool
may_take_n16(const pcnn_pnode *node, int32_t v)
{
    if (node->dead || (node->op->flags & PCNN_OP_FOLLOWS))
        return false;
    for (int32_t i = 0; i < node->n_in && i < 32; i++)
        for (const pcnn_impl *impl = node->op->impls; node->in[i] == v && impl->name; impl++)
            if (impl->n16_in >> i & 1)
                return true;
    return false;
}

/* Is v in plain layout for all its readers, whatever implementations are chosen? */
static bool
is_plain(const pcnn_program *program, int32_t v)
{
    const pcnn_pvalue *value = &program->values[v];
    if (value->type.ndim != 4)
        return true;
    for (int32_t n = 0; n < program->n_nodes; n++)
        if (may_take_n16(&program->nodes[n], v))
            return false;
    if (value->producer >= 0)
        for (const pcnn_impl *impl = program->nodes[value->producer].op->impls; impl->name; impl++)
            if (impl->n16_out)
                return false;
    return true;
}

/* The sum of squares of v before node `here`, with room for two more inputs; else NULL. */
static pcnn_pnode *
norm_of(pcnn_program *program, int32_t v, int32_t here)
{
    for (int32_t n = program->values[v].producer + 1; n < here; n++) {
        pcnn_pnode *node = &program->nodes[n];
        if (node->dead || node->op != &pcnn_op_sum_squares || node->in[0] != v)
            continue;
        int32_t *in = realloc(node->in, 3 * sizeof *in);
        if (in == NULL)
            return NULL;
        node->in = in;
        return node;
    }
    return NULL;
}

static void
fuse_regularisation(pcnn_program *program, const int32_t *readers, pcnn_pnode *node)
{
    int32_t *taken = step_input(node, PCNN_STEP_SLOPE);
    if (taken == NULL || *taken >= 0)
        return;
    const int32_t here = (int32_t)(node - program->nodes), param = node->in[PARAM];
    /* Of two readers the other one has to be the norm. */
    pcnn_pnode *sum = sole_producer(program, readers, node->in[GRAD]), *norm = NULL;
    if (sum == NULL)
        sum = producer_for(program, readers, node->in[GRAD], 2);
    if (sum == NULL || sum->op != &pcnn_op_add)
        return;
    if (readers[node->in[GRAD]] == 2 && (norm = norm_of(program, node->in[GRAD], here)) == NULL)
        return;
    for (int i = 0; i < 2; i++) {
        int32_t slope, grad = sum->in[1 - i];
        pcnn_pnode *product = sole_producer(program, readers, sum->in[i]);
        if (!is_multiple_of(program, product, param, &slope) ||
            /* N16 is summed in another order */
            (norm != NULL && !(is_plain(program, grad) && is_plain(program, param))) ||
            !pcnn_shape_equal(&program->values[grad].type, &program->values[param].type) ||
            pcnn_program_overwrites(program, slope, (int32_t)(product - program->nodes), here) ||
            pcnn_program_overwrites(program, grad, (int32_t)(sum - program->nodes), here))
            continue;
        node->in[GRAD] = grad;
        *taken = slope;
        if (norm != NULL) {
            norm->op = &pcnn_op_sum_sloped_squares;
            norm->n_in = 3;
            norm->in[0] = grad;
            norm->in[1] = param;
            norm->in[2] = slope;
        }
        sum->dead = product->dead = true;
        return;
    }
}

pcnn_status
pcnn_pass_fuse(pcnn_program *program)
{
    int32_t *readers = calloc((size_t)program->n_values + 1, sizeof *readers);
    if (readers == NULL)
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    for (int32_t n = 0; n < program->n_nodes; n++) {
        const pcnn_pnode *node = &program->nodes[n];
        for (int32_t i = 0; i < node->n_in && !node->dead; i++)
            if (node->in[i] >= 0)
                readers[node->in[i]]++;
    }
    for (int32_t n = 0; n < program->n_nodes; n++)
        if (!program->nodes[n].dead) {
            fuse_activation(program, readers, &program->nodes[n]);
            fuse_relu_gradient(program, readers, &program->nodes[n]);
            fuse_clipping(program, readers, &program->nodes[n]);
            fuse_regularisation(program, readers, &program->nodes[n]);
        }
    free(readers);
    return PCNN_OK;
}
