/* The vocabulary of kernels: `real` (float or double) and `vec`, a vector of them, in the
 * instruction set that this object is compiled for.
 *
 * The build compiles every <op>.kernel.c once per instruction set and real type with
 * -DPCNN_ISA=<isa> -DPCNN_ISA_<ISA> -DPCNN_REAL=<f32|f64> -DPCNN_REAL_<F32|F64>. Sources use the
 * compiler's vector extensions (+ - * / and comparisons work on `vec`) and the few verbs below.
 * No contraction is allowed (-ffp-contract=off): a fused multiply-add is written vfma.
 *
 * A block of the N16 layout is PCNN_BLOCK reals = VECS vectors of LANES lanes. */
#ifndef PCNN_ISA_VEC_H
#define PCNN_ISA_VEC_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(PCNN_ISA_AVX2) || defined(PCNN_ISA_AVX512)
#include <immintrin.h>
#endif
#if defined(PCNN_ISA_AVX512) && !defined(__AVX512F__)
#include "isa/emulated.h"
#endif

#if defined(PCNN_ISA_AVX512)
enum { VEC_BYTES = 64, VEC_REGISTERS = 32 };
#elif defined(PCNN_ISA_AVX2)
enum { VEC_BYTES = 32, VEC_REGISTERS = 16 };
#else
enum { VEC_BYTES = 16, VEC_REGISTERS = 16 };
#endif

#if defined(PCNN_REAL_F64)
typedef double real;
typedef int64_t integer; /* the integer as wide as a real: comparisons yield vectors of it */
typedef uint64_t unsigned_integer;
#else
typedef float real;
typedef int32_t integer;
typedef uint32_t unsigned_integer;
#endif

typedef real vec __attribute__((vector_size(VEC_BYTES)));
typedef integer ivec __attribute__((vector_size(VEC_BYTES)));
typedef unsigned_integer uvec __attribute__((vector_size(VEC_BYTES)));
typedef real vec_unaligned __attribute__((vector_size(VEC_BYTES), aligned(sizeof(real))));

enum { LANES = VEC_BYTES / sizeof(real), VECS = 16 / LANES };

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 64")
#define NO_UNROLL _Pragma("GCC unroll 1")

/* PCNN_K(relu_forward) names this object's version of a kernel: pcnn_relu_forward_f32_avx2. */
#define PCNN_PASTE_(a, b, c) pcnn_##a##_##b##_##c
#define PCNN_PASTE(a, b, c) PCNN_PASTE_(a, b, c)
#define PCNN_K(name) PCNN_PASTE(name, PCNN_REAL, PCNN_ISA)

ALWAYS_INLINE vec
vload(const real *p) /* any alignment */
{
    return *(const vec_unaligned *)p;
}

ALWAYS_INLINE void
vstore(real *p, vec v)
{
    *(vec_unaligned *)p = v;
}

/* `s - 0` broadcasts without an addition: 0 + s would have to turn -0 into +0. */
ALWAYS_INLINE vec
vset(real s)
{
    return s - (vec){0};
}

/* a * b + c, rounded once where the instruction set has it. */
ALWAYS_INLINE vec
vfma(vec a, vec b, vec c)
{
#if defined(PCNN_ISA_AVX512) && defined(PCNN_REAL_F64)
    return (vec)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(PCNN_ISA_AVX512)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(PCNN_ISA_AVX2) && defined(PCNN_REAL_F64)
    return (vec)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(PCNN_ISA_AVX2)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* The scalar twin of vfma: the same rounding, for tails. */
ALWAYS_INLINE real
rfma(real a, real b, real c)
{
#if defined(PCNN_ISA_AVX512) || defined(PCNN_ISA_AVX2)
#if defined(PCNN_REAL_F64)
    return __builtin_fma(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
#else
    return a * b + c;
#endif
}

/* A loaded vector with several uses, held in a register. With AVX-512 the compiler loads it again as
 * an operand of every one of them; with fewer registers it must be free to. */
ALWAYS_INLINE vec
vheld(vec v)
{
#if defined(__AVX512F__)
    __asm__("" : "+v"(v));
#endif
    return v;
}

/* The same where the registers of AVX2 suffice, too. */
ALWAYS_INLINE vec
vpinned(vec v)
{
#if defined(__AVX512F__) || defined(PCNN_ISA_AVX2)
    __asm__("" : "+v"(v));
#endif
    return v;
}

/* mask ? a : b, lane by lane; a mask is what a comparison of vectors gives (all ones or zeros). */
ALWAYS_INLINE vec
vselect(ivec mask, vec a, vec b)
{
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}

/* Where a lane of `a` is not greater (NaN included), `b` is taken. */
ALWAYS_INLINE vec
vmax(vec a, vec b)
{
    return vselect(a > b, a, b);
}

ALWAYS_INLINE vec
vmin(vec a, vec b)
{
    return vselect(a < b, a, b);
}

ALWAYS_INLINE vec
vsqrt(vec a)
{
    for (int l = 0; l < LANES; l++)
        a[l] = sizeof(real) == 8 ? (real)__builtin_sqrt((double)a[l])
                                 : (real)__builtin_sqrtf((float)a[l]);
    return a;
}

/* Sum of the lanes in one fixed order: halves are added until one is left. */
ALWAYS_INLINE real
vsum(vec v)
{
#if defined(PCNN_ISA_AVX2) && defined(PCNN_REAL_F64)
    __m128d half =
        _mm_add_pd(_mm256_castpd256_pd128((__m256d)v), _mm256_extractf128_pd((__m256d)v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
#elif defined(PCNN_ISA_AVX2)
    __m128 half =
        _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
#else
    real lane[LANES];
    memcpy(lane, &v, sizeof lane);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
#endif
}

/* All ones in the first n lanes. */
ALWAYS_INLINE ivec
vfirst_lanes(int64_t n)
{
    static const integer ones[32] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                     -1, -1, -1, -1, -1, -1, -1, -1}; /* then zeros */
    ivec mask;
    memcpy(&mask, ones + 16 - n, sizeof mask);
    return mask;
}

/* The first n lanes of memory, zeros behind; and the first n lanes stored: for tails. What lies
 * behind is not touched. */
ALWAYS_INLINE vec
vload_partial(const real *p, int64_t n)
{
#if defined(PCNN_ISA_AVX512) && defined(PCNN_REAL_F64)
    return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#elif defined(PCNN_ISA_AVX512)
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif defined(PCNN_ISA_AVX2) && defined(PCNN_REAL_F64)
    return (vec)_mm256_maskload_pd(p, (__m256i)vfirst_lanes(n));
#elif defined(PCNN_ISA_AVX2)
    return (vec)_mm256_maskload_ps(p, (__m256i)vfirst_lanes(n));
#else
    vec v = {0};
    memcpy(&v, p, (size_t)n * sizeof(real));
    return v;
#endif
}

ALWAYS_INLINE void
vstore_partial(real *p, vec v, int64_t n)
{
#if defined(PCNN_ISA_AVX512) && defined(PCNN_REAL_F64)
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
#elif defined(PCNN_ISA_AVX512)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#elif defined(PCNN_ISA_AVX2) && defined(PCNN_REAL_F64)
    _mm256_maskstore_pd(p, (__m256i)vfirst_lanes(n), (__m256d)v);
#elif defined(PCNN_ISA_AVX2)
    _mm256_maskstore_ps(p, (__m256i)vfirst_lanes(n), (__m256)v);
#else
    memcpy(p, &v, (size_t)n * sizeof(real));
#endif
}

/* All ones in lanes first <= lane index + base < limit: to keep N16's padding lanes at zero. */
ALWAYS_INLINE ivec
vlanes_below(int64_t base, int64_t limit)
{
    ivec mask;
    for (int l = 0; l < LANES; l++)
        mask[l] = base + l < limit ? (integer)-1 : 0;
    return mask;
}

#endif
