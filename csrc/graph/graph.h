/* The graph: ops recorded on values.
 *
 * A *value* is a typed output of a node, or a leaf with memory. A *node* is an op applied to
 * values. A *trace* is the list of nodes recorded and not yet computed: each thread has a lazy one,
 * and a capture is one whose nodes become a plan of their own.
 *
 * Ownership: a value owns its node, a node owns its inputs; a node knows its outputs only weakly.
 * So what nobody can see any more dies, pending or not, except effects, which the trace owns.
 * All of it is guarded by the interpreter lock, which is released while a plan runs: a running
 * node has left its trace, and counts as a reader of its inputs' memory until the run is over. */
#ifndef PCNN_GRAPH_GRAPH_H
#define PCNN_GRAPH_GRAPH_H

#include "core/storage.h"
#include "ops/op.h"

typedef struct pcnn_node pcnn_node;
typedef struct pcnn_trace pcnn_trace;

/* Where gradients are added to: the user's tensor, or NULL when that is gone. */
typedef struct {
    int64_t refs;
    void *tensor; /* borrowed: the tensor clears it when it dies or stands for another value */
} pcnn_leaf;

/* Why a run failed: told to everybody who looks at what it should have made. */
typedef struct {
    int64_t refs;
    pcnn_status status;
    char message[];
} pcnn_failure;

/* What a node was recorded for (label.c). */
typedef enum { PCNN_FORWARD, PCNN_BACKWARD, PCNN_UPDATE } pcnn_phase;

typedef struct pcnn_label {
    int64_t refs;
    struct pcnn_label *below; /* in its thread's stack (owned) */
    pcnn_phase phase;
    char text[];
} pcnn_label;

struct pcnn_value {
    int64_t refs;
    pcnn_type type;
    pcnn_node *node;       /* producer (owned) or NULL */
    int index;             /* which of the node's outputs */
    pcnn_storage *storage; /* numbers, once computed; NULL before */
    pcnn_storage *target;  /* memory that the producer overwrites: an effect's output (owned) */
    uint32_t version;      /* of the storage when this value was made, or will be made */
    int32_t handles;       /* tensors that users hold on it: visible while positive */
    bool requires_grad;
    bool symbolic;         /* inside a capture: never computed */
    int32_t placeholder;   /* index among a capture's placeholders, or -1 */
    uint64_t home;         /* of a placeholder: its capture's number */
    pcnn_leaf *leaf;       /* set where the user asked for gradients (owned) */
    pcnn_value *grad;      /* during backward: the gradient gathered so far (owned) */
    int32_t slot;          /* scratch of the pass that runs now; -1 between passes */
};

typedef enum { PCNN_NODE_PENDING, PCNN_NODE_RUNNING, PCNN_NODE_DONE, PCNN_NODE_FAILED } pcnn_state;

struct pcnn_node {
    int64_t refs; /* live outputs, +1 while the trace owns it as an effect */
    const pcnn_op *op;
    void *attrs;
    pcnn_trace *trace; /* while pending */
    pcnn_node *previous, *next;
    uint64_t sequence; /* grows with every node recorded */
    pcnn_label *label; /* owned, or NULL */
    pcnn_phase phase;
    pcnn_state state;
    bool grad;         /* gradients may be asked of it */
    bool differentiated; /* visited by the backward that runs now */
    bool used;           /* a backward without retain_graph went through */
    bool effect;
    bool reading;        /* counted in pending_readers of its inputs' memory */
    int n_in, n_out;
    pcnn_failure *failure;                 /* of a failed node (owned), or NULL */
    pcnn_value *out[PCNN_MAX_OUT];         /* weak */
    pcnn_storage *saved[PCNN_MAX_OUT];     /* outputs that the gradient reads, kept after a run */
    uint32_t saved_version[PCNN_MAX_OUT];
    pcnn_type out_type[PCNN_MAX_OUT];
    pcnn_value **in;                       /* owned; NULL for absent inputs */
    uint32_t *in_version;                  /* of the inputs' memory when this was recorded */
};

struct pcnn_trace {
    pcnn_node *first, *last;
    int64_t nodes;
    int64_t bytes;    /* estimate of what the pending outputs will take */
    bool capture;
    int32_t placeholders;
    uint64_t number;         /* of a capture: no two are the same */
    pcnn_trace *next_lazy;   /* the list of all lazy traces */
    _Atomic bool orphan;     /* its thread has ended: the next new thread takes it over */
};

/* ---- traces ---- */

pcnn_trace *pcnn_trace_current(void);              /* this thread's capture, or its lazy trace */
pcnn_trace *pcnn_trace_lazy(void);
/* A lazy trace with a pending node that reads or overwrites this memory, or NULL. */
pcnn_trace *pcnn_trace_with_reader(const pcnn_storage *storage);
/* Does a symbolic value belong to this trace? */
bool pcnn_trace_owns(const pcnn_trace *trace, const pcnn_value *value);
void pcnn_trace_set_capture(pcnn_trace *trace);    /* NULL: back to lazy */
pcnn_trace *pcnn_trace_new_capture(void);
void pcnn_trace_free_capture(pcnn_trace *trace);

bool pcnn_grad_enabled(void); /* per thread */
void pcnn_set_grad_enabled(bool enabled);

/* ---- values ---- */

pcnn_value *pcnn_value_new(const pcnn_type *type); /* NULL: out of memory */
pcnn_value *pcnn_value_from_storage(const pcnn_type *type, pcnn_storage *storage /* owned */);
static inline pcnn_value *
pcnn_value_ref(pcnn_value *value)
{
    value->refs++;
    return value;
}
void pcnn_value_unref(pcnn_value *value); /* NULL is fine */
pcnn_leaf *pcnn_leaf_new(void *tensor);
static inline pcnn_leaf *
pcnn_leaf_ref(pcnn_leaf *leaf) /* NULL is fine */
{
    if (leaf)
        leaf->refs++;
    return leaf;
}
void pcnn_leaf_unref(pcnn_leaf *leaf); /* NULL is fine */
static inline bool
pcnn_value_computed(const pcnn_value *value)
{
    return value->storage != NULL;
}

/* ---- labels: what nodes are recorded for ---- */

pcnn_status pcnn_label_push(const char *text, pcnn_phase phase); /* for this thread's next nodes */
bool pcnn_label_pop(void); /* false: there was none */
void pcnn_label_mark(pcnn_node *node); /* a node just recorded */
/* What this thread records next is the gradient of this node; NULL: no gradient any more. */
void pcnn_label_differentiate(const pcnn_node *node);
void pcnn_label_unref(pcnn_label *label); /* NULL is fine */

/* ---- recording ---- */

/* Infers, checks and appends a node to `trace`; stores new references in out[]. Every input must
 * be computed, pending in the same trace, or (in a capture) symbolic in it. Inputs whose memory
 * NumPy can write are copied first, unless this is a capture, which reads memory at each run.
 * For an effect, the output takes over the memory of the input it writes; pending readers of that
 * memory must have run before (see pcnn_record_hazard). */
pcnn_status pcnn_record(pcnn_trace *trace, const pcnn_op *op, const void *attrs,
                        pcnn_value *const *in, int n_in, bool grad_enabled, pcnn_value **out);

/* True where recording the effect `op` must wait until the lazy trace has run. */
bool pcnn_record_hazard(const pcnn_trace *trace, const pcnn_op *op, pcnn_value *const *in,
                        int n_in);

/* `leave` takes a node off its trace: before it runs, or when it dies. After a run, or when that
 * failed, `read` says that it reads no memory any more (all nodes of a run say so before any of
 * their outputs gets memory), and `finish` sets the state and frees what is not needed. */
void pcnn_node_leave(pcnn_node *node);
void pcnn_node_read(pcnn_node *node);
void pcnn_node_finish(pcnn_node *node, pcnn_state state);
void pcnn_node_unref(pcnn_node *node);
/* After backward: the node keeps nothing for another one. */
void pcnn_node_release_graph(pcnn_node *node);

/* Notes this thread's last error message; NULL where there is no memory for it. */
pcnn_failure *pcnn_failure_new(pcnn_status status);
void pcnn_failure_unref(pcnn_failure *failure); /* NULL is fine */
/* Fails again as the run did that should have made the node's outputs. */
pcnn_status pcnn_node_failed(const pcnn_node *node);

/* ---- automatic differentiation ---- */

/* Records the gradient of `loss` (seeded with `seed`, or ones for a scalar) onto `trace`, and calls
 * `found(context, value, gradient)` for every value with a complete gradient, leaves and others.
 * Nodes passed through are marked as used unless `retain`.
 *
 * What the loss depends on may still be pending in another thread's trace, or running: then nothing
 * happens, and *blocked is a value (a new reference) to be computed before the next attempt. */
pcnn_status pcnn_backward(pcnn_trace *trace, pcnn_value *loss, pcnn_value *seed, bool retain,
                          pcnn_status (*found)(void *context, pcnn_value *value,
                                               pcnn_value *gradient),
                          void *context, pcnn_value **blocked);

#endif
