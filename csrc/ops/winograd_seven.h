/* Winograd's transforms with seven points: F(3x3, 5x5) (winograd_tile.h says what they are for).
 *
 * The points are a, -a, b, -b, c, -c and infinity with a = 5/16, b = 7/8, c = 7/4, which are among
 * the best of the sixteenths: 1/4, 1 and 2 have errors a fifth larger, and twice as large at the
 * corners of padded maps. With Qa(x) = (x^2 - b^2) (x^2 - c^2) = x^4 - 245/64 x^2 + 2401/1024, Qb and
 * Qc likewise,
 *
 *     row +-a of B':  x Qa(x) +- a Qa(x),            the coefficients of x^0 .. x^5
 *     infinity's:     (x^2 - a^2) (x^2 - b^2) (x^2 - c^2)
 *     row +-a of G:   +-[1, +-a, a^2, +-a^3, a^4] / (2 a (a^2 - b^2) (a^2 - c^2))
 *     column +-a of A':  [1, +-a, a^2];  infinity's 1 stands in the last rows of G and A'. */
#ifndef PCNN_OPS_WINOGRAD_SEVEN_H
#define PCNN_OPS_WINOGRAD_SEVEN_H

#include "isa/vec.h"

/* Powers of the points, exact in float32. */
#define W7_A1 ((real)0.3125)
#define W7_A2 ((real)0.09765625)
#define W7_A3 ((real)0.030517578125)
#define W7_A4 ((real)0.0095367431640625)
#define W7_B1 ((real)0.875)
#define W7_B2 ((real)0.765625)
#define W7_B3 ((real)0.669921875)
#define W7_B4 ((real)0.586181640625)
#define W7_C1 ((real)1.75)
#define W7_C2 ((real)3.0625)
#define W7_C3 ((real)5.359375)
#define W7_C4 ((real)9.37890625)
/* Coefficients of x^0 and x^2 in Qa, Qb, Qc; of x^0, x^2 and x^4 in infinity's; exact as well. */
#define W7_QA0 ((real)2.3447265625)
#define W7_QA2 ((real) - 3.828125)
#define W7_QB0 ((real)0.299072265625)
#define W7_QB2 ((real) - 3.16015625)
#define W7_QC0 ((real)0.07476806640625)
#define W7_QC2 ((real) - 0.86328125)
#define W7_N0 ((real) - 0.228977203369140625)
#define W7_N2 ((real)2.71856689453125)
#define W7_N4 ((real) - 3.92578125)
/* 1 / (2 a (a^2 - b^2) (a^2 - c^2)) and so on, rounded. */
#define W7_GA ((real)(524288.0 / 648945))
#define W7_GB ((real)(-65536.0 / 175959))
#define W7_GC ((real)(32768.0 / 781011))

/* x * xs + y * ys + z * zs */
ALWAYS_INLINE vec
winograd7_sum(real x, vec xs, real y, vec ys, real z, vec zs)
{
    return vfma(vset(x), xs, vfma(vset(y), ys, z * zs));
}

/* q0 * d0 + q2 * d2 + d4 */
ALWAYS_INLINE vec
winograd7_q(real q0, vec d0, real q2, vec d2, vec d4)
{
    return vfma(vset(q0), d0, vfma(vset(q2), d2, d4));
}

/* The values of odd + p even at a point p and its negative. */
ALWAYS_INLINE void
winograd7_pair(real p, vec even, vec odd, vec r[2])
{
    r[0] = vfma(vset(p), even, odd);
    r[1] = vfma(vset(-p), even, odd);
}

/* r = B' d. */
ALWAYS_INLINE void
winograd7_input(const vec d[7], vec r[7])
{
    winograd7_pair(W7_A1, winograd7_q(W7_QA0, d[0], W7_QA2, d[2], d[4]),
                   winograd7_q(W7_QA0, d[1], W7_QA2, d[3], d[5]), r);
    winograd7_pair(W7_B1, winograd7_q(W7_QB0, d[0], W7_QB2, d[2], d[4]),
                   winograd7_q(W7_QB0, d[1], W7_QB2, d[3], d[5]), r + 2);
    winograd7_pair(W7_C1, winograd7_q(W7_QC0, d[0], W7_QC2, d[2], d[4]),
                   winograd7_q(W7_QC0, d[1], W7_QC2, d[3], d[5]), r + 4);
    r[6] = vfma(vset(W7_N0), d[0], winograd7_q(W7_N2, d[2], W7_N4, d[4], d[6]));
}

/* y = A' m. */
ALWAYS_INLINE void
winograd7_output(const vec m[7], vec y[3])
{
    vec a = m[0] + m[1], b = m[2] + m[3], c = m[4] + m[5];
    y[0] = a + b + c;
    y[1] = winograd7_sum(W7_A1, m[0] - m[1], W7_B1, m[2] - m[3], W7_C1, m[4] - m[5]);
    y[2] = winograd7_sum(W7_A2, a, W7_B2, b, W7_C2, c) + m[6];
}

/* r = G g. */
ALWAYS_INLINE void
winograd7_weights(const vec g[5], vec r[7])
{
    const vec a = winograd7_q(W7_A4, g[4], W7_A2, g[2], g[0]),
              a_odd = vfma(vset(W7_A2), g[3], g[1]);
    const vec b = winograd7_q(W7_B4, g[4], W7_B2, g[2], g[0]),
              b_odd = vfma(vset(W7_B2), g[3], g[1]);
    const vec c = winograd7_q(W7_C4, g[4], W7_C2, g[2], g[0]),
              c_odd = vfma(vset(W7_C2), g[3], g[1]);
    r[0] = W7_GA * vfma(vset(W7_A1), a_odd, a);
    r[1] = W7_GA * vfma(vset(W7_A1), a_odd, -a);
    r[2] = W7_GB * vfma(vset(W7_B1), b_odd, b);
    r[3] = W7_GB * vfma(vset(W7_B1), b_odd, -b);
    r[4] = W7_GC * vfma(vset(W7_C1), c_odd, c);
    r[5] = W7_GC * vfma(vset(W7_C1), c_odd, -c);
    r[6] = g[4];
}

/* r = A y. */
ALWAYS_INLINE void
winograd7_output_adjoint(const vec y[3], vec r[7])
{
    winograd7_pair(W7_A1, y[1], vfma(vset(W7_A2), y[2], y[0]), r);
    winograd7_pair(W7_B1, y[1], vfma(vset(W7_B2), y[2], y[0]), r + 2);
    winograd7_pair(W7_C1, y[1], vfma(vset(W7_C2), y[2], y[0]), r + 4);
    r[6] = y[2];
}

/* g = G' r. */
ALWAYS_INLINE void
winograd7_weights_adjoint(const vec r[7], vec g[5])
{
    vec a = W7_GA * (r[0] + r[1]), b = W7_GB * (r[2] + r[3]), c = W7_GC * (r[4] + r[5]);
    g[1] = winograd7_sum(W7_A1, a, W7_B1, b, W7_C1, c);
    g[3] = winograd7_sum(W7_A3, a, W7_B3, b, W7_C3, c);
    a = W7_GA * (r[0] - r[1]);
    b = W7_GB * (r[2] - r[3]);
    c = W7_GC * (r[4] - r[5]);
    g[0] = a + b + c;
    g[2] = winograd7_sum(W7_A2, a, W7_B2, b, W7_C2, c);
    g[4] = winograd7_sum(W7_A4, a, W7_B4, b, W7_C4, c) + r[6];
}

/* d = B r. */
ALWAYS_INLINE void
winograd7_input_adjoint(const vec r[7], vec d[7])
{
    vec a = r[0] + r[1], b = r[2] + r[3], c = r[4] + r[5];
    d[1] = winograd7_sum(W7_QA0, a, W7_QB0, b, W7_QC0, c);
    d[3] = winograd7_sum(W7_QA2, a, W7_QB2, b, W7_QC2, c);
    d[5] = a + b + c;
    a = W7_A1 * (r[0] - r[1]);
    b = W7_B1 * (r[2] - r[3]);
    c = W7_C1 * (r[4] - r[5]);
    d[0] = vfma(vset(W7_N0), r[6], winograd7_sum(W7_QA0, a, W7_QB0, b, W7_QC0, c));
    d[2] = vfma(vset(W7_N2), r[6], winograd7_sum(W7_QA2, a, W7_QB2, b, W7_QC2, c));
    d[4] = vfma(vset(W7_N4), r[6], a + b + c);
    d[6] = r[6];
}

#endif
