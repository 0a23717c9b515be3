/* softmax: y = exp(x) / sum(exp(x)) along an axis; log_softmax: y = x - log(sum(exp(x))).
 *
 * Both subtract the largest number first. Their gradients read y only:
 * dx = y (dy - sum(dy y)), and for log_softmax dx = dy - exp(y) sum(dy). */
#include "ops/softmax.h"

#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/elementwise.h"

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    int axis;
    PCNN_TRY(pcnn_infer_same(call, out));
    return pcnn_normalize_axis(call, ((const pcnn_softmax_attrs *)call->attrs)->axis,
                               call->in[0].ndim, &axis);
}

typedef struct {
    const pcnn_kernels *kernels;
    const void *a, *b;
    void *out;
    int64_t n, inner; /* length of a line, and how far apart its numbers are */
    bool log;
} job;

static void
forward_task(void *context, int64_t begin, int64_t end, int worker)
{
    const job *j = context;
    (void)worker;
    j->kernels->softmax_lines(j->a, j->out, j->n, j->inner, begin, end, j->log);
}

static void
backward_task(void *context, int64_t begin, int64_t end, int worker)
{
    const job *j = context;
    (void)worker;
    j->kernels->softmax_grad_lines(j->a, j->b, j->out, j->n, j->inner, begin, end, j->log);
}

static pcnn_status
run_lines(const pcnn_site *site, pcnn_task task, bool log)
{
    const pcnn_type *type = &site->out[0].type;
    int64_t axis = ((const pcnn_softmax_attrs *)site->attrs)->axis, size = pcnn_type_size(type);
    axis += axis < 0 ? type->ndim : 0;
    if (size == 0)
        return PCNN_OK;
    job j = {pcnn_kernels_for(type->dtype),
             site->in[0].data,
             NULL,
             site->out[0].data,
             type->shape[axis],
             1,
             log};
    j.b = site->n_in > 1 ? site->in[1].data : NULL;
    for (int d = (int)axis + 1; d < type->ndim; d++)
        j.inner *= type->shape[d];
    int64_t grain = 4096 / j.n / 16 * 16 + 16;
    pcnn_parallel(size / j.n, grain, (double)size * 1.5, task, &j);
    return PCNN_OK;
}

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_softmax_attrs, axis, PCNN_ATTR_INT, "-1"),
    {0},
};

#define SOFTMAX(id, log, text, grad_text)                                                        \
    static pcnn_status run_##id(const pcnn_site *site)                                           \
    {                                                                                            \
        return run_lines(site, forward_task, log);                                               \
    }                                                                                            \
    static pcnn_status run_##id##_grad(const pcnn_site *site)                                    \
    {                                                                                            \
        return run_lines(site, backward_task, log);                                              \
    }                                                                                            \
    static pcnn_status id##_gradient(pcnn_grad *grad)                                            \
    {                                                                                            \
        return PCNN_EMIT(grad, &grad->din[0], id##_grad, grad->attrs, grad->dout[0],             \
                         grad->out[0]);                                                          \
    }                                                                                            \
    static const pcnn_impl id##_impls[] = {{"plain", 0, 0, 0, NULL, NULL, run_##id, NULL}, {0}}; \
    static const pcnn_impl id##_grad_impls[] = {                                                 \
        {"plain", 0, 0, 0, NULL, NULL, run_##id##_grad, NULL}, {0}};                             \
    const pcnn_op pcnn_op_##id = {                                                               \
        .name = #id,                                                                             \
        .doc = text "\n\nx: one dimension or more, float32 or float64; y: the same.",            \
        .n_in = 1,                                                                               \
        .params = {{"x", false}},                                                                \
        .n_out = 1,                                                                              \
        .out_names = {"y"},                                                                      \
        .attrs = attrs,                                                                          \
        .attrs_size = sizeof(pcnn_softmax_attrs),                                                \
        .saves_out = 1,                                                                          \
        .infer = infer,                                                                          \
        .gradient = id##_gradient,                                                               \
        .impls = id##_impls,                                                                     \
    };                                                                                           \
    const pcnn_op pcnn_op_##id##_grad = {                                                        \
        .name = #id "_grad",                                                                     \
        .doc = grad_text,                                                                        \
        .n_in = 2,                                                                               \
        .params = {{"dy", false}, {"y", false}},                                                 \
        .n_out = 1,                                                                              \
        .out_names = {"dx"},                                                                     \
        .attrs = attrs,                                                                          \
        .attrs_size = sizeof(pcnn_softmax_attrs),                                                \
        .flags = PCNN_OP_INTERNAL,                                                               \
        .infer = infer,                                                                          \
        .impls = id##_grad_impls,                                                                \
    };

SOFTMAX(softmax, false, "y = exp(x) / sum of exp(x) along `axis`", "dx = y (dy - sum(dy y))")
SOFTMAX(log_softmax, true, "y = x - log(sum of exp(x)) along `axis`", "dx = dy - exp(y) sum(dy)")
