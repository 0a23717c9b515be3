/* The transforms of Winograd's convolution F(4x4, 3x3) in one dimension, on vectors of images.
 *
 * A convolution is a product of polynomials; a product is known by its values at enough points.
 * Six points give the six coefficients that four outputs of a filter of three need (Toom and Cook),
 * and the transposed algorithm is the convolution of a network (Winograd 1980; Lavin and Gray,
 * "Fast Algorithms for Convolutional Neural Networks", 2015): with
 *
 *     y = A' [(G g) .* (B' d)]             d: 6 inputs, g: 3 weights, y: 4 outputs
 *
 * there are 6 products instead of 12, and in two dimensions, Y = A' [(G g G') .* (B' d B)] A,
 * 36 instead of 144. (A' is the transpose of A.) Sums over channels come between the transforms.
 *
 * The paper's points are 0, 1, -1, 2, -2 and infinity. Here they are 0, 1/2, -1/2, 3/2, -3/2 and
 * infinity: the matrices' entries are smaller, and rounding errors half as large.
 *
 *          | 9/16   0   -5/2    0    1   0 |         | 16/9    0    0  |
 *          |  0   -9/8  -9/4   1/2   1   0 |         |  -1   -1/2 -1/4 |
 *     B' = |  0    9/8  -9/4  -1/2   1   0 |     G = |  -1    1/2 -1/4 |
 *          |  0   -3/8  -1/4   3/2   1   0 |         | 1/9    1/6  1/4 |
 *          |  0    3/8  -1/4  -3/2   1   0 |         | 1/9   -1/6  1/4 |
 *          |  0   9/16    0   -5/2   0   1 |         |   0     0    1  |
 *
 *          | 1    1    1    1     1    0 |
 *     A' = | 0   1/2 -1/2  3/2  -3/2   0 |
 *          | 0   1/4  1/4  9/4   9/4   0 |
 *          | 0   1/8 -1/8 27/8 -27/8   1 |
 *
 * An output's rounding error is that of its whole tile: a small number beside a large one loses
 * digits that the direct sum keeps, and what is not a number spreads over the tile (never to other
 * images). Sums of numbers of both signs are as good as direct ones when they are long enough; a dy
 * of one sign (with weights of one sign) costs dx about two bits.
 *
 * The gradients are the adjoints: dg = G' [(B' d) .* (A dy)], dd = B [(G g) .* (A dy)]. */
#ifndef PCNN_OPS_WINOGRAD_TILE_H
#define PCNN_OPS_WINOGRAD_TILE_H

#include "core/tensor.h"
#include "isa/vec.h"

/* r = B' d. */
ALWAYS_INLINE void
winograd_input(const vec d[6], vec r[6])
{
    vec even = vfma(vset((real)-2.25), d[2], d[4]), odd = vfma(vset((real)-2.25), d[1], d[3]);
    vec even2 = vfma(vset((real)-0.25), d[2], d[4]), odd2 = vfma(vset((real)-0.25), d[1], d[3]);
    r[0] = vfma(vset((real)0.5625), d[0], vfma(vset((real)-2.5), d[2], d[4]));
    r[1] = vfma(vset((real)0.5), odd, even);
    r[2] = vfma(vset((real)-0.5), odd, even);
    r[3] = vfma(vset((real)1.5), odd2, even2);
    r[4] = vfma(vset((real)-1.5), odd2, even2);
    r[5] = vfma(vset((real)0.5625), d[1], vfma(vset((real)-2.5), d[3], d[5]));
}

/* y = A' m. */
ALWAYS_INLINE void
winograd_output(const vec m[6], vec y[4])
{
    vec sum = m[1] + m[2], difference = m[1] - m[2];
    vec sum2 = m[3] + m[4], difference2 = m[3] - m[4];
    y[0] = m[0] + sum + sum2;
    y[1] = vfma(vset((real)0.5), difference, (real)1.5 * difference2);
    y[2] = vfma(vset((real)0.25), sum, (real)2.25 * sum2);
    y[3] = vfma(vset((real)0.125), difference, vfma(vset((real)3.375), difference2, m[5]));
}

/* r = G g. Fractions come last, so that they round once. */
ALWAYS_INLINE void
winograd_weights(const vec g[3], vec r[6])
{
    vec even = vfma(vset((real)0.25), g[2], g[0]), odd = (real)0.5 * g[1];
    vec even2 = vfma(vset((real)2.25), g[2], g[0]), odd2 = (real)1.5 * g[1];
    r[0] = g[0] * (real)(16.0 / 9);
    r[1] = -even - odd;
    r[2] = odd - even;
    r[3] = (even2 + odd2) * (real)(1.0 / 9);
    r[4] = (even2 - odd2) * (real)(1.0 / 9);
    r[5] = g[2];
}

/* r = A y. */
ALWAYS_INLINE void
winograd_output_adjoint(const vec y[4], vec r[6])
{
    vec even = vfma(vset((real)0.25), y[2], y[0]);
    vec odd = vfma(vset((real)0.125), y[3], (real)0.5 * y[1]);
    vec even2 = vfma(vset((real)2.25), y[2], y[0]);
    vec odd2 = vfma(vset((real)3.375), y[3], (real)1.5 * y[1]);
    r[0] = y[0];
    r[1] = even + odd;
    r[2] = even - odd;
    r[3] = even2 + odd2;
    r[4] = even2 - odd2;
    r[5] = y[3];
}

/* g = G' r. */
ALWAYS_INLINE void
winograd_weights_adjoint(const vec r[6], vec g[3])
{
    vec sum = r[1] + r[2], difference = r[1] - r[2];
    vec sum2 = r[3] + r[4], difference2 = r[3] - r[4];
    g[0] = ((real)16 * r[0] + sum2) * (real)(1.0 / 9) - sum;
    g[1] = difference2 * (real)(1.0 / 6) - (real)0.5 * difference;
    g[2] = vfma(vset((real)0.25), sum2 - sum, r[5]);
}

/* d = B r. */
ALWAYS_INLINE void
winograd_input_adjoint(const vec r[6], vec d[6])
{
    vec sum = r[1] + r[2], difference = r[1] - r[2];
    vec sum2 = r[3] + r[4], difference2 = r[3] - r[4];
    d[0] = (real)0.5625 * r[0];
    d[1] = vfma(vset((real)0.5625), r[5],
                vfma(vset((real)-1.125), difference, (real)-0.375 * difference2));
    d[2] = vfma(vset((real)-2.5), r[0], vfma(vset((real)-2.25), sum, (real)-0.25 * sum2));
    d[3] = vfma(vset((real)-2.5), r[5], vfma(vset((real)0.5), difference, (real)1.5 * difference2));
    d[4] = r[0] + sum + sum2;
    d[5] = r[5];
}

/* D = A dy A' for one tile of dy; `row` reals from row to row, `step` from element to element. */
ALWAYS_INLINE void
winograd_transform_dy(const real *dy, int64_t row, real *D, int64_t step)
{
    vec half[6][4];
    UNROLL
    for (int j = 0; j < 4; j++) {
        vec column[4], r[6];
        UNROLL
        for (int i = 0; i < 4; i++)
            column[i] = vload(dy + i * row + j * PCNN_BLOCK);
        winograd_output_adjoint(column, r);
        UNROLL
        for (int i = 0; i < 6; i++)
            half[i][j] = r[i];
    }
    UNROLL
    for (int i = 0; i < 6; i++) {
        vec r[6];
        winograd_output_adjoint(half[i], r);
        UNROLL
        for (int j = 0; j < 6; j++)
            vstore(D + (6 * i + j) * step, r[j]);
    }
}

#endif
