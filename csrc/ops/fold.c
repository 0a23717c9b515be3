/* Folds: see fold.h.
 *
 * Memory is seen as alternating dimensions, kept and reduced. Where the innermost is reduced, one
 * output is the fold of rows; where it is kept, rows are folded into a row of outputs. Partial
 * results are doubles for both real types. */
#include "ops/fold.h"

#include <math.h>

#include "core/parallel.h"
#include "isa/kernels.h"

enum {
    MAX_DIMS = PCNN_MAX_NDIM + 2,
    ROW_CHUNK = 4096, /* elements of a row that a kernel folds at once */
    ROWS_CHUNK = 64,  /* rows that a kernel adds up at once */
    COLUMNS = 512,    /* columns of a block */
    PART = 32768,     /* elements of a part, roughly */
};

typedef struct {
    int ndim;
    int64_t extent[MAX_DIMS], stride[MAX_DIMS];
    bool reduced[MAX_DIMS];
    bool columns;         /* the innermost dimension is kept */
    int64_t length;       /* of a row: reduced elements, or columns */
    int64_t rows;         /* in a column fold: neighbouring rows, `row_stride` apart */
    int64_t row_stride;
    int64_t outer_kept;   /* product of the kept dimensions but a kept innermost one */
    int64_t outer_reduced; /* product of the reduced dimensions but rows and a reduced innermost */
    int64_t chunks; /* of one row, or of `rows` */
    int64_t per_part; /* chunks in a part */
    int64_t parts;
    int64_t blocks; /* of columns */
    int64_t outputs; /* in memory order, N16's padding included */
    int64_t count; /* elements that make one output */
    /* How to find an output's place when images are kept in N16; rest = 0: as it lies. */
    int64_t rest, N;
    pcnn_fold_kind kind;
    size_t width;
    pcnn_dtype dtype;
    const pcnn_kernels *kernels;
    const char *x;
    const char *w; /* of sloped squares */
    const void *slope;
    void *y;
    double *partial; /* [parts][outputs] */
} fold;
_Static_assert(sizeof(fold) <= PCNN_JOB_BYTES, "a job has no room");

static int64_t
divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static void
push(fold *f, int64_t extent, bool reduced)
{
    if (extent == 1)
        return;
    if (f->ndim > 0 && f->reduced[f->ndim - 1] == reduced) {
        f->extent[f->ndim - 1] *= extent;
        return;
    }
    f->extent[f->ndim] = extent;
    f->reduced[f->ndim++] = reduced;
}

static fold
describe(const pcnn_tensor *x, uint32_t axes)
{
    fold f = {.count = 1, .outer_kept = 1, .outer_reduced = 1, .rows = 1, .outputs = 1};
    const pcnn_type *type = &x->type;
    bool n16 = x->layout == PCNN_N16;
    for (int d = 0; d < type->ndim; d++) {
        bool reduced = axes >> d & 1;
        int64_t extent = n16 && d == 0 ? divide_up(type->shape[0], PCNN_BLOCK) : type->shape[d];
        push(&f, extent, reduced);
        f.count *= reduced ? type->shape[d] : 1;
        f.outputs *= reduced ? 1 : extent;
    }
    if (n16) {
        push(&f, PCNN_BLOCK, axes & 1);
        if (!(axes & 1)) {
            f.N = type->shape[0];
            f.rest = 1;
            for (int d = 1; d < 4; d++)
                f.rest *= axes >> d & 1 ? 1 : type->shape[d];
            f.outputs *= PCNN_BLOCK;
        }
    }
    if (f.ndim == 0 || (f.ndim == 1 && !f.reduced[0])) { /* nothing to fold: rows of one element */
        f.extent[f.ndim] = 1;
        f.reduced[f.ndim++] = true;
    }
    int64_t stride = 1;
    for (int d = f.ndim - 1; d >= 0; d--) {
        f.stride[d] = stride;
        stride *= f.extent[d];
    }
    int last = f.ndim - 1, inner = last;
    f.columns = !f.reduced[last];
    f.length = f.extent[last];
    if (f.columns) {
        inner = last - 1;
        f.rows = f.extent[inner];
        f.row_stride = f.stride[inner];
    }
    for (int d = 0; d < inner; d++)
        *(f.reduced[d] ? &f.outer_reduced : &f.outer_kept) *= f.extent[d];
    int64_t width = f.columns ? (f.length < COLUMNS ? f.length : COLUMNS) : 1;
    f.blocks = f.columns ? divide_up(f.length, COLUMNS) : 1;
    f.chunks = f.columns ? divide_up(f.rows, ROWS_CHUNK) : divide_up(f.length, ROW_CHUNK);
    int64_t chunk = f.columns ? (f.rows < ROWS_CHUNK ? f.rows : ROWS_CHUNK) * width
                              : (f.length < ROW_CHUNK ? f.length : ROW_CHUNK);
    f.per_part = divide_up(PART, chunk > 0 ? chunk : 1);
    f.parts = divide_up(f.outer_reduced * f.chunks, f.per_part);
    if (f.parts == 0) /* folds over nothing have one part, which is empty */
        f.parts = 1;
    return f;
}

/* The offset of index `i` among the outer dimensions that are reduced (or kept). */
static int64_t
offset_of(const fold *f, int64_t i, bool reduced)
{
    int64_t offset = 0;
    for (int d = f->ndim - 1 - (f->columns ? 2 : 1); d >= 0; d--) {
        if (f->reduced[d] != reduced)
            continue;
        offset += i % f->extent[d] * f->stride[d];
        i /= f->extent[d];
    }
    return offset;
}

static double
nothing(const fold *f)
{
    return f->kind == PCNN_FOLD_MAX ? -INFINITY : 0;
}

static double
combine(const fold *f, double a, double b)
{
    if (f->kind == PCNN_FOLD_MAX)
        return b > a || b != b ? b : a;
    return a + b;
}

static void
store(const fold *f, int64_t o, double value)
{
    if (f->rest > 0) {
        int64_t lane = o % PCNN_BLOCK, group = o / PCNN_BLOCK;
        int64_t n = group / f->rest * PCNN_BLOCK + lane;
        if (n >= f->N)
            return;
        o = n * f->rest + group % f->rest;
    }
    if (f->kind == PCNN_FOLD_MEAN)
        value /= (double)f->count;
    if (f->dtype == PCNN_F64)
        ((double *)f->y)[o] = value;
    else
        ((float *)f->y)[o] = (float)value;
}

static void
put(const fold *f, int64_t o, int64_t part, double value)
{
    if (f->parts == 1)
        store(f, o, value);
    else
        f->partial[part * f->outputs + o] = value;
}

/* n elements of a row, at an offset in bytes. */
static double
fold_row(const fold *f, size_t at, int64_t n)
{
    const void *x = f->x + at;
    switch (f->kind) {
    case PCNN_FOLD_MAX: return f->kernels->max_row(x, n);
    case PCNN_FOLD_SQUARES: return f->kernels->sum_squares_row(x, n);
    case PCNN_FOLD_SLOPED_SQUARES:
        return f->kernels->sum_sloped_squares_row(x, f->w + at, f->slope, n);
    default: return f->kernels->sum_row(x, n);
    }
}

/* Items are (output, part). */
static void
fold_rows(const fold *f, int64_t begin, int64_t end)
{
    for (int64_t item = begin; item < end; item++) {
        int64_t o = item / f->parts, part = item % f->parts;
        int64_t first = part * f->per_part, last = f->outer_reduced * f->chunks;
        if (first + f->per_part < last)
            last = first + f->per_part;
        double total = nothing(f);
        int64_t kept = offset_of(f, o, false);
        for (int64_t c = first; c < last; c++) {
            int64_t from = c % f->chunks * ROW_CHUNK;
            int64_t n = f->length - from < ROW_CHUNK ? f->length - from : ROW_CHUNK;
            int64_t at = kept + offset_of(f, c / f->chunks, true) + from;
            total = combine(f, total, fold_row(f, (size_t)at * f->width, n));
        }
        put(f, o, part, total);
    }
}

/* Items are (outer output, block of columns, part). */
static void
fold_columns(const fold *f, int64_t begin, int64_t end)
{
    double total[COLUMNS];
    for (int64_t item = begin; item < end; item++) {
        int64_t part = item % f->parts, block = item / f->parts % f->blocks;
        int64_t o = item / f->parts / f->blocks;
        int64_t column = block * COLUMNS;
        int64_t n = f->length - column < COLUMNS ? f->length - column : COLUMNS;
        int64_t first = part * f->per_part, last = f->outer_reduced * f->chunks;
        if (first + f->per_part < last)
            last = first + f->per_part;
        for (int64_t j = 0; j < n; j++)
            total[j] = nothing(f);
        int64_t kept = offset_of(f, o, false) + column;
        for (int64_t c = first; c < last; c++) {
            int64_t row = c % f->chunks * ROWS_CHUNK;
            int64_t rows = f->rows - row < ROWS_CHUNK ? f->rows - row : ROWS_CHUNK;
            int64_t at = kept + offset_of(f, c / f->chunks, true) + row * f->row_stride;
            const void *x = f->x + (size_t)at * f->width;
            if (f->kind == PCNN_FOLD_MAX)
                f->kernels->max_rows(x, rows, f->row_stride, n, total);
            else
                f->kernels->sum_rows(x, rows, f->row_stride, n, total);
        }
        for (int64_t j = 0; j < n; j++)
            put(f, o * f->length + column + j, part, total[j]);
    }
}

pcnn_status
pcnn_fold_prepare(const pcnn_site *site, pcnn_fold_kind kind, uint32_t axes, void *job,
                  int64_t *pieces, double *cost_ns)
{
    fold *f = job;
    *f = describe(&site->in[0], axes);
    f->kind = kind;
    f->dtype = site->out[0].type.dtype;
    f->width = pcnn_dtype_size(f->dtype);
    f->kernels = pcnn_kernels_for(f->dtype);
    f->x = site->in[0].data;
    if (kind == PCNN_FOLD_SLOPED_SQUARES) {
        f->w = site->in[1].data;
        f->slope = site->in[2].data;
    }
    f->y = site->out[0].data;
    f->partial = site->work;
    *pieces = f->outputs > 0 ? f->outer_kept * f->blocks * f->parts : 0;
    *cost_ns = (double)f->outputs * (double)f->count * 0.15 + (double)*pieces * 20;
    return PCNN_OK;
}

void
pcnn_fold_pieces(const void *job, int64_t begin, int64_t end)
{
    const fold *f = job;
    (f->columns ? fold_columns : fold_rows)(f, begin, end);
}

void
pcnn_fold_finish(const void *job)
{
    const fold *f = job;
    for (int64_t o = 0; o < f->outputs && f->parts > 1; o++) {
        double total = f->partial[o];
        for (int64_t part = 1; part < f->parts; part++)
            total = combine(f, total, f->partial[part * f->outputs + o]);
        store(f, o, total);
    }
}

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    pcnn_fold_pieces(context, begin, end);
}

pcnn_status
pcnn_fold_run(const pcnn_site *site, pcnn_fold_kind kind, uint32_t axes)
{
    fold f;
    int64_t items;
    double cost;
    PCNN_TRY(pcnn_fold_prepare(site, kind, axes, &f, &items, &cost));
    double elements = (double)f.outputs * (double)f.count;
    int64_t grain = elements > 0 ? (int64_t)((double)items * PART / elements) : items;
    grain = grain < 1 ? 1 : grain > items ? items : grain;
    pcnn_parallel(items, grain, cost, task, &f);
    pcnn_fold_finish(&f);
    return PCNN_OK;
}

int64_t
pcnn_fold_workspace(const pcnn_site *site, uint32_t axes)
{
    fold f = describe(&site->in[0], axes);
    return f.parts > 1 ? f.parts * f.outputs * (int64_t)sizeof(double) : 0;
}
