/* Cuts elementwise work into rows: see elementwise.h.
 *
 * Dimensions are first merged where all operands lie alike, so that rows become as long as they
 * can. Threads take chunks of a fixed number of output elements. */
#include "ops/elementwise.h"

#include "core/parallel.h"

enum { CHUNK = 8192, MAX_DIMS = PCNN_MAX_NDIM + 1 };

typedef struct {
    int operands;
    int ndim;                  /* merged dimensions of the output, at least one */
    int64_t extent[MAX_DIMS];
    int64_t stride[PCNN_ROW_OPERANDS][MAX_DIMS]; /* in elements; 0 where the operand repeats */
    int64_t size;
    size_t width[PCNN_ROW_OPERANDS]; /* bytes of an element */
    size_t out_width;
    const char *in[PCNN_ROW_OPERANDS];
    char *out;
    pcnn_row_function row;
    double parameter;
    /* N16 with a last block that is not full: from here on only the first lanes are images. */
    int64_t last_block;
    int valid_lanes;
    void (*clear)(void *y, int64_t groups, int64_t valid);
} walk;

/* The output's extents as memory has them: an N16 block is a last dimension of 16. */
static void
output_extents(walk *w, const pcnn_tensor *out)
{
    w->ndim = out->type.ndim;
    for (int d = 0; d < w->ndim; d++)
        w->extent[d] = out->type.shape[d];
    if (out->layout == PCNN_N16) {
        w->extent[0] = (w->extent[0] + PCNN_BLOCK - 1) / PCNN_BLOCK;
        w->extent[w->ndim++] = PCNN_BLOCK;
    }
}

static void
operand_strides(walk *w, int k, const pcnn_tensor *in, const pcnn_tensor *out)
{
    for (int d = 0; d < w->ndim; d++)
        w->stride[k][d] = 0;
    if (in->layout == PCNN_N16) { /* has the output's shape */
        int64_t stride = 1;
        for (int d = w->ndim - 1; d >= 0; d--) {
            w->stride[k][d] = stride;
            stride *= w->extent[d];
        }
        return;
    }
    int shift = out->type.ndim - in->type.ndim;
    int64_t stride = 1;
    for (int d = in->type.ndim - 1; d >= 0; d--) {
        w->stride[k][d + shift] = in->type.shape[d] == 1 ? 0 : stride;
        stride *= in->type.shape[d];
    }
}

/* Drops extents of 1 and merges neighbours that every operand walks through without a jump. */
static void
merge(walk *w)
{
    int n = 0;
    for (int d = 0; d < w->ndim; d++) {
        if (w->extent[d] == 1)
            continue;
        bool joined = n > 0;
        for (int k = 0; k < w->operands && joined; k++)
            joined = w->stride[k][n - 1] == w->stride[k][d] * w->extent[d];
        int to = joined ? n - 1 : n++;
        w->extent[to] = joined ? w->extent[to] * w->extent[d] : w->extent[d];
        for (int k = 0; k < w->operands; k++)
            w->stride[k][to] = w->stride[k][d];
    }
    if (n == 0) {
        w->extent[0] = 1;
        for (int k = 0; k < w->operands; k++)
            w->stride[k][0] = 0;
        n = 1;
    }
    w->ndim = n;
}

/* Output elements begin .. end-1, row by row. */
static void
walk_range(const walk *w, int64_t begin, int64_t end)
{
    const int last = w->ndim - 1;
    const int64_t length = w->extent[last];
    int64_t index[MAX_DIMS], offset[PCNN_ROW_OPERANDS] = {0}, step[PCNN_ROW_OPERANDS];
    int64_t outer = begin / length, column = begin % length;
    for (int k = 0; k < w->operands; k++)
        step[k] = w->stride[k][last];
    for (int d = last - 1; d >= 0; d--) {
        index[d] = outer % w->extent[d];
        outer /= w->extent[d];
        for (int k = 0; k < w->operands; k++)
            offset[k] += index[d] * w->stride[k][d];
    }
    while (begin < end) {
        int64_t n = length - column < end - begin ? length - column : end - begin;
        const void *in[PCNN_ROW_OPERANDS];
        for (int k = 0; k < w->operands; k++)
            in[k] = w->in[k] + (size_t)(offset[k] + column * step[k]) * w->width[k];
        w->row(in, step, w->out + (size_t)begin * w->out_width, n, w->parameter);
        begin += n;
        column = 0;
        for (int d = last - 1; d >= 0; d--) {
            bool wraps = ++index[d] == w->extent[d];
            for (int k = 0; k < w->operands; k++)
                offset[k] += w->stride[k][d] * (wraps ? 1 - w->extent[d] : 1);
            if (!wraps)
                break;
            index[d] = 0;
        }
    }
}

static void
task(void *context, int64_t first, int64_t end, int worker)
{
    const walk *w = context;
    (void)worker;
    for (int64_t c = first; c < end; c++) {
        int64_t from = c * CHUNK, to = from + CHUNK < w->size ? from + CHUNK : w->size;
        walk_range(w, from, to);
        if (to > w->last_block) {
            int64_t start = from > w->last_block ? from : w->last_block;
            w->clear(w->out + (size_t)start * w->out_width, (to - start) / PCNN_BLOCK,
                     w->valid_lanes);
        }
    }
}

pcnn_status
pcnn_elementwise_run(const pcnn_site *site, pcnn_row_function row, double parameter,
                     bool keeps_zero, double ns)
{
    const pcnn_tensor *out = &site->out[0];
    walk w = {.operands = site->n_in, .row = row, .parameter = parameter, .out = out->data};
    w.size = pcnn_layout_size(&out->type, out->layout);
    w.out_width = pcnn_dtype_size(out->type.dtype);
    w.last_block = w.size;
    if (w.size == 0)
        return PCNN_OK;
    output_extents(&w, out);
    for (int k = 0; k < w.operands; k++) {
        w.in[k] = site->in[k].data;
        w.width[k] = pcnn_dtype_size(site->in[k].type.dtype);
        operand_strides(&w, k, &site->in[k], out);
    }
    merge(&w);
    if (out->layout == PCNN_N16 && !keeps_zero && out->type.shape[0] % PCNN_BLOCK != 0) {
        int64_t blocks = (out->type.shape[0] + PCNN_BLOCK - 1) / PCNN_BLOCK;
        w.last_block = w.size / blocks * (blocks - 1);
        w.valid_lanes = (int)(out->type.shape[0] % PCNN_BLOCK);
        w.clear = pcnn_kernels_for(out->type.dtype)->clear_lanes;
    }
    pcnn_parallel((w.size + CHUNK - 1) / CHUNK, 1, (double)w.size * ns, task, &w);
    return PCNN_OK;
}

void
pcnn_elementwise_plane(const pcnn_site *site, const pcnn_plane *plane, pcnn_row_function row,
                       double parameter, bool keeps_zero)
{
    const pcnn_type *type = &site->out[0].type;
    const int64_t pixels = (plane->end - plane->begin) * type->shape[3];
    const int64_t images = type->shape[0] - plane->block * PCNN_BLOCK;
    int64_t step[PCNN_ROW_OPERANDS];
    for (int k = 0; k < site->n_in; k++)
        step[k] = site->in[k].layout == PCNN_N16;
    row(plane->in, step, plane->out[0], pixels * PCNN_BLOCK, parameter);
    if (images < PCNN_BLOCK && !keeps_zero)
        pcnn_kernels_for(type->dtype)->clear_lanes(plane->out[0], pixels, images);
}

bool
pcnn_elementwise_plane_accepts(const pcnn_site *site)
{
    for (int k = 0; k < site->n_in; k++)
        if (site->in[k].layout != PCNN_N16 && pcnn_type_size(&site->in[k].type) != 1)
            return false;
    return true;
}

int64_t
pcnn_elementwise_plane_rows(const pcnn_site *site, int k)
{
    (void)site, (void)k;
    return 1;
}

const char *
pcnn_elementwise_refuse_n16(const pcnn_site *site)
{
    const pcnn_type *out = &site->out[0].type;
    if (out->ndim != 4 || !pcnn_is_float(out->dtype))
        return "not a rank-4 float value";
    for (int k = 0; k < site->n_in; k++) {
        const pcnn_type *in = &site->in[k].type;
        if (in->dtype != out->dtype)
            return "operands of another dtype";
        if (site->in[k].layout == PCNN_N16) {
            if (!pcnn_shape_equal(in, out))
                return "an N16 operand is broadcast";
        }
        else if (in->ndim == 4 && in->shape[0] != 1) {
            return "a plain operand differs from image to image";
        }
    }
    return NULL;
}

pcnn_status
pcnn_broadcast_shape(const pcnn_call *call, pcnn_type *out)
{
    out->ndim = 0;
    for (int k = 0; k < call->n_in; k++)
        out->ndim = call->in[k].ndim > out->ndim ? call->in[k].ndim : out->ndim;
    for (int d = 0; d < out->ndim; d++) {
        int64_t extent = 1;
        for (int k = 0; k < call->n_in; k++) {
            int own = d - (out->ndim - call->in[k].ndim);
            int64_t n = own < 0 ? 1 : call->in[k].shape[own];
            if (n == 1 || n == extent)
                continue;
            if (extent != 1) {
                char a[PCNN_SHAPE_TEXT], b[PCNN_SHAPE_TEXT];
                return pcnn_fail(PCNN_ERR_SHAPE,
                                 "%s: shapes %s and %s cannot be broadcast together: counted from "
                                 "the last, dimensions must be equal or 1",
                                 call->op->name, pcnn_shape_text(&call->in[k > 1 ? 1 : 0], a),
                                 pcnn_shape_text(&call->in[k], b));
            }
            extent = n;
        }
        out->shape[d] = extent;
    }
    return PCNN_OK;
}

pcnn_status
pcnn_infer_same(const pcnn_call *call, pcnn_type *out)
{
    for (int k = 0; k < call->n_in; k++) {
        PCNN_TRY(pcnn_expect_float(call, k));
        PCNN_TRY(pcnn_expect_same_dtype(call, 0, k));
        if (!pcnn_shape_equal(&call->in[k], &call->in[0])) {
            char a[PCNN_SHAPE_TEXT], b[PCNN_SHAPE_TEXT];
            return pcnn_fail(PCNN_ERR_SHAPE,
                             "%s: %s has shape %s and %s has shape %s: they must "
                             "be equal",
                             call->op->name, pcnn_param_name(call, 0),
                             pcnn_shape_text(&call->in[0], a), pcnn_param_name(call, k),
                             pcnn_shape_text(&call->in[k], b));
        }
    }
    out[0] = call->in[0];
    return PCNN_OK;
}
