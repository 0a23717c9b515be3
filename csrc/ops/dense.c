/* dense: y[n][o] = activation(b[o] + sum over i of x[n][i] w[i][o]), or w[o][i] with transpose_w.
 *
 * Batches are computed in lines of sixteen rows (dense_lines.c), which gives the bits that
 * dense_maps gives for the same numbers; else the product is OpenBLAS's, cut into tiles. Bias and
 * activation are applied to a tile while it is warm. Backward needs x and w: dx = dy w^T, dw = x^T dy, db = the column sums of dy. The activation
 * is set by the plan after differentiation; there is no gradient through it here. */
#include "blas/gemm.h"
#include "isa/kernels.h"
#include "ops/activation.h"
#include "ops/dense_few.h"
#include "ops/dense_lines.h"
#include "ops/matmul.h"
#include "ops/op.h"
#include "ops/reduce.h"

typedef struct {
    int64_t transpose_w;
    int64_t activation;
} pcnn_dense_attrs;

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_dense_attrs *attrs = call->attrs;
    const pcnn_type *x = &call->in[0], *w = &call->in[1];
    for (int i = 0; i < 3; i++)
        PCNN_TRY(pcnn_expect_float(call, i));
    PCNN_TRY(pcnn_expect_rank(call, 0, 2));
    PCNN_TRY(pcnn_expect_rank(call, 1, 2));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 2));
    const int64_t I = w->shape[attrs->transpose_w ? 1 : 0],
                  O = w->shape[attrs->transpose_w ? 0 : 1];
    if (x->shape[1] != I) {
        char x_text[PCNN_SHAPE_TEXT], w_text[PCNN_SHAPE_TEXT];
        return pcnn_fail(
            PCNN_ERR_SHAPE,
            "dense: x has %lld features but w expects %lld (x has shape %s = N,I; w has "
            "shape %s = %s)",
            (long long)x->shape[1], (long long)I, pcnn_shape_text(x, x_text),
            pcnn_shape_text(w, w_text), attrs->transpose_w ? "O,I" : "I,O");
    }
    PCNN_TRY(pcnn_expect_shape1(call, 2, O, "one for each output of w"));
    *out = (pcnn_type){.dtype = x->dtype, .ndim = 2, .shape = {x->shape[0], O}};
    return PCNN_OK;
}

static pcnn_status
gradient(pcnn_grad *grad)
{
    const pcnn_dense_attrs *attrs = grad->attrs;
    pcnn_value *x = grad->in[0], *w = grad->in[1], *dy = grad->dout[0];
    if (attrs->activation != PCNN_ACT_NONE)
        return pcnn_fail(PCNN_ERR_NOT_IMPLEMENTED,
                         "dense: no gradient through a fused activation; differentiate first");
    if (grad->wanted[0]) {
        pcnn_matmul_attrs product = {.transpose_b = !attrs->transpose_w};
        PCNN_TRY(PCNN_EMIT(grad, &grad->din[0], matmul, &product, dy, w));
    }
    if (grad->wanted[1]) {
        pcnn_matmul_attrs product = {.transpose_a = 1};
        if (attrs->transpose_w)
            PCNN_TRY(PCNN_EMIT(grad, &grad->din[1], matmul, &product, dy, x));
        else
            PCNN_TRY(PCNN_EMIT(grad, &grad->din[1], matmul, &product, x, dy));
    }
    if (grad->n_in > 2 && grad->in[2] != NULL && grad->wanted[2]) {
        pcnn_reduce_attrs rows = {.axis = {.n = 1, .at = {0}}};
        PCNN_TRY(PCNN_EMIT(grad, &grad->din[2], sum, &rows, dy));
    }
    return PCNN_OK;
}

typedef struct {
    const pcnn_kernels *kernels;
    char *y;
    const char *b;
    int64_t O, size, activation;
} epilogue;

static void
finish_tile(void *context, int64_t row, int64_t rows, int64_t column, int64_t columns)
{
    const epilogue *e = context;
    e->kernels->bias_activation(e->y + (row * e->O + column) * e->size, rows, columns, e->O,
                                e->b ? e->b + column * e->size : NULL, 0, 1, e->activation);
}

static epilogue
epilogue_of(const pcnn_site *site)
{
    const pcnn_type *y = &site->out[0].type;
    return (epilogue){.kernels = pcnn_kernels_for(y->dtype),
                      .y = site->out[0].data,
                      .b = site->n_in > 2 ? site->in[2].data : NULL,
                      .O = y->shape[1],
                      .size = (int64_t)pcnn_dtype_size(y->dtype),
                      .activation = ((const pcnn_dense_attrs *)site->attrs)->activation};
}

static const char *
refuse_lines(const pcnn_site *site)
{
    const int64_t *x = site->in[0].type.shape;
    if (((const pcnn_dense_attrs *)site->attrs)->transpose_w)
        return "w is stored [O, I]";
    return pcnn_dense_lines_suit(x[0], x[1], site->out[0].type.shape[1])
               ? NULL
               : "less than 8 rows, no numbers, or a result that no cache holds";
}

static int64_t
workspace_lines(const pcnn_site *site)
{
    const int64_t *x = site->in[0].type.shape;
    return pcnn_dense_rows_workspace(site->in[0].type.dtype, x[0], x[1], site->out[0].type.shape[1],
                                     PCNN_DENSE_FORWARD);
}

static pcnn_status
run_lines(const pcnn_site *site)
{
    const int64_t *x = site->in[0].type.shape;
    pcnn_dense_rows_forward(
        site->in[0].type.dtype, x[0], x[1], site->out[0].type.shape[1], site->in[0].data,
        site->in[1].data, site->n_in > 2 ? site->in[2].data : NULL,
        ((const pcnn_dense_attrs *)site->attrs)->activation, site->out[0].data, site->work);
    return PCNN_OK;
}

static const char *
refuse_few(const pcnn_site *site)
{
    const pcnn_dense_attrs *attrs = site->attrs;
    if (site->in[0].type.shape[0] > PCNN_FEW_ROWS)
        return "x has many rows";
    return attrs->transpose_w ? "w is transposed" : NULL;
}

static int64_t
workspace_few(const pcnn_site *site)
{
    const int64_t *x = site->in[0].type.shape, O = site->out[0].type.shape[1];
    return pcnn_dense_few_bytes(site->in[0].type.dtype, x[0], x[1], O);
}

static pcnn_status
run_few(const pcnn_site *site)
{
    const pcnn_tensor *x = &site->in[0];
    const int64_t N = x->type.shape[0], I = x->type.shape[1], O = site->out[0].type.shape[1];
    epilogue e = epilogue_of(site);
    pcnn_dense_few(x->type.dtype, N, I, O, x->data, site->in[1].data, e.y, site->work);
    if (e.b || e.activation)
        finish_tile(&e, 0, N, 0, O);
    return PCNN_OK;
}

static const char *
refuse_gemm(const pcnn_site *site)
{
    const int64_t *x = site->in[0].type.shape, *y = site->out[0].type.shape;
    return x[0] > PCNN_GEMM_MAX || x[1] > PCNN_GEMM_MAX || y[1] > PCNN_GEMM_MAX
               ? "an extent is too large for BLAS"
               : NULL;
}

static pcnn_status
run_gemm(const pcnn_site *site)
{
    const pcnn_dense_attrs *attrs = site->attrs;
    const pcnn_tensor *x = &site->in[0], *w = &site->in[1];
    const int64_t N = x->type.shape[0], I = x->type.shape[1], O = site->out[0].type.shape[1];
    epilogue e = epilogue_of(site);
    pcnn_gemm_and(x->type.dtype, false, attrs->transpose_w != 0, N, O, I, x->data, I, w->data,
                  attrs->transpose_w ? I : O, site->out[0].data, O,
                  e.b || e.activation ? finish_tile : NULL, &e);
    return PCNN_OK;
}

static pcnn_status
run_reference(const pcnn_site *site)
{
    const pcnn_dense_attrs *attrs = site->attrs;
    const pcnn_tensor *x = &site->in[0], *w = &site->in[1];
    const int64_t N = x->type.shape[0], I = x->type.shape[1], O = site->out[0].type.shape[1];
    epilogue e = epilogue_of(site);
    e.kernels->matmul_reference(x->data, I, 1, w->data, attrs->transpose_w ? 1 : O,
                                attrs->transpose_w ? I : 1, e.y, N, O, I);
    finish_tile(&e, 0, N, 0, O);
    return PCNN_OK;
}

static const char *const activations[] = {"none", "relu", "sigmoid", "tanh", NULL};

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_dense_attrs, transpose_w, PCNN_ATTR_BOOL, "False"),
    {"activation", PCNN_ATTR_CHOICE, offsetof(pcnn_dense_attrs, activation), "none", activations},
    {NULL, PCNN_ATTR_INT, 0, NULL, NULL},
};

static const pcnn_impl impls[] = {
    {.name = "few", .refuse = refuse_few, .workspace = workspace_few, .run = run_few},
    {.name = "lines", .refuse = refuse_lines, .workspace = workspace_lines, .run = run_lines},
    {.name = "gemm", .refuse = refuse_gemm, .run = run_gemm},
    {.name = "reference", .run = run_reference},
    {.name = NULL},
};

const pcnn_op pcnn_op_dense = {
    .name = "dense",
    .doc = "y = x w + b, a fully connected layer.\n"
           "\n"
           "x [N, I], w [I, O] (or [O, I] with transpose_w), b [O] -> y [N, O].\n"
           "ShapeError: ranks, features or b do not fit. TypeError: dtypes differ or no floats.",
    .n_in = 3,
    .params = {{"x", false}, {"w", false}, {"b", true}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_dense_attrs),
    .saves_in = 1 | 2,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};
