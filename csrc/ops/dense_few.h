/* Products of a few rows with a matrix, where reading the matrix is all the work. */
#ifndef PCNN_OPS_DENSE_FEW_H
#define PCNN_OPS_DENSE_FEW_H

#include "core/tensor.h"

enum {
    PCNN_FEW_ROWS = 8,    /* at most; a matrix product's own packing pays from here */
    PCNN_FEW_PART = 512,  /* rows of w that are summed at a time */
    PCNN_FEW_MOST = 64,   /* such parts, at most */
};

/* y[N,O] = x[N,I] w[I,O], row-major; `parts` has room for pcnn_dense_few_bytes. */
int64_t pcnn_dense_few_bytes(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O);
void pcnn_dense_few(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O, const void *x, const void *w,
                    void *y, void *parts);

#endif
