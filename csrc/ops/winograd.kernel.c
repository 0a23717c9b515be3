/* Winograd's convolution F(4x4, 3x3) in layout N16: transforms of weights, of x and to y, and the
 * products between them. The formulas are in winograd_tile.h, the buffers in winograd.h.
 *
 * For each of the 36 elements, M[column][oc] = sum over c of U[c][oc] V[column][c] is a matrix
 * product whose right side has the images in its lanes. A register tile is CHANNELS output channels
 * by two vectors of images, as in the direct convolution. */
#include "isa/kernels.h"
#include "isa/vecmath.h"
#include "ops/activation.h"
#include "ops/winograd.h"
#include "ops/winograd_tile.h"

/* Accumulators: 2 * CHANNELS of the registers; without FMA a product needs one of its own. */
enum {
#if defined(PCNN_ISA_AVX512)
    CHANNELS = 12,
#elif defined(PCNN_ISA_AVX2)
    CHANNELS = 6,
#else
    CHANNELS = 4,
#endif
    WIDTH = (CHANNELS + LANES - 1) / LANES * LANES, /* a tile's channels in whole vectors */
};

int64_t
PCNN_K(winograd_channels)(void)
{
    return CHANNELS;
}

/* ---- weights ---- */

/* U[e][tile][c][channels of the tile]: lanes are output channels. Vectors are stored whole; what is
 * too much is overwritten by the next c, and not stored where it would reach the next tile. */
void
PCNN_K(winograd_weights)(const void *geometry, const void *weights, void *transformed, int64_t step,
                         int64_t tile0, int64_t tile1)
{
    const pcnn_conv2d_geometry *g = geometry;
    const int64_t tiles = pcnn_tiles(g->OC, CHANNELS);
    for (int64_t t = tile0; t < tile1; t++) {
        const int64_t oc0 = pcnn_tile_begin(g->OC, tiles, t);
        const int64_t size = pcnn_tile_begin(g->OC, tiles, t + 1) - oc0;
        const int64_t wide = (size + LANES - 1) / LANES * LANES;
        real tap[9][WIDTH];
        memset(tap, 0, sizeof tap);
        for (int64_t c = 0; c < g->C; c++) {
            const real *w = (const real *)weights + g->w_origin + oc0 * g->w_out + c * g->w_in;
            for (int64_t o = 0; o < size; o++)
                for (int i = 0; i < 3; i++)
                    for (int j = 0; j < 3; j++)
                        tap[3 * i + j][o] = w[o * g->w_out + i * g->w_row + j * g->w_column];
            real *to = (real *)transformed + (oc0 * g->C + c * size);
            const bool whole = c * size + wide <= g->C * size;
            for (int64_t v = 0; v < wide; v += LANES) {
                vec half[6][3];
                UNROLL
                for (int j = 0; j < 3; j++) {
                    vec column[3] = {vload(&tap[j][v]), vload(&tap[3 + j][v]),
                                     vload(&tap[6 + j][v])};
                    vec r[6];
                    winograd_weights(column, r);
                    UNROLL
                    for (int i = 0; i < 6; i++)
                        half[i][j] = r[i];
                }
                UNROLL
                for (int i = 0; i < 6; i++) {
                    vec r[6];
                    winograd_weights(half[i], r);
                    UNROLL
                    for (int j = 0; j < 6; j++) {
                        real *at = to + (6 * i + j) * step + v;
                        if (whole)
                            vstore(at, r[j]);
                        else
                            vstore_partial(at, r[j], size - v < LANES ? size - v : LANES);
                    }
                }
            }
        }
    }
}

/* ---- x ---- */

/* V = B' d B for one tile; `row` reals from row to row of d, `step` from element to element. */
ALWAYS_INLINE void
transform_input(const real *d, int64_t row, real *V, int64_t step)
{
    vec half[6][6];
    UNROLL
    for (int j = 0; j < 6; j++) {
        vec column[6], r[6];
        UNROLL
        for (int i = 0; i < 6; i++)
            column[i] = vload(d + i * row + j * PCNN_BLOCK);
        winograd_input(column, r);
        UNROLL
        for (int i = 0; i < 6; i++)
            half[i][j] = r[i];
    }
    UNROLL
    for (int i = 0; i < 6; i++) {
        vec r[6];
        winograd_input(half[i], r);
        UNROLL
        for (int j = 0; j < 6; j++)
            vstore(V + (6 * i + j) * step, r[j]);
    }
}

ALWAYS_INLINE int64_t
clip(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Columns begin .. end-1 of x into V[e][column - begin][c][16]. */
void
PCNN_K(winograd_input)(const void *geometry, const void *x, void *V, int64_t step, int64_t begin,
                       int64_t end)
{
    const pcnn_conv2d_geometry *g = geometry;
    const int64_t plane = g->H * g->W * PCNN_BLOCK;
    real *to = V;
    real patch[6][6][PCNN_BLOCK];
    for (int64_t column = begin; column < end; column++) {
        const pcnn_winograd_place at = pcnn_winograd_place_of(g, column);
        const int64_t h = at.oh - g->PT, w = at.ow - g->PL;
        const int64_t i0 = clip(-h, 0, 6), i1 = clip(g->H - h, i0, 6);
        const int64_t j0 = clip(-w, 0, 6), j1 = clip(g->W - w, j0, 6);
        const bool inside = i1 - i0 == 6 && j1 - j0 == 6;
        const real *from = (const real *)x + at.block * g->C * plane + (h * g->W + w) * PCNN_BLOCK;
        if (!inside)
            memset(patch, 0, sizeof patch); /* what is outside x stays zero for all channels */
        for (int64_t c = 0; c < g->C; c++, from += plane, to += PCNN_BLOCK) {
            const real *d = from;
            int64_t row = g->W * PCNN_BLOCK;
            if (!inside) {
                for (int64_t i = i0; i < i1; i++)
                    for (int64_t j = j0; j < j1; j++)
                        for (int v = 0; v < VECS; v++)
                            vstore(&patch[i][j][v * LANES],
                                   vload(from + i * row + j * PCNN_BLOCK + v * LANES));
                d = &patch[0][0][0];
                row = 6 * PCNN_BLOCK;
            }
            for (int v = 0; v < VECS; v++)
                transform_input(d + v * LANES, row, to + v * LANES, step);
        }
    }
}

/* ---- products ---- */

enum { COLUMNS = VECS == 1 ? 2 : 1, PAIRS = VECS == 1 ? 1 : VECS / 2 };

/* OB channels by VB vectors, `apart` reals between the vectors of v and of m. OB and VB are
 * literals at every call. */
ALWAYS_INLINE void
product(const int OB, const int VB, int64_t C, const real *u, const real *v, int64_t v_apart,
        real *m, int64_t m_apart)
{
    vec acc[CHANNELS][2];
    UNROLL
    for (int o = 0; o < OB; o++) {
        UNROLL
        for (int k = 0; k < VB; k++)
            acc[o][k] = (vec){0};
    }
    for (; C > 0; C--, u += OB, v += PCNN_BLOCK) {
        vec value[2];
        UNROLL
        for (int k = 0; k < VB; k++)
            value[k] = vload(v + k * v_apart);
        UNROLL
        for (int o = 0; o < OB; o++) {
            vec weight = vset(u[o]);
            UNROLL
            for (int k = 0; k < VB; k++)
                acc[o][k] = vfma(value[k], weight, acc[o][k]);
        }
    }
    UNROLL
    for (int o = 0; o < OB; o++) {
        UNROLL
        for (int k = 0; k < VB; k++)
            vstore(m + o * PCNN_BLOCK + k * m_apart, acc[o][k]);
    }
}

/* All columns for one tile of channels at one element. m_column: reals from column to column. */
ALWAYS_INLINE void
products(const int OB, int64_t C, int64_t columns, const real *u, const real *v, real *m,
         int64_t m_column)
{
    const int64_t v_column = C * PCNN_BLOCK;
    for (; columns >= COLUMNS; columns -= COLUMNS) {
        for (int pair = 0; pair < PAIRS; pair++)
            product(OB, 2, C, u, v + pair * 2 * LANES, VECS == 1 ? v_column : LANES,
                    m + pair * 2 * LANES, VECS == 1 ? m_column : LANES);
        v += COLUMNS * v_column;
        m += COLUMNS * m_column;
    }
    if (columns > 0)
        product(OB, 1, C, u, v, 0, m, 0);
}

typedef void (*products_function)(int64_t, int64_t, const real *, const real *, real *, int64_t);

#define PRODUCTS(OB)                                                                             \
    static void products_##OB(int64_t C, int64_t columns, const real *u, const real *v, real *m, \
                              int64_t m_column)                                                  \
    {                                                                                            \
        products(OB, C, columns, u, v, m, m_column);                                             \
    }
#if defined(PCNN_ISA_AVX512)
#define EACH_SIZE(_) _(1) _(2) _(3) _(4) _(5) _(6) _(7) _(8) _(9) _(10) _(11) _(12)
#elif defined(PCNN_ISA_AVX2)
#define EACH_SIZE(_) _(1) _(2) _(3) _(4) _(5) _(6)
#else
#define EACH_SIZE(_) _(1) _(2) _(3) _(4)
#endif
EACH_SIZE(PRODUCTS)
#define ENTRY(OB) products_##OB,
static const products_function products_of_size[] = {EACH_SIZE(ENTRY)};
_Static_assert(sizeof products_of_size / sizeof products_of_size[0] == CHANNELS, "sizes");

/* M[e][column][oc - first of tile0][16] for all elements, for tiles tile0 .. tile1-1. */
void
PCNN_K(winograd_products)(const void *geometry, const void *U, int64_t U_step, const void *V,
                          int64_t V_step, void *M, int64_t M_step, int64_t columns, int64_t tile0,
                          int64_t tile1)
{
    const pcnn_conv2d_geometry *g = geometry;
    const int64_t tiles = pcnn_tiles(g->OC, CHANNELS);
    const int64_t first = pcnn_tile_begin(g->OC, tiles, tile0);
    const int64_t m_column = (pcnn_tile_begin(g->OC, tiles, tile1) - first) * PCNN_BLOCK;
    for (int e = 0; e < PCNN_WINOGRAD_ELEMENTS; e++)
        for (int64_t t = tile0; t < tile1; t++) {
            const int64_t oc = pcnn_tile_begin(g->OC, tiles, t);
            const int64_t size = pcnn_tile_begin(g->OC, tiles, t + 1) - oc;
            products_of_size[size - 1](g->C, columns, (const real *)U + e * U_step + oc * g->C,
                                       (const real *)V + e * V_step,
                                       (real *)M + e * M_step + (oc - first) * PCNN_BLOCK,
                                       m_column);
        }
}

/* ---- y ---- */

/* What becomes of the tile's numbers on their way to y. */
typedef struct {
    int64_t activation;
    bool bias, partial; /* partial: the last block, whose padding lanes stay zero */
    vec offset;
    ivec lanes;
} ending;

ALWAYS_INLINE vec
finished(vec value, const ending *end)
{
    if (end->bias)
        value += end->offset;
    if (end->activation == PCNN_ACT_RELU)
        value = vrelu(value);
    else if (end->activation == PCNN_ACT_SIGMOID)
        value = vsigmoid(value);
    else if (end->activation == PCNN_ACT_TANH)
        value = vtanh(value);
    if (end->partial)
        value = vselect(end->lanes, value, (vec){0});
    return value;
}

/* y = activation(A' M A + b): the rows x columns outputs of a tile that exist. */
ALWAYS_INLINE void
transform_output(const real *M, int64_t step, real *y, int64_t y_row, int64_t y_column,
                 int64_t rows, int64_t columns, const ending *end)
{
    vec half[4][6];
    UNROLL
    for (int j = 0; j < 6; j++) {
        vec column[6], r[4];
        UNROLL
        for (int i = 0; i < 6; i++)
            column[i] = vload(M + (6 * i + j) * step);
        winograd_output(column, r);
        UNROLL
        for (int i = 0; i < 4; i++)
            half[i][j] = r[i];
    }
    for (int64_t i = 0; i < rows; i++, y += y_row) {
        vec r[4];
        winograd_output(half[i], r);
        UNROLL
        for (int j = 0; j < 4; j++)
            if (j < columns)
                vstore(y + j * y_column, finished(r[j], end));
    }
}

/* Columns begin .. end-1 and channels oc0 .. oc1-1, from M[e][column - begin][oc - oc0][16]. */
void
PCNN_K(winograd_output)(const void *geometry, const void *M, int64_t step, const void *bias,
                        void *y, int64_t N, int64_t begin, int64_t end, int64_t oc0, int64_t oc1)
{
    const pcnn_conv2d_geometry *g = geometry;
    const real *from = M;
    const int64_t y_row = g->y_row * PCNN_BLOCK, y_column = g->y_column * PCNN_BLOCK;
    for (int64_t column = begin; column < end; column++) {
        const pcnn_winograd_place at = pcnn_winograd_place_of(g, column);
        const int64_t rows = clip(g->OH - at.oh, 0, 4), columns = clip(g->OW - at.ow, 0, 4);
        const int64_t images = N - at.block * PCNN_BLOCK;
        ending how = {
            .activation = g->activation, .bias = bias != NULL, .partial = images < PCNN_BLOCK};
        real *to = (real *)y + (at.block * g->OC + oc0) * g->y_channel * PCNN_BLOCK +
                   at.oh * y_row + at.ow * y_column;
        for (int64_t oc = oc0; oc < oc1; oc++) {
            how.offset = vset(bias ? ((const real *)bias)[oc] : 0);
            for (int v = 0; v < VECS; v++) {
                if (how.partial)
                    how.lanes = vlanes_below(v * LANES, images);
                transform_output(from + v * LANES, step, to + v * LANES, y_row, y_column, rows,
                                 columns, &how);
            }
            from += PCNN_BLOCK;
            to += g->y_channel * PCNN_BLOCK;
        }
    }
}
