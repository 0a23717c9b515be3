/* A plan: the executable form of a piece of graph.
 *
 * A *program* (nodes on numbered values) is imported from a trace, then the passes work on it in
 * order: dead code, flatten, images, fuse, remember, layout (which also chooses implementations),
 * chain, group, memory. What is left is a list of steps whose operands lie in the arena, in the
 * caller's external memory, or in output buffers. Plans are cached by the structure they were made
 * from (cache.h). */
#ifndef PCNN_PLAN_PLAN_H
#define PCNN_PLAN_PLAN_H

#include "graph/graph.h"

/* Of an op's first implementations the reasons for not being taken are kept, as numbers in a table
 * of the program's: a plan may have many thousand nodes. */
enum { PCNN_MAX_REFUSED = 8, PCNN_MAX_REASONS = 32 };
extern const char pcnn_refused_batch[]; /* the batch is below min_n16_batch */

typedef struct {
    pcnn_type type;
    pcnn_layout layout : 8;
    bool scratch : 1; /* never whole: a plane or a tile at a time, inside a chain */
    bool kept : 1;    /* scratch: the planes of a tile of all blocks, for later phases */
    bool strip : 1;   /* scratch: a strip of a plane */
    int32_t external; /* index of the caller's memory it lives in, or -1 */
    int32_t output;   /* index of the output buffer it lives in, or -1 */
    int32_t root;     /* the value whose arena memory it shares (itself if none) */
    int32_t copy;     /* the same value in the other layout, or -1 */
    int32_t producer; /* node, or -1 */
    int32_t first, last; /* live range in steps; for roots: of all that share it */
    int64_t offset;      /* of a root, in the arena; of scratch, in a worker's piece */
} pcnn_pvalue;

/* Scratch memory of a chain: a piece for each of the threads that there were when it was planned, in
 * the arena. Where there are more when it runs, all pieces lie behind the arena (run.c). */
typedef struct {
    int64_t bytes, pieces; /* of a piece, and how many */
    int64_t offset;        /* in the arena */
    int64_t tile;          /* channels of a tile, at most, where a source or a sink makes tiles */
    /* Steps first_cut .. end_cut - 1 take a plane in so many strips, where there are any. */
    int64_t strips;
    int32_t first_cut, end_cut;
} pcnn_scratch;

typedef struct {
    const pcnn_op *op;
    void *attrs; /* owned */
    int32_t n_in, n_out;
    int32_t *in; /* owned; -1: absent */
    int32_t out[PCNN_MAX_OUT];
    const pcnn_impl *impl;
    int64_t work_bytes, work_offset;
    pcnn_scratch *scratch; /* of the first step of a chain (owned), or NULL */
    /* Steps that run together, plane by plane (chain.c) or as pieces in a row (group.c). */
    int8_t chain; /* of its first step: how many; of the others: -1; of a step alone: 0 */
    int8_t phase, until; /* when it reads first; and last, as it may run again in later phases */
    int32_t units;       /* of a strip, where it takes strips; else 0 */
    bool effect, dead;
    int32_t origin;     /* which node of the segment it came from */
    double ns, last_ns; /* time spent while profiling: in all runs, in the last one */
    int64_t runs;
    /* For each implementation before the chosen one, in the op's order, which of the program's
     * reasons it had not to take the call. */
    uint8_t refused[PCNN_MAX_REFUSED];
} pcnn_pnode;

typedef struct {
    pcnn_pvalue *values;
    int32_t n_values, cap_values;
    pcnn_pnode *nodes;
    int32_t n_nodes, cap_nodes;
    int32_t n_externals, n_outputs;
    const char
        *reasons[PCNN_MAX_REASONS]; /* constant texts; 0: none. What has no room is the last */
} pcnn_program;

typedef struct pcnn_plan {
    int64_t refs;
    pcnn_program program; /* nodes in order of execution */
    pcnn_tensor *tensors; /* operands of all steps, inputs then outputs of each */
    int64_t n_tensors;
    int64_t arena_bytes;
    int64_t threads, piece_bytes; /* planned for; the largest piece of a chain's scratch memory */
    int64_t runs;
    int64_t number;   /* plans are counted as they are made */
    pcnn_label **labels; /* what each node of the segment was recorded for, by its origin */
    unsigned char *phases;
    int32_t n_labels;
    /* Profiling (profile.c): time of whole runs, of what session, and who holds it for that. */
    double ns;
    int64_t timed_runs;
    int32_t timed, noted;
    /* cache */
    void *key;
    size_t key_bytes;
    uint64_t hash;
    struct pcnn_plan *chain, *newer, *older;
} pcnn_plan;

/* ---- building programs ---- */

int32_t pcnn_program_value(pcnn_program *program, const pcnn_type *type); /* -1: no memory */
/* Appends a node; attrs are copied. Returns its index or -1. */
int32_t pcnn_program_node(pcnn_program *program, const pcnn_op *op, const void *attrs,
                          const int32_t *in, int32_t n_in, const int32_t *out);
void pcnn_program_free(pcnn_program *program);
/* Does an effect among nodes from .. to-1 write the caller's memory that value v lies in? */
bool pcnn_program_overwrites(const pcnn_program *program, int32_t v, int32_t from, int32_t to);
/* Finds an attribute by name; NULL where the op has none of it. */
const pcnn_attr *pcnn_op_attr(const pcnn_op *op, const char *name);
/* Does this transpose bring four axes into the order a, b, c, d? */
bool pcnn_permutes(const pcnn_pnode *transpose, int a, int b, int c, int d);

/* ---- passes, one file each ---- */

pcnn_status pcnn_pass_dead(pcnn_program *program);
pcnn_status pcnn_pass_flatten(pcnn_program *program);
pcnn_status pcnn_pass_images(pcnn_program *program);
pcnn_status pcnn_pass_fuse(pcnn_program *program);
pcnn_status pcnn_pass_remember(pcnn_program *program);
pcnn_status pcnn_pass_layout(pcnn_program *program);
pcnn_status pcnn_pass_chain(pcnn_program *program);
pcnn_status pcnn_pass_group(pcnn_program *program);
pcnn_status pcnn_pass_memory(pcnn_program *program, int64_t *arena_bytes);

/* ---- plans ---- */

/* Runs the passes over `program` (taken over) and makes a plan of it. */
pcnn_status pcnn_plan_make(pcnn_program *program, pcnn_plan **result);
void pcnn_plan_unref(pcnn_plan *plan);

/* Runs all steps. The caller holds the run lock (core/parallel.h) and no interpreter lock. Where a
 * step fails, all that was recorded before node *failed (of the segment) is done. */
pcnn_status pcnn_plan_run(pcnn_plan *plan, void *const *externals, void *const *outputs,
                          int32_t *failed);

/* A step's call: its operands begin at `tensors`, inputs first. */
static inline pcnn_site
pcnn_pnode_site(const pcnn_pnode *node, const pcnn_tensor *tensors, char *arena)
{
    return (pcnn_site){.op = node->op,
                       .attrs = node->attrs,
                       .n_in = node->n_in,
                       .n_out = node->n_out,
                       .in = tensors,
                       .out = tensors + node->n_in,
                       .work = node->work_bytes > 0 ? arena + node->work_offset : NULL};
}

/* Runs the steps of a chain, `nodes` being its first. `tensors` are their operands, one step's
 * after the other's; `pieces` is scratch memory, a piece for each thread (sweep.c). */
enum { PCNN_CHAIN_STEPS = 16 };
pcnn_status pcnn_sweep_run(const pcnn_pnode *nodes, const pcnn_pvalue *values,
                           const pcnn_tensor *tensors, char *arena, char *pieces);
int64_t pcnn_plane_bytes(const pcnn_type *type); /* of a plane [H][W][16] */
/* The same for a group; where a step fails, its place in the group is stored to *failed (group.c). */
pcnn_status pcnn_group_run(const pcnn_pnode *nodes, const pcnn_tensor *tensors, char *arena,
                           int *failed);

int64_t pcnn_arena_bytes(void);
int64_t pcnn_arena_guard_errors(void);
void pcnn_arena_trim(void);

/* ---- profiling: which plans ran, and how long ---- */

/* Starts a session: every plan's times begin anew when it runs next. Needs the run lock. */
void pcnn_profile_begin(void);
/* Runs add to no time any more. The session stays open, and no other can begin, until
 * pcnn_profile_clear. Needs the run lock. */
void pcnn_profile_end(void);
bool pcnn_profile_running(void);
/* A plan is about to run: a session holds it until pcnn_profile_clear. Needs the interpreter lock. */
pcnn_status pcnn_profile_note(pcnn_plan *plan);
int32_t pcnn_profile_noted(pcnn_plan *const **plans); /* how many, in order of their first run */
void pcnn_profile_clear(void); /* Needs the interpreter lock. */
/* Whether the plan's times are of this session: one that was noted may have waited for the run lock
 * when the session ended, and still have those of an earlier one. */
bool pcnn_profile_timed(const pcnn_plan *plan);
/* Makes the plan's times those of this session, from zero. For pcnn_plan_run. */
void pcnn_profile_adopt(pcnn_plan *plan);

/* ---- options: those that a plan depends on are part of its key (segment.c) ---- */

typedef struct {
    bool fuse;
    bool chain; /* steps run together: chains and groups; needs fuse */
    bool n16;
    int min_n16_batch;
    _Atomic bool profile; /* add up the time of steps */
    _Atomic int verbose; /* plans are told when made (1), and with times after each run (2) */
} pcnn_options;

extern pcnn_options pcnn_plan_options;

/* Tests and PYCNN_CONV: `op` takes the implementation of this name wherever that accepts, and the
 * ordered choice elsewhere. NULL: the ordered choice everywhere. */
pcnn_status pcnn_force_impl(const char *op, const char *impl);
const char *pcnn_forced_impl(const pcnn_op *op);

#endif
