/* Checks that the optimiser steps share; and assign_, the plainest of all effects. */
#include "ops/optimizer.h"

#include <math.h>
#include <string.h>

#include "core/parallel.h"

const char *const pcnn_style_choices[] = {"keras", "torch", NULL};
const char *const pcnn_clip_choices[] = {"none", "factor", "norm", "value", NULL};

/* Input i, which may be absent, is one number of the parameter's dtype. */
static pcnn_status
expect_number(const pcnn_call *call, int i)
{
    char text[PCNN_SHAPE_TEXT];
    if (i >= call->n_in || !pcnn_type_present(&call->in[i]))
        return PCNN_OK;
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, i));
    if (call->in[i].ndim != 0)
        return pcnn_fail(PCNN_ERR_SHAPE, "%s: %s must be one number, of shape (), got %s",
                         call->op->name, pcnn_param_name(call, i),
                         pcnn_shape_text(&call->in[i], text));
    return PCNN_OK;
}

static pcnn_status
check_clip(const pcnn_call *call, int first, int64_t clip)
{
    const int needed = clip == PCNN_CLIP_NONE ? 0 : clip == PCNN_CLIP_FACTOR ? 1 : 2;
    for (int k = 0; k < 2; k++) {
        const int i = first + k;
        const bool given = i < call->n_in && pcnn_type_present(&call->in[i]);
        if (given != (k < needed))
            return pcnn_fail(PCNN_ERR_VALUE, "%s: clip='%s' takes %s: %s %s", call->op->name,
                             pcnn_clip_choices[clip],
                             needed == 0   ? "no numbers"
                             : needed == 1 ? "one number, clip_a"
                                           : "two numbers, clip_a and clip_b",
                             call->op->params[i].name, given ? "must be None" : "is missing");
        PCNN_TRY(expect_number(call, i));
    }
    return PCNN_OK;
}

pcnn_status
pcnn_infer_step(const pcnn_call *call, int last_state, int hyper, int64_t numbers, int64_t clip)
{
    char text[PCNN_SHAPE_TEXT], other[PCNN_SHAPE_TEXT];
    PCNN_TRY(pcnn_expect_float(call, 0));
    for (int i = 1; i <= last_state; i++) {
        if (!pcnn_type_present(&call->in[i]))
            continue;
        PCNN_TRY(pcnn_expect_same_dtype(call, 0, i));
        if (!pcnn_shape_equal(&call->in[0], &call->in[i]))
            return pcnn_fail(PCNN_ERR_SHAPE, "%s: %s must have the shape of param, %s, got %s",
                             call->op->name, pcnn_param_name(call, i),
                             pcnn_shape_text(&call->in[0], text),
                             pcnn_shape_text(&call->in[i], other));
    }
    if (call->in[hyper].dtype != PCNN_F64)
        return pcnn_fail(PCNN_ERR_TYPE, "%s: hyper must be float64, got %s", call->op->name,
                         pcnn_dtype_name(call->in[hyper].dtype));
    PCNN_TRY(pcnn_expect_shape1(call, hyper, numbers, "learning rate first"));
    PCNN_TRY(expect_number(call, hyper + PCNN_STEP_SLOPE));
    return check_clip(call, hyper + PCNN_STEP_CLIP_A, clip);
}

pcnn_step_gradient
pcnn_step_gradient_of(const pcnn_site *site, int hyper, int64_t clip)
{
    pcnn_step_gradient gradient = {NULL, NULL, NULL, clip};
    const void **numbers[] = {&gradient.slope, &gradient.a, &gradient.b};
    for (int k = 0; k < 3; k++) {
        const int i = hyper + PCNN_STEP_SLOPE + k;
        if (i < site->n_in && pcnn_type_present(&site->in[i].type))
            *numbers[k] = site->in[i].data;
    }
    return gradient;
}

pcnn_status
pcnn_check_hyper(const pcnn_site *site, int hyper)
{
    const double *numbers = site->in[hyper].data;
    for (int64_t i = 0; i < site->in[hyper].type.shape[0]; i++)
        if (!isfinite(numbers[i]))
            return pcnn_fail(PCNN_ERR_VALUE, "%s: hyper[%lld] must be a finite number, got %g",
                             site->op->name, (long long)i, numbers[i]);
    return PCNN_OK;
}

void
pcnn_take_over(const pcnn_tensor *from, const pcnn_tensor *to)
{
    int64_t bytes = pcnn_layout_bytes(&to->type, PCNN_PLAIN);
    if (from->data != to->data && bytes > 0)
        memcpy(to->data, from->data, (size_t)bytes);
}

/* ---- assign_ ---- */

static pcnn_status
infer_assign(const pcnn_call *call, pcnn_type *out)
{
    char text[PCNN_SHAPE_TEXT], other[PCNN_SHAPE_TEXT];
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    if (!pcnn_shape_equal(&call->in[0], &call->in[1]))
        return pcnn_fail(PCNN_ERR_SHAPE, "assign_: value must have the shape of target, %s, got %s",
                         pcnn_shape_text(&call->in[0], text), pcnn_shape_text(&call->in[1], other));
    out[0] = call->in[0];
    return PCNN_OK;
}

typedef struct {
    const char *from;
    char *to;
    int64_t bytes;
} copy;

enum { COPY_CHUNK = 1 << 17 };

static void
copy_task(void *context, int64_t begin, int64_t end, int worker)
{
    const copy *c = context;
    int64_t from = begin * COPY_CHUNK, to = end * COPY_CHUNK;
    to = to < c->bytes ? to : c->bytes;
    (void)worker;
    memcpy(c->to + from, c->from + from, (size_t)(to - from));
}

static pcnn_status
run_assign(const pcnn_site *site)
{
    copy c = {site->in[1].data, site->out[0].data,
              pcnn_layout_bytes(&site->out[0].type, PCNN_PLAIN)};
    if (c.bytes > 0 && c.from != c.to)
        pcnn_parallel((c.bytes + COPY_CHUNK - 1) / COPY_CHUNK, 1, (double)c.bytes * 0.1, copy_task,
                      &c);
    return PCNN_OK;
}

static const pcnn_impl assign_impls[] = {{"plain", 0, 0, 0, NULL, NULL, run_assign, NULL}, {0}};

const pcnn_op pcnn_op_assign_ = {
    .name = "assign_",
    .doc = "target = value, in place\n\ntarget, value: any dtype and shape, the same; y: target.",
    .n_in = 2,
    .params = {{"target", false}, {"value", false}},
    .n_out = 1,
    .out_names = {"y"},
    .writes = {1},
    .infer = infer_assign,
    .impls = assign_impls,
};
