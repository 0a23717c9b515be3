/* What the files of the chain pass share: questions to the steps of a chain. */
#ifndef PCNN_PLAN_CHAIN_H
#define PCNN_PLAN_CHAIN_H

#include "plan/plan.h"

enum { PCNN_CHAIN_INPUTS = 8 }; /* of a step in a chain, at most */

static inline bool
has_sums(const pcnn_pnode *node)
{
    return node->impl->planes->sums != NULL;
}

static inline bool
is_source(const pcnn_pnode *node)
{
    return node->impl->planes->source != NULL;
}

static inline bool
is_sink(const pcnn_pnode *node)
{
    return node->impl->planes->sink != NULL;
}

/* The operand whose planes a step goes through. */
static inline int32_t
planes_of(const pcnn_pnode *node)
{
    return is_sink(node) ? node->in[1] : node->out[0];
}

/* chain_scratch.c: decides which values of the chain that starts at node `first` are scratch, and
 * where in a piece of scratch memory they lie. */
pcnn_status pcnn_chain_place(pcnn_program *program, int32_t first);

#endif
