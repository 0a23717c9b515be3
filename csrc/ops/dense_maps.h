/* What dense_maps and its gradients share with their kernels and with the plan. */
#ifndef PCNN_OPS_DENSE_MAPS_H
#define PCNN_OPS_DENSE_MAPS_H

#include "core/tiles.h"
#include <stdint.h>

#include "ops/op.h"

typedef struct {
    int64_t channels_last; /* rows of w in the order (pixel, channel), else (channel, pixel) */
    int64_t activation;
} pcnn_dense_maps_attrs;

typedef struct {
    int64_t channels_last;
    pcnn_ints maps; /* C, H, W */
} pcnn_dense_maps_dx_attrs;

typedef struct {
    int64_t channels_last;
} pcnn_dense_maps_dw_attrs;

/* A call: images, channels, pixels of a map, outputs. */
typedef struct {
    int64_t N, C, S, O;
    int64_t channels_last;
} pcnn_dense_maps;

#endif
