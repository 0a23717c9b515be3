/* What the files of Winograd's convolution share: how tiles are counted and stored.
 *
 * Outputs are cut into tiles of 4x4, for dw also 6x6 (kernels 3x3), 4x4, 3x3 or 2x2 (5x5), or less
 * where a map is no multiple of that: as even as can be, the smaller ones outside, 14 into
 * 3 + 4 + 4 + 3. A tile reads PxP inputs, P = 6, 8, 8, 7 or 6. A *column* is one tile of one block of
 * 16 images: columns are numbered block after block, in a block row by row. A transformed tile has P P
 * elements e. All buffers have e outermost:
 *
 *     U[e][c][oc]         transformed weights, channels oc in tiles as the products want them
 *     V[e][column][c][16]  transformed x       M[e][column][oc][16]  products, or transformed dy
 *
 * The last element of a row (or a column) of elements, that of the point infinity, has a part in the
 * last output of a whole tile only. Tiles with fewer rows (columns) leave it out: of six points 25
 * products, or 30, instead of 36. Where the last block is not full, only the vectors that hold images
 * are computed, and in sums over images only these. What the buffers have in these places is whatever
 * it was.
 *
 * From one e to the next is a little more than the elements need, never a power of two: the
 * elements of a tile, which are read and written together, would fall on the same lines of the
 * cache. */
#ifndef PCNN_OPS_WINOGRAD_H
#define PCNN_OPS_WINOGRAD_H

#include "core/tensor.h"
#include "ops/conv2d.h"

enum {
    PCNN_WINOGRAD_PAD = 16, /* reals between the elements of a buffer */
    PCNN_WINOGRAD_STRIP = 8, /* tiles, side by side, that are transformed together, at most */
    PCNN_WINOGRAD_STRIP_OUTPUTS = 32, /* and their outputs */
    PCNN_WINOGRAD_COLUMNS = 16, /* columns that are multiplied together, at most */
    PCNN_WINOGRAD_SLOTS = 8, /* pieces of scratch memory, and so threads that can work at once */
};

/* Elements of a whole tile. */
static inline int64_t
pcnn_winograd_elements(const pcnn_conv2d_geometry *g)
{
    return (g->tile + g->KH - 1) * (g->tile + g->KH - 1);
}

static inline int64_t
pcnn_winograd_tile_rows(const pcnn_conv2d_geometry *g)
{
    return pcnn_tiles(g->OH, g->cut);
}

static inline int64_t
pcnn_winograd_tile_columns(const pcnn_conv2d_geometry *g)
{
    return pcnn_tiles(g->OW, g->cut);
}

/* Tiles of a map. */
static inline int64_t
pcnn_winograd_tiles(const pcnn_conv2d_geometry *g)
{
    return pcnn_winograd_tile_rows(g) * pcnn_winograd_tile_columns(g);
}

/* The first of n outputs, in one direction, that tile t has. Smaller tiles have smaller errors, which
 * the borders of padded maps need. */
static inline int64_t
pcnn_winograd_first(int64_t n, int64_t tiles, int64_t t)
{
    const int64_t larger = n % tiles, smaller_before = (tiles - larger + 1) / 2;
    const int64_t larger_before = t - smaller_before;
    return n / tiles * t + (larger_before < 0        ? 0
                            : larger_before < larger ? larger_before
                                                     : larger);
}

/* Where a column is: image block, the tile's first output, and its rows and columns of outputs. */
typedef struct {
    int64_t block, oh, ow, rows, columns;
} pcnn_winograd_place;

static inline pcnn_winograd_place
pcnn_winograd_place_of(const pcnn_conv2d_geometry *g, int64_t column)
{
    const int64_t down = pcnn_winograd_tile_rows(g), across = pcnn_winograd_tile_columns(g);
    const int64_t i = column % (down * across) / across, j = column % across;
    const int64_t oh = pcnn_winograd_first(g->OH, down, i),
                  ow = pcnn_winograd_first(g->OW, across, j);
    return (pcnn_winograd_place){.block = column / (down * across),
                                 .oh = oh,
                                 .ow = ow,
                                 .rows = pcnn_winograd_first(g->OH, down, i + 1) - oh,
                                 .columns = pcnn_winograd_first(g->OW, across, j + 1) - ow};
}

/* Tiles that stand side by side in one map; tile t has the outputs first[t] .. first[t + 1] - 1 from
 * the strip's own on. */
typedef struct {
    int64_t tiles, first[PCNN_WINOGRAD_STRIP + 1];
} pcnn_winograd_strip;

/* The longest strip from `column` on, before column `end`. */
static inline pcnn_winograd_strip
pcnn_winograd_strip_of(const pcnn_conv2d_geometry *g, int64_t column, int64_t end)
{
    const int64_t across = pcnn_winograd_tile_columns(g), j = column % across;
    const int64_t most = PCNN_WINOGRAD_STRIP_OUTPUTS / g->tile;
    pcnn_winograd_strip strip = {.tiles = across - j};
    strip.tiles = strip.tiles < end - column ? strip.tiles : end - column;
    strip.tiles = strip.tiles < PCNN_WINOGRAD_STRIP ? strip.tiles : PCNN_WINOGRAD_STRIP;
    strip.tiles = strip.tiles < most ? strip.tiles : most;
    for (int64_t t = 0; t <= strip.tiles; t++)
        strip.first[t] =
            pcnn_winograd_first(g->OW, across, j + t) - pcnn_winograd_first(g->OW, across, j);
    return strip;
}

/* Images of a block of a batch of N. */
static inline int64_t
pcnn_winograd_images(int64_t N, int64_t block)
{
    const int64_t images = N - block * PCNN_BLOCK;
    return images < PCNN_BLOCK ? images : PCNN_BLOCK;
}

/* Those of the columns begin .. end-1, by their numbers from 0 on, that have an element. The last
 * `partial` of them are of a block that is not full. */
typedef struct {
    int64_t count, partial;
    int32_t at[PCNN_WINOGRAD_COLUMNS];
} pcnn_winograd_list;

/* By whether the element is the last of its column, and of its row: list[i == P - 1][j == P - 1]. */
static inline void
pcnn_winograd_lists(const pcnn_conv2d_geometry *g, int64_t N, int64_t begin, int64_t end,
                    pcnn_winograd_list list[2][2])
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            list[i][j].count = list[i][j].partial = 0;
    for (int64_t column = begin; column < end; column++) {
        const pcnn_winograd_place at = pcnn_winograd_place_of(g, column);
        for (int i = 0; i <= (at.rows == g->tile); i++)
            for (int j = 0; j <= (at.columns == g->tile); j++) {
                list[i][j].at[list[i][j].count++] = (int32_t)(column - begin);
                list[i][j].partial += (at.block + 1) * PCNN_BLOCK > N;
            }
    }
}

/* Writes the tiles that a pass for N images takes into g, the geometry of the forward pass. Gives
 * why it cannot, or should not, run through Winograd's transforms; NULL: it should. */
const char *pcnn_winograd_forward(pcnn_dtype dtype, pcnn_conv2d_geometry *g, int64_t N);
const char *pcnn_winograd_dx(pcnn_dtype dtype, pcnn_conv2d_geometry *g, int64_t N);
const char *pcnn_winograd_dw(pcnn_dtype dtype, pcnn_conv2d_geometry *g, int64_t N);

/* The gradient of the weights, as an implementation of conv2d_dw. */
const char *pcnn_winograd_dw_refuse(const pcnn_site *site);
int64_t pcnn_winograd_dw_workspace(const pcnn_site *site);
pcnn_status pcnn_winograd_dw_run(const pcnn_site *site);

/* The gradient of x; geometry of the forward pass. */
int64_t pcnn_winograd_dx_bytes(pcnn_dtype dtype, const pcnn_conv2d_geometry *forward, int64_t N);
void pcnn_winograd_dx_run(pcnn_dtype dtype, const pcnn_conv2d_geometry *forward, int64_t N,
                          const void *dy, const void *w, void *dx, void *work);

/* The sum of conv2d.h for N images in N16, in `work` of pcnn_winograd_bytes. */
int64_t pcnn_winograd_bytes(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N);
void pcnn_winograd_run(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N, const void *x,
                       const void *w, const void *b, void *y, void *work);

/* Gives items 0 .. items-1 to the pool, each with a piece of scratch memory that no other uses at
 * the same time; `slot` is below the smaller of items and PCNN_WINOGRAD_SLOTS. */
typedef void (*pcnn_winograd_item)(const void *job, int64_t item, int64_t slot);
void pcnn_winograd_parallel(int64_t items, double cost_ns, pcnn_winograd_item run, const void *job);

#endif
