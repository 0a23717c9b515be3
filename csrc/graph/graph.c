/* Values, nodes and traces: making them, and letting them die. */
#include "graph/graph.h"

#include <stdlib.h>
#include <string.h>

#include "core/parallel.h"

/* ---- traces: one lazy trace a thread, in a list that never shrinks ---- */

static _Thread_local pcnn_trace *lazy;
static _Thread_local pcnn_trace *capturing;
static _Thread_local bool grad_disabled;
static pcnn_trace *all_lazy;

static void
abandon(void *trace)
{
    ((pcnn_trace *)trace)->orphan = true;
}

pcnn_trace *
pcnn_trace_lazy(void)
{
    if (lazy != NULL)
        return lazy;
    /* What a thread left pending when it ended goes to its successor. */
    for (pcnn_trace *trace = all_lazy; trace && lazy == NULL; trace = trace->next_lazy)
        if (trace->orphan) {
            trace->orphan = false;
            lazy = trace;
        }
    if (lazy == NULL) {
        lazy = calloc(1, sizeof *lazy);
        if (lazy == NULL)
            return NULL;
        lazy->next_lazy = all_lazy;
        all_lazy = lazy;
    }
    pcnn_at_thread_exit(abandon, lazy);
    return lazy;
}

pcnn_trace *
pcnn_trace_with_reader(const pcnn_storage *storage)
{
    for (pcnn_trace *trace = all_lazy; trace; trace = trace->next_lazy)
        for (const pcnn_node *node = trace->first; node; node = node->next)
            for (int i = 0; i < node->n_in; i++)
                if (node->in[i] != NULL && node->in[i]->storage == storage)
                    return trace;
    return NULL;
}

bool
pcnn_trace_owns(const pcnn_trace *trace, const pcnn_value *value)
{
    if (value->node != NULL)
        return value->node->trace == trace;
    return trace->capture && value->home == trace->number;
}

pcnn_trace *
pcnn_trace_current(void)
{
    return capturing ? capturing : pcnn_trace_lazy();
}

void
pcnn_trace_set_capture(pcnn_trace *trace)
{
    capturing = trace;
}

pcnn_trace *
pcnn_trace_new_capture(void)
{
    static uint64_t captures;
    pcnn_trace *trace = calloc(1, sizeof *trace);
    if (trace != NULL) {
        trace->capture = true;
        trace->number = ++captures;
    }
    return trace;
}

void
pcnn_trace_free_capture(pcnn_trace *trace)
{
    while (trace->first != NULL)
        pcnn_node_finish(trace->first, PCNN_NODE_FAILED);
    free(trace);
}

bool
pcnn_grad_enabled(void)
{
    return !grad_disabled;
}

void
pcnn_set_grad_enabled(bool enabled)
{
    grad_disabled = !enabled;
}

/* ---- values ---- */

pcnn_value *
pcnn_value_new(const pcnn_type *type)
{
    pcnn_value *value = calloc(1, sizeof *value);
    if (value == NULL) {
        (void)pcnn_fail(PCNN_ERR_MEMORY, "cannot allocate a graph value");
        return NULL;
    }
    value->refs = 1;
    value->type = *type;
    value->placeholder = -1;
    value->slot = -1;
    return value;
}

pcnn_value *
pcnn_value_from_storage(const pcnn_type *type, pcnn_storage *storage)
{
    pcnn_value *value = storage ? pcnn_value_new(type) : NULL;
    if (value == NULL) {
        pcnn_storage_unref(storage);
        return NULL;
    }
    value->storage = storage;
    value->version = storage->version;
    return value;
}

pcnn_leaf *
pcnn_leaf_new(void *tensor)
{
    pcnn_leaf *leaf = calloc(1, sizeof *leaf);
    if (leaf == NULL) {
        (void)pcnn_fail(PCNN_ERR_MEMORY, "cannot allocate a leaf");
        return NULL;
    }
    leaf->refs = 1;
    leaf->tensor = tensor;
    return leaf;
}

void
pcnn_leaf_unref(pcnn_leaf *leaf)
{
    if (leaf != NULL && --leaf->refs == 0)
        free(leaf);
}

/* A chain of a million pending ops must not be freed by recursion: nodes that lose their last
 * reference wait here and are freed in a loop. */
static _Thread_local pcnn_node *dying;
static _Thread_local bool burying;

static void
note_readers(pcnn_node *node, int change)
{
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] != NULL && node->in[i]->storage != NULL)
            node->in[i]->storage->pending_readers += change;
}

void
pcnn_node_read(pcnn_node *node)
{
    if (node->reading)
        note_readers(node, -1);
    node->reading = false;
}

void
pcnn_node_leave(pcnn_node *node)
{
    pcnn_trace *trace = node->trace;
    if (trace == NULL)
        return;
    if (node->previous)
        node->previous->next = node->next;
    else
        trace->first = node->next;
    if (node->next)
        node->next->previous = node->previous;
    else
        trace->last = node->previous;
    node->previous = node->next = NULL;
    node->trace = NULL;
    trace->nodes--;
    for (int o = 0; o < node->n_out; o++)
        trace->bytes -= pcnn_layout_bytes(&node->out_type[o], PCNN_PLAIN);
}

static void
bury(pcnn_node *node)
{
    for (int o = 0; o < node->n_out; o++)
        pcnn_storage_unref(node->saved[o]);
    for (int i = 0; i < node->n_in; i++)
        pcnn_value_unref(node->in[i]);
    pcnn_failure_unref(node->failure);
    pcnn_label_unref(node->label);
    free(node);
}

void
pcnn_node_unref(pcnn_node *node)
{
    if (--node->refs > 0)
        return;
    pcnn_node_leave(node);
    pcnn_node_read(node);
    node->next = dying;
    dying = node;
    if (burying)
        return;
    burying = true;
    while (dying != NULL) {
        pcnn_node *dead = dying;
        dying = dead->next;
        dead->next = NULL;
        bury(dead);
    }
    burying = false;
}

void
pcnn_value_unref(pcnn_value *value)
{
    if (value == NULL || --value->refs > 0)
        return;
    pcnn_node *node = value->node;
    if (node != NULL)
        node->out[value->index] = NULL;
    pcnn_storage_unref(value->storage);
    pcnn_storage_unref(value->target);
    pcnn_value_unref(value->grad);
    pcnn_leaf_unref(value->leaf);
    free(value);
    if (node != NULL)
        pcnn_node_unref(node);
}

const pcnn_type *
pcnn_value_type(const pcnn_value *value)
{
    return &value->type;
}

void
pcnn_value_release(pcnn_value *value)
{
    pcnn_value_unref(value);
}

pcnn_value *
pcnn_value_retain(pcnn_value *value)
{
    return pcnn_value_ref(value);
}

void
pcnn_node_finish(pcnn_node *node, pcnn_state state)
{
    node->refs++; /* the steps below may drop the last reference */
    node->state = state;
    pcnn_node_leave(node);
    pcnn_node_read(node);
    bool owned = node->effect;
    node->effect = false;
    if (!node->grad || node->used || state == PCNN_NODE_FAILED) {
        /* Nothing will ask this node again: free what it was computed from. */
        for (int i = 0; i < node->n_in; i++) {
            pcnn_value_unref(node->in[i]);
            node->in[i] = NULL;
        }
        if (state == PCNN_NODE_DONE && !node->grad)
            for (int o = 0; o < node->n_out; o++)
                if (node->out[o] != NULL) {
                    node->out[o]->node = NULL;
                    node->out[o] = NULL;
                    node->refs--;
                }
    }
    if (owned)
        node->refs--;
    pcnn_node_unref(node);
}

void
pcnn_node_release_graph(pcnn_node *node)
{
    node->used = true;
    for (int o = 0; o < node->n_out; o++) {
        pcnn_storage_unref(node->saved[o]);
        node->saved[o] = NULL;
    }
    /* A pending node still needs its inputs to be computed from; they go when it has run. */
    if (node->state == PCNN_NODE_DONE)
        for (int i = 0; i < node->n_in; i++) {
            pcnn_value_unref(node->in[i]);
            node->in[i] = NULL;
        }
}

pcnn_failure *
pcnn_failure_new(pcnn_status status)
{
    const char *message = pcnn_error_message();
    size_t bytes = strlen(message) + 1;
    pcnn_failure *failure = malloc(sizeof *failure + bytes);
    if (failure != NULL) {
        failure->refs = 1;
        failure->status = status;
        memcpy(failure->message, message, bytes);
    }
    return failure;
}

void
pcnn_failure_unref(pcnn_failure *failure)
{
    if (failure != NULL && --failure->refs == 0)
        free(failure);
}

pcnn_status
pcnn_node_failed(const pcnn_node *node)
{
    if (node != NULL && node->failure != NULL)
        return pcnn_fail(node->failure->status, "%s", node->failure->message);
    return pcnn_fail(PCNN_ERR_RUNTIME, "the computation that should have made this tensor failed");
}
