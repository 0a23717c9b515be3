/* What the ops of max pooling share. */
#ifndef PCNN_OPS_MAX_POOL2D_H
#define PCNN_OPS_MAX_POOL2D_H

#include "ops/pool2d.h"

/* `relu_input` is set by the plan's passes: x was made by relu, whose gradient follows. */
typedef struct {
    pcnn_window2d window;
    int64_t relu_input;
} pcnn_max_pool2d_grad_attrs;
extern const pcnn_attr pcnn_max_pool2d_grad_attr_list[];

typedef struct {
    pcnn_window2d window;
    int64_t height, width; /* of x */
} pcnn_max_pool2d_scatter_attrs;

/* Positions in a window are numbered 0 .. KH*KW-1 in row-major order and kept in a signed byte; the
 * number -1 says that no gradient flows. */
enum { PCNN_MAX_POOL2D_TAPS = 127 };

/* The type of the positions for a y of shape N,C,OH,OW: bytes [ceil(N/16)][C][OH][OW][16], as y lies
 * in layout N16, whatever the layout of y is. */
pcnn_type pcnn_max_pool2d_index_type(const pcnn_type *y);

#endif
