/* load_images: rows of the user's array as maps, in one pass. A plan makes it of
 *
 *   gather or cast -> reshape or transpose -> up to two of add, sub, mul, div with a number -> pad
 *
 * (plan/images.c): y[b] = the row data[index[b]] (data[b] without an index), converted to dtype,
 * put through the operations, as maps [C][H][W] with zeros around them. The arithmetic is that of
 * the separate ops, number by number, so the bits are theirs (load_images.kernel.c). Rows that are
 * only moved are transposed from where they lie. Lanes without an image and the padding are exact
 * zeros. Indices are checked as gather does. Not handled: a gradient. */
#include "ops/load_images.h"

#include <string.h>

#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/gather.h"

const char *const pcnn_load_choices[] = {
    [PCNN_LOAD_NONE] = "none", [PCNN_LOAD_ADD] = "add", [PCNN_LOAD_SUB] = "sub",
    [PCNN_LOAD_MUL] = "mul",   [PCNN_LOAD_DIV] = "div", NULL,
};

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_load_images_attrs, dtype, PCNN_ATTR_DTYPE, NULL),
    PCNN_ATTR(pcnn_load_images_attrs, channels_last, PCNN_ATTR_BOOL, "False"),
    PCNN_ATTR(pcnn_load_images_attrs, maps, PCNN_ATTR_INTS, NULL),
    PCNN_ATTR(pcnn_load_images_attrs, padding, PCNN_ATTR_INTS, "(0, 0, 0, 0)"),
    {"first", PCNN_ATTR_CHOICE, offsetof(pcnn_load_images_attrs, first), "none", pcnn_load_choices},
    {"second", PCNN_ATTR_CHOICE, offsetof(pcnn_load_images_attrs, second), "none",
     pcnn_load_choices},
    {NULL, 0, 0, NULL, NULL},
};

enum { DATA, INDEX, NUMBERS, INPUTS = NUMBERS + PCNN_LOAD_NUMBERS };

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_load_images_attrs *a = call->attrs;
    const pcnn_type *data = &call->in[DATA], *index = &call->in[INDEX];
    if (a->dtype != PCNN_F32 && a->dtype != PCNN_F64)
        return pcnn_fail(PCNN_ERR_TYPE, "load_images: dtype must be float32 or float64");
    if (a->maps.n != 3 || a->padding.n != 4)
        return pcnn_fail(PCNN_ERR_VALUE,
                         "load_images: maps must be (C, H, W), padding (top, bottom, left, right), "
                         "got %lld and %lld numbers",
                         (long long)a->maps.n, (long long)a->padding.n);
    int64_t row = 1;
    for (int i = 1; i < data->ndim; i++)
        row *= data->shape[i];
    if (data->ndim < 1 || row != a->maps.at[0] * a->maps.at[1] * a->maps.at[2])
        return pcnn_fail(PCNN_ERR_SHAPE, "load_images: a row of data must have C * H * W numbers");
    PCNN_TRY(pcnn_expect_rank(call, INDEX, 1));
    for (int k = NUMBERS; k < INPUTS; k++)
        PCNN_TRY(pcnn_expect_rank(call, k, 0));
    *out = (pcnn_type){.dtype = (pcnn_dtype)a->dtype, .ndim = 4};
    out->shape[0] = pcnn_type_present(index) ? index->shape[0] : data->shape[0];
    out->shape[1] = a->maps.at[0];
    out->shape[2] = a->maps.at[1] + a->padding.at[0] + a->padding.at[1];
    out->shape[3] = a->maps.at[2] + a->padding.at[2] + a->padding.at[3];
    return PCNN_OK;
}

enum { PIECE = 512 }; /* positions of an item */

typedef struct {
    const pcnn_kernels *kernels;
    pcnn_load load;
    const char *data;
    char *y;
    const int64_t *index; /* NULL: rows in order */
    int64_t N, C;         /* images, maps of an image */
    int64_t row_bytes;    /* of data */
    int64_t itemsize;     /* of y */
    int64_t P, pieces;    /* positions of a row, items of it */
} job;

static job
job_of(const pcnn_site *site)
{
    const pcnn_load_images_attrs *a = site->attrs;
    const pcnn_tensor *data = &site->in[DATA], *y = &site->out[0];
    const int64_t C = a->maps.at[0], H = a->maps.at[1], W = a->maps.at[2], P = C * H * W;
    job job = {.kernels = pcnn_kernels_for(y->type.dtype),
               .data = data->data,
               .y = y->data,
               .index = pcnn_type_present(&site->in[INDEX].type) ? site->in[INDEX].data : NULL,
               .N = y->type.shape[0],
               .C = C,
               .row_bytes = P * (int64_t)pcnn_dtype_size(data->type.dtype),
               .itemsize = (int64_t)pcnn_dtype_size(y->type.dtype),
               .P = P};
    job.load =
        (pcnn_load){.places = {.C = a->channels_last ? C : 1,
                               .H = H,
                               .W = W,
                               .OH = y->type.shape[2],
                               .OW = y->type.shape[3],
                               .top = a->padding.at[0],
                               .left = a->padding.at[2]},
                    .from = data->type.dtype,
                    .operation = {a->first, a->second},
                    .number = {site->in[NUMBERS].data, site->in[NUMBERS + 1].data},
                    .as_it_is = data->type.dtype == y->type.dtype && !a->first && !a->second};
    /* One item at least: the padding has to be written somewhere. */
    job.pieces = P > PIECE ? (P + PIECE - 1) / PIECE : 1;
    return job;
}

static const char *
row_of(const job *job, int64_t b)
{
    return job->data + (job->index ? job->index[b] : b) * job->row_bytes;
}

/* Zeros around maps whose pixels have `bytes` bytes. */
static void
clear_padding(const job *job, char *y, int64_t bytes)
{
    const pcnn_places *p = &job->load.places;
    const int64_t line = p->OW * bytes;
    if (p->OH == p->H && p->OW == p->W)
        return;
    for (int64_t c = 0; c < job->C; c++) {
        memset(y, 0, (size_t)(p->top * line));
        y += p->top * line;
        for (int64_t h = 0; h < p->H; h++, y += line) {
            memset(y, 0, (size_t)(p->left * bytes));
            memset(y + (p->left + p->W) * bytes, 0, (size_t)((p->OW - p->left - p->W) * bytes));
        }
        const int64_t bottom = p->OH - p->top - p->H;
        memset(y, 0, (size_t)(bottom * line));
        y += bottom * line;
    }
}

/* Layout N16: items are pieces of sixteen rows. */
static void
n16_task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    const pcnn_places *places = &job->load.places;
    const int64_t pixel = PCNN_BLOCK * job->itemsize;
    const int64_t block_bytes = job->C * places->OH * places->OW * pixel;
    for (int64_t item = begin; item < end; item++) {
        const int64_t block = item / job->pieces, first = item % job->pieces * PIECE;
        const int64_t last = first + PIECE < job->P ? first + PIECE : job->P;
        const int64_t left = job->N - block * PCNN_BLOCK;
        const int64_t images = left < PCNN_BLOCK ? left : PCNN_BLOCK;
        const int64_t skipped = job->load.as_it_is ? first * job->itemsize : 0;
        char *y = job->y + block * block_bytes;
        const void *rows[PCNN_BLOCK];
        for (int64_t i = 0; i < images; i++)
            rows[i] = row_of(job, block * PCNN_BLOCK + i) + skipped;
        if (first == 0)
            clear_padding(job, y, pixel);
        if (job->load.as_it_is)
            job->kernels->reorder_to_n16(rows, y, images, places, first, last);
        else
            job->kernels->load_n16(&job->load, rows, y, images, first, last);
    }
}

/* Plain: items are pieces of one row. */
static void
plain_task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    const int64_t image_bytes = job->C * job->load.places.OH * job->load.places.OW * job->itemsize;
    for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / job->pieces, first = item % job->pieces * PIECE;
        char *y = job->y + b * image_bytes;
        if (first == 0)
            clear_padding(job, y, job->itemsize);
        job->kernels->load_plain(&job->load, row_of(job, b), y, first,
                                 first + PIECE < job->P ? first + PIECE : job->P);
    }
}

static pcnn_status
run(const pcnn_site *site)
{
    job job = job_of(site);
    if (job.index != NULL)
        PCNN_TRY(pcnn_gather_check(job.index, job.N, site->in[DATA].type.shape[0]));
    const bool n16 = site->out[0].layout == PCNN_N16;
    const int64_t rows = n16 ? (job.N + PCNN_BLOCK - 1) / PCNN_BLOCK : job.N;
    const double cost = (double)pcnn_layout_size(&site->out[0].type, site->out[0].layout);
    pcnn_parallel(rows * job.pieces, n16 || job.P > PIECE ? 1 : 4096 / (job.P + 1) + 1,
                  cost * (job.load.as_it_is ? 0.4 : 0.6), n16 ? n16_task : plain_task, &job);
    return PCNN_OK;
}

static const pcnn_impl impls[] = {
    {.name = "n16", .n16_out = 1, .run = run},
    {.name = "plain", .run = run},
    {.name = NULL},
};

const pcnn_op pcnn_op_load_images = {
    .name = "load_images",
    .doc = "y[b] = the row data[index[b]] as maps, converted, scaled and padded with zeros.",
    .n_in = INPUTS,
    .params = {{"data", false}, {"index", true}, {"a", true}, {"b", true}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_load_images_attrs),
    .flags = PCNN_OP_INTERNAL | PCNN_OP_FOLLOWS,
    .infer = infer,
    .impls = impls,
};
