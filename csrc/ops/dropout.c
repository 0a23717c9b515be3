/* dropout: y = keep ? x / (1 - rate) : 0, where an element is kept with probability 1 - rate.
 *
 * Random numbers come from Philox4x32-10, numbered by (seed, stream, call, image, position in C,H,W
 * order): not by layout, thread or batch size. The first axis of x counts images. `spatial` draws
 * one number for each image and channel (axis 1) and drops whole channels. Backward is the same op
 * on dy with the same seed. A plan that holds both keeps a bit for each element of images instead of
 * drawing again: dropout_keep gives y and the bits, dropout_mask makes dx of dy and them. The result
 * is selected, not multiplied by zero, so a dropped NaN or infinity is 0 (Srivastava et al.:
 * "Dropout", 2014).
 * Not handled: images of more than 2^34 elements; of image, stream and call the low 32 bits count. */
#include "ops/dropout.h"

#include <string.h>

#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/op.h"

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_dropout_attrs, rate, PCNN_ATTR_REAL, NULL),
    PCNN_ATTR(pcnn_dropout_attrs, spatial, PCNN_ATTR_BOOL, "False"),
    {NULL, 0, 0, NULL, NULL},
};

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_dropout_attrs *a = call->attrs;
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
    uint16_t *bits;             /* of dropout_keep and dropout_mask */
    int64_t N;
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

/* Fills what depends on the shape: numbers are drawn for `positions` of an image, and an item's
 * images stand side by side in N16, or one after another. */
static void
lay_out(const pcnn_site *site, job *job, int64_t positions, int64_t images)
{
    const pcnn_tensor *x = &site->in[0];
    const int64_t elements = pcnn_type_size(&x->type) / x->type.shape[0];
    job->dtype = x->type.dtype;
    job->kernels = pcnn_kernels_for(x->type.dtype);
    job->x = x->data;
    job->y = site->out[0].data;
    job->N = x->type.shape[0];
    job->positions = positions;
    job->inner = elements / positions;
    job->images = images;
    job->bytes = elements * images * (int64_t)pcnn_dtype_size(x->type.dtype);
    int64_t piece = PIECE * PCNN_BLOCK / images / job->inner;
    job->piece = piece < 4 ? 4 : piece / 4 * 4;
    job->pieces = (positions + job->piece - 1) / job->piece;
}

/* What is drawn with, and from which rate on nothing is kept. */
static uint64_t
fill_dropout(const pcnn_site *site, pcnn_dropout *dropout)
{
    const pcnn_dropout_attrs *a = site->attrs;
    const int64_t *seed = site->in[1].data;
    const uint64_t key = (uint64_t)seed[0];
    const uint64_t threshold = pcnn_dropout_threshold(a->rate);
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
    const pcnn_dropout_attrs *a = site->attrs;
    const pcnn_tensor *x = &site->in[0];
    const int64_t bytes = pcnn_layout_bytes(&x->type, x->layout);
    if (bytes == 0)
        return false;
    const uint64_t threshold = fill_dropout(site, &job->dropout);
    if (is_settled(a->rate, threshold, x->data, site->out[0].data, bytes))
        return false;
    const int64_t elements = pcnn_type_size(&x->type) / x->type.shape[0];
    lay_out(site, job, a->spatial ? x->type.shape[1] : elements,
            x->layout == PCNN_N16 ? PCNN_BLOCK : 1);
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
    const pcnn_dropout_attrs *a = site->attrs;
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
    const pcnn_dropout_attrs *a = site->attrs;
    return a->spatial ? "whole channels need few numbers" : NULL;
}

/* ---- in a chain ---- */

static bool
plane_accepts(const pcnn_site *site)
{
    const pcnn_dropout_attrs *a = site->attrs;
    return !a->spatial;
}

static void
plane_apply(const pcnn_site *site, const pcnn_plane *plane)
{
    const pcnn_dropout_attrs *a = site->attrs;
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
    .attrs_size = sizeof(pcnn_dropout_attrs),
    .saves_in = 2,
    .infer = infer,
    .gradient = gradient,
    .impls = impls,
};

/* ---- with the decisions kept: elements only ---- */

pcnn_type
pcnn_dropout_bits_type(const pcnn_type *x)
{
    const int64_t N = x->shape[0], elements = N ? pcnn_type_size(x) / N : 0;
    return (pcnn_type){
        .dtype = PCNN_U8, .ndim = 3, .shape = {(N + PCNN_BLOCK - 1) / PCNN_BLOCK, elements, 2}};
}

static uint16_t *
bits_of(const job *job, int64_t image)
{
    return job->bits + image / PCNN_BLOCK * job->positions;
}

static int64_t
images_from(const job *job, int64_t image)
{
    return job->N - image < PCNN_BLOCK ? job->N - image : PCNN_BLOCK;
}

static void
keep_n16(const job *job, const void *x, void *y, int64_t image, int64_t first, int64_t end)
{
    const int64_t skipped = first * PCNN_BLOCK * (int64_t)pcnn_dtype_size(job->dtype);
    job->kernels->dropout_keep_n16(&job->dropout, (const char *)x + skipped, (char *)y + skipped,
                                   bits_of(job, image) + first, image, first, end);
}

static void
keep_plain(const job *job, const void *x, void *y, int64_t image, int64_t first, int64_t end)
{
    job->kernels->dropout_keep_plain(&job->dropout, x, y, bits_of(job, image), image,
                                     images_from(job, image), job->positions, first, end);
}

static void
mask_n16(const job *job, const void *x, void *y, int64_t image, int64_t first, int64_t end)
{
    const int64_t skipped = first * PCNN_BLOCK * (int64_t)pcnn_dtype_size(job->dtype);
    job->kernels->dropout_mask_n16(job->dropout.scale, (const char *)x + skipped,
                                   (char *)y + skipped, bits_of(job, image) + first, end - first);
}

static void
mask_plain(const job *job, const void *x, void *y, int64_t image, int64_t first, int64_t end)
{
    job->kernels->dropout_mask_plain(job->dropout.scale, x, y, bits_of(job, image),
                                     images_from(job, image), job->positions, first, end);
}

/* In plain layout too an item has sixteen images: their decisions share words. */
static pcnn_status
run_with_bits(const pcnn_site *site, job job, uint16_t *bits)
{
    const pcnn_type *x = &site->in[0].type;
    if (pcnn_type_size(x) == 0)
        return PCNN_OK;
    job.bits = bits;
    lay_out(site, &job, pcnn_type_size(x) / x->shape[0], PCNN_BLOCK);
    share_out(site, &job);
    return PCNN_OK;
}

static pcnn_status
infer_keep(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(infer(call, out));
    out[1] = pcnn_dropout_bits_type(&call->in[0]);
    return PCNN_OK;
}

static pcnn_status
run_keep(const pcnn_site *site,
         void (*kernel)(const job *, const void *, void *, int64_t, int64_t, int64_t))
{
    job job = {.kernel = kernel};
    (void)fill_dropout(site, &job.dropout);
    return run_with_bits(site, job, site->out[1].data);
}

static pcnn_status
run_keep_n16(const pcnn_site *site)
{
    return run_keep(site, keep_n16);
}

static pcnn_status
run_keep_plain(const pcnn_site *site)
{
    return run_keep(site, keep_plain);
}

static const char *
refuse_keep(const pcnn_site *site)
{
    const pcnn_dropout_attrs *a = site->attrs;
    return pcnn_dropout_threshold(a->rate) > UINT32_MAX ? "nothing is kept" : NULL;
}

static void
keep_plane(const pcnn_site *site, const pcnn_plane *plane)
{
    const pcnn_type *x = &site->in[0].type;
    const int64_t pixels = x->shape[2] * x->shape[3], first = plane->channel * pixels;
    uint16_t *bits = site->out[1].data;
    pcnn_dropout dropout;
    (void)fill_dropout(site, &dropout);
    pcnn_kernels_for(x->dtype)->dropout_keep_n16(&dropout, plane->in[0], plane->out[0],
                                                 bits + plane->block * x->shape[1] * pixels + first,
                                                 plane->block * PCNN_BLOCK, first, first + pixels);
}

static const pcnn_planes keep_planes = {.apply = keep_plane};

static const pcnn_impl keep_impls[] = {
    {.name = "n16",
     .n16_in = 1,
     .n16_out = 1,
     .in_place = 1,
     .refuse = refuse_keep,
     .run = run_keep_n16,
     .planes = &keep_planes},
    {.name = "reference", .in_place = 1, .refuse = refuse_keep, .run = run_keep_plain},
    {.name = NULL},
};

const pcnn_op pcnn_op_dropout_keep = {
    .name = "dropout_keep",
    .doc = "dropout of elements that also gives its decisions, a bit each.",
    .n_in = 2,
    .params = {{"x", false}, {"seed", false}},
    .n_out = 2,
    .out_names = {"y", "bits"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_dropout_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_keep,
    .impls = keep_impls,
};

static pcnn_status
infer_mask(const pcnn_call *call, pcnn_type *out)
{
    out[0] = call->in[0];
    return PCNN_OK;
}

static pcnn_status
run_mask(const pcnn_site *site,
         void (*kernel)(const job *, const void *, void *, int64_t, int64_t, int64_t))
{
    const pcnn_dropout_attrs *a = site->attrs;
    const job job = {.dropout = {.scale = 1 / (1 - a->rate)}, .kernel = kernel};
    return run_with_bits(site, job, site->in[1].data);
}

static pcnn_status
run_mask_n16(const pcnn_site *site)
{
    return run_mask(site, mask_n16);
}

static pcnn_status
run_mask_plain(const pcnn_site *site)
{
    return run_mask(site, mask_plain);
}

static void
mask_plane(const pcnn_site *site, const pcnn_plane *plane)
{
    const pcnn_dropout_attrs *a = site->attrs;
    const pcnn_type *x = &site->in[0].type;
    const int64_t W = x->shape[3], before = plane->block * x->shape[1] + plane->channel;
    const uint16_t *bits = site->in[1].data;
    bits += (before * x->shape[2] + plane->begin) * W;
    pcnn_kernels_for(x->dtype)->dropout_mask_n16(1 / (1 - a->rate), plane->in[0], plane->out[0],
                                                 bits, (plane->end - plane->begin) * W);
}

static int64_t
mask_plane_rows(const pcnn_site *site, int k)
{
    (void)site, (void)k;
    return 1;
}

static const pcnn_planes mask_planes = {
    .apply = mask_plane, .rows = mask_plane_rows, .cheap = true};

static const pcnn_impl mask_impls[] = {
    {.name = "n16",
     .n16_in = 1,
     .n16_out = 1,
     .in_place = 1,
     .run = run_mask_n16,
     .planes = &mask_planes},
    {.name = "reference", .in_place = 1, .run = run_mask_plain},
    {.name = NULL},
};

const pcnn_op pcnn_op_dropout_mask = {
    .name = "dropout_mask",
    .doc = "dx of dropout from dy and the decisions of dropout_keep.",
    .n_in = 2,
    .params = {{"dy", false}, {"bits", false}},
    .n_out = 1,
    .out_names = {"dx"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_dropout_attrs),
    .flags = PCNN_OP_INTERNAL,
    .infer = infer_mask,
    .impls = mask_impls,
};
