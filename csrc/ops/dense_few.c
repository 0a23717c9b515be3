/* y = x w for a few rows of x: reading w is all the work, so nothing is packed and w is read once.
 *
 * Work is cut into columns and, as that may be too few items and reads memory in pieces, into parts
 * of the rows of w, by shape alone. The sums of the parts are added in order. */
#include "ops/dense_few.h"

#include "core/parallel.h"
#include "isa/kernels.h"

enum { COLUMNS = 512 }; /* of an item, at most */

typedef struct {
    const pcnn_kernels *kernels;
    int64_t N, I, O, size, parts, column_tiles, part_bytes;
    const char *x, *w;
    char *sums; /* [parts][N][O]: y itself where there is one part */
} job;

static int64_t
parts_of(int64_t I)
{
    const int64_t parts = (I + PCNN_FEW_PART - 1) / PCNN_FEW_PART;
    return parts < 1 ? 1 : parts > PCNN_FEW_MOST ? PCNN_FEW_MOST : parts;
}

int64_t
pcnn_dense_few_bytes(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O)
{
    const int64_t parts = parts_of(I);
    return parts > 1 ? parts * N * O * (int64_t)pcnn_dtype_size(dtype) : 0;
}

static void
run_items(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    (void)worker;
    for (int64_t item = begin; item < end; item++) {
        const int64_t part = item / job->column_tiles, tile = item % job->column_tiles;
        const int64_t i0 = job->I * part / job->parts, i1 = job->I * (part + 1) / job->parts;
        const int64_t o0 = tile * COLUMNS, rest = job->O - o0;
        job->kernels->dense_few(job->x + i0 * job->size, job->I,
                                job->w + (i0 * job->O + o0) * job->size, job->O,
                                job->sums + part * job->part_bytes + o0 * job->size, job->O, job->N,
                                i1 - i0, rest < COLUMNS ? rest : COLUMNS);
    }
}

void
pcnn_dense_few(pcnn_dtype dtype, int64_t N, int64_t I, int64_t O, const void *x, const void *w,
               void *y, void *parts)
{
    job job = {.kernels = pcnn_kernels_for(dtype),
               .N = N,
               .I = I,
               .O = O,
               .size = (int64_t)pcnn_dtype_size(dtype),
               .parts = parts_of(I),
               .column_tiles = (O + COLUMNS - 1) / COLUMNS,
               .x = x,
               .w = w};
    job.part_bytes = N * O * job.size;
    job.sums = job.parts > 1 ? parts : y;
    if (N * O == 0)
        return;
    /* About 10 bytes of w a nanosecond, or 40 multiply-adds. */
    const double weights = (double)I * (double)O;
    const double cost = weights * ((double)job.size / 10 + (double)N / 40);
    pcnn_parallel(job.parts * job.column_tiles, 1, cost, run_items, &job);
    if (job.parts > 1)
        job.kernels->sum_parts(parts, job.parts, N * O, N * O, y);
}
