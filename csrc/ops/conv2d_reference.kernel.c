/* The convolution's three sums as they are defined, in plain layout: to be read, and to be compared
 * with. One image a call in the first two; dw and db sum over all N. */
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/conv2d.h"

/* x[c][h][w] or 0 outside: what padding means. */
static real
at(const pcnn_conv2d_geometry *g, const real *x, int64_t c, int64_t h, int64_t w)
{
    return h >= 0 && h < g->H && w >= 0 && w < g->W ? x[(c * g->H + h) * g->W + w] : 0;
}

void
PCNN_K(conv2d_reference)(const void *geometry, const void *x, const void *w, const void *b, void *y)
{
    const pcnn_conv2d_geometry *g = geometry;
    for (int64_t oc = 0; oc < g->OC; oc++)
        for (int64_t oh = 0; oh < g->OH; oh++)
            for (int64_t ow = 0; ow < g->OW; ow++) {
                const real *weight = (const real *)w + oc * g->C * g->KH * g->KW;
                double sum = 0;
                for (int64_t c = 0; c < g->C; c++)
                    for (int64_t i = 0; i < g->KH; i++)
                        for (int64_t j = 0; j < g->KW; j++)
                            sum += (double)*weight++ * (double)at(g, x, c, oh * g->SH - g->PT + i,
                                                                  ow * g->SW - g->PL + j);
                if (b != NULL)
                    sum += (double)((const real *)b)[oc];
                ((real *)y)[(oc * g->OH + oh) * g->OW + ow] = (real)sum;
            }
}

void
PCNN_K(conv2d_dx_reference)(const void *geometry, const void *dy, const void *w, void *dx)
{
    const pcnn_conv2d_geometry *g = geometry;
    memset(dx, 0, (size_t)(g->C * g->H * g->W) * sizeof(real));
    for (int64_t oc = 0; oc < g->OC; oc++)
        for (int64_t oh = 0; oh < g->OH; oh++)
            for (int64_t ow = 0; ow < g->OW; ow++) {
                const real d = ((const real *)dy)[(oc * g->OH + oh) * g->OW + ow];
                const real *weight = (const real *)w + oc * g->C * g->KH * g->KW;
                for (int64_t c = 0; c < g->C; c++)
                    for (int64_t i = 0; i < g->KH; i++)
                        for (int64_t j = 0; j < g->KW; j++, weight++) {
                            int64_t h = oh * g->SH - g->PT + i, v = ow * g->SW - g->PL + j;
                            if (h >= 0 && h < g->H && v >= 0 && v < g->W)
                                ((real *)dx)[(c * g->H + h) * g->W + v] += d * *weight;
                        }
            }
}

void
PCNN_K(conv2d_dw_reference)(const void *geometry, const void *x, const void *dy, void *dw,
                            int64_t N)
{
    const pcnn_conv2d_geometry *g = geometry;
    real *out = dw;
    for (int64_t oc = 0; oc < g->OC; oc++)
        for (int64_t c = 0; c < g->C; c++)
            for (int64_t i = 0; i < g->KH; i++)
                for (int64_t j = 0; j < g->KW; j++) {
                    double sum = 0;
                    for (int64_t n = 0; n < N; n++) {
                        const real *xn = (const real *)x + n * g->C * g->H * g->W;
                        const real *d = (const real *)dy + (n * g->OC + oc) * g->OH * g->OW;
                        for (int64_t oh = 0; oh < g->OH; oh++)
                            for (int64_t ow = 0; ow < g->OW; ow++)
                                sum += (double)*d++ * (double)at(g, xn, c, oh * g->SH - g->PT + i,
                                                                 ow * g->SW - g->PL + j);
                    }
                    *out++ = (real)sum;
                }
}

void
PCNN_K(conv2d_db)(const void *geometry, const void *dy, void *db, int64_t N)
{
    const pcnn_conv2d_geometry *g = geometry;
    const int64_t pixels = g->OH * g->OW;
    for (int64_t oc = 0; oc < g->OC; oc++) {
        double sum = 0;
        for (int64_t n = 0; n < N; n++) {
            const real *d = (const real *)dy + (n * g->OC + oc) * pixels;
            vec lanes = {0};
            int64_t p = 0;
            for (; p + LANES <= pixels; p += LANES)
                lanes += vload(d + p);
            lanes += vload_partial(d + p, pixels - p);
            sum += (double)vsum(lanes);
        }
        ((real *)db)[oc] = (real)sum;
    }
}
