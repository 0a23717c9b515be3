/* The op contract.
 *
 * An op is one file, <op>.c: its formula, `infer` (shapes, dtypes and all checks of user input),
 * `gradient` (which ops make its derivative) and an ordered list of implementations, fastest
 * first, the plain reference last. The first whose `refuse` has no reason runs; choices depend on
 * shape, dtype, layout and instruction set, never on timing. Hot loops stand in <op>.kernel.c.
 *
 * A new op is a line OP(name) in ops.def and its file; nothing else changes. */
#ifndef PCNN_OPS_OP_H
#define PCNN_OPS_OP_H

#include "core/tensor.h"

typedef struct pcnn_op pcnn_op;
typedef struct pcnn_value pcnn_value; /* graph/graph.h */
typedef struct pcnn_grad pcnn_grad;

/* ---- attributes: structural numbers, part of a plan's key ---- */

typedef enum {
    PCNN_ATTR_INT,    /* int64_t */
    PCNN_ATTR_REAL,   /* double */
    PCNN_ATTR_BOOL,   /* int64_t, 0 or 1 */
    PCNN_ATTR_INTS,   /* pcnn_ints: a tuple of up to 2*PCNN_MAX_NDIM ints (or one int) */
    PCNN_ATTR_DTYPE,  /* int64_t holding a pcnn_dtype; -1: "as the input" (None) */
    PCNN_ATTR_CHOICE, /* int64_t: index into `choices`, written as a string in Python */
} pcnn_attr_kind;

typedef struct {
    int64_t n; /* -1: not given (None) */
    int64_t at[2 * PCNN_MAX_NDIM];
} pcnn_ints;

/* One attribute: the generic binder reads this, so an op needs no binding code of its own.
 * Attribute structs hold only the types named above, are zeroed first, and are compared by bytes. */
typedef struct {
    const char *name;
    pcnn_attr_kind kind;
    size_t offset;
    /* Default in Python syntax of small means: "1", "0.5", "True", "None", "(1, 1)", or a choice's
     * name. NULL: required. */
    const char *initial;
    const char *const *choices; /* PCNN_ATTR_CHOICE: NULL-terminated */
} pcnn_attr;

#define PCNN_ATTR(type, member, kind, initial) \
    {#member, kind, offsetof(type, member), initial, NULL}

/* ---- recording: what infer sees ---- */

typedef struct {
    const pcnn_op *op;
    const void *attrs;
    int n_in;
    const pcnn_type *in; /* absent optional inputs have ndim -1 */
} pcnn_call;

/* ---- running: a call placed in a plan ---- */

typedef struct {
    const pcnn_op *op;
    const void *attrs;
    int n_in, n_out;
    const pcnn_tensor *in; /* while planning, data is NULL and layout is what the impl declared */
    const pcnn_tensor *out;
    void *work; /* the booked workspace, 64-byte aligned, contents undefined */
} pcnn_site;

/* One plane [H][W][16] of a call in N16: a block of sixteen images, a channel; or a strip of it. */
typedef struct {
    int64_t block, channel;
    int64_t begin, end; /* the rows of output 0 */
    const void *job;    /* what `prepare` made of the call */
    const void *const
        *in; /* of an operand in N16 the strip's first row; of a plain one the whole */
    void *const *out;
} pcnn_plane;

/* What can only be the first step of a chain: it needs all of its inputs, and makes whole planes of
 * its one output, those of a tile of neighbouring channels at a time (convolution). A plan cuts the
 * C channels evenly into tiles of at most `width`; bits do not depend on the cut. */
typedef struct {
    int64_t (*width)(const pcnn_site *site);
    double (*prepare)(const pcnn_site *site,
                      int64_t tiles); /* before all; the rough cost of them in ns */
    void (*fill)(const pcnn_site *site, int64_t block, int64_t tile, int64_t tiles, void *planes);
    bool (*cheap)(const pcnn_site *site); /* rather made again than stored and read */
} pcnn_source;

/* What can only be the last step of a chain: it takes the planes of its input 1, a tile of channels
 * at a time, needs all of its other inputs, and has no N16 result (gradients of weights). */
typedef struct {
    int64_t (*width)(const pcnn_site *site);
    void (*take)(const pcnn_site *site, int64_t block, int64_t tile, int64_t tiles,
                 const void *planes);
    void (*finish)(const pcnn_site *site); /* when all are taken */
} pcnn_sink;

/* Room for what an implementation makes once of a call in a chain, before its planes. */
enum { PCNN_PLANE_JOB_BYTES = 256 };
typedef struct {
    max_align_t at[PCNN_PLANE_JOB_BYTES / sizeof(max_align_t)];
} pcnn_plane_job;

/* An implementation whose N16 results depend, plane by plane, on the same planes of its N16 inputs
 * can run in a chain (plan/chain.c): a few steps on a plane while it is in the cache. In `site`,
 * data of N16 operands may be NULL: only `plane` knows where they are. The bits are those of run. */
typedef struct {
    bool (*accepts)(const pcnn_site *site); /* NULL: every call that the implementation takes */
    /* What is the same for all planes, made once before they are gone through; or NULL. */
    void (*prepare)(const pcnn_site *site, pcnn_plane_job *job);
    /* Where numbers of a whole channel are needed first: its planes' sums into the workspace, and
     * when all planes have been seen, what the channel's plain outputs and `apply` need. Else
     * NULL. */
    void (*sums)(const pcnn_site *site, const pcnn_plane *plane);
    void (*finish)(const pcnn_site *site, int64_t channel);
    void (*apply)(const pcnn_site *site, const pcnn_plane *plane); /* fills the N16 outputs */
    /* Where planes may come in strips: how many rows of its plane a unit of operand k has (inputs
     * first; all operands are cut into units alike, and the last takes what rows are left). 0: this
     * call takes whole planes. NULL: every call does. */
    int64_t (*rows)(const pcnn_site *site, int k);
    bool cheap; /* rather made again from planes at hand than stored and read */
    const pcnn_source *source; /* if one of these is not NULL, all else is */
    const pcnn_sink *sink;
} pcnn_planes;

typedef struct {
    const char *name; /* "n16", "im2col", "reference", ... */
    /* Bit i: input (output) i is in layout N16; every other is plain. An implementation with
     * n16_in != 0 or n16_out != 0 is only considered for batches of 8 and more. */
    uint32_t n16_in, n16_out;
    /* Bit i: output 0 may share memory with input i (same type and layout; read before written
     * element by element). */
    uint32_t in_place;
    /* NULL or a reason such as "stride > 2"; a NULL function accepts everything. */
    const char *(*refuse)(const pcnn_site *site);
    int64_t (*workspace)(const pcnn_site *site); /* bytes; NULL: none */
    pcnn_status (*run)(const pcnn_site *site);
    const pcnn_planes *planes; /* NULL: does not run in chains */
} pcnn_impl;

/* Work that is nothing but pieces, each of its own numbers: calls of such an op that do not depend on
 * each other can run as one, their pieces in a row (ops/pieces.h, plan/group.c). */
enum { PCNN_JOB_BYTES = 512 };
typedef struct {
    /* Checks the numbers and readies `job`, PCNN_JOB_BYTES of memory: how many pieces, and a rough
     * cost of them in ns. Where it fails, nothing has been written. */
    pcnn_status (*prepare)(const pcnn_site *site, void *job, int64_t *pieces, double *cost_ns);
    void (*run)(const void *job, int64_t begin, int64_t end);
    void (*finish)(const void *job); /* when all are done; or NULL */
    int64_t grain; /* pieces that a thread takes at once */
} pcnn_pieces;

/* ---- the op ---- */

typedef struct {
    const char *name;
    bool optional; /* only the last inputs may be optional */
} pcnn_param;

enum { PCNN_MAX_OUT = 4, PCNN_VARIADIC = -1 };

enum {
    PCNN_OP_INTERNAL = 1, /* not offered in Python: made by gradients and passes */
    PCNN_OP_ALIAS = 2, /* output 0 is input 0's bytes with another shape (plain layout): no copy */
    /* Elementwise ops and movement: their N16 implementations are considered only when a rank-4
     * input is in N16 already (or, with n16_in == 0, when every reader prefers N16). */
    PCNN_OP_FOLLOWS = 4,
};

struct pcnn_op {
    const char *name;
    const char *doc; /* first line: the formula; then shapes, errors, source */
    int n_in; /* PCNN_VARIADIC: one or more inputs, all described by params[0] */
    pcnn_param params[8];
    int n_out;
    const char *out_names[PCNN_MAX_OUT];
    const pcnn_attr *attrs; /* ended by name NULL; NULL: none */
    size_t attrs_size;
    /* Which inputs and outputs `gradient` reads, as bits: kept after a forward run. */
    uint32_t saves_in, saves_out;
    /* writes[o] - 1 is the input whose memory output o overwrites (0: none): an effect. */
    uint8_t writes[PCNN_MAX_OUT];
    int flags;
    /* Fills out[0..n_out-1]; makes all checks of user input that do not need the numbers. */
    pcnn_status (*infer)(const pcnn_call *call, pcnn_type *out);
    pcnn_status (*gradient)(pcnn_grad *grad); /* NULL: has none (integers, effects) */
    const pcnn_impl *impls; /* ended by name NULL */
    const pcnn_pieces *pieces; /* what all implementations do, if it is pieces; or NULL */
};

#define OP(name) extern const pcnn_op pcnn_op_##name;
#include "ops/ops.def"
#undef OP

extern const pcnn_op *const pcnn_ops[]; /* all, in the order of ops.def; NULL ends the list */

/* ---- gradients ---- */

/* What `gradient` reads and fills. dout[o] is NULL where no gradient arrives at output o; at least
 * one is there. din[i] is to be filled where wanted[i]; it may stay NULL for "zero". Values put
 * into din are new references made by the pcnn_emit functions. Optional absent inputs are NULL. */
struct pcnn_grad {
    const void *attrs;
    int n_in, n_out;
    pcnn_value *const *in;
    pcnn_value *const *out;
    pcnn_value *const *dout;
    pcnn_value **din;
    const bool *wanted;
    void *recorder;
};

/* Records `op` on `inputs` (borrowed; NULL for absent) and stores new references to its outputs in
 * out[0 .. op->n_out-1]. attrs may be NULL for an op without attributes. */
pcnn_status pcnn_emit(pcnn_grad *grad, const pcnn_op *op, const void *attrs,
                      pcnn_value *const *inputs, int n_in, pcnn_value **out);

/* The common case: one output. din = op(a, b, ...); unused inputs NULL. Variadic: PCNN_EMIT. */
#define PCNN_EMIT(grad, destination, op, attrs, ...)                                    \
    pcnn_emit((grad), &pcnn_op_##op, (attrs), (pcnn_value *const[]){__VA_ARGS__},       \
              (int)(sizeof((pcnn_value *const[]){__VA_ARGS__}) / sizeof(pcnn_value *)), \
              (destination))

const pcnn_type *pcnn_value_type(const pcnn_value *value);
void pcnn_value_release(pcnn_value *value); /* for intermediate values of a gradient */
pcnn_value *pcnn_value_retain(pcnn_value *value); /* where din is dout itself: a new reference */
/* A scalar constant of a float dtype (its number is a run-time input of the plan). */
pcnn_status pcnn_emit_constant(pcnn_grad *grad, pcnn_dtype dtype, double number, pcnn_value **out);

/* ---- helpers for infer ---- */

/* "conv2d: x must be ..., got ..." for dtype and rank. */
pcnn_status pcnn_expect_float(const pcnn_call *call, int input);
pcnn_status pcnn_expect_rank(const pcnn_call *call, int input, int rank);
pcnn_status pcnn_expect_same_dtype(const pcnn_call *call, int a, int b); /* absent inputs pass */
/* Shape of input `input` must be {...}; `why` explains ("OC of w"). */
pcnn_status pcnn_expect_shape1(const pcnn_call *call, int input, int64_t n, const char *why);
const char *pcnn_param_name(const pcnn_call *call, int input);
/* Brings an axis of -ndim..ndim-1 into 0..ndim-1 or fails naming the op. */
pcnn_status pcnn_normalize_axis(const pcnn_call *call, int64_t axis, int ndim, int *result);

#endif
