/* 0..n-1 (channels, rows, blocks) cut into the fewest tiles of at most `most`, as even as can be:
 * tile t of `tiles` begins at n * t / tiles. Even tiles matter: a tile of one channel would leave
 * the FMA units idle. */
#ifndef PCNN_CORE_TILES_H
#define PCNN_CORE_TILES_H

#include <stdint.h>

static inline int64_t
pcnn_tiles(int64_t n, int64_t most)
{
    return (n + most - 1) / most;
}

static inline int64_t
pcnn_tile_begin(int64_t n, int64_t tiles, int64_t t)
{
    return n * t / tiles;
}

#endif
