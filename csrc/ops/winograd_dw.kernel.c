/* The gradient of a convolution's weights and bias through Winograd's transforms:
 *
 *     dw = G' [sum over columns and images of (B' x B) .* (A dy A')] G,  db = the sum of dy
 *
 * The sum is, for each element of a tile, a matrix product over columns and images. With images in
 * the lanes every product would end in a sum of lanes; so the transformed dy is turned while it is
 * stored: output channels stand in the lanes, and numbers of x are broadcast. Buffers:
 *
 *     V[e][column][c][16]     as in the forward pass
 *     D[e][panel][column][16][LANES]  a panel is LANES output channels, zeros behind the last
 *     sums[e][c][panel][LANES]        kept over many columns
 *     taps[c][panel][K * K][LANES]    the transformed sums */
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/quad.h"
#include "ops/winograd.h"
#include "ops/winograd_tile.h"

/* Accumulators: 2 * CHANNELS of the registers, CHANNELS of x by two panels. */
enum {
#if defined(PCNN_ISA_AVX512)
    CHANNELS = 12,
#elif defined(PCNN_ISA_AVX2)
    CHANNELS = 6,
#else
    CHANNELS = 4,
#endif
};

int64_t
PCNN_K(winograd_lanes)(void)
{
    return LANES;
}

/* ---- dy ---- */

/* The images, or some more, of LANES channels become LANES channels of as many images. */
ALWAYS_INLINE void
turn(int64_t images, const real *from, int64_t from_step, real *to)
{
    for (int o = 0; o < LANES; o += QUAD)
        for (int64_t l = 0; l < images; l += QUAD) {
            quad r[QUAD];
            UNROLL
            for (int i = 0; i < (int)QUAD; i++)
                r[i] = *(const quad_unaligned *)(from + (o + i) * from_step + l);
            transpose_quads(r);
            UNROLL
            for (int i = 0; i < (int)QUAD; i++)
                *(quad_unaligned *)(to + (l + i) * LANES + o) = r[i];
        }
}

static int64_t
minimum(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* D = A dy A' for one tile of rows x columns pixels of `size` channels at `from`.
 * Pixels are turned first: there are fewer of them than of elements. Their sums are added to
 * bias[16][LANES]. */
ALWAYS_INLINE void
transform_tile(const int T, const int K, const real *from, int64_t row, int64_t plane, int64_t size,
               int64_t rows, int64_t columns, int64_t images, real *D, int64_t step, real *bias)
{
    _Alignas(64) real pixel[WINOGRAD_OUTPUTS][WINOGRAD_OUTPUTS][PCNN_BLOCK][LANES],
        channels[LANES][PCNN_BLOCK];
    const int P = winograd_points(T, K);
    const int64_t points = rows == T ? P : P - 1;
    for (int64_t i = 0; i < T; i++)
        for (int64_t j = i < rows ? columns : 0; j < T; j++)
            memset(pixel[i][j], 0, sizeof pixel[i][j]);
    if (size < LANES)
        memset(channels, 0, sizeof channels);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            const real *at = from + i * row + j * PCNN_BLOCK;
            for (int64_t o = 0; o < size; o++) /* the next tile's pixels */
                winograd_prefetch(at + o * plane, T * PCNN_BLOCK);
            if (size == LANES) {
                turn(images, at, plane, &pixel[i][j][0][0]);
                continue;
            }
            for (int64_t o = 0; o < size; o++)
                memcpy(channels[o], at + o * plane, sizeof channels[o]);
            turn(images, &channels[0][0], PCNN_BLOCK, &pixel[i][j][0][0]);
        }
    for (int64_t image = 0; image < images; image++, D += LANES) {
        _Alignas(64) real half[WINOGRAD_OUTPUTS][WINOGRAD_POINTS][LANES];
        vec sum = {0};
        UNROLL
        for (int j = 0; j < T; j++) {
            vec d[WINOGRAD_OUTPUTS], r[WINOGRAD_POINTS];
            UNROLL
            for (int i = 0; i < T; i++) {
                d[i] = vload(pixel[i][j][image]);
                sum += d[i];
            }
            winograd_output_adjoint(T, K, d, r);
            UNROLL
            for (int i = 0; i < P; i++)
                vstore(half[j][i], r[i]);
        }
        if (bias != NULL)
            vstore(bias + image * LANES, vload(bias + image * LANES) + sum);
        real *to = D;
        NO_UNROLL
        for (int64_t i = 0; i < points; i++, to += P * step) {
            vec d[WINOGRAD_OUTPUTS], r[WINOGRAD_POINTS];
            UNROLL
            for (int j = 0; j < T; j++)
                d[j] = vload(half[j][i]);
            winograd_output_adjoint(T, K, d, r);
            UNROLL
            for (int j = 0; j < P; j++)
                vstore(to + j * step, r[j]);
        }
    }
}

ALWAYS_INLINE void
transform_dy(const int T, const int K, const pcnn_conv2d_geometry *g, const real *dy, real *D,
             int64_t step, real *bias, int64_t N, int64_t begin, int64_t end, int64_t panel0,
             int64_t panel1)
{
    const int64_t plane = g->OH * g->OW * PCNN_BLOCK, row = g->OW * PCNN_BLOCK;
    for (int64_t panel = panel0; panel < panel1; panel++) {
        const int64_t size = minimum(g->OC - panel * LANES, LANES);
        for (int64_t column = begin; column < end; column++) {
            const pcnn_winograd_place at = pcnn_winograd_place_of(g, column);
            const real *from =
                dy + (at.block * g->OC + panel * LANES) * plane + at.oh * row + at.ow * PCNN_BLOCK;
            real *to = D + ((panel - panel0) * (end - begin) + column - begin) * PCNN_BLOCK * LANES;
            transform_tile(T, K, from, row, plane, size, at.rows, at.columns,
                           pcnn_winograd_images(N, at.block), to, step,
                           bias ? bias + (panel - panel0) * PCNN_BLOCK * LANES : NULL);
        }
    }
}

/* Columns begin .. end-1 of dy, panels panel0 .. panel1-1, into D; adds dy to
 * bias[panel][16][LANES], which begins with panel0 (NULL: db is not wanted). */
void
PCNN_K(winograd_dw_input)(const void *geometry, const void *dy, void *D, int64_t step, void *bias,
                          int64_t N, int64_t begin, int64_t end, int64_t panel0, int64_t panel1)
{
    const pcnn_conv2d_geometry *g = geometry;
    WINOGRAD_CALL_DW(transform_dy, g, dy, D, step, bias, N, begin, end, panel0, panel1);
}

/* ---- products ---- */

/* CB channels of x by PB panels over the columns of a list, of a block that is not full only
 * `images` images; CB and PB are literals at every call. */
ALWAYS_INLINE void
product(const int CB, const int PB, bool first, const pcnn_winograd_list *list, int64_t images,
        const real *v, int64_t v_column, const real *d, int64_t d_panel, real *sums, int64_t sums_c)
{
    vec acc[CHANNELS][2];
    UNROLL
    for (int c = 0; c < CB; c++) {
        UNROLL
        for (int p = 0; p < PB; p++)
            acc[c][p] = first ? (vec){0} : vload(sums + c * sums_c + p * LANES);
        __builtin_prefetch(sums + (CB + c) * sums_c); /* of the next tile */
    }
    for (int64_t k = 0; k < list->count; k++) {
        const real *v_at = v + list->at[k] * v_column;
        const real *d_at = d + list->at[k] * PCNN_BLOCK * LANES;
        const int64_t terms = k < list->count - list->partial ? PCNN_BLOCK : images;
        for (int64_t image = 0; image < terms; image++) {
            vec value[2];
            UNROLL
            for (int p = 0; p < PB; p++)
                value[p] = vload(d_at + p * d_panel + image * LANES);
            UNROLL
            for (int c = 0; c < CB; c++) {
                vec x = vset(v_at[c * PCNN_BLOCK + image]);
                UNROLL
                for (int p = 0; p < PB; p++)
                    acc[c][p] = vfma(value[p], x, acc[c][p]);
            }
        }
    }
    UNROLL
    for (int c = 0; c < CB; c++) {
        UNROLL
        for (int p = 0; p < PB; p++)
            vstore(sums + c * sums_c + p * LANES, acc[c][p]);
    }
}

typedef void (*product_function)(bool, const pcnn_winograd_list *, int64_t, const real *, int64_t,
                                 const real *, int64_t, real *, int64_t);

#define PRODUCT(CB, PB)                                                                         \
    static void product_##CB##_##PB(bool first, const pcnn_winograd_list *list, int64_t images, \
                                    const real *v, int64_t v_column, const real *d,             \
                                    int64_t d_panel, real *sums, int64_t sums_c)                \
    {                                                                                           \
        product(CB, PB, first, list, images, v, v_column, d, d_panel, sums, sums_c);            \
    }
#define PRODUCT_PAIR(CB) PRODUCT(CB, 1) PRODUCT(CB, 2)
#define ENTRY(CB) {product_##CB##_1, product_##CB##_2},
#if defined(PCNN_ISA_AVX512)
#define EACH_SIZE(_) _(1) _(2) _(3) _(4) _(5) _(6) _(7) _(8) _(9) _(10) _(11) _(12)
#elif defined(PCNN_ISA_AVX2)
#define EACH_SIZE(_) _(1) _(2) _(3) _(4) _(5) _(6)
#else
#define EACH_SIZE(_) _(1) _(2) _(3) _(4)
#endif
EACH_SIZE(PRODUCT_PAIR)
static const product_function product_of_size[][2] = {EACH_SIZE(ENTRY)};
_Static_assert(sizeof product_of_size / sizeof product_of_size[0] == CHANNELS, "sizes");

/* sums (+)= the products of columns begin .. end-1; `panels` panels, of which sums[e][c] has
 * all_panels and begins at the first of these. */
void
PCNN_K(winograd_dw_products)(const void *geometry, const void *V, int64_t V_step, const void *D,
                             int64_t D_step, void *sums, int64_t sums_step, int64_t N,
                             int64_t begin, int64_t end, int64_t panels, int64_t all_panels,
                             bool first)
{
    const pcnn_conv2d_geometry *g = geometry;
    const int64_t tiles = pcnn_tiles(g->C, CHANNELS);
    const int64_t d_panel = (end - begin) * PCNN_BLOCK * LANES;
    pcnn_winograd_list lists[2][2];
    pcnn_winograd_lists(g, N, begin, end, lists);
    const int64_t P = g->tile + g->KH - 1;
    for (int64_t e = 0; e < P * P; e++)
        for (int64_t panel = 0; panel < panels; panel += 2) {
            const int pair = panel + 1 < panels;
            for (int64_t t = 0; t < tiles; t++) {
                const int64_t c = pcnn_tile_begin(g->C, tiles, t);
                const int64_t size = pcnn_tile_begin(g->C, tiles, t + 1) - c;
                product_of_size[size - 1][pair](
                    first, &lists[e / P == P - 1][e % P == P - 1], N % PCNN_BLOCK,
                    (const real *)V + e * V_step + c * PCNN_BLOCK, g->C * PCNN_BLOCK,
                    (const real *)D + e * D_step + panel * d_panel, d_panel,
                    (real *)sums + e * sums_step + (c * all_panels + panel) * LANES,
                    all_panels * LANES);
            }
        }
}

/* ---- dw ---- */

ALWAYS_INLINE void
transform_sums(const int T, const int K, const pcnn_conv2d_geometry *g, const real *sums,
               int64_t sums_step, real *taps, int64_t taps_step, int64_t panels, int64_t begin,
               int64_t end)
{
    (void)g;
    const int P = winograd_points(T, K);
    for (int64_t k = begin * panels; k < end * panels; k++) {
        const real *from = sums + k * LANES;
        real *to = taps + (k / panels - begin) * taps_step + k % panels * K * K * LANES;
        vec half[WINOGRAD_TAPS][WINOGRAD_POINTS];
        UNROLL
        for (int j = 0; j < P; j++) {
            vec column[WINOGRAD_POINTS], r[WINOGRAD_TAPS];
            UNROLL
            for (int i = 0; i < P; i++)
                column[i] = vload(from + (P * i + j) * sums_step);
            winograd_weights_adjoint(T, K, column, r);
            UNROLL
            for (int i = 0; i < K; i++)
                half[i][j] = r[i];
        }
        UNROLL
        for (int i = 0; i < K; i++) {
            vec r[WINOGRAD_TAPS];
            winograd_weights_adjoint(T, K, half[i], r);
            UNROLL
            for (int j = 0; j < K; j++)
                vstore(to + (K * i + j) * LANES, r[j]);
        }
    }
}

/* G' S G for the sums of channels begin .. end-1 of x, which have `panels` panels each; taps is where
 * channel `begin` begins, taps_step the way to the next. */
void
PCNN_K(winograd_dw_taps)(const void *geometry, const void *sums, int64_t sums_step, void *taps,
                         int64_t taps_step, int64_t panels, int64_t begin, int64_t end)
{
    const pcnn_conv2d_geometry *g = geometry;
    WINOGRAD_CALL_DW(transform_sums, g, sums, sums_step, taps, taps_step, panels, begin, end);
}

/* Channels begin .. end-1 of x, panels panel0 .. panel1-1, of dw [OC][C][K][K]: the taps of `ranges`
 * ranges, taps_range apart, are added in order. taps is where the first of these panels begins. */
void
PCNN_K(winograd_dw_output)(const void *geometry, const void *taps, int64_t ranges,
                           int64_t taps_range, void *dw, int64_t panel0, int64_t panel1,
                           int64_t begin, int64_t end)
{
    const pcnn_conv2d_geometry *g = geometry;
    const int64_t tap_count = g->KH * g->KW;
    const real *from = taps;
    for (int64_t c = begin; c < end; c++)
        for (int64_t panel = panel0; panel < panel1; panel++, from += tap_count * LANES) {
            const int64_t size = minimum(g->OC - panel * LANES, LANES);
            real *to = (real *)dw + (panel * LANES * g->C + c) * tap_count;
            for (int64_t i = 0; i < tap_count; i++) {
                vec sum = vload(from + i * LANES);
                for (int64_t range = 1; range < ranges; range++)
                    sum += vload(from + range * taps_range + i * LANES);
                for (int64_t o = 0; o < size; o++)
                    to[o * g->C * tap_count + i] = sum[o];
            }
        }
}

/* db from `ranges` partial sums bias[range][panel][16][LANES]. */
void
PCNN_K(winograd_db_output)(const void *bias, int64_t ranges, int64_t panels, void *db, int64_t OC)
{
    for (int64_t panel = 0; panel < panels; panel++) {
        vec total = {0};
        for (int64_t k = 0; k < ranges; k++)
            for (int64_t image = 0; image < PCNN_BLOCK; image++)
                total +=
                    vload((const real *)bias + ((k * panels + panel) * PCNN_BLOCK + image) * LANES);
        vstore_partial((real *)db + panel * LANES, total, minimum(OC - panel * LANES, LANES));
    }
}
