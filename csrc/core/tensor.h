/* What a value is (dtype, shape), and a value at an address in a physical layout.
 *
 * Logical order of images is always N, C, H, W. PCNN_PLAIN is row-major in logical order.
 * PCNN_N16 holds rank-4 float values as [ceil(N/16)][C][H][W][16]: sixteen images side by side.
 * The lanes that pad the last block hold exact zeros, always. */
#ifndef PCNN_CORE_TENSOR_H
#define PCNN_CORE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum { PCNN_MAX_NDIM = 8, PCNN_BLOCK = 16 };

typedef enum {
    PCNN_F32 = 0,
    PCNN_F64,
    PCNN_I64,
    PCNN_I32,
    PCNN_U8,
    PCNN_BOOL,
    PCNN_N_DTYPES
} pcnn_dtype;

typedef enum { PCNN_PLAIN = 0, PCNN_N16 } pcnn_layout;

typedef struct {
    pcnn_dtype dtype;
    int ndim; /* -1: an optional input that is absent */
    int64_t shape[PCNN_MAX_NDIM];
} pcnn_type;

typedef struct {
    pcnn_type type;
    pcnn_layout layout;
    void *data;
} pcnn_tensor;

static inline bool
pcnn_is_float(pcnn_dtype dtype)
{
    return dtype == PCNN_F32 || dtype == PCNN_F64;
}

static inline size_t
pcnn_dtype_size(pcnn_dtype dtype)
{
    static const size_t size[PCNN_N_DTYPES] = {4, 8, 8, 4, 1, 1};
    return size[dtype];
}

const char *pcnn_dtype_name(pcnn_dtype dtype);

/* Number of elements (1 for a scalar). Types that exist have been checked not to overflow. */
static inline int64_t
pcnn_type_size(const pcnn_type *type)
{
    int64_t size = 1;
    for (int i = 0; i < type->ndim; i++)
        size *= type->shape[i];
    return size;
}

static inline bool
pcnn_type_present(const pcnn_type *type)
{
    return type->ndim >= 0;
}

bool pcnn_shape_equal(const pcnn_type *a, const pcnn_type *b);
bool pcnn_type_equal(const pcnn_type *a, const pcnn_type *b);

/* Fails when an extent is negative, or when the bytes (padded to N16) leave int64's safe range. */
pcnn_status pcnn_type_check(const pcnn_type *type, const char *what);

/* Bytes that a value takes in a layout, and its number of elements there (padding included). */
int64_t pcnn_layout_size(const pcnn_type *type, pcnn_layout layout);
int64_t pcnn_layout_bytes(const pcnn_type *type, pcnn_layout layout);

/* Writes "(2, 3)" into `buffer` and returns it: for messages. */
enum { PCNN_SHAPE_TEXT = 192 };
const char *pcnn_shape_text(const pcnn_type *type, char buffer[PCNN_SHAPE_TEXT]);

#endif
