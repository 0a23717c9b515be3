/* The activations of ops/activation.h on a vector, for kernels. */
#ifndef PCNN_OPS_ACTIVATE_H
#define PCNN_OPS_ACTIVATE_H

#include "isa/vecmath.h"
#include "ops/activation.h"

ALWAYS_INLINE vec
activate(vec value, int64_t activation)
{
    switch (activation) {
    case PCNN_ACT_RELU: return vrelu(value);
    case PCNN_ACT_SIGMOID: return vsigmoid(value);
    case PCNN_ACT_TANH: return vtanh(value);
    default: return value;
    }
}

#endif
