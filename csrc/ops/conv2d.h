/* What the files of the convolution share: attributes, geometry, and the N16 and im2col drivers. */
#ifndef PCNN_OPS_CONV2D_H
#define PCNN_OPS_CONV2D_H

#include "core/tiles.h"
#include "core/tensor.h"
#include "ops/op.h"

typedef struct {
    pcnn_ints stride; /* SH, SW */
    pcnn_ints padding; /* top, bottom, left, right */
    int64_t activation; /* PCNN_ACT_...: set by the fuse pass */
} pcnn_conv2d_attrs;

typedef struct {
    pcnn_ints stride;
    pcnn_ints padding;
    pcnn_ints size; /* H, W of x: the forward pass forgets rows that no window reaches */
} pcnn_conv2d_dx_attrs;

typedef struct {
    pcnn_ints stride;
    pcnn_ints padding;
    pcnn_ints kernel; /* KH, KW */
    int64_t bias; /* db is wanted; otherwise it has no elements */
} pcnn_conv2d_dw_attrs;

/* A sliding-window sum y[oc][oh][ow] = sum over c, i, j of w[oc][c][i][j] x[c][oh*SH-PT+i][ow*SW-PL+j],
 * taps outside x left out. The forward pass is one; so is the gradient of x, for which x is dy, the
 * weights are mirrored and read through the w_ strides, and padding may be negative. */
typedef struct {
    int64_t C, H, W; /* x: [C][H][W] */
    int64_t OC, OH, OW; /* y */
    int64_t KH, KW, SH, SW, PT, PL;
    /* Where an element of y stands, in elements of 16 images (y may be a sub-grid). */
    int64_t y_channel, y_row, y_column;
    /* Where w[oc][c][i][j] stands: w_origin + oc*w_out + c*w_in + i*w_row + j*w_column. */
    int64_t w_origin, w_out, w_in, w_row, w_column;
    int64_t activation;
    /* Winograd's (winograd.h): rows of outputs of a whole tile, and where less is wanted, at most. */
    int64_t tile, cut;
} pcnn_conv2d_geometry;

/* Channels of x that the N16 kernel sums at a time, at most. */
enum { PCNN_CONV2D_CHUNK = 32 };

/* The geometry of the forward pass for checked types and attributes. */
pcnn_conv2d_geometry pcnn_conv2d_geometry_of(const pcnn_type *x, const pcnn_type *w,
                                             const pcnn_ints *stride, const pcnn_ints *padding);

/* Checks stride, padding and sizes, and computes OH and OW. */
pcnn_status pcnn_conv2d_output(const char *op, const int64_t size[2], const int64_t kernel[2],
                               const pcnn_ints *stride, const pcnn_ints *padding, int64_t out[2]);

/* The o of 0 .. n-1 with 0 <= o * stride + offset < extent: *begin .. *end-1. */
static inline void
pcnn_conv2d_inside(int64_t offset, int64_t stride, int64_t extent, int64_t n, int64_t *begin,
                   int64_t *end)
{
    const int64_t first = offset < 0 ? (-offset + stride - 1) / stride : 0;
    const int64_t last = extent - offset > 0 ? (extent - offset + stride - 1) / stride : 0;
    *begin = first < n ? first : n;
    *end = last < *begin ? *begin : last < n ? last : n;
}

/* conv2d_n16.c: runs the sum for N images in N16. `packed` holds the weights in the kernel's order
 * and has room for pcnn_conv2d_packed_bytes. */
int64_t pcnn_conv2d_packed_bytes(pcnn_dtype dtype, const pcnn_conv2d_geometry *g);
void pcnn_conv2d_n16_run(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N, const void *x,
                         const void *w, const void *b, void *y, void *packed);

/* The same tile by tile, with the channels of y cut evenly into `tiles`, none wider than the kernel
 * takes: packing for all, which returns their rough cost in ns; and one of one block. */
double pcnn_conv2d_n16_pack(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N,
                            const void *w, int64_t tiles, void *packed);
void pcnn_conv2d_n16_fill(pcnn_dtype dtype, const pcnn_conv2d_geometry *g, int64_t N, const void *x,
                          const void *b, const void *packed, int64_t block, int64_t tile,
                          int64_t tiles, void *planes);

/* conv2d_rows.c: the forward pass in plain layout, for small batches. */
int64_t pcnn_conv2d_rows_workspace(const pcnn_site *site);
pcnn_status pcnn_conv2d_rows_run(const pcnn_site *site);

/* conv2d_im2col.c: implementations through matrix products, in plain layout. */
const char *pcnn_conv2d_im2col_refuse(const pcnn_site *site);
int64_t pcnn_conv2d_im2col_workspace(const pcnn_site *site);
pcnn_status pcnn_conv2d_im2col(const pcnn_site *site);
const char *pcnn_conv2d_dx_im2col_refuse(const pcnn_site *site);
int64_t pcnn_conv2d_dx_im2col_workspace(const pcnn_site *site);
pcnn_status pcnn_conv2d_dx_im2col(const pcnn_site *site);
const char *pcnn_conv2d_dw_im2col_refuse(const pcnn_site *site);
int64_t pcnn_conv2d_dw_im2col_workspace(const pcnn_site *site);
pcnn_status pcnn_conv2d_dw_im2col(const pcnn_site *site);

#endif
