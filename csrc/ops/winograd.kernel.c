/* Winograd's convolutions in layout N16: transforms of weights, of x and to y, and the products
 * between them. The formulas are in winograd_tile.h, the buffers in winograd.h.
 *
 * For each element of a tile, M[column][oc] = sum over c of U[c][oc] V[column][c] is a matrix
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

/* Tiles of channels tile0 .. tile1-1. */
ALWAYS_INLINE void
transform_weights(const int T, const int K, const pcnn_conv2d_geometry *g, const real *weights,
                  real *transformed, int64_t step, int64_t tile0, int64_t tile1)
{
    const int P = winograd_points(T, K);
    const int64_t tiles = pcnn_tiles(g->OC, CHANNELS);
    for (int64_t t = tile0; t < tile1; t++) {
        const int64_t oc0 = pcnn_tile_begin(g->OC, tiles, t);
        const int64_t size = pcnn_tile_begin(g->OC, tiles, t + 1) - oc0;
        const int64_t wide = (size + LANES - 1) / LANES * LANES;
        real tap[25][WIDTH];
        memset(tap, 0, sizeof tap);
        for (int64_t c = 0; c < g->C; c++) {
            const real *w = weights + g->w_origin + oc0 * g->w_out + c * g->w_in;
            for (int64_t o = 0; o < size; o++) {
                UNROLL
                for (int i = 0; i < K; i++) {
                    UNROLL
                    for (int j = 0; j < K; j++)
                        tap[K * i + j][o] = w[o * g->w_out + i * g->w_row + j * g->w_column];
                }
            }
            real *to = transformed + (oc0 * g->C + c * size);
            const bool whole = c * size + wide <= g->C * size;
            for (int64_t v = 0; v < wide; v += LANES) {
                vec half[WINOGRAD_POINTS][5];
                UNROLL
                for (int j = 0; j < K; j++) {
                    vec column[5], r[WINOGRAD_POINTS];
                    UNROLL
                    for (int i = 0; i < K; i++)
                        column[i] = vload(&tap[K * i + j][v]);
                    winograd_weights(T, K, column, r);
                    UNROLL
                    for (int i = 0; i < P; i++)
                        half[i][j] = r[i];
                }
                UNROLL
                for (int i = 0; i < P; i++) {
                    vec r[WINOGRAD_POINTS];
                    winograd_weights(T, K, half[i], r);
                    UNROLL
                    for (int j = 0; j < P; j++) {
                        real *at = to + (P * i + j) * step + v;
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

/* U[e][tile][c][channels of the tile]: lanes are output channels. Vectors are stored whole; what is
 * too much is overwritten by the next c, and not stored where it would reach the next tile. */
void
PCNN_K(winograd_weights)(const void *geometry, const void *weights, void *transformed, int64_t step,
                         int64_t tile0, int64_t tile1)
{
    const pcnn_conv2d_geometry *g = geometry;
    WINOGRAD_CALL(transform_weights, g, weights, transformed, step, tile0, tile1);
}

/* ---- x ---- */

ALWAYS_INLINE int64_t
clip(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* half = B' d for one column of pixels, of which rows i0 .. i1-1 exist. */
ALWAYS_INLINE void
transform_pixels(const int T, const int K, const real *from, int64_t row, int64_t plane,
                 int64_t live, int64_t i0, int64_t i1, real half[WINOGRAD_POINTS][PCNN_BLOCK])
{
    const int P = winograd_points(T, K);
    for (int64_t v = 0; v < live; v += LANES) {
        vec d[WINOGRAD_POINTS], r[WINOGRAD_POINTS];
        UNROLL
        for (int i = 0; i < P; i++) {
            const bool exists = i >= i0 && i < i1;
            d[i] = exists ? vload(from + i * row + v) : (vec){0};
            if (exists && v == 0)
                winograd_prefetch(from + i * row, plane);
        }
        winograd_input(T, K, d, r);
        UNROLL
        for (int i = 0; i < P; i++)
            vstore(half[i] + v, r[i]);
    }
}

/* V = B' d B for tiles side by side, which share columns of pixels. Loops that are not unrolled
 * keep numbers and addresses in registers. */
ALWAYS_INLINE void
transform_inputs(const int T, const int K, const pcnn_conv2d_geometry *g, const real *x, real *V,
                 int64_t step, int64_t N, int64_t begin, int64_t end)
{
    const int P = winograd_points(T, K);
    const int64_t row = g->W * PCNN_BLOCK, plane = g->H * row, V_column = g->C * PCNN_BLOCK;
    _Alignas(64)
        real half[PCNN_WINOGRAD_STRIP_OUTPUTS + WINOGRAD_TAPS - 1][WINOGRAD_POINTS][PCNN_BLOCK];
    for (int64_t column = begin, tiles; column < end; column += tiles) {
        const pcnn_winograd_place at = pcnn_winograd_place_of(g, column);
        const pcnn_winograd_strip strip = pcnn_winograd_strip_of(g, column, end);
        tiles = strip.tiles;
        const int64_t live = winograd_live(pcnn_winograd_images(N, at.block));
        const bool last_whole = strip.first[tiles] - strip.first[tiles - 1] == T;
        const int64_t width = strip.first[tiles - 1] + (last_whole ? P : P - 1);
        const int64_t h = at.oh - g->PT, w = at.ow - g->PL;
        const int64_t points = at.rows == T ? P : P - 1;
        const int64_t i0 = clip(-h, 0, points), i1 = clip(g->H - h, i0, points);
        const int64_t j0 = clip(-w, 0, width), j1 = clip(g->W - w, j0, width);
        const real *from = x + at.block * g->C * plane + h * row + w * PCNN_BLOCK;
        /* What is outside x stays zero for all channels. */
        memset(half, 0, (size_t)j0 * sizeof half[0]);
        memset(half + j1, 0, (size_t)(width - j1) * sizeof half[0]);
        for (int64_t c = 0; c < g->C; c++, from += plane) {
            if (i1 - i0 == P)
                for (int64_t j = j0; j < j1; j++)
                    transform_pixels(T, K, from + j * PCNN_BLOCK, row, plane, live, 0, P, half[j]);
            else if (i1 - i0 == P - 1 && i0 == 0)
                for (int64_t j = j0; j < j1; j++)
                    transform_pixels(T, K, from + j * PCNN_BLOCK, row, plane, live, 0, P - 1,
                                     half[j]);
            else
                for (int64_t j = j0; j < j1; j++)
                    transform_pixels(T, K, from + j * PCNN_BLOCK, row, plane, live, i0, i1,
                                     half[j]);
            real *tile = V + (column - begin) * V_column + c * PCNN_BLOCK;
            for (int64_t t = 0; t < tiles; t++, tile += V_column) {
                const bool whole = strip.first[t + 1] - strip.first[t] == T;
                real *to = tile;
                NO_UNROLL
                for (int64_t i = 0; i < points; i++, to += P * step)
                    for (int64_t v = 0; v < live; v += LANES) {
                        vec d[WINOGRAD_POINTS], r[WINOGRAD_POINTS];
                        UNROLL
                        for (int j = 0; j < P - 1; j++)
                            d[j] = vload(&half[strip.first[t] + j][i][v]);
                        d[P - 1] = whole ? vload(&half[strip.first[t] + P - 1][i][v]) : (vec){0};
                        winograd_input(T, K, d, r);
                        UNROLL
                        for (int j = 0; j < P; j++)
                            vstore(to + j * step + v, r[j]);
                    }
            }
        }
    }
}

/* Columns begin .. end-1 of x into V[e][column - begin][c][16]. */
void
PCNN_K(winograd_input)(const void *geometry, const void *x, void *V, int64_t step, int64_t N,
                       int64_t begin, int64_t end)
{
    const pcnn_conv2d_geometry *g = geometry;
    WINOGRAD_CALL_DW(transform_inputs, g, x, V, step, N, begin, end);
}

/* ---- products ---- */

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

/* The columns at[0] .. at[columns - 1], `live` lanes each, for one tile of channels at one element.
 * Vectors go in pairs: an odd one with that of the next column. m_column: reals from column to
 * column. */
ALWAYS_INLINE void
products(const int OB, int64_t C, const int32_t *at, int64_t columns, int64_t live, const real *u,
         const real *v, real *m, int64_t m_column)
{
    const int64_t v_column = C * PCNN_BLOCK, paired = live / (2 * LANES) * (2 * LANES);
    if (paired > 0)
        for (int64_t k = 0; k < columns; k++)
            for (int64_t lane = 0; lane < paired; lane += 2 * LANES)
                product(OB, 2, C, u, v + at[k] * v_column + lane, LANES,
                        m + at[k] * m_column + lane, LANES);
    if (paired == live)
        return;
    v += paired;
    m += paired;
    for (; columns >= 2; columns -= 2, at += 2)
        product(OB, 2, C, u, v + at[0] * v_column, (at[1] - at[0]) * v_column, m + at[0] * m_column,
                (at[1] - at[0]) * m_column);
    if (columns > 0)
        product(OB, 1, C, u, v + at[0] * v_column, 0, m + at[0] * m_column, 0);
}

typedef void (*products_function)(int64_t, const int32_t *, int64_t, int64_t, const real *,
                                  const real *, real *, int64_t);

#define PRODUCTS(OB)                                                                       \
    static void products_##OB(int64_t C, const int32_t *at, int64_t columns, int64_t live, \
                              const real *u, const real *v, real *m, int64_t m_column)     \
    {                                                                                      \
        products(OB, C, at, columns, live, u, v, m, m_column);                             \
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

/* M[e][column - begin][oc - first of tile0][16] for the elements that the tiles have, for columns
 * begin .. end-1 and tiles of channels tile0 .. tile1-1. */
void
PCNN_K(winograd_products)(const void *geometry, const void *U, int64_t U_step, const void *V,
                          int64_t V_step, void *M, int64_t M_step, int64_t N, int64_t begin,
                          int64_t end, int64_t tile0, int64_t tile1)
{
    const pcnn_conv2d_geometry *g = geometry;
    const int64_t live = winograd_live(N % PCNN_BLOCK);
    pcnn_winograd_list lists[2][2];
    pcnn_winograd_lists(g, N, begin, end, lists);
    const int64_t tiles = pcnn_tiles(g->OC, CHANNELS);
    const int64_t first = pcnn_tile_begin(g->OC, tiles, tile0);
    const int64_t m_column = (pcnn_tile_begin(g->OC, tiles, tile1) - first) * PCNN_BLOCK;
    const int64_t P = g->tile + g->KH - 1;
    for (int64_t e = 0; e < P * P; e++) {
        const pcnn_winograd_list *list = &lists[e / P == P - 1][e % P == P - 1];
        const int64_t fewer = live < PCNN_BLOCK ? list->partial : 0, full = list->count - fewer;
        for (int64_t t = tile0; t < tile1; t++) {
            const int64_t oc = pcnn_tile_begin(g->OC, tiles, t);
            const int64_t size = pcnn_tile_begin(g->OC, tiles, t + 1) - oc;
            const products_function run = products_of_size[size - 1];
            const real *u = (const real *)U + e * U_step + oc * g->C;
            const real *v = (const real *)V + e * V_step;
            real *m = (real *)M + e * M_step + (oc - first) * PCNN_BLOCK;
            run(g->C, list->at, full, PCNN_BLOCK, u, v, m, m_column);
            if (fewer > 0)
                run(g->C, list->at + full, fewer, live, u, v, m, m_column);
        }
    }
}

/* ---- y ---- */

/* What becomes of the tile's numbers on their way to y. */
typedef struct {
    int64_t activation;
    bool bias, partial; /* partial: the last block, whose padding lanes stay zero */
    int64_t live;
    vec offset;
    ivec lanes[VECS];
} ending;

ALWAYS_INLINE vec
finished(vec value, int64_t v, const ending *end)
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
        value = vselect(end->lanes[v / LANES], value, (vec){0});
    return value;
}

/* y = activation(A' M A + b): the rows x columns outputs that a tile has. */
ALWAYS_INLINE void
transform_output(const int T, const int K, const real *M, int64_t step, real *y, int64_t y_channel,
                 int64_t y_row, int64_t y_column, int64_t rows, int64_t columns, const ending *end)
{
    _Alignas(64) real half[WINOGRAD_POINTS][4][PCNN_BLOCK];
    const int P = winograd_points(T, K);
    const int64_t points = columns == T ? P : P - 1;
    NO_UNROLL
    for (int64_t j = 0; j < points; j++, M += step)
        for (int64_t v = 0; v < end->live; v += LANES) {
            vec m[WINOGRAD_POINTS], r[4];
            UNROLL
            for (int i = 0; i < P - 1; i++)
                m[i] = vload(M + P * i * step + v);
            m[P - 1] = rows == T ? vload(M + P * (P - 1) * step + v) : (vec){0};
            winograd_output(T, K, m, r);
            UNROLL
            for (int i = 0; i < T; i++)
                vstore(&half[j][i][v], r[i]);
        }
    NO_UNROLL
    for (int64_t i = 0; i < rows; i++, y += y_row) {
        for (int64_t v = 0; v < end->live; v += LANES) {
            vec m[WINOGRAD_POINTS], r[4];
            UNROLL
            for (int j = 0; j < P - 1; j++)
                m[j] = vload(&half[j][i][v]);
            m[P - 1] = columns == T ? vload(&half[P - 1][i][v]) : (vec){0};
            winograd_output(T, K, m, r);
            UNROLL
            for (int j = 0; j < T; j++)
                if (j < columns) {
                    vstore(y + j * y_column + v, finished(r[j], v, end));
                    if (v == 0)
                        winograd_prefetch(y + j * y_column, y_channel);
                }
        }
        for (int64_t v = end->live; v < PCNN_BLOCK; v += LANES)
            for (int64_t j = 0; j < columns; j++)
                vstore(y + j * y_column + v, (vec){0});
    }
}

ALWAYS_INLINE void
transform_outputs(const int T, const int K, const pcnn_conv2d_geometry *g, const real *M,
                  int64_t step, const real *bias, real *y, int64_t N, int64_t begin, int64_t end,
                  int64_t oc0, int64_t oc1)
{
    const int64_t y_channel = g->y_channel * PCNN_BLOCK;
    const int64_t y_row = g->y_row * PCNN_BLOCK, y_column = g->y_column * PCNN_BLOCK;
    const int64_t M_column = (oc1 - oc0) * PCNN_BLOCK;
    for (int64_t column = begin, tiles; column < end; column += tiles) {
        const pcnn_winograd_place at = pcnn_winograd_place_of(g, column);
        const pcnn_winograd_strip strip = pcnn_winograd_strip_of(g, column, end);
        tiles = strip.tiles;
        const int64_t images = pcnn_winograd_images(N, at.block);
        ending how = {.activation = g->activation,
                      .bias = bias != NULL,
                      .partial = images < PCNN_BLOCK,
                      .live = winograd_live(images)};
        for (int v = 0; v < VECS; v++)
            how.lanes[v] = vlanes_below(v * LANES, images);
        real *to = y + (at.block * g->OC + oc0) * y_channel + at.oh * y_row + at.ow * y_column;
        const real *from = M + (column - begin) * M_column;
        for (int64_t oc = oc0; oc < oc1; oc++) {
            how.offset = vset(bias ? bias[oc] : 0);
            for (int64_t t = 0; t < tiles; t++)
                transform_output(T, K, from + t * M_column, step, to + strip.first[t] * y_column,
                                 y_channel, y_row, y_column, at.rows,
                                 strip.first[t + 1] - strip.first[t], &how);
            from += PCNN_BLOCK;
            to += y_channel;
        }
    }
}

/* Columns begin .. end-1 and channels oc0 .. oc1-1, from M[e][column - begin][oc - oc0][16]. */
void
PCNN_K(winograd_output)(const void *geometry, const void *M, int64_t step, const void *bias,
                        void *y, int64_t N, int64_t begin, int64_t end, int64_t oc0, int64_t oc1)
{
    const pcnn_conv2d_geometry *g = geometry;
    WINOGRAD_CALL(transform_outputs, g, M, step, bias, y, N, begin, end, oc0, oc1);
}
