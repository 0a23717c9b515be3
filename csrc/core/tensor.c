/* Types: comparison, sizes, text. */
#include "core/tensor.h"

#include <stdio.h>
#include <string.h>

const char *
pcnn_dtype_name(pcnn_dtype dtype)
{
    static const char *const name[PCNN_N_DTYPES] = {"float32", "float64", "int64",
                                                    "int32",   "uint8",   "bool"};
    return name[dtype];
}

bool
pcnn_shape_equal(const pcnn_type *a, const pcnn_type *b)
{
    if (a->ndim != b->ndim)
        return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i])
            return false;
    return true;
}

bool
pcnn_type_equal(const pcnn_type *a, const pcnn_type *b)
{
    return a->dtype == b->dtype && pcnn_shape_equal(a, b);
}

pcnn_status
pcnn_type_check(const pcnn_type *type, const char *what)
{
    char text[PCNN_SHAPE_TEXT];
    int64_t size = (int64_t)pcnn_dtype_size(type->dtype) * PCNN_BLOCK;
    for (int i = 0; i < type->ndim; i++) {
        int64_t extent = type->shape[i];
        if (extent < 0)
            return pcnn_fail(PCNN_ERR_SHAPE, "%s: shape %s has a negative extent", what,
                             pcnn_shape_text(type, text));
        /* A zero extent must not hide an overflow in the others: count it as one. */
        if (__builtin_mul_overflow(size, extent > 0 ? extent : 1, &size) || size > INT64_MAX / 4)
            return pcnn_fail(PCNN_ERR_MEMORY, "%s: shape %s is too large", what,
                             pcnn_shape_text(type, text));
    }
    return PCNN_OK;
}

int64_t
pcnn_layout_size(const pcnn_type *type, pcnn_layout layout)
{
    int64_t size = pcnn_type_size(type);
    if (layout == PCNN_N16 && type->shape[0] > 0) {
        int64_t N = type->shape[0];
        size = size / N * ((N + PCNN_BLOCK - 1) / PCNN_BLOCK * PCNN_BLOCK);
    }
    return size;
}

int64_t
pcnn_layout_bytes(const pcnn_type *type, pcnn_layout layout)
{
    return pcnn_layout_size(type, layout) * (int64_t)pcnn_dtype_size(type->dtype);
}

const char *
pcnn_shape_text(const pcnn_type *type, char buffer[PCNN_SHAPE_TEXT])
{
    size_t used = 0;
    buffer[used++] = '(';
    for (int i = 0; i < type->ndim; i++)
        used += (size_t)snprintf(buffer + used, PCNN_SHAPE_TEXT - used, i ? ", %lld" : "%lld",
                                 (long long)type->shape[i]);
    (void)snprintf(buffer + used, PCNN_SHAPE_TEXT - used, type->ndim == 1 ? ",)" : ")");
    return buffer;
}
