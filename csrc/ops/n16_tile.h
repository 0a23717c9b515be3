/* From rows of images to a block of layout N16, in tiles, for kernels: where the positions of a row
 * lie in the maps, and the transposition of sixteen rows.
 *
 * A tile is TILE positions of sixteen images; inside it, squares of 128 bits are transposed in
 * registers. Four (two) rows are finished before the next ones: the rows of images whose size is a
 * power of two compete for the same lines of the first cache. */
#ifndef PCNN_OPS_N16_TILE_H
#define PCNN_OPS_N16_TILE_H

#include "isa/vec.h"
#include "ops/quad.h"
#include "ops/reorder.h"

enum { TILE = 16 };

/* A position of a row on its way through the maps: channel, column, line of a plane, and the place
 * of its pixel among the pixels of all planes. */
typedef struct {
    int64_t c, w, h, at;
} cursor;

ALWAYS_INLINE cursor
cursor_at(const pcnn_places *p, int64_t q)
{
    const int64_t s = q / p->C, line = s / p->W;
    cursor at = {.c = q % p->C, .w = s % p->W, .h = line % p->H};
    at.at = (line / p->H * p->OH + at.h + p->top) * p->OW + at.w + p->left;
    return at;
}

/* To the first channel of the pixel that is n columns on: in the same line, or where the next one
 * begins. */
ALWAYS_INLINE void
cursor_move(const pcnn_places *p, cursor *at, int64_t n)
{
    at->c = 0;
    at->at += n;
    at->w += n;
    if (at->w < p->W)
        return;
    at->w = 0;
    at->at += p->OW - p->W;
    if (++at->h < p->H)
        return;
    at->h = 0;
    at->at += (p->OH - p->H) * p->OW;
}

/* The places of the next n positions in a block, in elements. */
ALWAYS_INLINE void
next_places(const pcnn_places *p, cursor *at, int64_t n, int64_t place[TILE])
{
    const int64_t plane = p->OH * p->OW;
    for (int64_t k = 0; k < n; k++) {
        place[k] = (at->c * plane + at->at) * 16;
        if (++at->c == p->C)
            cursor_move(p, at, 1);
    }
}

/* Numbers k0 .. k0+n-1 of the rows to their places in a block y; lanes without an image become 0. */
ALWAYS_INLINE void
tile_to_n16(const real *const *rows, int64_t k0, int64_t n, int64_t images, const int64_t *place,
            real *y)
{
    for (int64_t i = 0; i < 16; i += QUAD) {
        int64_t k = 0;
        if (i + QUAD <= images)
            for (; k + QUAD <= n; k += QUAD) {
                quad r[QUAD];
                for (int j = 0; j < QUAD; j++)
                    r[j] = *(const quad_unaligned *)(rows[i + j] + k0 + k);
                transpose_quads(r);
                for (int j = 0; j < QUAD; j++)
                    *(quad_unaligned *)(y + place[k + j] + i) = r[j];
            }
        else if (i >= images)
            for (; k < n; k++)
                *(quad_unaligned *)(y + place[k] + i) = (quad){0};
        for (; k < n; k++)
            for (int j = 0; j < QUAD; j++)
                y[place[k] + i + j] = i + j < images ? rows[i + j][k0 + k] : 0;
    }
}

#endif
