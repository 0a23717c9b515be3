/* Reverse-mode automatic differentiation: records the gradient of every op that the loss depends
 * on, newest node first, so that each node sees the complete gradient of its outputs.
 *
 * The gradients are ordinary nodes on the same trace: where the forward pass has not run yet, both
 * become one plan. */
#include "graph/graph.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    pcnn_node **at;
    int64_t n, capacity;
} node_list;

typedef struct {
    pcnn_value **at;
    int64_t n, capacity;
} value_list;

typedef struct {
    pcnn_trace *trace;
    node_list nodes;
    value_list leaves;
    pcnn_status (*found)(void *context, pcnn_value *value, pcnn_value *gradient);
    void *context;
    pcnn_value *blocked; /* to be computed before this sweep can be (owned) */
} sweep;

static pcnn_status
no_memory(void)
{
    return pcnn_fail(PCNN_ERR_MEMORY, "backward: out of memory");
}

static pcnn_status
push_node(node_list *list, pcnn_node *node)
{
    if (list->n == list->capacity) {
        int64_t capacity = list->capacity ? 2 * list->capacity : 64;
        pcnn_node **at = realloc(list->at, (size_t)capacity * sizeof *at);
        if (at == NULL)
            return no_memory();
        list->at = at;
        list->capacity = capacity;
    }
    node->refs++;
    list->at[list->n++] = node;
    return PCNN_OK;
}

static pcnn_status
push_leaf(value_list *list, pcnn_value *value)
{
    if (list->n == list->capacity) {
        int64_t capacity = list->capacity ? 2 * list->capacity : 64;
        pcnn_value **at = realloc(list->at, (size_t)capacity * sizeof *at);
        if (at == NULL)
            return no_memory();
        list->at = at;
        list->capacity = capacity;
    }
    list->at[list->n++] = pcnn_value_ref(value);
    return PCNN_OK;
}

static int
newest_first(const void *a, const void *b)
{
    uint64_t sa = (*(pcnn_node *const *)a)->sequence, sb = (*(pcnn_node *const *)b)->sequence;
    return sa < sb ? 1 : sa > sb ? -1 : 0;
}

/* A value is a leaf where the user's tensor collects its gradient or nothing recorded made it. */
static bool
is_leaf(const pcnn_value *value)
{
    return value->leaf != NULL || value->node == NULL || !value->node->grad;
}

static pcnn_status
visit(sweep *s, pcnn_value *value)
{
    pcnn_node *node = value->node;
    if (node->state == PCNN_NODE_FAILED)
        return pcnn_node_failed(node);
    if (node->state == PCNN_NODE_RUNNING ||
        (node->state == PCNN_NODE_PENDING && node->trace != s->trace)) {
        s->blocked = pcnn_value_ref(value);
        return pcnn_fail(PCNN_ERR_RUNTIME, "backward: another thread computes this graph");
    }
    PCNN_TRY(push_node(&s->nodes, node));
    node->differentiated = true;
    return PCNN_OK;
}

/* Finds all nodes that the loss depends on, each once. */
static pcnn_status
collect(sweep *s, pcnn_value *loss)
{
    if (is_leaf(loss))
        return PCNN_OK;
    PCNN_TRY(visit(s, loss));
    for (int64_t k = 0; k < s->nodes.n; k++) {
        pcnn_node *node = s->nodes.at[k];
        for (int i = 0; i < node->n_in; i++) {
            pcnn_value *in = node->in[i];
            if (in == NULL || !in->requires_grad || is_leaf(in) || in->node->differentiated)
                continue;
            PCNN_TRY(visit(s, in));
        }
    }
    return PCNN_OK;
}

static pcnn_status
accumulate(sweep *s, pcnn_value *value, pcnn_value *gradient /* owned */)
{
    if (value->grad == NULL) {
        if (is_leaf(value)) {
            pcnn_status status = push_leaf(&s->leaves, value);
            if (status != PCNN_OK) {
                pcnn_value_unref(gradient);
                return status;
            }
        }
        value->grad = gradient;
        return PCNN_OK;
    }
    pcnn_value *sum = NULL;
    pcnn_status status = pcnn_record(s->trace, &pcnn_op_add, NULL,
                                     (pcnn_value *const[]){value->grad, gradient}, 2, false, &sum);
    pcnn_value_unref(gradient);
    if (status == PCNN_OK) {
        pcnn_value_unref(value->grad);
        value->grad = sum;
    }
    return status;
}

static pcnn_status
stale(const pcnn_node *node)
{
    return pcnn_fail(PCNN_ERR_RUNTIME,
                     "backward: a tensor that the gradient of %s needs was changed by an in-place "
                     "operation after it was used",
                     node->op->name);
}

/* In a capture nothing has a version yet: is there an effect on this memory after the node? */
static bool
overwritten_later(const pcnn_node *node, const pcnn_storage *memory)
{
    for (const pcnn_node *later = node->next; later && memory; later = later->next)
        for (int o = 0; o < later->n_out && later->effect; o++)
            if (later->op->writes[o] && later->out[o] && later->out[o]->target == memory)
                return true;
    return false;
}

/* What the gradient reads must still hold the numbers that the node saw or made. */
static pcnn_status
check_saved(const pcnn_node *node)
{
    const bool capture = node->trace != NULL && node->trace->capture;
    for (int i = 0; i < node->n_in; i++) {
        const pcnn_value *in = node->in[i];
        int bit = node->op->n_in == PCNN_VARIADIC ? 0 : i;
        if (in == NULL || !(node->op->saves_in >> bit & 1))
            continue;
        if (in->storage != NULL && in->storage->version != node->in_version[i])
            return stale(node);
        if (capture && overwritten_later(node, in->storage ? in->storage : in->target))
            return stale(node);
    }
    for (int o = 0; o < node->n_out; o++)
        if (node->saved[o] != NULL && node->saved[o]->version != node->saved_version[o])
            return stale(node);
    return PCNN_OK;
}

/* The node's outputs as values; one that died is made again around its saved memory. */
static pcnn_value *
output_value(pcnn_node *node, int o)
{
    if (node->out[o] != NULL)
        return pcnn_value_ref(node->out[o]);
    pcnn_value *value = pcnn_value_new(&node->out_type[o]);
    if (value == NULL)
        return NULL;
    value->node = node;
    value->index = o;
    value->requires_grad = pcnn_is_float(value->type.dtype);
    value->symbolic = node->trace != NULL && node->trace->capture;
    if (node->saved[o] != NULL) {
        value->storage = pcnn_storage_ref(node->saved[o]);
        value->version = node->saved_version[o];
    }
    node->out[o] = value;
    node->refs++;
    return value;
}

static pcnn_status
differentiate(sweep *s, pcnn_node *node)
{
    int n = node->n_in;
    pcnn_value *out[PCNN_MAX_OUT] = {NULL}, *dout[PCNN_MAX_OUT] = {NULL};
    bool any = false;
    PCNN_TRY(check_saved(node));
    for (int o = 0; o < node->n_out; o++) {
        if (node->out[o] != NULL && node->out[o]->grad != NULL) {
            dout[o] = pcnn_value_ref(node->out[o]->grad);
            any = true;
        }
    }
    if (!any)
        return PCNN_OK;
    pcnn_status status = PCNN_OK;
    pcnn_value **din = calloc((size_t)n, sizeof *din);
    bool *wanted = calloc((size_t)n, sizeof *wanted);
    if (din == NULL || wanted == NULL)
        status = no_memory();
    for (int o = 0; o < node->n_out && status == PCNN_OK; o++)
        if ((out[o] = output_value(node, o)) == NULL)
            status = PCNN_ERR_MEMORY;
    if (status == PCNN_OK) {
        for (int i = 0; i < n; i++)
            wanted[i] = node->in[i] != NULL && node->in[i]->requires_grad;
        pcnn_grad grad = {node->attrs, n, node->n_out, node->in, out, dout, din, wanted, s->trace};
        status = node->op->gradient(&grad);
        for (int i = 0; i < n; i++) {
            if (din[i] == NULL)
                continue;
            if (status == PCNN_OK && wanted[i])
                status = accumulate(s, node->in[i], din[i]);
            else
                pcnn_value_unref(din[i]);
        }
    }
    for (int o = 0; o < node->n_out; o++) {
        if (dout[o] != NULL) {
            if (status == PCNN_OK && node->out[o] != NULL)
                status = s->found(s->context, node->out[o], dout[o]);
            /* This node was the last to read it. */
            if (node->out[o] != NULL && !(node->out[o]->leaf)) {
                pcnn_value_unref(node->out[o]->grad);
                node->out[o]->grad = NULL;
            }
            pcnn_value_unref(dout[o]);
        }
        pcnn_value_unref(out[o]);
    }
    free(din);
    free(wanted);
    return status;
}

static pcnn_status
check_first_time(const sweep *s)
{
    for (int64_t k = 0; k < s->nodes.n; k++) {
        const pcnn_node *node = s->nodes.at[k];
        if (node->used)
            return pcnn_fail(PCNN_ERR_RUNTIME,
                             "backward: the graph was already used and freed: call the first "
                             "backward with retain_graph=True");
    }
    return PCNN_OK;
}

pcnn_status
pcnn_backward(pcnn_trace *trace, pcnn_value *loss, pcnn_value *seed, bool retain,
              pcnn_status (*found)(void *context, pcnn_value *value, pcnn_value *gradient),
              void *context, pcnn_value **blocked)
{
    *blocked = NULL;
    char text[PCNN_SHAPE_TEXT], other[PCNN_SHAPE_TEXT];
    if (!loss->requires_grad)
        return pcnn_fail(PCNN_ERR_RUNTIME,
                         "backward: the tensor does not require a gradient and none of the "
                         "tensors it was computed from does");
    if (seed == NULL && pcnn_type_size(&loss->type) != 1)
        return pcnn_fail(PCNN_ERR_RUNTIME,
                         "backward: a gradient can be made implicitly for a scalar only; this "
                         "tensor has shape %s: reduce it or pass gradient=",
                         pcnn_shape_text(&loss->type, text));
    if (seed != NULL && !pcnn_type_equal(&seed->type, &loss->type))
        return pcnn_fail(PCNN_ERR_SHAPE,
                         "backward: gradient must have shape %s and dtype %s, got "
                         "shape %s and dtype %s",
                         pcnn_shape_text(&loss->type, text), pcnn_dtype_name(loss->type.dtype),
                         pcnn_shape_text(&seed->type, other), pcnn_dtype_name(seed->type.dtype));
    sweep s = {.trace = trace, .found = found, .context = context};
    pcnn_grad self = {.recorder = trace};
    pcnn_value *first = seed ? pcnn_value_ref(seed) : NULL;
    pcnn_status status = PCNN_OK;
    if (first == NULL) {
        status = pcnn_emit_constant(&self, loss->type.dtype, 1.0, &first);
        if (status == PCNN_OK)
            first->type = loss->type; /* one element, whatever its rank */
    }
    if (status == PCNN_OK)
        status = collect(&s, loss);
    if (status == PCNN_OK)
        status = check_first_time(&s);
    if (s.nodes.n > 1)
        qsort(s.nodes.at, (size_t)s.nodes.n, sizeof *s.nodes.at, newest_first);
    if (status == PCNN_OK)
        status = accumulate(&s, loss, pcnn_value_ref(first));
    for (int64_t k = 0; k < s.nodes.n && status == PCNN_OK; k++) {
        pcnn_label_differentiate(s.nodes.at[k]);
        status = differentiate(&s, s.nodes.at[k]);
    }
    pcnn_label_differentiate(NULL);
    for (int64_t k = 0; k < s.leaves.n; k++) {
        pcnn_value *value = s.leaves.at[k], *gradient = value->grad;
        value->grad = NULL;
        if (status == PCNN_OK && gradient != NULL)
            status = found(context, value, gradient);
        pcnn_value_unref(gradient);
        pcnn_value_unref(value);
    }
    for (int64_t k = 0; k < s.nodes.n; k++) {
        pcnn_node *node = s.nodes.at[k];
        node->differentiated = false;
        for (int o = 0; o < node->n_out; o++)
            if (node->out[o] != NULL) {
                pcnn_value_unref(node->out[o]->grad);
                node->out[o]->grad = NULL;
            }
        if (status == PCNN_OK && !retain && !trace->capture)
            pcnn_node_release_graph(node);
        pcnn_node_unref(node);
    }
    free(s.nodes.at);
    free(s.leaves.at);
    pcnn_value_unref(first);
    *blocked = s.blocked;
    return status;
}

/* ---- what gradient functions call ---- */

pcnn_status
pcnn_emit(pcnn_grad *grad, const pcnn_op *op, const void *attrs, pcnn_value *const *inputs,
          int n_in, pcnn_value **out)
{
    return pcnn_record(grad->recorder, op, attrs, inputs, n_in, false, out);
}

pcnn_status
pcnn_emit_constant(pcnn_grad *grad, pcnn_dtype dtype, double number, pcnn_value **out)
{
    (void)grad;
    const pcnn_type type = {dtype, 0, {0}};
    pcnn_storage *storage = pcnn_storage_new(8);
    if (storage == NULL)
        return PCNN_ERR_MEMORY;
    if (dtype == PCNN_F64)
        *(double *)storage->data = number;
    else
        *(float *)storage->data = (float)number;
    *out = pcnn_value_from_storage(&type, storage);
    return *out ? PCNN_OK : PCNN_ERR_MEMORY;
}
