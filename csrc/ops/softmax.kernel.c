/* Softmax, its logarithm and cross-entropy, line by line. A line is n numbers along the axis,
 * `inner` apart; lines begin .. end-1 are numbered [outer][inner].
 *
 * The largest number of a line is subtracted first, so that exp cannot overflow and the sum is at
 * least 1. A NaN anywhere in a line makes the whole line NaN. Neighbouring lines (inner > 1) are
 * computed in the lanes of a vector; a line that lies in one piece is read as vectors. */
#include "isa/vecmath.h"
#include "isa/kernels.h"

enum { PIECE = 256 };

ALWAYS_INLINE vec
load(const real *p, int64_t n)
{
    return n >= LANES ? vload(p) : vload_partial(p, n);
}

ALWAYS_INLINE void
store(real *p, vec v, int64_t n)
{
    if (n >= LANES)
        vstore(p, v);
    else
        vstore_partial(p, v, n);
}

/* v where lane < n, else `other`. */
ALWAYS_INLINE vec
inside(vec v, int64_t n, vec other)
{
    return n >= LANES ? v : vselect(vfirst_lanes(n), v, other);
}

static real
line_max(const real *x, int64_t n)
{
    vec best = vset(-(real)INFINITY);
    for (int64_t i = 0; i < n; i += LANES)
        best = vmax(inside(load(x + i, n - i), n - i, best), best);
    real result = best[0];
    for (int l = 1; l < LANES; l++)
        result = best[l] > result ? best[l] : result;
    return result;
}

/* Stores e = exp(x - max) where `e` is not NULL; returns the sum, of which every PIECE numbers are
 * summed by themselves, so that long lines stay exact. */
static real
line_exp(const real *x, int64_t n, real max, real *e)
{
    double total = 0;
    for (int64_t start = 0; start < n; start += PIECE) {
        int64_t end = n - start < PIECE ? n : start + PIECE;
        vec sum = {0};
        for (int64_t i = start; i < end; i += LANES) {
            vec v = vexp(load(x + i, end - i) - max);
            if (e != NULL)
                store(e + i, v, end - i);
            sum += inside(v, end - i, vset(0));
        }
        total += (double)vsum(sum);
    }
    return (real)total;
}

static real
logarithm(real x)
{
    return vlog(vset(x))[0];
}

/* ---- softmax and log_softmax ---- */

static void
softmax_line(const real *x, real *y, int64_t n, bool log)
{
    real max = line_max(x, n);
    real sum = line_exp(x, n, max, log ? NULL : y), log_sum = log ? logarithm(sum) : 0;
    for (int64_t i = 0; i < n; i += LANES) {
        vec v = log ? load(x + i, n - i) - max - log_sum : load(y + i, n - i) / sum;
        store(y + i, v, n - i);
    }
}

/* `lanes` neighbouring lines at once. */
static void
softmax_lanes(const real *x, real *y, int64_t n, int64_t inner, int64_t lanes, bool log)
{
    vec max = vset(-(real)INFINITY), sum = {0};
    for (int64_t i = 0; i < n; i++)
        max = vmax(load(x + i * inner, lanes), max);
    for (int64_t i = 0; i < n; i++) {
        vec e = vexp(load(x + i * inner, lanes) - max);
        sum += e;
        if (!log)
            store(y + i * inner, e, lanes);
    }
    vec log_sum = vlog(sum);
    for (int64_t i = 0; i < n; i++) {
        vec v = log ? load(x + i * inner, lanes) - max - log_sum : load(y + i * inner, lanes) / sum;
        store(y + i * inner, v, lanes);
    }
}

void
PCNN_K(softmax_lines)(const void *x_, void *y_, int64_t n, int64_t inner, int64_t begin,
                      int64_t end, bool log)
{
    const real *x = x_;
    real *y = y_;
    while (begin < end) {
        int64_t column = begin % inner, at = begin / inner * n * inner + column;
        if (inner == 1) {
            softmax_line(x + at, y + at, n, log);
            begin++;
            continue;
        }
        int64_t lanes = inner - column < end - begin ? inner - column : end - begin;
        lanes = lanes < LANES ? lanes : LANES;
        softmax_lanes(x + at, y + at, n, inner, lanes, log);
        begin += lanes;
    }
}

/* ---- their gradients ---- */

/* softmax: dx = y (dy - sum(dy y)); log_softmax: dx = dy - exp(y) sum(dy). */
static void
softmax_grad_line(const real *dy, const real *y, real *dx, int64_t n, bool log)
{
    vec sum = {0};
    for (int64_t i = 0; i < n; i += LANES) {
        vec d = load(dy + i, n - i);
        sum = log ? sum + d : vfma(d, load(y + i, n - i), sum);
    }
    real total = vsum(sum);
    for (int64_t i = 0; i < n; i += LANES) {
        vec d = load(dy + i, n - i), v = load(y + i, n - i);
        store(dx + i, log ? d - vexp(v) * total : v * (d - total), n - i);
    }
}

static void
softmax_grad_lanes(const real *dy, const real *y, real *dx, int64_t n, int64_t inner, int64_t lanes,
                   bool log)
{
    vec total = {0};
    for (int64_t i = 0; i < n; i++) {
        vec d = load(dy + i * inner, lanes);
        total = log ? total + d : vfma(d, load(y + i * inner, lanes), total);
    }
    for (int64_t i = 0; i < n; i++) {
        vec d = load(dy + i * inner, lanes), v = load(y + i * inner, lanes);
        store(dx + i * inner, log ? d - vexp(v) * total : v * (d - total), lanes);
    }
}

void
PCNN_K(softmax_grad_lines)(const void *dy_, const void *y_, void *dx_, int64_t n, int64_t inner,
                           int64_t begin, int64_t end, bool log)
{
    const real *dy = dy_, *y = y_;
    real *dx = dx_;
    while (begin < end) {
        int64_t column = begin % inner, at = begin / inner * n * inner + column;
        if (inner == 1) {
            softmax_grad_line(dy + at, y + at, dx + at, n, log);
            begin++;
            continue;
        }
        int64_t lanes = inner - column < end - begin ? inner - column : end - begin;
        lanes = lanes < LANES ? lanes : LANES;
        softmax_grad_lanes(dy + at, y + at, dx + at, n, inner, lanes, log);
        begin += lanes;
    }
}

/* ---- cross-entropy of rows x[rows][C], with classes (labels) or distributions (targets) ---- */

/* loss = sum(target) log(sum(exp(x - max))) - sum(target (x - max)) */
void
PCNN_K(cross_entropy_rows)(const void *x_, const int64_t *labels, const void *targets_, void *loss_,
                           int64_t rows, int64_t C)
{
    const real *x = x_, *targets = targets_;
    real *loss = loss_;
    for (int64_t r = 0; r < rows; r++, x += C) {
        real max = line_max(x, C), log_sum = logarithm(line_exp(x, C, max, NULL));
        if (labels != NULL) {
            loss[r] = log_sum - (x[labels[r]] - max);
            continue;
        }
        vec sum = {0};
        for (int64_t i = 0; i < C; i += LANES) {
            vec term = load(targets + r * C + i, C - i) * (log_sum - (load(x + i, C - i) - max));
            sum += inside(term, C - i, vset(0));
        }
        loss[r] = vsum(sum);
    }
}

/* dx = (softmax(x) sum(target) - target) dy */
void
PCNN_K(cross_entropy_grad_rows)(const void *dy_, const void *x_, const int64_t *labels,
                                const void *targets_, void *dx_, int64_t rows, int64_t C)
{
    const real *dy = dy_, *x = x_, *targets = targets_;
    real *dx = dx_;
    ivec lane;
    for (int l = 0; l < LANES; l++)
        lane[l] = l;
    for (int64_t r = 0; r < rows; r++, x += C, dx += C) {
        real sum = line_exp(x, C, line_max(x, C), dx), weight = 1;
        if (labels == NULL) {
            vec weights = {0};
            for (int64_t i = 0; i < C; i += LANES)
                weights += load(targets + r * C + i, C - i);
            weight = vsum(weights);
        }
        for (int64_t i = 0; i < C; i += LANES) {
            vec target = labels ? vselect(lane == (integer)(labels[r] - i), vset(1), vset(0))
                                : load(targets + r * C + i, C - i);
            vec p = load(dx + i, C - i) / sum;
            store(dx + i, (p * weight - target) * dy[r], C - i);
        }
    }
}
