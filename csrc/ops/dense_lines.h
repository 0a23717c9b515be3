/* The products of a dense layer over lines of sixteen images; see dense_lines.c. */
#ifndef PCNN_OPS_DENSE_LINES_H
#define PCNN_OPS_DENSE_LINES_H

#include "core/tensor.h"
#include "ops/dense_maps.h"

/* Maps (x, dx) are in layout N16, in the order that `g` says; y, dy, w and dw are rows. Each has a
 * workspace of so many bytes. */
int64_t pcnn_dense_lines_workspace(pcnn_dtype dtype, const pcnn_dense_maps *g);
int64_t pcnn_dense_lines_dx_workspace(pcnn_dtype dtype, const pcnn_dense_maps *g);
int64_t pcnn_dense_lines_dw_workspace(pcnn_dtype dtype, const pcnn_dense_maps *g);
void pcnn_dense_lines_forward(pcnn_dtype dtype, const pcnn_dense_maps *g, const void *x,
                              const void *w, const void *b, int64_t activation, void *y,
                              void *work);
void pcnn_dense_lines_dx(pcnn_dtype dtype, const pcnn_dense_maps *g, const void *dy, const void *w,
                         void *dx, void *work);
void pcnn_dense_lines_dw(pcnn_dtype dtype, const pcnn_dense_maps *g, const void *x, const void *dy,
                         void *dw, void *work);

/* The same products with x and dx in rows [N, I]. */
typedef enum { PCNN_DENSE_FORWARD, PCNN_DENSE_DX, PCNN_DENSE_DW } pcnn_dense_pass;

int64_t pcnn_dense_rows_workspace(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O,
                                  pcnn_dense_pass pass);
void pcnn_dense_rows_forward(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O, const void *x,
                             const void *w, const void *b, int64_t activation, void *y, void *work);
void pcnn_dense_rows_dx(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O, const void *dy,
                        const void *w, void *dx, void *work);
void pcnn_dense_rows_dw(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O, const void *x,
                        const void *dy, void *dw, void *work);

/* Whether a layer's three products are computed in this way: batches that fill a line, and dy in a
 * size that the caches hold. All decide alike, whatever the layout of x. */
enum { PCNN_DENSE_LINES_MAX = 1 << 20 };
bool pcnn_dense_lines_suit(int64_t N, int64_t I, int64_t O);

#endif
