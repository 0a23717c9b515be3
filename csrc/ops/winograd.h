/* What the files of Winograd's convolution share: how tiles are counted and stored.
 *
 * Outputs are cut into tiles of 4x4 (kernels 3x3) or 2x2 (5x5); a tile reads 6x6 inputs. A *column*
 * is one tile of one block of 16 images: columns are numbered block after block, in a block row by
 * row. A transformed tile has 6x6 = 36 elements e. All buffers have e outermost:
 *
 *     U[e][c][oc]         transformed weights, channels oc in tiles as the products want them
 *     V[e][column][c][16]  transformed x       M[e][column][oc][16]  products, or transformed dy
 *
 * Where the last block is not full, only the vectors that hold images are computed, and in sums
 * over images only these; what the buffers have behind is whatever it was.
 *
 * From one e to the next is a little more than the elements need, never a power of two: the 36
 * elements of a tile, which are read and written together, would fall on the same lines of the
 * cache. */
#ifndef PCNN_OPS_WINOGRAD_H
#define PCNN_OPS_WINOGRAD_H

#include "core/tensor.h"
#include "ops/conv2d.h"

enum {
    PCNN_WINOGRAD_ELEMENTS = 36,
    PCNN_WINOGRAD_PAD = 16, /* reals between the elements of a buffer */
    PCNN_WINOGRAD_STRIP = 8, /* tiles, side by side, that are transformed together, at most */
    PCNN_WINOGRAD_SLOTS = 8, /* pieces of scratch memory, and so threads that can work at once */
};

/* Rows, and columns, of outputs of a tile. */
static inline int64_t
pcnn_winograd_tile(const pcnn_conv2d_geometry *g)
{
    return 7 - g->KH;
}

static inline int64_t
pcnn_winograd_tile_columns(const pcnn_conv2d_geometry *g)
{
    return pcnn_tiles(g->OW, pcnn_winograd_tile(g));
}

/* Tiles of a map. */
static inline int64_t
pcnn_winograd_tiles(const pcnn_conv2d_geometry *g)
{
    return pcnn_tiles(g->OH, pcnn_winograd_tile(g)) * pcnn_winograd_tile_columns(g);
}

/* Where a column is: image block and the tile's first output. */
typedef struct {
    int64_t block, oh, ow;
} pcnn_winograd_place;

static inline pcnn_winograd_place
pcnn_winograd_place_of(const pcnn_conv2d_geometry *g, int64_t column)
{
    const int64_t tiles = pcnn_winograd_tiles(g), across = pcnn_winograd_tile_columns(g);
    const int64_t tile = column % tiles, size = pcnn_winograd_tile(g);
    return (pcnn_winograd_place){column / tiles, tile / across * size, tile % across * size};
}

/* Tiles that stand side by side in one map: this many from `column` on, before column `end`. */
static inline int64_t
pcnn_winograd_strip_of(const pcnn_conv2d_geometry *g, int64_t column, int64_t end)
{
    const int64_t across = pcnn_winograd_tile_columns(g);
    int64_t tiles = across - column % across;
    tiles = tiles < end - column ? tiles : end - column;
    return tiles < PCNN_WINOGRAD_STRIP ? tiles : PCNN_WINOGRAD_STRIP;
}

/* Images of a block of a batch of N. */
static inline int64_t
pcnn_winograd_images(int64_t N, int64_t block)
{
    const int64_t images = N - block * PCNN_BLOCK;
    return images < PCNN_BLOCK ? images : PCNN_BLOCK;
}

/* How many of the columns begin .. end-1, at their end, are of a block that is not full. */
static inline int64_t
pcnn_winograd_partial_columns(const pcnn_conv2d_geometry *g, int64_t N, int64_t begin, int64_t end)
{
    const int64_t full = N / PCNN_BLOCK * pcnn_winograd_tiles(g);
    return full < begin ? end - begin : full < end ? end - full : 0;
}

/* Why Winograd's transforms cannot, or should not, run a pass of this convolution; NULL: they can.
 * `terms` are summed between the transforms (channels, or pixels of all images); `least` of them
 * keep errors within what is promised of float32 kernels, measured on random numbers. */
const char *pcnn_winograd_refuse(pcnn_dtype dtype, const pcnn_conv2d_geometry *forward, int64_t N,
                                 int64_t terms, int64_t least);
const char *pcnn_winograd_forward_refuse(pcnn_dtype dtype, const pcnn_conv2d_geometry *g,
                                         int64_t N);
const char *pcnn_winograd_dx_refuse(pcnn_dtype dtype, const pcnn_conv2d_geometry *forward,
                                    int64_t N);
const char *pcnn_winograd_dw_refuse(const pcnn_site *site);
int64_t pcnn_winograd_dw_workspace(const pcnn_site *site);
pcnn_status pcnn_winograd_dw(const pcnn_site *site);

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
