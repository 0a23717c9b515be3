/* One table of kernels; compiled once per instruction set and real type. */
#include "isa/kernels.h"
#include "isa/vec.h"

#define KERNEL(result, name, arguments) result PCNN_K(name) arguments;
#include "isa/kernels.def"
#undef KERNEL

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

extern const pcnn_kernels PCNN_K(kernels);

const pcnn_kernels PCNN_K(kernels) = {
    TEXT(PCNN_ISA),
    VEC_BYTES,
#define KERNEL(result, name, arguments) PCNN_K(name),
#include "isa/kernels.def"
#undef KERNEL
};
