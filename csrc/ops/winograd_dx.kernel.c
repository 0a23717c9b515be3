/* The gradient of a convolution's input through the adjoint of Winograd's transforms:
 *
 *     dx = B [sum over oc of U[oc][c] (A dy A')] B'   for each tile of dy
 *
 * and tiles are added where they overlap. The forward transforms with mirrored weights would give
 * it too, but at the edges, where dx is a sum of few products, they take the difference of large
 * numbers; and they need tiles for all of dx, which is larger than dy when nothing is padded. The
 * products are those of the forward pass. */
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/winograd.h"
#include "ops/winograd_tile.h"

static int64_t
minimum(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t
maximum(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Columns begin .. end-1 of dy into D[e][column - begin][oc][16]. */
void
PCNN_K(winograd_dx_input)(const void *geometry, const void *dy, void *D, int64_t step,
                          int64_t begin, int64_t end)
{
    const pcnn_conv2d_geometry *g = geometry;
    const int64_t row = g->OW * PCNN_BLOCK, plane = g->OH * row;
    real *to = D;
    real patch[4][4][PCNN_BLOCK];
    for (int64_t column = begin; column < end; column++) {
        const pcnn_winograd_place at = pcnn_winograd_place_of(g, column);
        const int64_t rows = minimum(g->OH - at.oh, 4), columns = minimum(g->OW - at.ow, 4);
        const bool inside = rows == 4 && columns == 4;
        const real *from =
            (const real *)dy + at.block * g->OC * plane + at.oh * row + at.ow * PCNN_BLOCK;
        if (!inside)
            memset(patch, 0, sizeof patch);
        for (int64_t oc = 0; oc < g->OC; oc++, from += plane, to += PCNN_BLOCK)
            for (int v = 0; v < VECS; v++) {
                if (inside) {
                    winograd_transform_dy(from + v * LANES, row, to + v * LANES, step);
                    continue;
                }
                for (int64_t i = 0; i < rows; i++)
                    for (int64_t j = 0; j < columns; j++)
                        vstore(&patch[i][j][v * LANES],
                               vload(from + i * row + j * PCNN_BLOCK + v * LANES));
                winograd_transform_dy(&patch[0][0][v * LANES], 4 * PCNN_BLOCK, to + v * LANES,
                                      step);
            }
    }
}

/* Adds B R B' to the 6x6 numbers of dx that the tile reads in the forward pass, those that exist:
 * rows i0 .. i1-1, columns j0 .. j1-1. */
ALWAYS_INLINE void
add_tile(const real *R, int64_t step, real *dx, int64_t row, int64_t i0, int64_t i1, int64_t j0,
         int64_t j1, ivec lanes)
{
    vec half[6][6];
    UNROLL
    for (int j = 0; j < 6; j++) {
        vec column[6], d[6];
        UNROLL
        for (int i = 0; i < 6; i++)
            column[i] = vload(R + (6 * i + j) * step);
        winograd_input_adjoint(column, d);
        UNROLL
        for (int i = 0; i < 6; i++)
            half[i][j] = d[i];
    }
    for (int64_t i = i0; i < i1; i++) {
        vec d[6];
        winograd_input_adjoint(half[i], d);
        real *to = dx + i * row;
        UNROLL
        for (int j = 0; j < 6; j++)
            if (j >= j0 && j < j1)
                vstore(to + j * PCNN_BLOCK,
                       vselect(lanes, vload(to + j * PCNN_BLOCK) + d[j], (vec){0}));
    }
}

/* Adds columns begin .. end-1, channels c0 .. c1-1, of R[e][column - begin][c - c0][16] to dx. */
void
PCNN_K(winograd_dx_output)(const void *geometry, const void *R, int64_t step, void *dx, int64_t N,
                           int64_t begin, int64_t end, int64_t c0, int64_t c1)
{
    const pcnn_conv2d_geometry *g = geometry;
    const int64_t row = g->W * PCNN_BLOCK, plane = g->H * row;
    const real *from = R;
    for (int64_t column = begin; column < end; column++) {
        const pcnn_winograd_place at = pcnn_winograd_place_of(g, column);
        const int64_t h = at.oh - g->PT, w = at.ow - g->PL, images = N - at.block * PCNN_BLOCK;
        const int64_t i0 = maximum(-h, 0), i1 = minimum(g->H - h, 6);
        const int64_t j0 = maximum(-w, 0), j1 = minimum(g->W - w, 6);
        real *to = (real *)dx + (at.block * g->C + c0) * plane + h * row + w * PCNN_BLOCK;
        for (int64_t c = c0; c < c1; c++, from += PCNN_BLOCK, to += plane)
            for (int v = 0; v < VECS; v++) {
                const ivec lanes = vlanes_below(v * LANES, images);
                if (j0 == 0 && j1 == 6)
                    add_tile(from + v * LANES, step, to + v * LANES, row, i0, i1, 0, 6, lanes);
                else
                    add_tile(from + v * LANES, step, to + v * LANES, row, i0, i1, j0, j1, lanes);
            }
    }
}
