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

/* A call as implementations see it while planning: types and layouts, no data. */
typedef struct {
    pcnn_site site;
    pcnn_tensor in[PCNN_CHAIN_INPUTS], out[PCNN_MAX_OUT];
} pcnn_planned;

void pcnn_chain_site(const pcnn_program *program, const pcnn_pnode *node, pcnn_planned *planned);

/* The operand whose planes a step goes through. */
static inline int32_t
planes_of(const pcnn_pnode *node)
{
    return is_sink(node) ? node->in[1] : node->out[0];
}

/* Channels of a tile, at most, of a chain with this source and this sink (either may be NULL); 0:
 * the source's planes of all blocks, if they are to be kept for later phases, would be too many. */
int64_t pcnn_chain_tile(const pcnn_program *program, const pcnn_pnode *source,
                        const pcnn_pnode *sink, bool kept);

/* chain_strips.c: decides which steps of the chain that starts at node `first` take their planes in
 * strips, and in which. */
void pcnn_chain_cut(pcnn_program *program, int32_t first);
/* Rows of the longest strip of output o of a node that makes strips. */
int64_t pcnn_longest_strip(const pcnn_program *program, int32_t first, const pcnn_pnode *node,
                           int o);

/* chain_scratch.c: decides which values of the chain that starts at node `first` are scratch, and
 * where in a piece of scratch memory they lie. */
pcnn_status pcnn_chain_place(pcnn_program *program, int32_t first);

#endif
