/* Matrix products over OpenBLAS, cut into fixed tiles that our own pool shares out; each tile is
 * one single-threaded BLAS call, so that the bits do not depend on the number of threads. */
#ifndef PCNN_BLAS_GEMM_H
#define PCNN_BLAS_GEMM_H

#include "core/tensor.h"

/* C[M,N] = alpha * op(A) op(B) + beta * C, row-major, leading dimensions in elements.
 * `serial` leaves it on the calling thread: for use inside a task. */
void pcnn_gemm(pcnn_dtype dtype, bool transpose_a, bool transpose_b, int64_t M, int64_t N,
               int64_t K, double alpha, const void *A, int64_t lda, const void *B, int64_t ldb,
               double beta, void *C, int64_t ldc, bool serial);

/* Called with every tile of C right after it was computed, by the thread that did. */
typedef void (*pcnn_gemm_finish)(void *context, int64_t row, int64_t rows, int64_t column,
                                 int64_t columns);

/* C = op(A) op(B), then `finish` on each tile. */
void pcnn_gemm_and(pcnn_dtype dtype, bool transpose_a, bool transpose_b, int64_t M, int64_t N,
                   int64_t K, const void *A, int64_t lda, const void *B, int64_t ldb, void *C,
                   int64_t ldc, pcnn_gemm_finish finish, void *context);

/* Largest extent or leading dimension that BLAS's integers hold. */
enum { PCNN_GEMM_MAX = INT32_MAX };

/* Single-threaded BLAS: called once at import. The core type that OpenBLAS computes for is chosen
 * when its library is loaded, from OPENBLAS_CORETYPE. */
void pcnn_blas_init(void);
const char *pcnn_blas_config(void);

#endif
