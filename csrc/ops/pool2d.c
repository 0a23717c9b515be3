/* What the ops of pooling share: checks and geometry of windows, sharing out maps. */
#include "ops/pool2d.h"

/* Far above any sensible window, and small enough that sums and products stay in range. */
static const int64_t largest = INT32_MAX;

/* Brings a pair (or one int for both) into a and b. */
static pcnn_status
read_pair(const pcnn_call *call, const char *name, const pcnn_ints *pair, int64_t *a, int64_t *b)
{
    if (pair->n != 1 && pair->n != 2)
        return pcnn_fail(PCNN_ERR_VALUE, "%s: %s must be one int or two (height, width), got %lld",
                         call->op->name, name, (long long)pair->n);
    *a = pair->at[0];
    *b = pair->at[pair->n - 1];
    if (*a < 1 || *b < 1 || *a > largest || *b > largest)
        return pcnn_fail(PCNN_ERR_VALUE, "%s: %s must be positive and below 2^31, got (%lld, %lld)",
                         call->op->name, name, (long long)*a, (long long)*b);
    return PCNN_OK;
}

static void
fill_geometry(const pcnn_window2d *window, pcnn_pool2d *geometry)
{
    const pcnn_ints *kernel = &window->kernel, *padding = &window->padding;
    const pcnn_ints *stride = window->stride.n > 0 ? &window->stride : kernel;
    geometry->KH = kernel->at[0];
    geometry->KW = kernel->at[kernel->n - 1];
    geometry->SH = stride->at[0];
    geometry->SW = stride->at[stride->n - 1];
    geometry->PT = padding->n > 0 ? padding->at[0] : 0;
    geometry->PL = padding->n == 4 ? padding->at[2] : geometry->PT;
}

/* Checks the window against an input of shape N,C,H,W and fills `geometry`. */
static pcnn_status
check_window(const pcnn_call *call, const pcnn_window2d *window, const pcnn_type *x,
             pcnn_pool2d *geometry)
{
    const char *op = call->op->name;
    char text[PCNN_SHAPE_TEXT];
    int64_t KH = 0, KW = 0, SH = 0, SW = 0;
    PCNN_TRY(read_pair(call, "kernel", &window->kernel, &KH, &KW));
    if (window->stride.n >= 0)
        PCNN_TRY(read_pair(call, "stride", &window->stride, &SH, &SW));

    const pcnn_ints *padding = &window->padding;
    if (padding->n != 1 && padding->n != 4)
        return pcnn_fail(PCNN_ERR_VALUE,
                         "%s: padding must be one int or four (top, bottom, left, right), got %lld",
                         op, (long long)padding->n);
    int64_t pad[4];
    for (int i = 0; i < 4; i++) {
        pad[i] = padding->at[padding->n == 1 ? 0 : i];
        int64_t kernel = i < 2 ? KH : KW;
        if (pad[i] < 0 || pad[i] >= kernel)
            return pcnn_fail(PCNN_ERR_VALUE,
                             "%s: padding must not be negative and must be smaller than the "
                             "kernel, %lldx%lld, got %lld (a window of padding alone has no value)",
                             op, (long long)KH, (long long)KW, (long long)pad[i]);
    }
    int64_t H = x->shape[2], W = x->shape[3];
    int64_t padded_h = H + pad[0] + pad[1], padded_w = W + pad[2] + pad[3];
    if (H < 1 || W < 1 || KH > padded_h || KW > padded_w)
        return pcnn_fail(PCNN_ERR_SHAPE,
                         "%s: kernel %lldx%lld is larger than the padded input %lldx%lld "
                         "(x has shape %s)",
                         op, (long long)KH, (long long)KW, (long long)padded_h, (long long)padded_w,
                         pcnn_shape_text(x, text));
    fill_geometry(window, geometry);
    geometry->H = H;
    geometry->W = W;
    geometry->OH = (padded_h - KH) / geometry->SH + 1;
    geometry->OW = (padded_w - KW) / geometry->SW + 1;
    geometry->count_include_pad = false;
    return PCNN_OK;
}

void
pcnn_pool2d_geometry(const pcnn_window2d *window, const pcnn_tensor *large,
                     const pcnn_tensor *small, pcnn_pool2d *geometry)
{
    fill_geometry(window, geometry);
    geometry->H = large->type.shape[2];
    geometry->W = large->type.shape[3];
    geometry->OH = small->type.shape[2];
    geometry->OW = small->type.shape[3];
    geometry->count_include_pad = false;
}

pcnn_status
pcnn_pool2d_infer(const pcnn_call *call, const pcnn_window2d *window, pcnn_type *out)
{
    pcnn_pool2d geometry = {.H = 0};
    PCNN_TRY(pcnn_expect_float(call, 0));
    PCNN_TRY(pcnn_expect_rank(call, 0, 4));
    PCNN_TRY(check_window(call, window, &call->in[0], &geometry));
    *out = call->in[0];
    out->shape[2] = geometry.OH;
    out->shape[3] = geometry.OW;
    return PCNN_OK;
}

const char *
pcnn_pool2d_refuse_other_than_2x2(const pcnn_site *site)
{
    const pcnn_window2d *window = site->attrs;
    pcnn_pool2d g;
    fill_geometry(window, &g);
    bool fits = g.KH == 2 && g.KW == 2 && g.SH == 2 && g.SW == 2;
    for (int64_t i = 0; i < window->padding.n; i++)
        fits &= window->padding.at[i] == 0;
    return fits ? NULL : "the window is not 2x2 with stride 2, unpadded";
}

int64_t
pcnn_pool2d_rows(const pcnn_window2d *window, bool large)
{
    pcnn_pool2d g;
    fill_geometry(window, &g);
    /* Top and bottom, or one number for all sides. */
    for (int64_t i = 0; i < window->padding.n && i < 2; i++)
        if (window->padding.at[i])
            return 0;
    return g.KH != g.SH ? 0 : large ? g.SH : 1;
}

int64_t
pcnn_pool2d_cut(pcnn_pool2d *geometry, const pcnn_plane *plane, bool large)
{
    pcnn_pool2d *g = geometry;
    const int64_t first = large ? plane->begin / g->SH : plane->begin;
    if (large) {
        g->OH = plane->end < g->H ? plane->end / g->SH - first : g->OH - first;
        g->H = plane->end - plane->begin;
    }
    else {
        g->H = plane->end < g->OH ? (plane->end - first) * g->SH : g->H - first * g->SH;
        g->OH = plane->end - first;
    }
    return first;
}

int64_t
pcnn_pool2d_map_bytes(const pcnn_tensor *t)
{
    const int64_t elements = t->type.shape[2] * t->type.shape[3];
    const int64_t lanes = t->layout == PCNN_N16 ? PCNN_BLOCK : 1;
    return elements * lanes * (int64_t)pcnn_dtype_size(t->type.dtype);
}

void
pcnn_pool2d_share_out(const pcnn_pool2d *geometry, const pcnn_tensor *t, pcnn_task task, void *job)
{
    const pcnn_pool2d *g = geometry;
    const int64_t *shape = t->type.shape;
    const int64_t lanes = t->layout == PCNN_N16 ? PCNN_BLOCK : 1;
    const int64_t maps = (shape[0] + lanes - 1) / lanes * shape[1];
    /* About five bytes a nanosecond, and a tap or two. */
    const double taps = (double)(g->KH * g->KW) / 4.0;
    const double elements = (double)(g->H * g->W) + taps * (double)(g->OH * g->OW);
    const double bytes = elements * (double)lanes * (double)pcnn_dtype_size(t->type.dtype);
    pcnn_parallel(maps, 1, (double)maps * bytes / 5.0, task, job);
}
