/* reorder: the same numbers in the other layout, plain <-> N16. The plan inserts it. */
#include "ops/reorder.h"

#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/op.h"

/* Positions of an item: a multiple of a cache line. */
enum { PIECE = 512 };

typedef struct {
    const pcnn_kernels *kernels;
    pcnn_rows rows;
    pcnn_places places;
    const char *x;
    char *y;
    int64_t row_bytes, block_bytes; /* of an image, of sixteen */
    int64_t pieces;
} job;

/* The images and the positions of an item. */
typedef struct {
    int64_t block, images, first, end;
} piece;

static piece
piece_of(const job *job, int64_t item)
{
    const int64_t P = job->rows.S * job->rows.C;
    const int64_t block = item / job->pieces, first = item % job->pieces * PIECE;
    const int64_t images = job->rows.N - block * PCNN_BLOCK;
    return (piece){.block = block,
                   .images = images < PCNN_BLOCK ? images : PCNN_BLOCK,
                   .first = first,
                   .end = first + PIECE < P ? first + PIECE : P};
}

static void
to_n16_task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    const int64_t itemsize = job->row_bytes / (job->rows.S * job->rows.C);
    for (int64_t item = begin; item < end; item++) {
        const piece p = piece_of(job, item);
        const void *rows[PCNN_BLOCK];
        for (int64_t i = 0; i < p.images; i++)
            rows[i] = job->x + p.block * job->block_bytes + i * job->row_bytes + p.first * itemsize;
        job->kernels->reorder_to_n16(rows, job->y + p.block * job->block_bytes, p.images,
                                     &job->places, p.first, p.end);
    }
}

static void
to_rows_task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    for (int64_t item = begin; item < end; item++) {
        const piece p = piece_of(job, item);
        const int64_t at = p.block * job->block_bytes;
        job->kernels->reorder_to_rows(job->x + at, job->y + at, p.images, job->rows.S, job->rows.C,
                                      p.first, p.end);
    }
}

static void
share_out(pcnn_task task, pcnn_dtype dtype, pcnn_rows rows, const void *x, void *y)
{
    const int64_t P = rows.S * rows.C, blocks = (rows.N + PCNN_BLOCK - 1) / PCNN_BLOCK;
    job job = {.kernels = pcnn_kernels_for(dtype),
               .rows = rows,
               .places = {.C = rows.C, .H = 1, .W = rows.S, .OH = 1, .OW = rows.S},
               .x = x,
               .y = y,
               .row_bytes = P * (int64_t)pcnn_dtype_size(dtype),
               .block_bytes = P * PCNN_BLOCK * (int64_t)pcnn_dtype_size(dtype),
               .pieces = (P + PIECE - 1) / PIECE};
    pcnn_parallel(blocks * job.pieces, 1, (double)(blocks * job.block_bytes) / 3.0, task, &job);
}

void
pcnn_reorder_to_n16(pcnn_dtype dtype, pcnn_rows rows, const void *x, void *y)
{
    share_out(to_n16_task, dtype, rows, x, y);
}

void
pcnn_reorder_to_rows(pcnn_dtype dtype, pcnn_rows rows, const void *x, void *y)
{
    share_out(to_rows_task, dtype, rows, x, y);
}

/* ---- the op ---- */

typedef struct {
    int64_t to_n16;
} reorder_attrs;

static const pcnn_attr attrs[] = {
    PCNN_ATTR(reorder_attrs, to_n16, PCNN_ATTR_BOOL, "True"),
    {NULL, 0, 0, NULL, NULL},
};

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(pcnn_expect_float(call, 0));
    PCNN_TRY(pcnn_expect_rank(call, 0, 4));
    out[0] = call->in[0];
    return PCNN_OK;
}

static pcnn_rows
rows_of(const pcnn_site *site)
{
    const int64_t *shape = site->in[0].type.shape;
    return (pcnn_rows){shape[0], shape[1] * shape[2] * shape[3], 1};
}

static const char *
refuse_to_n16(const pcnn_site *site)
{
    return ((const reorder_attrs *)site->attrs)->to_n16 ? NULL : "the direction is to plain";
}

static const char *
refuse_to_plain(const pcnn_site *site)
{
    return ((const reorder_attrs *)site->attrs)->to_n16 ? "the direction is to N16" : NULL;
}

static pcnn_status
run_to_n16(const pcnn_site *site)
{
    pcnn_reorder_to_n16(site->in[0].type.dtype, rows_of(site), site->in[0].data, site->out[0].data);
    return PCNN_OK;
}

static pcnn_status
run_to_plain(const pcnn_site *site)
{
    pcnn_reorder_to_rows(site->in[0].type.dtype, rows_of(site), site->in[0].data,
                         site->out[0].data);
    return PCNN_OK;
}

static const pcnn_impl impls[] = {
    {.name = "to_n16", .n16_out = 1, .refuse = refuse_to_n16, .run = run_to_n16},
    {.name = "to_plain", .n16_in = 1, .refuse = refuse_to_plain, .run = run_to_plain},
    {.name = NULL},
};

const pcnn_op pcnn_op_reorder = {
    .name = "reorder",
    .doc = "y = x in the other physical layout.",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(reorder_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer,
    .impls = impls,
};
