/* Comparisons, elementwise with NumPy's broadcasting, and the choice between two values by one.
 *
 * A comparison gives 1 or 0, in the operands' dtype for floats and in float32 for integers, as all
 * values of a graph are floats. Comparisons have no gradient; where() passes it to the operand
 * that was chosen. A condition is true where it is not 0 (NaN is true). */
#include "ops/elementwise.h"
#include "ops/reduce.h"

/* ---- comparisons ---- */

static pcnn_status
infer_compare(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(pcnn_expect_same_dtype(call, 0, 1));
    out->dtype = call->in[0].dtype == PCNN_F64 ? PCNN_F64 : PCNN_F32;
    return pcnn_broadcast_shape(call, out);
}

/* Rows of integer operands: one loop for each dtype, as the dtype decides what `<` means. */
#define INTEGER_LOOP(type, operator)                                     \
    {                                                                    \
        const type *a = in[0], *b = in[1];                               \
        for (int64_t i = 0; i < n; i++)                                  \
            y[i] = a[i * step[0]] operator b[i * step[1]] ? 1.0f : 0.0f; \
    }
#define INTEGER_ROWS(id, suffix, type, operator)                                                \
    static void id##_##suffix(const void *const *in, const int64_t *step, void *out, int64_t n, \
                              double parameter)                                                 \
    {                                                                                           \
        float *y = out;                                                                         \
        (void)parameter;                                                                        \
        INTEGER_LOOP(type, operator)                                                            \
    }

/* `zero`: 0 compared with 0 gives 0. */
#define COMPARISON(id, operator, zero)                                                             \
    INTEGER_ROWS(id, i64, int64_t, operator)                                                       \
    INTEGER_ROWS(id, i32, int32_t, operator)                                                       \
    INTEGER_ROWS(id, u8, uint8_t, operator)                                                        \
    static pcnn_status run_##id(const pcnn_site *site)                                             \
    {                                                                                              \
        pcnn_dtype dtype = site->in[0].type.dtype;                                                 \
        pcnn_row_function row = dtype == PCNN_I64      ? id##_i64                                  \
                                : dtype == PCNN_I32    ? id##_i32                                  \
                                : pcnn_is_float(dtype) ? pcnn_kernels_for(dtype)->id##_rows        \
                                                       : id##_u8; /* bool is a byte, 0 or 1 */     \
        bool plain = site->in[0].layout != PCNN_N16 || site->in[1].layout != PCNN_N16;             \
        return pcnn_elementwise_run(site, row, 0, zero && !plain, 0.4);                            \
    }                                                                                              \
    static const pcnn_impl id##_impls[] = {                                                        \
        {"n16", 3, 1, 3, pcnn_elementwise_refuse_n16, NULL, run_##id, NULL},                       \
        {"n16_a", 1, 1, 1, pcnn_elementwise_refuse_n16, NULL, run_##id, NULL},                     \
        {"n16_b", 2, 1, 2, pcnn_elementwise_refuse_n16, NULL, run_##id, NULL},                     \
        {"plain", 0, 0, 3, NULL, NULL, run_##id, NULL},                                            \
        {0},                                                                                       \
    };                                                                                             \
    const pcnn_op pcnn_op_##id = {                                                                 \
        .name = #id,                                                                               \
        .doc = "y = a " #operator " b ? 1 : 0\n\na, b: of one dtype, shapes that broadcast as in " \
               "NumPy; y: the shape they broadcast to, in their dtype for floats, else float32.",  \
        .n_in = 2,                                                                                 \
        .params = {{"a", false}, {"b", false}},                                                    \
        .n_out = 1,                                                                                \
        .out_names = {"y"},                                                                        \
        .flags = PCNN_OP_FOLLOWS,                                                                  \
        .infer = infer_compare,                                                                    \
        .impls = id##_impls,                                                                       \
    };

COMPARISON(equal, ==, false)
COMPARISON(not_equal, !=, true)
COMPARISON(greater, >, true)
COMPARISON(greater_equal, >=, false)
COMPARISON(less, <, true)
COMPARISON(less_equal, <=, false)

/* ---- where ---- */

static pcnn_status
infer_where(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(pcnn_expect_float(call, 1));
    PCNN_TRY(pcnn_expect_float(call, 2));
    PCNN_TRY(pcnn_expect_same_dtype(call, 1, 2));
    out->dtype = call->in[1].dtype;
    return pcnn_broadcast_shape(call, out);
}

/* One row function for each dtype of the condition and of the operands. */
#define WHERE_ROWS(condition_type, type)                                                    \
    static void where_##condition_type##_##type(const void *const *in, const int64_t *step, \
                                                void *out, int64_t n, double parameter)     \
    {                                                                                       \
        const condition_type *condition = in[0];                                            \
        const type *a = in[1], *b = in[2];                                                  \
        type *y = out;                                                                      \
        (void)parameter;                                                                    \
        if (step[0] && step[1] && step[2]) /* for the compiler to vectorise */              \
            for (int64_t i = 0; i < n; i++)                                                 \
                y[i] = condition[i] != 0 ? a[i] : b[i];                                     \
        else                                                                                \
            for (int64_t i = 0; i < n; i++)                                                 \
                y[i] = condition[i * step[0]] != 0 ? a[i * step[1]] : b[i * step[2]];       \
    }
#define WHERE_CONDITION(condition_type) \
    WHERE_ROWS(condition_type, float) WHERE_ROWS(condition_type, double)

WHERE_CONDITION(float)
WHERE_CONDITION(double)
WHERE_CONDITION(int64_t)
WHERE_CONDITION(int32_t)
WHERE_CONDITION(uint8_t)

static pcnn_status
run_where(const pcnn_site *site)
{
#define BOTH(condition_type)                                            \
    {                                                                   \
        where_##condition_type##_float, where_##condition_type##_double \
    }
    static const pcnn_row_function rows[PCNN_N_DTYPES][2] = {
        [PCNN_F32] = BOTH(float),   [PCNN_F64] = BOTH(double), [PCNN_I64] = BOTH(int64_t),
        [PCNN_I32] = BOTH(int32_t), [PCNN_U8] = BOTH(uint8_t), [PCNN_BOOL] = BOTH(uint8_t),
    };
#undef BOTH
    pcnn_row_function row = rows[site->in[0].type.dtype][site->out[0].type.dtype == PCNN_F64];
    return pcnn_elementwise_run(site, row, 0, false, 0.8);
}

static pcnn_status
where_gradient(pcnn_grad *grad) /* da = condition ? dy : 0, db = condition ? 0 : dy */
{
    pcnn_value *zero, *part, *dy = grad->dout[0];
    PCNN_TRY(pcnn_emit_constant(grad, pcnn_value_type(dy)->dtype, 0, &zero));
    pcnn_status status = PCNN_OK;
    for (int i = 1; i <= 2 && status == PCNN_OK; i++) {
        if (!grad->wanted[i])
            continue;
        status = PCNN_EMIT(grad, &part, where, NULL, grad->in[0], i == 1 ? dy : zero,
                           i == 1 ? zero : dy);
        if (status == PCNN_OK)
            status = pcnn_emit_sum_to(grad, part, pcnn_value_type(grad->in[i]), &grad->din[i]);
    }
    pcnn_value_release(zero);
    return status;
}

static const pcnn_impl where_impls[] = {
    {"n16", 7, 1, 7, pcnn_elementwise_refuse_n16, NULL, run_where, NULL},
    {"n16_a", 3, 1, 3, pcnn_elementwise_refuse_n16, NULL, run_where, NULL},
    {"n16_b", 5, 1, 5, pcnn_elementwise_refuse_n16, NULL, run_where, NULL},
    {"plain", 0, 0, 7, NULL, NULL, run_where, NULL},
    {0},
};

const pcnn_op pcnn_op_where = {
    .name = "where",
    .doc = "y = condition != 0 ? a : b\n\ncondition: any dtype; a, b: float32 or float64; shapes "
           "that broadcast as in NumPy; y: the shape they broadcast to.",
    .n_in = 3,
    .params = {{"condition", false}, {"a", false}, {"b", false}},
    .n_out = 1,
    .out_names = {"y"},
    .saves_in = 1,
    .flags = PCNN_OP_FOLLOWS,
    .infer = infer_where,
    .gradient = where_gradient,
    .impls = where_impls,
};
