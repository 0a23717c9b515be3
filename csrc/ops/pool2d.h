/* What max_pool2d and avg_pool2d share: the window's attributes and the geometry made of them. */
#ifndef PCNN_OPS_POOL2D_H
#define PCNN_OPS_POOL2D_H

#include "core/parallel.h"
#include "ops/op.h"

/* The attributes as the user gave them: kernel (KH, KW) or one int for both; stride likewise,
 * None = kernel; padding (top, bottom, left, right) or one int for all sides. */
typedef struct {
    pcnn_ints kernel, stride, padding;
} pcnn_window2d;

/* The three attributes, for the list of an op whose struct holds a pcnn_window2d at offset `at`. */
#define PCNN_WINDOW2D_ATTRS(at)                                                                  \
    {"kernel", PCNN_ATTR_INTS, (at) + offsetof(pcnn_window2d, kernel), NULL, NULL},              \
        {"stride", PCNN_ATTR_INTS, (at) + offsetof(pcnn_window2d, stride), "None", NULL},        \
    {                                                                                            \
        "padding", PCNN_ATTR_INTS, (at) + offsetof(pcnn_window2d, padding), "(0, 0, 0, 0)", NULL \
    }

/* Pooling of maps x[H,W] -> y[OH,OW]. Output (i, j) sees the taps (u, v), u < KH and v < KW, at
 * x[i*SH - PT + u][j*SW - PL + v] that lie inside x; there is always at least one. */
typedef struct {
    int64_t H, W, OH, OW;
    int64_t KH, KW, SH, SW, PT, PL;
    bool count_include_pad; /* avg_pool2d: divide by KH*KW at the borders too */
} pcnn_pool2d;

/* The geometry of a call that has been checked: `large` is x or dx, `small` y or dy. */
void pcnn_pool2d_geometry(const pcnn_window2d *window, const pcnn_tensor *large,
                          const pcnn_tensor *small, pcnn_pool2d *geometry);

/* The type of y for an x of shape N,C,H,W, checked against the window: all of infer. */
pcnn_status pcnn_pool2d_infer(const pcnn_call *call, const pcnn_window2d *window, pcnn_type *out);

/* The refusal of the kernels for 2x2 windows that lie side by side, without padding; the op's
 * attributes begin with the window. */
const char *pcnn_pool2d_refuse_other_than_2x2(const pcnn_site *site);

/* In a chain, on strips of planes: the rows of a unit, where windows lie one below the other, with no
 * row between or shared, and none is padded above or below, else 0; `large` of x or dx, else of y or
 * dy. */
int64_t pcnn_pool2d_rows(const pcnn_window2d *window, bool large);

/* Reduces the geometry to a strip, whose output 0 is y, or dx (`large`); the strip's first row of y
 * or dy. */
int64_t pcnn_pool2d_cut(pcnn_pool2d *geometry, const pcnn_plane *plane, bool large);

/* Bytes of one map of a value of shape N,C,H,W in its layout (of sixteen images' in N16). */
int64_t pcnn_pool2d_map_bytes(const pcnn_tensor *t);

/* Runs a task over the maps of a value, with a cost that grows with the window. */
void pcnn_pool2d_share_out(const pcnn_pool2d *geometry, const pcnn_tensor *t, pcnn_task task,
                           void *job);

/* The bounds of the taps that lie inside x, for output row (or column) i: first <= u < end. */
static inline void
pcnn_pool2d_taps(int64_t i, int64_t stride, int64_t pad, int64_t kernel, int64_t extent,
                 int64_t *origin, int64_t *first, int64_t *end)
{
    *origin = i * stride - pad;
    *first = *origin < 0 ? -*origin : 0;
    *end = extent - *origin < kernel ? extent - *origin : kernel;
}

#endif
