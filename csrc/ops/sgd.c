/* sgd_: one step of stochastic gradient descent with momentum, in place.
 *
 *   keras   w -= w * decay * rate; v = momentum * v - rate * g;
 *           w += v, or with Nesterov w += momentum * v - rate * g
 *   torch   g += decay * w; v = momentum * v + (1 - dampening) * g (v = g in the first step);
 *           w -= rate * v, or with Nesterov w -= rate * (g + momentum * v)
 *
 * Without momentum (or without a velocity) the step is w -= rate * g. The numbers in `hyper` are
 * read at each run, so that a schedule needs no new plan. With `slope`, g is g + slope * w: what L2
 * regularisation adds to a gradient. A plan puts it here (plan/fuse.c), where w is read anyway. */
#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/optimizer.h"

enum { PARAM, GRAD, VELOCITY, HYPER, SLOPE };

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(pcnn_infer_step(call, VELOCITY, HYPER, 4));
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
    const void *slope;
    int64_t n;
    size_t width;
    const double *hyper;
    const pcnn_sgd_attrs *attrs;
} job;

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    const job *j = context;
    int64_t from = begin * PCNN_STEP_CHUNK, to = end * PCNN_STEP_CHUNK;
    size_t at = (size_t)from * j->width;
    (void)worker;
    j->kernels->sgd_range(j->w + at, j->g + at, j->v ? j->v + at : NULL, j->slope,
                          (to < j->n ? to : j->n) - from, j->hyper,
                          j->attrs->style == PCNN_STYLE_KERAS, j->attrs->nesterov, j->attrs->first);
}

static pcnn_status
run(const pcnn_site *site)
{
    const pcnn_type *type = &site->out[0].type;
    const double *hyper = site->in[HYPER].data;
    bool velocity = pcnn_type_present(&site->in[VELOCITY].type);
    PCNN_TRY(pcnn_check_hyper(site, HYPER));
    if (hyper[1] != 0 && !velocity)
        return pcnn_fail(PCNN_ERR_VALUE, "sgd_: momentum %g needs a velocity, got None", hyper[1]);
    pcnn_take_over(&site->in[PARAM], &site->out[0]);
    if (velocity)
        pcnn_take_over(&site->in[VELOCITY], &site->out[1]);
    job j = {pcnn_kernels_for(type->dtype),
             site->out[0].data,
             NULL,
             site->in[GRAD].data,
             site->n_in > SLOPE ? site->in[SLOPE].data : NULL,
             pcnn_type_size(type),
             pcnn_dtype_size(type->dtype),
             hyper,
             site->attrs};
    if (velocity && hyper[1] != 0)
        j.v = site->out[1].data;
    if (j.n > 0)
        pcnn_parallel((j.n + PCNN_STEP_CHUNK - 1) / PCNN_STEP_CHUNK, 1, (double)j.n * 0.6, task,
                      &j);
    return PCNN_OK;
}

static const pcnn_attr attrs[] = {
    PCNN_ATTR(pcnn_sgd_attrs, nesterov, PCNN_ATTR_BOOL, "False"),
    {"style", PCNN_ATTR_CHOICE, offsetof(pcnn_sgd_attrs, style), "keras", pcnn_style_choices},
    PCNN_ATTR(pcnn_sgd_attrs, first, PCNN_ATTR_BOOL, "False"),
    {0},
};

static const pcnn_impl impls[] = {{"plain", 0, 0, 1, NULL, NULL, run, NULL}, {0}};

const pcnn_op pcnn_op_sgd_ = {
    .name = "sgd_",
    .doc = "param -= learning rate * grad, with momentum where there is a velocity, in place\n\n"
           "param, grad, velocity: float32 or float64, one shape; velocity may be None; hyper: "
           "float64 [4], (learning rate, momentum, weight decay, dampening); slope: one number of "
           "param's dtype or None, grad + slope * param then stands for grad. Gives (param, "
           "velocity).",
    .n_in = 5,
    .params =
        {{"param", false}, {"grad", false}, {"velocity", true}, {"hyper", false}, {"slope", true}},
    .n_out = 2,
    .out_names = {"param", "velocity"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_sgd_attrs),
    .writes = {PARAM + 1, VELOCITY + 1},
    .infer = infer,
    .impls = impls,
};
