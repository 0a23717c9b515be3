/* Transposition between sixteen rows and a block of layout N16, in tiles. */
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/n16_tile.h"

/* Rows of images, from position `first` on, -> one block y; lanes without an image become 0. */
void
PCNN_K(reorder_to_n16)(const void *const *px, void *y, int64_t images, const void *places,
                       int64_t first, int64_t end)
{
    const real *rows[16] = {NULL};
    for (int64_t i = 0; i < images; i++)
        rows[i] = px[i];
    if (first >= end)
        return;
    cursor at = cursor_at(places, first);
    for (int64_t q = first; q < end; q += TILE) {
        int64_t place[TILE], n = end - q < TILE ? end - q : TILE;
        next_places(places, &at, n, place);
        tile_to_n16(rows, q - first, n, images, place, y);
    }
}

/* One block x -> rows y[images][P]; positions first .. end-1. */
void
PCNN_K(reorder_to_rows)(const void *px, void *py, int64_t images, int64_t S, int64_t C,
                        int64_t first, int64_t end)
{
    const real *x = px;
    real *y = py;
    const int64_t P = S * C;
    const pcnn_places places = {.C = C, .H = 1, .W = S, .OH = 1, .OW = S};
    if (first >= end)
        return;
    cursor at = cursor_at(&places, first);
    for (int64_t q = first; q < end; q += TILE) {
        int64_t place[TILE], n = end - q < TILE ? end - q : TILE;
        next_places(&places, &at, n, place);
        for (int64_t i = 0; i < images; i += QUAD) {
            real *row = y + i * P + q;
            int64_t k = 0;
            if (i + QUAD <= images)
                for (; k + QUAD <= n; k += QUAD) {
                    quad r[QUAD];
                    for (int j = 0; j < QUAD; j++)
                        r[j] = *(const quad_unaligned *)(x + place[k + j] + i);
                    transpose_quads(r);
                    for (int j = 0; j < QUAD; j++)
                        *(quad_unaligned *)(row + j * P + k) = r[j];
                }
            for (; k < n; k++)
                for (int j = 0; j < QUAD && i + j < images; j++)
                    row[j * P + k] = x[place[k] + i + j];
        }
    }
}
