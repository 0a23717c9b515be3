/* From recorded nodes to a plan and back. */
#include "plan/segment.h"

#include <stdlib.h>
#include <string.h>

#include "core/options.h"
#include "plan/cache.h"

static pcnn_status
no_memory(void)
{
    return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
}

/* ---- the key ---- */

static pcnn_status
put(pcnn_segment *s, const void *bytes, size_t n)
{
    if (s->key_bytes + n > s->key_capacity) {
        size_t capacity = 2 * (s->key_capacity + n) + 4096;
        unsigned char *key = realloc(s->key, capacity);
        if (key == NULL)
            return no_memory();
        s->key = key;
        s->key_capacity = capacity;
    }
    memcpy(s->key + s->key_bytes, bytes, n);
    s->key_bytes += n;
    return PCNN_OK;
}

static pcnn_status
put_int(pcnn_segment *s, int32_t number)
{
    return put(s, &number, sizeof number);
}

static pcnn_status
put_type(pcnn_segment *s, const pcnn_type *type)
{
    PCNN_TRY(put_int(s, (int32_t)type->dtype | type->ndim << 8));
    return put(s, type->shape, (size_t)type->ndim * sizeof *type->shape);
}

static pcnn_status
put_label(pcnn_segment *s, const pcnn_node *node)
{
    const char *text = node->label ? node->label->text : "";
    PCNN_TRY(put_int(s, (int32_t)node->phase));
    return put(s, text, strlen(text) + 1);
}

static uint64_t
hash_of(const unsigned char *bytes, size_t n)
{
    /* FNV-1a over words of eight bytes. */
    uint64_t hash = 14695981039346656037u;
    for (; n >= 8; n -= 8, bytes += 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        hash = (hash ^ word) * 1099511628211u;
        hash ^= hash >> 29;
    }
    for (; n > 0; n--, bytes++)
        hash = (hash ^ *bytes) * 1099511628211u;
    return hash;
}

/* ---- ids ----
 *
 * Values made by the nodes are 0, 1, ...; externals -2, -3, ...; absent -1. Externals are told
 * apart by their memory: two values on the same memory (a tensor and its detach()) are one, and
 * after an effect on it what is read there is the effect's output. So no pass can move a read across
 * a write without seeing it. */

static int32_t
add_external(pcnn_segment *s, pcnn_value *value)
{
    if (s->n_externals == s->cap_externals) {
        int32_t capacity = s->cap_externals ? 2 * s->cap_externals : 32;
        pcnn_value **externals = realloc(s->externals, (size_t)capacity * sizeof(pcnn_value *));
        if (externals == NULL) {
            (void)no_memory();
            return -1;
        }
        s->externals = externals;
        s->cap_externals = capacity;
    }
    s->externals[s->n_externals++] = pcnn_value_ref(value);
    return -1 - s->n_externals;
}

/* In a storage's scratch 0 means "none", so ids from 0 on are stored one higher. */
static void
set_holder(pcnn_storage *memory, int32_t id)
{
    memory->holder = id >= 0 ? id + 1 : id;
}

/* The id of a value that no node of the segment made; -1: failed. */
static int32_t
external_id(pcnn_segment *s, pcnn_value *value)
{
    pcnn_storage *memory = value->storage;
    if (memory == NULL && value->placeholder < 0) {
        (void)pcnn_fail(PCNN_ERR_RUNTIME, "plan: an input has neither numbers nor a source");
        return -1;
    }
    bool known = memory != NULL && memory->external > 0;
    if (known && pcnn_type_equal(&s->externals[memory->external - 1]->type, &value->type))
        return memory->holder > 0 ? memory->holder - 1 : memory->holder;
    if (value->slot <= -2)
        return value->slot;
    int32_t id = add_external(s, value);
    if (id == -1)
        return -1;
    if (memory != NULL && !known) {
        memory->external = s->n_externals;
        set_holder(memory, id);
    }
    else {
        value->slot = id;
    }
    return id;
}

/* The memory that output o of an effect overwrites; NULL: none, the output is a value like others. */
static pcnn_storage *
overwritten(const pcnn_node *node, int o)
{
    int i = node->op->writes[o] - 1;
    if (i < 0 || node->in[i] == NULL)
        return NULL;
    return node->in[i]->storage ? node->in[i]->storage : node->in[i]->target;
}

static pcnn_status
put_id(pcnn_segment *s, int32_t id)
{
    if (s->n_ids == s->cap_ids) {
        int64_t capacity = s->cap_ids ? 2 * s->cap_ids : 256;
        int32_t *ids = realloc(s->ids, (size_t)capacity * sizeof *ids);
        if (ids == NULL)
            return no_memory();
        s->ids = ids;
        s->cap_ids = capacity;
    }
    s->ids[s->n_ids++] = id;
    return put_int(s, id);
}

/* ---- the walk ---- */

enum { VISIBLE = 1, DEAD = 2 };

static bool
is_kept(const pcnn_node *node, int o, const unsigned char *kept, int32_t id)
{
    const pcnn_value *value = node->out[o];
    bool saved = node->grad && !node->used && (node->op->saves_out >> o & 1);
    return saved || kept[id] || (value != NULL && value->handles > 0);
}

static pcnn_status
number_values(pcnn_segment *s, int32_t n_wanted, unsigned char **kept)
{
    int32_t id = 0;
    for (int32_t n = 0; n < s->n_nodes; n++)
        for (int o = 0; o < s->nodes[n]->n_out; o++, id++)
            if (s->nodes[n]->out[o] != NULL)
                s->nodes[n]->out[o]->slot = id;
    s->n_values = id;
    *kept = calloc((size_t)id + 1, 1);
    s->outputs = calloc((size_t)(id > n_wanted ? id : n_wanted) + 1, sizeof *s->outputs);
    if (*kept == NULL || s->outputs == NULL)
        return no_memory();
    /* What a gradient that may still be asked for reads is kept. */
    for (int32_t n = 0; n < s->n_nodes; n++) {
        const pcnn_node *node = s->nodes[n];
        if (!node->grad || node->used)
            continue;
        for (int i = 0; i < node->n_in; i++) {
            int bit = node->op->n_in == PCNN_VARIADIC ? 0 : i;
            if (node->in[i] != NULL && (node->op->saves_in >> bit & 1) && node->in[i]->slot >= 0)
                (*kept)[node->in[i]->slot] = 1;
        }
    }
    return PCNN_OK;
}

static void
clear_scratch(pcnn_segment *s)
{
    for (int32_t n = 0; n < s->n_nodes; n++)
        for (int o = 0; o < s->nodes[n]->n_out; o++)
            if (s->nodes[n]->out[o] != NULL)
                s->nodes[n]->out[o]->slot = -1;
    for (int32_t e = 0; e < s->n_externals; e++) {
        pcnn_value *value = s->externals[e];
        value->slot = -1;
        if (value->storage != NULL)
            value->storage->external = value->storage->holder = 0;
    }
}

/* Uses scratch fields of values and memory, as other threads' segments do: they are clear again
 * when it returns, with the interpreter lock held all the time. */
static pcnn_status
walk(pcnn_segment *s, pcnn_value *const *wanted, int32_t n_wanted, bool capture)
{
    unsigned char *kept = NULL;
    pcnn_status status = number_values(s, n_wanted, &kept);
    int32_t id = 0;
    if (status == PCNN_OK)
        status = put_int(s, pcnn_plan_options.fuse | pcnn_plan_options.n16 << 1 |
                                pcnn_option_winograd << 2 | pcnn_plan_options.chain << 4 |
                                pcnn_plan_options.min_n16_batch << 5);
    /* Labels tell plans apart only while somebody wants to be told them. */
    bool labelled = pcnn_plan_options.profile || pcnn_plan_options.verbose > 0;
    if (status == PCNN_OK)
        status = put_int(s, labelled);
    for (int32_t n = 0; n < s->n_nodes && status == PCNN_OK; n++) {
        pcnn_node *node = s->nodes[n];
        status = put(s, &node->op, sizeof node->op);
        if (status == PCNN_OK)
            status = put(s, node->attrs, node->op->attrs_size);
        if (status == PCNN_OK && labelled)
            status = put_label(s, node);
        if (status == PCNN_OK)
            status = put_int(s, node->n_in);
        for (int i = 0; i < node->n_in && status == PCNN_OK; i++) {
            pcnn_value *in = node->in[i];
            int32_t number = -1;
            if (in != NULL) {
                number = in->slot >= 0 ? in->slot : external_id(s, in);
                if (number == -1) {
                    status = PCNN_ERR_RUNTIME;
                    break;
                }
            }
            status = put_id(s, number);
        }
        for (int o = 0; o < node->n_out && status == PCNN_OK; o++, id++) {
            pcnn_storage *memory = overwritten(node, o);
            int32_t flag = 0;
            if (memory != NULL) {
                flag = 16 + memory->external;
                set_holder(memory, id);
            }
            else if (!capture && is_kept(node, o, kept, id)) {
                s->outputs[s->n_outputs].node = n;
                s->outputs[s->n_outputs].out = o;
                s->outputs[s->n_outputs++].id = id;
                flag = VISIBLE;
            }
            status = put_int(s, flag);
        }
    }
    for (int32_t k = 0; k < n_wanted && status == PCNN_OK; k++) {
        s->outputs[k].node = -1;
        s->outputs[k].out = -1;
        s->outputs[k].id = wanted[k]->slot >= 0 ? wanted[k]->slot : external_id(s, wanted[k]);
        s->n_outputs = n_wanted;
        if (s->outputs[k].id == -1)
            status = PCNN_ERR_RUNTIME;
    }
    for (int32_t e = 0; e < s->n_externals && status == PCNN_OK; e++)
        status = put_type(s, &s->externals[e]->type);
    s->hash = status == PCNN_OK ? hash_of(s->key, s->key_bytes) : 0;
    clear_scratch(s);
    free(kept);
    return status;
}

static pcnn_status
list_nodes(pcnn_segment *s, pcnn_trace *trace, int64_t count)
{
    memset(s, 0, sizeof *s);
    if (count <= 0)
        return PCNN_OK;
    s->nodes = malloc((size_t)count * sizeof(pcnn_node *));
    if (s->nodes == NULL)
        return no_memory();
    for (pcnn_node *node = trace->first; node && s->n_nodes < count; node = node->next) {
        node->refs++;
        s->nodes[s->n_nodes++] = node;
    }
    return PCNN_OK;
}

pcnn_status
pcnn_segment_take(pcnn_segment *s, pcnn_trace *trace, int64_t count)
{
    PCNN_TRY(list_nodes(s, trace, count));
    for (int32_t n = 0; n < s->n_nodes; n++) {
        s->nodes[n]->state = PCNN_NODE_RUNNING;
        pcnn_node_leave(s->nodes[n]);
    }
    return walk(s, NULL, 0, false);
}

pcnn_status
pcnn_segment_capture(pcnn_segment *s, pcnn_trace *trace, pcnn_value *const *wanted, int32_t n)
{
    PCNN_TRY(list_nodes(s, trace, trace->nodes));
    for (int32_t k = 0; k < n; k++)
        if (wanted[k]->symbolic && !pcnn_trace_owns(trace, wanted[k]))
            return pcnn_fail(PCNN_ERR_RUNTIME, "compile: output %d belongs to another capture",
                             (int)k);
    return walk(s, wanted, n, true);
}

/* ---- the plan ---- */

static pcnn_status
build(pcnn_segment *s, pcnn_program *program)
{
    for (int32_t n = 0; n < s->n_nodes; n++)
        for (int o = 0; o < s->nodes[n]->n_out; o++)
            if (pcnn_program_value(program, &s->nodes[n]->out_type[o]) < 0)
                return PCNN_ERR_MEMORY;
    int32_t base = s->n_values;
    for (int32_t e = 0; e < s->n_externals; e++) {
        int32_t v = pcnn_program_value(program, &s->externals[e]->type);
        if (v < 0)
            return PCNN_ERR_MEMORY;
        program->values[v].external = e;
    }
    program->n_externals = s->n_externals;
    const int32_t *ids = s->ids;
    int32_t id = 0;
    for (int32_t n = 0; n < s->n_nodes; n++) {
        const pcnn_node *node = s->nodes[n];
        int32_t small[16], *in = small, out[PCNN_MAX_OUT];
        if (node->n_in > 16 && (in = malloc((size_t)node->n_in * sizeof *in)) == NULL)
            return no_memory();
        for (int i = 0; i < node->n_in; i++) {
            in[i] = *ids++;
            if (in[i] <= -2)
                in[i] = base - 2 - in[i];
        }
        for (int o = 0; o < node->n_out; o++) {
            out[o] = id++;
            if (overwritten(node, o) != NULL)
                program->values[out[o]].external =
                    program->values[in[node->op->writes[o] - 1]].external;
        }
        int32_t made = pcnn_program_node(program, node->op, node->attrs, in, node->n_in, out);
        if (in != small)
            free(in);
        if (made < 0)
            return PCNN_ERR_MEMORY;
    }
    for (int32_t k = 0; k < s->n_outputs; k++) {
        id = s->outputs[k].id;
        if (id >= 0 && program->values[id].external < 0 && program->values[id].output < 0) {
            program->values[id].output = k;
            continue;
        }
        /* The same value twice, or an input passed through: a copy of its own. */
        int32_t source = id >= 0 ? id : base - 2 - id;
        const pcnn_type type = program->values[source].type;
        int32_t copy = pcnn_program_value(program, &type);
        if (copy < 0)
            return PCNN_ERR_MEMORY;
        program->values[copy].output = k;
        if (pcnn_program_node(program, &pcnn_op_copy, NULL, &source, 1, &copy) < 0)
            return PCNN_ERR_MEMORY;
    }
    program->n_outputs = s->n_outputs;
    return PCNN_OK;
}

/* The plan remembers what its nodes were recorded for. */
static pcnn_status
label_plan(const pcnn_segment *s, pcnn_plan *plan)
{
    plan->labels = calloc((size_t)s->n_nodes + 1, sizeof *plan->labels);
    plan->phases = calloc((size_t)s->n_nodes + 1, 1);
    if (plan->labels == NULL || plan->phases == NULL)
        return no_memory();
    plan->n_labels = s->n_nodes;
    for (int32_t n = 0; n < s->n_nodes; n++) {
        if ((plan->labels[n] = s->nodes[n]->label) != NULL)
            plan->labels[n]->refs++;
        plan->phases[n] = (unsigned char)s->nodes[n]->phase;
    }
    return PCNN_OK;
}

pcnn_status
pcnn_segment_plan(pcnn_segment *s, pcnn_plan **plan)
{
    pcnn_program program = {0};
    pcnn_status status = build(s, &program);
    if (status != PCNN_OK) {
        pcnn_program_free(&program);
        return status;
    }
    PCNN_TRY(pcnn_plan_make(&program, plan));
    status = label_plan(s, *plan);
    if (status != PCNN_OK) {
        pcnn_plan_unref(*plan);
        *plan = NULL;
    }
    return status;
}

pcnn_status
pcnn_segment_prepare(pcnn_segment *s)
{
    s->plan = pcnn_cache_find(s->key, s->key_bytes, s->hash);
    if (s->plan != NULL) {
        s->plan->refs++;
    }
    else {
        PCNN_TRY(pcnn_segment_plan(s, &s->plan));
        s->made = true;
        PCNN_TRY(pcnn_cache_add(s->plan, s->key, s->key_bytes, s->hash));
    }
    PCNN_TRY(pcnn_profile_note(s->plan));
    s->memory = calloc((size_t)s->n_outputs + 1, sizeof(pcnn_storage *));
    if (s->memory == NULL)
        return no_memory();
    for (int32_t k = 0; k < s->n_outputs; k++) {
        const pcnn_node *node = s->nodes[s->outputs[k].node];
        s->memory[k] =
            pcnn_storage_new(pcnn_layout_bytes(&node->out_type[s->outputs[k].out], PCNN_PLAIN));
        if (s->memory[k] == NULL)
            return PCNN_ERR_MEMORY;
    }
    return PCNN_OK;
}

pcnn_status
pcnn_segment_run(pcnn_segment *s)
{
    int32_t n = s->n_externals + s->n_outputs;
    void *small[256], **address = small;
    if (n > 256 && (address = malloc((size_t)n * sizeof *address)) == NULL)
        return no_memory();
    for (int32_t e = 0; e < s->n_externals; e++)
        address[e] = s->externals[e]->storage->data;
    for (int32_t k = 0; k < s->n_outputs; k++)
        address[s->n_externals + k] = s->memory[k]->data;
    pcnn_status status = pcnn_plan_run(s->plan, address, address + s->n_externals, &s->failed);
    if (address != small)
        free(address);
    return status;
}

/* ---- the end ---- */

void
pcnn_segment_clear(pcnn_segment *s)
{
    for (int32_t k = 0; s->memory && k < s->n_outputs; k++)
        pcnn_storage_unref(s->memory[k]);
    for (int32_t e = 0; e < s->n_externals; e++)
        pcnn_value_unref(s->externals[e]);
    for (int32_t n = s->n_nodes - 1; n >= 0; n--)
        pcnn_node_unref(s->nodes[n]);
    pcnn_plan_unref(s->plan);
    free(s->nodes);
    free(s->externals);
    free(s->outputs);
    free(s->ids);
    free(s->key);
    free(s->memory);
    memset(s, 0, sizeof *s);
}

void
pcnn_segment_finish(pcnn_segment *s, pcnn_status status)
{
    /* Steps run in the order of recording: what came before the one that failed is there. */
    int32_t done = status == PCNN_OK ? s->n_nodes : s->failed;
    pcnn_failure *failure = status == PCNN_OK ? NULL : pcnn_failure_new(status);
    for (int32_t n = 0; n < s->n_nodes; n++)
        pcnn_node_read(s->nodes[n]);
    for (int32_t k = 0; k < s->n_outputs; k++) {
        if (s->outputs[k].node >= done)
            continue;
        pcnn_node *node = s->nodes[s->outputs[k].node];
        int o = s->outputs[k].out;
        if (node->out[o] != NULL) {
            node->out[o]->storage = pcnn_storage_ref(s->memory[k]);
            node->out[o]->version = s->memory[k]->version;
        }
        if (node->grad && !node->used && (node->op->saves_out >> o & 1)) {
            node->saved[o] = pcnn_storage_ref(s->memory[k]);
            node->saved_version[o] = s->memory[k]->version;
        }
    }
    for (int32_t n = 0; n < s->n_nodes; n++) {
        pcnn_node *node = s->nodes[n];
        for (int o = 0; o < node->n_out; o++) {
            pcnn_value *value = node->out[o];
            if (value == NULL || value->target == NULL)
                continue;
            /* The effect's output lives in the memory it overwrote, also where the run failed:
             * what was there before the failure is still there. */
            value->storage = value->target;
            value->target = NULL;
        }
        if (n >= done && failure != NULL) {
            failure->refs++;
            node->failure = failure;
        }
        pcnn_node_finish(node, n < done ? PCNN_NODE_DONE : PCNN_NODE_FAILED);
    }
    pcnn_failure_unref(failure);
    pcnn_segment_clear(s);
}
