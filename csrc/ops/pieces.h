/* Runs work that is nothing but pieces: of one call, or of several calls of an op as one. */
#ifndef PCNN_OPS_PIECES_H
#define PCNN_OPS_PIECES_H

#include "ops/op.h"

enum { PCNN_PIECES_CALLS = 64 };

/* Runs n (1 .. PCNN_PIECES_CALLS) calls of one op, or of ops that run the same pieces. Where one of
 * them fails, its number is stored to *failed (unless that is NULL), and those before it are done, as
 * if they had run one by one. */
pcnn_status pcnn_pieces_run(const pcnn_site *sites, int n, int *failed);

#endif
