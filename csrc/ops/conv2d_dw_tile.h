/* The register tile of convolution's gradients of weights in layout N16: OB lines of dy by XB of x. */
#ifndef PCNN_OPS_CONV2D_DW_TILE_H
#define PCNN_OPS_CONV2D_DW_TILE_H

#include "core/tensor.h"
#include "isa/vec.h"

/* The compiler keeps three vectors in registers by itself, but would load each of two again for
 * every use, two a cycle. */
#define HELD(XB, v) ((XB) == 2 ? vpinned(v) : vheld(v))

/* acc[o * acc_step + k] += dy[o] * x[k] at one pixel, whose lines are x_step and dy_step apart, in
 * the first NV vectors of lines; OB, XB and NV are literals, XB at most 4. */
ALWAYS_INLINE void
dw_pixel(const int OB, const int XB, const int NV, vec *acc, const int acc_step, const real *x,
         int64_t x_step, const real *dy, int64_t dy_step)
{
    UNROLL
    for (int v = 0; v < NV; v++) {
        vec value[4];
        UNROLL
        for (int k = 0; k < XB; k++)
            value[k] = HELD(XB, vload(x + k * x_step + v * LANES));
        UNROLL
        for (int o = 0; o < OB; o++) {
            vec d = vload(dy + o * dy_step + v * LANES);
            if (XB > 1)
                d = HELD(XB, d);
            UNROLL
            for (int k = 0; k < XB; k++)
                acc[o * acc_step + k] = vfma(value[k], d, acc[o * acc_step + k]);
        }
    }
}

#endif
