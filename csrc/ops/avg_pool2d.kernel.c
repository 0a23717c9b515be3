/* Average pooling: forward and gradient, in layout N16 and plain.
 *
 * `shape` is a pcnn_pool2d. Padding lanes are zero in x and dy, and sums and quotients of zeros
 * are zeros: no mask is needed. Sums run in row-major order of the taps and are divided by the
 * number of taps (not multiplied by its rounded inverse), in all variants alike. */
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/pool2d.h"

/* What a window's sum is divided by. */
ALWAYS_INLINE real
divisor(const pcnn_pool2d *s, int64_t rows, int64_t columns)
{
    return (real)(s->count_include_pad ? s->KH * s->KW : rows * columns);
}

/* ---- N16, windows 2x2 side by side ---- */

void
PCNN_K(avg_pool2d_2x2)(const void *shape, const void *px, void *py, int64_t maps)
{
    const pcnn_pool2d *s = shape;
    const real *x = px; /* [maps][H][W][16] */
    real *y = py;       /* [maps][OH][OW][16] */
    for (int64_t m = 0; m < maps; m++, x += s->H * s->W * 16)
        for (int64_t i = 0; i < s->OH; i++) {
            const real *top = x + 2 * i * s->W * 16, *bottom = top + s->W * 16;
            for (int64_t j = 0; j < s->OW; j++, top += 32, bottom += 32, y += 16)
                UNROLL for (int v = 0; v < 16; v += LANES)
                {
                    vec sum = vload(top + v) + vload(top + 16 + v);
                    sum = sum + vload(bottom + v) + vload(bottom + 16 + v);
                    vstore(y + v, sum * (real)0.25);
                }
        }
}

/* dx = x > 0 ? dx : 0 over n elements: relu's gradient, where x is what relu made. */
static void
mask_by_relu(const real *x, real *dx, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = x[i] > 0 ? dx[i] : 0;
}

/* `relu` is a literal: whether x is there to mask dx. */
ALWAYS_INLINE void
grad_2x2(const bool relu, const pcnn_pool2d *s, const real *dy, const real *x, real *dx,
         int64_t maps)
{
    const int64_t row = s->W * 16, odd = (s->W & 1) * 16;
    for (int64_t m = 0; m < maps; m++) {
        for (int64_t i = 0; i < s->OH; i++) {
            int64_t top = (m * s->H + 2 * i) * row, bottom = top + row;
            for (int64_t j = 0; j < s->OW; j++, top += 32, bottom += 32, dy += 16)
                UNROLL for (int v = 0; v < 16; v += LANES)
                {
                    const vec d = vload(dy + v) * (real)0.25;
                    const int64_t at[4] = {top + v, top + 16 + v, bottom + v, bottom + 16 + v};
                    UNROLL for (int k = 0; k < 4; k++)
                        vstore(dx + at[k], relu ? (vec)((ivec)d & (vload(x + at[k]) > 0)) : d);
                }
            /* The column and the row that no window covers. */
            memset(dx + top, 0, (size_t)odd * sizeof(real));
            memset(dx + bottom, 0, (size_t)odd * sizeof(real));
        }
        if (s->H & 1)
            memset(dx + (m * s->H + s->H - 1) * row, 0, (size_t)row * sizeof(real));
    }
}

void
PCNN_K(avg_pool2d_grad_2x2)(const void *shape, const void *dy, const void *x, void *dx,
                            int64_t maps)
{
    if (x != NULL)
        grad_2x2(true, shape, dy, x, dx, maps);
    else
        grad_2x2(false, shape, dy, NULL, dx, maps);
}

/* ---- N16, any window ---- */

void
PCNN_K(avg_pool2d_n16)(const void *shape, const void *px, void *py, int64_t maps)
{
    const pcnn_pool2d *s = shape;
    const real *x = px;
    real *y = py;
    for (int64_t m = 0; m < maps; m++, x += s->H * s->W * 16)
        for (int64_t i = 0; i < s->OH; i++) {
            int64_t row, u0, u1;
            pcnn_pool2d_taps(i, s->SH, s->PT, s->KH, s->H, &row, &u0, &u1);
            for (int64_t j = 0; j < s->OW; j++, y += 16) {
                int64_t column, v0, v1;
                pcnn_pool2d_taps(j, s->SW, s->PL, s->KW, s->W, &column, &v0, &v1);
                vec sum[VECS] = {{0}};
                for (int64_t u = u0; u < u1; u++) {
                    const real *tap = x + ((row + u) * s->W + column + v0) * 16;
                    for (int64_t v = v0; v < v1; v++, tap += 16)
                        UNROLL for (int k = 0; k < VECS; k++) sum[k] += vload(tap + k * LANES);
                }
                vec count = vset(divisor(s, u1 - u0, v1 - v0));
                UNROLL for (int k = 0; k < VECS; k++) vstore(y + k * LANES, sum[k] / count);
            }
        }
}

/* Windows may overlap, so gradients are added into a zeroed map, in the order of the windows. */
void
PCNN_K(avg_pool2d_grad_n16)(const void *shape, const void *pdy, const void *px, void *pdx,
                            int64_t maps)
{
    const pcnn_pool2d *s = shape;
    const real *dy = pdy, *x = px;
    real *dx = pdx;
    const int64_t size = s->H * s->W * 16;
    for (int64_t m = 0; m < maps; m++, dx += size) {
        memset(dx, 0, (size_t)size * sizeof(real));
        for (int64_t i = 0; i < s->OH; i++) {
            int64_t row, u0, u1;
            pcnn_pool2d_taps(i, s->SH, s->PT, s->KH, s->H, &row, &u0, &u1);
            for (int64_t j = 0; j < s->OW; j++, dy += 16) {
                int64_t column, v0, v1;
                pcnn_pool2d_taps(j, s->SW, s->PL, s->KW, s->W, &column, &v0, &v1);
                vec count = vset(divisor(s, u1 - u0, v1 - v0)), d[VECS];
                UNROLL for (int k = 0; k < VECS; k++) d[k] = vload(dy + k * LANES) / count;
                for (int64_t u = u0; u < u1; u++) {
                    real *tap = dx + ((row + u) * s->W + column + v0) * 16;
                    for (int64_t v = v0; v < v1; v++, tap += 16)
                        UNROLL for (int k = 0; k < VECS; k++)
                            vstore(tap + k * LANES, vload(tap + k * LANES) + d[k]);
                }
            }
        }
        if (x != NULL)
            mask_by_relu(x + m * size, dx, size);
    }
}

/* ---- plain: the reference ---- */

void
PCNN_K(avg_pool2d_plain)(const void *shape, const void *px, void *py, int64_t maps)
{
    const pcnn_pool2d *s = shape;
    const real *x = px; /* [maps][H][W] */
    real *y = py;       /* [maps][OH][OW] */
    for (int64_t m = 0; m < maps; m++, x += s->H * s->W)
        for (int64_t i = 0; i < s->OH; i++)
            for (int64_t j = 0; j < s->OW; j++) {
                int64_t row, u0, u1, column, v0, v1;
                pcnn_pool2d_taps(i, s->SH, s->PT, s->KH, s->H, &row, &u0, &u1);
                pcnn_pool2d_taps(j, s->SW, s->PL, s->KW, s->W, &column, &v0, &v1);
                real sum = 0;
                for (int64_t u = u0; u < u1; u++)
                    for (int64_t v = v0; v < v1; v++)
                        sum += x[(row + u) * s->W + column + v];
                *y++ = sum / divisor(s, u1 - u0, v1 - v0);
            }
}

void
PCNN_K(avg_pool2d_grad_plain)(const void *shape, const void *pdy, const void *px, void *pdx,
                              int64_t maps)
{
    const pcnn_pool2d *s = shape;
    const real *dy = pdy, *x = px;
    real *dx = pdx;
    for (int64_t m = 0; m < maps; m++, dx += s->H * s->W) {
        memset(dx, 0, (size_t)(s->H * s->W) * sizeof(real));
        for (int64_t i = 0; i < s->OH; i++)
            for (int64_t j = 0; j < s->OW; j++, dy++) {
                int64_t row, u0, u1, column, v0, v1;
                pcnn_pool2d_taps(i, s->SH, s->PT, s->KH, s->H, &row, &u0, &u1);
                pcnn_pool2d_taps(j, s->SW, s->PL, s->KW, s->W, &column, &v0, &v1);
                real d = *dy / divisor(s, u1 - u0, v1 - v0);
                for (int64_t u = u0; u < u1; u++)
                    for (int64_t v = v0; v < v1; v++)
                        dx[(row + u) * s->W + column + v] += d;
            }
        if (x != NULL)
            mask_by_relu(x + m * s->H * s->W, dx, s->H * s->W);
    }
}
