/* What the optimiser steps share. */
#ifndef PCNN_OPS_OPTIMIZER_H
#define PCNN_OPS_OPTIMIZER_H

#include "ops/op.h"

enum { PCNN_STYLE_KERAS = 0, PCNN_STYLE_TORCH };

/* Elements of a piece, and how many pieces a thread takes at once. */
enum { PCNN_STEP_PIECE = 1024, PCNN_STEP_GRAIN = 8 };

/* What a step makes of its gradient before it uses it, in terms of clip_a and clip_b: nothing, g a,
 * (g a) / b, min(max(g, a), b). */
enum { PCNN_CLIP_NONE = 0, PCNN_CLIP_FACTOR, PCNN_CLIP_NORM, PCNN_CLIP_VALUE };

typedef struct {
    int64_t nesterov;
    int64_t style;
    int64_t first; /* torch: the momentum buffer is not filled yet */
    int64_t clip;
} pcnn_sgd_attrs;

typedef struct {
    int64_t style;
    int64_t clip;
} pcnn_adam_attrs;

extern const char *const pcnn_style_choices[];
extern const char *const pcnn_clip_choices[];

/* The last inputs of every step, from behind `hyper`. */
enum { PCNN_STEP_SLOPE = 1, PCNN_STEP_CLIP_A, PCNN_STEP_CLIP_B };
#define PCNN_STEP_DOC                                                                          \
    "slope: one number of param's dtype or None, grad + slope * param then stands for grad. "  \
    "clip: what becomes of that before the step, with the numbers clip_a and clip_b, also of " \
    "param's dtype: 'factor' g * clip_a, 'norm' g * clip_a / clip_b, 'value' "                 \
    "min(max(g, clip_a), clip_b)."

/* How a kernel gets the gradient g that it uses from the one in memory: g + slope * param, then what
 * `clip` says. One number each, of the parameter's type; slope may be NULL. */
typedef struct {
    const void *slope, *a, *b;
    int64_t clip;
} pcnn_step_gradient;

pcnn_step_gradient pcnn_step_gradient_of(const pcnn_site *site, int hyper, int64_t clip);

/* Checks inputs 0 (the parameter) .. last_state: floats of one shape and dtype, absent ones pass;
 * that input `hyper` is float64 of shape [numbers]; and that the inputs behind it, where they are
 * there, are one number of the parameter's dtype, and are there where `clip` needs them. */
pcnn_status pcnn_infer_step(const pcnn_call *call, int last_state, int hyper, int64_t numbers,
                            int64_t clip);

/* At a run: refuses NaN and infinite numbers, before anything is written. */
pcnn_status pcnn_check_hyper(const pcnn_site *site, int hyper);

/* Brings what an effect overwrites to where its output lies; usually it is there already. */
void pcnn_take_over(const pcnn_tensor *from, const pcnn_tensor *to);

#endif
