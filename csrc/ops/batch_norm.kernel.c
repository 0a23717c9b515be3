/* Batch normalisation: sums over a chunk of one channel, and the affine passes.
 *
 * "Row" kernels see n contiguous elements of one channel; n is a multiple of 16 when lanes < 16,
 * and then only the first `lanes` of every 16 elements count: the others are kept at zero (N16).
 * "Column" kernels see rows of C channels. Sums of a chunk are made in many lanes of the real
 * type, then added in double. Coefficients are [k][C], `coef` at the channel's own column. */
#include "isa/kernels.h"
#include "isa/vec.h"

/* Accumulators of a sum: enough to hide the latency of additions; SPAN elements a turn. Two sums at
 * once have half of them each, for the sake of the registers. */
enum { ACCS = VECS > 8 ? VECS : 8, SPAN = ACCS * LANES };
enum { PAIR_ACCS = VECS > 4 ? VECS : 4, PAIR_SPAN = PAIR_ACCS * LANES };

ALWAYS_INLINE void
lane_masks(int64_t lanes, ivec mask[VECS])
{
    for (int k = 0; k < VECS; k++) {
        const int64_t n = lanes - k * LANES;
        mask[k] = vfirst_lanes(n < 0 ? 0 : n > LANES ? LANES : n);
    }
}

/* `masked` is a constant: most blocks have sixteen images. */
ALWAYS_INLINE vec
keep(vec v, ivec mask, const bool masked)
{
    return masked ? (vec)((ivec)v & mask) : v;
}

/* The lanes of all n accumulators, in double: a vector of partial sums first. */
ALWAYS_INLINE double
total(const vec *acc, const int n)
{
    typedef double doubles __attribute__((vector_size(VEC_BYTES)));
    enum { DOUBLES = VEC_BYTES / sizeof(double), PARTS = LANES / DOUBLES };
    typedef real part __attribute__((vector_size(VEC_BYTES / PARTS)));
    doubles sum[PARTS] = {{0}};
    UNROLL for (int k = 0; k < n; k++)
    {
        part parts[PARTS];
        memcpy(parts, &acc[k], sizeof parts);
        UNROLL for (int h = 0; h < PARTS; h++) sum[h] += __builtin_convertvector(parts[h], doubles);
    }
    double result = 0;
    for (int h = 1; h < PARTS; h++)
        sum[0] += sum[h];
    for (int l = 0; l < DOUBLES; l++)
        result += sum[0][l];
    return result;
}

/* ---- channels are rows ---- */

ALWAYS_INLINE double
sum_of_squares(const real *x, int64_t n, const real mean, const ivec mask[VECS], const bool masked)
{
    const vec vmean = vset(mean);
    int64_t i = 0;
    vec square[ACCS] = {{0}};
    for (; i + SPAN <= n; i += SPAN)
        UNROLL for (int k = 0; k < ACCS; k++)
        {
            vec d = keep(vload(x + i + k * LANES) - vmean, mask[k % VECS], masked);
            square[k] = vfma(d, d, square[k]);
        }
    for (; i + 16 <= n; i += 16)
        UNROLL for (int k = 0; k < VECS; k++)
        {
            vec d = keep(vload(x + i + k * LANES) - vmean, mask[k], masked);
            square[k] = vfma(d, d, square[k]);
        }
    double squares = total(square, ACCS);
    for (; i < n; i++)
        squares += (double)(x[i] - mean) * (double)(x[i] - mean);
    return squares;
}

/* sums[0] = sum of x; sums[C] = sum of (x - m)^2 with m = sums[0] / count, rounded to real: the
 * chunk's own mean, so that nothing cancels however far the mean lies from zero. */
void
PCNN_K(batch_norm_row_sums)(const void *px, int64_t n, int64_t lanes, int64_t count, int64_t C,
                            double *sums)
{
    const real *x = px;
    int64_t i = 0;
    vec acc[ACCS] = {{0}};
    for (; i + SPAN <= n; i += SPAN)
        UNROLL for (int k = 0; k < ACCS; k++) acc[k] += vload(x + i + k * LANES);
    for (; i + 16 <= n; i += 16)
        UNROLL for (int k = 0; k < VECS; k++) acc[k] += vload(x + i + k * LANES);
    double sum = total(acc, ACCS);
    for (; i < n; i++)
        sum += (double)x[i];

    const real mean = (real)(sum / (double)count);
    ivec mask[VECS];
    lane_masks(lanes, mask);
    sums[0] = sum;
    sums[C] = lanes < 16 ? sum_of_squares(x, n, mean, mask, true)
                         : sum_of_squares(x, n, mean, mask, false);
}

/* `mean`, `scale` and `shift` of a channel. */
typedef struct {
    real mean, scale, shift;
} affine;

ALWAYS_INLINE void
apply(const real *x, real *y, int64_t n, affine a, const ivec mask[VECS], const bool masked)
{
    const vec mean = vset(a.mean), scale = vset(a.scale), shift = vset(a.shift);
    int64_t i = 0;
    for (; i + 64 <= n; i += 64)
        UNROLL for (int k = 0; k < 64 / LANES; k++)
        {
            vec v = vfma(vload(x + i + k * LANES) - mean, scale, shift);
            vstore(y + i + k * LANES, keep(v, mask[k % VECS], masked));
        }
    for (; i + 16 <= n; i += 16)
        UNROLL for (int k = 0; k < VECS; k++)
        {
            vec v = vfma(vload(x + i + k * LANES) - mean, scale, shift);
            vstore(y + i + k * LANES, keep(v, mask[k], masked));
        }
    NO_UNROLL for (; i < n; i++) y[i] = rfma(x[i] - a.mean, a.scale, a.shift);
}

/* y = (x - coef[0]) * coef[1] + coef[2] */
void
PCNN_K(batch_norm_row_apply)(const void *x, void *y, int64_t n, int64_t lanes, int64_t C,
                             const void *pcoef)
{
    const real *coef = pcoef;
    const affine a = {coef[0], coef[C], coef[2 * C]};
    ivec mask[VECS];
    lane_masks(lanes, mask);
    if (lanes < 16)
        apply(x, y, n, a, mask, true);
    else
        apply(x, y, n, a, mask, false);
}

ALWAYS_INLINE void
grad_sums(const real *dy, const real *x, int64_t n, const real mean, const ivec mask[VECS],
          const bool masked, double *sum, double *products)
{
    const vec vmean = vset(mean);
    vec acc[PAIR_ACCS] = {{0}}, product[PAIR_ACCS] = {{0}};
    int64_t i = 0;
    for (; i + PAIR_SPAN <= n; i += PAIR_SPAN)
        UNROLL for (int k = 0; k < PAIR_ACCS; k++)
        {
            vec d = vload(dy + i + k * LANES);
            vec e = keep(vload(x + i + k * LANES) - vmean, mask[k % VECS], masked);
            acc[k] += d;
            product[k] = vfma(d, e, product[k]);
        }
    for (; i + 16 <= n; i += 16)
        UNROLL for (int k = 0; k < VECS; k++)
        {
            vec d = vload(dy + i + k * LANES);
            vec e = keep(vload(x + i + k * LANES) - vmean, mask[k], masked);
            acc[k] += d;
            product[k] = vfma(d, e, product[k]);
        }
    *sum = total(acc, PAIR_ACCS);
    *products = total(product, PAIR_ACCS);
    for (; i < n; i++) {
        *sum += (double)dy[i];
        *products += (double)dy[i] * (double)(x[i] - mean);
    }
}

/* sums[0] = sum of dy; sums[C] = sum of dy * (x - coef[0]) */
void
PCNN_K(batch_norm_row_grad_sums)(const void *dy, const void *x, int64_t n, int64_t lanes, int64_t C,
                                 const void *pcoef, double *sums)
{
    const real mean = *(const real *)pcoef;
    ivec mask[VECS];
    lane_masks(lanes, mask);
    if (lanes < 16)
        grad_sums(dy, x, n, mean, mask, true, &sums[0], &sums[C]);
    else
        grad_sums(dy, x, n, mean, mask, false, &sums[0], &sums[C]);
}

/* The gradient's coefficients of a channel. */
typedef struct {
    real mean, a, b, c;
} grad_affine;

ALWAYS_INLINE void
grad_apply(const real *dy, const real *x, real *dx, int64_t n, grad_affine g, const ivec mask[VECS],
           const bool masked, const bool relu)
{
    const vec mean = vset(g.mean), a = vset(g.a), b = vset(g.b), c = vset(g.c);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        UNROLL for (int k = 0; k < VECS; k++)
        {
            vec z = vload(x + i + k * LANES);
            vec v = vfma(b, z - mean, c);
            v = vfma(a, vload(dy + i + k * LANES), v);
            if (relu)
                v = (vec)((ivec)v & (z > 0));
            vstore(dx + i + k * LANES, keep(v, mask[k], masked));
        }
    NO_UNROLL for (; i < n; i++)
    {
        real v = rfma(g.a, dy[i], rfma(g.b, x[i] - g.mean, g.c));
        dx[i] = relu && !(x[i] > 0) ? 0 : v;
    }
}

/* dx = coef[1] * dy + (coef[2] * (x - coef[0]) + coef[3]); with `relu`, 0 where x is not above 0 */
void
PCNN_K(batch_norm_row_grad_apply)(const void *dy, const void *x, void *dx, int64_t n, int64_t lanes,
                                  int64_t C, const void *pcoef, int64_t relu)
{
    const real *coef = pcoef;
    const grad_affine g = {coef[0], coef[C], coef[2 * C], coef[3 * C]};
    ivec mask[VECS];
    lane_masks(lanes, mask);
    if (lanes < 16 && relu)
        grad_apply(dy, x, dx, n, g, mask, true, true);
    else if (lanes < 16)
        grad_apply(dy, x, dx, n, g, mask, true, false);
    else if (relu)
        grad_apply(dy, x, dx, n, g, mask, false, true);
    else
        grad_apply(dy, x, dx, n, g, mask, false, false);
}

/* ---- channels are columns ---- */

/* Loads and stores of a vector of columns, of which only n < LANES may exist. */
ALWAYS_INLINE vec
load_columns(const real *p, int64_t n)
{
    return n >= LANES ? vload(p) : vload_partial(p, n);
}

ALWAYS_INLINE void
store_columns(real *p, vec v, int64_t n)
{
    if (n >= LANES)
        vstore(p, v);
    else
        vstore_partial(p, v, n);
}

ALWAYS_INLINE void
store_doubles(double *p, vec v, int64_t n)
{
    for (int l = 0; l < LANES && l < n; l++)
        p[l] = (double)v[l];
}

/* As batch_norm_row_sums for each of C columns; sums [2][C]. */
void
PCNN_K(batch_norm_column_sums)(const void *px, int64_t rows, int64_t C, double *sums)
{
    const real *x = px;
    for (int64_t j = 0; j < C; j += LANES) {
        vec acc = {0}, square = {0}, mean = {0};
        for (int64_t r = 0; r < rows; r++)
            acc += load_columns(x + r * C + j, C - j);
        for (int l = 0; l < LANES; l++)
            mean[l] = (real)((double)acc[l] / (double)rows);
        for (int64_t r = 0; r < rows; r++) {
            vec d = load_columns(x + r * C + j, C - j) - mean;
            square = vfma(d, d, square);
        }
        store_doubles(sums + j, acc, C - j);
        store_doubles(sums + C + j, square, C - j);
    }
}

void
PCNN_K(batch_norm_column_apply)(const void *px, void *py, int64_t rows, int64_t C,
                                const void *pcoef)
{
    const real *x = px, *coef = pcoef;
    real *y = py;
    for (int64_t r = 0; r < rows; r++, x += C, y += C)
        for (int64_t j = 0; j < C; j += LANES) {
            vec d = load_columns(x + j, C - j) - load_columns(coef + j, C - j);
            vec v =
                vfma(d, load_columns(coef + C + j, C - j), load_columns(coef + 2 * C + j, C - j));
            store_columns(y + j, v, C - j);
        }
}

void
PCNN_K(batch_norm_column_grad_sums)(const void *pdy, const void *px, int64_t rows, int64_t C,
                                    const void *pcoef, double *sums)
{
    const real *dy = pdy, *x = px, *coef = pcoef;
    for (int64_t j = 0; j < C; j += LANES) {
        vec acc = {0}, product = {0}, mean = load_columns(coef + j, C - j);
        for (int64_t r = 0; r < rows; r++) {
            vec d = load_columns(dy + r * C + j, C - j);
            acc += d;
            product = vfma(d, load_columns(x + r * C + j, C - j) - mean, product);
        }
        store_doubles(sums + j, acc, C - j);
        store_doubles(sums + C + j, product, C - j);
    }
}

void
PCNN_K(batch_norm_column_grad_apply)(const void *pdy, const void *px, void *pdx, int64_t rows,
                                     int64_t C, const void *pcoef)
{
    const real *dy = pdy, *x = px, *coef = pcoef;
    real *dx = pdx;
    for (int64_t r = 0; r < rows; r++, dy += C, x += C, dx += C)
        for (int64_t j = 0; j < C; j += LANES) {
            vec d = load_columns(x + j, C - j) - load_columns(coef + j, C - j);
            vec v = vfma(load_columns(coef + 2 * C + j, C - j), d,
                         load_columns(coef + 3 * C + j, C - j));
            v = vfma(load_columns(coef + C + j, C - j), load_columns(dy + j, C - j), v);
            store_columns(dx + j, v, C - j);
        }
}

/* ---- the reference: x[outer][C][inner], channel c, sums in double in their order ---- */

/* out[0] = mean, out[1] = biased variance */
void
PCNN_K(batch_norm_reference_statistics)(const void *px, int64_t outer, int64_t C, int64_t inner,
                                        int64_t c, double *out)
{
    const real *x = px;
    const double count = (double)(outer * inner);
    double sum = 0, squares = 0;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++)
            sum += (double)x[(o * C + c) * inner + i];
    out[0] = count > 0 ? sum / count : 0;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            double d = (double)x[(o * C + c) * inner + i] - out[0];
            squares += d * d;
        }
    out[1] = count > 0 ? squares / count : 0;
}

/* y = (x - coef[0]) * coef[1] + coef[2] */
void
PCNN_K(batch_norm_reference_apply)(const void *px, void *py, int64_t outer, int64_t C,
                                   int64_t inner, int64_t c, const double *coef)
{
    const real *x = px;
    real *y = py;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            int64_t at = (o * C + c) * inner + i;
            y[at] = (real)(((double)x[at] - coef[0]) * coef[1] + coef[2]);
        }
}

/* out[0] = sum of dy, out[1] = sum of dy * (x - mean) */
void
PCNN_K(batch_norm_reference_grad_sums)(const void *pdy, const void *px, int64_t outer, int64_t C,
                                       int64_t inner, int64_t c, double mean, double *out)
{
    const real *dy = pdy, *x = px;
    out[0] = out[1] = 0;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            int64_t at = (o * C + c) * inner + i;
            out[0] += (double)dy[at];
            out[1] += (double)dy[at] * ((double)x[at] - mean);
        }
}

/* dx = coef[1] * dy + coef[2] * (x - coef[0]) + coef[3] */
void
PCNN_K(batch_norm_reference_grad_apply)(const void *pdy, const void *px, void *pdx, int64_t outer,
                                        int64_t C, int64_t inner, int64_t c, const double *coef)
{
    const real *dy = pdy, *x = px;
    real *dx = pdx;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            int64_t at = (o * C + c) * inner + i;
            dx[at] =
                (real)(coef[1] * (double)dy[at] + coef[2] * ((double)x[at] - coef[0]) + coef[3]);
        }
}
