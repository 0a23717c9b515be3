/* The sliding-window sum of a convolution in layout N16: forward pass and gradient of x.
 *
 * A register tile is OB output channels by PB pixels by the 16 images of a block, held in
 * OB * PB * VECS accumulators while c, i and j run: one tap loads PB * VECS vectors of x and OB
 * weights (broadcast) for OB * PB * VECS fused multiply-adds. Padding is never stored: a tap
 * outside x is left out by shortening the loops over i and j, and as a tile is one pixel wide there
 * (and everywhere, with 16 registers), this costs nothing inside and wastes nothing at the edges.
 *
 * Weights are packed [tile][c][i][j][OB] so that they are read once, in order. Tall tiles (many
 * channels, few pixels) read each line of x for more multiply-adds, which matters as C * KH rows of
 * x do not fit the first-level cache. Many channels are summed in chunks, between which the sums
 * wait in y: planes that are a power of two apart would fall on the same few lines of the cache.
 * Bias and activation are applied before y leaves it.
 *
 * First layers with three columns of taps have tiles of their own (conv2d_columns.h).
 *
 * A block with at most eight images is computed by halves of its lines: twice the pixels by half
 * the vectors in as many accumulators. The other half of y is written as zeros. */
#include "isa/kernels.h"
#include "isa/vecmath.h"
#include "ops/activation.h"
#include "ops/conv2d.h"
#include "ops/conv2d_columns.h"

/* 12 of 16 registers, 24 of 32: two chains of multiply-adds need 8 to 10 accumulators in flight.
 * Without FMA a product needs a register of its own. */
enum {
#if defined(PCNN_ISA_AVX512)
    ACCUMULATORS = 24,
    PIXELS = VECS == 1 ? 2 : 1,
#elif defined(PCNN_ISA_AVX2)
    ACCUMULATORS = 12,
    PIXELS = 1,
#else
    ACCUMULATORS = 8,
    PIXELS = 1,
#endif
    VECTORS = PIXELS * VECS,
    CHANNELS = ACCUMULATORS / VECTORS,
    HALF_LINE = PCNN_BLOCK / 2, /* images */
    HALF = VECS / 2,            /* vectors that hold them; none where one vector is a line */
};

int64_t
PCNN_K(conv2d_channels)(void)
{
    return CHANNELS;
}

/* The weights of one tile: a convolution of so few channels. */
void
PCNN_K(conv2d_pack)(const void *geometry, const void *weights, void *packed)
{
    const pcnn_conv2d_geometry *g = geometry;
    for (int64_t o = 0; o < g->OC; o++)
        for (int64_t c = 0; c < g->C; c++) {
            const real *w = (const real *)weights + g->w_origin + o * g->w_out + c * g->w_in;
            real *to = (real *)packed + c * g->KH * g->KW * g->OC + o;
            for (int64_t i = 0; i < g->KH; i++)
                for (int64_t j = 0; j < g->KW; j++, to += g->OC)
                    *to = w[i * g->w_row + j * g->w_column];
        }
}

/* The loops over taps of one tile. `x` and `w` stand at the first tap that counts. */
typedef struct {
    int64_t C, rows, columns;                /* taps */
    int64_t x_channel, x_row, x_column;      /* steps in reals */
    int64_t w_channel, w_row;
    int64_t x_pixel;                         /* from one pixel of the tile to the next */
    int64_t y_channel, y_pixel;
    bool first, last; /* of the chunks of channels: starts from zero, applies bias and activation */
    bool relu;
    ivec images[VECS]; /* all ones in the lanes of images that there are; for halves */
} taps;

/* OB output channels by PB pixels by the first NV vectors of a line. All are literals at every
 * call: the loops over them unroll, acc stays in registers. So is WHOLE: all channels of x at once,
 * with bias and relu. Around few taps, asking costs as much as the taps. */
ALWAYS_INLINE void
tile(const int OB, const int PB, const int NV, const bool WHOLE, const taps *t, const real *x,
     const real *w, const real *b, real *y)
{
    const int V = PB * NV;
    const bool last = WHOLE || t->last, relu = WHOLE || t->relu, biased = WHOLE || b;
    vec acc[CHANNELS][VECTORS];
    if (WHOLE || t->first) {
        UNROLL
        for (int o = 0; o < OB; o++) {
            UNROLL
            for (int v = 0; v < V; v++)
                acc[o][v] = (vec){0};
        }
    }
    else {
        UNROLL
        for (int o = 0; o < OB; o++) {
            UNROLL
            for (int v = 0; v < V; v++)
                acc[o][v] = vload(y + o * t->y_channel + v / NV * t->y_pixel + v % NV * LANES);
        }
    }
    const int64_t x_column = t->x_column, x_pixel = t->x_pixel;
    for (int64_t c = t->C; c > 0; c--, x += t->x_channel, w += t->w_channel) {
        const real *x_row = x, *w_row = w;
        for (int64_t i = t->rows; i > 0; i--, x_row += t->x_row, w_row += t->w_row) {
            const real *x_tap = x_row, *w_tap = w_row;
            for (int64_t j = t->columns; j > 0; j--, x_tap += x_column, w_tap += OB) {
                vec value[VECTORS];
                UNROLL
                for (int v = 0; v < V; v++)
                    value[v] = vload(x_tap + v / NV * x_pixel + v % NV * LANES);
                UNROLL
                for (int o = 0; o < OB; o++) {
                    vec weight = vset(w_tap[o]);
                    UNROLL
                    for (int v = 0; v < V; v++)
                        acc[o][v] = vfma(value[v], weight, acc[o][v]);
                }
            }
        }
    }
    UNROLL
    for (int o = 0; o < OB; o++) {
        vec bias = vset(biased ? b[o] : 0);
        UNROLL
        for (int v = 0; v < V; v++) {
            vec sum = biased && last ? acc[o][v] + bias : acc[o][v];
            if (relu && last)
                sum = vrelu(sum);
            if (NV < VECS && last) {
                sum = vselect(t->images[v % NV], sum, (vec){0});
                vstore(y + o * t->y_channel + v / NV * t->y_pixel + (v % NV + NV) * LANES,
                       (vec){0});
            }
            vstore(y + o * t->y_channel + v / NV * t->y_pixel + v % NV * LANES, sum);
        }
    }
}

ALWAYS_INLINE int64_t
clip(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Rows oh0 .. oh1-1 of OB output channels, summed over channels c0 .. c1-1 of x, in the first NV
 * vectors of a line, PB pixels at a time where they fit. */
ALWAYS_INLINE void
rows(const int OB, const int PB, const int NV, const pcnn_conv2d_geometry *g, const real *x,
     const real *w, const real *b, real *y, int64_t c0, int64_t c1, int64_t oh0, int64_t oh1,
     int64_t images)
{
    const int64_t plane = g->H * g->W, KW = g->KW;
    const bool pointwise = g->KH == 1 && KW == 1;
    taps t = {
        .C = c1 - c0,
        .x_channel = plane * PCNN_BLOCK,
        .x_row = g->W * PCNN_BLOCK,
        .x_column = PCNN_BLOCK,
        .w_channel = g->KH * KW * OB,
        .w_row = KW * OB,
        .x_pixel = g->SW * PCNN_BLOCK,
        .y_channel = g->y_channel * PCNN_BLOCK,
        .y_pixel = g->y_column * PCNN_BLOCK,
        .first = c0 == 0,
        .last = c1 == g->C,
        .relu = g->activation == PCNN_ACT_RELU,
    };
    if (NV < VECS)
        for (int v = 0; v < NV; v++)
            t.images[v] = vlanes_below(v * LANES, images);
    x += c0 * t.x_channel;
    w += c0 * t.w_channel;
    if (pointwise) { /* a 1x1 kernel: let the innermost loop run over channels */
        t.C = 1;
        t.x_column = t.x_channel;
    }
    /* Columns begin .. end-1 of y have all of the kernel's columns inside x. */
    const int64_t begin = clip((g->PL + g->SW - 1) / g->SW, 0, g->OW);
    const int64_t end =
        g->W + g->PL < KW ? begin : clip((g->W + g->PL - KW) / g->SW + 1, begin, g->OW);
    const bool whole = t.first && t.last && t.relu && b;
    for (int64_t oh = oh0; oh < oh1; oh++) {
        const int64_t ih = oh * g->SH - g->PT;
        const int64_t i0 = clip(-ih, 0, g->KH), i1 = clip(g->H - ih, i0, g->KH);
        t.rows = i1 - i0;
        const real *x_line = x + ((ih + i0) * g->W - g->PL) * PCNN_BLOCK,
                   *w_line = w + i0 * KW * OB;
        real *y_line = y + oh * g->y_row * PCNN_BLOCK;
        for (int64_t ow = 0; ow < g->OW;) {
            const int64_t iw = ow * g->SW - g->PL;
            const int64_t j0 = clip(-iw, 0, KW), j1 = clip(g->W - iw, j0, KW);
            const real *x_tap = x_line + (ow * g->SW + j0) * PCNN_BLOCK;
            real *y_tap = y_line + ow * t.y_pixel;
            t.columns = pointwise ? (j1 - j0) * (c1 - c0) : j1 - j0;
            if (ow >= begin && ow + PB <= end) {
                const int64_t n = (end - ow) / PB;
                if (whole)
                    for (int64_t k = 0; k < n;
                         k++, x_tap += PB * t.x_pixel, y_tap += PB * t.y_pixel)
                        tile(OB, PB, NV, true, &t, x_tap, w_line, b, y_tap);
                else
                    for (int64_t k = 0; k < n;
                         k++, x_tap += PB * t.x_pixel, y_tap += PB * t.y_pixel)
                        tile(OB, PB, NV, false, &t, x_tap, w_line, b, y_tap);
                ow += n * PB;
            }
            else {
                tile(OB, 1, NV, false, &t, x_tap, w_line + j0 * OB, b, y_tap);
                ow += 1;
            }
        }
    }
}

/* What is too long for the tile itself: sigmoid and tanh, and zeros in the lanes that pad the last
 * block (the sum of zeros is 0, but bias and activation move it, and 0 times infinity is NaN). */
static void
finish(const pcnn_conv2d_geometry *g, int64_t size, real *y, int64_t oh0, int64_t oh1,
       int64_t images)
{
    const int64_t activation = g->activation;
    for (int64_t o = 0; o < size; o++)
        for (int64_t oh = oh0; oh < oh1; oh++) {
            real *row = y + (o * g->y_channel + oh * g->y_row) * PCNN_BLOCK;
            for (int64_t ow = 0; ow < g->OW; ow++, row += g->y_column * PCNN_BLOCK)
                for (int v = 0; v < VECS; v++) {
                    vec value = vload(row + v * LANES);
                    if (activation == PCNN_ACT_SIGMOID)
                        value = vsigmoid(value);
                    else if (activation == PCNN_ACT_TANH)
                        value = vtanh(value);
                    value = vselect(vlanes_below(v * LANES, images), value, (vec){0});
                    vstore(row + v * LANES, value);
                }
        }
}

typedef void (*rows_function)(const pcnn_conv2d_geometry *, const real *, const real *,
                              const real *, real *, int64_t, int64_t, int64_t, int64_t, int64_t);

/* Whole lines, and halves (never called where there are none). */
#define ROWS(OB)                                                                                \
    static void rows_##OB(const pcnn_conv2d_geometry *g, const real *x, const real *w,          \
                          const real *b, real *y, int64_t c0, int64_t c1, int64_t oh0,          \
                          int64_t oh1, int64_t images)                                          \
    {                                                                                           \
        rows(OB < CHANNELS ? OB : CHANNELS, PIXELS, VECS, g, x, w, b, y, c0, c1, oh0, oh1,      \
             images);                                                                           \
    }                                                                                           \
    static void halves_##OB(const pcnn_conv2d_geometry *g, const real *x, const real *w,        \
                            const real *b, real *y, int64_t c0, int64_t c1, int64_t oh0,        \
                            int64_t oh1, int64_t images)                                        \
    {                                                                                           \
        if (HALF > 0)                                                                           \
            rows(OB < CHANNELS ? OB : CHANNELS, 2 * PIXELS, HALF > 0 ? HALF : 1, g, x, w, b, y, \
                 c0, c1, oh0, oh1, images);                                                     \
    }
#if defined(PCNN_ISA_AVX512)
#define EACH_SIZE(_) _(1) _(2) _(3) _(4) _(5) _(6) _(7) _(8) _(9) _(10) _(11) _(12)
#elif defined(PCNN_ISA_AVX2) && defined(PCNN_REAL_F32)
#define EACH_SIZE(_) _(1) _(2) _(3) _(4) _(5) _(6)
#else
#define EACH_SIZE(_) _(1) _(2) _(3)
#endif
EACH_SIZE(ROWS)
#define ENTRY(OB) {rows_##OB, halves_##OB},
static const rows_function rows_of_size[][2] = {EACH_SIZE(ENTRY)};
_Static_assert(sizeof rows_of_size / sizeof rows_of_size[0] >= CHANNELS, "a size is missing");

/* Tiles tile0 .. tile1-1, rows oh0 .. oh1-1 of one block that holds `images` images. */
void
PCNN_K(conv2d_n16)(const void *geometry, const void *x, const void *packed, const void *bias,
                   void *y, int64_t tile0, int64_t tile1, int64_t oh0, int64_t oh1, int64_t images)
{
    const pcnn_conv2d_geometry *g = geometry;
    const int64_t tiles = pcnn_tiles(g->OC, CHANNELS);
    const bool half = HALF > 0 && images <= HALF_LINE;
    const bool unfinished = (images < PCNN_BLOCK && !half) || g->activation == PCNN_ACT_SIGMOID ||
                            g->activation == PCNN_ACT_TANH;
    const bool columns = !half && columns_accept(g);
    /* At least one chunk, as without channels y is still b. */
    const int64_t chunks = g->C ? pcnn_tiles(g->C, PCNN_CONV2D_CHUNK) : 1;
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        for (int64_t t = tile0; t < tile1; t++) {
            const int64_t oc0 = pcnn_tile_begin(g->OC, tiles, t);
            const int64_t size = pcnn_tile_begin(g->OC, tiles, t + 1) - oc0;
            real *out = (real *)y + oc0 * g->y_channel * PCNN_BLOCK;
            const real *w = (const real *)packed + oc0 * g->C * g->KH * g->KW;
            const real *b = bias ? (const real *)bias + oc0 : NULL;
            if (columns)
                column_rows(g, size, x, w, b, out, oh0, oh1);
            else
                rows_of_size[size - 1][half](g, x, w, b, out, pcnn_tile_begin(g->C, chunks, chunk),
                                             pcnn_tile_begin(g->C, chunks, chunk + 1), oh0, oh1,
                                             images);
            if (unfinished && chunk == chunks - 1)
                finish(g, size, out, oh0, oh1, images);
        }
}
