/* What dropout's kernels need to know: its random numbers and the scale.
 *
 * The number for position p (in C,H,W order) of image n is word p % 4 of
 * Philox4x32-10 with key `key` and counter (p / 4, n, call, stream); it keeps its element when it
 * is not below `threshold`. */
#ifndef PCNN_OPS_DROPOUT_H
#define PCNN_OPS_DROPOUT_H

#include <stdint.h>

#include "core/tensor.h"

typedef struct {
    uint32_t key[2];
    uint32_t call, stream;
    uint32_t threshold; /* rate * 2^32 */
    double scale;       /* 1 / (1 - rate) */
} pcnn_dropout;

typedef struct {
    double rate;
    int64_t spatial;
} pcnn_dropout_attrs;

/* 2^32 * rate, rounded: 0 keeps all, 2^32 keeps nothing. */
static inline uint64_t
pcnn_dropout_threshold(double rate)
{
    return (uint64_t)(rate * 4294967296.0 + 0.5);
}

/* The type of the decisions for an x of shape N, ...: bytes [ceil(N/16)][elements of an image][2],
 * words of 16 bits, of which bit n says whether image n of the block keeps its element. */
pcnn_type pcnn_dropout_bits_type(const pcnn_type *x);

#endif
