/* Attributes of elementwise ops of one operand: passes that fuse these ops read them. */
#ifndef PCNN_OPS_UNARY_H
#define PCNN_OPS_UNARY_H

#include "ops/op.h"

typedef struct {
    double slope;
} pcnn_leaky_relu_attrs;

typedef struct {
    double alpha;
} pcnn_elu_attrs;

#endif
