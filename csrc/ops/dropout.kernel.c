/* Dropout: y = keep ? x * scale : 0, with the vector form of Philox4x32-10 (core/random.h).
 *
 * A vector of 64-bit lanes holds one 32-bit word of the state each, in its low half: the 32x32->64
 * multiply that every instruction set has reads just the low half, so what the high half holds is
 * never cleaned up between rounds. The lanes are sixteen images in layout N16 (four consecutive
 * positions use the four words), and consecutive groups of four positions in plain layout. */
#include "core/random.h"
#include "isa/kernels.h"
#include "isa/vec.h"
#include "ops/dropout.h"
#include "ops/quad.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

typedef uint64_t wide __attribute__((vector_size(VEC_BYTES)));
enum { WIDE = VEC_BYTES / 8, ROUNDS = 10 };

/* The low halves of a times m < 2^32. */
ALWAYS_INLINE wide
multiply(wide a, wide m)
{
#if defined(PCNN_ISA_AVX512)
    return (wide)_mm512_mul_epu32((__m512i)a, (__m512i)m);
#elif defined(PCNN_ISA_AVX2)
    return (wide)_mm256_mul_epu32((__m256i)a, (__m256i)m);
#elif defined(__SSE2__)
    return (wide)_mm_mul_epu32((__m128i)a, (__m128i)m);
#else
    return (a & 0xFFFFFFFFu) * m;
#endif
}

ALWAYS_INLINE wide
spread(uint32_t word)
{
    return (uint64_t)word - (wide){0};
}

/* first, first + step, first + 2 step, ... modulo 2^32 */
ALWAYS_INLINE wide
ramp(uint32_t first, uint32_t step)
{
    uint64_t lane[WIDE];
    wide result;
    for (uint32_t l = 0; l < WIDE; l++)
        lane[l] = first + l * step;
    memcpy(&result, lane, sizeof result);
    return result;
}

typedef struct {
    wide key[ROUNDS][2];
} schedule;

ALWAYS_INLINE void
make_schedule(const pcnn_dropout *d, schedule *s)
{
    for (int r = 0; r < ROUNDS; r++) {
        s->key[r][0] = spread(d->key[0] + (uint32_t)r * 0x9E3779B9u);
        s->key[r][1] = spread(d->key[1] + (uint32_t)r * 0xBB67AE85u);
    }
}

/* Rounds first_round .. last_round - 1 of n states side by side, so that one's multiplications hide
 * the others' latency. The low halves of the results are the words. */
ALWAYS_INLINE void
philox(wide (*state)[4], const int n, const schedule *s, const int first_round,
       const int last_round)
{
    const wide m0 = spread(0xD2511F53u), m1 = spread(0xCD9E8D57u);
    UNROLL for (int r = first_round; r < last_round; r++) UNROLL for (int i = 0; i < n; i++)
    {
        wide *w = state[i];
        const wide p0 = multiply(w[0], m0), p1 = multiply(w[2], m1);
        w[0] = (w[1] ^ s->key[r][0]) ^ (p1 >> 32);
        w[2] = (w[3] ^ s->key[r][1]) ^ (p0 >> 32);
        w[1] = p1;
        w[3] = p0;
    }
}

/* ---- N16: lanes are images ---- */

/* For 2 * WIDE images, one word each: the masks of those that keep their element. In float the
 * lanes of `a` are the even images and those of `b` the odd ones; in double `b`'s follow `a`'s. */
enum { MASKS = 2 * WIDE / LANES };

#if !defined(PCNN_REAL_F64)
/* Even words of `a`, odd words of `b`. */
ALWAYS_INLINE uvec
interleave(wide a, wide b)
{
#if defined(PCNN_ISA_AVX512)
    return QUAD_SHUFFLE(ivec, (uvec)a, (uvec)b, 0, 17, 2, 19, 4, 21, 6, 23, 8, 25, 10, 27, 12, 29,
                        14, 31);
#elif defined(PCNN_ISA_AVX2)
    return QUAD_SHUFFLE(ivec, (uvec)a, (uvec)b, 0, 9, 2, 11, 4, 13, 6, 15);
#else
    return (uvec)((a & 0xFFFFFFFFu) | (b & ~(uint64_t)0xFFFFFFFFu));
#endif
}
#endif

/* The last round of two states, and the masks that its words give: [word]. */
ALWAYS_INLINE void
keep_masks(wide a[4], wide b[4], const schedule *s, const pcnn_dropout *d, ivec mask[4][MASKS])
{
#if defined(PCNN_REAL_F64)
    wide both[2][4];
    const ivec threshold = (int64_t)d->threshold - (ivec){0};
    memcpy(both[0], a, sizeof both[0]);
    memcpy(both[1], b, sizeof both[1]);
    philox(both, 2, s, ROUNDS - 1, ROUNDS);
    UNROLL for (int j = 0; j < 4; j++) UNROLL for (int i = 0; i < 2; i++) mask[j][i] =
        (ivec)(both[i][j] & 0xFFFFFFFFu) >= threshold;
#else
    /* As philox, but words of both states are joined before their last xor. Only low halves are
     * words: b's are shifted into the odd lanes, from which a high half comes as it lies. */
    const wide m0 = spread(0xD2511F53u), m1 = spread(0xCD9E8D57u);
    const wide a0 = multiply(a[0], m0), b0 = multiply(b[0], m0);
    const wide a1 = multiply(a[2], m1), b1 = multiply(b[2], m1);
    const wide *key = s->key[ROUNDS - 1];
    const uvec threshold = d->threshold - (uvec){0};
    const uvec word[4] = {
        interleave(a[1] ^ key[0], (b[1] ^ key[0]) << 32) ^ interleave(a1 >> 32, b1),
        interleave(a1, b1 << 32),
        interleave(a[3] ^ key[1], (b[3] ^ key[1]) << 32) ^ interleave(a0 >> 32, b0),
        interleave(a0, b0 << 32),
    };
    UNROLL for (int j = 0; j < 4; j++) mask[j][0] = (ivec)(word[j] >= threshold);
#endif
}

/* What the first two rounds give, as far as it depends on the images alone: of the counter
 * (group, image, call, stream), only `group` changes from one draw to the next, and it meets the
 * image in the third round. So half the work of the first rounds is done once a block. */
typedef struct {
    wide high[2], low[2]; /* of the second round's product of word 0, for a and b */
} images_part;

typedef struct {
    uint32_t high1, low1; /* of the first round's product of word 2, `call` */
} call_part;

ALWAYS_INLINE call_part
first_product_of_call(const pcnn_dropout *d)
{
    uint64_t product = (uint64_t)0xCD9E8D57u * d->call;
    return (call_part){(uint32_t)(product >> 32), (uint32_t)product};
}

ALWAYS_INLINE images_part
rounds_of_images(const pcnn_dropout *d, call_part call, uint32_t image, int q)
{
    const uint32_t first = image + (uint32_t)(q * 2 * WIDE), step = sizeof(real) == 8 ? 1 : 2;
    const wide lanes[2] = {ramp(first, step), ramp(first + (step == 1 ? WIDE : 1), step)};
    images_part part;
    for (int i = 0; i < 2; i++) {
        wide word0 = lanes[i] ^ spread(call.high1 ^ d->key[0]);
        wide product = multiply(word0, spread(0xD2511F53u));
        part.high[i] = product >> 32;
        part.low[i] = product;
    }
    return part;
}

/* The states of pair q after two rounds, for one group of positions. */
ALWAYS_INLINE void
enter_group(const pcnn_dropout *d, call_part call, const images_part *part, uint32_t group,
            wide a[4], wide b[4])
{
    uint64_t first = (uint64_t)0xD2511F53u * group;
    uint32_t word2 = (uint32_t)(first >> 32) ^ d->stream ^ d->key[1]; /* after round 1 */
    uint32_t word3 = (uint32_t)first;
    uint64_t second = (uint64_t)0xCD9E8D57u * word2;
    uint32_t key0 = d->key[0] + 0x9E3779B9u, key1 = d->key[1] + 0xBB67AE85u;
    a[0] = b[0] = spread((uint32_t)(second >> 32) ^ call.low1 ^ key0);
    a[1] = b[1] = spread((uint32_t)second);
    wide tail = spread(word3 ^ key1);
    a[2] = part->high[0] ^ tail;
    b[2] = part->high[1] ^ tail;
    a[3] = part->low[0];
    b[3] = part->low[1];
}

enum { PAIRS = 16 / (2 * WIDE) };

/* The lanes of a mask as bits. */
ALWAYS_INLINE uint32_t
bits_of_mask(ivec mask)
{
#if defined(PCNN_ISA_AVX512) && defined(PCNN_REAL_F64)
    return _mm512_cmplt_epi64_mask((__m512i)mask, _mm512_setzero_si512());
#elif defined(PCNN_ISA_AVX512)
    return _mm512_cmplt_epi32_mask((__m512i)mask, _mm512_setzero_si512());
#elif defined(PCNN_ISA_AVX2) && defined(PCNN_REAL_F64)
    return (uint32_t)_mm256_movemask_pd((__m256d)mask);
#elif defined(PCNN_ISA_AVX2)
    return (uint32_t)_mm256_movemask_ps((__m256)mask);
#elif defined(__SSE2__) && defined(PCNN_REAL_F64)
    return (uint32_t)_mm_movemask_pd((__m128d)mask);
#elif defined(__SSE2__)
    return (uint32_t)_mm_movemask_ps((__m128)mask);
#else
    uint32_t bits = 0;
    for (int l = 0; l < LANES; l++)
        bits |= (uint32_t)(mask[l] & 1) << l;
    return bits;
#endif
}

/* Pairs of states that are worked on at once: as many as the registers hold, and a few more. */
#if defined(PCNN_ISA_AVX2)
enum { AT_ONCE = PAIRS < 2 ? PAIRS : 2 };
#else
enum { AT_ONCE = 1 };
#endif

/* A group of four positions from p on: those of first .. end-1, which are all if `whole`. x and y
 * are those of `first`, and so are the bits, which hold the decisions if it `keeps` them. */
ALWAYS_INLINE void
drop_group(const pcnn_dropout *d, const schedule *s, call_part call, const images_part part[PAIRS],
           const real *x, real *y, uint16_t *bits, int64_t p, int64_t first, int64_t end,
           const bool whole, const bool keeps)
{
    const vec scale = vset((real)d->scale);
    uint32_t word[4] = {0};
    for (int q = 0; q < PAIRS; q += AT_ONCE) {
        wide state[2 * AT_ONCE][4];
        UNROLL for (int i = 0; i < AT_ONCE; i++)
            enter_group(d, call, &part[q + i], (uint32_t)(p / 4), state[2 * i], state[2 * i + 1]);
        philox(state, 2 * AT_ONCE, s, 2, ROUNDS - 1);
        UNROLL for (int i = 0; i < AT_ONCE; i++)
        {
            ivec mask[4][MASKS];
            keep_masks(state[2 * i], state[2 * i + 1], s, d, mask);
            UNROLL for (int j = 0; j < 4; j++)
            {
                if (!whole && (p + j < first || p + j >= end))
                    continue;
                UNROLL for (int m = 0; m < MASKS; m++)
                {
                    const int64_t lane = (q + i) * 2 * WIDE + m * LANES;
                    const int64_t at = (p + j - first) * 16 + lane;
                    vstore(y + at, (vec)((ivec)(vload(x + at) * scale) & mask[j][m]));
                    if (keeps)
                        word[j] |= bits_of_mask(mask[j][m]) << lane;
                }
            }
        }
    }
    if (!keeps)
        return;
    UNROLL for (int j = 0; j < 4; j++) if (whole || (p + j >= first && p + j < end))
        bits[p + j - first] = (uint16_t)word[j];
}

/* Apart, so that the loop over whole groups has no jumps. */
static __attribute__((noinline)) void
drop_part(const pcnn_dropout *d, const schedule *s, call_part call, const images_part part[PAIRS],
          const real *x, real *y, uint16_t *bits, int64_t p, int64_t first, int64_t end)
{
    drop_group(d, s, call, part, x, y, bits, p, first, end, false, bits != NULL);
}

/* Positions first .. end-1 of the images from `image` on: x[end - first][16] -> y, and the
 * decisions to bits[end - first], if it `keeps` them. Where `first` or `end` is no multiple of
 * 4, a few words are drawn for nothing. */
ALWAYS_INLINE void
drop(const pcnn_dropout *d, const real *x, real *y, uint16_t *bits, int64_t image, int64_t first,
     int64_t end, const bool keeps)
{
    schedule s;
    make_schedule(d, &s);
    const call_part call = first_product_of_call(d);
    images_part part[PAIRS];
    for (int q = 0; q < PAIRS; q++)
        part[q] = rounds_of_images(d, call, (uint32_t)image, q);
    int64_t p = first / 4 * 4;
    if (p < first) {
        drop_part(d, &s, call, part, x, y, bits, p, first, end);
        p += 4;
    }
    for (; p + 4 <= end; p += 4)
        drop_group(d, &s, call, part, x, y, bits, p, first, end, true, keeps);
    if (p < end)
        drop_part(d, &s, call, part, x, y, bits, p, first, end);
}

void
PCNN_K(dropout_n16)(const void *dropout, const void *x, void *y, int64_t image, int64_t first,
                    int64_t end)
{
    drop(dropout, x, y, NULL, image, first, end, false);
}

void
PCNN_K(dropout_keep_n16)(const void *dropout, const void *x, void *y, uint16_t *bits, int64_t image,
                         int64_t first, int64_t end)
{
    drop(dropout, x, y, bits, image, first, end, true);
}

/* dx = kept ? dy * scale : 0, of n positions. */
void
PCNN_K(dropout_mask_n16)(double scale, const void *pdy, void *pdx, const uint16_t *bits, int64_t n)
{
    const real *dy = pdy;
    real *dx = pdx;
    const vec factor = vset((real)scale);
    ivec lane[VECS];
    for (int k = 0; k < VECS; k++)
        for (int l = 0; l < LANES; l++)
            lane[k][l] = (integer)1 << (k * LANES + l);
    for (int64_t p = 0; p < n; p++) {
        const ivec word = (integer)bits[p] - (ivec){0};
        UNROLL for (int k = 0; k < VECS; k++)
        {
            const int64_t at = p * 16 + k * LANES;
            vstore(dx + at, (vec)((ivec)(vload(dy + at) * factor) & ((word & lane[k]) != 0)));
        }
    }
}

/* Whole channels: x[.][inner][16], channels first .. end-1; first % 4 == 0. */
void
PCNN_K(dropout_channels_n16)(const void *dropout, const void *px, void *py, int64_t image,
                             int64_t first, int64_t end, int64_t inner)
{
    const pcnn_dropout *d = dropout;
    const real *x = px;
    real *y = py;
    schedule s;
    make_schedule(d, &s);
    const call_part call = first_product_of_call(d);
    const vec scale = vset((real)d->scale);
    for (int64_t c = first; c < end; c += 4)
        for (int q = 0; q < PAIRS; q++) {
            const images_part part = rounds_of_images(d, call, (uint32_t)image, q);
            wide state[2][4];
            ivec mask[4][MASKS];
            enter_group(d, call, &part, (uint32_t)(c / 4), state[0], state[1]);
            philox(state, 2, &s, 2, ROUNDS - 1);
            keep_masks(state[0], state[1], &s, d, mask);
            for (int j = 0; j < 4 && c + j < end; j++) {
                for (int64_t i = (c + j) * inner; i < (c + j + 1) * inner; i++)
                    for (int m = 0; m < MASKS; m++) {
                        int64_t at = i * 16 + q * 2 * WIDE + m * LANES;
                        vstore(y + at, (vec)((ivec)(vload(x + at) * scale) & mask[j][m]));
                    }
            }
        }
}

/* ---- plain: lanes are groups of four positions ---- */

enum { GROUPS = 2 * WIDE, DRAWN = 4 * GROUPS };

/* The words of positions 4 * group .. 4 * group + DRAWN - 1 of an image. The lanes of one state
 * are the even groups, those of the other the odd ones, so that both halves of 64 bits join. */
ALWAYS_INLINE void
draw_positions(const pcnn_dropout *d, const schedule *s, uint32_t image, uint32_t group,
               uint32_t words[DRAWN])
{
    const wide image_word = spread(image), call = spread(d->call), stream = spread(d->stream);
    wide state[2][4] = {{ramp(group, 2), image_word, call, stream},
                        {ramp(group + 1, 2), image_word, call, stream}};
    philox(state, 2, s, 0, ROUNDS);
    uint32_t by_word[4][GROUPS];
    for (int j = 0; j < 4; j++) {
        wide joined = (state[0][j] & 0xFFFFFFFFu) | (state[1][j] << 32);
        memcpy(by_word[j], &joined, sizeof joined);
    }
    for (int g = 0; g < GROUPS; g += 4) {
        word_quad square[4];
        for (int j = 0; j < 4; j++)
            memcpy(&square[j], &by_word[j][g], sizeof square[j]);
        transpose_words(square);
        memcpy(words + 4 * g, square, sizeof square);
    }
}

/* All ones where a word reaches the threshold: selected, as a jump would be guessed wrong half of
 * the time. */
ALWAYS_INLINE ivec
words_at_least(const uint32_t *words, uint32_t threshold)
{
    typedef uint32_t lane_words __attribute__((vector_size(LANES * 4)));
    lane_words w;
    memcpy(&w, words, sizeof w);
#if defined(PCNN_REAL_F64)
    return __builtin_convertvector(w, ivec) >= (integer)threshold - (ivec){0};
#else
    return (ivec)(w >= threshold - (lane_words){0});
#endif
}

/* One image x[P] -> y[P], positions first .. end-1; first % 4 == 0. */
void
PCNN_K(dropout_rows)(const void *dropout, const void *px, void *py, int64_t image, int64_t first,
                     int64_t end)
{
    const pcnn_dropout *d = dropout;
    const real *x = px, scale = (real)d->scale;
    real *y = py;
    const uint32_t threshold = d->threshold;
    schedule s;
    make_schedule(d, &s);
    for (int64_t p = first; p < end; p += DRAWN) {
        uint32_t words[DRAWN];
        draw_positions(d, &s, (uint32_t)image, (uint32_t)(p / 4), words);
        if (end - p < DRAWN) {
            for (int64_t i = 0; i < end - p; i++)
                y[p + i] = words[i] >= threshold ? x[p + i] * scale : 0;
            break;
        }
        for (int64_t i = 0; i < DRAWN; i += LANES) {
            const ivec mask = words_at_least(words + i, threshold);
            vstore(y + p + i, (vec)((ivec)(vload(x + p + i) * scale) & mask));
        }
    }
}

/* ---- the reference, with the scalar Philox; `inner` elements share a position ---- */

void
PCNN_K(dropout_reference)(const void *dropout, const void *px, void *py, int64_t image,
                          int64_t first, int64_t end, int64_t inner)
{
    const pcnn_dropout *d = dropout;
    const real *x = px;
    real *y = py;
    for (int64_t p = first; p < end; p++) {
        uint32_t counter[4] = {(uint32_t)(p / 4), (uint32_t)image, d->call, d->stream};
        pcnn_philox(counter, d->key[0], d->key[1]);
        bool keep = counter[p % 4] >= d->threshold;
        for (int64_t i = p * inner; i < (p + 1) * inner; i++)
            y[i] = keep ? x[i] * (real)d->scale : 0;
    }
}

/* `images` images of `positions` elements, one after another, whose decisions share words. */
void
PCNN_K(dropout_keep_plain)(const void *dropout, const void *px, void *py, uint16_t *bits,
                           int64_t image, int64_t images, int64_t positions, int64_t first,
                           int64_t end)
{
    const pcnn_dropout *d = dropout;
    const real *x = px;
    real *y = py;
    memset(bits + first, 0, (size_t)(end - first) * sizeof *bits);
    for (int64_t n = 0; n < images; n++)
        for (int64_t p = first; p < end; p++) {
            uint32_t counter[4] = {(uint32_t)(p / 4), (uint32_t)(image + n), d->call, d->stream};
            pcnn_philox(counter, d->key[0], d->key[1]);
            bool keep = counter[p % 4] >= d->threshold;
            y[n * positions + p] = keep ? x[n * positions + p] * (real)d->scale : 0;
            bits[p] = (uint16_t)(bits[p] | (unsigned)keep << n);
        }
}

void
PCNN_K(dropout_mask_plain)(double scale, const void *pdy, void *pdx, const uint16_t *bits,
                           int64_t images, int64_t positions, int64_t first, int64_t end)
{
    const real *dy = pdy;
    real *dx = pdx;
    for (int64_t n = 0; n < images; n++)
        for (int64_t p = first; p < end; p++)
            dx[n * positions + p] = bits[p] >> n & 1 ? dy[n * positions + p] * (real)scale : 0;
}
