/* The gradient of a convolution's weights and bias, in layout N16:
 *
 *     dw[oc][c][i][j] = sum over n, oh, ow of dy[n][oc][oh][ow] x[n][c][oh*SH-PT+i][ow*SW-PL+j]
 *     db[oc] = sum over n, oh, ow of dy[n][oc][oh][ow]
 *
 * Lanes are images: a sum runs over pixels with nothing to shuffle, and lanes are added at the very
 * end. A register tile is OB channels of dy by XB channels of x at one tap (i, j). All its products
 * run over one rectangle of pixels, that where the tap lies inside x: padding needs no edge cases.
 *
 * Pixels are cut into pieces so small that a piece of OB + XB planes stays in the first-level cache
 * while every tap and channel of x passes over it. The piece of dy is first copied side by side
 * (one pointer instead of OB, and no planes that are a power of two apart). A piece's sum starts
 * from zero and is then added to a total, which also keeps rounding errors small.
 *
 * A last block with at most eight images has pieces of its own, of half lines. */
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/conv2d.h"
#include "ops/conv2d_dw_tile.h"

enum {
#if defined(PCNN_ISA_AVX512)
    ACCUMULATORS = 24,
    X_CHANNELS = 4,
#elif defined(PCNN_ISA_AVX2)
    ACCUMULATORS = 12,
    X_CHANNELS = 3,
#else
    ACCUMULATORS = 8, /* without FMA a product needs a register of its own */
    X_CHANNELS = 2,
#endif
    DY_CHANNELS = ACCUMULATORS < 12 ? ACCUMULATORS : 12,
    PIECE_BYTES = 26624, /* of the planes of a tile: less than the first-level cache */
    TOTAL_BYTES = 32768, /* of the totals; both are on the stack */
    MAX_PARTS = TOTAL_BYTES / (ACCUMULATORS * VEC_BYTES),
    HALF_LINE = PCNN_BLOCK / 2, /* images */
    HALF = VECS / 2,            /* vectors that hold them; none where one vector is a line */
};

/* Channels of dy and of x are cut into even tiles; the one dimension makes room for the other. */
typedef struct {
    int64_t dy_tiles, x_tiles;
} cut;

static cut
cut_of(const pcnn_conv2d_geometry *g)
{
    int64_t x_tiles = pcnn_tiles(g->C, X_CHANNELS);
    int64_t x_most = x_tiles ? pcnn_tiles(g->C, x_tiles) : 1;
    int64_t dy_most = ACCUMULATORS / x_most < DY_CHANNELS ? ACCUMULATORS / x_most : DY_CHANNELS;
    return (cut){pcnn_tiles(g->OC, dy_most), x_tiles};
}

int64_t
PCNN_K(conv2d_dw_tiles)(const void *geometry)
{
    return cut_of(geometry).dy_tiles;
}

/* A tile's sums over channels of x and taps, its parts, are numbered (x tile, i, j). As many fit
 * the totals as a group has. */
int64_t
PCNN_K(conv2d_dw_groups)(const void *geometry)
{
    const pcnn_conv2d_geometry *g = geometry;
    int64_t parts = cut_of(g).x_tiles * g->KH * g->KW;
    return parts ? pcnn_tiles(parts, MAX_PARTS) : 1; /* a group at least: it makes db */
}

/* Steps in reals. */
typedef struct {
    int64_t x_block, x_channel, x_row, x_column;
    int64_t dy_block, dy_row; /* of the copied piece */
} steps;

/* total[o][k] += sum over blocks, rows and columns of dy[o] * x[k], in the first NV vectors of
 * lines; OB, XB and NV are literals. */
ALWAYS_INLINE void
accumulate(const int OB, const int XB, const int NV, vec *total, const real *x, const real *dy,
           int64_t blocks, int64_t rows, int64_t columns, const steps *s)
{
    vec acc[DY_CHANNELS][X_CHANNELS];
    UNROLL
    for (int o = 0; o < OB; o++) {
        UNROLL
        for (int k = 0; k < XB; k++)
            acc[o][k] = (vec){0};
    }
    const int64_t x_channel = s->x_channel, x_column = s->x_column;
    for (; blocks > 0; blocks--, x += s->x_block, dy += s->dy_block) {
        const real *x_row = x, *dy_row = dy;
        for (int64_t r = rows; r > 0; r--, x_row += s->x_row, dy_row += s->dy_row) {
            const real *x_at = x_row, *dy_at = dy_row;
            for (int64_t q = columns; q > 0; q--, x_at += x_column, dy_at += OB * PCNN_BLOCK)
                dw_pixel(OB, XB, NV, acc[0], X_CHANNELS, x_at, x_channel, dy_at, PCNN_BLOCK);
        }
    }
    UNROLL
    for (int o = 0; o < OB; o++) {
        UNROLL
        for (int k = 0; k < XB; k++)
            total[o * XB + k] += acc[o][k];
    }
}

typedef void (*accumulate_function)(vec *, const real *, const real *, int64_t, int64_t, int64_t,
                                    const steps *);

/* Whole lines, and halves (never called where there are none). */
#define ACCUMULATE(OB, XB)                                                                   \
    static void whole_##OB##_##XB(vec *total, const real *x, const real *dy, int64_t blocks, \
                                  int64_t rows, int64_t columns, const steps *s)             \
    {                                                                                        \
        accumulate(OB, XB, VECS, total, x, dy, blocks, rows, columns, s);                    \
    }                                                                                        \
    static void half_##OB##_##XB(vec *total, const real *x, const real *dy, int64_t blocks,  \
                                 int64_t rows, int64_t columns, const steps *s)              \
    {                                                                                        \
        accumulate(OB, XB, HALF, total, x, dy, blocks, rows, columns, s);                    \
    }
#define ENTRY(OB, XB) [XB - 1][OB - 1] = {whole_##OB##_##XB, half_##OB##_##XB},
/* Every OB with OB * XB <= ACCUMULATORS and OB <= DY_CHANNELS. */
/* clang-format off */
#if defined(PCNN_ISA_AVX512)
#define EACH_SIZE(_) \
    _(1, 1) _(2, 1) _(3, 1) _(4, 1) _(5, 1) _(6, 1) _(7, 1) _(8, 1) _(9, 1) _(10, 1) \
    _(11, 1) _(12, 1) \
    _(1, 2) _(2, 2) _(3, 2) _(4, 2) _(5, 2) _(6, 2) _(7, 2) _(8, 2) _(9, 2) _(10, 2) \
    _(11, 2) _(12, 2) \
    _(1, 3) _(2, 3) _(3, 3) _(4, 3) _(5, 3) _(6, 3) _(7, 3) _(8, 3) \
    _(1, 4) _(2, 4) _(3, 4) _(4, 4) _(5, 4) _(6, 4)
#elif defined(PCNN_ISA_AVX2)
#define EACH_SIZE(_) \
    _(1, 1) _(2, 1) _(3, 1) _(4, 1) _(5, 1) _(6, 1) _(7, 1) _(8, 1) _(9, 1) _(10, 1) \
    _(11, 1) _(12, 1) \
    _(1, 2) _(2, 2) _(3, 2) _(4, 2) _(5, 2) _(6, 2) \
    _(1, 3) _(2, 3) _(3, 3) _(4, 3)
#else
#define EACH_SIZE(_) \
    _(1, 1) _(2, 1) _(3, 1) _(4, 1) _(5, 1) _(6, 1) _(7, 1) _(8, 1) \
    _(1, 2) _(2, 2) _(3, 2) _(4, 2)
#endif
/* clang-format on */
EACH_SIZE(ACCUMULATE)
static const accumulate_function accumulate_of_size[X_CHANNELS][DY_CHANNELS][2] = {
    EACH_SIZE(ENTRY)};

/* One part: where its tap lies inside x, and its channels of x. */
typedef struct {
    const accumulate_function *accumulate; /* of whole lines, and of halves */
    int64_t c, size, tap;
    int64_t x_offset; /* of the tap from the window's origin, in reals */
    int64_t oh0, oh1, ow0, ow1;
} part;

/* Copies a piece of dy to [blocks][rows][columns][OB][16], and adds it up for db. A plane's share
 * of a piece is too short for the processor to foresee the next one: the next rows are asked for.
 * NV, the vectors of a line that count, is a literal. */
ALWAYS_INLINE void
copy_piece(const int NV, const pcnn_conv2d_geometry *g, int64_t OB, const real *dy, real *piece,
           int64_t blocks, int64_t rows, int64_t columns, vec *bias)
{
    const int64_t plane = g->OH * g->OW * PCNN_BLOCK, ahead = rows * columns * PCNN_BLOCK;
    for (int64_t n = 0; n < blocks; n++)
        for (int64_t o = 0; o < OB; o++) {
            vec sum[VECS] = {{0}}; /* each vector of a line by itself: the sums do not wait */
            for (int64_t r = 0; r < rows; r++) {
                const real *from = dy + (n * g->OC + o) * plane + r * g->OW * PCNN_BLOCK;
                real *to = piece + ((n * rows + r) * columns * OB + o) * PCNN_BLOCK;
                for (int64_t q = 0; q < columns; q++, from += PCNN_BLOCK, to += OB * PCNN_BLOCK) {
                    UNROLL
                    for (int v = 0; v < NV; v++) {
                        if (v * VEC_BYTES % 64 == 0)
                            __builtin_prefetch(from + v * LANES + ahead);
                        vec d = vload(from + v * LANES);
                        sum[v] += d;
                        vstore(to + v * LANES, d);
                    }
                }
            }
            UNROLL
            for (int v = 1; v < NV; v++)
                sum[0] += sum[v];
            bias[o] += sum[0];
        }
}

static int64_t
minimum(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* One tile of channels of dy and one of `groups` groups of parts, over the blocks of
 * `images` images. Writes its part of dw [OC][C][KH][KW], and, when `db` is there, its part of db
 * [OC]. */
void
PCNN_K(conv2d_dw_n16)(const void *geometry, const void *x, const void *dy, void *dw, void *db,
                      int64_t images, int64_t tile, int64_t group, int64_t groups)
{
    const pcnn_conv2d_geometry *g = geometry;
    const cut cut = cut_of(g);
    const int64_t oc = pcnn_tile_begin(g->OC, cut.dy_tiles, tile);
    const int64_t OB = pcnn_tile_begin(g->OC, cut.dy_tiles, tile + 1) - oc;
    const int64_t taps = g->KH * g->KW, parts = cut.x_tiles * taps;
    const bool halves = HALF > 0 && images % PCNN_BLOCK > 0 && images % PCNN_BLOCK <= HALF_LINE;
    const int64_t whole = halves ? images / PCNN_BLOCK : pcnn_tiles(images, PCNN_BLOCK);
    const int64_t first = pcnn_tile_begin(parts, groups, group);
    const int64_t n_parts = pcnn_tile_begin(parts, groups, group + 1) - first;

    vec total[MAX_PARTS * ACCUMULATORS], bias[DY_CHANNELS];
    real piece[PIECE_BYTES / sizeof(real)];
    part part_of[MAX_PARTS];
    memset(total, 0, (size_t)(n_parts * ACCUMULATORS) * sizeof total[0]);
    memset(bias, 0, sizeof bias);
    for (int64_t p = 0; p < n_parts; p++) {
        const int64_t x_tile = (first + p) / taps, tap = (first + p) % taps;
        const int64_t i = tap / g->KW, j = tap % g->KW;
        part *at = &part_of[p];
        at->c = pcnn_tile_begin(g->C, cut.x_tiles, x_tile);
        at->size = pcnn_tile_begin(g->C, cut.x_tiles, x_tile + 1) - at->c;
        at->tap = tap;
        at->accumulate = accumulate_of_size[at->size - 1][OB - 1];
        at->x_offset = ((at->c * g->H + i - g->PT) * g->W + j - g->PL) * PCNN_BLOCK;
        pcnn_conv2d_inside(i - g->PT, g->SH, g->H, g->OH, &at->oh0, &at->oh1);
        pcnn_conv2d_inside(j - g->PL, g->SW, g->W, g->OW, &at->ow0, &at->ow1);
    }

    /* Pieces: as many columns, then rows, then blocks as fit. */
    const int64_t stride = g->SW < 4 ? g->SW : 4; /* wide steps leave lines of x out */
    const int64_t pixel = (OB + X_CHANNELS * stride) * PCNN_BLOCK * (int64_t)sizeof(real);
    const int64_t pixels = PIECE_BYTES / pixel;
    const int64_t column_cuts = pcnn_tiles(g->OW, pixels);
    const int64_t row_cuts = pcnn_tiles(g->OH, column_cuts > 1 ? 1 : pixels / g->OW);
    const int64_t more = row_cuts > 1 ? 1 : pixels / (g->OH * g->OW);
    const int64_t block_cuts = pcnn_tiles(whole, more > 1 ? more : 1); /* of whole lines */
    steps s = {
        .x_block = g->C * g->H * g->W * PCNN_BLOCK,
        .x_channel = g->H * g->W * PCNN_BLOCK,
        .x_row = g->SH * g->W * PCNN_BLOCK,
        .x_column = g->SW * PCNN_BLOCK,
    };
    const int64_t cuts = (block_cuts + halves) * row_cuts * column_cuts;
    for (int64_t at = 0; at < cuts; at++) {
        const int64_t a = at / (row_cuts * column_cuts), b = at / column_cuts % row_cuts;
        const int64_t c = at % column_cuts;
        const bool half = a == block_cuts;
        const int64_t n0 = half ? whole : pcnn_tile_begin(whole, block_cuts, a);
        const int64_t oh0 = pcnn_tile_begin(g->OH, row_cuts, b);
        const int64_t ow0 = pcnn_tile_begin(g->OW, column_cuts, c);
        const int64_t piece_blocks = half ? 1 : pcnn_tile_begin(whole, block_cuts, a + 1) - n0;
        const int64_t rows = pcnn_tile_begin(g->OH, row_cuts, b + 1) - oh0;
        const int64_t columns = pcnn_tile_begin(g->OW, column_cuts, c + 1) - ow0;
        const real *dy_piece =
            (const real *)dy + (((n0 * g->OC + oc) * g->OH + oh0) * g->OW + ow0) * PCNN_BLOCK;
        if (half)
            copy_piece(HALF, g, OB, dy_piece, piece, piece_blocks, rows, columns, bias);
        else
            copy_piece(VECS, g, OB, dy_piece, piece, piece_blocks, rows, columns, bias);
        s.dy_row = columns * OB * PCNN_BLOCK;
        s.dy_block = rows * s.dy_row;
        for (int64_t p = 0; p < n_parts; p++) {
            const part *part = &part_of[p];
            const int64_t r0 = part->oh0 > oh0 ? part->oh0 : oh0;
            const int64_t q0 = part->ow0 > ow0 ? part->ow0 : ow0;
            const int64_t r = minimum(part->oh1, oh0 + rows) - r0;
            const int64_t q = minimum(part->ow1, ow0 + columns) - q0;
            if (r <= 0 || q <= 0)
                continue;
            part->accumulate[half](&total[p * ACCUMULATORS],
                                   (const real *)x + n0 * s.x_block + part->x_offset +
                                       r0 * s.x_row + q0 * s.x_column,
                                   piece + ((r0 - oh0) * columns + q0 - ow0) * OB * PCNN_BLOCK,
                                   piece_blocks, r, q, &s);
        }
    }

    for (int64_t p = 0; p < n_parts; p++)
        for (int64_t o = 0; o < OB; o++)
            for (int64_t k = 0; k < part_of[p].size; k++)
                ((real *)dw)[((oc + o) * g->C + part_of[p].c + k) * taps + part_of[p].tap] =
                    vsum(total[p * ACCUMULATORS + o * part_of[p].size + k]);
    if (db != NULL)
        for (int64_t o = 0; o < OB; o++)
            ((real *)db)[oc + o] = vsum(bias[o]);
}
