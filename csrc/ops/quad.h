/* Transpositions in registers of 128 bits, which every instruction set has, for kernels. */
#ifndef PCNN_OPS_QUAD_H
#define PCNN_OPS_QUAD_H

#include "isa/vec.h"

typedef real quad __attribute__((vector_size(16)));
typedef real quad_unaligned __attribute__((vector_size(16), aligned(sizeof(real))));
typedef uint32_t word_quad __attribute__((vector_size(16)));
enum { QUAD = 16 / sizeof(real) };

/* Elements of a and b by number; the index type is as wide as the elements. */
#if defined(__clang__)
#define QUAD_SHUFFLE(index, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define QUAD_SHUFFLE(index, a, b, ...) __builtin_shuffle(a, b, (index){__VA_ARGS__})
#endif

#define QUAD_TRANSPOSE_4X4(type, index, r)                         \
    do {                                                           \
        type a_ = QUAD_SHUFFLE(index, (r)[0], (r)[1], 0, 4, 1, 5); \
        type b_ = QUAD_SHUFFLE(index, (r)[2], (r)[3], 0, 4, 1, 5); \
        type c_ = QUAD_SHUFFLE(index, (r)[0], (r)[1], 2, 6, 3, 7); \
        type d_ = QUAD_SHUFFLE(index, (r)[2], (r)[3], 2, 6, 3, 7); \
        (r)[0] = QUAD_SHUFFLE(index, a_, b_, 0, 1, 4, 5);          \
        (r)[1] = QUAD_SHUFFLE(index, a_, b_, 2, 3, 6, 7);          \
        (r)[2] = QUAD_SHUFFLE(index, c_, d_, 0, 1, 4, 5);          \
        (r)[3] = QUAD_SHUFFLE(index, c_, d_, 2, 3, 6, 7);          \
    } while (0)

/* A square of QUAD x QUAD reals. */
ALWAYS_INLINE void
transpose_quads(quad r[QUAD])
{
#if defined(PCNN_REAL_F64)
    typedef int64_t index __attribute__((vector_size(16)));
    quad low = QUAD_SHUFFLE(index, r[0], r[1], 0, 2);
    r[1] = QUAD_SHUFFLE(index, r[0], r[1], 1, 3);
    r[0] = low;
#else
    QUAD_TRANSPOSE_4X4(quad, word_quad, r);
#endif
}

/* A square of 4 x 4 words of 32 bits. */
ALWAYS_INLINE void
transpose_words(word_quad r[4])
{
    QUAD_TRANSPOSE_4X4(word_quad, word_quad, r);
}

#endif
