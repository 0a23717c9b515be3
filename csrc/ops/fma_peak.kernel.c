/* The most multiply-adds that one core can do: what kernels are measured against.
 *
 * Twelve independent chains keep two units with four to five cycles of latency busy. Each
 * accumulator has a name and the compiler is kept from knowing its value; an array would be stored
 * to memory at every step and measure that instead. */
#include "isa/kernels.h"
#include "isa/vec.h"

#include <time.h>

#if defined(PCNN_ISA_AVX512) && defined(__AVX512F__)
#define OPAQUE(v) __asm__ volatile("" : "+v"(v))
#elif defined(PCNN_ISA_AVX512) /* emulated: no register holds a vector, the figure means nothing */
#define OPAQUE(v) __asm__ volatile("" : "+m"(v))
#elif defined(__x86_64__)
#define OPAQUE(v) __asm__ volatile("" : "+x"(v))
#elif defined(__aarch64__)
#define OPAQUE(v) __asm__ volatile("" : "+w"(v))
#else
#define OPAQUE(v) __asm__ volatile("" : "+m"(v))
#endif

static double
seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* GFLOP/s of this core over `rounds` rounds of twelve multiply-adds (two operations each). */
double
PCNN_K(fma_peak)(int64_t rounds)
{
    vec factor = vset(1), addend = vset(0);
    OPAQUE(factor);
    OPAQUE(addend);
    vec a = addend, b = addend, c = addend, d = addend, e = addend, f = addend;
    vec g = addend, h = addend, i = addend, j = addend, k = addend, l = addend;
    double begin = seconds();
    for (int64_t r = 0; r < rounds; r++) {
#define STEP(v)                  \
    v = vfma(v, factor, addend); \
    OPAQUE(v);
        STEP(a)
        STEP(b) STEP(c) STEP(d) STEP(e) STEP(f) STEP(g) STEP(h) STEP(i) STEP(j) STEP(k) STEP(l)
    }
    double time = seconds() - begin;
    return time > 0 ? (double)rounds * 12 * 2 * LANES / time * 1e-9 : 0;
}
