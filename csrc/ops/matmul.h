/* Attributes of matmul, for gradients that record it. */
#ifndef PCNN_OPS_MATMUL_H
#define PCNN_OPS_MATMUL_H

#include <stdint.h>

typedef struct {
    int64_t transpose_a, transpose_b;
} pcnn_matmul_attrs;

#endif
