/* Pooling of windows 2x2 side by side in plain layout: for small batches.
 *
 * `shape` is a pcnn_pool2d. A vector of results needs two of each row, whose even and odd elements
 * are brought apart; the last vector of a row lies over the one before it, to the same results. Each
 * result is computed in the order of the general kernels, to the same bits. */
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/pool2d.h"
#include "ops/quad.h"

#if defined(PCNN_ISA_AVX512) && defined(PCNN_REAL_F32)
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif defined(PCNN_ISA_AVX512) || (defined(PCNN_ISA_AVX2) && defined(PCNN_REAL_F32))
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#elif defined(PCNN_ISA_AVX2) || defined(PCNN_REAL_F32)
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#else
#define EVEN 0, 2
#define ODD 1, 3
#endif

typedef enum { MAXIMUM, MEAN } kind;

/* The earlier of equal values stays, NaN beats everything and stays. */
ALWAYS_INLINE vec
max_or_nan(vec m, vec t)
{
    return vselect((t > m) | (t != t), t, m);
}

/* The windows whose upper halves are the pairs in a, b and lower halves those in c, d. */
ALWAYS_INLINE vec
pool(vec a, vec b, vec c, vec d, const kind kind)
{
    const vec a0 = QUAD_SHUFFLE(ivec, a, b, EVEN), a1 = QUAD_SHUFFLE(ivec, a, b, ODD);
    const vec c0 = QUAD_SHUFFLE(ivec, c, d, EVEN), c1 = QUAD_SHUFFLE(ivec, c, d, ODD);
    if (kind == MEAN)
        return (a0 + a1 + c0 + c1) * (real)0.25;
    return max_or_nan(max_or_nan(a0, a1), max_or_nan(c0, c1));
}

/* Windows of a row that is shorter than a vector, one by one. */
ALWAYS_INLINE void
pool_few(const real *top, const real *bottom, real *y, int64_t n, const kind kind)
{
    for (int64_t j = 0; j < n; j++) {
        const vec a = {top[2 * j], top[2 * j + 1]}, c = {bottom[2 * j], bottom[2 * j + 1]};
        y[j] = pool(a, a, c, c, kind)[0];
    }
}

ALWAYS_INLINE void
pool_maps(const pcnn_pool2d *s, const real *x, real *y, int64_t maps, const kind kind)
{
    const int64_t W = s->W, OW = s->OW;
    for (int64_t m = 0; m < maps; m++, x += s->H * W)
        for (int64_t i = 0; i < s->OH; i++, y += OW) {
            const real *top = x + 2 * i * W, *bottom = top + W;
            if (OW < LANES)
                pool_few(top, bottom, y, OW, kind);
            for (int64_t j = 0; j < OW && OW >= LANES; j += LANES) {
                const int64_t at = j < OW - LANES ? j : OW - LANES, from = 2 * at;
                vstore(y + at, pool(vload(top + from), vload(top + from + LANES),
                                    vload(bottom + from), vload(bottom + from + LANES), kind));
            }
        }
}

void
PCNN_K(max_pool2d_rows)(const void *shape, const void *x, void *y, int64_t maps)
{
    pool_maps(shape, x, y, maps, MAXIMUM); /* [maps][H][W] -> [maps][OH][OW] */
}

void
PCNN_K(avg_pool2d_rows)(const void *shape, const void *x, void *y, int64_t maps)
{
    pool_maps(shape, x, y, maps, MEAN);
}
