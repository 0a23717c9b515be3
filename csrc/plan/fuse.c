/* Pass: fuse an activation into the op that makes its input.
 *
 * An op that can apply an activation to its result while it is warm says so by an attribute
 * `activation` whose choices are names of ops. Where the plain result is read by the activation
 * alone, the activation moves in. The formula and its order of operations stay the same, so the
 * bits do too. */
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
    for (int32_t n = 0; n < program->n_nodes; n++) {
        pcnn_pnode *node = &program->nodes[n];
        if (node->dead || node->n_in != 1 || node->n_out != 1)
            continue;
        int32_t x = node->in[0];
        const pcnn_pvalue *value = &program->values[x];
        if (value->producer < 0 || value->output >= 0 || value->external >= 0 || readers[x] != 1)
            continue;
        pcnn_pnode *producer = &program->nodes[value->producer];
        int64_t choice, *activation = activation_of(producer, node->op->name, &choice);
        if (activation == NULL || *activation != 0 || producer->out[0] != x)
            continue;
        *activation = choice;
        producer->out[0] = node->out[0];
        program->values[node->out[0]].producer = value->producer;
        node->dead = true;
    }
    free(readers);
    return PCNN_OK;
}
