/* A dense layer whose input, or whose input's gradient, is maps in layout N16.
 *
 * A line of sixteen images is a row of a packed panel, as a matrix product wants it: nothing is
 * transposed and w is read as it lies. All three products are the same register tile, a few
 * broadcast numbers by one line of sixteen:
 *
 *   y:  outputs  by images,   summed over rows of w (pixels and channels)
 *   dx: rows     by images,   summed over outputs
 *   dw: rows     by outputs,  summed over images
 *
 * Every sum is one chain of multiply-adds in order; y is summed in parts, added up afterwards. In a
 * block with at most eight images only half of a line is computed; the other half of dx is zeros. */
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/dense_maps.h"

/* As in conv2d.kernel.c: 12 of 16 accumulators, 24 of 32 (12 single lines of AVX-512 do as well, as
 * two chains need 8 to 10), and fewer without FMA, where a product needs a register of its own. */
enum {
#if defined(PCNN_ISA_AVX512)
    TILE = 12,
#elif defined(PCNN_ISA_AVX2)
    TILE = 12 / VECS,
#else
    TILE = VECS > 4 ? 1 : 8 / VECS,
#endif
    LINE = 16,
    HALF_LINE = LINE / 2,
    HALF = VECS / 2, /* vectors of half a line; none where one vector is a line */
    HALF_TILE = TILE < 6 ? 2 * TILE : 12, /* as many chains; never below TILE */
    AHEAD = 12,
    CHUNK = 16384 / (LINE * (int)sizeof(real)), /* lines that half of the first cache holds */
};

/* Walks over the rows of w in order and tells which line of a block belongs to each. */
typedef struct {
    int64_t s, c, S, C;
    bool last;
} walk;

ALWAYS_INLINE walk
walk_from(const pcnn_dense_maps *g, int64_t row)
{
    if (g->channels_last)
        return (walk){row / g->C, row % g->C, g->S, g->C, true};
    return (walk){row % g->S, row / g->S, g->S, g->C, false};
}

ALWAYS_INLINE int64_t
walk_line(walk *w)
{
    const int64_t line = (w->c * w->S + w->s) * LINE;
    if (w->last) {
        if (++w->c == w->C) {
            w->c = 0;
            w->s++;
        }
    }
    else if (++w->s == w->S) {
        w->s = 0;
        w->c++;
    }
    return line;
}

/* ---- forward ---- */

/* sums[T][16] (+)= the sum over k of w[k * O + t] lines[k][16], in the first NV vectors of lines. T
 * and NV are literals at every call. Rows of w are often a power of two apart and then share few
 * lines of the first cache: they are asked for in time. */
ALWAYS_INLINE void
forward_tile(const int T, const int NV, const real *w, int64_t O, const real *lines, int64_t K,
             bool first, real *sums)
{
    vec acc[HALF_TILE][VECS];
    UNROLL
    for (int t = 0; t < T; t++) {
        UNROLL
        for (int v = 0; v < NV; v++)
            acc[t][v] = first ? (vec){0} : vload(sums + t * LINE + v * LANES);
    }
    for (int64_t k = 0; k < K; k++, w += O, lines += LINE) {
        __builtin_prefetch(w + AHEAD * O);
        vec value[VECS];
        UNROLL
        for (int v = 0; v < NV; v++)
            value[v] = vload(lines + v * LANES);
        UNROLL
        for (int t = 0; t < T; t++) {
            const vec weight = vset(w[t]);
            UNROLL
            for (int v = 0; v < NV; v++)
                acc[t][v] = vfma(value[v], weight, acc[t][v]);
        }
    }
    UNROLL
    for (int t = 0; t < T; t++) {
        UNROLL
        for (int v = 0; v < NV; v++)
            vstore(sums + t * LINE + v * LANES, acc[t][v]);
    }
}

/* ---- both gradients ---- */

/* acc[T][NV] += the sum over k of a[t][k] lines[k][16]. */
ALWAYS_INLINE void
gradient_tile(const int T, const int NV, const real *const a[HALF_TILE], const real *lines,
              int64_t K, vec acc[HALF_TILE][VECS])
{
    for (int64_t k = 0; k < K; k++, lines += LINE) {
        vec value[VECS];
        UNROLL
        for (int v = 0; v < NV; v++)
            value[v] = vload(lines + v * LANES);
        UNROLL
        for (int t = 0; t < T; t++) {
            const vec factor = vset(a[t][k]);
            UNROLL
            for (int v = 0; v < NV; v++)
                acc[t][v] = vfma(value[v], factor, acc[t][v]);
        }
    }
}

/* T rows of dx in one block of `images` images, which NV vectors hold: a line for each. */
ALWAYS_INLINE void
dx_tile(const int T, const int NV, const real *w, int64_t O, const real *dy,
        const int64_t line[HALF_TILE], real *dx, int64_t images)
{
    vec acc[HALF_TILE][VECS];
    const real *a[HALF_TILE];
    UNROLL
    for (int t = 0; t < T; t++) {
        a[t] = w + t * O;
        UNROLL
        for (int v = 0; v < NV; v++)
            acc[t][v] = (vec){0};
    }
    gradient_tile(T, NV, a, dy, O, acc);
    if (images < LINE) { /* zeros, though w may be infinite */
        UNROLL
        for (int t = 0; t < T; t++) {
            UNROLL
            for (int v = 0; v < NV; v++)
                acc[t][v] = vselect(vlanes_below(v * LANES, images), acc[t][v], (vec){0});
        }
    }
    UNROLL
    for (int t = 0; t < T; t++) {
        UNROLL
        for (int v = 0; v < NV; v++)
            vstore(dx + line[t] + v * LANES, acc[t][v]);
        UNROLL
        for (int v = NV; v < VECS; v++)
            vstore(dx + line[t] + v * LANES, (vec){0});
    }
}

/* T rows of dw, sixteen of its columns (`columns` of them exist). */
ALWAYS_INLINE void
dw_tile(const int T, const pcnn_dense_maps *g, const real *x, const int64_t line[HALF_TILE],
        const real *dy, real *dw, int64_t columns)
{
    vec acc[HALF_TILE][VECS];
    const real *a[HALF_TILE];
    const int64_t block = g->C * g->S * LINE;
    UNROLL
    for (int t = 0; t < T; t++) {
        UNROLL
        for (int v = 0; v < VECS; v++)
            acc[t][v] = (vec){0};
    }
    for (int64_t n = 0; n < g->N; n += LINE, x += block, dy += LINE * LINE) {
        UNROLL
        for (int t = 0; t < T; t++)
            a[t] = x + line[t];
        gradient_tile(T, VECS, a, dy, g->N - n < LINE ? g->N - n : LINE, acc);
    }
    if (columns < LINE) {
        real whole[HALF_TILE][LINE];
        UNROLL
        for (int t = 0; t < T; t++) {
            UNROLL
            for (int v = 0; v < VECS; v++)
                vstore(whole[t] + v * LANES, acc[t][v]);
        }
        for (int t = 0; t < T; t++)
            memcpy(dw + t * g->O, whole[t], (size_t)columns * sizeof(real));
        return;
    }
    UNROLL
    for (int t = 0; t < T; t++) {
        UNROLL
        for (int v = 0; v < VECS; v++)
            vstore(dw + t * g->O + v * LANES, acc[t][v]);
    }
}

/* ---- one function for each height of a tile ---- */

typedef struct {
    void (*forward)(const real *, int64_t, const real *, int64_t, bool, real *);
    void (*dx)(const real *, int64_t, const real *, const int64_t *, real *, int64_t);
} line_functions;

typedef void (*dw_function)(const pcnn_dense_maps *, const real *, const int64_t *, const real *,
                            real *, int64_t);

#define LINE_FUNCTIONS(NAME, T, NV)                                                                \
    static void forward_##NAME(const real *w, int64_t O, const real *lines, int64_t K, bool first, \
                               real *sums)                                                         \
    {                                                                                              \
        forward_tile(T, NV, w, O, lines, K, first, sums);                                          \
    }                                                                                              \
    static void dx_##NAME(const real *w, int64_t O, const real *dy, const int64_t *line, real *dx, \
                          int64_t images)                                                          \
    {                                                                                              \
        dx_tile(T, NV, w, O, dy, line, dx, images);                                                \
    }
#define AT_MOST(T, MOST) ((T) < (MOST) ? (T) : (MOST))
#define FUNCTIONS(T)                                                                 \
    LINE_FUNCTIONS(whole_##T, AT_MOST(T, TILE), VECS)                                \
    static void dw_##T(const pcnn_dense_maps *g, const real *x, const int64_t *line, \
                       const real *dy, real *dw, int64_t columns)                    \
    {                                                                                \
        dw_tile(AT_MOST(T, TILE), g, x, line, dy, dw, columns);                      \
    }
/* Of half a line; never called where there is none. */
#define HALF_FUNCTIONS(T) LINE_FUNCTIONS(half_##T, AT_MOST(T, HALF_TILE), (HALF > 0 ? HALF : 1))
#define UP_TO_6(_) _(1) _(2) _(3) _(4) _(5) _(6)
#define UP_TO_12(_) UP_TO_6(_) _(7) _(8) _(9) _(10) _(11) _(12)
#if defined(PCNN_ISA_AVX512)
#define EACH_SIZE UP_TO_12
#define EACH_HALF_SIZE UP_TO_12
#elif defined(PCNN_ISA_AVX2) && defined(PCNN_REAL_F32)
#define EACH_SIZE UP_TO_6
#define EACH_HALF_SIZE UP_TO_12
#else
#define EACH_SIZE(_) _(1) _(2) _(3)
#define EACH_HALF_SIZE UP_TO_6
#endif
EACH_SIZE(FUNCTIONS)
EACH_HALF_SIZE(HALF_FUNCTIONS)
#define WHOLE_ENTRY(T) {forward_whole_##T, dx_whole_##T},
#define HALF_ENTRY(T) {forward_half_##T, dx_half_##T},
#define DW_ENTRY(T) dw_##T,
static const line_functions whole_of_size[] = {EACH_SIZE(WHOLE_ENTRY)};
static const line_functions half_of_size[] = {EACH_HALF_SIZE(HALF_ENTRY)};
static const dw_function dw_of_size[] = {EACH_SIZE(DW_ENTRY)};
_Static_assert(sizeof dw_of_size / sizeof dw_of_size[0] >= TILE, "a size is missing");
_Static_assert(sizeof half_of_size / sizeof half_of_size[0] >= HALF_TILE, "a size is missing");

/* Whether half a line holds the images of block b. */
ALWAYS_INLINE bool
is_half(const pcnn_dense_maps *g, int64_t b)
{
    return HALF > 0 && g->N - b * LINE <= HALF_LINE;
}

/* The lines of rows begin .. end-1 (of those that there are) in a block, asked for ahead of time. */
ALWAYS_INLINE void
ask_for_lines(walk *at, const real *x, int64_t begin, int64_t end)
{
    for (int64_t k = begin; k < end; k++)
        __builtin_prefetch(x + walk_line(at), 0, 2);
}

/* sums[b][o][16] = the sum over rows row0 .. row1-1 of w, for blocks block0 .. block1-1 of x. A chunk
 * of w lies in the second cache while all blocks go over it; the lines of a block that belong to the
 * chunk lie together in the first. What comes next is fetched meanwhile, a piece with every tile. */
void
PCNN_K(dense_maps_forward)(const void *geometry, const void *px, const void *pw, void *psums,
                           int64_t block0, int64_t block1, int64_t row0, int64_t row1)
{
    const pcnn_dense_maps *g = geometry;
    const int64_t O = g->O, block = g->C * g->S * LINE;
    const bool scattered = g->channels_last && g->C > 1;
    _Alignas(64) real copy[CHUNK * LINE];
    for (int64_t row = row0; row < row1; row += CHUNK) {
        const int64_t K = row1 - row < CHUNK ? row1 - row : CHUNK;
        const int64_t next_K = row1 - row - K < CHUNK ? row1 - row - K : CHUNK;
        const real *w = (const real *)pw + row * O;
        for (int64_t b = block0; b < block1; b++) {
            const real *x = (const real *)px + b * block, *lines = x + row * LINE;
            if (scattered) {
                walk at = walk_from(g, row);
                for (int64_t k = 0; k < K; k++)
                    memcpy(copy + k * LINE, x + walk_line(&at), LINE * sizeof(real));
                lines = copy;
            }
            const bool turn = b + 1 == block1;
            const int64_t ask = turn ? next_K : K;
            const bool half = is_half(g, b);
            const line_functions *of_size = half ? half_of_size : whole_of_size;
            const int64_t tiles = pcnn_tiles(O, half ? HALF_TILE : TILE);
            const int64_t pieces = (block1 - block0) * tiles, ask_w = next_K * O / LINE;
            walk next = walk_from(g, turn ? row + K : row);
            for (int64_t t = 0; t < tiles; t++) {
                const int64_t o = pcnn_tile_begin(O, tiles, t);
                const int64_t size = pcnn_tile_begin(O, tiles, t + 1) - o;
                const int64_t piece = (b - block0) * tiles + t;
                ask_for_lines(&next, turn ? (const real *)px + block0 * block : x + block,
                              pcnn_tile_begin(ask, tiles, t), pcnn_tile_begin(ask, tiles, t + 1));
                for (int64_t k = pcnn_tile_begin(ask_w, pieces, piece);
                     k < pcnn_tile_begin(ask_w, pieces, piece + 1); k++)
                    __builtin_prefetch(w + K * O + k * LINE, 0, 2);
                of_size[size - 1].forward(w + o, O, lines, K, row == row0,
                                          (real *)psums + (b * O + o) * LINE);
            }
        }
    }
}

/* A tile of rows of w, and the one after it, whose memory is fetched meanwhile. */
typedef struct {
    int64_t row, size, next_size;
    int64_t line[HALF_TILE], next[HALF_TILE];
} rows;

ALWAYS_INLINE rows
rows_at(const pcnn_dense_maps *g, int64_t row0, int64_t row1, int64_t t)
{
    const int64_t n = row1 - row0, tiles = pcnn_tiles(n, TILE);
    rows r = {.row = row0 + pcnn_tile_begin(n, tiles, t)};
    const int64_t end = row0 + pcnn_tile_begin(n, tiles, t + 1);
    r.size = end - r.row;
    r.next_size = t + 1 < tiles ? row0 + pcnn_tile_begin(n, tiles, t + 2) - end : 0;
    walk at = walk_from(g, r.row);
    for (int64_t k = 0; k < r.size; k++)
        r.line[k] = walk_line(&at);
    for (int64_t k = 0; k < r.next_size; k++)
        r.next[k] = walk_line(&at);
    return r;
}

/* Rows row .. end-1 of dx in the last block, of whose lines half is enough. */
static void
dx_half_lines(const pcnn_dense_maps *g, const real *dy, const real *w, real *dx, int64_t row,
              int64_t end)
{
    const int64_t images = g->N % LINE, n = end - row, tiles = pcnn_tiles(n, HALF_TILE);
    walk at = walk_from(g, row);
    for (int64_t t = 0; t < tiles; t++) {
        const int64_t first = row + pcnn_tile_begin(n, tiles, t);
        const int64_t size = row + pcnn_tile_begin(n, tiles, t + 1) - first;
        int64_t line[HALF_TILE];
        for (int64_t k = 0; k < size; k++)
            line[k] = walk_line(&at);
        half_of_size[size - 1].dx(w + first * g->O, g->O, dy, line, dx, images);
    }
}

/* dx in all blocks from dy[b][o][16], for rows row0 .. row1-1 of w. A block of half lines follows a
 * few tiles later, when there are rows for its taller ones; w still lies in the second cache. */
void
PCNN_K(dense_maps_dx)(const void *geometry, const void *pdy, const void *pw, void *pdx,
                      int64_t row0, int64_t row1)
{
    const pcnn_dense_maps *g = geometry;
    const int64_t O = g->O, block = g->C * g->S * LINE, blocks = (g->N + LINE - 1) / LINE;
    const int64_t tiles = pcnn_tiles(row1 - row0, TILE);
    const int64_t whole = blocks > 0 && is_half(g, blocks - 1) ? blocks - 1 : blocks;
    int64_t waiting = row0; /* the first row that half lines have not seen */
    for (int64_t t = 0; t < tiles; t++) {
        const rows r = rows_at(g, row0, row1, t);
        const real *w = (const real *)pw + r.row * O, *next_w = w + r.size * O;
        for (int64_t b = 0; b < whole; b++) {
            const int64_t images = g->N - b * LINE < LINE ? g->N - b * LINE : LINE;
            real *dx = (real *)pdx + b * block;
            for (int64_t k = 0; k < r.next_size; k++)
                __builtin_prefetch(dx + r.next[k], 1);
            const int64_t numbers = r.next_size * O;
            for (int64_t k = pcnn_tile_begin(numbers, whole, b);
                 k < pcnn_tile_begin(numbers, whole, b + 1); k += LINE)
                __builtin_prefetch(next_w + k);
            whole_of_size[r.size - 1].dx(w, O, (const real *)pdy + b * O * LINE, r.line, dx,
                                         images);
        }
        if (whole < blocks && (t % 8 == 7 || t + 1 == tiles)) {
            dx_half_lines(g, (const real *)pdy + whole * O * LINE, pw, (real *)pdx + whole * block,
                          waiting, r.row + r.size);
            waiting = r.row + r.size;
        }
    }
}

/* Rows row0 .. row1-1 of dw from dy's panels[o / 16][n][16]. */
void
PCNN_K(dense_maps_dw)(const void *geometry, const void *px, const void *panels, void *pdw,
                      int64_t row0, int64_t row1)
{
    const pcnn_dense_maps *g = geometry;
    const int64_t O = g->O, block = g->C * g->S * LINE, blocks = (g->N + LINE - 1) / LINE;
    const int64_t all = (O + LINE - 1) / LINE;
    for (int64_t t = 0; t < pcnn_tiles(row1 - row0, TILE); t++) {
        const rows r = rows_at(g, row0, row1, t);
        real *dw = (real *)pdw + r.row * O;
        for (int64_t p = 0; p < all; p++) {
            for (int64_t b = pcnn_tile_begin(blocks, all, p);
                 b < pcnn_tile_begin(blocks, all, p + 1); b++)
                for (int64_t k = 0; k < r.next_size; k++)
                    __builtin_prefetch((const real *)px + b * block + r.next[k]);
            for (int64_t k = 0; k < r.next_size; k++)
                __builtin_prefetch(dw + (r.size + k) * O + p * LINE, 1);
            dw_of_size[r.size - 1](g, px, r.line, (const real *)panels + p * LINE * g->N,
                                   dw + p * LINE, O - p * LINE < LINE ? O - p * LINE : LINE);
        }
    }
}

/* ---- as defined: plain x[N][C][S], sums in double ---- */

ALWAYS_INLINE int64_t
place(const pcnn_dense_maps *g, int64_t row)
{
    return g->channels_last ? row % g->C * g->S + row / g->C : row;
}

void
PCNN_K(dense_maps_reference)(const void *geometry, const void *x, const void *w, void *y)
{
    const pcnn_dense_maps *g = geometry;
    const int64_t rows = g->C * g->S;
    for (int64_t n = 0; n < g->N; n++)
        for (int64_t o = 0; o < g->O; o++) {
            double sum = 0;
            for (int64_t r = 0; r < rows; r++)
                sum += (double)((const real *)x)[n * rows + place(g, r)] *
                       (double)((const real *)w)[r * g->O + o];
            ((real *)y)[n * g->O + o] = (real)sum;
        }
}

void
PCNN_K(dense_maps_dx_reference)(const void *geometry, const void *dy, const void *w, void *dx)
{
    const pcnn_dense_maps *g = geometry;
    const int64_t rows = g->C * g->S;
    for (int64_t n = 0; n < g->N; n++)
        for (int64_t r = 0; r < rows; r++) {
            double sum = 0;
            for (int64_t o = 0; o < g->O; o++)
                sum += (double)((const real *)dy)[n * g->O + o] *
                       (double)((const real *)w)[r * g->O + o];
            ((real *)dx)[n * rows + place(g, r)] = (real)sum;
        }
}

void
PCNN_K(dense_maps_dw_reference)(const void *geometry, const void *x, const void *dy, void *dw)
{
    const pcnn_dense_maps *g = geometry;
    const int64_t rows = g->C * g->S;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < g->O; o++) {
            double sum = 0;
            for (int64_t n = 0; n < g->N; n++)
                sum += (double)((const real *)x)[n * rows + place(g, r)] *
                       (double)((const real *)dy)[n * g->O + o];
            ((real *)dw)[r * g->O + o] = (real)sum;
        }
}
