/* transpose: y has the axes of x in another order; axis i of y is axis perm[i] of x.
 *
 * Any dtype. Between channels-last and layout N16 the numbers move once, straight into place. */
#include <string.h>

#include "core/parallel.h"
#include "ops/box.h"
#include "ops/op.h"
#include "ops/reorder.h"

typedef struct {
    pcnn_ints perm;
} transpose_attrs;

static const pcnn_attr attrs[] = {
    PCNN_ATTR(transpose_attrs, perm, PCNN_ATTR_INTS, "None"),
    {NULL, 0, 0, NULL, NULL},
};

/* The permutation of a call that has been checked; None reverses. */
static void
read_perm(const transpose_attrs *a, int ndim, int perm[PCNN_MAX_NDIM])
{
    for (int i = 0; i < ndim; i++) {
        int64_t axis = a->perm.n < 0 ? ndim - 1 - i : a->perm.at[i];
        perm[i] = (int)(axis < 0 ? axis + ndim : axis);
    }
}

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const transpose_attrs *a = call->attrs;
    const pcnn_type *x = &call->in[0];
    char text[PCNN_SHAPE_TEXT];
    if (a->perm.n >= 0 && a->perm.n != x->ndim)
        return pcnn_fail(PCNN_ERR_VALUE,
                         "transpose: perm must have one entry for each of the %d dimensions of x "
                         "(shape %s), got %lld",
                         x->ndim, pcnn_shape_text(x, text), (long long)a->perm.n);
    bool seen[PCNN_MAX_NDIM] = {false};
    for (int64_t i = 0; i < a->perm.n; i++) {
        int axis;
        PCNN_TRY(pcnn_normalize_axis(call, a->perm.at[i], x->ndim, &axis));
        if (seen[axis])
            return pcnn_fail(PCNN_ERR_VALUE, "transpose: perm names axis %d twice", axis);
        seen[axis] = true;
    }
    int perm[PCNN_MAX_NDIM];
    read_perm(a, x->ndim, perm);
    *out = *x;
    for (int i = 0; i < x->ndim; i++)
        out->shape[i] = x->shape[perm[i]];
    return PCNN_OK;
}

static pcnn_status
gradient(pcnn_grad *grad)
{
    const int ndim = pcnn_value_type(grad->in[0])->ndim;
    if (!grad->wanted[0])
        return PCNN_OK;
    int perm[PCNN_MAX_NDIM];
    read_perm(grad->attrs, ndim, perm);
    transpose_attrs inverse = {.perm = {.n = ndim}};
    for (int i = 0; i < ndim; i++)
        inverse.perm.at[perm[i]] = i;
    return PCNN_EMIT(grad, &grad->din[0], transpose, &inverse, grad->dout[0]);
}

/* ---- channels-last <-> N16 ---- */

static bool
perm_is(const pcnn_site *site, int a, int b, int c, int d)
{
    int perm[PCNN_MAX_NDIM];
    const pcnn_type *x = &site->in[0].type;
    if (x->ndim != 4 || !pcnn_is_float(x->dtype))
        return false;
    read_perm(site->attrs, 4, perm);
    return perm[0] == a && perm[1] == b && perm[2] == c && perm[3] == d;
}

static const char *
refuse_from_nhwc(const pcnn_site *site)
{
    return perm_is(site, 0, 3, 1, 2) ? NULL : "not from N,H,W,C to N,C,H,W in a float dtype";
}

static const char *
refuse_to_rows(const pcnn_site *site)
{
    return perm_is(site, 0, 2, 3, 1) || perm_is(site, 0, 1, 2, 3)
               ? NULL
               : "not from N,C,H,W to N,H,W,C, nor the same order, in a float dtype";
}

static pcnn_status
run_from_nhwc(const pcnn_site *site)
{
    const int64_t *shape = site->in[0].type.shape; /* N,H,W,C */
    pcnn_rows rows = {shape[0], shape[1] * shape[2], shape[3]};
    pcnn_reorder_to_n16(site->in[0].type.dtype, rows, site->in[0].data, site->out[0].data);
    return PCNN_OK;
}

static pcnn_status
run_to_rows(const pcnn_site *site)
{
    const int64_t *shape = site->in[0].type.shape; /* N,C,H,W */
    pcnn_rows rows = {shape[0], shape[2] * shape[3], shape[1]};
    if (perm_is(site, 0, 1, 2, 3))
        rows = (pcnn_rows){shape[0], shape[1] * shape[2] * shape[3], 1};
    pcnn_reorder_to_rows(site->in[0].type.dtype, rows, site->in[0].data, site->out[0].data);
    return PCNN_OK;
}

/* ---- plain, any order ---- */

/* The box of a transposition: the axes of y, with their strides in x and y. */
static pcnn_box
make_box(const pcnn_site *site)
{
    const pcnn_storage_view x = pcnn_view_storage(&site->in[0].type, PCNN_PLAIN);
    const pcnn_storage_view y = pcnn_view_storage(&site->out[0].type, PCNN_PLAIN);
    int perm[PCNN_MAX_NDIM];
    read_perm(site->attrs, x.ndim, perm);
    pcnn_box box = {.ndim = x.ndim, .itemsize = x.itemsize};
    for (int i = 0; i < x.ndim; i++) {
        box.shape[i] = y.shape[i];
        box.target_strides[i] = y.strides[i];
        box.source_strides[i] = x.strides[perm[i]];
    }
    return box;
}

/* Edge of a square tile: rows of 32 floats are two cache lines, all 32 of them fit the cache. */
enum { EDGE = 32 };

/* The axis that is innermost in x (number `inner`, bands of EDGE of it are items) against the one
 * that is innermost in y (the last). */
typedef struct {
    pcnn_box box;
    int inner;
    int64_t bands;
    const char *x;
    char *y;
} job;

#define TRANSPOSE_TILE(type)                                          \
    for (int64_t i = 0; i < rows; i++)                                \
        for (int64_t j = 0; j < columns; j++)                         \
            *(type *)(y + i * y_stride + j * (int64_t)sizeof(type)) = \
                *(const type *)(x + i * (int64_t)sizeof(type) + j * x_stride);

/* y[i][j] = x[j][i] of a tile; strides of y's rows and x's rows in bytes. */
static void
transpose_tile(const char *x, int64_t x_stride, char *y, int64_t y_stride, int64_t rows,
               int64_t columns, int64_t itemsize)
{
    if (itemsize == 1) {
        TRANSPOSE_TILE(uint8_t)
    }
    else if (itemsize == 4) {
        TRANSPOSE_TILE(uint32_t)
    }
    else {
        TRANSPOSE_TILE(uint64_t)
    }
}

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    const pcnn_box *box = &job->box;
    const int last = box->ndim - 1, inner = job->inner;
    const int64_t itemsize = box->itemsize, columns = box->shape[last];
    for (int64_t item = begin; item < end; item++) {
        int64_t first = item % job->bands * EDGE, outer = item / job->bands;
        int64_t rows = box->shape[inner] - first < EDGE ? box->shape[inner] - first : EDGE;
        const char *x = job->x + first * itemsize;
        char *y = job->y + first * box->target_strides[inner];
        for (int i = last; i-- > 0;)
            if (i != inner) {
                x += outer % box->shape[i] * box->source_strides[i];
                y += outer % box->shape[i] * box->target_strides[i];
                outer /= box->shape[i];
            }
        for (int64_t j = 0; j < columns; j += EDGE)
            transpose_tile(x + j * box->source_strides[last], box->source_strides[last],
                           y + j * itemsize, box->target_strides[inner], rows,
                           columns - j < EDGE ? columns - j : EDGE, itemsize);
    }
}

static pcnn_status
run_blocked(const pcnn_site *site)
{
    job job = {.box = make_box(site), .x = site->in[0].data, .y = site->out[0].data};
    pcnn_box *box = &job.box;
    const int64_t size = pcnn_type_size(&site->in[0].type);
    if (size == 0)
        return PCNN_OK;
    pcnn_box_collapse(box);
    const int last = box->ndim - 1;
    if (box->source_strides[last] == box->itemsize) {
        pcnn_box_copy(box, job.x, job.y);
        return PCNN_OK;
    }
    while (box->source_strides[job.inner] != box->itemsize)
        job.inner++;
    job.bands = (box->shape[job.inner] + EDGE - 1) / EDGE;
    int64_t items = size / box->shape[last] / box->shape[job.inner] * job.bands;
    int64_t per_item = size / items;
    double cost = (double)size * 1.0;
    pcnn_parallel(items, per_item < 4096 ? 4096 / per_item : 1, cost, task, &job);
    return PCNN_OK;
}

/* One item after the other, in the order of y. */
static pcnn_status
run_reference(const pcnn_site *site)
{
    const pcnn_box box = make_box(site);
    const int64_t size = pcnn_type_size(&site->in[0].type);
    const char *x = site->in[0].data;
    char *y = site->out[0].data;
    for (int64_t at = 0; at < size; at++) {
        int64_t rest = at, offset = 0;
        for (int i = box.ndim; i-- > 0; rest /= box.shape[i])
            offset += rest % box.shape[i] * box.source_strides[i];
        memcpy(y + at * box.itemsize, x + offset, (size_t)box.itemsize);
    }
    return PCNN_OK;
}

static const pcnn_impl impls[] = {
    {.name = "nhwc_to_n16", .n16_out = 1, .refuse = refuse_from_nhwc, .run = run_from_nhwc},
    {.name = "n16_to_rows", .n16_in = 1, .refuse = refuse_to_rows, .run = run_to_rows},
    {.name = "blocked", .run = run_blocked},
    {.name = "reference", .run = run_reference},
    {.name = NULL},
};

const pcnn_op pcnn_op_transpose = {
    .name = "transpose",
    .doc = "y = x with its axes in the order perm: axis i of y is axis perm[i] of x.\n"
           "\n"
           "x of any shape and dtype; perm a permutation of its axes, None reverses them.\n"
           "Raises ValueError when perm is not a permutation of x's axes.",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(transpose_attrs),
    .flags = PCNN_OP_FOLLOWS,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};
