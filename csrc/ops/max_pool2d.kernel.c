/* Max pooling: forward and gradient, in layout N16 and plain.
 *
 * `shape` is a pcnn_pool2d. In N16 a map is [H][W][16], sixteen images side by side, so a tap is
 * a plain vector load and nothing depends on the lane. Padding lanes are zero in x, y and dy, and
 * maxima and selections of zeros are zeros: no mask is needed. */
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/max_pool2d_tap.h"

ALWAYS_INLINE vec
max_or_nan(vec m, vec t)
{
    return vselect(beats(t, m), t, m);
}

/* Lanes where tap x holds the maximum y of its window. A NaN tap implies a NaN maximum. */
ALWAYS_INLINE ivec
holds_max(vec x, vec y)
{
    return (x == y) | (x != x);
}

/* ---- N16, windows 2x2 side by side ---- */

void
PCNN_K(max_pool2d_2x2)(const void *shape, const void *px, void *py, int64_t maps)
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
                    vec upper = max_or_nan(vload(top + v), vload(top + 16 + v));
                    vec lower = max_or_nan(vload(bottom + v), vload(bottom + 16 + v));
                    vstore(y + v, max_or_nan(upper, lower));
                }
        }
}

/* Each element of dx is written once: the window's gradient where the first maximum is, else 0. */
void
PCNN_K(max_pool2d_grad_2x2)(const void *shape, const void *pdy, const void *px, const void *py,
                            void *pdx, int64_t maps)
{
    const pcnn_pool2d *s = shape;
    const real *dy = pdy, *x = px, *y = py;
    real *dx = pdx;
    const int64_t row = s->W * 16, odd = (s->W & 1) * 16;
    for (int64_t m = 0; m < maps; m++, x += s->H * row, dx += s->H * row) {
        for (int64_t i = 0; i < s->OH; i++) {
            const real *top = x + 2 * i * row, *bottom = top + row;
            real *dtop = dx + 2 * i * row, *dbottom = dtop + row;
            for (int64_t j = 0; j < s->OW; j++) {
                UNROLL for (int v = 0; v < 16; v += LANES)
                {
                    vec best = vload(y + v);
                    ivec d = (ivec)vload(dy + v);
                    ivec m0 = holds_max(vload(top + v), best);
                    ivec m1 = holds_max(vload(top + 16 + v), best) & ~m0;
                    ivec found = m0 | m1;
                    ivec m2 = holds_max(vload(bottom + v), best) & ~found;
                    vstore(dtop + v, (vec)(d & m0));
                    vstore(dtop + 16 + v, (vec)(d & m1));
                    vstore(dbottom + v, (vec)(d & m2));
                    vstore(dbottom + 16 + v, (vec)(d & ~(found | m2)));
                }
                top += 32, bottom += 32, dtop += 32, dbottom += 32, y += 16, dy += 16;
            }
            /* The column and the row that no window covers. */
            memset(dtop, 0, (size_t)odd * sizeof(real));
            memset(dbottom, 0, (size_t)odd * sizeof(real));
        }
        if (s->H & 1)
            memset(dx + (s->H - 1) * row, 0, (size_t)row * sizeof(real));
    }
}

/* ---- N16, any window ---- */

void
PCNN_K(max_pool2d_n16)(const void *shape, const void *px, void *py, int64_t maps)
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
                vec best[VECS];
                const real *tap = x + ((row + u0) * s->W + column + v0) * 16;
                UNROLL for (int k = 0; k < VECS; k++) best[k] = vload(tap + k * LANES);
                for (int64_t u = u0; u < u1; u++) {
                    tap = x + ((row + u) * s->W + column + v0) * 16;
                    for (int64_t v = v0; v < v1; v++, tap += 16)
                        UNROLL for (int k = 0; k < VECS; k++) best[k] =
                            max_or_nan(best[k], vload(tap + k * LANES));
                }
                UNROLL for (int k = 0; k < VECS; k++) vstore(y + k * LANES, best[k]);
            }
        }
}

/* Windows may overlap, so gradients are added into a zeroed map, in the order of the windows. */
void
PCNN_K(max_pool2d_grad_n16)(const void *shape, const void *pdy, const void *px, const void *py,
                            void *pdx, int64_t maps)
{
    const pcnn_pool2d *s = shape;
    const real *dy = pdy, *x = px, *y = py;
    real *dx = pdx;
    const int64_t size = s->H * s->W * 16;
    for (int64_t m = 0; m < maps; m++, x += size, dx += size) {
        memset(dx, 0, (size_t)size * sizeof(real));
        for (int64_t i = 0; i < s->OH; i++) {
            int64_t row, u0, u1;
            pcnn_pool2d_taps(i, s->SH, s->PT, s->KH, s->H, &row, &u0, &u1);
            for (int64_t j = 0; j < s->OW; j++, y += 16, dy += 16) {
                int64_t column, v0, v1;
                pcnn_pool2d_taps(j, s->SW, s->PL, s->KW, s->W, &column, &v0, &v1);
                UNROLL for (int k = 0; k < 16; k += LANES)
                {
                    vec best = vload(y + k);
                    ivec d = (ivec)vload(dy + k), found = {0};
                    for (int64_t u = u0; u < u1; u++) {
                        int64_t at = ((row + u) * s->W + column + v0) * 16 + k;
                        for (int64_t v = v0; v < v1; v++, at += 16) {
                            ivec here = holds_max(vload(x + at), best);
                            vstore(dx + at, vload(dx + at) + (vec)(d & here & ~found));
                            found |= here;
                        }
                    }
                }
            }
        }
    }
}

/* ---- plain: the reference ---- */

void
PCNN_K(max_pool2d_plain)(const void *shape, const void *px, void *py, int64_t maps)
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
                real best = x[(row + u0) * s->W + column + v0];
                for (int64_t u = u0; u < u1; u++)
                    for (int64_t v = v0; v < v1; v++) {
                        real tap = x[(row + u) * s->W + column + v];
                        if (tap_beats(tap, best))
                            best = tap;
                    }
                *y++ = best;
            }
}

void
PCNN_K(max_pool2d_grad_plain)(const void *shape, const void *pdy, const void *px, const void *py,
                              void *pdx, int64_t maps)
{
    const pcnn_pool2d *s = shape;
    const real *dy = pdy, *x = px, *y = py;
    real *dx = pdx;
    for (int64_t m = 0; m < maps; m++, x += s->H * s->W, dx += s->H * s->W) {
        memset(dx, 0, (size_t)(s->H * s->W) * sizeof(real));
        for (int64_t i = 0; i < s->OH; i++)
            for (int64_t j = 0; j < s->OW; j++, y++, dy++) {
                int64_t row, u0, u1, column, v0, v1;
                pcnn_pool2d_taps(i, s->SH, s->PT, s->KH, s->H, &row, &u0, &u1);
                pcnn_pool2d_taps(j, s->SW, s->PL, s->KW, s->W, &column, &v0, &v1);
                bool found = false;
                for (int64_t u = u0; u < u1 && !found; u++)
                    for (int64_t v = v0; v < v1 && !found; v++) {
                        int64_t at = (row + u) * s->W + column + v;
                        found = x[at] == *y || x[at] != x[at];
                        if (found)
                            dx[at] += *dy;
                    }
            }
    }
}
