/* Rows of the user's numbers, converted and put through one or two operations with a number, into
 * layout N16 or plain maps.
 *
 * STAGE positions of a row at a time, a cache line of bytes, become reals in a small buffer: each
 * line of a row is touched once, and what follows happens in the first cache. Every number goes
 * through the separate ops' arithmetic, one rounding an operation. */
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/load_images.h"
#include "ops/n16_tile.h"
#include "ops/reals.h"

enum { STAGE = 64 };

/* Numbers q .. q+n-1 of a row as reals. */
ALWAYS_INLINE void
convert(int64_t dtype, const void *source, int64_t q, int64_t n, real *stage)
{
    const void *from = (const char *)source + q * (int64_t)pcnn_dtype_size((pcnn_dtype)dtype);
    if (n == STAGE)
        reals_of(dtype, from, STAGE, stage);
    else
        reals_of(dtype, from, n, stage);
}

#define EACH(expression)                         \
    do {                                         \
        for (int64_t k = 0; k < n; k += LANES) { \
            const vec a = vload(x + k);          \
            vstore(x + k, expression);           \
        }                                        \
    } while (0)

/* n numbers, whole lines of STAGE, through an operation with `number`. */
ALWAYS_INLINE void
operate(int64_t operation, const void *number, real *x, int64_t n)
{
    if (operation == PCNN_LOAD_NONE)
        return;
    const vec b = vset(*(const real *)number);
    switch (operation) {
    case PCNN_LOAD_ADD: EACH(a + b); break;
    case PCNN_LOAD_SUB: EACH(a - b); break;
    case PCNN_LOAD_MUL: EACH((a) * (b)); break;
    default: EACH(a / b);
    }
}

/* Positions first .. end-1 of rows that point at their beginnings -> one block y. */
void
PCNN_K(load_n16)(const void *load, const void *const *sources, void *y, int64_t images,
                 int64_t first, int64_t end)
{
    const pcnn_load *l = load;
    _Alignas(64) real stage[16 * STAGE];
    const real *rows[16] = {NULL};
    const bool bytes = pcnn_dtype_size((pcnn_dtype)l->from) == 1;
    if (first >= end)
        return;
    cursor at = cursor_at(&l->places, first);
    for (int64_t i = 0; i < images; i++)
        rows[i] = stage + i * STAGE;
    if (end - first < STAGE) /* what lies behind the row's end is computed too, but not stored */
        memset(stage, 0, sizeof stage);
    for (int64_t q = first; q < end; q += STAGE) {
        const int64_t n = end - q < STAGE ? end - q : STAGE;
        /* Of bytes too few follow each other for the processor to see where it goes on. */
        for (int64_t i = 0; i < images && bytes; i++)
            __builtin_prefetch((const char *)sources[i] + q + 2 * STAGE);
        for (int64_t i = 0; i < images; i++)
            convert(l->from, sources[i], q, n, stage + i * STAGE);
        for (int k = 0; k < PCNN_LOAD_NUMBERS; k++)
            operate(l->operation[k], l->number[k], stage, images * STAGE);
        for (int64_t k = 0; k < n; k += TILE) {
            int64_t place[TILE], m = n - k < TILE ? n - k : TILE;
            next_places(&l->places, &at, m, place);
            tile_to_n16(rows, k, m, images, place, y);
        }
    }
}

/* n numbers from x, which begin at `at` in plain maps y. */
ALWAYS_INLINE void
place_plain(const pcnn_places *p, cursor *at, const real *x, int64_t n, real *y)
{
    const int64_t plane = p->OH * p->OW;
    while (n > 0) {
        int64_t pixels = n / p->C, done = 1;
        if (pixels > p->W - at->w)
            pixels = p->W - at->w;
        if (p->C == 1) {
            memcpy(y + at->at, x, (size_t)pixels * sizeof(real));
            done = pixels;
            cursor_move(p, at, pixels);
        }
        else if (at->c == 0 && pixels > 0) { /* within a line */
            for (int64_t c = 0; c < p->C; c++)
                for (int64_t s = 0; s < pixels; s++)
                    y[c * plane + at->at + s] = x[s * p->C + c];
            done = pixels * p->C;
            cursor_move(p, at, pixels);
        }
        else {
            y[at->c * plane + at->at] = *x;
            if (++at->c == p->C)
                cursor_move(p, at, 1);
        }
        x += done;
        n -= done;
    }
}

/* Positions first .. end-1 of a row -> the plain maps y of its image. */
void
PCNN_K(load_plain)(const void *load, const void *source, void *y, int64_t first, int64_t end)
{
    const pcnn_load *l = load;
    _Alignas(64) real stage[STAGE] = {0};
    if (first >= end)
        return;
    cursor at = cursor_at(&l->places, first);
    if (l->as_it_is) {
        place_plain(&l->places, &at, (const real *)source + first, end - first, y);
        return;
    }
    for (int64_t q = first; q < end; q += STAGE) {
        const int64_t n = end - q < STAGE ? end - q : STAGE;
        convert(l->from, source, q, n, stage);
        for (int k = 0; k < PCNN_LOAD_NUMBERS; k++)
            operate(l->operation[k], l->number[k], stage, STAGE);
        place_plain(&l->places, &at, stage, n, y);
    }
}
