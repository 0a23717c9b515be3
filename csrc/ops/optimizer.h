/* What the optimiser steps share. */
#ifndef PCNN_OPS_OPTIMIZER_H
#define PCNN_OPS_OPTIMIZER_H

#include "ops/op.h"

enum { PCNN_STYLE_KERAS = 0, PCNN_STYLE_TORCH, PCNN_STEP_CHUNK = 16384 };

typedef struct {
    int64_t nesterov;
    int64_t style;
    int64_t first; /* torch: the momentum buffer is not filled yet */
} pcnn_sgd_attrs;

typedef struct {
    int64_t style;
} pcnn_adam_attrs;

extern const char *const pcnn_style_choices[];

/* Checks inputs 0 (the parameter) .. last_state: floats of one shape and dtype, absent ones pass;
 * that input `hyper` is float64 of shape [numbers]; and that the last input, `slope`, if it is there,
 * is one number of the parameter's dtype. */
pcnn_status pcnn_infer_step(const pcnn_call *call, int last_state, int hyper, int64_t numbers);

/* At a run: refuses NaN and infinite numbers, before anything is written. */
pcnn_status pcnn_check_hyper(const pcnn_site *site, int hyper);

/* Brings what an effect overwrites to where its output lies; usually it is there already. */
void pcnn_take_over(const pcnn_tensor *from, const pcnn_tensor *to);

#endif
