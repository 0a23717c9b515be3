/* The AVX-512 intrinsics that kernels use, made of AVX2's: for running the AVX-512 kernels on a
 * machine without AVX-512. Not for speed.
 *
 * The build with PCNN_EMULATE_AVX512=1 compiles the AVX-512 objects with the flags of AVX2. Vectors
 * stay 64 bytes long (the compiler splits what is done with them), and so do the blockings, the
 * masks and every choice by instruction set; only the intrinsics need a double. Results have the
 * bits of the real instructions. Masked loads and stores touch the lanes of their mask alone, one by
 * one, so that the address sanitizer sees which.
 *
 * An intrinsic without its double here does not compile in that build: add it. */
#ifndef PCNN_ISA_EMULATED_H
#define PCNN_ISA_EMULATED_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define EMULATED static inline __attribute__((always_inline))

/* Three vectors in, one out, by halves of 32 bytes. */
#define EMULATE_FMA(name, whole, half, operation)  \
    EMULATED whole name(whole a, whole b, whole c) \
    {                                              \
        half x[2], y[2], z[2];                     \
        memcpy(x, &a, sizeof a);                   \
        memcpy(y, &b, sizeof b);                   \
        memcpy(z, &c, sizeof c);                   \
        for (int h = 0; h < 2; h++)                \
            z[h] = operation(x[h], y[h], z[h]);    \
        memcpy(&c, z, sizeof c);                   \
        return c;                                  \
    }
EMULATE_FMA(emulated_fmadd_ps, __m512, __m256, _mm256_fmadd_ps)
EMULATE_FMA(emulated_fmadd_pd, __m512d, __m256d, _mm256_fmadd_pd)

#define EMULATE_MASKED(suffix, whole, real_type, mask_type, lanes)                \
    EMULATED whole emulated_maskz_loadu_##suffix(mask_type mask, const void *p)   \
    {                                                                             \
        real_type lane[lanes] = {0};                                              \
        whole v;                                                                  \
        for (int l = 0; l < lanes; l++)                                           \
            if (mask >> l & 1)                                                    \
                memcpy(&lane[l], (const real_type *)p + l, sizeof lane[l]);       \
        memcpy(&v, lane, sizeof v);                                               \
        return v;                                                                 \
    }                                                                             \
    EMULATED void emulated_mask_storeu_##suffix(void *p, mask_type mask, whole v) \
    {                                                                             \
        real_type lane[lanes];                                                    \
        memcpy(lane, &v, sizeof v);                                               \
        for (int l = 0; l < lanes; l++)                                           \
            if (mask >> l & 1)                                                    \
                memcpy((real_type *)p + l, &lane[l], sizeof lane[l]);             \
    }
EMULATE_MASKED(ps, __m512, float, __mmask16, 16)
EMULATE_MASKED(pd, __m512d, double, __mmask8, 8)

/* The products of the low halves of the 64-bit lanes. */
EMULATED __m512i
emulated_mul_epu32(__m512i a, __m512i b)
{
    __m256i x[2], y[2];
    memcpy(x, &a, sizeof a);
    memcpy(y, &b, sizeof b);
    for (int h = 0; h < 2; h++)
        x[h] = _mm256_mul_epu32(x[h], y[h]);
    memcpy(&a, x, sizeof a);
    return a;
}

EMULATED __m512i
emulated_setzero_si512(void)
{
    return (__m512i){0};
}

/* Signed: a bit where a < b. */
#define EMULATE_LESS(name, mask_type, integer_type, lanes) \
    EMULATED mask_type name(__m512i a, __m512i b)          \
    {                                                      \
        integer_type x[lanes], y[lanes];                   \
        unsigned mask = 0;                                 \
        memcpy(x, &a, sizeof a);                           \
        memcpy(y, &b, sizeof b);                           \
        for (int l = 0; l < lanes; l++)                    \
            mask |= (unsigned)(x[l] < y[l]) << l;          \
        return (mask_type)mask;                            \
    }
EMULATE_LESS(emulated_cmplt_epi32_mask, __mmask16, int32_t, 16)
EMULATE_LESS(emulated_cmplt_epi64_mask, __mmask8, int64_t, 8)

/* The low bytes of sixteen integers, and back with their sign. */
EMULATED __m128i
emulated_cvtepi32_epi8(__m512i a)
{
    uint32_t wide[16];
    uint8_t bytes[16];
    __m128i result;
    memcpy(wide, &a, sizeof a);
    for (int l = 0; l < 16; l++)
        bytes[l] = (uint8_t)wide[l];
    memcpy(&result, bytes, sizeof result);
    return result;
}

EMULATED __m512i
emulated_cvtepi8_epi32(__m128i a)
{
    int8_t bytes[16];
    int32_t wide[16];
    __m512i result;
    memcpy(bytes, &a, sizeof a);
    for (int l = 0; l < 16; l++)
        wide[l] = bytes[l];
    memcpy(&result, wide, sizeof result);
    return result;
}

#define _mm512_fmadd_ps emulated_fmadd_ps
#define _mm512_fmadd_pd emulated_fmadd_pd
#define _mm512_maskz_loadu_ps emulated_maskz_loadu_ps
#define _mm512_maskz_loadu_pd emulated_maskz_loadu_pd
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
#define _mm512_mask_storeu_pd emulated_mask_storeu_pd
#define _mm512_mul_epu32 emulated_mul_epu32
#define _mm512_setzero_si512 emulated_setzero_si512
#define _mm512_cmplt_epi32_mask emulated_cmplt_epi32_mask
#define _mm512_cmplt_epi64_mask emulated_cmplt_epi64_mask
#define _mm512_cvtepi32_epi8 emulated_cvtepi32_epi8
#define _mm512_cvtepi8_epi32 emulated_cvtepi8_epi32

#endif
