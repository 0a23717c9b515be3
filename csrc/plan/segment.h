/* A segment: a run of recorded nodes on its way through a plan. One walk over the nodes finds what
 * they read (externals), what must be visible or kept afterwards (outputs), and the key. */
#ifndef PCNN_PLAN_SEGMENT_H
#define PCNN_PLAN_SEGMENT_H

#include "plan/plan.h"

typedef struct {
    pcnn_node **nodes; /* in order, references owned */
    int32_t n_nodes;
    pcnn_value **externals; /* references owned: what the nodes read or overwrite */
    int32_t n_externals, cap_externals;
    struct {
        int32_t node, out, id;
    } *outputs; /* which node's output each output buffer is for; id: value number in the program */
    int32_t n_outputs;
    int32_t *ids; /* of each node's inputs, in order: see segment.c */
    int64_t n_ids, cap_ids;
    unsigned char *key;
    size_t key_bytes, key_capacity;
    uint64_t hash;
    int32_t n_values;
    pcnn_storage **memory; /* of the outputs */
    pcnn_plan *plan;
    bool made; /* the plan is new */
    int32_t failed; /* after a run that failed: the nodes before this one are done */
} pcnn_segment;

/* The first `count` pending nodes of a lazy trace: they leave it, are marked as running and belong to
 * the segment until pcnn_segment_finish. Nothing pending: n_nodes 0. */
pcnn_status pcnn_segment_take(pcnn_segment *segment, pcnn_trace *trace, int64_t count);

/* Of a capture: `wanted` values are the outputs (n of them, in order); nodes stay in the trace.
 * Fails where an output belongs to another capture. */
pcnn_status pcnn_segment_capture(pcnn_segment *segment, pcnn_trace *trace,
                                 pcnn_value *const *wanted, int32_t n);

/* Finds the plan or makes it, and takes memory for the outputs. */
pcnn_status pcnn_segment_prepare(pcnn_segment *segment);
/* The plan only, without cache or memory: for captures. */
pcnn_status pcnn_segment_plan(pcnn_segment *segment, pcnn_plan **plan);

/* Needs the run lock, not the interpreter lock. */
pcnn_status pcnn_segment_run(pcnn_segment *segment);

/* Gives values their memory, or marks them failed, and frees the segment. */
void pcnn_segment_finish(pcnn_segment *segment, pcnn_status status);
void pcnn_segment_clear(pcnn_segment *segment); /* a capture's: frees, changes nothing */

#endif
