/* pad: y = x with `value` before and after it along every axis.
 *
 * Any dtype; pads = (before0, after0, before1, after1, ...). Backward crops the gradient.
 * Not handled: negative pads (crop with slice), reflection. */
#include <math.h>
#include <string.h>

#include "core/parallel.h"
#include "ops/box.h"
#include "ops/convert.h"
#include "ops/crop.h"

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_pad_attrs, pads, PCNN_ATTR_INTS, NULL),
    PCNN_ATTR(pcnn_pad_attrs, value, PCNN_ATTR_REAL, "0.0"),
    {NULL, 0, 0, NULL, NULL},
};

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_pad_attrs *a = call->attrs;
    const pcnn_type *x = &call->in[0];
    char text[PCNN_SHAPE_TEXT];
    if (a->pads.n != 2 * x->ndim)
        return pcnn_fail(PCNN_ERR_VALUE,
                         "pad: pads must have a pair (before, after) for each of the %d dimensions "
                         "of x (shape %s), got %lld numbers",
                         x->ndim, pcnn_shape_text(x, text), (long long)a->pads.n);
    *out = *x;
    for (int64_t i = 0; i < a->pads.n; i++) {
        int64_t pad = a->pads.at[i];
        if (pad < 0)
            return pcnn_fail(PCNN_ERR_VALUE, "pad: pads must not be negative, got %lld",
                             (long long)pad);
        if (__builtin_add_overflow(out->shape[i / 2], pad, &out->shape[i / 2]))
            return pcnn_fail(PCNN_ERR_SHAPE, "pad: the result is too large");
    }
    if (!pcnn_is_float(x->dtype)) {
        double largest = x->dtype == PCNN_BOOL ? 1 : x->dtype == PCNN_U8 ? UINT8_MAX : INT32_MAX;
        double least = x->dtype == PCNN_I32 || x->dtype == PCNN_I64 ? INT32_MIN : 0;
        if (!(a->value >= least && a->value <= largest && a->value == floor(a->value)))
            return pcnn_fail(PCNN_ERR_VALUE, "pad: value %g does not fit dtype %s", a->value,
                             pcnn_dtype_name(x->dtype));
    }
    return PCNN_OK;
}

static pcnn_status
gradient(pcnn_grad *grad)
{
    if (!grad->wanted[0])
        return PCNN_OK;
    const pcnn_pad_attrs *a = grad->attrs;
    const pcnn_type *x = pcnn_value_type(grad->in[0]);
    pcnn_crop_attrs crop = {.start = {.n = x->ndim}, .shape = {.n = x->ndim}};
    for (int i = 0; i < x->ndim; i++) {
        crop.start.at[i] = a->pads.at[2 * i];
        crop.shape.at[i] = x->shape[i];
    }
    return PCNN_EMIT(grad, &grad->din[0], crop, &crop, grad->dout[0]);
}

/* Items are rows of y (its last axis): padding alone, or padding, a row of x, padding. */
typedef struct {
    const pcnn_ints *pads;
    pcnn_storage_view x, y;
    const char *source;
    char *target;
    bool zero; /* all bytes of the value are 0 */
    /* The value as an item; in N16 the last block's has zeros in the lanes without an image. */
    int64_t last_block;
    char item[PCNN_BLOCK * sizeof(double)], last_item[PCNN_BLOCK * sizeof(double)];
} job;

static char *
fill(const job *job, const char *item, char *target, int64_t n)
{
    const int64_t size = job->y.itemsize;
    if (job->zero)
        memset(target, 0, (size_t)(n * size));
    else
        for (int64_t i = 0; i < n; i++)
            memcpy(target + i * size, item, (size_t)size);
    return target + n * size;
}

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    const int last = job->y.ndim - 1;
    const int64_t columns = job->x.shape[last];
    char *target = job->target + begin * job->y.shape[last] * job->y.itemsize;
    for (int64_t row = begin; row < end; row++) {
        int64_t rest = row, offset = 0, block = row;
        bool inside = true;
        for (int i = last; i-- > 0; rest /= job->y.shape[i]) {
            int64_t at = rest % job->y.shape[i] - job->pads->at[2 * i];
            inside = inside && at >= 0 && at < job->x.shape[i];
            offset += at * job->x.strides[i];
            if (i == 0)
                block = at;
        }
        const char *item = block == job->last_block ? job->last_item : job->item;
        if (!inside) {
            target = fill(job, item, target, job->y.shape[last]);
            continue;
        }
        target = fill(job, item, target, job->pads->at[2 * last]);
        memcpy(target, job->source + offset, (size_t)(columns * job->x.itemsize));
        target += columns * job->x.itemsize;
        target = fill(job, item, target, job->pads->at[2 * last + 1]);
    }
}

static pcnn_status
run(const pcnn_site *site)
{
    const pcnn_pad_attrs *a = site->attrs;
    const pcnn_tensor *x = &site->in[0], *y = &site->out[0];
    const int64_t itemsize = (int64_t)pcnn_dtype_size(x->type.dtype);
    job job = {.pads = &a->pads,
               .x = pcnn_view_storage(&x->type, x->layout),
               .y = pcnn_view_storage(&y->type, y->layout),
               .source = x->data,
               .target = y->data,
               .last_block = INT64_MIN};
    if (x->type.ndim == 0) {
        memcpy(y->data, x->data, (size_t)itemsize);
        return PCNN_OK;
    }
    int64_t rows = 1, columns = job.y.shape[job.y.ndim - 1];
    for (int i = 0; i < job.y.ndim - 1; i++)
        rows *= job.y.shape[i];
    if (rows == 0 || columns == 0)
        return PCNN_OK;

    pcnn_convert(x->type.dtype, job.item, PCNN_F64, &a->value, 1);
    char zeros[sizeof(double)] = {0};
    job.zero = memcmp(job.item, zeros, (size_t)itemsize) == 0;
    if (x->layout == PCNN_N16) {
        int64_t images = (x->type.shape[0] - 1) % PCNN_BLOCK + 1;
        job.last_block = job.x.shape[0] - 1;
        for (int64_t l = 1; l < PCNN_BLOCK; l++)
            memcpy(job.item + l * itemsize, job.item, (size_t)itemsize);
        memcpy(job.last_item, job.item, (size_t)(images * itemsize));
    }
    int64_t bytes = columns * job.y.itemsize;
    pcnn_parallel(rows, bytes < 4096 ? 4096 / bytes : 1,
                  (double)rows * ((double)bytes / 5.0 + 10.0), task, &job);
    return PCNN_OK;
}

static const char *
refuse_n16(const pcnn_site *site)
{
    const pcnn_type *x = &site->in[0].type;
    if (x->ndim != 4 || !pcnn_is_float(x->dtype))
        return "x is not of rank 4 and a float dtype";
    return site->out[0].type.shape[0] == x->shape[0] ? NULL : "images are added";
}

static const pcnn_impl impls[] = {
    {.name = "n16", .n16_in = 1, .n16_out = 1, .refuse = refuse_n16, .run = run},
    {.name = "reference", .run = run},
    {.name = NULL},
};

const pcnn_op pcnn_op_pad = {
    .name = "pad",
    .doc = "y = x with `value` before and after it along every axis.\n"
           "\n"
           "x of any shape and dtype; pads = (before0, after0, before1, after1, ...).\n"
           "Raises ValueError for negative pads, or when value does not fit an integer dtype.",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_pad_attrs),
    .flags = PCNN_OP_FOLLOWS,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};
