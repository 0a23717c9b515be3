/* Losses of a batch, one number a row.
 *
 *   nll: loss[n] = -logp[n][label[n]]
 *   softmax_cross_entropy: loss[n] = -sum over c of target[n][c] log_softmax(logits[n])[c], where
 *   labels are classes (int64, int32 or uint8 [N]) or distributions (logits' dtype, [N, C])
 *
 * Gradients: softmax_cross_entropy keeps logits and labels and computes
 * dlogits = (softmax(logits) sum(target) - target) dy; nll keeps the labels only. A label outside
 * 0 .. C-1 fails when the op runs, before anything is computed. Not handled: labels to ignore,
 * more than two dimensions. */
#include <string.h>

#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/reduce.h"
#include "ops/softmax.h"

enum { ROWS = 256 }; /* labels that are turned into int64 at once */

static bool
is_label(pcnn_dtype dtype)
{
    return dtype == PCNN_I64 || dtype == PCNN_I32 || dtype == PCNN_U8;
}

static int64_t
label_at(const pcnn_tensor *labels, int64_t i)
{
    switch (labels->type.dtype) {
    case PCNN_I64: return ((const int64_t *)labels->data)[i];
    case PCNN_I32: return ((const int32_t *)labels->data)[i];
    default: return ((const uint8_t *)labels->data)[i];
    }
}

/* `name`: what the user called, also when the gradient runs. */
static pcnn_status
check_labels(const char *name, const pcnn_tensor *labels, int64_t classes)
{
    int64_t N = labels->type.shape[0];
    for (int64_t i = 0; i < N; i++) {
        int64_t label = label_at(labels, i);
        if (label < 0 || label >= classes)
            return pcnn_fail(PCNN_ERR_VALUE, "%s: label %lld at row %lld is outside 0..%lld", name,
                             (long long)label, (long long)i, (long long)classes - 1);
    }
    return PCNN_OK;
}

/* Scores [N, C] in input `scores`, labels in the next one; `dense` also allows labels [N, C]. */
static pcnn_status
check_pair(const pcnn_call *call, int scores, bool dense)
{
    const pcnn_type *x = &call->in[scores], *labels = &call->in[scores + 1];
    char text[PCNN_SHAPE_TEXT], other[PCNN_SHAPE_TEXT];
    PCNN_TRY(pcnn_expect_float(call, scores));
    PCNN_TRY(pcnn_expect_rank(call, scores, 2));
    if (x->shape[1] == 0)
        return pcnn_fail(PCNN_ERR_SHAPE, "%s: %s has shape %s: there must be one class or more",
                         call->op->name, pcnn_param_name(call, scores), pcnn_shape_text(x, text));
    if (is_label(labels->dtype)) {
        if (labels->ndim == 1 && labels->shape[0] == x->shape[0])
            return PCNN_OK;
        return pcnn_fail(PCNN_ERR_SHAPE,
                         "%s: integer labels must have shape (%lld,), one class for each row of "
                         "%s, got %s",
                         call->op->name, (long long)x->shape[0], pcnn_param_name(call, scores),
                         pcnn_shape_text(labels, text));
    }
    if (!dense)
        return pcnn_fail(PCNN_ERR_TYPE, "%s: labels must be int64, int32 or uint8, got %s",
                         call->op->name, pcnn_dtype_name(labels->dtype));
    if (labels->dtype != x->dtype)
        return pcnn_fail(PCNN_ERR_TYPE,
                         "%s: labels must be integers of shape (N,) or %s of shape (N, C) as %s, "
                         "got %s",
                         call->op->name, pcnn_dtype_name(x->dtype), pcnn_param_name(call, scores),
                         pcnn_dtype_name(labels->dtype));
    if (!pcnn_shape_equal(labels, x))
        return pcnn_fail(PCNN_ERR_SHAPE,
                         "%s: labels of a float dtype must have the shape of %s, %s, got %s",
                         call->op->name, pcnn_param_name(call, scores), pcnn_shape_text(x, text),
                         pcnn_shape_text(labels, other));
    return PCNN_OK;
}

static void
per_row(const pcnn_type *scores, pcnn_type *out)
{
    out->dtype = scores->dtype;
    out->ndim = 1;
    out->shape[0] = scores->shape[0];
}

/* ---- nll ---- */

static pcnn_status
infer_nll(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(check_pair(call, 0, false));
    per_row(&call->in[0], out);
    return PCNN_OK;
}

static pcnn_status
run_nll(const pcnn_site *site)
{
    const pcnn_tensor *logp = &site->in[0], *labels = &site->in[1];
    int64_t N = logp->type.shape[0], C = logp->type.shape[1];
    PCNN_TRY(check_labels("nll", labels, C));
    for (int64_t n = 0; n < N; n++) {
        int64_t at = n * C + label_at(labels, n);
        if (logp->type.dtype == PCNN_F64)
            ((double *)site->out[0].data)[n] = -((const double *)logp->data)[at];
        else
            ((float *)site->out[0].data)[n] = -((const float *)logp->data)[at];
    }
    return PCNN_OK;
}

static pcnn_status
nll_gradient(pcnn_grad *grad)
{
    if (!grad->wanted[0])
        return PCNN_OK;
    const pcnn_nll_grad_attrs attrs = {pcnn_value_type(grad->in[0])->shape[1]};
    return PCNN_EMIT(grad, &grad->din[0], nll_grad, &attrs, grad->dout[0], grad->in[1]);
}

static pcnn_status
infer_nll_grad(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(pcnn_expect_float(call, 0));
    PCNN_TRY(pcnn_expect_rank(call, 0, 1));
    if (!is_label(call->in[1].dtype) || !pcnn_shape_equal(&call->in[0], &call->in[1]))
        return pcnn_fail(PCNN_ERR_SHAPE, "nll_grad: labels must be integers of the shape of dy");
    out->dtype = call->in[0].dtype;
    out->ndim = 2;
    out->shape[0] = call->in[0].shape[0];
    out->shape[1] = ((const pcnn_nll_grad_attrs *)call->attrs)->classes;
    return PCNN_OK;
}

static pcnn_status
run_nll_grad(const pcnn_site *site) /* dlogp[n][c] = c == label[n] ? -dy[n] : 0 */
{
    const pcnn_tensor *dy = &site->in[0], *labels = &site->in[1], *out = &site->out[0];
    int64_t N = out->type.shape[0], C = out->type.shape[1];
    PCNN_TRY(check_labels("nll", labels, C));
    if (N == 0)
        return PCNN_OK;
    memset(out->data, 0, (size_t)pcnn_layout_bytes(&out->type, PCNN_PLAIN));
    for (int64_t n = 0; n < N; n++) {
        int64_t at = n * C + label_at(labels, n);
        if (out->type.dtype == PCNN_F64)
            ((double *)out->data)[at] = -((const double *)dy->data)[n];
        else
            ((float *)out->data)[at] = -((const float *)dy->data)[n];
    }
    return PCNN_OK;
}

/* ---- softmax cross-entropy ---- */

static pcnn_status
infer_cross_entropy(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(check_pair(call, 0, true));
    per_row(&call->in[0], out);
    return PCNN_OK;
}

static pcnn_status
infer_cross_entropy_grad(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(check_pair(call, 1, true));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    PCNN_TRY(pcnn_expect_shape1(call, 0, call->in[1].shape[0], "rows of logits"));
    out[0] = call->in[1];
    return PCNN_OK;
}

typedef struct {
    const pcnn_kernels *kernels;
    const char *dy; /* NULL: forward */
    const char *logits;
    const pcnn_tensor *labels;
    char *out;
    int64_t C;
    size_t width;
} job;

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    const job *j = context;
    bool sparse = is_label(j->labels->type.dtype);
    int64_t label[ROWS];
    (void)worker;
    for (int64_t n = begin; n < end; n += ROWS) {
        int64_t rows = end - n < ROWS ? end - n : ROWS;
        size_t row = (size_t)n * j->width, matrix = row * (size_t)j->C;
        for (int64_t i = 0; i < rows && sparse; i++)
            label[i] = label_at(j->labels, n + i);
        const int64_t *classes = sparse ? label : NULL;
        const void *targets = sparse ? NULL : (const char *)j->labels->data + matrix;
        if (j->dy == NULL)
            j->kernels->cross_entropy_rows(j->logits + matrix, classes, targets, j->out + row, rows,
                                           j->C);
        else
            j->kernels->cross_entropy_grad_rows(j->dy + row, j->logits + matrix, classes, targets,
                                                j->out + matrix, rows, j->C);
    }
}

/* `first` is the input that holds the logits: 0, or 1 after dy. */
static pcnn_status
run_rows(const pcnn_site *site, int first)
{
    const pcnn_tensor *logits = &site->in[first], *labels = &site->in[first + 1];
    int64_t N = logits->type.shape[0], C = logits->type.shape[1];
    if (is_label(labels->type.dtype))
        PCNN_TRY(check_labels("softmax_cross_entropy", labels, C));
    job j = {pcnn_kernels_for(logits->type.dtype),
             first ? site->in[0].data : NULL,
             logits->data,
             labels,
             site->out[0].data,
             C,
             pcnn_dtype_size(logits->type.dtype)};
    int64_t grain = 4096 / C + 1;
    if (N > 0)
        pcnn_parallel(N, grain < N ? grain : N, (double)N * ((double)C * 2 + 30), task, &j);
    return PCNN_OK;
}

static pcnn_status
run_cross_entropy(const pcnn_site *site)
{
    return run_rows(site, 0);
}

static pcnn_status
run_cross_entropy_grad(const pcnn_site *site)
{
    return run_rows(site, 1);
}

/* dtarget = -log_softmax(logits) dy */
static pcnn_status
target_gradient(pcnn_grad *grad)
{
    const pcnn_type *x = pcnn_value_type(grad->in[0]);
    const pcnn_softmax_attrs last = {-1};
    const pcnn_expand_attrs along = {{2, {x->shape[0], x->shape[1]}}, {1, {1}}, 0};
    pcnn_value *logp = NULL, *dy = NULL, *product = NULL;
    pcnn_status status = PCNN_EMIT(grad, &logp, log_softmax, &last, grad->in[0]);
    if (status == PCNN_OK)
        status = PCNN_EMIT(grad, &dy, expand, &along, grad->dout[0]);
    if (status == PCNN_OK)
        status = PCNN_EMIT(grad, &product, mul, NULL, logp, dy);
    if (status == PCNN_OK)
        status = PCNN_EMIT(grad, &grad->din[1], neg, NULL, product);
    pcnn_value *all[] = {logp, dy, product};
    for (int i = 0; i < 3; i++)
        if (all[i] != NULL)
            pcnn_value_release(all[i]);
    return status;
}

static pcnn_status
cross_entropy_gradient(pcnn_grad *grad)
{
    if (grad->wanted[0])
        PCNN_TRY(PCNN_EMIT(grad, &grad->din[0], softmax_cross_entropy_grad, NULL, grad->dout[0],
                           grad->in[0], grad->in[1]));
    return grad->wanted[1] ? target_gradient(grad) : PCNN_OK;
}

/* ---- the ops ---- */

static const pcnn_impl nll_impls[] = {{"plain", 0, 0, 0, NULL, NULL, run_nll, NULL}, {0}};
static const pcnn_impl nll_grad_impls[] = {{"plain", 0, 0, 0, NULL, NULL, run_nll_grad, NULL}, {0}};
static const pcnn_impl cross_entropy_impls[] = {
    {"plain", 0, 0, 0, NULL, NULL, run_cross_entropy, NULL}, {0}};
static const pcnn_impl cross_entropy_grad_impls[] = {
    {"plain", 0, 0, 0, NULL, NULL, run_cross_entropy_grad, NULL},
    {0},
};

static const pcnn_attr nll_grad_attrs[] = {
    PCNN_ATTR(pcnn_nll_grad_attrs, classes, PCNN_ATTR_INT, NULL),
    {0},
};

const pcnn_op pcnn_op_nll = {
    .name = "nll",
    .doc = "y[n] = -logp[n][labels[n]]\n\nlogp: [N, C], float32 or float64; labels: [N], int64, "
           "int32 or uint8; y: [N]. A label outside 0..C-1 raises ValueError when computed.",
    .n_in = 2,
    .params = {{"logp", false}, {"labels", false}},
    .n_out = 1,
    .out_names = {"y"},
    .saves_in = 2,
    .infer = infer_nll,
    .gradient = nll_gradient,
    .impls = nll_impls,
};

const pcnn_op pcnn_op_nll_grad = {
    .name = "nll_grad",
    .doc = "dlogp[n][c] = c == labels[n] ? -dy[n] : 0",
    .n_in = 2,
    .params = {{"dy", false}, {"labels", false}},
    .n_out = 1,
    .out_names = {"dlogp"},
    .attrs = nll_grad_attrs,
    .attrs_size = sizeof(pcnn_nll_grad_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_nll_grad,
    .impls = nll_grad_impls,
};

const pcnn_op pcnn_op_softmax_cross_entropy = {
    .name = "softmax_cross_entropy",
    .doc = "y[n] = -sum of target[n][c] log_softmax(logits[n])[c] over c\n\nlogits: [N, C], "
           "float32 or float64; labels: classes, int64, int32 or uint8 [N], or distributions of "
           "logits' "
           "dtype [N, C]; y: [N]. A label outside 0..C-1 raises ValueError when computed.",
    .n_in = 2,
    .params = {{"logits", false}, {"labels", false}},
    .n_out = 1,
    .out_names = {"y"},
    .saves_in = 3,
    .infer = infer_cross_entropy,
    .gradient = cross_entropy_gradient,
    .impls = cross_entropy_impls,
};

const pcnn_op pcnn_op_softmax_cross_entropy_grad = {
    .name = "softmax_cross_entropy_grad",
    .doc = "dlogits = (softmax(logits) sum(target) - target) dy",
    .n_in = 3,
    .params = {{"dy", false}, {"logits", false}, {"labels", false}},
    .n_out = 1,
    .out_names = {"dlogits"},
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_cross_entropy_grad,
    .impls = cross_entropy_grad_impls,
};
