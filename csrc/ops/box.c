/* Copies of strided boxes. */
#include "ops/box.h"

#include <string.h>

#include "core/parallel.h"

/* Bytes of a contiguous row that one item copies at most. */
enum { PIECE = 1 << 16 };

pcnn_storage_view
pcnn_view_storage(const pcnn_type *type, pcnn_layout layout)
{
    pcnn_storage_view view = {.ndim = type->ndim,
                              .itemsize = (int64_t)pcnn_dtype_size(type->dtype)};
    for (int i = 0; i < type->ndim; i++)
        view.shape[i] = type->shape[i];
    if (layout == PCNN_N16) {
        view.shape[0] = (view.shape[0] + PCNN_BLOCK - 1) / PCNN_BLOCK;
        view.itemsize *= PCNN_BLOCK;
    }
    int64_t stride = view.itemsize;
    for (int i = view.ndim; i-- > 0; stride *= view.shape[i])
        view.strides[i] = stride;
    return view;
}

void
pcnn_box_collapse(pcnn_box *box)
{
    int n = 0;
    for (int i = 0; i < box->ndim; i++) {
        if (box->shape[i] == 1)
            continue;
        if (n > 0 && box->source_strides[n - 1] == box->source_strides[i] * box->shape[i] &&
            box->target_strides[n - 1] == box->target_strides[i] * box->shape[i])
            n--, box->shape[n] *= box->shape[i];
        else
            box->shape[n] = box->shape[i];
        box->source_strides[n] = box->source_strides[i];
        box->target_strides[n] = box->target_strides[i];
        n++;
    }
    if (n == 0) {
        box->shape[0] = 1;
        box->source_strides[0] = box->target_strides[0] = box->itemsize;
        n = 1;
    }
    box->ndim = n;
}

typedef struct {
    pcnn_box box;
    const char *source;
    char *target;
    bool contiguous; /* the last axis, in both */
    int64_t piece, pieces; /* items of the last axis in a piece, pieces of a row */
} job;

#define COPY_ROW(type)                                            \
    for (int64_t i = 0; i < n; i++, source += from, target += to) \
        *(type *)target = *(const type *)source;

/* n items with given strides. */
static void
copy_items(const char *source, int64_t from, char *target, int64_t to, int64_t n, int64_t itemsize)
{
    switch (itemsize) {
    case 1: COPY_ROW(uint8_t) break;
    case 4: COPY_ROW(uint32_t) break;
    case 8: COPY_ROW(uint64_t) break;
    default:
        for (int64_t i = 0; i < n; i++, source += from, target += to)
            memcpy(target, source, (size_t)itemsize);
    }
}

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    const pcnn_box *box = &job->box;
    const int last = box->ndim - 1;
    const int64_t from = box->source_strides[last], to = box->target_strides[last];
    for (int64_t item = begin; item < end; item++) {
        int64_t row = item / job->pieces, first = item % job->pieces * job->piece;
        int64_t n = box->shape[last] - first < job->piece ? box->shape[last] - first : job->piece;
        const char *source = job->source + first * from;
        char *target = job->target + first * to;
        for (int i = last; i-- > 0; row /= box->shape[i]) {
            source += row % box->shape[i] * box->source_strides[i];
            target += row % box->shape[i] * box->target_strides[i];
        }
        if (job->contiguous)
            memcpy(target, source, (size_t)(n * box->itemsize));
        else
            copy_items(source, from, target, to, n, box->itemsize);
    }
}

void
pcnn_box_copy(const pcnn_box *given, const void *source, void *target)
{
    job job = {.box = *given, .source = source, .target = target};
    pcnn_box *box = &job.box;
    int64_t rows = 1, items = 1;
    for (int i = 0; i < box->ndim; i++)
        items *= box->shape[i];
    if (items == 0)
        return;
    pcnn_box_collapse(box);
    const int last = box->ndim - 1;
    for (int i = 0; i < last; i++)
        rows *= box->shape[i];
    job.contiguous =
        box->source_strides[last] == box->itemsize && box->target_strides[last] == box->itemsize;
    job.piece = PIECE / box->itemsize;
    job.pieces = (box->shape[last] + job.piece - 1) / job.piece;
    double bytes = (double)items * (double)box->itemsize;
    int64_t row_bytes = box->shape[last] * box->itemsize;
    int64_t grain = row_bytes < PIECE / 8 ? PIECE / 8 / row_bytes : 1;
    double cost = bytes / 5.0 + 5.0 * (double)rows + (job.contiguous ? 0.0 : (double)items);
    pcnn_parallel(rows * job.pieces, grain, cost, task, &job);
}
