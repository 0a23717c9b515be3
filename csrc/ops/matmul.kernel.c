/* The matrix product as it is defined: to be compared with, and for extents that BLAS's integers do
 * not hold. C[m][n] = sum over k of A[m*a_row + k*a_column] B[k*b_row + n*b_column]. */
#include "isa/kernels.h"
#include "isa/vec.h"

void
PCNN_K(matmul_reference)(const void *A, int64_t a_row, int64_t a_column, const void *B,
                         int64_t b_row, int64_t b_column, void *C, int64_t M, int64_t N, int64_t K)
{
    const real *a = A, *b = B;
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) {
            double sum = 0;
            for (int64_t k = 0; k < K; k++)
                sum += (double)a[m * a_row + k * a_column] * (double)b[k * b_row + n * b_column];
            ((real *)C)[m * N + n] = (real)sum;
        }
}
