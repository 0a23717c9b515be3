/* The gradient of the weights and bias of a first layer, in layout N16: as conv2d_dw.kernel.c, for
 * an x of so few channels that they do not fill a register tile.
 *
 * A register tile is OB channels of dy by XB taps that are neighbours in a row of the kernel, for
 * one channel of x: XB vectors of x and OB of dy make OB * XB multiply-adds. A tap's products run
 * over the rectangle of pixels where it lies inside x. The taps of a tile share most of theirs; the
 * columns at the edges that they do not share are added tap by tap, over all rows of a block at
 * once. Nothing is multiplied by a padding.
 *
 * Pixels are cut into pieces of rows (and columns, where rows are long) that stay in the
 * first-level cache while all tiles of taps pass over them; meanwhile they ask for the lines of the
 * next piece, as memory is slower than the multiply-adds. A piece's sum starts from zero and is
 * then added to a total. Of a block with at most eight images only half of each line is read. */
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/conv2d.h"
#include "ops/conv2d_dw_tile.h"

enum {
#if defined(PCNN_ISA_AVX512)
    ACCUMULATORS = 24,
    TAPS = 4,
    CHANNELS = 8, /* of dy: each is a stream from memory */
#elif defined(PCNN_ISA_AVX2)
    ACCUMULATORS = 12,
    TAPS = 3,
    CHANNELS = 6,
#else
    ACCUMULATORS = 8, /* without FMA a product needs a register of its own */
    TAPS = 2,
    CHANNELS = 4,
#endif
    PIECE_BYTES = 20480, /* of dy and x under a piece: less than the first-level cache */
    TOTAL_BYTES = 32768,
    MAX_PARTS = TOTAL_BYTES / (ACCUMULATORS * VEC_BYTES),
    HALF_LINE = PCNN_BLOCK / 2, /* images */
    HALF = VECS / 2,            /* vectors that hold them; none where one vector is a line */
};

/* The taps of a row are cut into even tiles; with so many channels of dy to a tile at most. */
typedef struct {
    int64_t channels, tap_tiles;
} cut;

static cut
cut_of(const pcnn_conv2d_geometry *g)
{
    const int64_t tap_tiles = pcnn_tiles(g->KW, TAPS);
    const int64_t most = ACCUMULATORS / pcnn_tiles(g->KW, tap_tiles);
    return (cut){most < CHANNELS ? most : CHANNELS, tap_tiles};
}

/* Channels of dy in a tile, at most; 0: the sums of so many taps do not fit the stack. */
int64_t
PCNN_K(conv2d_dw_taps_channels)(const void *geometry)
{
    const pcnn_conv2d_geometry *g = geometry;
    const cut cut = cut_of(g);
    return g->C > MAX_PARTS || g->C * g->KH * cut.tap_tiles > MAX_PARTS ? 0 : cut.channels;
}

/* Steps in reals. */
typedef struct {
    int64_t x_row, x_column;
    int64_t dy_channel, dy_row;
} steps;

/* total[o * total_step + k] += sum over rows and columns of dy[o] * x[k], in the first NV vectors
 * of lines; OB, XB and NV are literals. From `next` and `other` on a line is asked for at every
 * pixel. */
ALWAYS_INLINE void
accumulate(const int OB, const int XB, const int NV, vec *total, int64_t total_step, const real *x,
           const real *dy, int64_t rows, int64_t columns, const steps *s, const real *next,
           const real *other)
{
    vec acc[CHANNELS][TAPS];
    UNROLL
    for (int o = 0; o < OB; o++) {
        UNROLL
        for (int k = 0; k < XB; k++)
            acc[o][k] = (vec){0};
    }
    const int64_t x_column = s->x_column, dy_channel = s->dy_channel;
    for (int64_t r = rows; r > 0; r--, x += s->x_row, dy += s->dy_row) {
        const real *x_at = x, *dy_at = dy;
        for (int64_t q = columns; q > 0; q--, x_at += x_column, dy_at += PCNN_BLOCK) {
            for (int v = 0; v < VECS * VEC_BYTES; v += 64) {
                __builtin_prefetch((const char *)next + v);
                __builtin_prefetch((const char *)other + v);
            }
            next += PCNN_BLOCK, other += PCNN_BLOCK;
            dw_pixel(OB, XB, NV, acc[0], TAPS, x_at, PCNN_BLOCK, dy_at, dy_channel);
        }
    }
    UNROLL
    for (int o = 0; o < OB; o++) {
        UNROLL
        for (int k = 0; k < XB; k++)
            total[o * total_step + k] += acc[o][k];
    }
}

typedef void (*accumulate_function)(vec *, int64_t, const real *, const real *, int64_t, int64_t,
                                    const steps *, const real *, const real *);

/* Whole lines, and halves (never called where there are none). */
#define ACCUMULATE(OB, XB)                                                                         \
    static void whole_##OB##_##XB(vec *total, int64_t total_step, const real *x, const real *dy,   \
                                  int64_t rows, int64_t columns, const steps *s, const real *next, \
                                  const real *other)                                               \
    {                                                                                              \
        accumulate(OB, XB, VECS, total, total_step, x, dy, rows, columns, s, next, other);         \
    }                                                                                              \
    static void half_##OB##_##XB(vec *total, int64_t total_step, const real *x, const real *dy,    \
                                 int64_t rows, int64_t columns, const steps *s, const real *next,  \
                                 const real *other)                                                \
    {                                                                                              \
        accumulate(OB, XB, HALF, total, total_step, x, dy, rows, columns, s, next, other);         \
    }
#define ENTRY(OB, XB) [XB - 1][OB - 1] = {whole_##OB##_##XB, half_##OB##_##XB},
/* Every OB with OB * XB <= ACCUMULATORS and OB <= CHANNELS. */
/* clang-format off */
#if defined(PCNN_ISA_AVX512)
#define EACH_SIZE(_) \
    _(1, 1) _(2, 1) _(3, 1) _(4, 1) _(5, 1) _(6, 1) _(7, 1) _(8, 1) \
    _(1, 2) _(2, 2) _(3, 2) _(4, 2) _(5, 2) _(6, 2) _(7, 2) _(8, 2) \
    _(1, 3) _(2, 3) _(3, 3) _(4, 3) _(5, 3) _(6, 3) _(7, 3) _(8, 3) \
    _(1, 4) _(2, 4) _(3, 4) _(4, 4) _(5, 4) _(6, 4)
#elif defined(PCNN_ISA_AVX2)
#define EACH_SIZE(_) \
    _(1, 1) _(2, 1) _(3, 1) _(4, 1) _(5, 1) _(6, 1) \
    _(1, 2) _(2, 2) _(3, 2) _(4, 2) _(5, 2) _(6, 2) \
    _(1, 3) _(2, 3) _(3, 3) _(4, 3)
#else
#define EACH_SIZE(_) \
    _(1, 1) _(2, 1) _(3, 1) _(4, 1) \
    _(1, 2) _(2, 2) _(3, 2) _(4, 2)
#endif
/* clang-format on */
EACH_SIZE(ACCUMULATE)
static const accumulate_function accumulate_of_size[TAPS][CHANNELS][2] = {EACH_SIZE(ENTRY)};

/* Pixels oh0 .. oh1-1, ow0 .. ow1-1 of y. */
typedef struct {
    int64_t oh0, oh1, ow0, ow1;
} rectangle;

/* A tile of taps: where they all lie inside x, and where each does. */
typedef struct {
    int64_t c, tap, size; /* of the first tap: i * KW + j */
    int64_t x_offset;     /* of the first tap from the window's origin, in reals */
    rectangle shared;
    int64_t begin[TAPS], end[TAPS]; /* columns */
} part;

static int64_t
smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t
larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static part
part_number(const pcnn_conv2d_geometry *g, int64_t tap_tiles, int64_t p)
{
    const int64_t row = p / tap_tiles, tile = p % tap_tiles; /* row: c * KH + i */
    const int64_t c = row / g->KH, i = row % g->KH;
    const int64_t j = pcnn_tile_begin(g->KW, tap_tiles, tile);
    part part = {.c = c, .tap = i * g->KW + j};
    part.size = pcnn_tile_begin(g->KW, tap_tiles, tile + 1) - j;
    part.x_offset = ((c * g->H + i - g->PT) * g->W + j - g->PL) * PCNN_BLOCK;
    part.shared.ow1 = g->OW;
    pcnn_conv2d_inside(i - g->PT, g->SH, g->H, g->OH, &part.shared.oh0, &part.shared.oh1);
    for (int64_t k = 0; k < part.size; k++) {
        pcnn_conv2d_inside(j + k - g->PL, g->SW, g->W, g->OW, &part.begin[k], &part.end[k]);
        part.shared.ow0 = larger(part.shared.ow0, part.begin[k]);
        part.shared.ow1 = smaller(part.shared.ow1, part.end[k]);
    }
    part.shared.ow1 = larger(part.shared.ow0, part.shared.ow1);
    return part;
}

/* One piece of one block. x and dy are those of the block, at the tile's first channel. */
typedef struct {
    const real *x, *dy;
    rectangle at;
    steps s;
    int64_t OB;
    bool half;
    int64_t next, other; /* where the next piece's lines are asked for, from a pixel of dy on */
} piece;

/* Adds taps first .. first+size-1 of a part over columns ow0 .. ow1-1, as far as in the piece. */
static void
add_taps(const pcnn_conv2d_geometry *g, const piece *piece, const part *part, int64_t first,
         int64_t size, int64_t ow0, int64_t ow1, vec *total)
{
    const int64_t r0 = larger(part->shared.oh0, piece->at.oh0);
    const int64_t rows = smaller(part->shared.oh1, piece->at.oh1) - r0;
    const int64_t q0 = larger(ow0, piece->at.ow0);
    const int64_t columns = smaller(ow1, piece->at.ow1) - q0;
    if (rows <= 0 || columns <= 0)
        return;
    const real *x = piece->x + part->x_offset + first * PCNN_BLOCK + r0 * piece->s.x_row +
                    q0 * piece->s.x_column;
    const real *dy = piece->dy + (r0 * g->OW + q0) * PCNN_BLOCK;
    accumulate_of_size[size - 1][piece->OB - 1][piece->half](total + first, part->size, x, dy, rows,
                                                             columns, &piece->s, dy + piece->next,
                                                             dy + piece->other);
}

/* Columns ow0 .. ow1-1, in each of which some of the taps lie inside x: neighbours. */
static void
add_edge(const pcnn_conv2d_geometry *g, const piece *piece, const part *part, int64_t ow0,
         int64_t ow1, vec *total)
{
    for (int64_t q = ow0; q < ow1; q++) {
        int64_t first = 0, end = part->size;
        while (first < end && (q < part->begin[first] || q >= part->end[first]))
            first++;
        while (first < end && (q < part->begin[end - 1] || q >= part->end[end - 1]))
            end--;
        if (first < end)
            add_taps(g, piece, part, first, end - first, q, q + 1, total);
    }
}

/* bias[o][v] += the sum over the piece of dy[o]; NV is a literal. */
ALWAYS_INLINE void
add_bias(const int NV, const piece *piece, vec bias[CHANNELS][VECS])
{
    /* Sums of neighbouring pixels: eight chains hide the latency of additions. */
    enum { CHAINS = VECS < 8 ? 8 / VECS : 1 };
    const int64_t width = (piece->at.ow1 - piece->at.ow0) * PCNN_BLOCK;
    const int64_t most = width - width % (CHAINS * PCNN_BLOCK);
    const real *dy = piece->dy + piece->at.oh0 * piece->s.dy_row + piece->at.ow0 * PCNN_BLOCK;
    for (int64_t o = 0; o < piece->OB; o++, dy += piece->s.dy_channel) {
        vec sum[CHAINS][VECS];
        UNROLL
        for (int p = 0; p < CHAINS; p++) {
            UNROLL
            for (int v = 0; v < VECS; v++)
                sum[p][v] = (vec){0};
        }
        const real *row = dy;
        for (int64_t r = piece->at.oh0; r < piece->at.oh1; r++, row += piece->s.dy_row) {
            int64_t q = 0;
            for (; q < most; q += CHAINS * PCNN_BLOCK)
                UNROLL
            for (int p = 0; p < CHAINS; p++) {
                UNROLL
                for (int v = 0; v < NV; v++)
                    sum[p][v] += vload(row + q + p * PCNN_BLOCK + v * LANES);
            }
            for (; q < width; q += PCNN_BLOCK)
                UNROLL
            for (int v = 0; v < NV; v++)
                sum[0][v] += vload(row + q + v * LANES);
        }
        UNROLL
        for (int v = 0; v < NV; v++) {
            UNROLL
            for (int p = CHAINS / 2; p > 0; p /= 2) {
                UNROLL
                for (int k = 0; k < p; k++)
                    sum[k][v] += sum[k + p][v];
            }
            bias[o][v] += sum[0][v];
        }
    }
}

/* One tile of channels of dy, over the blocks of `images` images. Writes its part of
 * dw [OC][C][KH][KW] and, when `db` is there, of db [OC]. */
void
PCNN_K(conv2d_dw_taps)(const void *geometry, const void *px, const void *pdy, void *dw, void *db,
                       int64_t images, int64_t tile)
{
    const pcnn_conv2d_geometry *g = geometry;
    const cut cut = cut_of(g);
    const int64_t tiles = pcnn_tiles(g->OC, cut.channels);
    const int64_t oc = pcnn_tile_begin(g->OC, tiles, tile);
    const int64_t taps = g->KH * g->KW, parts = g->C * g->KH * cut.tap_tiles;
    vec total[MAX_PARTS * ACCUMULATORS], bias[CHANNELS][VECS];
    part part_of[MAX_PARTS];
    memset(total, 0, (size_t)(parts * ACCUMULATORS) * sizeof total[0]);
    memset(bias, 0, sizeof bias);
    for (int64_t p = 0; p < parts; p++)
        part_of[p] = part_number(g, cut.tap_tiles, p);

    piece piece = {
        .OB = pcnn_tile_begin(g->OC, tiles, tile + 1) - oc,
        .s = {.x_row = g->SH * g->W * PCNN_BLOCK,
              .x_column = g->SW * PCNN_BLOCK,
              .dy_channel = g->OH * g->OW * PCNN_BLOCK,
              .dy_row = g->OW * PCNN_BLOCK},
    };
    /* Pieces: as many columns, then rows, as fit. Under a pixel of dy lie SH * SW pixels of x. Cut
     * as for the widest tile: bits do not depend on how channels are cut. */
    const int64_t under = smaller(g->SH, g->KH) * smaller(g->SW, g->KW);
    const int64_t pixel = (cut.channels + g->C * under) * PCNN_BLOCK * (int64_t)sizeof(real);
    const int64_t pixels = larger(PIECE_BYTES / pixel, 1);
    const int64_t column_cuts = pcnn_tiles(g->OW, pixels);
    const int64_t row_cuts = pcnn_tiles(g->OH, larger(pixels / g->OW, 1));
    for (int64_t n = 0; n * PCNN_BLOCK < images; n++) {
        piece.half = HALF > 0 && images - n * PCNN_BLOCK <= HALF_LINE;
        piece.x = (const real *)px + n * g->C * g->H * g->W * PCNN_BLOCK;
        piece.dy = (const real *)pdy + (n * g->OC + oc) * piece.s.dy_channel;
        for (int64_t cuts = 0; cuts < row_cuts * column_cuts; cuts++) {
            const int64_t a = cuts / column_cuts, b = cuts % column_cuts;
            piece.at.oh0 = pcnn_tile_begin(g->OH, row_cuts, a);
            piece.at.oh1 = pcnn_tile_begin(g->OH, row_cuts, a + 1);
            piece.at.ow0 = pcnn_tile_begin(g->OW, column_cuts, b);
            piece.at.ow1 = pcnn_tile_begin(g->OW, column_cuts, b + 1);
            const int64_t ahead = (piece.at.oh1 - piece.at.oh0) * piece.s.dy_row;
            if (piece.half)
                add_bias(HALF, &piece, bias);
            else
                add_bias(VECS, &piece, bias);
            for (int64_t p = 0; p < parts; p++) {
                const part *part = &part_of[p];
                const rectangle *shared = &part->shared;
                vec *sums = &total[p * ACCUMULATORS];
                piece.next = ahead + p % piece.OB * piece.s.dy_channel;
                piece.other = ahead + (p + parts) % piece.OB * piece.s.dy_channel;
                add_taps(g, &piece, part, 0, part->size, shared->ow0, shared->ow1, sums);
            }
        }
        /* The edges: too few columns for a call a piece. */
        piece.at = (rectangle){0, g->OH, 0, g->OW};
        piece.next = piece.other = 0;
        for (int64_t p = 0; p < parts; p++) {
            const part *part = &part_of[p];
            const rectangle *shared = &part->shared;
            vec *sums = &total[p * ACCUMULATORS];
            add_edge(g, &piece, part, 0, shared->ow0, sums);
            add_edge(g, &piece, part, shared->ow1, g->OW, sums);
        }
    }

    for (int64_t p = 0; p < parts; p++)
        for (int64_t o = 0; o < piece.OB; o++)
            for (int64_t k = 0; k < part_of[p].size; k++)
                ((real *)dw)[((oc + o) * g->C + part_of[p].c) * taps + part_of[p].tap + k] =
                    vsum(total[p * ACCUMULATORS + o * part_of[p].size + k]);
    if (db != NULL)
        for (int64_t o = 0; o < piece.OB; o++) {
            vec sum = bias[o][0];
            for (int v = 1; v < VECS; v++)
                sum += bias[o][v];
            ((real *)db)[oc + o] = vsum(sum);
        }
}
