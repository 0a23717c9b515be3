/* Winograd's transforms with eight points: F(6x6, 3x3), for the gradient of the weights, and
 * F(4x4, 5x5); winograd_tile.h says what they are for. B depends on the points only, so both share it.
 *
 * The points are 0, 1/2, -1/2, 1, -1, 2, -2 and infinity: no others that were tried have clearly
 * smaller errors in both forms.
 *
 *          | -1    0   21/4   0  -21/4   0   1  0 |         |  -1  [1    0    0     0     0  ] |
 *          |  0    2     4  -5/2  -5    1/2  1  0 |         | 32/45[1   1/2  1/4   1/8  1/16 ] |
 *          |  0   -2     4   5/2  -5   -1/2  1  0 |         | 32/45[1  -1/2  1/4  -1/8  1/16 ] |
 *     B' = |  0    1     1 -17/4 -17/4   1   1  0 |     G = | -2/9 [1    1    1     1     1  ] |
 *          |  0   -1     1  17/4 -17/4  -1   1  0 |         | -2/9 [1   -1    1    -1     1  ] |
 *          |  0   1/2   1/4 -5/2 -5/4   2   1  0 |         |  1/90[1    2    4     8     16 ] |
 *          |  0  -1/2   1/4  5/2 -5/4  -2   1  0 |         |  1/90[1   -2    4    -8     16 ] |
 *          |  0   -1     0  21/4   0  -21/4  0  1 |         |      [0    0    0     0     1  ] |
 *
 *     column +-p of A':  [1, +-p, p^2, ...]
 *
 * of G the first K columns, of A' the first T rows; infinity's 1 stands in the last of them. T and K
 * are literals at every call. */
#ifndef PCNN_OPS_WINOGRAD_EIGHT_H
#define PCNN_OPS_WINOGRAD_EIGHT_H

#include "isa/vec.h"

/* r = B' d. */
ALWAYS_INLINE void
winograd8_input(const vec d[8], vec r[8])
{
    const vec five = vset((real)-5), ends = vset((real)5.25);
    vec even = vfma(vset((real)4), d[2], vfma(five, d[4], d[6]));
    vec odd = vfma(vset((real)4), d[1], vfma(five, d[3], d[5]));
    r[0] = vfma(ends, d[2] - d[4], d[6] - d[0]);
    r[1] = vfma(vset((real)0.5), odd, even);
    r[2] = vfma(vset((real)-0.5), odd, even);
    even = vfma(vset((real)-4.25), d[4], d[2] + d[6]);
    odd = vfma(vset((real)-4.25), d[3], d[1] + d[5]);
    r[3] = even + odd;
    r[4] = even - odd;
    even = vfma(vset((real)0.25), d[2], vfma(vset((real)-1.25), d[4], d[6]));
    odd = vfma(vset((real)0.25), d[1], vfma(vset((real)-1.25), d[3], d[5]));
    r[5] = vfma(vset((real)2), odd, even);
    r[6] = vfma(vset((real)-2), odd, even);
    r[7] = vfma(ends, d[3] - d[5], d[7] - d[1]);
}

/* y = A' m, for T = 4. */
ALWAYS_INLINE void
winograd8_output(const vec m[8], vec y[4])
{
    vec a = m[1] + m[2], b = m[3] + m[4], c = m[5] + m[6];
    y[0] = m[0] + a + b + c;
    y[2] = vfma(vset((real)0.25), a, vfma(vset((real)4), c, b));
    a = m[1] - m[2];
    b = m[3] - m[4];
    c = m[5] - m[6];
    y[1] = vfma(vset((real)0.5), a, vfma(vset((real)2), c, b));
    y[3] = vfma(vset((real)0.125), a, vfma(vset((real)8), c, b)) + m[7];
}

/* r = G g, for K = 5. */
ALWAYS_INLINE void
winograd8_weights(const vec g[5], vec r[8])
{
    const vec quarter = vset((real)0.25), four = vset((real)4), ninth = vset((real)(1.0 / 9));
    vec even = vfma(quarter, vfma(quarter, g[4], g[2]), g[0]);
    vec odd = (real)0.5 * vfma(quarter, g[3], g[1]);
    r[0] = -g[0];
    r[1] = (even + odd) * (real)(32.0 / 45);
    r[2] = (even - odd) * (real)(32.0 / 45);
    even = g[0] + g[2] + g[4];
    odd = g[1] + g[3];
    r[3] = (even + odd) * ((real)-2 * ninth);
    r[4] = (even - odd) * ((real)-2 * ninth);
    even = vfma(four, vfma(four, g[4], g[2]), g[0]);
    odd = (real)2 * vfma(four, g[3], g[1]);
    r[5] = (even + odd) * (real)(1.0 / 90);
    r[6] = (even - odd) * (real)(1.0 / 90);
    r[7] = g[4];
}

/* r = A y. */
ALWAYS_INLINE void
winograd8_output_adjoint(const int T, const vec y[6], vec r[8])
{
    const vec quarter = vset((real)0.25), four = vset((real)4);
    /* Sums of the even and of the odd rows at 1/2, 1 and 2; from the longest powers on. */
    vec even[3] = {y[2], y[2], y[2]}, odd[3] = {y[3], y[3], y[3]};
    if (T == 6) {
        even[0] = vfma(quarter, y[4], y[2]);
        odd[0] = vfma(quarter, y[5], y[3]);
        even[1] = y[2] + y[4];
        odd[1] = y[3] + y[5];
        even[2] = vfma(four, y[4], y[2]);
        odd[2] = vfma(four, y[5], y[3]);
    }
    even[0] = vfma(quarter, even[0], y[0]);
    odd[0] = vfma(quarter, odd[0], y[1]);
    even[1] += y[0];
    odd[1] += y[1];
    even[2] = vfma(four, even[2], y[0]);
    odd[2] = vfma(four, odd[2], y[1]);
    r[0] = y[0];
    r[1] = vfma(vset((real)0.5), odd[0], even[0]);
    r[2] = vfma(vset((real)-0.5), odd[0], even[0]);
    r[3] = even[1] + odd[1];
    r[4] = even[1] - odd[1];
    r[5] = vfma(vset((real)2), odd[2], even[2]);
    r[6] = vfma(vset((real)-2), odd[2], even[2]);
    r[7] = y[T - 1];
}

/* g = G' r. The common denominator is taken last, in steps that are exact for whole results. */
ALWAYS_INLINE void
winograd8_weights_adjoint(const int K, const vec r[8], vec g[5])
{
    const vec ninth = vset((real)(1.0 / 9)), fifth = vset((real)(1.0 / 5));
    vec a = (real)32 * (r[1] + r[2]), b = (real)-10 * (r[3] + r[4]), c = (real)0.5 * (r[5] + r[6]);
    g[0] = (a + b + c) * ninth * fifth - r[0];
    g[2] = vfma(vset((real)0.25), a, vfma(vset((real)4), c, b)) * ninth * fifth;
    if (K == 5)
        g[4] = vfma(vset((real)0.0625), a, vfma(vset((real)16), c, b)) * ninth * fifth + r[7];
    else
        g[2] += r[7];
    a = (real)16 * (r[1] - r[2]);
    b = (real)-10 * (r[3] - r[4]);
    c = r[5] - r[6];
    g[1] = (a + b + c) * ninth * fifth;
    if (K == 5)
        g[3] = vfma(vset((real)0.25), a, vfma(vset((real)4), c, b)) * ninth * fifth;
}

/* d = B r. */
ALWAYS_INLINE void
winograd8_input_adjoint(const vec r[8], vec d[8])
{
    const vec ends = vset((real)5.25), four = vset((real)4), quarter = vset((real)0.25);
    const vec q0 = vset((real)-5), q1 = vset((real)-4.25), q2 = vset((real)-1.25);
    vec a = r[1] + r[2], b = r[3] + r[4], c = r[5] + r[6];
    d[0] = -r[0];
    d[2] = vfma(ends, r[0], vfma(four, a, vfma(quarter, c, b)));
    d[4] = vfma(-ends, r[0], vfma(q0, a, vfma(q1, b, q2 * c)));
    d[6] = r[0] + a + b + c;
    a = (real)0.5 * (r[1] - r[2]);
    b = r[3] - r[4];
    c = (real)2 * (r[5] - r[6]);
    d[1] = vfma(four, a, vfma(quarter, c, b)) - r[7];
    d[3] = vfma(ends, r[7], vfma(q0, a, vfma(q1, b, q2 * c)));
    d[5] = vfma(-ends, r[7], a + b + c);
    d[7] = r[7];
}

#endif
