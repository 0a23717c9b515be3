/* Pass: where a plan holds an op and its gradient, the op saves for it what is smaller than the
 * values that the gradient would read, or dearer to make again.
 *
 * - max_pool2d and max_pool2d_grad become max_pool2d_index and max_pool2d_scatter: the positions of
 *   the maxima, a byte for each pooled element, in place of the maps x and y.
 * - dropout of images side by side and its gradient, dropout with the same random numbers, become
 *   dropout_keep and dropout_mask: a bit for each element in place of Philox's rounds.
 *
 * The numbers are the same, bit for bit. Gradients whose forward op ran in an earlier plan stay. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "ops/dropout.h"
#include "ops/max_pool2d.h"

/* Turns node n into `op` with these attributes and inputs; its first output stays. `second` is its
 * second output, or -1. */
static pcnn_status
become(pcnn_program *program, int32_t n, const pcnn_op *op, const void *attrs, int32_t n_in,
       const int32_t *in, int32_t second)
{
    pcnn_pnode *node = &program->nodes[n];
    void *memory = malloc(op->attrs_size);
    if (memory == NULL)
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    memcpy(memory, attrs, op->attrs_size);
    free(node->attrs);
    node->attrs = memory;
    node->op = op;
    memmove(node->in, in, (size_t)n_in * sizeof *in); /* never more than there were */
    node->n_in = n_in;
    node->n_out = op->n_out;
    if (second >= 0) {
        node->out[1] = second;
        program->values[second].producer = n;
    }
    return PCNN_OK;
}

/* ---- max pooling ---- */

/* The node that made y, as max_pool2d of x with this window or what that has become; -1: none. */
static int32_t
pooling_of(const pcnn_program *program, const pcnn_pnode *gradient)
{
    const pcnn_max_pool2d_grad_attrs *a = gradient->attrs;
    const int32_t n = program->values[gradient->in[2]].producer;
    if (n < 0)
        return -1;
    const pcnn_pnode *node = &program->nodes[n];
    if (node->dead || node->in[0] != gradient->in[1] || node->out[0] != gradient->in[2])
        return -1;
    if (node->op != &pcnn_op_max_pool2d && node->op != &pcnn_op_max_pool2d_index)
        return -1;
    /* Both attribute structs begin with the window. */
    if (memcmp(node->attrs, &a->window, sizeof a->window) != 0)
        return -1;
    if (node->op == &pcnn_op_max_pool2d_index) {
        const pcnn_max_pool2d_grad_attrs *made = node->attrs;
        return made->relu_input == a->relu_input ? n : -1;
    }
    const pcnn_ints *kernel = &a->window.kernel;
    const int64_t taps = kernel->at[0] * kernel->at[kernel->n - 1];
    return taps <= PCNN_MAX_POOL2D_TAPS ? n : -1;
}

static pcnn_status
remember_maxima(pcnn_program *program, int32_t n)
{
    if (program->nodes[n].op != &pcnn_op_max_pool2d_grad)
        return PCNN_OK;
    const int32_t forward = pooling_of(program, &program->nodes[n]);
    if (forward < 0)
        return PCNN_OK;
    const pcnn_max_pool2d_grad_attrs a =
        *(const pcnn_max_pool2d_grad_attrs *)program->nodes[n].attrs;
    const int32_t dy = program->nodes[n].in[0], x = program->nodes[n].in[1];
    if (program->nodes[forward].op == &pcnn_op_max_pool2d) {
        const pcnn_type type =
            pcnn_max_pool2d_index_type(&program->values[program->nodes[n].in[2]].type);
        const int32_t index = pcnn_program_value(program, &type);
        if (index < 0)
            return PCNN_ERR_MEMORY;
        PCNN_TRY(become(program, forward, &pcnn_op_max_pool2d_index, &a, 1, &x, index));
    }
    const int64_t *size = program->values[x].type.shape;
    const pcnn_max_pool2d_scatter_attrs back = {a.window, size[2], size[3]};
    const int32_t in[2] = {dy, program->nodes[forward].out[1]};
    return become(program, n, &pcnn_op_max_pool2d_scatter, &back, 2, in, -1);
}

/* ---- dropout ---- */

/* Elements are dropped, some of them, and in layout N16: in plain layout rows are short. */
static bool
draws_for_images(const pcnn_program *program, const pcnn_pnode *node)
{
    const pcnn_dropout_attrs *a = node->attrs;
    const pcnn_type *x = &program->values[node->in[0]].type;
    return !a->spatial && a->rate > 0 && pcnn_dropout_threshold(a->rate) <= UINT32_MAX &&
           pcnn_plan_options.n16 && x->ndim == 4 &&
           x->shape[0] >= pcnn_plan_options.min_n16_batch && pcnn_type_size(x) > 0;
}

/* Dropout of other values of the same type with the numbers of node `forward`. */
static bool
draws_the_same(const pcnn_program *program, const pcnn_pnode *forward, const pcnn_pnode *node)
{
    return !node->dead && node->op == &pcnn_op_dropout && node->in[1] == forward->in[1] &&
           memcmp(node->attrs, forward->attrs, sizeof(pcnn_dropout_attrs)) == 0 &&
           pcnn_type_equal(&program->values[node->in[0]].type,
                           &program->values[forward->in[0]].type);
}

static pcnn_status
remember_draws(pcnn_program *program, int32_t n)
{
    if (program->nodes[n].op != &pcnn_op_dropout || !draws_for_images(program, &program->nodes[n]))
        return PCNN_OK;
    const pcnn_dropout_attrs a = *(const pcnn_dropout_attrs *)program->nodes[n].attrs;
    const int32_t x = program->nodes[n].in[0], seed = program->nodes[n].in[1];
    int32_t bits = -1;
    for (int32_t m = n + 1; m < program->n_nodes; m++) {
        if (!draws_the_same(program, &program->nodes[n], &program->nodes[m]))
            continue;
        if (bits < 0) {
            const pcnn_type type = pcnn_dropout_bits_type(&program->values[x].type);
            bits = pcnn_program_value(program, &type);
            if (bits < 0)
                return PCNN_ERR_MEMORY;
            const int32_t in[2] = {x, seed};
            PCNN_TRY(become(program, n, &pcnn_op_dropout_keep, &a, 2, in, bits));
        }
        const int32_t in[2] = {program->nodes[m].in[0], bits};
        PCNN_TRY(become(program, m, &pcnn_op_dropout_mask, &a, 2, in, -1));
    }
    return PCNN_OK;
}

pcnn_status
pcnn_pass_remember(pcnn_program *program)
{
    for (int32_t n = 0; n < program->n_nodes; n++)
        if (!program->nodes[n].dead) {
            PCNN_TRY(remember_maxima(program, n));
            PCNN_TRY(remember_draws(program, n));
        }
    return PCNN_OK;
}
