/* Chooses the instruction set once, at import. */
#include "isa/kernels.h"

#include <string.h>

#if defined(__x86_64__)
#define BASELINE baseline
#define BASELINE_NAME "baseline"
#else
#define BASELINE generic
#define BASELINE_NAME "generic"
#endif

#define DECLARE_(isa) extern const pcnn_kernels pcnn_kernels_f32_##isa, pcnn_kernels_f64_##isa;
#define DECLARE(isa) DECLARE_(isa)
#define ENTRY_(isa) {&pcnn_kernels_f32_##isa, &pcnn_kernels_f64_##isa}
#define ENTRY(isa) ENTRY_(isa)

#if defined(PCNN_HAVE_ISA_AVX512)
DECLARE(avx512)
#endif
#if defined(PCNN_HAVE_ISA_AVX2)
DECLARE(avx2)
#endif
DECLARE(BASELINE)

static const struct {
    const pcnn_kernels *f32, *f64;
} compiled[] = {
#if defined(PCNN_HAVE_ISA_AVX512)
    ENTRY(avx512),
#endif
#if defined(PCNN_HAVE_ISA_AVX2)
    ENTRY(avx2),
#endif
    ENTRY(BASELINE),
};
enum { COMPILED = sizeof compiled / sizeof compiled[0] };

static int chosen = COMPILED - 1;
static const char *available[COMPILED + 1];
static const char *names[COMPILED + 1];

const char *
pcnn_isa_emulated(void)
{
#if defined(PCNN_EMULATE_AVX512)
    return "avx512";
#else
    return NULL;
#endif
}

static bool
runs_here(const char *isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (strcmp(isa, "avx512") == 0 && pcnn_isa_emulated() == NULL)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (strcmp(isa, BASELINE_NAME) != 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    (void)isa;
    return true;
}

pcnn_status
pcnn_isa_init(const char *wanted)
{
    int n = 0, best = -1, found = -1;
    for (int i = 0; i < COMPILED; i++) {
        const char *name = compiled[i].f32->isa;
        names[i] = name;
        bool matches = wanted && strcmp(wanted, name) == 0;
        if (runs_here(name)) {
            available[n++] = name;
            if (best < 0)
                best = i;
            if (matches)
                found = i;
        }
        else if (matches) {
            return pcnn_fail(PCNN_ERR_VALUE,
                             "PYCNN_ISA=%s: this processor does not have that instruction set",
                             wanted);
        }
    }
    available[n] = NULL;
    if (wanted && found < 0)
        return pcnn_fail(PCNN_ERR_VALUE, "PYCNN_ISA=%s is not one of avx512, avx2, %s", wanted,
                         BASELINE_NAME);
    chosen = wanted ? found : best;
    return PCNN_OK;
}

const pcnn_kernels *
pcnn_kernels_for(pcnn_dtype dtype)
{
    return dtype == PCNN_F64 ? compiled[chosen].f64 : compiled[chosen].f32;
}

const char *
pcnn_isa_name(void)
{
    return compiled[chosen].f32->isa;
}

const char *const *
pcnn_isa_available(void)
{
    return available;
}

const char *const *
pcnn_isa_compiled(void)
{
    return names;
}
