/* Max pooling that remembers where each maximum was, and its gradient; one map a call.
 *
 * `shape` is a pcnn_pool2d. Positions are signed bytes (max_pool2d.h), sixteen for a pooled element
 * of sixteen images. While a window is searched they are integers as wide as the reals, so that they
 * are selected by the masks that select the values; `narrow` and `widen` convert. Padding lanes of x
 * and dy are zero, and so is what is made of them: no mask is needed. */
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/max_pool2d_tap.h"

/* Stores sixteen positions as bytes. */
ALWAYS_INLINE void
narrow(const ivec wide[VECS], int8_t *to)
{
#if defined(PCNN_ISA_AVX512) && defined(PCNN_REAL_F32)
    __m128i bytes = _mm512_cvtepi32_epi8((__m512i)wide[0]);
    memcpy(to, &bytes, sizeof bytes);
#elif defined(PCNN_ISA_AVX2) && defined(PCNN_REAL_F32)
    __m256i words = _mm256_packs_epi32((__m256i)wide[0], (__m256i)wide[1]);
    words = _mm256_permute4x64_epi64(words, 0xD8); /* the halves were packed side by side */
    __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    memcpy(to, &bytes, sizeof bytes);
#else
    typedef int8_t bytes __attribute__((vector_size(LANES)));
    UNROLL
    for (int k = 0; k < VECS; k++) {
        bytes part = __builtin_convertvector(wide[k], bytes);
        memcpy(to + k * LANES, &part, sizeof part);
    }
#endif
}

/* Loads sixteen positions. */
ALWAYS_INLINE void
widen(const int8_t *from, ivec wide[VECS])
{
#if defined(PCNN_ISA_AVX512) && defined(PCNN_REAL_F32)
    __m128i bytes;
    memcpy(&bytes, from, sizeof bytes);
    wide[0] = (ivec)_mm512_cvtepi8_epi32(bytes);
#elif defined(PCNN_ISA_AVX2) && defined(PCNN_REAL_F32)
    UNROLL
    for (int k = 0; k < VECS; k++) {
        int64_t bytes;
        memcpy(&bytes, from + k * LANES, sizeof bytes);
        wide[k] = (ivec)_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bytes));
    }
#else
    typedef int8_t bytes __attribute__((vector_size(LANES)));
    UNROLL
    for (int k = 0; k < VECS; k++) {
        bytes part;
        memcpy(&part, from + k * LANES, sizeof part);
        wide[k] = __builtin_convertvector(part, ivec);
    }
#endif
}

ALWAYS_INLINE ivec
same(integer number)
{
    return number - (ivec){0};
}

/* ---- N16, windows 2x2 side by side ---- */

/* x[H][W][16] -> y[OH][OW][16]. Not `careful`: nothing in x is NaN. Returns a sum that is NaN if
 * something is. */
ALWAYS_INLINE real
index_2x2(const pcnn_pool2d *s, const real *x, real *y, int8_t *index, const bool relu,
          const bool careful)
{
    const int64_t row = s->W * 16, OH = s->OH, OW = s->OW;
    vec sum[VECS] = {{0}};
    for (int64_t i = 0; i < OH; i++) {
        const real *top = x + 2 * i * row, *bottom = top + row;
        for (int64_t j = 0; j < OW; j++, top += 32, bottom += 32, y += 16, index += 16) {
            ivec position[VECS];
            UNROLL for (int k = 0; k < VECS; k++)
            {
                const int v = k * LANES;
                const vec t0 = vload(top + v), t1 = vload(top + 16 + v);
                const vec b0 = vload(bottom + v), b1 = vload(bottom + 16 + v);
                const ivec right = careful ? beats(t1, t0) : t1 > t0;
                const ivec right_below = careful ? beats(b1, b0) : b1 > b0;
                const vec upper = vselect(right, t1, t0), lower = vselect(right_below, b1, b0);
                const ivec below = careful ? beats(lower, upper) : lower > upper;
                const vec best = vselect(below, lower, upper);
                vstore(y + v, best);
                /* A mask is -1 or 0: 0 or 1 above, 2 or 3 below; -1 where nothing flows. */
                const ivec column = (ivec)vselect(below, (vec)right_below, (vec)right);
                position[k] = (column & 1) | (below & 2);
                if (relu)
                    position[k] |= careful ? ~(best > 0) : best <= 0;
                sum[k] += (t0 + t1) + (b0 + b1);
            }
            narrow(position, index);
        }
    }
    UNROLL for (int k = 1; k < VECS; k++) sum[0] += sum[k];
    return vsum(sum[0]);
}

/* Once without a thought of NaN, and again if there is one; infinities of both signs may raise a
 * false alarm. */
ALWAYS_INLINE void
index_with_care(const pcnn_pool2d *s, const real *x, real *y, int8_t *index, const bool relu)
{
    const real sum = index_2x2(s, x, y, index, relu, false);
    if (sum != sum)
        (void)index_2x2(s, x, y, index, relu, true);
}

void
PCNN_K(max_pool2d_index_2x2)(const void *shape, const void *x, void *y, int8_t *index, bool relu)
{
    if (relu)
        index_with_care(shape, x, y, index, true);
    else
        index_with_care(shape, x, y, index, false);
}

/* Each element of dx is written once: the window's gradient where the first maximum is, else 0. */
void
PCNN_K(max_pool2d_scatter_2x2)(const void *shape, const void *pdy, const int8_t *index, void *pdx)
{
    const pcnn_pool2d *s = shape;
    const real *dy = pdy;
    real *dx = pdx;
    const int64_t row = s->W * 16, odd = (s->W & 1) * 16;
    for (int64_t i = 0; i < s->OH; i++) {
        real *top = dx + 2 * i * row, *bottom = top + row;
        for (int64_t j = 0; j < s->OW; j++, top += 32, bottom += 32, dy += 16, index += 16) {
            ivec position[VECS];
            widen(index, position);
            UNROLL for (int k = 0; k < VECS; k++)
            {
                const int v = k * LANES;
                ivec d = (ivec)vload(dy + v), at = position[k];
                vstore(top + v, (vec)(d & (at == 0)));
                vstore(top + 16 + v, (vec)(d & (at == 1)));
                vstore(bottom + v, (vec)(d & (at == 2)));
                vstore(bottom + 16 + v, (vec)(d & (at == 3)));
            }
        }
        /* The column and the row that no window covers. */
        memset(top, 0, (size_t)odd * sizeof(real));
        memset(bottom, 0, (size_t)odd * sizeof(real));
    }
    if (s->H & 1)
        memset(dx + (s->H - 1) * row, 0, (size_t)row * sizeof(real));
}

/* ---- N16, any window ---- */

void
PCNN_K(max_pool2d_index_n16)(const void *shape, const void *px, void *py, int8_t *index, bool relu)
{
    const pcnn_pool2d *s = shape;
    const real *x = px;
    real *y = py;
    const ivec anything = same(relu ? 0 : -1);
    for (int64_t i = 0; i < s->OH; i++) {
        int64_t row, u0, u1;
        pcnn_pool2d_taps(i, s->SH, s->PT, s->KH, s->H, &row, &u0, &u1);
        for (int64_t j = 0; j < s->OW; j++, y += 16, index += 16) {
            int64_t column, v0, v1;
            pcnn_pool2d_taps(j, s->SW, s->PL, s->KW, s->W, &column, &v0, &v1);
            vec best[VECS];
            ivec position[VECS];
            const real *tap = x + ((row + u0) * s->W + column + v0) * 16;
            UNROLL for (int k = 0; k < VECS; k++)
            {
                best[k] = vload(tap + k * LANES);
                position[k] = same((integer)(u0 * s->KW + v0));
            }
            for (int64_t u = u0; u < u1; u++) {
                tap = x + ((row + u) * s->W + column + v0) * 16;
                ivec at = same((integer)(u * s->KW + v0));
                for (int64_t v = v0; v < v1; v++, tap += 16, at += 1)
                    UNROLL for (int k = 0; k < VECS; k++)
                    {
                        vec t = vload(tap + k * LANES);
                        ivec more = beats(t, best[k]);
                        best[k] = vselect(more, t, best[k]);
                        position[k] = (more & at) | (~more & position[k]);
                    }
            }
            UNROLL for (int k = 0; k < VECS; k++)
            {
                vstore(y + k * LANES, best[k]);
                position[k] |= ~((best[k] > 0) | anything);
            }
            narrow(position, index);
        }
    }
}

/* Windows may overlap, so gradients are added into a zeroed map, in the order of the windows. An
 * element that relu masks gets +0 from every window that it is the maximum of. */
void
PCNN_K(max_pool2d_scatter_n16)(const void *shape, const void *pdy, const int8_t *index, void *pdx)
{
    const pcnn_pool2d *s = shape;
    const real *dy = pdy;
    real *dx = pdx;
    memset(dx, 0, (size_t)(s->H * s->W * 16) * sizeof(real));
    for (int64_t i = 0; i < s->OH; i++) {
        int64_t row, u0, u1;
        pcnn_pool2d_taps(i, s->SH, s->PT, s->KH, s->H, &row, &u0, &u1);
        for (int64_t j = 0; j < s->OW; j++, dy += 16, index += 16) {
            int64_t column, v0, v1;
            pcnn_pool2d_taps(j, s->SW, s->PL, s->KW, s->W, &column, &v0, &v1);
            ivec position[VECS];
            widen(index, position);
            UNROLL for (int k = 0; k < VECS; k++)
            {
                ivec d = (ivec)vload(dy + k * LANES);
                for (int64_t u = u0; u < u1; u++) {
                    real *to = dx + ((row + u) * s->W + column + v0) * 16 + k * LANES;
                    ivec at = same((integer)(u * s->KW + v0));
                    for (int64_t v = v0; v < v1; v++, to += 16, at += 1)
                        vstore(to, vload(to) + (vec)(d & (position[k] == at)));
                }
            }
        }
    }
}

/* ---- plain: the reference; positions stand sixteen apart ---- */

void
PCNN_K(max_pool2d_index_plain)(const void *shape, const void *px, void *py, int8_t *index,
                               bool relu)
{
    const pcnn_pool2d *s = shape;
    const real *x = px; /* [H][W] */
    real *y = py;       /* [OH][OW] */
    for (int64_t i = 0; i < s->OH; i++)
        for (int64_t j = 0; j < s->OW; j++, index += PCNN_BLOCK) {
            int64_t row, u0, u1, column, v0, v1;
            pcnn_pool2d_taps(i, s->SH, s->PT, s->KH, s->H, &row, &u0, &u1);
            pcnn_pool2d_taps(j, s->SW, s->PL, s->KW, s->W, &column, &v0, &v1);
            real best = x[(row + u0) * s->W + column + v0];
            int64_t at = u0 * s->KW + v0;
            for (int64_t u = u0; u < u1; u++)
                for (int64_t v = v0; v < v1; v++) {
                    real tap = x[(row + u) * s->W + column + v];
                    if (tap_beats(tap, best)) {
                        best = tap;
                        at = u * s->KW + v;
                    }
                }
            *y++ = best;
            *index = (int8_t)(relu && !(best > 0) ? -1 : at);
        }
}

void
PCNN_K(max_pool2d_scatter_plain)(const void *shape, const void *pdy, const int8_t *index, void *pdx)
{
    const pcnn_pool2d *s = shape;
    const real *dy = pdy;
    real *dx = pdx;
    memset(dx, 0, (size_t)(s->H * s->W) * sizeof(real));
    for (int64_t i = 0; i < s->OH; i++)
        for (int64_t j = 0; j < s->OW; j++, dy++, index += PCNN_BLOCK)
            if (*index >= 0) {
                int64_t u = i * s->SH - s->PT + *index / s->KW;
                int64_t v = j * s->SW - s->PL + *index % s->KW;
                dx[u * s->W + v] += *dy;
            }
}
