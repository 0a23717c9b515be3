/* The table of kernels: one per instruction set and real type, chosen once at import.
 *
 * kernels.def is the list, read three times: for the members of the table here, for the
 * declarations in table.c, and for the table's contents there. Data pointers are `void *` in the
 * table because one type serves float and double; a kernel names them `real *` in its first lines. */
#ifndef PCNN_ISA_KERNELS_H
#define PCNN_ISA_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/tensor.h"

typedef struct {
    const char *isa;
    int vector_bytes;
#define KERNEL(result, name, arguments) result(*name) arguments;
#include "isa/kernels.def"
#undef KERNEL
} pcnn_kernels;

/* The table in force for PCNN_F32 or PCNN_F64. */
const pcnn_kernels *pcnn_kernels_for(pcnn_dtype dtype);

/* Chooses the fastest set that this processor has, or the one that PYCNN_ISA names. */
pcnn_status pcnn_isa_init(const char *wanted);
const char *pcnn_isa_name(void);
/* Sets that are compiled in and that this processor can run, fastest first; NULL ends the list. */
const char *const *pcnn_isa_available(void);
const char *const *pcnn_isa_compiled(void);
/* The set that this build emulates with a lesser one (emulated.h), for tests; else NULL. */
const char *pcnn_isa_emulated(void);

#endif
