/* Folds (sum, mean, maximum, sum of squares) over some dimensions of a value: what all reductions
 * share. The order of every addition is fixed by the shape: rows in chunks, chunks in parts, parts
 * one after another; threads share out the parts. */
#ifndef PCNN_OPS_FOLD_H
#define PCNN_OPS_FOLD_H

#include "ops/op.h"

typedef enum {
    PCNN_FOLD_SUM,
    PCNN_FOLD_MEAN,
    PCNN_FOLD_MAX,
    PCNN_FOLD_SQUARES,
    PCNN_FOLD_SLOPED_SQUARES, /* of input 0 + input 1 * input 2, a number; over all, plain */
} pcnn_fold_kind;

/* Output 0 (plain) is input 0 (plain or N16) folded over the dimensions whose bit is in `axes`. */
pcnn_status pcnn_fold_run(const pcnn_site *site, pcnn_fold_kind kind, uint32_t axes);
/* The same as pieces (op.h). */
pcnn_status pcnn_fold_prepare(const pcnn_site *site, pcnn_fold_kind kind, uint32_t axes, void *job,
                              int64_t *pieces, double *cost_ns);
void pcnn_fold_pieces(const void *job, int64_t begin, int64_t end);
void pcnn_fold_finish(const void *job);
int64_t pcnn_fold_workspace(const pcnn_site *site, uint32_t axes);

#endif
