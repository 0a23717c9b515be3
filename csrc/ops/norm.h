/* What the batch normalisation ops share: attributes, checks, and a call as a job of channels.
 *
 * The first input, x or dy, has the shape of the maps, and the attributes are the same in all. */
#ifndef PCNN_OPS_NORM_H
#define PCNN_OPS_NORM_H

#include "ops/channels.h"

typedef struct {
    int64_t axis;
    double eps;
} pcnn_norm_attrs;

extern const pcnn_attr pcnn_norm_attr_list[];

/* Checks x (input 0), axis and eps, and that the other inputs are of shape (C,). */
pcnn_status pcnn_norm_check(const pcnn_call *call, int64_t *C);

typedef struct {
    const pcnn_site *site;
    const pcnn_kernels *kernels;
    pcnn_channels view;
    pcnn_dtype dtype;
    double eps;
    double bytes; /* of x */
} pcnn_norm_job;

pcnn_norm_job pcnn_norm_make_job(const pcnn_site *site);
int64_t pcnn_norm_workspace(const pcnn_site *site);

/* Where a tensor's element at an offset in bytes is. */
static inline void *
pcnn_norm_at(const pcnn_tensor *tensor, int64_t offset)
{
    return (char *)tensor->data + offset;
}

/* The coefficients of channel c, for the kernels; and the two sums of it over all chunks. */
void pcnn_norm_put_coefficients(const pcnn_norm_job *job, int64_t c, int n, const double *coef);
void pcnn_norm_total(const pcnn_norm_job *job, int64_t c, double sums[2]);

/* A pass: sum of dy and of dy (x - mean); inputs dy, x, mean. */
void pcnn_norm_grad_sums(const void *job, int64_t k, int64_t c);
void pcnn_norm_plane_grad_sums(const pcnn_site *site, const pcnn_plane *plane);

/* A pass: output 0 = (input 0 - coef[0]) * coef[1] + coef[2]. */
void pcnn_norm_affine(const void *job, int64_t k, int64_t c);
void pcnn_norm_plane_affine(const pcnn_site *site, const pcnn_plane *plane);

/* In a chain: the call as a job, once for all its planes. */
void pcnn_norm_prepare(const pcnn_site *site, pcnn_plane_job *job);

/* Calls `pass` for every chunk k of a plane or strip, which has whole chunks, with the chunk's offset
 * from its first row in bytes. */
typedef void (*pcnn_norm_chunk_pass)(const pcnn_norm_job *job, const pcnn_plane *plane, int64_t k,
                                     const pcnn_chunk *chunk);
void pcnn_norm_plane(const pcnn_plane *plane, pcnn_norm_chunk_pass pass);

/* All of a plane or strip as one chunk, for passes whose elements do not depend on each other. */
pcnn_chunk pcnn_norm_whole(const pcnn_norm_job *job, const pcnn_plane *plane);

/* The rows of a unit in a chain: those of a chunk. */
int64_t pcnn_norm_plane_rows(const pcnn_site *site, int k);

/* The order of implementations is n16, rows, columns, reference: why one does not take the call. */
const char *pcnn_norm_refuse_n16(const pcnn_site *site);
const char *pcnn_norm_refuse_rows(const pcnn_site *site);
const char *pcnn_norm_refuse_columns(const pcnn_site *site);

/* A real of either type, read or written as a double; an absent tensor reads as `absent`. */
double pcnn_real_get(const pcnn_tensor *t, int64_t i, double absent);
void pcnn_real_put(pcnn_dtype dtype, void *data, int64_t i, double value);

#endif
