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

/* D = A dy A' for one tile of rows x columns pixels. */
ALWAYS_INLINE void
transform_tile(const int T, const int K, const real *dy, int64_t row, int64_t plane, int64_t rows,
               int64_t columns, int64_t live, real *D, int64_t step)
{
    _Alignas(64) real half[4][WINOGRAD_POINTS][PCNN_BLOCK];
    const int P = winograd_points(T, K);
    NO_UNROLL
    for (int j = 0; j < T; j++)
        for (int64_t v = 0; v < live; v += LANES) {
            vec d[WINOGRAD_OUTPUTS], r[WINOGRAD_POINTS];
            UNROLL
            for (int i = 0; i < T; i++) {
                const real *pixel = dy + i * row + j * PCNN_BLOCK;
                const bool exists = i < rows && j < columns;
                d[i] = exists ? vload(pixel + v) : (vec){0};
                if (exists && v == 0)
                    winograd_prefetch(pixel, plane);
            }
            winograd_output_adjoint(T, K, d, r);
            UNROLL
            for (int i = 0; i < P; i++)
                vstore(&half[j][i][v], r[i]);
        }
    const int64_t points = rows == T ? P : P - 1;
    NO_UNROLL
    for (int64_t i = 0; i < points; i++, D += P * step)
        for (int64_t v = 0; v < live; v += LANES) {
            vec d[WINOGRAD_OUTPUTS], r[WINOGRAD_POINTS];
            UNROLL
            for (int j = 0; j < T; j++)
                d[j] = vload(&half[j][i][v]);
            winograd_output_adjoint(T, K, d, r);
            UNROLL
            for (int j = 0; j < P; j++)
                vstore(D + j * step + v, r[j]);
        }
}

ALWAYS_INLINE void
transform_dy(const int T, const int K, const pcnn_conv2d_geometry *g, const real *dy, real *D,
             int64_t step, int64_t N, int64_t begin, int64_t end)
{
    const int64_t row = g->OW * PCNN_BLOCK, plane = g->OH * row, D_column = g->OC * PCNN_BLOCK;
    for (int64_t column = begin, tiles; column < end; column += tiles) {
        const pcnn_winograd_place at = pcnn_winograd_place_of(g, column);
        const pcnn_winograd_strip strip = pcnn_winograd_strip_of(g, column, end);
        tiles = strip.tiles;
        const int64_t live = winograd_live(pcnn_winograd_images(N, at.block));
        const real *from = dy + at.block * g->OC * plane + at.oh * row + at.ow * PCNN_BLOCK;
        real *to = D + (column - begin) * D_column;
        for (int64_t oc = 0; oc < g->OC; oc++, from += plane, to += PCNN_BLOCK) {
            for (int64_t t = 0; t < tiles; t++) {
                const int64_t columns = strip.first[t + 1] - strip.first[t];
                const real *tile = from + strip.first[t] * PCNN_BLOCK;
                real *D_tile = to + t * D_column;
                if (at.rows == T && columns == T)
                    transform_tile(T, K, tile, row, plane, T, T, live, D_tile, step);
                else if (at.rows == T && columns == T - 1)
                    transform_tile(T, K, tile, row, plane, T, T - 1, live, D_tile, step);
                else if (at.rows == T - 1 && columns == T)
                    transform_tile(T, K, tile, row, plane, T - 1, T, live, D_tile, step);
                else if (at.rows == T - 1 && columns == T - 1)
                    transform_tile(T, K, tile, row, plane, T - 1, T - 1, live, D_tile, step);
                else
                    transform_tile(T, K, tile, row, plane, at.rows, columns, live, D_tile, step);
            }
        }
    }
}

/* Columns begin .. end-1 of dy into D[e][column - begin][oc][16]. */
void
PCNN_K(winograd_dx_input)(const void *geometry, const void *dy, void *D, int64_t step, int64_t N,
                          int64_t begin, int64_t end)
{
    const pcnn_conv2d_geometry *g = geometry;
    WINOGRAD_CALL(transform_dy, g, dy, D, step, N, begin, end);
}

/* Adds B R B' of tiles side by side, columns begin .. end-1, to dx. Columns of pixels that tiles
 * share are added before they are transformed along the rows. Tiles come in order, so that what
 * neither the tiles above nor those to the left reach is stored, and dx needs no clearing. */
ALWAYS_INLINE void
add_tiles(const int T, const int K, const pcnn_conv2d_geometry *g, const real *R, int64_t step,
          real *dx, int64_t N, int64_t begin, int64_t end, int64_t c0, int64_t c1)
{
    const int P = winograd_points(T, K), SHARED = P - T; /* pixels that neighbouring tiles share */
    const int64_t row = g->W * PCNN_BLOCK, plane = g->H * row, R_column = (c1 - c0) * PCNN_BLOCK;
    _Alignas(64)
        real half[PCNN_WINOGRAD_STRIP_OUTPUTS + WINOGRAD_TAPS - 1][WINOGRAD_POINTS][PCNN_BLOCK];
    for (int64_t column = begin, tiles; column < end; column += tiles) {
        const pcnn_winograd_place at = pcnn_winograd_place_of(g, column);
        const pcnn_winograd_strip strip = pcnn_winograd_strip_of(g, column, end);
        tiles = strip.tiles;
        const int64_t h = at.oh - g->PT, w = at.ow - g->PL;
        const int64_t images = pcnn_winograd_images(N, at.block), live = winograd_live(images);
        const bool whole_rows = at.rows == T;
        const int64_t points = whole_rows ? P : P - 1;
        const int64_t i0 = maximum(-h, 0), i1 = minimum(g->H - h, points);
        const int64_t j0 = maximum(-w, 0), j1 = minimum(g->W - w, strip.first[tiles] + SHARED);
        const bool top = at.oh == 0, left = at.ow == 0, partial = images < PCNN_BLOCK;
        ivec lanes[VECS];
        for (int v = 0; v < VECS; v++)
            lanes[v] = vlanes_below(v * LANES, images);
        real *to = dx + (at.block * g->C + c0) * plane + h * row + w * PCNN_BLOCK;
        const real *from = R + (column - begin) * R_column;
        for (int64_t c = c0; c < c1; c++, from += PCNN_BLOCK, to += plane) {
            for (int64_t t = 0; t < tiles; t++) {
                const real *tile = from + t * R_column;
                const bool whole = strip.first[t + 1] - strip.first[t] == T;
                NO_UNROLL
                for (int64_t i = 0; i < points; i++, tile += P * step)
                    for (int64_t v = 0; v < live; v += LANES) {
                        vec r[WINOGRAD_POINTS], d[WINOGRAD_POINTS];
                        UNROLL
                        for (int j = 0; j < P - 1; j++)
                            r[j] = vload(tile + j * step + v);
                        r[P - 1] = whole ? vload(tile + (P - 1) * step + v) : (vec){0};
                        winograd_input_adjoint(T, K, r, d);
                        /* A smaller tile's last pixel is the next one's, or nobody's. */
                        UNROLL
                        for (int j = 0; j < P; j++) {
                            real *sum = &half[strip.first[t] + j][i][v];
                            vstore(sum, t > 0 && j < SHARED ? vload(sum) + d[j] : d[j]);
                        }
                    }
            }
            for (int64_t j = j0; j < j1; j++) {
                const bool old = !left && j < SHARED; /* the strip to the left reached it */
                for (int64_t v = 0; v < live; v += LANES) {
                    vec r[WINOGRAD_POINTS], d[WINOGRAD_POINTS];
                    UNROLL
                    for (int i = 0; i < P - 1; i++)
                        r[i] = vload(&half[j][i][v]);
                    r[P - 1] = whole_rows ? vload(&half[j][P - 1][v]) : (vec){0};
                    winograd_input_adjoint(T, K, r, d);
                    UNROLL
                    for (int i = 0; i < P; i++)
                        if (i >= i0 && i < i1) {
                            real *sum = to + i * row + j * PCNN_BLOCK + v;
                            vec value = d[i];
                            if (old || (!top && i < SHARED))
                                value += vload(sum);
                            if (partial)
                                value = vselect(lanes[v / LANES], value, (vec){0});
                            vstore(sum, value);
                            if (v == 0)
                                winograd_prefetch(sum, plane);
                        }
                }
                for (int64_t v = live; v < PCNN_BLOCK; v += LANES)
                    for (int64_t i = i0; i < i1; i++)
                        vstore(to + i * row + j * PCNN_BLOCK + v, (vec){0});
            }
        }
    }
}

/* Adds columns begin .. end-1, which follow those of the call before, channels c0 .. c1-1, of
 * R[e][column - begin][c - c0][16] to dx. */
void
PCNN_K(winograd_dx_output)(const void *geometry, const void *R, int64_t step, void *dx, int64_t N,
                           int64_t begin, int64_t end, int64_t c0, int64_t c1)
{
    const pcnn_conv2d_geometry *g = geometry;
    WINOGRAD_CALL(add_tiles, g, R, step, dx, N, begin, end, c0, c1);
}
