/* What dropout's kernels need to know: its random numbers and the scale.
 *
 * The number for position p (in C,H,W order) of image n is word p % 4 of
 * Philox4x32-10 with key `key` and counter (p / 4, n, call, stream); it keeps its element when it
 * is not below `threshold`. */
#ifndef PCNN_OPS_DROPOUT_H
#define PCNN_OPS_DROPOUT_H

#include <stdint.h>

typedef struct {
    uint32_t key[2];
    uint32_t call, stream;
    uint32_t threshold; /* rate * 2^32 */
    double scale;       /* 1 / (1 - rate) */
} pcnn_dropout;

#endif
