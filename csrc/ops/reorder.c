/* reorder: the same numbers in the other layout, plain <-> N16. The plan inserts it. */
#include "ops/reorder.h"

#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/op.h"

/* Positions of an item: a multiple of a cache line. */
enum { PIECE = 512 };

typedef struct {
    void (*kernel)(const void *, void *, int64_t, int64_t, int64_t, int64_t, int64_t);
    pcnn_rows rows;
    const char *x;
    char *y;
    int64_t x_bytes, y_bytes; /* of sixteen images */
    int64_t pieces;
} job;

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    const int64_t P = job->rows.S * job->rows.C;
    for (int64_t item = begin; item < end; item++) {
        int64_t block = item / job->pieces, first = item % job->pieces * PIECE;
        int64_t images = job->rows.N - block * PCNN_BLOCK;
        job->kernel(job->x + block * job->x_bytes, job->y + block * job->y_bytes,
                    images < PCNN_BLOCK ? images : PCNN_BLOCK, job->rows.S, job->rows.C, first,
                    first + PIECE < P ? first + PIECE : P);
    }
}

static void
share_out(job *job, pcnn_dtype dtype)
{
    const int64_t P = job->rows.S * job->rows.C;
    const int64_t blocks = (job->rows.N + PCNN_BLOCK - 1) / PCNN_BLOCK;
    job->x_bytes = job->y_bytes = P * PCNN_BLOCK * (int64_t)pcnn_dtype_size(dtype);
    job->pieces = (P + PIECE - 1) / PIECE;
    pcnn_parallel(blocks * job->pieces, 1, (double)(blocks * job->x_bytes) / 3.0, task, job);
}

void
pcnn_reorder_to_n16(pcnn_dtype dtype, pcnn_rows rows, const void *x, void *y)
{
    job job = {.kernel = pcnn_kernels_for(dtype)->reorder_to_n16, .rows = rows, .x = x, .y = y};
    share_out(&job, dtype);
}

void
pcnn_reorder_to_rows(pcnn_dtype dtype, pcnn_rows rows, const void *x, void *y)
{
    job job = {.kernel = pcnn_kernels_for(dtype)->reorder_to_rows, .rows = rows, .x = x, .y = y};
    share_out(&job, dtype);
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
