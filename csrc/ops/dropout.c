/* dropout: y = keep ? x / (1 - rate) : 0, where an element is kept with probability 1 - rate.
 *
 * Random numbers come from Philox4x32-10, numbered by (seed, stream, call, image, position in C,H,W
 * order): not by layout, thread or batch size. The first axis of x counts images. `spatial` draws
 * one number for each image and channel (axis 1) and drops whole channels. Backward is the same op
 * on dy with the same seed: no mask is kept. The result is selected, not multiplied by zero, so a
 * dropped NaN or infinity is 0 (Srivastava et al.: "Dropout", 2014).
 * Not handled: images of more than 2^34 elements; of image, stream and call the low 32 bits count. */
#include "ops/dropout.h"

#include <string.h>

#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/op.h"

typedef struct {
    double rate;
    int64_t spatial;
} dropout_attrs;

static const pcnn_attr attrs[] = {
    PCNN_ATTR(dropout_attrs, rate, PCNN_ATTR_REAL, NULL),
    PCNN_ATTR(dropout_attrs, spatial, PCNN_ATTR_BOOL, "False"),
    {NULL, 0, 0, NULL, NULL},
};

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const dropout_attrs *a = call->attrs;
    const pcnn_type *x = &call->in[0], *seed = &call->in[1];
    char text[PCNN_SHAPE_TEXT];
    PCNN_TRY(pcnn_expect_float(call, 0));
    if (!(a->rate >= 0 && a->rate <= 1))
        return pcnn_fail(PCNN_ERR_VALUE, "dropout: rate must be a number from 0 to 1, got %g",
                         a->rate);
    if (x->ndim < (a->spatial ? 2 : 1))
        return pcnn_fail(PCNN_ERR_SHAPE, "dropout: x must have at least %d dimension%s, got %s",
                         a->spatial ? 2 : 1,
                         a->spatial ? "s for spatial dropout (images, channels, ...)" : " (images)",
                         pcnn_shape_text(x, text));
    if (seed->dtype != PCNN_I64)
        return pcnn_fail(PCNN_ERR_TYPE, "dropout: seed must be int64, got %s",
                         pcnn_dtype_name(seed->dtype));
    PCNN_TRY(pcnn_expect_shape1(call, 1, 3, "seed, stream, call"));
    int64_t elements = pcnn_type_size(x);
    if (elements > 0 && elements / x->shape[0] > INT64_C(1) << 34)
        return pcnn_fail(PCNN_ERR_NOT_IMPLEMENTED,
                         "dropout: an image may have 2^34 elements at most, x has shape %s",
                         pcnn_shape_text(x, text));
    out[0] = *x;
    return PCNN_OK;
}

/* ---- run ---- */

/* Positions of an item: enough to be worth a thread's while, few enough to share out. */
enum { PIECE = 1024 };

typedef struct job {
    const pcnn_kernels *kernels;
    pcnn_dropout dropout;
    pcnn_dtype dtype;
    const char *x;
    char *y;
    int64_t positions, inner;   /* of an image: numbers drawn, elements for each */
    int64_t images;             /* side by side: 16 in N16, else 1 */
    int64_t bytes;              /* of `images` images */
    int64_t piece, pieces;      /* positions of an item, items of an image */
    void (*kernel)(const struct job *job, const void *x, void *y, int64_t image, int64_t first,
                   int64_t end);
} job;

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const job *job = context;
    for (int64_t i = begin; i < end; i++) {
        int64_t group = i / job->pieces, first = i % job->pieces * job->piece;
        int64_t last = first + job->piece < job->positions ? first + job->piece : job->positions;
        job->kernel(job, job->x + group * job->bytes, job->y + group * job->bytes,
                    group * job->images, first, last);
    }
}

static void
elements_n16(const job *job, const void *x, void *y, int64_t image, int64_t first, int64_t end)
{
    const int64_t skipped = first * PCNN_BLOCK * (int64_t)pcnn_dtype_size(job->dtype);
    job->kernels->dropout_n16(&job->dropout, (const char *)x + skipped, (char *)y + skipped, image,
                              first, end);
}

static void
channels_n16(const job *job, const void *x, void *y, int64_t image, int64_t first, int64_t end)
{
    job->kernels->dropout_channels_n16(&job->dropout, x, y, image, first, end, job->inner);
}

static void
elements_rows(const job *job, const void *x, void *y, int64_t image, int64_t first, int64_t end)
{
    job->kernels->dropout_rows(&job->dropout, x, y, image, first, end);
}

static void
scalar(const job *job, const void *x, void *y, int64_t image, int64_t first, int64_t end)
{
    job->kernels->dropout_reference(&job->dropout, x, y, image, first, end, job->inner);
}

/* What is drawn with, and from which rate on nothing is kept: 2^32 * rate, rounded; 0 keeps all,
 * 2^32 keeps nothing. */
static uint64_t
fill_dropout(const pcnn_site *site, pcnn_dropout *dropout)
{
    const dropout_attrs *a = site->attrs;
    const int64_t *seed = site->in[1].data;
    const uint64_t key = (uint64_t)seed[0];
    const uint64_t threshold = (uint64_t)(a->rate * 4294967296.0 + 0.5);
    *dropout = (pcnn_dropout){.key = {(uint32_t)key, (uint32_t)(key >> 32)},
                              .stream = (uint32_t)seed[1],
                              .call = (uint32_t)seed[2],
                              .threshold = (uint32_t)threshold,
                              .scale = a->rate < 1 ? 1 / (1 - a->rate) : 0};
    return threshold;
}

/* Where nothing is random, y is written: true. */
static bool
is_settled(double rate, uint64_t threshold, const void *x, void *y, int64_t bytes)
{
    if (threshold > UINT32_MAX)
        memset(y, 0, (size_t)bytes);
    else if (rate == 0 && y != x)
        memcpy(y, x, (size_t)bytes);
    return threshold > UINT32_MAX || rate == 0;
}

/* Fills all of the job but its kernel; false: nothing is random, and y is already written. */
static bool
prepare(const pcnn_site *site, job *job)
{
    const dropout_attrs *a = site->attrs;
    const pcnn_tensor *x = &site->in[0];
    const int64_t *shape = x->type.shape;
    const bool n16 = x->layout == PCNN_N16;
    const int64_t bytes = pcnn_layout_bytes(&x->type, x->layout);
    if (bytes == 0)
        return false;
    const uint64_t threshold = fill_dropout(site, &job->dropout);
    if (is_settled(a->rate, threshold, x->data, site->out[0].data, bytes))
        return false;
    job->dtype = x->type.dtype;
    job->kernels = pcnn_kernels_for(x->type.dtype);
    job->x = x->data;
    job->y = site->out[0].data;
    int64_t elements = pcnn_type_size(&x->type) / shape[0];
    job->positions = a->spatial ? shape[1] : elements;
    job->inner = elements / job->positions;
    job->images = n16 ? PCNN_BLOCK : 1;
    job->bytes = elements * job->images * (int64_t)pcnn_dtype_size(x->type.dtype);
    int64_t piece = PIECE * PCNN_BLOCK / job->images / job->inner;
    job->piece = piece < 4 ? 4 : piece / 4 * 4;
    job->pieces = (job->positions + job->piece - 1) / job->piece;
    return true;
}

static void
share_out(const pcnn_site *site, job *job)
{
    const int64_t N = site->in[0].type.shape[0];
    const double numbers = (double)(N * job->positions), elements = numbers * (double)job->inner;
    int64_t items = (N + job->images - 1) / job->images * job->pieces;
    /* Rows may be short: take several at once. */
    int64_t size =
        job->images * job->inner * (job->positions < job->piece ? job->positions : job->piece);
    int64_t grain = size < 4096 ? 4096 / size : 1;
    pcnn_parallel(items, grain, numbers + elements, task, job);
}

static pcnn_status
run_n16(const pcnn_site *site)
{
    const dropout_attrs *a = site->attrs;
    job job;
    if (prepare(site, &job)) {
        job.kernel = a->spatial ? channels_n16 : elements_n16;
        share_out(site, &job);
    }
    return PCNN_OK;
}

static pcnn_status
run_rows(const pcnn_site *site)
{
    job job;
    if (prepare(site, &job)) {
        job.kernel = elements_rows;
        share_out(site, &job);
    }
    return PCNN_OK;
}

static pcnn_status
run_reference(const pcnn_site *site)
{
    job job;
    if (prepare(site, &job)) {
        job.kernel = scalar;
        share_out(site, &job);
    }
    return PCNN_OK;
}

static const char *
refuse_rows(const pcnn_site *site)
{
    const dropout_attrs *a = site->attrs;
    return a->spatial ? "whole channels need few numbers" : NULL;
}

/* ---- in a chain ---- */

static bool
plane_accepts(const pcnn_site *site)
{
    const dropout_attrs *a = site->attrs;
    return !a->spatial;
}

static void
plane_apply(const pcnn_site *site, const pcnn_plane *plane)
{
    const dropout_attrs *a = site->attrs;
    const pcnn_type *x = &site->in[0].type;
    const int64_t pixels = x->shape[2] * x->shape[3], first = plane->channel * pixels;
    const int64_t bytes = pixels * PCNN_BLOCK * (int64_t)pcnn_dtype_size(x->dtype);
    pcnn_dropout dropout;
    const uint64_t threshold = fill_dropout(site, &dropout);
    if (!is_settled(a->rate, threshold, plane->in[0], plane->out[0], bytes))
        pcnn_kernels_for(x->dtype)->dropout_n16(&dropout, plane->in[0], plane->out[0],
                                                plane->block * PCNN_BLOCK, first, first + pixels);
}

static const pcnn_planes planes = {.accepts = plane_accepts, .apply = plane_apply};

static const pcnn_impl impls[] = {
    {.name = "n16", .n16_in = 1, .n16_out = 1, .in_place = 1, .run = run_n16, .planes = &planes},
    {.name = "rows", .in_place = 1, .refuse = refuse_rows, .run = run_rows},
    {.name = "reference", .in_place = 1, .run = run_reference},
    {.name = NULL},
};

static pcnn_status
gradient(pcnn_grad *grad)
{
    if (!grad->wanted[0])
        return PCNN_OK;
    return PCNN_EMIT(grad, &grad->din[0], dropout, grad->attrs, grad->dout[0], grad->in[1]);
}

const pcnn_op pcnn_op_dropout = {
    .name = "dropout",
    .doc = "y = x / (1 - rate) where the element is kept, 0 where it is dropped.\n"
           "\n"
           "x of any shape with images along its first axis, seed int64[3] = (seed, stream, call)\n"
           "-> y like x. An element is dropped with probability `rate`; spatial=True drops whole\n"
           "channels (axis 1). The decision is a function of seed, stream, call, the image's\n"
           "number and the position in the image (Philox4x32-10).\n"
           "Raises ValueError for a rate outside 0 .. 1. Srivastava et al.: Dropout, 2014.",
    .n_in = 2,
    .params = {{"x", false}, {"seed", false}},
    .n_out = 1,
    .out_names = {"y"},
    .attrs = attrs,
    .attrs_size = sizeof(dropout_attrs),
    .saves_in = 2,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};
