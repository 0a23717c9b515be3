/* The list of ops and the checks that their infer functions share. */
#include "ops/op.h"

const pcnn_op *const pcnn_ops[] = {
#define OP(name) &pcnn_op_##name,
#include "ops/ops.def"
#undef OP
    NULL,
};

const char *
pcnn_param_name(const pcnn_call *call, int input)
{
    return call->op->params[call->op->n_in == PCNN_VARIADIC ? 0 : input].name;
}

pcnn_status
pcnn_expect_float(const pcnn_call *call, int input)
{
    const pcnn_type *type = &call->in[input];
    if (!pcnn_type_present(type) || pcnn_is_float(type->dtype))
        return PCNN_OK;
    return pcnn_fail(PCNN_ERR_TYPE, "%s: %s must be float32 or float64, got %s", call->op->name,
                     pcnn_param_name(call, input), pcnn_dtype_name(type->dtype));
}

pcnn_status
pcnn_expect_rank(const pcnn_call *call, int input, int rank)
{
    char text[PCNN_SHAPE_TEXT];
    const pcnn_type *type = &call->in[input];
    if (!pcnn_type_present(type) || type->ndim == rank)
        return PCNN_OK;
    return pcnn_fail(PCNN_ERR_SHAPE, "%s: %s must have %d dimension%s, got shape %s",
                     call->op->name, pcnn_param_name(call, input), rank, rank == 1 ? "" : "s",
                     pcnn_shape_text(type, text));
}

pcnn_status
pcnn_expect_same_dtype(const pcnn_call *call, int a, int b)
{
    const pcnn_type *ta = &call->in[a], *tb = &call->in[b];
    if (!pcnn_type_present(ta) || !pcnn_type_present(tb) || ta->dtype == tb->dtype)
        return PCNN_OK;
    return pcnn_fail(PCNN_ERR_TYPE, "%s: %s and %s must have one dtype, got %s and %s",
                     call->op->name, pcnn_param_name(call, a), pcnn_param_name(call, b),
                     pcnn_dtype_name(ta->dtype), pcnn_dtype_name(tb->dtype));
}

pcnn_status
pcnn_expect_shape1(const pcnn_call *call, int input, int64_t n, const char *why)
{
    char text[PCNN_SHAPE_TEXT];
    const pcnn_type *type = &call->in[input];
    if (!pcnn_type_present(type) || (type->ndim == 1 && type->shape[0] == n))
        return PCNN_OK;
    return pcnn_fail(PCNN_ERR_SHAPE, "%s: %s must have shape (%lld,) (%s), got %s", call->op->name,
                     pcnn_param_name(call, input), (long long)n, why, pcnn_shape_text(type, text));
}

pcnn_status
pcnn_normalize_axis(const pcnn_call *call, int64_t axis, int ndim, int *result)
{
    if (axis < -ndim || axis >= ndim)
        return pcnn_fail(PCNN_ERR_VALUE, "%s: axis %lld is out of range for %d dimension%s",
                         call->op->name, (long long)axis, ndim, ndim == 1 ? "" : "s");
    *result = (int)(axis < 0 ? axis + ndim : axis);
    return PCNN_OK;
}
