/* gather: y[b] = data[index[b]], converted to `dtype` on the way: a batch out of a data set.
 *
 * Indices are run-time numbers, checked when they run: 0 <= index[b] < N. No gradient. */
#include "ops/gather.h"

#include "core/parallel.h"
#include "ops/convert.h"
#include "ops/op.h"

typedef struct {
    int64_t dtype;
} gather_attrs;

static const pcnn_attr attrs[] = {
    PCNN_ATTR(gather_attrs, dtype, PCNN_ATTR_DTYPE, "None"),
    {NULL, 0, 0, NULL, NULL},
};

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const gather_attrs *a = call->attrs;
    const pcnn_type *data = &call->in[0], *index = &call->in[1];
    if (data->ndim < 1)
        return pcnn_fail(PCNN_ERR_SHAPE, "gather: data must have at least one dimension");
    PCNN_TRY(pcnn_expect_rank(call, 1, 1));
    if (index->dtype != PCNN_I64)
        return pcnn_fail(PCNN_ERR_TYPE, "gather: index must be int64, got %s",
                         pcnn_dtype_name(index->dtype));
    if (a->dtype >= PCNN_N_DTYPES)
        return pcnn_fail(PCNN_ERR_TYPE, "gather: unknown dtype");
    *out = *data;
    out->shape[0] = index->shape[0];
    if (a->dtype >= 0)
        out->dtype = (pcnn_dtype)a->dtype;
    return PCNN_OK;
}

typedef struct {
    pcnn_dtype from, to;
    const char *data;
    char *y;
    const int64_t *index;
    int64_t row; /* numbers in a row */
} job;

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    const int64_t from_bytes = job->row * (int64_t)pcnn_dtype_size(job->from);
    const int64_t to_bytes = job->row * (int64_t)pcnn_dtype_size(job->to);
    for (int64_t b = begin; b < end; b++)
        pcnn_convert(job->to, job->y + b * to_bytes, job->from,
                     job->data + job->index[b] * from_bytes, job->row);
}

pcnn_status
pcnn_gather_check(const int64_t *index, int64_t B, int64_t N)
{
    for (int64_t b = 0; b < B; b++)
        if (index[b] < 0 || index[b] >= N)
            return pcnn_fail(PCNN_ERR_INDEX,
                             "gather: index[%lld] is %lld, but data has %lld rows (0 to %lld)",
                             (long long)b, (long long)index[b], (long long)N, (long long)(N - 1));
    return PCNN_OK;
}

static pcnn_status
run(const pcnn_site *site)
{
    const pcnn_tensor *data = &site->in[0], *y = &site->out[0];
    job job = {data->type.dtype, y->type.dtype, data->data, y->data, site->in[1].data, 1};
    const int64_t N = data->type.shape[0], B = y->type.shape[0];
    PCNN_TRY(pcnn_gather_check(job.index, B, N));
    for (int i = 1; i < y->type.ndim; i++)
        job.row *= y->type.shape[i];
    int64_t grain = job.row < 4096 ? 4096 / (job.row + 1) + 1 : 1;
    pcnn_parallel(B, grain, (double)B * ((double)job.row / 2.0 + 20.0), task, &job);
    return PCNN_OK;
}

static const pcnn_impl impls[] = {
    {.name = "reference", .run = run},
    {.name = NULL},
};

const pcnn_op pcnn_op_gather = {
    .name = "gather",
    .doc = "y[b] = data[index[b]], converted to `dtype` (None: data's).\n"
           "\n"
           "data[N,...] of any dtype, index int64[B] -> y[B,...]. No gradient.\n"
           "Raises IndexError when an index is outside 0 .. N-1.",
    .n_in = 2,
    .params = {{"data", false}, {"index", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(gather_attrs),
    .infer = infer,
    .impls = impls,
};
