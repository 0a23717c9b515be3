/* y = the index of the largest number along an axis, int64; x's shape without that axis.
 *
 * Of equal numbers the first counts, and the first NaN counts as the largest, as in NumPy. It has
 * no gradient. */
#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/reduce.h"

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_type *x = &call->in[0];
    char text[PCNN_SHAPE_TEXT];
    int axis;
    PCNN_TRY(pcnn_expect_float(call, 0));
    PCNN_TRY(
        pcnn_normalize_axis(call, ((const pcnn_argmax_attrs *)call->attrs)->axis, x->ndim, &axis));
    if (x->shape[axis] == 0)
        return pcnn_fail(PCNN_ERR_VALUE, "argmax: x has shape %s: axis %d is empty",
                         pcnn_shape_text(x, text), axis);
    out->dtype = PCNN_I64;
    out->ndim = 0;
    for (int d = 0; d < x->ndim; d++)
        if (d != axis)
            out->shape[out->ndim++] = x->shape[d];
    return PCNN_OK;
}

typedef struct {
    const pcnn_kernels *kernels;
    const void *x;
    int64_t *y;
    int64_t n, inner;
} job;

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    const job *j = context;
    (void)worker;
    j->kernels->argmax_range(j->x, j->n, j->inner, begin, end, j->y);
}

static pcnn_status
run(const pcnn_site *site)
{
    const pcnn_type *x = &site->in[0].type;
    int64_t axis = ((const pcnn_argmax_attrs *)site->attrs)->axis;
    axis += axis < 0 ? x->ndim : 0;
    job j = {pcnn_kernels_for(x->dtype), site->in[0].data, site->out[0].data, x->shape[axis], 1};
    for (int d = (int)axis + 1; d < x->ndim; d++)
        j.inner *= x->shape[d];
    int64_t outputs = pcnn_type_size(&site->out[0].type);
    int64_t grain = 8192 / j.n + 1;
    if (outputs > 0)
        pcnn_parallel(outputs, grain < outputs ? grain : outputs, (double)(outputs * j.n), task,
                      &j);
    return PCNN_OK;
}

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_argmax_attrs, axis, PCNN_ATTR_INT, "-1"),
    {0},
};

static const pcnn_impl impls[] = {
    {"plain", 0, 0, 0, NULL, NULL, run, NULL},
    {0},
};

const pcnn_op pcnn_op_argmax = {
    .name = "argmax",
    .doc = "y = index of the largest number along `axis`\n\nx: one dimension or more, float32 or "
           "float64; y: int64, x's shape without that axis. Of equal numbers the first counts.",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_argmax_attrs),
    .infer = infer,
    .impls = impls,
};
