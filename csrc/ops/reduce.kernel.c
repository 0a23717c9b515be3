/* Folds of a row into a number and of rows into a row; the index of the largest number.
 *
 * A float sum is at most 64 additions deep before it becomes a double, so its error stays near one
 * rounding whatever the length. */
#include "isa/vec.h"
#include "isa/kernels.h"

enum { STREAMS = 4, DEEP = 32 };

/* What is added up: x, x^2, or (x + slope * w)^2, whose inner sum is rounded as if it had been stored.
 */
enum { SUM, SQUARES, SLOPED_SQUARES };

ALWAYS_INLINE vec
summed(vec sum, vec x, const int kind)
{
    return kind == SUM ? sum + x : vfma(x, x, sum);
}

/* STREAMS vectors of partial sums hide the addition's latency. */
ALWAYS_INLINE double
sum_of_row(const real *x, const real *w, const real slope, int64_t n, const int kind)
{
    double total = 0;
    int64_t i = 0;
    while (n - i >= STREAMS * LANES) {
        int64_t steps = (n - i) / (STREAMS * LANES);
        if (steps > DEEP)
            steps = DEEP;
        vec sum[STREAMS] = {{0}};
        for (int64_t s = 0; s < steps; s++, i += STREAMS * LANES) {
            UNROLL
            for (int k = 0; k < STREAMS; k++) {
                vec v = vload(x + i + k * LANES);
                if (kind == SLOPED_SQUARES)
                    v += vload(w + i + k * LANES) * slope;
                sum[k] = summed(sum[k], v, kind);
            }
        }
        total += (double)vsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
    vec sum = {0};
    for (; i + LANES <= n; i += LANES) {
        vec v = vload(x + i);
        if (kind == SLOPED_SQUARES)
            v += vload(w + i) * slope;
        sum = summed(sum, v, kind);
    }
    if (i < n) {
        vec v = vload_partial(x + i, n - i);
        if (kind ==
            SLOPED_SQUARES) /* not in lanes past the end: an infinite slope makes NaN of 0 */
            v = vselect(vlanes_below(0, n - i), v + vload_partial(w + i, n - i) * slope, v);
        sum = summed(sum, v, kind);
    }
    return total + (double)vsum(sum);
}

double
PCNN_K(sum_row)(const void *x, int64_t n)
{
    return sum_of_row(x, NULL, 0, n, SUM);
}

double
PCNN_K(sum_squares_row)(const void *x, int64_t n)
{
    return sum_of_row(x, NULL, 0, n, SQUARES);
}

double
PCNN_K(sum_sloped_squares_row)(const void *x, const void *w, const void *slope, int64_t n)
{
    return sum_of_row(x, w, *(const real *)slope, n, SLOPED_SQUARES);
}

/* Once a NaN, always a NaN. */
ALWAYS_INLINE vec
vlarger(vec best, vec x)
{
    return vselect((x > best) | (x != x), x, best);
}

double
PCNN_K(max_row)(const void *x_, int64_t n)
{
    const real *x = x_;
    vec best = vset(-(real)INFINITY);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        best = vlarger(best, vload(x + i));
    if (i < n) {
        ivec inside = vlanes_below(0, n - i);
        best = vlarger(best, vselect(inside, vload_partial(x + i, n - i), best));
    }
    real result = best[0];
    for (int l = 1; l < LANES; l++)
        if (best[l] > result || best[l] != best[l])
            result = best[l];
    return (double)result;
}

/* total[j] += x[0][j] + x[1][j] + ... for `rows` (a few dozen) rows that are `stride` apart. */
void
PCNN_K(sum_rows)(const void *x_, int64_t rows, int64_t stride, int64_t columns, double *total)
{
    const real *x = x_;
    int64_t j = 0;
    for (; j + STREAMS * LANES <= columns; j += STREAMS * LANES) {
        vec sum[STREAMS] = {{0}};
        for (int64_t r = 0; r < rows; r++) {
            UNROLL
            for (int k = 0; k < STREAMS; k++)
                sum[k] += vload(x + r * stride + j + k * LANES);
        }
        UNROLL
        for (int k = 0; k < STREAMS; k++)
            for (int l = 0; l < LANES; l++)
                total[j + k * LANES + l] += (double)sum[k][l];
    }
    for (; j < columns; j += LANES) {
        int64_t n = columns - j < LANES ? columns - j : LANES;
        vec sum = {0};
        for (int64_t r = 0; r < rows; r++)
            sum += n == LANES ? vload(x + r * stride + j) : vload_partial(x + r * stride + j, n);
        for (int64_t l = 0; l < n; l++)
            total[j + l] += (double)sum[l];
    }
}

void
PCNN_K(max_rows)(const void *x_, int64_t rows, int64_t stride, int64_t columns, double *total)
{
    const real *x = x_;
    for (int64_t j = 0; j < columns; j += LANES) {
        int64_t n = columns - j < LANES ? columns - j : LANES;
        vec best = vset(-(real)INFINITY);
        for (int64_t r = 0; r < rows; r++) {
            const real *p = x + r * stride + j;
            best = vlarger(best, n == LANES ? vload(p) : vload_partial(p, n));
        }
        for (int64_t l = 0; l < n; l++)
            if ((double)best[l] > total[j + l] || best[l] != best[l])
                total[j + l] = (double)best[l];
    }
}

/* Outputs begin .. end-1 of [outer][inner]: the first place of the largest among x[outer][0 .. n-1]
 * [inner]; the first NaN counts as the largest. */
void
PCNN_K(argmax_range)(const void *x_, int64_t n, int64_t inner, int64_t begin, int64_t end,
                     int64_t *y)
{
    for (int64_t o = begin; o < end; o++) {
        const real *x = (const real *)x_ + o / inner * n * inner + o % inner;
        int64_t at = 0;
        real best = x[0];
        for (int64_t i = 1; i < n && best == best; i++)
            if (!(x[i * inner] <= best)) {
                best = x[i * inner];
                at = i;
            }
        y[o] = at;
    }
}

/* A row of x / divisor, or of one such number: for the gradients of sums and means. */
void
PCNN_K(expand_rows)(const void *const *in, const int64_t *step, void *out, int64_t n,
                    double parameter)
{
    const real *x = in[0], divisor = (real)parameter;
    real *y = out;
    int64_t i = 0;
    if (n > 0 && step[0] == 0) {
        vec value = vset(x[0] / divisor);
        for (; i + LANES <= n; i += LANES)
            vstore(y + i, value);
        if (i < n)
            vstore_partial(y + i, value, n - i);
        return;
    }
    for (; i < n; i++)
        y[i] = x[i] / divisor;
}

/* x[N][C] / divisor repeated over [N/16][C][pixels][16]; maps begin .. end-1 are (block, c). */
void
PCNN_K(expand_maps_n16)(const void *x_, void *y_, int64_t N, int64_t C, int64_t pixels,
                        int64_t begin, int64_t end, double divisor)
{
    const real *x = x_;
    for (int64_t map = begin; map < end; map++) {
        real *y = (real *)y_ + map * pixels * PCNN_BLOCK;
        int64_t first = map / C * PCNN_BLOCK, c = map % C;
        real value[PCNN_BLOCK] = {0};
        for (int64_t l = 0; l < PCNN_BLOCK && first + l < N; l++)
            value[l] = x[(first + l) * C + c] / (real)divisor;
        for (int64_t p = 0; p < pixels; p++)
            memcpy(y + p * PCNN_BLOCK, value, sizeof value);
    }
}
