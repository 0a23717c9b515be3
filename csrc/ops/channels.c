/* The channel view, its chunks and the order of the passes. */
#include "ops/channels.h"

#include <math.h>

#include "core/parallel.h"

/* Elements of a chunk: 16 KB of floats, so that the second look at it finds it in the first cache,
 * and few enough terms for sums in float. Rows of a chunk when channels are columns. */
enum { CHUNK = 4096, CHUNK_ROWS = 64 };

pcnn_channels
pcnn_channels_view(const pcnn_tensor *x, int axis)
{
    const int64_t *shape = x->type.shape;
    pcnn_channels view = {.outer = 1, .C = shape[axis], .inner = 1, .lanes = PCNN_BLOCK};
    for (int i = 0; i < axis; i++)
        view.outer *= shape[i];
    for (int i = axis + 1; i < x->type.ndim; i++)
        view.inner *= shape[i];
    view.count = view.outer * view.inner;
    view.itemsize = pcnn_dtype_size(x->type.dtype);
    if (x->layout == PCNN_N16) {
        int64_t N = shape[0];
        view.outer = (N + PCNN_BLOCK - 1) / PCNN_BLOCK;
        view.inner *= PCNN_BLOCK;
        view.lanes = N - (view.outer - 1) * PCNN_BLOCK;
    }
    view.columns = view.inner == 1;
    view.per_row = view.columns ? 1 : (view.inner + CHUNK - 1) / CHUNK;
    view.chunks = view.columns ? (view.outer + CHUNK_ROWS - 1) / CHUNK_ROWS
                               : view.outer * view.per_row;
    return view;
}

static int64_t
smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

pcnn_chunk
pcnn_channels_chunk(const pcnn_channels *view, int64_t k, int64_t c)
{
    const int64_t itemsize = (int64_t)view->itemsize;
    if (view->columns) {
        int64_t rows = smaller(CHUNK_ROWS, view->outer - k * CHUNK_ROWS);
        return (pcnn_chunk){k * CHUNK_ROWS * view->C * itemsize, rows, PCNN_BLOCK, rows};
    }
    int64_t o = k / view->per_row, start = k % view->per_row * CHUNK;
    pcnn_chunk chunk = {((o * view->C + c) * view->inner + start) * itemsize,
                        smaller(CHUNK, view->inner - start), PCNN_BLOCK, 0};
    if (o == view->outer - 1)
        chunk.lanes = view->lanes;
    chunk.count = chunk.lanes == PCNN_BLOCK ? chunk.n : chunk.n / PCNN_BLOCK * chunk.lanes;
    return chunk;
}

/* ---- the order of the passes ---- */

typedef struct {
    const pcnn_channels *view;
    const pcnn_channel_passes *passes;
    const void *context;
    void (*pass)(const void *context, int64_t k, int64_t c);
} pass_job;

/* Items are channels: a channel that fits the second cache is read from memory only once. */
static void
whole_channels(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const pass_job *job = context;
    const int64_t chunks = job->view->chunks;
    for (int64_t c = begin; c < end; c++) {
        for (int64_t k = 0; k < chunks && job->passes->sums; k++)
            job->passes->sums(job->context, k, c);
        job->passes->finish(job->context, c);
        for (int64_t k = 0; k < chunks; k++)
            job->passes->apply(job->context, k, c);
    }
}

/* Items are chunks of one channel (columns: of all). */
static void
single_chunks(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const pass_job *job = context;
    const int64_t C = job->view->columns ? 1 : job->view->C;
    for (int64_t i = begin; i < end; i++)
        job->pass(job->context, i / C, i % C);
}

static void
finish_channels(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const pass_job *job = context;
    for (int64_t c = begin; c < end; c++)
        job->passes->finish(job->context, c);
}

/* The bits are the same in both orders; which one is faster depends on whether there are enough
 * channels for all threads. */
void
pcnn_channels_run(const pcnn_channels *view, const pcnn_channel_passes *passes,
                  const void *context)
{
    pass_job job = {view, passes, context, passes->sums};
    if (!view->columns && view->C >= 4 * pcnn_threads()) {
        pcnn_parallel(view->C, 1, passes->cost_ns, whole_channels, &job);
        return;
    }
    int64_t items = view->chunks * (view->columns ? 1 : view->C);
    if (passes->sums)
        pcnn_parallel(items, 1, passes->cost_ns / 2.0, single_chunks, &job);
    pcnn_parallel(view->C, 16, 5.0 * (double)(view->C * view->chunks), finish_channels, &job);
    job.pass = passes->apply;
    pcnn_parallel(items, 1, passes->cost_ns / 2.0, single_chunks, &job);
}

/* ---- workspace ---- */

static int64_t
partials_size(const pcnn_channels *view)
{
    return view->chunks * 2 * view->C;
}

int64_t
pcnn_channels_workspace(const pcnn_channels *view)
{
    return (partials_size(view) + 4 * view->C) * (int64_t)sizeof(double);
}

double *
pcnn_channels_partials(const pcnn_channels *view, void *work, int64_t k, int64_t c)
{
    return (double *)work + k * 2 * view->C + c;
}

void *
pcnn_channels_coefficients(const pcnn_channels *view, void *work, int64_t c)
{
    return (char *)((double *)work + partials_size(view)) + c * (int64_t)view->itemsize;
}

double
pcnn_real_get(const pcnn_tensor *t, int64_t i, double absent)
{
    if (!pcnn_type_present(&t->type))
        return absent;
    return t->type.dtype == PCNN_F32 ? (double)((const float *)t->data)[i]
                                     : ((const double *)t->data)[i];
}

void
pcnn_real_put(pcnn_dtype dtype, void *data, int64_t i, double value)
{
    if (dtype == PCNN_F32)
        ((float *)data)[i] = (float)value;
    else
        ((double *)data)[i] = value;
}

/* ---- which implementation ---- */

static int64_t
inner_size(const pcnn_tensor *x, int axis)
{
    int64_t inner = 1;
    for (int i = axis + 1; i < x->type.ndim; i++)
        inner *= x->type.shape[i];
    return inner;
}

const char *
pcnn_channels_refuse_n16(const pcnn_tensor *x, int axis)
{
    if (x->type.ndim != 4)
        return "x does not have 4 dimensions";
    return axis == 1 ? NULL : "the channels are not axis 1";
}

const char *
pcnn_channels_refuse_rows(const pcnn_tensor *x, int axis)
{
    return inner_size(x, axis) != 1 ? NULL : "nothing lies behind the channels";
}

const char *
pcnn_channels_refuse_columns(const pcnn_tensor *x, int axis)
{
    return inner_size(x, axis) == 1 ? NULL : "the channels are not the last axis";
}

/* ---- checks ---- */

const pcnn_attr pcnn_norm_attr_list[] = {
    PCNN_ATTR(pcnn_norm_attrs, axis, PCNN_ATTR_INT, "1"),
    PCNN_ATTR(pcnn_norm_attrs, eps, PCNN_ATTR_REAL, "0.001"),
    {NULL, 0, 0, NULL, NULL},
};

int
pcnn_norm_axis(const pcnn_norm_attrs *attrs, const pcnn_type *x)
{
    return (int)(attrs->axis < 0 ? attrs->axis + x->ndim : attrs->axis);
}

pcnn_status
pcnn_norm_check(const pcnn_call *call, int first, int64_t *C)
{
    const pcnn_norm_attrs *attrs = call->attrs;
    const pcnn_type *x = &call->in[0];
    char text[PCNN_SHAPE_TEXT];
    int axis;
    PCNN_TRY(pcnn_expect_float(call, 0));
    if (x->ndim < 2 || x->ndim > 5)
        return pcnn_fail(PCNN_ERR_SHAPE, "%s: x must have 2 to 5 dimensions, got shape %s",
                         call->op->name, pcnn_shape_text(x, text));
    PCNN_TRY(pcnn_normalize_axis(call, attrs->axis, x->ndim, &axis));
    if (!isfinite(attrs->eps) || attrs->eps < 0)
        return pcnn_fail(PCNN_ERR_VALUE,
                         "%s: eps must be a finite number that is not negative, got %g",
                         call->op->name, attrs->eps);
    *C = x->shape[axis];
    for (int i = first; i < call->n_in; i++) {
        PCNN_TRY(pcnn_expect_same_dtype(call, 0, i));
        PCNN_TRY(pcnn_expect_shape1(call, i, *C, "the number of channels of x"));
    }
    return PCNN_OK;
}
