/* What all elementwise ops share: NumPy's broadcasting, rows, threads, the N16 layout.
 *
 * An op brings a row function, which computes n neighbouring elements of the output; operands
 * advance by step 1 (an array) or 0 (a number that holds for the row). This file cuts the output
 * into such rows: equal shapes make one long row, [N, C] + [C] a row of C for each n, and
 * [N, C, H, W] + [C, 1, 1] a row of H * W with a number for each n and c. */
#ifndef PCNN_OPS_ELEMENTWISE_H
#define PCNN_OPS_ELEMENTWISE_H

#include "isa/kernels.h"
#include "ops/op.h"

enum { PCNN_ROW_OPERANDS = 3 };

/* step[k] is 0 or 1; `parameter` is the op's attribute. Kernels have exactly this type. */
typedef void (*pcnn_row_function)(const void *const *in, const int64_t *step, void *out, int64_t n,
                                  double parameter);

/* Runs `row` over output 0. In N16 the padding lanes are cleared unless `keeps_zero` says that
 * the op makes 0 from zeros. `ns` is the rough cost of one element. */
pcnn_status pcnn_elementwise_run(const pcnn_site *site, pcnn_row_function row, double parameter,
                                 bool keeps_zero, double ns);

/* The same on a plane, in a chain, where plain operands are numbers: which `accepts` tells. */
void pcnn_elementwise_plane(const pcnn_site *site, const pcnn_plane *plane, pcnn_row_function row,
                            double parameter, bool keeps_zero);
bool pcnn_elementwise_plane_accepts(const pcnn_site *site);
int64_t pcnn_elementwise_plane_rows(const pcnn_site *site, int k); /* one: any strip will do */

/* For an implementation with N16 operands: those have the output's shape, the plain ones (numbers,
 * or one number a channel) do not differ from image to image. */
const char *pcnn_elementwise_refuse_n16(const pcnn_site *site);

/* The shape that inputs 0 .. n_in-1 broadcast to, as NumPy does; fails naming the shapes. */
pcnn_status pcnn_broadcast_shape(const pcnn_call *call, pcnn_type *out);

/* dx = x > 0 ? dx : 0 for n neighbouring elements: relu's gradient where x is what relu made. For
 * ops that fuse it, on the memory they have just written. */
static inline void
pcnn_mask_by_relu(const pcnn_kernels *kernels, void *dx, const void *x, int64_t n)
{
    kernels->relu_backward((const void *const[]){dx, x}, (const int64_t[]){1, 1}, dx, n, 0);
}

/* infer of an op whose output is as its inputs, which are all floats of one type. */
pcnn_status pcnn_infer_same(const pcnn_call *call, pcnn_type *out);

#endif
