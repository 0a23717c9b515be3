/* The sliding-window sum of a kernel three columns wide, of stride 1, where x has few channels: for
 * conv2d.kernel.c, first layers.
 *
 * A register tile is one output channel by PB neighbouring pixels. A row of the kernel lies in
 * registers; the columns of x under it pass by once, and each is multiplied by all weights that it
 * meets: PB + 2 lines of x and 3 weights for 3 * PB multiply-adds a vector, where a tile of channels
 * loads a weight for each line. Around so few taps, asking and looping cost as much as they: PB is a
 * literal, and a row of all channels of y is two calls. For the same reason sums start from the bias:
 * an addition at the end waits for the last products, and the next tile's products behind it.
 *
 * Every output channel reads the same rows of x, so they have to stay in the first-level cache: x
 * has few channels. A column outside x is left out, which only tiles at the edges ask. */
#ifndef PCNN_OPS_CONV2D_COLUMNS_H
#define PCNN_OPS_CONV2D_COLUMNS_H

#include "isa/vecmath.h"
#include "ops/activation.h"
#include "ops/conv2d.h"

enum {
    COLUMNS = 3,
/* Registers that hold sums; the others are for the weights of a row and a column of x. */
#if defined(PCNN_ISA_AVX512)
    COLUMN_PIXELS = 14 / VECS,
#elif defined(PCNN_ISA_AVX2)
    COLUMN_PIXELS = 12 / VECS,
#else
    COLUMN_PIXELS = 8 / VECS,
#endif
    MOST_ROWS = 9, /* of taps, in all channels: with more, tiles of channels are as fast */
    COLUMN_BYTES = 24576, /* of x under a row of y */
};

/* Steps in reals. */
typedef struct {
    int64_t C, rows; /* taps */
    int64_t OC;
    int64_t x_channel, x_row, w_channel, w_row, y_channel;
    int64_t begin, end; /* columns from the tile's first on that are inside x; for the edges */
    const real *b;
    bool relu;
} columns;

/* n tiles side by side of each channel of y; PB and EDGE are literals. */
ALWAYS_INLINE void
column_tiles(const int PB, const bool EDGE, const columns *t, const real *x_line, const real *w,
             real *y_line, int64_t n)
{
    const int64_t w_column = t->OC;
    for (int64_t o = 0; o < t->OC; o++, w++, y_line += t->y_channel) {
        const real *x = x_line;
        real *y = y_line;
        for (int64_t k = n; k > 0; k--, x += PB * PCNN_BLOCK, y += PB * PCNN_BLOCK) {
            const vec bias = vset(t->b ? t->b[o] : 0);
            vec acc[COLUMN_PIXELS][VECS];
            UNROLL
            for (int p = 0; p < PB; p++) {
                UNROLL
                for (int v = 0; v < VECS; v++)
                    acc[p][v] = bias;
            }
            const real *x_plane = x, *w_plane = w;
            for (int64_t c = t->C; c > 0; c--, x_plane += t->x_channel, w_plane += t->w_channel) {
                const real *x_row = x_plane, *w_row = w_plane;
                for (int64_t i = t->rows; i > 0; i--, x_row += t->x_row, w_row += t->w_row) {
                    vec weight[COLUMNS];
                    UNROLL
                    for (int j = 0; j < COLUMNS; j++)
                        weight[j] = vset(w_row[j * w_column]);
                    UNROLL
                    for (int q = 0; q < PB - 1 + COLUMNS; q++) {
                        if (EDGE && (q < t->begin || q >= t->end))
                            continue;
                        UNROLL
                        for (int v = 0; v < VECS; v++) {
                            vec value = vload(x_row + q * PCNN_BLOCK + v * LANES);
                            UNROLL
                            for (int p = 0; p < PB; p++)
                                if (q >= p && q < p + COLUMNS)
                                    acc[p][v] = vfma(value, weight[q - p], acc[p][v]);
                        }
                    }
                }
            }
            UNROLL
            for (int p = 0; p < PB; p++) {
                UNROLL
                for (int v = 0; v < VECS; v++)
                    vstore(y + p * PCNN_BLOCK + v * LANES, t->relu ? vrelu(acc[p][v]) : acc[p][v]);
            }
        }
    }
}

typedef void (*column_function)(const columns *, const real *, const real *, real *, int64_t);

/* Tiles inside and at an edge. */
#define COLUMN_TILES(PB)                                                                         \
    static void inside_##PB(const columns *t, const real *x, const real *w, real *y, int64_t n)  \
    {                                                                                            \
        column_tiles(PB, false, t, x, w, y, n);                                                  \
    }                                                                                            \
    static void at_edge_##PB(const columns *t, const real *x, const real *w, real *y, int64_t n) \
    {                                                                                            \
        column_tiles(PB, true, t, x, w, y, n);                                                   \
    }
/* The sizes of even tiles of rows that are not shorter than the largest one. */
#if defined(PCNN_ISA_AVX512) && defined(PCNN_REAL_F32)
#define EACH_COLUMN_SIZE(_) _(7) _(8) _(9) _(10) _(11) _(12) _(13) _(14)
#elif defined(PCNN_ISA_AVX512)
#define EACH_COLUMN_SIZE(_) _(4) _(5) _(6) _(7)
#elif defined(PCNN_ISA_AVX2) && defined(PCNN_REAL_F32)
#define EACH_COLUMN_SIZE(_) _(3) _(4) _(5) _(6)
#elif defined(PCNN_ISA_AVX2)
#define EACH_COLUMN_SIZE(_) _(1) _(2) _(3)
#elif defined(PCNN_REAL_F32)
#define EACH_COLUMN_SIZE(_) _(1) _(2)
#else
#define EACH_COLUMN_SIZE(_) _(1)
#endif
EACH_COLUMN_SIZE(COLUMN_TILES)
#define COLUMN_ENTRY(PB) [PB - 1] = {inside_##PB, at_edge_##PB},
static const column_function columns_of_size[][2] = {EACH_COLUMN_SIZE(COLUMN_ENTRY)};
_Static_assert(sizeof columns_of_size / sizeof columns_of_size[0] == COLUMN_PIXELS,
               "a size is missing");

static bool
columns_accept(const pcnn_conv2d_geometry *g)
{
    return g->KW == COLUMNS && g->SW == 1 && g->y_column == 1 && g->OW >= COLUMN_PIXELS &&
           g->C * g->KH <= MOST_ROWS &&
           g->C * g->KH * g->W * PCNN_BLOCK * (int64_t)sizeof(real) <= COLUMN_BYTES;
}

/* Rows oh0 .. oh1-1 of OC channels of y; weights are packed [c][i][j][OC]. */
static void
column_rows(const pcnn_conv2d_geometry *g, int64_t OC, const real *x, const real *w, const real *b,
            real *y, int64_t oh0, int64_t oh1)
{
    columns t = {
        .C = g->C,
        .OC = OC,
        .x_channel = g->H * g->W * PCNN_BLOCK,
        .x_row = g->W * PCNN_BLOCK,
        .w_channel = g->KH * COLUMNS * OC,
        .w_row = COLUMNS * OC,
        .y_channel = g->y_channel * PCNN_BLOCK,
        .b = b,
        .relu = g->activation == PCNN_ACT_RELU,
    };
    const int64_t tiles = pcnn_tiles(g->OW, COLUMN_PIXELS);
    const int64_t small = g->OW / tiles, larger = g->OW % tiles; /* that have a pixel more */
    for (int64_t oh = oh0; oh < oh1; oh++) {
        const int64_t ih = oh * g->SH - g->PT;
        const int64_t i0 = ih < 0 ? (-ih < g->KH ? -ih : g->KH) : 0;
        const int64_t i1 = g->H - ih < g->KH ? g->H - ih : g->KH;
        const real *x_line = x + ((ih + i0) * g->W - g->PL) * PCNN_BLOCK;
        real *y_line = y + oh * g->y_row * PCNN_BLOCK;
        t.rows = i1 - i0;
        for (int64_t k = 0, ow = 0, n; k < tiles; k += n) {
            const int64_t PB = k < larger ? small + 1 : small;
            const int64_t last = g->W + g->PL - (PB - 1 + COLUMNS); /* where a tile is inside x */
            const bool edge = ow < g->PL || ow > last;
            n = (k < larger ? larger : tiles) - k;
            if (edge)
                n = 1;
            else if (ow + (n - 1) * PB > last)
                n = (last - ow) / PB + 1;
            t.begin = g->PL - ow;
            t.end = g->W + g->PL - ow;
            columns_of_size[PB - 1][edge](&t, x_line + ow * PCNN_BLOCK, w + i0 * t.w_row,
                                          y_line + ow * PCNN_BLOCK, n);
            ow += n * PB;
        }
    }
}

#endif
