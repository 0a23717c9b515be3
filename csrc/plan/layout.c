/* Pass: choose for every node the first implementation that accepts it, and with it the layouts of
 * its operands; put a `reorder` where a value is wanted in the other layout.
 *
 * Ops that compute on images (convolution, pooling, normalisation) take N16 wherever they have an
 * implementation for it. Ops that merely follow (PCNN_OP_FOLLOWS) stay in N16 when one of their
 * inputs is there already; movement into N16 (plain inputs, N16 output) is taken when every reader
 * prefers N16. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

const char pcnn_refused_batch[] = "too few images";

/* Why a value cannot be in N16; NULL: it can. */
static const char *
not_in_n16(const pcnn_type *type)
{
    if (type->ndim != 4 || !pcnn_is_float(type->dtype))
        return "not a batch of images of floats";
    if (pcnn_type_size(type) == 0)
        return "no elements";
    return type->shape[0] < pcnn_plan_options.min_n16_batch ? pcnn_refused_batch : NULL;
}

typedef struct {
    pcnn_tensor *in;
    pcnn_tensor out[PCNN_MAX_OUT];
    pcnn_site site;
} trial;

/* The operands as `impl` would get them. Gives a reason where some operand cannot be in N16. */
static const char *
lay_out(const pcnn_program *program, const pcnn_pnode *node, const pcnn_impl *impl, trial *t)
{
    for (int32_t i = 0; i < node->n_in; i++) {
        pcnn_tensor *tensor = &t->in[i];
        memset(tensor, 0, sizeof *tensor);
        if (node->in[i] < 0) {
            tensor->type.ndim = -1;
            continue;
        }
        tensor->type = program->values[node->in[i]].type;
        if (i < 32 && (impl->n16_in >> i & 1)) {
            if (tensor->type.ndim != 4 && (node->op->flags & PCNN_OP_FOLLOWS))
                continue; /* scalars and rows beside images */
            const char *reason = not_in_n16(&tensor->type);
            if (reason != NULL)
                return reason;
            tensor->layout = PCNN_N16;
        }
    }
    for (int32_t o = 0; o < node->n_out; o++) {
        t->out[o] = (pcnn_tensor){.type = program->values[node->out[o]].type};
        if (impl->n16_out >> o & 1) {
            const char *reason = not_in_n16(&t->out[o].type);
            if (reason != NULL)
                return reason;
            t->out[o].layout = PCNN_N16;
        }
    }
    t->site = (pcnn_site){.op = node->op,
                          .attrs = node->attrs,
                          .n_in = node->n_in,
                          .n_out = node->n_out,
                          .in = t->in,
                          .out = t->out};
    return NULL;
}

static bool
available_in_n16(const pcnn_program *program, int32_t v)
{
    const pcnn_pvalue *value = &program->values[v];
    return value->layout == PCNN_N16 || value->copy >= 0;
}

/* Would this reader take value `v` in N16 of its own accord? */
static bool
prefers_n16(const pcnn_program *program, const pcnn_pnode *reader, int32_t v, pcnn_tensor *scratch)
{
    if (reader->op->flags & PCNN_OP_FOLLOWS)
        return false;
    trial t = {.in = scratch};
    for (const pcnn_impl *impl = reader->op->impls; impl->name; impl++) {
        if (lay_out(program, reader, impl, &t) || (impl->refuse && impl->refuse(&t.site)))
            continue;
        for (int32_t i = 0; i < reader->n_in; i++)
            if (reader->in[i] == v)
                return t.in[i].layout == PCNN_N16;
        return false;
    }
    return false;
}

static bool
all_readers_prefer_n16(const pcnn_program *program, int32_t n, int32_t v, pcnn_tensor *scratch)
{
    bool any = false;
    if (program->values[v].output >= 0)
        return false;
    for (int32_t m = n + 1; m < program->n_nodes; m++) {
        const pcnn_pnode *reader = &program->nodes[m];
        for (int32_t i = 0; i < reader->n_in && !reader->dead; i++)
            if (reader->in[i] == v) {
                if (!prefers_n16(program, reader, v, scratch))
                    return false;
                any = true;
                break;
            }
    }
    return any;
}

/* Why an implementation's layouts are not considered; NULL: they are. */
static const char *
layout_refused(const pcnn_program *program, int32_t n, const pcnn_impl *impl, pcnn_tensor *scratch)
{
    const pcnn_pnode *node = &program->nodes[n];
    if (impl->n16_in == 0 && impl->n16_out == 0)
        return NULL;
    if (!pcnn_plan_options.n16)
        return "layout N16 is switched off";
    if (node->effect)
        return "it writes memory of the user's";
    if (!(node->op->flags & PCNN_OP_FOLLOWS))
        return NULL;
    if (impl->n16_in == 0)
        return all_readers_prefer_n16(program, n, node->out[0], scratch)
                   ? NULL
                   : "not every reader wants layout N16";
    for (int32_t i = 0; i < node->n_in && i < 32; i++)
        if ((impl->n16_in >> i & 1) && node->in[i] >= 0 &&
            program->values[node->in[i]].type.ndim == 4 && available_in_n16(program, node->in[i]))
            return NULL;
    return "its inputs are not in layout N16";
}

static uint8_t
number_of(pcnn_program *program, const char *reason)
{
    uint8_t number = 1;
    while (number < PCNN_MAX_REASONS - 1 && program->reasons[number] &&
           program->reasons[number] != reason)
        number++;
    if (program->reasons[number] == NULL)
        program->reasons[number] = number < PCNN_MAX_REASONS - 1 ? reason : "another reason";
    return number;
}

/* `refused` gets the reasons of the implementations before the chosen one. */
static pcnn_status
choose(const pcnn_program *program, int32_t n, trial *t, pcnn_tensor *scratch,
       const pcnn_impl **chosen, const char **refused)
{
    const pcnn_pnode *node = &program->nodes[n];
    const char *forced = pcnn_forced_impl(node->op);
    const char *reason = NULL;
    for (const pcnn_impl *impl = node->op->impls; impl->name && forced; impl++)
        if (strcmp(forced, impl->name) == 0 && !lay_out(program, node, impl, t) &&
            !(impl->refuse && impl->refuse(&t->site))) {
            *chosen = impl;
            for (int k = 0; k < impl - node->op->impls && k < PCNN_MAX_REFUSED; k++)
                refused[k] = "another one is forced";
            return PCNN_OK;
        }
    for (const pcnn_impl *impl = node->op->impls; impl->name; impl++) {
        const char *refusal = layout_refused(program, n, impl, scratch);
        if (refusal == NULL)
            refusal = lay_out(program, node, impl, t);
        if (refusal == NULL && impl->refuse != NULL)
            reason = refusal = impl->refuse(&t->site);
        if (refusal == NULL) {
            *chosen = impl;
            return PCNN_OK;
        }
        if (impl - node->op->impls < PCNN_MAX_REFUSED)
            refused[impl - node->op->impls] = refusal;
    }
    return pcnn_fail(PCNN_ERR_NOT_IMPLEMENTED, "%s: no implementation accepts this call%s%s",
                     node->op->name, reason ? ": " : "", reason ? reason : "");
}

/* The id of value `v` in `layout`, with a reorder appended to `result` where it is not there. */
static int32_t
in_layout(pcnn_program *result, int32_t v, pcnn_layout layout, int32_t origin)
{
    if (result->values[v].layout == layout)
        return v;
    if (result->values[v].copy >= 0)
        return result->values[v].copy;
    const pcnn_type type = result->values[v].type;
    int32_t copy = pcnn_program_value(result, &type);
    if (copy < 0)
        return -1;
    result->values[copy].layout = layout;
    result->values[copy].copy = v;
    result->values[v].copy = copy;
    const pcnn_op *op = &pcnn_op_reorder;
    _Alignas(8) char attrs[64] = {0};
    const pcnn_attr *to_n16 = pcnn_op_attr(op, "to_n16");
    int64_t flag = layout == PCNN_N16;
    memcpy(attrs + to_n16->offset, &flag, sizeof flag);
    int32_t n = pcnn_program_node(result, op, attrs, &v, 1, &copy);
    if (n < 0)
        return -1;
    for (const pcnn_impl *impl = op->impls; impl->name; impl++)
        if ((impl->n16_out & 1) == (uint32_t)flag && (impl->n16_in & 1) == (uint32_t)!flag)
            result->nodes[n].impl = impl;
    result->nodes[n].origin = origin;
    return copy;
}

pcnn_status
pcnn_pass_layout(pcnn_program *program)
{
    /* Nodes are moved one by one into `result`, which shares the growing table of values. */
    pcnn_program result = *program;
    result.nodes = NULL;
    result.n_nodes = result.cap_nodes = 0;
    pcnn_status status = PCNN_OK;
    int32_t widest = 1;
    for (int32_t n = 0; n < program->n_nodes; n++)
        if (program->nodes[n].n_in > widest)
            widest = program->nodes[n].n_in;
    pcnn_tensor *memory = calloc((size_t)widest * 2, sizeof *memory);
    if (memory == NULL)
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    trial t = {.in = memory};
    for (int32_t n = 0; n < program->n_nodes && status == PCNN_OK; n++) {
        pcnn_pnode *node = &program->nodes[n];
        if (node->dead)
            continue;
        const pcnn_impl *impl = NULL;
        program->values = result.values;
        program->n_values = result.n_values;
        const char *refused[PCNN_MAX_REFUSED] = {NULL};
        status = choose(program, n, &t, memory + widest, &impl, refused);
        for (int32_t i = 0; i < node->n_in && status == PCNN_OK; i++)
            if (node->in[i] >= 0 &&
                (node->in[i] = in_layout(&result, node->in[i], t.in[i].layout, node->origin)) < 0)
                status = PCNN_ERR_MEMORY;
        for (int32_t o = 0; o < node->n_out && status == PCNN_OK; o++)
            result.values[node->out[o]].layout = t.out[o].layout;
        int32_t moved = status == PCNN_OK ? pcnn_program_node(&result, node->op, node->attrs,
                                                              node->in, node->n_in, node->out)
                                          : -1;
        if (moved < 0) {
            status = status == PCNN_OK ? PCNN_ERR_MEMORY : status;
            break;
        }
        result.nodes[moved].impl = impl;
        result.nodes[moved].origin = node->origin;
        for (int k = 0; k < PCNN_MAX_REFUSED; k++)
            if (refused[k] != NULL)
                result.nodes[moved].refused[k] = number_of(&result, refused[k]);
        if (impl->workspace)
            result.nodes[moved].work_bytes = impl->workspace(&t.site);
        /* What the user sees is plain: an output made in N16 is delivered through a reorder. */
        for (int32_t o = 0; o < node->n_out && status == PCNN_OK; o++) {
            int32_t v = node->out[o], output = result.values[v].output;
            if (output < 0 || result.values[v].layout == PCNN_PLAIN)
                continue;
            result.values[v].output = -1;
            int32_t plain = in_layout(&result, v, PCNN_PLAIN, node->origin);
            if (plain < 0)
                status = PCNN_ERR_MEMORY;
            else
                result.values[plain].output = output;
        }
    }
    free(memory);
    for (int32_t n = 0; n < program->n_nodes; n++) {
        free(program->nodes[n].in);
        free(program->nodes[n].attrs);
    }
    free(program->nodes);
    *program = result;
    return status;
}
