/* The channel view, its chunks and the order of the passes. */
#include "ops/channels.h"

#include "core/parallel.h"

/* Elements of a chunk: 16 KB of floats, so that the second look at it finds it in the first cache,
 * and few enough terms for sums in float; fewer in N16, where a chunk's planes of several values
 * should be there at once (chain_strips.c). Rows of a chunk when channels are columns. */
enum { CHUNK = 4096, CHUNK_N16 = 2560, CHUNK_ROWS = 64 };

/* Rows of a plane in a chunk, as even as can be, and an even number, for pooling. */
static int64_t
rows_of_chunk(int64_t H, int64_t W)
{
    int64_t most = CHUNK_N16 / (W * PCNN_BLOCK);
    if (most < 2 || H <= most)
        return most < H ? most : H;
    most -= most % 2;
    const int64_t chunks = (H + most - 1) / most, rows = (H + chunks - 1) / chunks;
    return rows + rows % 2;
}

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
    view.chunk = CHUNK;
    if (x->layout == PCNN_N16) {
        int64_t N = shape[0];
        view.rows = view.inner > 0 ? rows_of_chunk(shape[2], shape[3]) : 0;
        view.chunk = view.rows > 0 ? view.rows * shape[3] * PCNN_BLOCK : CHUNK_N16;
        view.outer = (N + PCNN_BLOCK - 1) / PCNN_BLOCK;
        view.inner *= PCNN_BLOCK;
        view.lanes = N - (view.outer - 1) * PCNN_BLOCK;
    }
    view.columns = view.inner == 1;
    view.per_row = view.columns ? 1 : (view.inner + view.chunk - 1) / view.chunk;
    view.chunks =
        view.columns ? (view.outer + CHUNK_ROWS - 1) / CHUNK_ROWS : view.outer * view.per_row;
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
        return (pcnn_chunk){k * CHUNK_ROWS * view->C * itemsize, rows, PCNN_BLOCK, rows, 0};
    }
    int64_t o = k / view->per_row, start = k % view->per_row * view->chunk;
    pcnn_chunk chunk = {((o * view->C + c) * view->inner + start) * itemsize,
                        smaller(view->chunk, view->inner - start), PCNN_BLOCK, 0, start * itemsize};
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
pcnn_channels_run(const pcnn_channels *view, const pcnn_channel_passes *passes, const void *context)
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
