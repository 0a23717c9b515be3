/* Pass: groups. Calls of an op whose work is nothing but pieces (pcnn_pieces in op.h), and that do
 * not depend on each other, run as one: the optimiser's steps of all parameters, the norms of all
 * gradients. A network of twenty small tensors then wakes the threads once, and a large tensor's
 * pieces fill up what small ones leave.
 *
 * A group runs where its first call stood. What it calculates is the same, so the bits are; and where
 * a call fails, those recorded before it are done and none behind it: effects therefore only join
 * what they follow without a gap. Others move up, if all that they read is made before the first.
 *
 * Memory: all operands live until the group has run. Gradients do so anyway, because optimisers
 * record their steps behind the whole backward pass. */
#include "ops/pieces.h"
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

/* Can the call run among others? Where it may write over an input in the arena, an output there
 * would need to know of theirs. */
static bool
can_run_together(const pcnn_program *program, const pcnn_pnode *node)
{
    if (node->dead || node->chain != 0 || node->op->pieces == NULL)
        return false;
    for (int o = 0; o < node->n_out; o++)
        if (node->op->writes[o] && node->in[node->op->writes[o] - 1] >= 0 &&
            program->values[node->out[o]].external < 0)
            return false;
    return node->effect || node->impl->in_place == 0;
}

/* Does `writer` write the caller's memory that `other` reads or writes? */
static bool
disturbs(const pcnn_program *program, const pcnn_pnode *writer, const pcnn_pnode *other)
{
    for (int o = 0; o < writer->n_out && writer->effect; o++) {
        const int32_t external = program->values[writer->out[o]].external;
        for (int32_t k = 0; k < other->n_in + other->n_out && external >= 0; k++) {
            const int32_t v = k < other->n_in ? other->in[k] : other->out[k - other->n_in];
            if (v >= 0 && program->values[v].external == external)
                return true;
        }
    }
    return false;
}

/* Can node n run together with the group that starts at `head` and has `length` nodes so far? All of
 * what is between them has a number in `group`: the node that it runs with. */
static bool
can_join(const pcnn_program *program, const int32_t *group, int32_t head, int length, int32_t n)
{
    const pcnn_pnode *node = &program->nodes[n];
    if (length >= PCNN_PIECES_CALLS ||
        node->op->pieces->run != program->nodes[head].op->pieces->run)
        return false;
    for (int32_t i = 0; i < node->n_in; i++) {
        if (node->in[i] < 0)
            continue;
        const int32_t producer = program->values[node->in[i]].producer;
        if ((producer >= 0 && group[producer] >= head) ||
            pcnn_program_overwrites(program, node->in[i], head, n))
            return false;
    }
    for (int32_t m = head; m < n && node->effect; m++)
        if (group[m] != head || disturbs(program, node, &program->nodes[m]))
            return false;
    return true;
}

/* Puts the nodes of every group side by side. */
static pcnn_status
write(pcnn_program *program, const int32_t *group, const int *length)
{
    const int32_t n_nodes = program->n_nodes;
    pcnn_pnode *nodes = calloc((size_t)n_nodes + 1, sizeof *nodes);
    if (nodes == NULL)
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    int32_t next = 0;
    for (int32_t n = 0; n < n_nodes; n++) {
        if (group[n] != n)
            continue;
        int32_t left = length[n];
        for (int32_t m = n; m < n_nodes && left > 0; m++)
            if (group[m] == n) {
                nodes[next] = program->nodes[m];
                if (length[n] > 1)
                    nodes[next].chain = (int8_t)(m == n ? length[n] : -1);
                next++;
                left--;
            }
    }
    memcpy(program->nodes, nodes, (size_t)n_nodes * sizeof *nodes);
    free(nodes);
    for (int32_t n = 0; n < n_nodes; n++)
        for (int o = 0; o < program->nodes[n].n_out; o++)
            program->values[program->nodes[n].out[o]].producer = n;
    return PCNN_OK;
}

pcnn_status
pcnn_pass_group(pcnn_program *program)
{
    const int32_t n_nodes = program->n_nodes;
    int32_t *group = calloc((size_t)n_nodes + 1, sizeof *group);
    int *length = calloc((size_t)n_nodes + 1, sizeof *length);
    pcnn_status status = PCNN_OK;
    bool any = false;
    if (group == NULL || length == NULL)
        status = pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    int32_t head = -1; /* of the group that is being formed */
    for (int32_t n = 0; n < n_nodes && status == PCNN_OK; n++) {
        group[n] = n;
        length[n] = 1;
        if (!can_run_together(program, &program->nodes[n]))
            continue;
        if (head >= 0 && can_join(program, group, head, length[head], n)) {
            group[n] = head;
            length[head]++;
            any = true;
        }
        else {
            head = n;
        }
    }
    if (status == PCNN_OK && any)
        status = write(program, group, length);
    free(group);
    free(length);
    return status;
}

pcnn_status
pcnn_group_run(const pcnn_pnode *nodes, const pcnn_tensor *tensors, char *arena, int *failed)
{
    pcnn_site sites[PCNN_PIECES_CALLS];
    for (int k = 0; k < nodes->chain; k++) {
        sites[k] = pcnn_pnode_site(&nodes[k], tensors, arena);
        tensors += nodes[k].n_in + nodes[k].n_out;
    }
    return pcnn_pieces_run(sites, nodes->chain, failed);
}
