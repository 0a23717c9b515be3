/* The strips of a chain: steps that pass planes of more than the first cache holds between them take
 * these planes a few rows at a time, one step after the other, before they go on to the next rows.
 *
 * A step says with `rows` (op.h) in what units its operands can be cut: single rows, the rows of a
 * pooling's window, those of a chunk whose sums are made together. A run of steps can be cut if all
 * that they read and write has strips that are whole units for each step, and as many of them; the
 * last takes the rows that are left. Sources, sinks and the steps that take whole planes stand before
 * and behind the run. The longest run is cut, into strips of at most LARGEST bytes.
 *
 * Not handled: two runs in a chain; a value that is seen by two steps in different units that do not
 * divide each other. */
#include "plan/chain.h"

enum {
    SMALL = 16 << 10, /* bytes of a plane: all that a step works on is in the first cache */
    LARGEST = 10 << 10, /* of a strip */
    MOST_UNITS = 32,
    STEP_OPERANDS = PCNN_CHAIN_INPUTS + PCNN_MAX_OUT,
    OPERANDS = PCNN_CHAIN_STEPS * STEP_OPERANDS,
};

typedef struct {
    const pcnn_program *program;
    int64_t rows_of_unit[PCNN_CHAIN_STEPS][STEP_OPERANDS];
    int32_t value[OPERANDS];
    int64_t rows[OPERANDS]; /* of a strip of these */
    int n_values;
    int32_t units[PCNN_CHAIN_STEPS]; /* of a strip, for each step of the run */
    int64_t strips;
    int64_t bytes, plane_bytes; /* of the largest strip, of the largest plane */
} cut;

static int32_t
operand_at(const pcnn_pnode *node, int32_t k)
{
    return k < node->n_in ? node->in[k] : node->out[k - node->n_in];
}

static const pcnn_pvalue *
plane_value(const pcnn_program *program, int32_t v)
{
    return v >= 0 && program->values[v].layout == PCNN_N16 ? &program->values[v] : NULL;
}

static int64_t
known_rows(const cut *c, int32_t v)
{
    for (int i = 0; i < c->n_values; i++)
        if (c->value[i] == v)
            return c->rows[i];
    return 0;
}

static void
add_value(cut *c, int32_t v, int64_t rows)
{
    const int64_t *shape = c->program->values[v].type.shape;
    const int64_t strips = (shape[2] + rows - 1) / rows;
    const int64_t plane_bytes = pcnn_plane_bytes(&c->program->values[v].type);
    const int64_t bytes = plane_bytes / shape[2] * rows;
    c->value[c->n_values] = v;
    c->rows[c->n_values++] = rows;
    c->strips = strips < c->strips ? strips : c->strips;
    c->bytes = bytes > c->bytes ? bytes : c->bytes;
    c->plane_bytes = plane_bytes > c->plane_bytes ? plane_bytes : c->plane_bytes;
}

static void
fill_units(cut *c, const pcnn_pnode *node, int64_t *rows)
{
    pcnn_planned planned;
    pcnn_chain_site(c->program, node, &planned);
    for (int32_t k = 0; k < node->n_in + node->n_out; k++)
        if (plane_value(c->program, operand_at(node, k)) != NULL)
            rows[k] = node->impl->planes->rows(&planned.site, k);
}

/* Step `node` takes strips of `units` units; 0: as many as the strips before it have. False: it
 * cannot. */
static bool
add_step(cut *c, const pcnn_pnode *node, const int64_t *rows_of_unit, int64_t units,
         int32_t *result)
{
    const int32_t n = node->n_in + node->n_out;
    for (int pass = 0; pass < 2; pass++) /* what is known tells the units, these the rest */
        for (int32_t k = 0; k < n; k++) {
            const int32_t v = operand_at(node, k);
            if (plane_value(c->program, v) == NULL)
                continue;
            const int64_t unit = rows_of_unit[k];
            const int64_t rows = known_rows(c, v);
            if (unit <= 0 || rows % unit != 0 || (rows > 0 && units > 0 && rows / unit != units))
                return false;
            if (rows > 0)
                units = rows / unit;
            else if (pass == 1 && units == 0)
                return false;
            else if (pass == 1)
                add_value(c, v, units * unit);
        }
    *result = (int32_t)units;
    return units > 0;
}

/* Cuts the steps begin .. end-1 into strips of so many units of the first one's. */
static bool
cut_run(cut *c, const pcnn_pnode *nodes, int32_t begin, int32_t end, int64_t units)
{
    c->n_values = 0;
    c->strips = INT64_MAX;
    c->bytes = c->plane_bytes = 0;
    for (int32_t k = begin; k < end; k++)
        if (!add_step(c, &nodes[k], c->rows_of_unit[k], k == begin ? units : 0, &c->units[k]))
            return false;
    return true;
}

/* With the longest strips that are not too long; of a unit at least. Units of later steps may want
 * several of the first one's. */
static bool
find_strips(cut *c, const pcnn_pnode *nodes, int32_t begin, int32_t end)
{
    int64_t best = 0;
    for (int64_t units = 1; units <= MOST_UNITS; units++) {
        if (!cut_run(c, nodes, begin, end, units))
            continue;
        if (c->plane_bytes <= SMALL || c->strips < 2 || (best > 0 && c->bytes > LARGEST))
            break;
        best = units;
    }
    return best > 0 && cut_run(c, nodes, begin, end, best);
}

static bool
is_empty(const pcnn_program *program, const pcnn_pnode *node)
{
    for (int32_t k = 0; k < node->n_in + node->n_out; k++) {
        const pcnn_pvalue *value = plane_value(program, operand_at(node, k));
        if (value && pcnn_plane_bytes(&value->type) == 0)
            return true;
    }
    return false;
}

static bool
takes_strips(const pcnn_program *program, const pcnn_pnode *node)
{
    return node->impl->planes->rows != NULL && !is_empty(program, node);
}

void
pcnn_chain_cut(pcnn_program *program, int32_t first)
{
    pcnn_pnode *nodes = &program->nodes[first];
    const int32_t n = nodes->chain;
    cut c = {.program = program};
    bool takes[PCNN_CHAIN_STEPS];
    for (int32_t k = 0; k < n; k++) {
        takes[k] = takes_strips(program, &nodes[k]);
        if (takes[k])
            fill_units(&c, &nodes[k], c.rows_of_unit[k]);
    }
    for (int32_t length = n; length > 1; length--)
        for (int32_t begin = 0; begin + length <= n; begin++) {
            bool all = true;
            for (int32_t k = begin; k < begin + length; k++)
                all &= takes[k];
            if (!all || !find_strips(&c, nodes, begin, begin + length))
                continue;
            nodes->scratch->strips = c.strips;
            nodes->scratch->first_cut = begin;
            nodes->scratch->end_cut = begin + length;
            for (int32_t k = begin; k < begin + length; k++)
                nodes[k].units = c.units[k];
            return;
        }
}

int64_t
pcnn_longest_strip(const pcnn_program *program, int32_t first, const pcnn_pnode *node, int o)
{
    pcnn_planned planned;
    pcnn_chain_site(program, node, &planned);
    const int64_t rows = node->units * node->impl->planes->rows(&planned.site, node->n_in + o);
    const int64_t strips = program->nodes[first].scratch->strips;
    const int64_t last = program->values[node->out[o]].type.shape[2] - (strips - 1) * rows;
    return last > rows ? last : rows;
}
