/* Programs: growing arrays of values and nodes, and the options of planning. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

pcnn_options pcnn_plan_options = {.fuse = true, .chain = true, .n16 = true, .min_n16_batch = 8};

enum { MAX_FORCED = 32 };
static struct {
    char op[48], impl[32];
} forced[MAX_FORCED];

pcnn_status
pcnn_force_impl(const char *op, const char *impl)
{
    if (strlen(op) >= sizeof forced[0].op || (impl && strlen(impl) >= sizeof forced[0].impl))
        return pcnn_fail(PCNN_ERR_VALUE, "force_impl: the name is too long");
    int free_slot = -1;
    for (int i = 0; i < MAX_FORCED; i++) {
        if (strcmp(forced[i].op, op) == 0) {
            free_slot = i;
            break;
        }
        if (forced[i].op[0] == '\0' && free_slot < 0)
            free_slot = i;
    }
    if (free_slot < 0)
        return pcnn_fail(PCNN_ERR_VALUE, "force_impl: at most %d ops", MAX_FORCED);
    memset(&forced[free_slot], 0, sizeof forced[free_slot]);
    if (impl != NULL) {
        strcpy(forced[free_slot].op, op);
        strcpy(forced[free_slot].impl, impl);
    }
    return PCNN_OK;
}

const char *
pcnn_forced_impl(const pcnn_op *op)
{
    for (int i = 0; i < MAX_FORCED; i++)
        if (strcmp(forced[i].op, op->name) == 0)
            return forced[i].impl;
    return NULL;
}

static void *
grow(void *array, int32_t *capacity, int32_t needed, size_t item)
{
    if (needed <= *capacity)
        return array;
    int32_t wanted = *capacity ? 2 * *capacity : 64;
    void *bigger = realloc(array, (size_t)wanted * item);
    if (bigger == NULL)
        (void)pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    else
        *capacity = wanted;
    return bigger;
}

int32_t
pcnn_program_value(pcnn_program *program, const pcnn_type *type)
{
    pcnn_pvalue *values =
        grow(program->values, &program->cap_values, program->n_values + 1, sizeof *values);
    if (values == NULL)
        return -1;
    program->values = values;
    int32_t id = program->n_values++;
    values[id] = (pcnn_pvalue){.type = *type,
                               .external = -1,
                               .output = -1,
                               .root = id,
                               .copy = -1,
                               .producer = -1,
                               .first = -1,
                               .last = -1,
                               .offset = -1};
    return id;
}

int32_t
pcnn_program_node(pcnn_program *program, const pcnn_op *op, const void *attrs, const int32_t *in,
                  int32_t n_in, const int32_t *out)
{
    pcnn_pnode *nodes =
        grow(program->nodes, &program->cap_nodes, program->n_nodes + 1, sizeof *nodes);
    if (nodes == NULL)
        return -1;
    program->nodes = nodes;
    pcnn_pnode node = {.op = op, .n_in = n_in, .n_out = op->n_out};
    node.in = malloc((size_t)(n_in ? n_in : 1) * sizeof *node.in);
    node.attrs = calloc(1, op->attrs_size ? op->attrs_size : 1);
    if (node.in == NULL || node.attrs == NULL) {
        free(node.in);
        free(node.attrs);
        (void)pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
        return -1;
    }
    memcpy(node.in, in, (size_t)n_in * sizeof *node.in);
    if (op->attrs_size)
        memcpy(node.attrs, attrs, op->attrs_size);
    int32_t id = node.origin = program->n_nodes++;
    for (int o = 0; o < op->n_out; o++) {
        node.out[o] = out[o];
        program->values[out[o]].producer = id;
        node.effect |= op->writes[o] != 0;
    }
    nodes[id] = node;
    return id;
}

void
pcnn_program_free(pcnn_program *program)
{
    for (int32_t n = 0; n < program->n_nodes; n++) {
        free(program->nodes[n].in);
        free(program->nodes[n].attrs);
        free(program->nodes[n].scratch);
    }
    free(program->nodes);
    free(program->values);
    memset(program, 0, sizeof *program);
}

bool
pcnn_program_overwrites(const pcnn_program *program, int32_t v, int32_t from, int32_t to)
{
    const int32_t external = program->values[v].external;
    for (int32_t n = from; n < to && external >= 0; n++)
        for (int o = 0; program->nodes[n].effect && o < program->nodes[n].n_out; o++)
            if (program->values[program->nodes[n].out[o]].external == external)
                return true;
    return false;
}

const pcnn_attr *
pcnn_op_attr(const pcnn_op *op, const char *name)
{
    if (op->attrs != NULL)
        for (const pcnn_attr *attr = op->attrs; attr->name; attr++)
            if (strcmp(attr->name, name) == 0)
                return attr;
    return NULL;
}

bool
pcnn_permutes(const pcnn_pnode *transpose, int a, int b, int c, int d)
{
    const pcnn_attr *perm = pcnn_op_attr(transpose->op, "perm");
    const pcnn_ints *order = (const void *)((const char *)transpose->attrs + perm->offset);
    const int want[] = {a, b, c, d};
    if (order->n != 4)
        return false;
    for (int i = 0; i < 4; i++)
        if (order->at[i] != want[i] && order->at[i] + 4 != want[i])
            return false;
    return true;
}
