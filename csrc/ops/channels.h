/* Passes over a tensor channel by channel: what batch normalisation, in training and in inference,
 * forward and backward, is made of.
 *
 * A tensor is seen as x[outer][C][inner]. Layout N16 with axis 1 is outer = blocks of images,
 * inner = H*W*16, where the last block may have fewer images than 16. A channel's elements are cut
 * into fixed chunks, of whole rows of a plane where these are not too long; a chunk's sums are made in
 * the kernel's real type, chunks are combined in double in their order. So the bits depend on the
 * shape alone, and long sums lose nothing. */
#ifndef PCNN_OPS_CHANNELS_H
#define PCNN_OPS_CHANNELS_H

#include "isa/kernels.h"
#include "ops/op.h"

typedef struct {
    int64_t outer, C, inner;
    int64_t lanes;   /* images in the last block (16 when not N16) */
    int64_t count;   /* elements of a channel, padding lanes excluded */
    bool columns;    /* inner is 1: x is a matrix [outer][C], a chunk is some rows of it */
    int64_t chunk;   /* elements; the last of a run may be shorter */
    int64_t rows;    /* N16: rows of a plane in a chunk; 0: rows are longer than chunks */
    int64_t per_row; /* chunks of one run of `inner` elements */
    int64_t chunks;  /* in all; each is of C channels */
    size_t itemsize;
} pcnn_channels;

/* The view of x along `axis` (0 <= axis < ndim). */
pcnn_channels pcnn_channels_view(const pcnn_tensor *x, int axis);

/* Chunk k: the offset in bytes of channel c's elements in it (for columns: of its rows; c is 0),
 * their number in memory (columns: rows), and their number without padding lanes; `within` is the
 * offset in the run of `inner` elements, which in N16 is a plane. */
typedef struct {
    int64_t offset, n, lanes, count, within;
} pcnn_chunk;

pcnn_chunk pcnn_channels_chunk(const pcnn_channels *view, int64_t k, int64_t c);

/* Three passes. For columns, `sums` and `apply` are called once a chunk, with c = 0, for all
 * channels at once; else once for each chunk and channel. `sums` may be NULL. */
typedef struct {
    void (*sums)(const void *context, int64_t k, int64_t c);
    void (*finish)(const void *context, int64_t c); /* of channel c, when all its sums are there */
    void (*apply)(const void *context, int64_t k, int64_t c);
    double cost_ns; /* of all passes together */
} pcnn_channel_passes;

void pcnn_channels_run(const pcnn_channels *view, const pcnn_channel_passes *passes,
                       const void *context);

/* Workspace: two sums for each chunk and channel [chunks][2][C], and four coefficients of each
 * channel [4][C] of the real type. */
int64_t pcnn_channels_workspace(const pcnn_channels *view);
double *pcnn_channels_partials(const pcnn_channels *view, void *work, int64_t k, int64_t c);
void *pcnn_channels_coefficients(const pcnn_channels *view, void *work, int64_t c);

#endif
