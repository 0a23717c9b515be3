/* Matrix products: the only file that knows BLAS.
 *
 * A product is cut into tiles of C by its shape alone, and each tile is one call of a
 * single-threaded BLAS: which thread computes a tile, and how many there are, changes nothing. Where
 * C is too small to be cut and K is long, K is cut instead, and the parts are added in order. */
#include "blas/gemm.h"

#include "core/parallel.h"

/* The few prototypes needed: headers differ between distributions. PCNN_BLAS_PREFIX is what the
 * bundled OpenBLAS puts before its names. */
#define BLAS_PASTE_(prefix, name) prefix##name
#define BLAS_PASTE(prefix, name) BLAS_PASTE_(prefix, name)
#if defined(PCNN_BLAS_PREFIX)
#define BLAS(name) BLAS_PASTE(PCNN_BLAS_PREFIX, name)
#else
#define BLAS(name) name
#endif

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };

void BLAS(cblas_sgemm)(int order, int transpose_a, int transpose_b, int M, int N, int K,
                       float alpha, const float *A, int lda, const float *B, int ldb, float beta,
                       float *C, int ldc);
void BLAS(cblas_dgemm)(int order, int transpose_a, int transpose_b, int M, int N, int K,
                       double alpha, const double *A, int lda, const double *B, int ldb,
                       double beta, double *C, int ldc);
void BLAS(openblas_set_num_threads)(int threads);
char *BLAS(openblas_get_config)(void);

void
pcnn_blas_init(void)
{
    BLAS(openblas_set_num_threads)(1);
}

const char *
pcnn_blas_config(void)
{
    return BLAS(openblas_get_config)();
}

typedef struct {
    pcnn_dtype dtype;
    bool transpose_a, transpose_b;
    int64_t M, N, K;
    double alpha, beta;
    const char *A, *B;
    char *C;
    int64_t lda, ldb, ldc;
    int64_t row_tiles, column_tiles;
    pcnn_gemm_finish finish;
    void *context;
} product;

/* The part of C at (row, column), summed over k0 .. k0+K-1, into `C`. */
static void
multiply(const product *p, int64_t row, int64_t rows, int64_t column, int64_t columns, int64_t k0,
         int64_t K, double beta, char *C, int64_t ldc)
{
    const int64_t size = (int64_t)pcnn_dtype_size(p->dtype);
    const char *A = p->A + (p->transpose_a ? k0 * p->lda + row : row * p->lda + k0) * size;
    const char *B = p->B + (p->transpose_b ? column * p->ldb + k0 : k0 * p->ldb + column) * size;
    const int ta = p->transpose_a ? TRANSPOSE : NO_TRANSPOSE;
    const int tb = p->transpose_b ? TRANSPOSE : NO_TRANSPOSE;
    if (p->dtype == PCNN_F64)
        BLAS(cblas_dgemm)(ROW_MAJOR, ta, tb, (int)rows, (int)columns, (int)K, p->alpha,
                          (const double *)(const void *)A, (int)p->lda,
                          (const double *)(const void *)B, (int)p->ldb, beta, (double *)(void *)C,
                          (int)ldc);
    else
        BLAS(cblas_sgemm)(ROW_MAJOR, ta, tb, (int)rows, (int)columns, (int)K, (float)p->alpha,
                          (const float *)(const void *)A, (int)p->lda,
                          (const float *)(const void *)B, (int)p->ldb, (float)beta,
                          (float *)(void *)C, (int)ldc);
}

/* Tile t of n begins here: near n * t / tiles, at a multiple of 16 that suits BLAS's own tiles. */
static int64_t
tile_begin(int64_t n, int64_t tiles, int64_t t)
{
    return t == tiles ? n : n * t / tiles / 16 * 16;
}

static void
run_tiles(void *context, int64_t begin, int64_t end, int worker)
{
    const product *p = context;
    const int64_t size = (int64_t)pcnn_dtype_size(p->dtype);
    (void)worker;
    for (int64_t t = begin; t < end; t++) {
        int64_t i = t / p->column_tiles, j = t % p->column_tiles;
        int64_t row = tile_begin(p->M, p->row_tiles, i);
        int64_t rows = tile_begin(p->M, p->row_tiles, i + 1) - row;
        int64_t column = tile_begin(p->N, p->column_tiles, j);
        int64_t columns = tile_begin(p->N, p->column_tiles, j + 1) - column;
        multiply(p, row, rows, column, columns, 0, p->K, p->beta,
                 p->C + (row * p->ldc + column) * size, p->ldc);
        if (p->finish)
            p->finish(p->context, row, rows, column, columns);
    }
}

/* ---- a small C with a long K ---- */

enum { K_PARTS = 8, SMALL_C = 1024, LONG_K = 8192 };

typedef struct {
    const product *product;
    union {
        float f32[SMALL_C];
        double f64[SMALL_C];
    } part[K_PARTS];
} split;

static void
run_parts(void *context, int64_t begin, int64_t end, int worker)
{
    split *s = context;
    const product *p = s->product;
    (void)worker;
    for (int64_t t = begin; t < end; t++) {
        int64_t k0 = tile_begin(p->K, K_PARTS, t), K = tile_begin(p->K, K_PARTS, t + 1) - k0;
        multiply(p, 0, p->M, 0, p->N, k0, K, 0, (char *)&s->part[t], p->N);
    }
}

static void
add_parts(const split *s)
{
    const product *p = s->product;
    for (int64_t i = 0; i < p->M; i++)
        for (int64_t j = 0; j < p->N; j++) {
            const int64_t from = i * p->N + j, to = i * p->ldc + j;
            double sum = 0;
            for (int t = 0; t < K_PARTS; t++)
                sum += p->dtype == PCNN_F64 ? s->part[t].f64[from] : (double)s->part[t].f32[from];
            if (p->dtype == PCNN_F64) {
                double *c = (double *)(void *)p->C + to;
                *c = p->beta == 0 ? sum : p->beta * *c + sum;
            }
            else {
                float *c = (float *)(void *)p->C + to;
                *c = (float)(p->beta == 0 ? sum : p->beta * (double)*c + sum);
            }
        }
}

/* ---- C = beta * C, for K = 0 ---- */

static void
scale(const product *p)
{
    for (int64_t i = 0; i < p->M; i++)
        for (int64_t j = 0; j < p->N; j++) {
            if (p->dtype == PCNN_F64) {
                double *c = (double *)(void *)p->C + i * p->ldc + j;
                *c = p->beta == 0 ? 0 : p->beta * *c;
            }
            else {
                float *c = (float *)(void *)p->C + i * p->ldc + j;
                *c = p->beta == 0 ? 0 : (float)p->beta * *c;
            }
        }
    if (p->finish)
        p->finish(p->context, 0, p->M, 0, p->N);
}

/* Halves the longer side until there is enough for the pool; smaller tiles would copy A and B into
 * BLAS's buffers too often for what they compute. */
static void
choose_tiles(product *p, double flops)
{
    const double smallest_flops = 2e6;
    const int64_t smallest = 64, most = 32;
    while (p->row_tiles * p->column_tiles < most &&
           flops / (double)(p->row_tiles * p->column_tiles) >= 2 * smallest_flops) {
        int64_t rows = p->M / p->row_tiles, columns = p->N / p->column_tiles;
        if (rows >= columns && rows >= 2 * smallest)
            p->row_tiles *= 2;
        else if (columns >= 2 * smallest)
            p->column_tiles *= 2;
        else
            break;
    }
}

static void
run(product *p, bool serial)
{
    if (p->M <= 0 || p->N <= 0)
        return;
    if (p->K <= 0) {
        scale(p);
        return;
    }
    const double flops = 2.0 * (double)p->M * (double)p->N * (double)p->K;
    const double cost_ns = flops / (p->dtype == PCNN_F64 ? 25 : 50);
    p->row_tiles = p->column_tiles = 1;
    if (!serial && !p->finish && p->M * p->N <= SMALL_C && p->K >= LONG_K) {
        split s;
        s.product = p;
        pcnn_parallel(K_PARTS, 1, cost_ns, run_parts, &s);
        add_parts(&s);
        return;
    }
    if (serial) {
        run_tiles(p, 0, 1, 0);
        return;
    }
    choose_tiles(p, flops);
    pcnn_parallel(p->row_tiles * p->column_tiles, 1, cost_ns, run_tiles, p);
}

void
pcnn_gemm(pcnn_dtype dtype, bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K,
          double alpha, const void *A, int64_t lda, const void *B, int64_t ldb, double beta,
          void *C, int64_t ldc, bool serial)
{
    product p = {.dtype = dtype,
                 .transpose_a = transpose_a,
                 .transpose_b = transpose_b,
                 .M = M,
                 .N = N,
                 .K = K,
                 .alpha = alpha,
                 .beta = beta,
                 .A = A,
                 .B = B,
                 .C = C,
                 .lda = lda,
                 .ldb = ldb,
                 .ldc = ldc};
    run(&p, serial);
}

void
pcnn_gemm_and(pcnn_dtype dtype, bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K,
              const void *A, int64_t lda, const void *B, int64_t ldb, void *C, int64_t ldc,
              pcnn_gemm_finish finish, void *context)
{
    product p = {.dtype = dtype,
                 .transpose_a = transpose_a,
                 .transpose_b = transpose_b,
                 .M = M,
                 .N = N,
                 .K = K,
                 .alpha = 1,
                 .A = A,
                 .B = B,
                 .C = C,
                 .lda = lda,
                 .ldb = ldb,
                 .ldc = ldc,
                 .finish = finish,
                 .context = context};
    run(&p, false);
}
