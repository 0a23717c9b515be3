/* sgd_: one step of stochastic gradient descent with momentum, in place.
 *
 *   keras   w -= w * decay * rate; v = momentum * v - rate * g;
 *           w += v, or with Nesterov w += momentum * v - rate * g
 *   torch   g += decay * w; v = momentum * v + (1 - dampening) * g (v = g in the first step);
 *           w -= rate * v, or with Nesterov w -= rate * (g + momentum * v)
 *
 * Without momentum (or without a velocity) the step is w -= rate * g. The numbers in `hyper` are
 * read at each run, so that a schedule needs no new plan. With `slope`, g is g + slope * w: what L2
 * regularisation adds to a gradient; with `clip`, that is then clipped. A plan puts both here
 * (plan/fuse.c), where w and g are read anyway. */
#include "isa/kernels.h"
#include "ops/optimizer.h"
#include "ops/pieces.h"

enum { PARAM, GRAD, VELOCITY, HYPER };

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_sgd_attrs *attrs = call->attrs;
    PCNN_TRY(pcnn_infer_step(call, VELOCITY, HYPER, 4, attrs->clip));
    out[0] = call->in[PARAM];
    out[1] = call->in[VELOCITY];
    if (!pcnn_type_present(&call->in[VELOCITY])) { /* then an empty value */
        out[1].dtype = out[0].dtype;
        out[1].ndim = 1;
        out[1].shape[0] = 0;
    }
    return PCNN_OK;
}

typedef struct {
    const pcnn_kernels *kernels;
    char *w, *v;
    const char *g;
    pcnn_step_gradient gradient;
    int64_t n;
    size_t width;
    const double *hyper;
    const pcnn_sgd_attrs *attrs;
} job;
_Static_assert(sizeof(job) <= PCNN_JOB_BYTES, "a job has no room");

static void
run_pieces(const void *context, int64_t begin, int64_t end)
{
    const job *j = context;
    int64_t from = begin * PCNN_STEP_PIECE, to = end * PCNN_STEP_PIECE;
    size_t at = (size_t)from * j->width;
    j->kernels->sgd_range(j->w + at, j->g + at, j->v ? j->v + at : NULL, &j->gradient,
                          (to < j->n ? to : j->n) - from, j->hyper,
                          j->attrs->style == PCNN_STYLE_KERAS, j->attrs->nesterov, j->attrs->first);
}

static pcnn_status
prepare(const pcnn_site *site, void *memory, int64_t *pieces, double *cost_ns)
{
    const pcnn_sgd_attrs *attrs = site->attrs;
    job *j = memory;
    const pcnn_type *type = &site->out[0].type;
    const double *hyper = site->in[HYPER].data;
    bool velocity = pcnn_type_present(&site->in[VELOCITY].type);
    PCNN_TRY(pcnn_check_hyper(site, HYPER));
    if (hyper[1] != 0 && !velocity)
        return pcnn_fail(PCNN_ERR_VALUE, "sgd_: momentum %g needs a velocity, got None", hyper[1]);
    pcnn_take_over(&site->in[PARAM], &site->out[0]);
    if (velocity)
        pcnn_take_over(&site->in[VELOCITY], &site->out[1]);
    *j = (job){pcnn_kernels_for(type->dtype),
               site->out[0].data,
               velocity && hyper[1] != 0 ? site->out[1].data : NULL,
               site->in[GRAD].data,
               pcnn_step_gradient_of(site, HYPER, attrs->clip),
               pcnn_type_size(type),
               pcnn_dtype_size(type->dtype),
               hyper,
               attrs};
    *pieces = (j->n + PCNN_STEP_PIECE - 1) / PCNN_STEP_PIECE;
    *cost_ns = (double)j->n * 0.6;
    return PCNN_OK;
}

static pcnn_status
run(const pcnn_site *site)
{
    return pcnn_pieces_run(site, 1, NULL);
}

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_sgd_attrs, nesterov, PCNN_ATTR_BOOL, "False"),
    {"style", PCNN_ATTR_CHOICE, offsetof(pcnn_sgd_attrs, style), "keras", pcnn_style_choices},
    PCNN_ATTR(pcnn_sgd_attrs, first, PCNN_ATTR_BOOL, "False"),
    {"clip", PCNN_ATTR_CHOICE, offsetof(pcnn_sgd_attrs, clip), "none", pcnn_clip_choices},
    {0},
};

static const pcnn_impl impls[] = {{"plain", 0, 0, 1, NULL, NULL, run, NULL}, {0}};
static const pcnn_pieces pieces = {prepare, run_pieces, NULL, PCNN_STEP_GRAIN};

const pcnn_op pcnn_op_sgd_ = {
    .name = "sgd_",
    .doc = "param -= learning rate * grad, with momentum where there is a velocity, in place\n\n"
           "param, grad, velocity: float32 or float64, one shape; velocity may be None; hyper: "
           "float64 [4], (learning rate, momentum, weight decay, dampening); " PCNN_STEP_DOC
           " Gives (param, velocity).",
    .n_in = 7,
    .params = {{"param", false},
               {"grad", false},
               {"velocity", true},
               {"hyper", false},
               {"slope", true},
               {"clip_a", true},
               {"clip_b", true}},
    .n_out = 2,
    .out_names = {"param", "velocity"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_sgd_attrs),
    .writes = {PARAM + 1, VELOCITY + 1},
    .infer = infer,
    .impls = impls,
    .pieces = &pieces,
};
