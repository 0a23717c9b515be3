/* Batch normalisation: sums over a chunk of one channel, and the affine passes.
 *
 * "Row" kernels see n contiguous elements of one channel; n is a multiple of 16 when lanes < 16,
 * and then only the first `lanes` of every 16 elements count: the others are kept at zero (N16).
 * "Column" kernels see rows of C channels. Sums of a chunk are made in many lanes of the real
 * type, then added in double. Coefficients are [k][C], `coef` at the channel's own column. */
#include "isa/kernels.h"
#include "isa/vec.h"

/* Accumulators: at least four vectors, to hide the latency of additions; SPAN elements a turn. */
enum { TURNS = VECS < 4 ? 4 / VECS : 1, ACCS = TURNS * VECS, SPAN = TURNS * 16 };

ALWAYS_INLINE void
lane_masks(int64_t lanes, ivec mask[VECS])
{
    for (int k = 0; k < VECS; k++)
        mask[k] = vlanes_below(k * LANES, lanes);
}

ALWAYS_INLINE vec
keep(vec v, ivec mask)
{
    return (vec)((ivec)v & mask);
}

ALWAYS_INLINE double
total(const vec acc[ACCS])
{
    double sum = 0;
    for (int k = 0; k < ACCS; k++)
        for (int l = 0; l < LANES; l++)
            sum += (double)acc[k][l];
    return sum;
}

/* ---- channels are rows ---- */

/* sums[0] = sum of x; sums[C] = sum of (x - m)^2 with m = sums[0] / count, rounded to real: the
 * chunk's own mean, so that nothing cancels however far the mean lies from zero. */
void
PCNN_K(batch_norm_row_sums)(const void *px, int64_t n, int64_t lanes, int64_t count, int64_t C,
                            double *sums)
{
    const real *x = px;
    ivec mask[VECS];
    lane_masks(lanes, mask);
    int64_t i = 0;
    vec acc[ACCS] = {{0}};
    for (; i + SPAN <= n; i += SPAN)
        UNROLL for (int k = 0; k < ACCS; k++) acc[k] += vload(x + i + k * LANES);
    for (; i + 16 <= n; i += 16)
        UNROLL for (int k = 0; k < VECS; k++) acc[k] += vload(x + i + k * LANES);
    double sum = total(acc);
    for (; i < n; i++)
        sum += (double)x[i];

    const real mean = (real)(sum / (double)count);
    const vec vmean = vset(mean);
    vec square[ACCS] = {{0}};
    for (i = 0; i + SPAN <= n; i += SPAN)
        UNROLL for (int k = 0; k < ACCS; k++)
        {
            vec d = keep(vload(x + i + k * LANES) - vmean, mask[k % VECS]);
            square[k] = vfma(d, d, square[k]);
        }
    for (; i + 16 <= n; i += 16)
        UNROLL for (int k = 0; k < VECS; k++)
        {
            vec d = keep(vload(x + i + k * LANES) - vmean, mask[k]);
            square[k] = vfma(d, d, square[k]);
        }
    double squares = total(square);
    for (; i < n; i++)
        squares += (double)(x[i] - mean) * (double)(x[i] - mean);
    sums[0] = sum;
    sums[C] = squares;
}

/* y = (x - coef[0]) * coef[1] + coef[2] */
void
PCNN_K(batch_norm_row_apply)(const void *px, void *py, int64_t n, int64_t lanes, int64_t C,
                             const void *pcoef)
{
    const real *x = px, *coef = pcoef;
    real *y = py;
    const vec mean = vset(coef[0]), scale = vset(coef[C]), shift = vset(coef[2 * C]);
    ivec mask[VECS];
    lane_masks(lanes, mask);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        UNROLL for (int k = 0; k < VECS; k++)
        {
            vec v = vfma(vload(x + i + k * LANES) - mean, scale, shift);
            vstore(y + i + k * LANES, keep(v, mask[k]));
        }
    for (; i < n; i++)
        y[i] = rfma(x[i] - coef[0], coef[C], coef[2 * C]);
}

/* sums[0] = sum of dy; sums[C] = sum of dy * (x - coef[0]) */
void
PCNN_K(batch_norm_row_grad_sums)(const void *pdy, const void *px, int64_t n, int64_t lanes,
                                 int64_t C, const void *pcoef, double *sums)
{
    const real *dy = pdy, *x = px, mean = *(const real *)pcoef;
    const vec vmean = vset(mean);
    ivec mask[VECS];
    lane_masks(lanes, mask);
    vec acc[ACCS] = {{0}}, product[ACCS] = {{0}};
    int64_t i = 0;
    for (; i + SPAN <= n; i += SPAN)
        UNROLL for (int k = 0; k < ACCS; k++)
        {
            vec d = vload(dy + i + k * LANES);
            vec e = keep(vload(x + i + k * LANES) - vmean, mask[k % VECS]);
            acc[k] += d;
            product[k] = vfma(d, e, product[k]);
        }
    for (; i + 16 <= n; i += 16)
        UNROLL for (int k = 0; k < VECS; k++)
        {
            vec d = vload(dy + i + k * LANES);
            vec e = keep(vload(x + i + k * LANES) - vmean, mask[k]);
            acc[k] += d;
            product[k] = vfma(d, e, product[k]);
        }
    double sum = total(acc), products = total(product);
    for (; i < n; i++) {
        sum += (double)dy[i];
        products += (double)dy[i] * (double)(x[i] - mean);
    }
    sums[0] = sum;
    sums[C] = products;
}

/* dx = coef[1] * dy + (coef[2] * (x - coef[0]) + coef[3]); with `relu`, 0 where x is not above 0 */
void
PCNN_K(batch_norm_row_grad_apply)(const void *pdy, const void *px, void *pdx, int64_t n,
                                  int64_t lanes, int64_t C, const void *pcoef, int64_t relu)
{
    const real *dy = pdy, *x = px, *coef = pcoef;
    real *dx = pdx;
    const vec mean = vset(coef[0]), a = vset(coef[C]), b = vset(coef[2 * C]), c = vset(coef[3 * C]);
    const ivec any = relu ? (ivec){0} : ~(ivec){0};
    ivec mask[VECS];
    lane_masks(lanes, mask);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        UNROLL for (int k = 0; k < VECS; k++)
        {
            vec z = vload(x + i + k * LANES);
            vec v = vfma(b, z - mean, c);
            v = vfma(a, vload(dy + i + k * LANES), v);
            vstore(dx + i + k * LANES, keep(v, mask[k] & ((z > 0) | any)));
        }
    for (; i < n; i++) {
        real v = rfma(coef[C], dy[i], rfma(coef[2 * C], x[i] - coef[0], coef[3 * C]));
        dx[i] = relu && !(x[i] > 0) ? 0 : v;
    }
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
