/* Which form of Winograd's convolution a pass takes, and whether it should take any: the one that
 * costs least of those that keep errors within what is promised of float32 kernels. */
#include "core/options.h"
#include "ops/winograd.h"

/* Tiles, and what their errors ask for: so many terms of the sums between the transforms. A tile's
 * errors are those of its largest numbers, and average out over the terms. Where some outputs are
 * sums of a part of the taps only, at the corners of a padded map (or of one that is not padded,
 * for the gradient of x), their own errors must be as large: that takes more terms. The figures are
 * measured on normal and ReLU-like numbers. */
typedef struct {
    int64_t tile, cut;
    int64_t least, least_corners;
} form;

enum { NEVER = 1 << 30 };

/* For 3x3 tiles of 3x3 outputs, F(3x3,3x3), have smaller errors than those of 4x4; where a map's
 * outer tiles are smaller anyway, they are enough. For 5x5 larger tiles have larger errors. Eight
 * points for 3x3, tiles of 6x6, lie at .9 to 1.04 of the bound with 128 channels, and would need 256:
 * only dw has sums that long. */
static const form forward_3x3[] = {{4, 4, 16, 32}, {4, 3, 16, 16}, {0, 0, 0, 0}};
static const form forward_5x5[] = {{4, 4, 24, 96}, {3, 3, 10, 16}, {2, 2, 6, 8}, {0, 0, 0, 0}};
static const form dx_3x3[] = {{4, 4, 16, 40}, {0, 0, 0, 0}};
static const form dx_5x5[] = {{4, 4, 48, 64}, {3, 3, 16, 32}, {2, 2, 8, 16}, {0, 0, 0, 0}};
/* The sums of dw are over images and outputs, and those of its corners over what padding leaves. */
static const form dw_3x3[] = {{6, 6, 768, NEVER}, {4, 4, 192, NEVER}, {0, 0, 0, 0}};
static const form dw_5x5[] = {
    {4, 4, 1280, NEVER}, {3, 3, 768, NEVER}, {2, 2, 384, NEVER}, {0, 0, 0, 0}};

typedef struct {
    int64_t smallest, largest;
} paddings;

/* Of the four sides. */
static paddings
paddings_of(const pcnn_conv2d_geometry *g)
{
    const int64_t sides[4] = {g->PT, g->OH + g->KH - 1 - g->PT - g->H, g->PL,
                              g->OW + g->KW - 1 - g->PL - g->W};
    paddings p = {sides[0], sides[0]};
    for (int i = 1; i < 4; i++) {
        p.smallest = sides[i] < p.smallest ? sides[i] : p.smallest;
        p.largest = sides[i] > p.largest ? sides[i] : p.largest;
    }
    return p;
}

/* Tiles of n outputs that lack some. */
static int64_t
smaller_tiles(int64_t n, const form *form)
{
    const int64_t tiles = pcnn_tiles(n, form->cut), missing = tiles * form->tile - n;
    return missing < tiles ? missing : tiles;
}

/* Elements of n outputs' tiles, in one direction. */
static int64_t
elements(int64_t n, int64_t kernel, const form *form)
{
    return (form->tile + kernel - 1) * pcnn_tiles(n, form->cut) - smaller_tiles(n, form);
}

/* Outputs o whose input at row (or column) i of the kernel exists: 0 <= o - padding + i < inputs. */
static int64_t
outputs_of(int64_t i, int64_t outputs, int64_t inputs, int64_t padding)
{
    const int64_t first = padding - i > 0 ? padding - i : 0;
    const int64_t end = inputs + padding - i < outputs ? inputs + padding - i : outputs;
    return end > first ? end - first : 0;
}

/* Pairs of such an output and a row. */
static int64_t
pairs(int64_t kernel, int64_t outputs, int64_t inputs, int64_t padding)
{
    int64_t count = 0;
    for (int64_t i = 0; i < kernel; i++)
        count += outputs_of(i, outputs, inputs, padding);
    return count;
}

/* The fewest outputs of a row: the first's or the last's. */
static int64_t
fewest(int64_t kernel, int64_t outputs, int64_t inputs, int64_t padding)
{
    const int64_t first = outputs_of(0, outputs, inputs, padding);
    const int64_t last = outputs_of(kernel - 1, outputs, inputs, padding);
    return first < last ? first : last;
}

/* Multiply-adds of the direct sum: one for every channel pair and tap that exists. */
static double
direct_cost(const pcnn_conv2d_geometry *g, int64_t blocks)
{
    return (double)pairs(g->KH, g->OH, g->H, g->PT) * (double)pairs(g->KW, g->OW, g->W, g->PL) *
           (double)(g->C * g->OC) * (double)blocks;
}

/* Those of a form: one for every channel pair and element; the transforms, which cost as much as so
 * many more channels on the other side; and once for all blocks the weights. Measured: 3->16 to
 * 256->512 channels, 3x3 to 32x32 pixels. */
static double
cost(const pcnn_conv2d_geometry *g, int64_t blocks, const form *form)
{
    const bool eight_points = form->tile + g->KH - 1 == 8;
    const double transform = g->KH == 3 ? (eight_points ? 13 : 9) : (eight_points ? 9 : 7);
    const double WEIGHTS = 1.5, MARGIN = 1.05;
    const double C = (double)g->C, OC = (double)g->OC, P = (double)(form->tile + g->KH - 1);
    const double all = (double)elements(g->OH, g->KH, form) * (double)elements(g->OW, g->KW, form) *
                       (double)blocks;
    return MARGIN * (all * (C * OC + transform * (C + OC)) + P * P * WEIGHTS * C * OC);
}

/* The tiles depend on shapes only, not on options: those may change between a plan's making and its
 * running. */
static const char *
choose(pcnn_dtype dtype, pcnn_conv2d_geometry *g, int64_t N, int64_t terms, bool corners,
       bool small_corners_do, const form *forms)
{
    if (forms == NULL)
        return "the kernel is neither 3x3 nor 5x5";
    if (g->SH != 1 || g->SW != 1)
        return "the stride is not 1";
    const int64_t blocks = pcnn_tiles(N, PCNN_BLOCK);
    const form *best = NULL, *last = forms;
    for (const form *form = forms; form->tile > 0; last = form++) {
        const bool smaller_outside =
            small_corners_do && smaller_tiles(g->OH, form) >= 2 && smaller_tiles(g->OW, form) >= 2;
        const int64_t least = corners && !smaller_outside ? form->least_corners : form->least;
        if (terms >= least && (best == NULL || cost(g, blocks, form) < cost(g, blocks, best)))
            best = form;
    }
    last = best ? best : last;
    g->tile = last->tile;
    g->cut = last->cut;
    if (pcnn_option_winograd == PCNN_WINOGRAD_OFF)
        return "switched off";
    if (pcnn_option_winograd == PCNN_WINOGRAD_ALWAYS)
        return NULL;
    if (dtype != PCNN_F32)
        return "float64 is for checking: the direct sum rounds less";
    if (best == NULL)
        return "too short sums: rounding errors would not average out";
    if (cost(g, blocks, best) >= direct_cost(g, blocks))
        return "the transforms would cost more than they save";
    return NULL;
}

static const form *
by_kernel(const pcnn_conv2d_geometry *g, const form *of_3x3, const form *of_5x5)
{
    return g->KH != g->KW ? NULL : g->KH == 3 ? of_3x3 : g->KH == 5 ? of_5x5 : NULL;
}

const char *
pcnn_winograd_forward(pcnn_dtype dtype, pcnn_conv2d_geometry *g, int64_t N)
{
    const int64_t largest = paddings_of(g).largest;
    const char *reason =
        choose(dtype, g, N, g->C, largest > 0, g->KH == 3, by_kernel(g, forward_3x3, forward_5x5));
    if (reason == NULL && largest > g->KH / 2 && pcnn_option_winograd != PCNN_WINOGRAD_ALWAYS)
        return "padding above half the kernel: outputs of few products would lose digits";
    return reason;
}

/* For dx it is the other way round: without padding its corners have one product a channel. */
const char *
pcnn_winograd_dx(pcnn_dtype dtype, pcnn_conv2d_geometry *f, int64_t N)
{
    const int64_t smallest = paddings_of(f).smallest;
    return choose(dtype, f, N, f->OC, smallest < f->KH / 2, false, by_kernel(f, dx_3x3, dx_5x5));
}

const char *
pcnn_winograd_dw(pcnn_dtype dtype, pcnn_conv2d_geometry *f, int64_t N)
{
    const int64_t terms = N * fewest(f->KH, f->OH, f->H, f->PT) * fewest(f->KW, f->OW, f->W, f->PL);
    return choose(dtype, f, N, terms, false, false, by_kernel(f, dw_3x3, dw_5x5));
}
