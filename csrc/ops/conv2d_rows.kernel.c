/* Convolution of one image in plain layout, vectors along the rows of pixels: for small batches.
 *
 * A register tile is CHANNELS output channels by VECTORS vectors of neighbouring positions; a tap
 * loads VECTORS vectors of the source and a weight for each channel (broadcast from where the user's
 * weights lie: nothing is packed, since one image would hardly pay for it). Tiles run over the end
 * of a row into the next one: positions between OW and pitch are computed in vain and left out when
 * the sums are copied out of their buffer, with bias and activation on the way. */
#include "isa/kernels.h"
#include "ops/activate.h"
#include "ops/conv2d.h"
#include "ops/conv2d_rows.h"

enum {
    VECTORS = 2,
#if defined(PCNN_ISA_AVX512)
    CHANNELS = 12,
#elif defined(PCNN_ISA_AVX2)
    CHANNELS = 6,
#else
    CHANNELS = 4, /* without FMA a product needs a register of its own */
#endif
    BUFFER = PCNN_ROWS_STRIP + VECTORS * LANES,
};

_Static_assert(VECTORS *LANES <= PCNN_ROWS_SLACK, "a tile reads behind the source");

int64_t
PCNN_K(conv2d_rows_channels)(void)
{
    return CHANNELS;
}

/* to[r][0 .. V*LANES-1] = the sums of R channels at V vectors of positions. */
ALWAYS_INLINE void
sum_tile(const pcnn_conv2d_rows *s, const real *source, const real *w, real *to, const int R,
         const int V)
{
    vec sum[CHANNELS][VECTORS];
    const int64_t taps = s->taps, *offset = s->offset;
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < V; v++) sum[r][v] = (vec){0};
    for (int64_t k = 0; k < taps; k++) {
        const real *at = source + offset[k];
        vec x[VECTORS];
        UNROLL for (int v = 0; v < V; v++) x[v] = vload(at + v * LANES);
        UNROLL for (int r = 0; r < R; r++)
        {
            const vec weight = vset(w[r * taps + k]);
            UNROLL for (int v = 0; v < V; v++) sum[r][v] = vfma(weight, x[v], sum[r][v]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < V; v++)
        vstore(to + r * BUFFER + v * LANES, sum[r][v]);
}

typedef void (*tile_function)(const pcnn_conv2d_rows *, const real *, const real *, real *,
                              int64_t);

/* `positions` positions of R channels. */
#define TILE(R)                                                                                  \
    static void tile_##R(const pcnn_conv2d_rows *s, const real *source, const real *w, real *to, \
                         int64_t positions)                                                      \
    {                                                                                            \
        int64_t p = 0;                                                                           \
        for (; positions - p > LANES; p += VECTORS * LANES)                                      \
            sum_tile(s, source + p, w, to + p, R, VECTORS);                                      \
        if (p < positions)                                                                       \
            sum_tile(s, source + p, w, to + p, R, 1);                                            \
    }
#if defined(PCNN_ISA_AVX512)
#define EACH_SIZE(_) _(1) _(2) _(3) _(4) _(5) _(6) _(7) _(8) _(9) _(10) _(11) _(12)
#elif defined(PCNN_ISA_AVX2)
#define EACH_SIZE(_) _(1) _(2) _(3) _(4) _(5) _(6)
#else
#define EACH_SIZE(_) _(1) _(2) _(3) _(4)
#endif
EACH_SIZE(TILE)
#define ENTRY(R) tile_##R,
static const tile_function tile_of_size[] = {EACH_SIZE(ENTRY)};
_Static_assert(sizeof tile_of_size / sizeof tile_of_size[0] == CHANNELS, "a size is missing");

/* Rows of n elements out of the buffer. A vector may run over the end of its row, as the next row
 * is written after it, but not over the end of the last. */
ALWAYS_INLINE void
copy_rows(const pcnn_conv2d_rows *s, const real *from, real *to, const real *bias, int64_t rows,
          int64_t n, const int activation)
{
    const int64_t pitch = s->pitch, OW = s->OW;
    const vec b = bias ? vset(*bias) : (vec){0};
    for (int64_t i = 0; i < rows; i++, from += pitch, to += OW)
        for (int64_t j = 0; j < n; j += LANES) {
            vec value = vload(from + j);
            if (bias)
                value += b;
            value = activate(value, activation);
            if (n - j + (rows - 1 - i) * OW >= LANES)
                vstore(to + j, value);
            else
                vstore_partial(to + j, value, n - j);
        }
}

static void
copy_out(const pcnn_conv2d_rows *s, const real *from, real *to, const real *bias, int64_t rows,
         int64_t n)
{
    switch (s->activation) {
    case PCNN_ACT_NONE: copy_rows(s, from, to, bias, rows, n, PCNN_ACT_NONE); break;
    case PCNN_ACT_RELU: copy_rows(s, from, to, bias, rows, n, PCNN_ACT_RELU); break;
    case PCNN_ACT_SIGMOID: copy_rows(s, from, to, bias, rows, n, PCNN_ACT_SIGMOID); break;
    default: copy_rows(s, from, to, bias, rows, n, PCNN_ACT_TANH);
    }
}

/* Channels of tile `tile`, rows oh0 .. oh1-1, columns ow0 .. ow1-1 (all, where there are several
 * rows). */
void
PCNN_K(conv2d_rows)(const void *shape, const void *px, const void *pw, const void *pb, void *py,
                    int64_t tile, int64_t oh0, int64_t oh1, int64_t ow0, int64_t ow1)
{
    const pcnn_conv2d_rows *s = shape;
    const int64_t tiles = pcnn_tiles(s->OC, CHANNELS);
    const int64_t oc0 = pcnn_tile_begin(s->OC, tiles, tile);
    const int64_t size = pcnn_tile_begin(s->OC, tiles, tile + 1) - oc0;
    const real *b = pb;
    real sums[CHANNELS * BUFFER];
    tile_of_size[size - 1](s, (const real *)px + oh0 * s->pitch + ow0,
                           (const real *)pw + oc0 * s->taps, sums,
                           (oh1 - oh0 - 1) * s->pitch + ow1 - ow0);
    for (int64_t r = 0; r < size; r++)
        copy_out(s, sums + r * BUFFER, (real *)py + ((oc0 + r) * s->OH + oh0) * s->OW + ow0,
                 b ? b + oc0 + r : NULL, oh1 - oh0, ow1 - ow0);
}
