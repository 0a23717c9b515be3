/* Winograd's transforms with six points: F(4x4, 3x3) and F(2x2, 5x5) (winograd_tile.h says what they
 * are for). B depends on the points only, so both share it.
 *
 * The paper's points are 0, 1, -1, 2, -2 and infinity. Here they are 0, 3/4, -3/4, 3/2, -3/2 and
 * infinity: powers and differences of the points stay nearer to 1, and rounding errors are about
 * half as large (those of 0, 1/2, -1/2, 3/2, -3/2 lie between).
 *
 *          | 81/64    0    -45/16    0    1   0 |         |  64/81  [1    0     0      0      0    ] |
 *          |   0   -27/16   -9/4    3/4   1   0 |         | -128/243[1   3/4   9/16  27/64  81/256] |
 *     B' = |   0    27/16   -9/4   -3/4   1   0 |     G = | -128/243[1  -3/4   9/16 -27/64  81/256] |
 *          |   0   -27/32   -9/16   3/2   1   0 |         |  32/243 [1   3/2   9/4   27/8   81/16 ] |
 *          |   0    27/32   -9/16  -3/2   1   0 |         |  32/243 [1  -3/2   9/4  -27/8   81/16 ] |
 *          |   0    81/64     0   -45/16  0   1 |         |         [0    0     0      0      1   ] |
 *
 *          | 1    1     1      1     1    0 |     of G the first K columns, of A' the first T rows;
 *     A' = | 0   3/4  -3/4    3/2  -3/2   0 |     infinity's 1 stands in the last of them
 *          | 0   9/16  9/16   9/4   9/4   0 |
 *          | 0  27/64 -27/64 27/8 -27/8   1 |
 *
 * T and K are literals at every call. */
#ifndef PCNN_OPS_WINOGRAD_SIX_H
#define PCNN_OPS_WINOGRAD_SIX_H

#include "isa/vec.h"

/* r = B' d. */
ALWAYS_INLINE void
winograd6_input(const vec d[6], vec r[6])
{
    vec even = vfma(vset((real)-2.25), d[2], d[4]), odd = vfma(vset((real)-2.25), d[1], d[3]);
    vec even2 = vfma(vset((real)-0.5625), d[2], d[4]), odd2 = vfma(vset((real)-0.5625), d[1], d[3]);
    r[0] = vfma(vset((real)1.265625), d[0], vfma(vset((real)-2.8125), d[2], d[4]));
    r[1] = vfma(vset((real)0.75), odd, even);
    r[2] = vfma(vset((real)-0.75), odd, even);
    r[3] = vfma(vset((real)1.5), odd2, even2);
    r[4] = vfma(vset((real)-1.5), odd2, even2);
    r[5] = vfma(vset((real)1.265625), d[1], vfma(vset((real)-2.8125), d[3], d[5]));
}

/* y = A' m. */
ALWAYS_INLINE void
winograd6_output(const int T, const vec m[6], vec y[4])
{
    vec sum = m[1] + m[2], difference = m[1] - m[2];
    vec sum2 = m[3] + m[4], difference2 = m[3] - m[4];
    y[0] = m[0] + sum + sum2;
    if (T == 2) {
        y[1] = vfma(vset((real)0.75), difference, vfma(vset((real)1.5), difference2, m[5]));
        return;
    }
    y[1] = vfma(vset((real)0.75), difference, (real)1.5 * difference2);
    y[2] = vfma(vset((real)0.5625), sum, (real)2.25 * sum2);
    y[3] = vfma(vset((real)0.421875), difference, vfma(vset((real)3.375), difference2, m[5]));
}

/* r = G g. Fractions come last. 1/243 is taken in two steps, each of which is exact for whole
 * results; 1/243 itself, rounded, is not. */
ALWAYS_INLINE void
winograd6_weights(const int K, const vec g[5], vec r[6])
{
    const vec ninth = vset((real)(1.0 / 9)), third3 = vset((real)(1.0 / 27));
    vec even = vfma(vset((real)0.5625), g[2], g[0]), odd = (real)0.75 * g[1];
    vec even2 = vfma(vset((real)2.25), g[2], g[0]), odd2 = (real)1.5 * g[1];
    if (K == 5) {
        even = vfma(vset((real)0.31640625), g[4], even);
        odd = vfma(vset((real)0.421875), g[3], odd);
        even2 = vfma(vset((real)5.0625), g[4], even2);
        odd2 = vfma(vset((real)3.375), g[3], odd2);
    }
    r[0] = g[0] * (real)(64.0 / 81);
    r[1] = (even + odd) * ((real)-128 * ninth) * third3;
    r[2] = (even - odd) * ((real)-128 * ninth) * third3;
    r[3] = (even2 + odd2) * ((real)32 * ninth) * third3;
    r[4] = (even2 - odd2) * ((real)32 * ninth) * third3;
    r[5] = g[K - 1];
}

/* r = A y. */
ALWAYS_INLINE void
winograd6_output_adjoint(const int T, const vec y[4], vec r[6])
{
    vec even = y[0], odd = (real)0.75 * y[1], even2 = y[0], odd2 = (real)1.5 * y[1];
    if (T == 4) {
        even = vfma(vset((real)0.5625), y[2], even);
        odd = vfma(vset((real)0.421875), y[3], odd);
        even2 = vfma(vset((real)2.25), y[2], even2);
        odd2 = vfma(vset((real)3.375), y[3], odd2);
    }
    r[0] = y[0];
    r[1] = even + odd;
    r[2] = even - odd;
    r[3] = even2 + odd2;
    r[4] = even2 - odd2;
    r[5] = y[T - 1];
}

/* g = G' r. */
ALWAYS_INLINE void
winograd6_weights_adjoint(const int K, const vec r[6], vec g[5])
{
    vec sum = r[1] + r[2], difference = r[1] - r[2];
    vec sum2 = r[3] + r[4], difference2 = r[3] - r[4];
    vec last = (real)32 * sum2 - (real)128 * sum;
    g[0] = vfma(vset((real)64), r[0], last * (real)(1.0 / 3)) * (real)(1.0 / 81);
    g[1] = ((real)16 * difference2 - (real)32 * difference) * (real)(1.0 / 81);
    g[2] = (sum2 - sum) * (real)(8.0 / 27);
    if (K == 3) {
        g[2] += r[5];
        return;
    }
    g[3] = ((real)4 * difference2 - (real)2 * difference) * (real)(1.0 / 9);
    g[4] = ((real)4 * sum2 - sum) * (real)(1.0 / 6) + r[5];
}

/* d = B r. */
ALWAYS_INLINE void
winograd6_input_adjoint(const vec r[6], vec d[6])
{
    vec sum = r[1] + r[2], difference = r[1] - r[2];
    vec sum2 = r[3] + r[4], difference2 = r[3] - r[4];
    d[0] = (real)1.265625 * r[0];
    d[1] = vfma(vset((real)1.265625), r[5],
                vfma(vset((real)-1.6875), difference, (real)-0.84375 * difference2));
    d[2] = vfma(vset((real)-2.8125), r[0], vfma(vset((real)-2.25), sum, (real)-0.5625 * sum2));
    d[3] = vfma(vset((real)-2.8125), r[5],
                vfma(vset((real)0.75), difference, (real)1.5 * difference2));
    d[4] = r[0] + sum + sum2;
    d[5] = r[5];
}

#endif
