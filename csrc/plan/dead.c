/* Pass: drop nodes that neither an output nor an effect depends on. */
#include "plan/plan.h"

pcnn_status
pcnn_pass_dead(pcnn_program *program)
{
    for (int32_t n = 0; n < program->n_nodes; n++)
        program->nodes[n].dead = true;
    /* Nodes are in order of execution, so one sweep backwards sees every reader first. */
    for (int32_t n = program->n_nodes - 1; n >= 0; n--) {
        pcnn_pnode *node = &program->nodes[n];
        bool alive = node->effect || !node->dead;
        for (int o = 0; o < node->n_out; o++)
            alive |= program->values[node->out[o]].output >= 0;
        if (!alive)
            continue;
        node->dead = false;
        for (int32_t i = 0; i < node->n_in; i++)
            if (node->in[i] >= 0 && program->values[node->in[i]].producer >= 0)
                program->nodes[program->values[node->in[i]].producer].dead = false;
    }
    return PCNN_OK;
}
