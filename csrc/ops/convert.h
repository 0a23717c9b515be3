/* Conversion of numbers between all dtypes. */
#ifndef PCNN_OPS_CONVERT_H
#define PCNN_OPS_CONVERT_H

#include "core/tensor.h"

/* n numbers. Real to integer: towards zero, NaN becomes 0, what leaves int64 becomes its nearest
 * end; integer to a shorter integer: modulo 2^bits; to bool: whether it is not 0. */
void pcnn_convert(pcnn_dtype to, void *target, pcnn_dtype from, const void *source, int64_t n);

#endif
