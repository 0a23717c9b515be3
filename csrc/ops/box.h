/* Copies between strided boxes of memory: what slices, crops, joins and rows of transpositions
 * are made of. No dtype, only the size of an item. */
#ifndef PCNN_OPS_BOX_H
#define PCNN_OPS_BOX_H

#include "core/tensor.h"

enum { PCNN_BOX_NDIM = PCNN_MAX_NDIM };

/* `shape` items of `itemsize` bytes; strides in bytes, of any sign. */
typedef struct {
    int ndim;
    int64_t shape[PCNN_BOX_NDIM];
    int64_t source_strides[PCNN_BOX_NDIM], target_strides[PCNN_BOX_NDIM];
    int64_t itemsize;
} pcnn_box;

/* Copies the box, in parallel. Source and target must not overlap. */
void pcnn_box_copy(const pcnn_box *box, const void *source, void *target);

/* Joins axes that lie behind one another in both, and drops those of extent 1. */
void pcnn_box_collapse(pcnn_box *box);

/* What a value is made of in its layout: extents (the first counts blocks of images in N16) and
 * the bytes of an item (sixteen reals in N16). */
typedef struct {
    int ndim;
    int64_t shape[PCNN_MAX_NDIM];
    int64_t strides[PCNN_MAX_NDIM]; /* bytes, row-major */
    int64_t itemsize;
} pcnn_storage_view;

pcnn_storage_view pcnn_view_storage(const pcnn_type *type, pcnn_layout layout);

#endif
