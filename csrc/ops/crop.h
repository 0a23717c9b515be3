/* The attributes of crop and pad, which are each other's gradient. */
#ifndef PCNN_OPS_CROP_H
#define PCNN_OPS_CROP_H

#include "ops/op.h"

typedef struct {
    pcnn_ints start, shape; /* one entry an axis */
} pcnn_crop_attrs;

typedef struct {
    pcnn_ints pads; /* before, after; a pair an axis */
    double value;
} pcnn_pad_attrs;

#endif
