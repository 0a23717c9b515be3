/* The transforms of Winograd's convolutions in one dimension, on vectors of images or channels.
 *
 * A convolution is a product of polynomials; a product is known by its values at enough points
 * (Toom and Cook). P = T + K - 1 points give the P coefficients that T outputs of a filter of K
 * need, and the transposed algorithm is the convolution of a network (Winograd 1980; Lavin and Gray,
 * "Fast Algorithms for Convolutional Neural Networks", 2015): with
 *
 *     y = A' [(G g) .* (B' d)]        d: P inputs, g: K weights, y: T outputs
 *
 * there are P products instead of T K, and in two dimensions, Y = A' [(G g G') .* (B' d B)] A, P P
 * instead of T T K K. (A' is the transpose of A.) Sums over channels come between the transforms.
 *
 *     T = 4, K = 3:  6 points (winograd_six.h)     2.25 products an output instead of 9
 *     T = 6, K = 3:  8 points (winograd_eight.h)   1.78; for long sums, those of dw
 *     T = 2, K = 5:  6 points                      9 instead of 25
 *     T = 3, K = 5:  7 points (winograd_seven.h)   5.44, with twice the errors
 *     T = 4, K = 5:  8 points                      4, with larger ones
 *
 * One of the points is infinity, whose product has a part in the last output only: tiles with fewer
 * outputs leave it out.
 *
 * An output's rounding error is that of its whole tile: a small number beside a large one loses
 * digits that the direct sum keeps, and what is not a number spreads over the tile (never to other
 * images). Sums of numbers of both signs are as good as direct ones when they are long enough; a dy
 * of one sign (with weights of one sign) costs dx about two bits.
 *
 * The gradients are the adjoints: dg = G' [(B' d) .* (A dy)], dd = B [(G g) .* (A dy)].
 *
 * T and K are literals at every call. */
#ifndef PCNN_OPS_WINOGRAD_TILE_H
#define PCNN_OPS_WINOGRAD_TILE_H

#include "core/tensor.h"
#include "isa/vec.h"
#include "ops/winograd_eight.h"
#include "ops/winograd_seven.h"
#include "ops/winograd_six.h"

enum {
    WINOGRAD_POINTS = 8,  /* of a tile in one direction, and so its inputs, at most */
    WINOGRAD_OUTPUTS = 6, /* at most */
    WINOGRAD_TAPS = 5,    /* weights, at most */
};

/* function(T, K, g, ...) for the form of g: in the passes to y and dx, and in that to dw. */
#define WINOGRAD_CALL(function, g, ...)     \
    do {                                    \
        if ((g)->KH == 3)                   \
            function(4, 3, g, __VA_ARGS__); \
        else if ((g)->tile == 4)            \
            function(4, 5, g, __VA_ARGS__); \
        else if ((g)->tile == 3)            \
            function(3, 5, g, __VA_ARGS__); \
        else                                \
            function(2, 5, g, __VA_ARGS__); \
    } while (0)
#define WINOGRAD_CALL_DW(function, g, ...)           \
    do {                                             \
        if ((g)->KH == 3 && (g)->tile == 6)          \
            function(6, 3, g, __VA_ARGS__);          \
        else                                         \
            WINOGRAD_CALL(function, g, __VA_ARGS__); \
    } while (0)

ALWAYS_INLINE int
winograd_points(const int T, const int K)
{
    return T + K - 1;
}

/* r = B' d. */
ALWAYS_INLINE void
winograd_input(const int T, const int K, const vec d[8], vec r[8])
{
    if (winograd_points(T, K) == 8)
        winograd8_input(d, r);
    else if (winograd_points(T, K) == 7)
        winograd7_input(d, r);
    else
        winograd6_input(d, r);
}

/* y = A' m. */
ALWAYS_INLINE void
winograd_output(const int T, const int K, const vec m[8], vec y[4])
{
    if (winograd_points(T, K) == 8)
        winograd8_output(m, y);
    else if (winograd_points(T, K) == 7)
        winograd7_output(m, y);
    else
        winograd6_output(T, m, y);
}

/* r = G g. */
ALWAYS_INLINE void
winograd_weights(const int T, const int K, const vec g[5], vec r[8])
{
    if (winograd_points(T, K) == 8)
        winograd8_weights(g, r);
    else if (winograd_points(T, K) == 7)
        winograd7_weights(g, r);
    else
        winograd6_weights(K, g, r);
}

/* r = A y. */
ALWAYS_INLINE void
winograd_output_adjoint(const int T, const int K, const vec y[6], vec r[8])
{
    if (winograd_points(T, K) == 8)
        winograd8_output_adjoint(T, y, r);
    else if (winograd_points(T, K) == 7)
        winograd7_output_adjoint(y, r);
    else
        winograd6_output_adjoint(T, y, r);
}

/* g = G' r. */
ALWAYS_INLINE void
winograd_weights_adjoint(const int T, const int K, const vec r[8], vec g[5])
{
    if (winograd_points(T, K) == 8)
        winograd8_weights_adjoint(K, r, g);
    else if (winograd_points(T, K) == 7)
        winograd7_weights_adjoint(r, g);
    else
        winograd6_weights_adjoint(K, r, g);
}

/* d = B r. */
ALWAYS_INLINE void
winograd_input_adjoint(const int T, const int K, const vec r[8], vec d[8])
{
    if (winograd_points(T, K) == 8)
        winograd8_input_adjoint(r, d);
    else if (winograd_points(T, K) == 7)
        winograd7_input_adjoint(r, d);
    else
        winograd6_input_adjoint(r, d);
}

/* Lanes of the vectors that this many images of a block fill, if only in part. Those behind need no
 * arithmetic. */
ALWAYS_INLINE int64_t
winograd_live(int64_t images)
{
    return (images + LANES - 1) / LANES * LANES;
}

/* Asks for what is `ahead` of the place in hand, as a rule the same place of the next channel's map:
 * maps are far apart, and what is read of one is too short to be foreseen by the processor. */
ALWAYS_INLINE void
winograd_prefetch(const real *map, int64_t ahead)
{
    __builtin_prefetch(map + ahead);
}

#endif
