/* Attributes of softmax and log_softmax, for the ops whose gradients record them. */
#ifndef PCNN_OPS_SOFTMAX_H
#define PCNN_OPS_SOFTMAX_H

#include "ops/op.h"

typedef struct {
    int64_t axis;
} pcnn_softmax_attrs;

typedef struct {
    int64_t classes;
} pcnn_nll_grad_attrs;

#endif
