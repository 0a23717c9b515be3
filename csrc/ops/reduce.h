/* Attributes of the reductions, for gradients that record them. */
#ifndef PCNN_OPS_REDUCE_H
#define PCNN_OPS_REDUCE_H

#include "ops/op.h"

/* sum, mean, max. */
typedef struct {
    pcnn_ints axis; /* n = -1: all axes */
    int64_t keepdims;
} pcnn_reduce_attrs;

typedef struct {
    int64_t axis;
} pcnn_argmax_attrs;

/* sum_to: x summed to `shape`, from which broadcasting made x's shape. */
typedef struct {
    pcnn_ints shape;
} pcnn_sum_to_attrs;

/* expand: x, which has the elements of `shape` with the axes `axis` reduced to 1, repeated along
 * them; `mean` divides by the number of repetitions. */
typedef struct {
    pcnn_ints shape;
    pcnn_ints axis;
    int64_t mean;
} pcnn_expand_attrs;

/* *destination = value summed to the shape of `like`; value itself where the shapes are equal.
 * Takes over the reference to `value`. */
pcnn_status pcnn_emit_sum_to(pcnn_grad *grad, pcnn_value *value, const pcnn_type *like,
                             pcnn_value **destination);

#endif
