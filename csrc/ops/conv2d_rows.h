/* Convolution in plain layout with vectors along the rows: what driver and kernel share. */
#ifndef PCNN_OPS_CONV2D_ROWS_H
#define PCNN_OPS_CONV2D_ROWS_H

#include <stdint.h>

/* Sums over positions: row oh of y begins at position oh * pitch of the source, and
 *
 *     y[oc][oh][ow] = activation(b[oc] + sum over k of w[oc][k] source[offset[k] + oh*pitch + ow]).
 *
 * The source has PCNN_ROWS_SLACK readable elements behind what the sums need. */
typedef struct {
    int64_t taps; /* the extent of k: C KH KW */
    const int64_t *offset;
    int64_t OC, OH, OW, pitch;
    int64_t activation;
} pcnn_conv2d_rows;

enum {
    PCNN_ROWS_STRIP = 256, /* positions of a work item, at most */
    PCNN_ROWS_SLACK = 64,
};

#endif
