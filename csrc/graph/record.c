/* Recording: infer, check, append. */
#include "graph/graph.h"

#include <stdlib.h>
#include <string.h>

/* One for all threads: a graph may have been recorded by several. */
static uint64_t sequence;

/* Makes `copy` the output of a node that has run, through which gradients find `value`. */
static bool
link_copy(pcnn_value *copy, pcnn_value *value)
{
    pcnn_node *node = calloc(1, sizeof *node + sizeof(pcnn_value *) + sizeof(uint32_t));
    if (node == NULL)
        return false;
    node->refs = 1;
    node->op = &pcnn_op_copy;
    node->in = (pcnn_value **)(node + 1);
    node->in_version = (uint32_t *)(node->in + 1);
    node->in[0] = pcnn_value_ref(value);
    node->n_in = node->n_out = 1;
    node->out[0] = copy;
    node->out_type[0] = copy->type;
    node->grad = true;
    node->sequence = ++sequence;
    node->state = PCNN_NODE_DONE;
    copy->node = node;
    return true;
}

/* Memory that NumPy can write may change between record and look: such an input is copied now.
 * Its gradient still goes to the user's tensor, or to what the tensor was computed from. */
static pcnn_value *
snapshot(pcnn_value *value)
{
    pcnn_storage *copy = pcnn_storage_new(pcnn_layout_bytes(&value->type, PCNN_PLAIN));
    pcnn_value *result = pcnn_value_from_storage(&value->type, copy);
    if (result == NULL)
        return NULL;
    memcpy(copy->data, value->storage->data, (size_t)copy->bytes);
    result->requires_grad = value->requires_grad;
    result->leaf = pcnn_leaf_ref(value->leaf);
    if (value->leaf == NULL && value->node != NULL && value->node->grad &&
        !link_copy(result, value)) {
        (void)pcnn_fail(PCNN_ERR_MEMORY, "cannot allocate a graph node");
        pcnn_value_unref(result);
        return NULL;
    }
    return result;
}

static pcnn_status
check_count(const pcnn_op *op, pcnn_value *const *in, int n_in)
{
    if (op->n_in == PCNN_VARIADIC) {
        if (n_in < 1)
            return pcnn_fail(PCNN_ERR_VALUE, "%s: expected at least one input", op->name);
    }
    else if (n_in > op->n_in) {
        return pcnn_fail(PCNN_ERR_TYPE, "%s: expected at most %d inputs, got %d", op->name,
                         op->n_in, n_in);
    }
    int described = op->n_in == PCNN_VARIADIC ? n_in : op->n_in;
    for (int i = 0; i < described; i++) {
        const pcnn_param *param = &op->params[op->n_in == PCNN_VARIADIC ? 0 : i];
        if ((i >= n_in || in[i] == NULL) && !param->optional)
            return pcnn_fail(PCNN_ERR_TYPE, "%s: %s is missing", op->name, param->name);
    }
    return PCNN_OK;
}

bool
pcnn_record_hazard(const pcnn_trace *trace, const pcnn_op *op, pcnn_value *const *in, int n_in)
{
    if (trace->capture)
        return false;
    for (int o = 0; o < op->n_out; o++) {
        int i = op->writes[o] - 1;
        if (i < 0 || i >= n_in || in[i] == NULL)
            continue;
        /* Pending readers must see the old numbers; a pending write to the memory comes first. */
        if (in[i]->storage ? in[i]->storage->pending_readers > 0 : in[i]->target != NULL)
            return true;
    }
    return false;
}

/* The output of an effect takes over the memory of the input it overwrites. An input that has no
 * memory yet is simply replaced by the new value. */
static void
take_over(pcnn_node *node, pcnn_value *const *in)
{
    for (int o = 0; o < node->n_out; o++) {
        int i = node->op->writes[o] - 1;
        if (i < 0 || in[i] == NULL)
            continue;
        pcnn_value *out = node->out[o], *old = in[i];
        pcnn_storage *memory = old->storage ? old->storage : old->target;
        out->leaf = pcnn_leaf_ref(old->leaf);
        out->requires_grad = old->requires_grad && old->leaf != NULL;
        if (memory != NULL) {
            out->target = pcnn_storage_ref(memory);
            if (!node->trace->capture)
                memory->version++;
            out->version = memory->version;
        }
    }
}

static void
append(pcnn_trace *trace, pcnn_node *node)
{
    node->trace = trace;
    node->previous = trace->last;
    if (trace->last)
        trace->last->next = node;
    else
        trace->first = node;
    trace->last = node;
    trace->nodes++;
    for (int o = 0; o < node->n_out; o++)
        trace->bytes += pcnn_layout_bytes(&node->out_type[o], PCNN_PLAIN);
    node->reading = !trace->capture;
    for (int i = 0; i < node->n_in && node->reading; i++)
        if (node->in[i] != NULL && node->in[i]->storage != NULL)
            node->in[i]->storage->pending_readers++;
}

/* An effect on a value with a graph behind it would cut that graph in silence. */
static pcnn_status
check_overwritten(const pcnn_op *op, pcnn_value *const *in, int n_in)
{
    for (int o = 0; o < op->n_out; o++) {
        int i = op->writes[o] - 1;
        if (i < 0 || i >= n_in || in[i] == NULL || in[i]->leaf != NULL || in[i]->node == NULL)
            continue;
        if (in[i]->node->grad && !in[i]->node->used)
            return pcnn_fail(PCNN_ERR_RUNTIME,
                             "%s: %s was computed with gradients, which writing over it would "
                             "lose: use the result of an ordinary op, detach(), or no_grad()",
                             op->name, op->params[i].name);
    }
    return PCNN_OK;
}

pcnn_status
pcnn_record(pcnn_trace *trace, const pcnn_op *op, const void *attrs, pcnn_value *const *in,
            int n_in, bool grad_enabled, pcnn_value **out)
{
    PCNN_TRY(check_count(op, in, n_in));
    if (grad_enabled)
        PCNN_TRY(check_overwritten(op, in, n_in));
    int n = op->n_in == PCNN_VARIADIC ? n_in : op->n_in;
    pcnn_type small_types[8], *types = small_types;
    /* One allocation: the node, its inputs and their versions, its attributes. */
    size_t in_bytes = (size_t)n * (sizeof(pcnn_value *) + sizeof(uint32_t));
    size_t head = (sizeof(pcnn_node) + in_bytes + 15) / 16 * 16;
    pcnn_node *node = calloc(1, head + op->attrs_size);
    if (n > 8)
        types = malloc((size_t)n * sizeof *types);
    if (node == NULL || types == NULL) {
        free(node);
        if (types != small_types)
            free(types);
        return pcnn_fail(PCNN_ERR_MEMORY, "%s: cannot allocate a graph node", op->name);
    }
    node->op = op;
    node->in = (pcnn_value **)(node + 1);
    node->in_version = (uint32_t *)(node->in + n);
    node->attrs = (char *)node + head;
    node->n_in = n;
    node->n_out = op->n_out;
    if (op->attrs_size)
        memcpy(node->attrs, attrs, op->attrs_size);

    bool requires_grad = false;
    for (int i = 0; i < n; i++) {
        if (i < n_in && in[i] != NULL) {
            types[i] = in[i]->type;
            requires_grad |= in[i]->requires_grad;
        }
        else {
            memset(&types[i], 0, sizeof types[i]);
            types[i].ndim = -1;
        }
    }
    const pcnn_call call = {op, node->attrs, n, types};
    memset(node->out_type, 0, sizeof node->out_type);
    pcnn_status status = op->infer(&call, node->out_type);
    for (int o = 0; o < op->n_out && status == PCNN_OK; o++)
        status = pcnn_type_check(&node->out_type[o], op->name);
    if (types != small_types)
        free(types);
    if (status != PCNN_OK) {
        free(node);
        return status;
    }

    bool writes = false;
    for (int o = 0; o < op->n_out; o++)
        writes |= op->writes[o] != 0;
    node->grad = grad_enabled && requires_grad && op->gradient != NULL && !writes;
    node->effect = writes;
    node->state = PCNN_NODE_PENDING;
    pcnn_label_mark(node);
    for (int i = 0; i < n_in && i < n; i++) {
        if (in[i] == NULL)
            continue;
        /* What an effect overwrites is written where it lies, so it is read there too. */
        bool written = false;
        for (int o = 0; o < op->n_out; o++)
            written |= op->writes[o] == i + 1;
        bool copy = !trace->capture && !written && in[i]->storage && in[i]->storage->exports > 0;
        node->in[i] = copy ? snapshot(in[i]) : pcnn_value_ref(in[i]);
        if (node->in[i] == NULL) {
            status = PCNN_ERR_MEMORY;
            break;
        }
        const pcnn_storage *memory = node->in[i]->storage;
        node->in_version[i] = memory ? memory->version : node->in[i]->version;
    }
    node->sequence = ++sequence; /* after its inputs' */
    for (int o = 0; o < op->n_out && status == PCNN_OK; o++) {
        pcnn_value *value = pcnn_value_new(&node->out_type[o]);
        if (value == NULL) {
            status = PCNN_ERR_MEMORY;
            break;
        }
        value->node = node;
        value->index = o;
        value->symbolic = trace->capture;
        value->requires_grad = node->grad && pcnn_is_float(value->type.dtype);
        node->out[o] = value;
        node->refs++;
        out[o] = value;
    }
    if (status != PCNN_OK) {
        node->refs++;
        for (int o = 0; o < op->n_out; o++) {
            pcnn_value_unref(node->out[o]);
            out[o] = NULL;
        }
        pcnn_node_unref(node);
        return status;
    }
    append(trace, node);
    take_over(node, node->in);
    if (writes)
        node->refs++; /* the trace's own */
    return PCNN_OK;
}
