/* y = x w for a few rows of x: w is read once, row by row, as it lies in memory.
 *
 * A tile is ROWS rows of x by a few vectors of columns, summed in registers over the rows of w. One
 * row of x has the widest tile: each element of w serves a single multiply-add there. */
#include "isa/kernels.h"
#include "isa/vec.h"

enum { WIDEST = VEC_REGISTERS == 32 ? 16 : 8 };

/* Vectors of columns for a number of rows: 8, 4, 2, 2 with 16 registers. */
#define VECTORS_FOR(ROWS) (WIDEST / ((ROWS) > 2 ? 4 : (ROWS)))

ALWAYS_INLINE void
sum_columns(const real *x, int64_t x_row, const real *w, int64_t w_row, real *y, int64_t y_row,
            int64_t I, const int R, const int V)
{
    vec sum[4][WIDEST];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < V; v++) sum[r][v] = (vec){0};
    for (int64_t i = 0; i < I; i++, w += w_row) {
        vec weight[WIDEST];
        UNROLL for (int v = 0; v < V; v++) weight[v] = vload(w + v * LANES);
        UNROLL for (int r = 0; r < R; r++)
        {
            const vec value = vset(x[r * x_row + i]);
            UNROLL for (int v = 0; v < V; v++) sum[r][v] = vfma(value, weight[v], sum[r][v]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < V; v++)
        vstore(y + r * y_row + v * LANES, sum[r][v]);
}

/* Fewer columns than a vector has. */
ALWAYS_INLINE void
sum_rest(const real *x, int64_t x_row, const real *w, int64_t w_row, real *y, int64_t y_row,
         int64_t I, int64_t columns, const int R)
{
    for (int64_t c = 0; c < columns; c++)
        UNROLL for (int r = 0; r < R; r++)
        {
            real sum = 0;
            for (int64_t i = 0; i < I; i++)
                sum = rfma(x[r * x_row + i], w[i * w_row + c], sum);
            y[r * y_row + c] = sum;
        }
}

ALWAYS_INLINE void
sum_rows(const real *x, int64_t x_row, const real *w, int64_t w_row, real *y, int64_t y_row,
         int64_t I, int64_t columns, const int R)
{
    enum { ONE = LANES };
    const int64_t wide = VECTORS_FOR(R) * LANES;
    int64_t c = 0;
    for (; columns - c >= wide; c += wide)
        sum_columns(x, x_row, w + c, w_row, y + c, y_row, I, R, VECTORS_FOR(R));
    for (; columns - c >= 2 * ONE; c += 2 * ONE)
        sum_columns(x, x_row, w + c, w_row, y + c, y_row, I, R, 2);
    for (; columns - c >= ONE; c += ONE)
        sum_columns(x, x_row, w + c, w_row, y + c, y_row, I, R, 1);
    if (c < columns && columns >= ONE) /* some columns a second time, to the same sums */
        sum_columns(x, x_row, w + columns - ONE, w_row, y + columns - ONE, y_row, I, R, 1);
    else if (c < columns)
        sum_rest(x, x_row, w, w_row, y, y_row, I, columns, R);
}

/* rows of x and y, I rows of w, `columns` columns; steps from row to row in elements. */
void
PCNN_K(dense_few)(const void *px, int64_t x_row, const void *pw, int64_t w_row, void *py,
                  int64_t y_row, int64_t rows, int64_t I, int64_t columns)
{
    const real *x = px;
    real *y = py;
    for (; rows >= 4; rows -= 4, x += 4 * x_row, y += 4 * y_row)
        sum_rows(x, x_row, pw, w_row, y, y_row, I, columns, 4);
    switch (rows) {
    case 3: sum_rows(x, x_row, pw, w_row, y, y_row, I, columns, 3); break;
    case 2: sum_rows(x, x_row, pw, w_row, y, y_row, I, columns, 2); break;
    case 1: sum_rows(x, x_row, pw, w_row, y, y_row, I, columns, 1); break;
    default: break;
    }
}
