/* exp, log, tanh, erf and relatives on vectors of reals, at most 2 ULP from the exact result.
 *
 * Our own, so that a number never depends on the C library, on where a tail begins, or on the
 * thread that computes it: tails are loaded with vload_partial and go through the same functions.
 *
 * Each reduces its argument to a small interval and evaluates a polynomial there (minimax, found
 * with the Remez exchange in 40 digits). Special values: NaN stays NaN, infinities give the limit,
 * exp overflows to infinity; a result below the smallest normal number is 0, and so counts an
 * argument below it, as in all of the engine (denormals are flushed). */
#ifndef PCNN_ISA_VECMATH_H
#define PCNN_ISA_VECMATH_H

#include "isa/vec.h"

#if defined(PCNN_REAL_F64)
#define MATH_F64 1
#define MATH_MANTISSA 52
#define MATH_ONE INT64_C(0x3ff0000000000000)       /* the bits of 1 */
#define MATH_SQRT_HALF INT64_C(0x3fe6a09e667f3bcd) /* the bits of sqrt(1/2) */
#define MATH_FRACTION INT64_C(0x000fffffffffffff)
#define MATH_MAGIC 0x1.8p52 /* adding it rounds to an integer, which then stands in the low bits */
#define MATH_MIN 0x1p-1022
#define MATH_EXP_MAX 709.782712893384
#define MATH_EXP_MIN (-708.3964185322641)
/* ln 2 = HI + LO, where HI has so many zeros at its end that k * HI is exact. */
#define MATH_LN2_HI 6.93147180369123816490e-01
#define MATH_LN2_LO 1.90821492927058770002e-10
#define MATH_ERF_ONE 5.9215871957945065 /* from here erf is 1 */
#else
#define MATH_F64 0
#define MATH_MANTISSA 23
#define MATH_ONE 0x3f800000
#define MATH_SQRT_HALF 0x3f3504f3
#define MATH_FRACTION 0x007fffff
#define MATH_MAGIC 0x1.8p23f
#define MATH_MIN 0x1p-126f
#define MATH_EXP_MAX 88.72283f
#define MATH_EXP_MIN (-87.33654f)
#define MATH_LN2_HI 0.693359375f
#define MATH_LN2_LO (-2.12194440e-4f)
#define MATH_ERF_ONE 3.9192059f
#endif
#define MATH_LOG2_E ((real)1.44269504088896340736)

/* c[0] + c[1] x + ... + c[n-1] x^(n-1) by Horner's rule; n is a literal at every call. */
ALWAYS_INLINE vec
vpolynomial(vec x, const real *c, int n)
{
    vec sum = vset(c[n - 1]);
    UNROLL
    for (int i = n - 2; i >= 0; i--)
        sum = vfma(sum, x, vset(c[i]));
    return sum;
}
#define VPOLYNOMIAL(x, c) vpolynomial((x), (c), (int)(sizeof(c) / sizeof((c)[0])))

ALWAYS_INLINE vec
vabs(vec x)
{
    const integer sign = (integer)((unsigned_integer)1 << (8 * sizeof(real) - 1));
    return (vec)((ivec)x & ~sign);
}

/* |a| with the sign of b. */
ALWAYS_INLINE vec
vcopysign(vec a, vec b)
{
    const integer sign = (integer)((unsigned_integer)1 << (8 * sizeof(real) - 1));
    return (vec)(((ivec)a & ~sign) | ((ivec)b & sign));
}

/* x > 0 ? x : 0, and NaN stays NaN: a broken number must be seen, not hidden. */
ALWAYS_INLINE vec
vrelu(vec x)
{
    return (vec)(~(ivec)(x <= 0) & (ivec)x);
}

/* x = n ln 2 + r with |r| <= ln2 / 2. Stores n as a real and n's bits at the exponent's place;
 * returns p = exp(r) - 1 as r + r^2 q(r). */
ALWAYS_INLINE vec
vexp_reduced(vec x, vec *n, uvec *exponent)
{
#if MATH_F64
    static const real q[] = {
        0.49999999999999999966,     0.16666666666666683844,   0.041666666666666724352,
        0.0083333333333167390981,   0.0013888888888858507169, 0.0001984126989705784979,
        0.000024801587373621225325, 2.7557234237794223075e-6, 2.7557233460467553612e-7,
        2.5112239524426044694e-8,   2.0926911878889927963e-9};
#else
    static const real q[] = {0.50000000956596840142f, 0.16666518835359933809f,
                             0.041666204846230569393f, 0.0083688898168937462754f,
                             0.0013950537850149480161f};
#endif
    vec shifted = vfma(x, vset(MATH_LOG2_E), vset(MATH_MAGIC));
    *exponent = (uvec)shifted << MATH_MANTISSA; /* the low bits are the integer */
    *n = shifted - MATH_MAGIC;
    vec high = vfma(-*n, vset(MATH_LN2_HI), x), low = *n * -MATH_LN2_LO; /* high is exact */
    vec r = high + low;
    return high + vfma(r * r, VPOLYNOMIAL(r, q), low);
}

ALWAYS_INLINE vec
vexp(vec x)
{
    vec n;
    uvec exponent;
    vec p = vexp_reduced(x, &n, &exponent) + 1;
    /* Adding to the exponent's bits multiplies by 2^n, for n = 128 (1024) too, where p < 1. */
    vec y = (vec)((uvec)p + exponent);
    y = vselect(x > MATH_EXP_MAX, vset((real)INFINITY), y);
    y = vselect(x < MATH_EXP_MIN, vset(0), y);
    return vselect(x != x, x, y);
}

/* exp(x) - 1 without cancellation near 0. */
ALWAYS_INLINE vec
vexpm1(vec x)
{
    vec n;
    uvec exponent;
    vec p = vexp_reduced(vmax(x, vset(-64)), &n, &exponent); /* at -64 the result is -1 already */
    /* (p + 1) 2^n - 1 with s = 2^(n-1), as 2^n may overflow where the result does not. */
    vec s = (vec)(exponent + (unsigned_integer)(MATH_ONE - ((integer)1 << MATH_MANTISSA)));
    vec y = 2 * vfma(s, p, s - (real)0.5);
    y = vselect(n == 0, p, y);
    y = vselect(x > MATH_EXP_MAX, vset((real)INFINITY), y);
    return vselect(x != x, x, y);
}

/* x = 2^k (1 + f) with 1 + f in sqrt(1/2) .. sqrt(2); then with s = f / (2 + f) and z = s^2
 * log(1 + f) = 2 artanh(s) = f - (f^2/2 - s (f^2/2 + R)), R = z (2/3 + 2/5 z + 2/7 z^2 ...):
 * the form of Sun's fdlibm, in which the largest term, f, is exact. */
ALWAYS_INLINE vec
vlog(vec x)
{
#if MATH_F64
    static const real c[] = {0.66666666666667353472, 0.39999999999407686183, 0.28571428744102368077,
                             0.22222198382056714568, 0.18183574998260386549, 0.15313759622755174773,
                             0.14799031060742456697};
#else
    static const real c[] = {0.66666665637453096887f, 0.40000337197081553092f,
                             0.28537170649587398405f, 0.23584945469198169356f};
#endif
    ivec bits = (ivec)((uvec)x + (unsigned_integer)(MATH_ONE - MATH_SQRT_HALF));
    ivec exponent = (bits >> MATH_MANTISSA) - (MATH_ONE >> MATH_MANTISSA);
    vec magic = vset(MATH_MAGIC);
    vec k = (vec)((ivec)magic + exponent) - magic; /* to real: 64-bit conversions are rare */
    vec f = (vec)((bits & MATH_FRACTION) + MATH_SQRT_HALF) - 1;
    vec s = f / (f + 2), z = s * s, half = f * f * (real)0.5;
    vec R = z * VPOLYNOMIAL(z, c);
    vec low = vfma(s, half + R, k * MATH_LN2_LO);
    vec y = k * MATH_LN2_HI + (f - (half - low));
    y = vselect(x < MATH_MIN, vset(-(real)INFINITY), y);
    y = vselect(x < 0, vset((real)NAN), y);
    return vselect((x == (real)INFINITY) | (x != x), x, y);
}

/* log(1 + x): what 1 + x loses of x in rounding comes back as a correction. */
ALWAYS_INLINE vec
vlog1p(vec x)
{
    vec u = x + 1;
    vec lost = (x - (u - 1)) / u;
    return vlog(u) + vselect(lost == lost, lost, vset(0)); /* not a number at -1 and infinity */
}

/* Small |x|: Lambert's continued fraction x / (1 + z / (3 + z / (5 + ...))), z = x^2, cut off and
 * written as x + x z A(z) / B(z). Others: 1 - 2 / (exp(2|x|) + 1). One division serves both. */
ALWAYS_INLINE vec
vtanh(vec x)
{
#if MATH_F64
    static const real A[] = {-675675, -45045, -594, -1};
    static const real B[] = {2027025, 945945, 51975, 630, 1};
#else
    static const real A[] = {-315, -14};
    static const real B[] = {945, 420, 15};
#endif
    vec a = vabs(x), z = x * x;
    ivec small = a < (real)0.6;
    vec numerator = vselect(small, a * z * VPOLYNOMIAL(z, A), vset(-2));
    vec denominator = vselect(small, VPOLYNOMIAL(z, B), vexp(a + a) + 1);
    return vcopysign(vselect(small, a, vset(1)) + numerator / denominator, x);
}

/* |x| < 1: x + x Q(x^2). Others: 1 - exp(-x^2) P(t), t = (|x| - 2) / (|x| + 2), which maps the
 * range onto a short interval (Shepherd and Laframboise, Math. Comp. 36, 1981). */
ALWAYS_INLINE vec
verf(vec x)
{
#if MATH_F64
    static const real Q[] = {
        0.12837916709551256679,    -0.37612638903183546628,     0.11283791670945253232,
        -0.026866170643276218303,  0.0052239776074234678405,    -0.00085483259896967580333,
        0.00012055295320494294236, -0.000014924744663335489733, 1.6447517677871873706e-6,
        -1.6209175911748695663e-7, 1.372297626592450327e-8,     -7.8011888740977515657e-10};
    static const real P[] = {
        0.25539567631050576154,     -0.42718584741395677295,    0.24165819424246696417,
        -0.078978581016455989105,   0.003732892398586743517,    0.0069974617900803019004,
        -0.00084714257235004013359, -0.00098197658327978004274, 0.000043535313151305130837,
        0.00017428768936969562515,  0.000027630851590456731033, -0.000026587054836372941324,
        -0.000012622095258990250586};
#else
    static const real Q[] = {0.12837916591418619569f,    -0.37612627137424210358f,
                             0.11283600185630825884f,    -0.026854444844954315155f,
                             0.0051895356635808047754f,  -0.00080208431151955213949f,
                             0.000078891227681959120452f};
    static const real P[] = {0.25539613957015536127f, -0.42718752046683681034f,
                             0.24146261420700724377f, -0.080816753247684554569f,
                             -0.002492422523680981663f};
#endif
    vec z = x * x;
    vec inner = vfma(x, VPOLYNOMIAL(z, Q), x);
    vec a = vmin(vabs(x), vset(MATH_ERF_ONE));
    vec t = (a - 2) / (a + 2);
    vec outer = vcopysign(1 - vexp(-a * a) * VPOLYNOMIAL(t, P), x);
    return vselect(x != x, x, vselect(vabs(x) < 1, inner, outer));
}

/* 1 / (1 + exp(-x)), below 0 as e / (1 + e) with e = exp(x): a huge e would cost accuracy. The
 * second step takes back what the sum 1 + e lost in rounding (1 / (1 + e) is 1 - y, else y). */
ALWAYS_INLINE vec
vsigmoid(vec x)
{
    vec e = vexp(-vabs(x)), sum = 1 + e, lost = e - (sum - 1);
    vec y = vselect(x < 0, e, vset(1)) / sum;
    return y - y * lost * vselect(x < 0, 1 - y, y);
}

/* log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)): nothing overflows. */
ALWAYS_INLINE vec
vsoftplus(vec x)
{
    return vrelu(x) + vlog1p(vexp(-vabs(x)));
}

#endif
