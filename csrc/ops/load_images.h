/* load_images, as the plan makes it and as its kernels see it. */
#ifndef PCNN_OPS_LOAD_IMAGES_H
#define PCNN_OPS_LOAD_IMAGES_H

#include "ops/op.h"
#include "ops/reorder.h"

/* Operations with a number, two at most. */
enum { PCNN_LOAD_NONE, PCNN_LOAD_ADD, PCNN_LOAD_SUB, PCNN_LOAD_MUL, PCNN_LOAD_DIV };
enum { PCNN_LOAD_NUMBERS = 2 };

/* Their names, as those of the ops that do the same. */
extern const char *const pcnn_load_choices[];

typedef struct {
    int64_t dtype;         /* of y */
    int64_t channels_last; /* order of a row: H,W,C, else C,H,W */
    pcnn_ints maps;        /* C, H, W of a row */
    pcnn_ints padding;     /* zeros at the top, bottom, left, right */
    int64_t first, second; /* operations */
} pcnn_load_images_attrs;

/* What becomes of a row. */
typedef struct {
    pcnn_places places;
    int64_t from; /* dtype */
    int64_t operation[PCNN_LOAD_NUMBERS];
    const void *number[PCNN_LOAD_NUMBERS];
    bool as_it_is; /* nothing but movement */
} pcnn_load;

#endif
