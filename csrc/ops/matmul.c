/* matmul: c[...][m][n] = sum over k of a[...][m][k] b[...][k][n], the last two axes of a or b
 * swapped first where transpose_a or transpose_b says so.
 *
 * Both have two dimensions, or the same leading ones (no broadcasting). Backward needs a and b; each
 * derivative is a matmul again. The gradients of a dense layer, a b^T and a^T b, are computed in
 * lines of sixteen images (dense_lines.c), which gives the bits that dense_maps' gradients have. */
#include "blas/gemm.h"
#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/dense_lines.h"
#include "ops/matmul.h"
#include "ops/op.h"

typedef struct {
    int64_t batch, M, N, K;
    int64_t a_rows, a_columns, b_rows, b_columns; /* as stored */
} sizes;

static sizes
sizes_of(const pcnn_type *a, const pcnn_type *b, const pcnn_matmul_attrs *attrs)
{
    const int last = a->ndim - 1;
    sizes s = {.batch = 1,
               .a_rows = a->shape[last - 1],
               .a_columns = a->shape[last],
               .b_rows = b->shape[last - 1],
               .b_columns = b->shape[last]};
    for (int i = 0; i < last - 1; i++)
        s.batch *= a->shape[i];
    s.M = attrs->transpose_a ? s.a_columns : s.a_rows;
    s.K = attrs->transpose_a ? s.a_rows : s.a_columns;
    s.N = attrs->transpose_b ? s.b_rows : s.b_columns;
    return s;
}

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_matmul_attrs *attrs = call->attrs;
    const pcnn_type *a = &call->in[0], *b = &call->in[1];
    char a_text[PCNN_SHAPE_TEXT], b_text[PCNN_SHAPE_TEXT];
    PCNN_TRY(pcnn_expect_float(call, 0));
    PCNN_TRY(pcnn_expect_float(call, 1));
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    if (a->ndim < 2 || b->ndim != a->ndim)
        return pcnn_fail(
            PCNN_ERR_SHAPE,
            "matmul: a and b must both have 2 dimensions, or the same number with equal "
            "leading ones; got shapes %s and %s",
            pcnn_shape_text(a, a_text), pcnn_shape_text(b, b_text));
    for (int i = 0; i < a->ndim - 2; i++)
        if (a->shape[i] != b->shape[i])
            return pcnn_fail(
                PCNN_ERR_SHAPE,
                "matmul: the leading dimensions of a and b must be equal (they are not "
                "broadcast), got shapes %s and %s",
                pcnn_shape_text(a, a_text), pcnn_shape_text(b, b_text));
    const sizes s = sizes_of(a, b, attrs);
    const int64_t K = attrs->transpose_b ? s.b_columns : s.b_rows;
    if (s.K != K)
        return pcnn_fail(PCNN_ERR_SHAPE,
                         "matmul: the inner sizes differ, %lld of a and %lld of b: shapes %s%s and "
                         "%s%s",
                         (long long)s.K, (long long)K, pcnn_shape_text(a, a_text),
                         attrs->transpose_a ? " transposed" : "", pcnn_shape_text(b, b_text),
                         attrs->transpose_b ? " transposed" : "");
    *out = *a;
    out->shape[a->ndim - 2] = s.M;
    out->shape[a->ndim - 1] = s.N;
    return PCNN_OK;
}

/* With A = op(a), B = op(b): dA = dC B^T and dB = A^T dC, each transposed back where op does. */
static pcnn_status
gradient(pcnn_grad *grad)
{
    const pcnn_matmul_attrs *attrs = grad->attrs;
    const int64_t ta = attrs->transpose_a, tb = attrs->transpose_b;
    pcnn_value *a = grad->in[0], *b = grad->in[1], *dc = grad->dout[0];
    if (grad->wanted[0]) {
        pcnn_matmul_attrs product = {0, !tb}, transposed = {tb, 1};
        if (ta)
            PCNN_TRY(PCNN_EMIT(grad, &grad->din[0], matmul, &transposed, b, dc));
        else
            PCNN_TRY(PCNN_EMIT(grad, &grad->din[0], matmul, &product, dc, b));
    }
    if (grad->wanted[1]) {
        pcnn_matmul_attrs product = {!ta, 0}, transposed = {1, ta};
        if (tb)
            PCNN_TRY(PCNN_EMIT(grad, &grad->din[1], matmul, &transposed, dc, a));
        else
            PCNN_TRY(PCNN_EMIT(grad, &grad->din[1], matmul, &product, a, dc));
    }
    return PCNN_OK;
}

static void
multiply(const pcnn_site *site, const sizes *s, int64_t matrix, bool serial)
{
    const pcnn_matmul_attrs *attrs = site->attrs;
    const pcnn_dtype dtype = site->in[0].type.dtype;
    const int64_t size = (int64_t)pcnn_dtype_size(dtype);
    pcnn_gemm(
        dtype, attrs->transpose_a != 0, attrs->transpose_b != 0, s->M, s->N, s->K, 1,
        (const char *)site->in[0].data + matrix * s->a_rows * s->a_columns * size, s->a_columns,
        (const char *)site->in[1].data + matrix * s->b_rows * s->b_columns * size, s->b_columns, 0,
        (char *)site->out[0].data + matrix * s->M * s->N * size, s->N, serial);
}

typedef struct {
    const pcnn_site *site;
    sizes sizes;
} job;

static void
run_matrices(void *context, int64_t begin, int64_t end, int worker)
{
    const job *job = context;
    (void)worker;
    for (int64_t matrix = begin; matrix < end; matrix++)
        multiply(job->site, &job->sizes, matrix, true);
}

/* As the gradient of a dense layer of N rows, I inputs and O outputs: a b^T is dy w^T, [N, O] by
 * [I, O]; a^T b is x^T dy, [N, I] by [N, O]. */
typedef struct {
    pcnn_dense_pass pass;
    int64_t N, I, O;
} layer;

static layer
layer_of(const pcnn_site *site)
{
    const sizes s = sizes_of(&site->in[0].type, &site->in[1].type, site->attrs);
    if (((const pcnn_matmul_attrs *)site->attrs)->transpose_a)
        return (layer){PCNN_DENSE_DW, s.K, s.M, s.N};
    return (layer){PCNN_DENSE_DX, s.M, s.N, s.K};
}

static const char *
refuse_lines(const pcnn_site *site)
{
    const pcnn_matmul_attrs *attrs = site->attrs;
    const layer l = layer_of(site);
    if (site->in[0].type.ndim != 2 || attrs->transpose_a == attrs->transpose_b)
        return "not one of a dense layer's gradients";
    return pcnn_dense_lines_suit(l.N, l.I, l.O)
               ? NULL
               : "less than 8 rows, no numbers, or a gradient that no cache holds";
}

static int64_t
workspace_lines(const pcnn_site *site)
{
    const layer l = layer_of(site);
    return pcnn_dense_rows_workspace(site->in[0].type.dtype, l.N, l.I, l.O, l.pass);
}

static pcnn_status
run_lines(const pcnn_site *site)
{
    const layer l = layer_of(site);
    (l.pass == PCNN_DENSE_DX ? pcnn_dense_rows_dx : pcnn_dense_rows_dw)(
        site->in[0].type.dtype, l.N, l.I, l.O, site->in[0].data, site->in[1].data,
        site->out[0].data, site->work);
    return PCNN_OK;
}

static const char *
refuse_gemm(const pcnn_site *site)
{
    const sizes s = sizes_of(&site->in[0].type, &site->in[1].type, site->attrs);
    return s.M > PCNN_GEMM_MAX || s.N > PCNN_GEMM_MAX || s.K > PCNN_GEMM_MAX
               ? "an extent is too large for BLAS"
               : NULL;
}

static pcnn_status
run_gemm(const pcnn_site *site)
{
    job job = {.site = site, .sizes = sizes_of(&site->in[0].type, &site->in[1].type, site->attrs)};
    const sizes *s = &job.sizes;
    if (s->batch == 1)
        multiply(site, s, 0, false);
    else
        pcnn_parallel(s->batch, 1,
                      2.0 * (double)s->batch * (double)s->M * (double)s->N * (double)s->K / 25,
                      run_matrices, &job);
    return PCNN_OK;
}

static pcnn_status
run_reference(const pcnn_site *site)
{
    const pcnn_matmul_attrs *attrs = site->attrs;
    const sizes s = sizes_of(&site->in[0].type, &site->in[1].type, attrs);
    const int64_t size = (int64_t)pcnn_dtype_size(site->in[0].type.dtype);
    const int64_t ta = attrs->transpose_a, tb = attrs->transpose_b;
    for (int64_t m = 0; m < s.batch; m++)
        pcnn_kernels_for(site->in[0].type.dtype)
            ->matmul_reference((const char *)site->in[0].data + m * s.a_rows * s.a_columns * size,
                               ta ? 1 : s.a_columns, ta ? s.a_columns : 1,
                               (const char *)site->in[1].data + m * s.b_rows * s.b_columns * size,
                               tb ? 1 : s.b_columns, tb ? s.b_columns : 1,
                               (char *)site->out[0].data + m * s.M * s.N * size, s.M, s.N, s.K);
    return PCNN_OK;
}

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_matmul_attrs, transpose_a, PCNN_ATTR_BOOL, "False"),
    PCNN_ATTR(pcnn_matmul_attrs, transpose_b, PCNN_ATTR_BOOL, "False"),
    {NULL, PCNN_ATTR_INT, 0, NULL, NULL},
};

static const pcnn_impl impls[] = {
    {.name = "lines", .refuse = refuse_lines, .workspace = workspace_lines, .run = run_lines},
    {.name = "gemm", .refuse = refuse_gemm, .run = run_gemm},
    {.name = "reference", .run = run_reference},
    {.name = NULL},
};

const pcnn_op pcnn_op_matmul = {
    .name = "matmul",
    .doc = "c = a b, the matrix product.\n"
           "\n"
           "a [..., M, K] (or [..., K, M] with transpose_a), b [..., K, N] (or [..., N, K] with\n"
           "transpose_b) -> c [..., M, N]; the leading dimensions are equal, not broadcast.\n"
           "ShapeError: ranks, leading or inner sizes do not fit. TypeError: dtypes differ or no\n"
           "floats.",
    .n_in = 2,
    .params = {{"a", false}, {"b", false}},
    .n_out = 1,
    .out_names = {"c"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_matmul_attrs),
    .saves_in = 1 | 2,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};
