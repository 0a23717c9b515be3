/* Between rows (plain, one image a row) and layout N16; what reorder, transpose and reshape share.
 *
 * Rows are x[N][P], P = S * C positions. The N16 side is [ceil(N/16)][C][S][16], and position q of
 * a row is its channel q % C at place q / C. So C channels and S = H*W is a channels-last image,
 * and C = 1, S = C*H*W keeps the order: rows in channels-first order. */
#ifndef PCNN_OPS_REORDER_H
#define PCNN_OPS_REORDER_H

#include "core/tensor.h"

typedef struct {
    int64_t N, S, C;
} pcnn_rows;

/* Where the positions of a row lie in maps: the row is [planes][H][W][C], with C = 1 or planes = 1,
 * the maps are [C or planes][OH][OW], and a row's first pixel of a plane lies at (top, left). */
typedef struct {
    int64_t C, H, W, OH, OW, top, left;
} pcnn_places;

void pcnn_reorder_to_n16(pcnn_dtype dtype, pcnn_rows rows, const void *x, void *y);
void pcnn_reorder_to_rows(pcnn_dtype dtype, pcnn_rows rows, const void *x, void *y);

#endif
