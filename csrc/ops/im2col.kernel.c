/* The pieces around matrix products in plain layout: im2col and its transpose for convolutions,
 * bias and activation, and the ordered sum of partial results. */
#include "isa/kernels.h"
#include "ops/activate.h"
#include "ops/conv2d.h"

/* columns[c, i, j][oh, ow] = x[c][oh*SH-PT+i][ow*SW-PL+j], 0 outside. */
void
PCNN_K(im2col)(const void *geometry, const void *x, void *columns)
{
    const pcnn_conv2d_geometry *g = geometry;
    const int64_t SW = g->SW, OW = g->OW;
    real *to = columns;
    for (int64_t c = 0; c < g->C; c++)
        for (int64_t i = 0; i < g->KH; i++)
            for (int64_t j = 0; j < g->KW; j++) {
                int64_t begin, end;
                pcnn_conv2d_inside(j - g->PL, SW, g->W, OW, &begin, &end);
                for (int64_t oh = 0; oh < g->OH; oh++, to += OW) {
                    const int64_t h = oh * g->SH - g->PT + i;
                    if (h < 0 || h >= g->H || begin == end) {
                        memset(to, 0, (size_t)OW * sizeof(real));
                        continue;
                    }
                    const real *from = (const real *)x + (c * g->H + h) * g->W + j - g->PL;
                    memset(to, 0, (size_t)begin * sizeof(real));
                    if (SW == 1)
                        memcpy(to + begin, from + begin, (size_t)(end - begin) * sizeof(real));
                    else
                        for (int64_t ow = begin; ow < end; ow++)
                            to[ow] = from[ow * SW];
                    memset(to + end, 0, (size_t)(OW - end) * sizeof(real));
                }
            }
}

/* x[c][h][w] = the sum of the columns that im2col copies it to. */
void
PCNN_K(col2im)(const void *geometry, const void *columns, void *x)
{
    const pcnn_conv2d_geometry *g = geometry;
    const int64_t SW = g->SW, OW = g->OW;
    const real *from = columns;
    memset(x, 0, (size_t)(g->C * g->H * g->W) * sizeof(real));
    for (int64_t c = 0; c < g->C; c++)
        for (int64_t i = 0; i < g->KH; i++)
            for (int64_t j = 0; j < g->KW; j++) {
                int64_t begin, end;
                pcnn_conv2d_inside(j - g->PL, SW, g->W, OW, &begin, &end);
                for (int64_t oh = 0; oh < g->OH; oh++, from += OW) {
                    const int64_t h = oh * g->SH - g->PT + i;
                    if (h < 0 || h >= g->H)
                        continue;
                    real *to = (real *)x + (c * g->H + h) * g->W + j - g->PL;
                    for (int64_t ow = begin; ow < end; ow++)
                        to[ow * SW] += from[ow];
                }
            }
}

void
PCNN_K(bias_activation)(void *y, int64_t rows, int64_t columns, int64_t y_row, const void *b,
                        int64_t b_row, int64_t b_column, int64_t activation)
{
    for (int64_t r = 0; r < rows; r++) {
        real *row = (real *)y + r * y_row;
        const real *bias = (const real *)b + (b ? r * b_row : 0);
        for (int64_t c = 0; c < columns; c += LANES) {
            const int64_t n = columns - c < LANES ? columns - c : LANES;
            vec value = n == LANES ? vload(row + c) : vload_partial(row + c, n);
            if (b && b_column)
                value += n == LANES ? vload(bias + c) : vload_partial(bias + c, n);
            else if (b)
                value += vset(*bias);
            value = activate(value, activation);
            if (n == LANES)
                vstore(row + c, value);
            else
                vstore_partial(row + c, value, n);
        }
    }
}

void
PCNN_K(sum_parts)(const void *from, int64_t parts, int64_t step, int64_t n, void *to)
{
    for (int64_t i = 0; i < n; i += LANES) {
        const real *part = (const real *)from + i;
        if (n - i >= LANES) {
            vec sum = vload(part);
            for (int64_t p = 1; p < parts; p++)
                sum += vload(part + p * step);
            vstore((real *)to + i, sum);
        }
        else {
            vec sum = vload_partial(part, n - i);
            for (int64_t p = 1; p < parts; p++)
                sum += vload_partial(part + p * step, n - i);
            vstore_partial((real *)to + i, sum, n - i);
        }
    }
}
