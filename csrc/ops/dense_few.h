/* Products of a few rows with a matrix, where reading the matrix is all the work. */
#ifndef PCNN_OPS_DENSE_FEW_H
#define PCNN_OPS_DENSE_FEW_H

#include "core/tensor.h"

enum {
    /* At most. From 8 on dense_lines.h computes all of a layer's products, so that their bits do not
     * depend on whether x are maps or rows. */
    PCNN_FEW_ROWS = 7,
    PCNN_FEW_PART = 512,  /* rows of w that are summed at a time */
    PCNN_FEW_MOST = 64,   /* such parts, at most */
};

/* y[N,O] = x[N,I] w[I,O], row-major; `parts` has room for pcnn_dense_few_bytes. */
int64_t pcnn_dense_few_bytes(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O);
void pcnn_dense_few(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O, const void *x, const void *w,
                    void *y, void *parts);

#endif
