/* The activations that conv2d and dense can apply to a result while it is warm.
 *
 * The values are those of the attribute `activation`, which the plan's fuse pass sets. The formulas
 * are those of the elementwise ops (isa/vecmath.h), so that fused and unfused give the same bits. */
#ifndef PCNN_OPS_ACTIVATION_H
#define PCNN_OPS_ACTIVATION_H

enum { PCNN_ACT_NONE = 0, PCNN_ACT_RELU, PCNN_ACT_SIGMOID, PCNN_ACT_TANH };

#endif
