/* cast: y = x in another dtype; between float dtypes the gradient is cast back. */
#include "core/parallel.h"
#include "ops/convert.h"
#include "ops/op.h"

typedef struct {
    int64_t dtype;
} cast_attrs;

static const pcnn_attr attrs[] = {
    PCNN_ATTR(cast_attrs, dtype, PCNN_ATTR_DTYPE, NULL),
    {NULL, 0, 0, NULL, NULL},
};

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const cast_attrs *a = call->attrs;
    *out = call->in[0];
    if (a->dtype >= PCNN_N_DTYPES)
        return pcnn_fail(PCNN_ERR_TYPE, "cast: unknown dtype");
    if (a->dtype >= 0)
        out->dtype = (pcnn_dtype)a->dtype;
    return PCNN_OK;
}

static pcnn_status
gradient(pcnn_grad *grad)
{
    const pcnn_dtype dtype = pcnn_value_type(grad->in[0])->dtype;
    if (!grad->wanted[0] || !pcnn_is_float(dtype))
        return PCNN_OK;
    cast_attrs back = {.dtype = dtype};
    return PCNN_EMIT(grad, &grad->din[0], cast, &back, grad->dout[0]);
}

enum { PIECE = 1 << 14 };

typedef struct {
    pcnn_dtype from, to;
    const char *x;
    char *y;
    int64_t size;
} job;

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    const int64_t x_bytes = (int64_t)pcnn_dtype_size(job->from) * PIECE;
    const int64_t y_bytes = (int64_t)pcnn_dtype_size(job->to) * PIECE;
    for (int64_t i = begin; i < end; i++) {
        int64_t left = job->size - i * PIECE;
        pcnn_convert(job->to, job->y + i * y_bytes, job->from, job->x + i * x_bytes,
                     left < PIECE ? left : PIECE);
    }
}

static pcnn_status
run(const pcnn_site *site)
{
    const pcnn_tensor *x = &site->in[0], *y = &site->out[0];
    job job = {x->type.dtype, y->type.dtype, x->data, y->data,
               pcnn_layout_size(&x->type, x->layout)};
    pcnn_parallel((job.size + PIECE - 1) / PIECE, 1, (double)job.size, task, &job);
    return PCNN_OK;
}

static const char *
refuse_n16(const pcnn_site *site)
{
    const pcnn_type *x = &site->in[0].type, *y = &site->out[0].type;
    return x->ndim == 4 && pcnn_is_float(x->dtype) && pcnn_is_float(y->dtype)
               ? NULL
               : "not of rank 4 and between float dtypes";
}

static const pcnn_impl impls[] = {
    {.name = "n16", .n16_in = 1, .n16_out = 1, .in_place = 1, .refuse = refuse_n16, .run = run},
    {.name = "reference", .in_place = 1, .run = run},
    {.name = NULL},
};

const pcnn_op pcnn_op_cast = {
    .name = "cast",
    .doc = "y = x converted to `dtype`.\n"
           "\n"
           "x of any shape. Real to integer: towards zero (NaN becomes 0, what leaves int64 its\n"
           "nearest end); integer to a shorter one: modulo; to bool: whether it is not 0.\n"
           "Gradients pass between float dtypes.",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(cast_attrs),
    .flags = PCNN_OP_FOLLOWS,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};
