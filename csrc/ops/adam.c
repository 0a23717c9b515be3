/* adam_: one step of Adam (Kingma and Ba, ICLR 2015), in place, at step t = 1, 2, ...
 *
 *   keras   w -= w * decay * rate; m += (g - m) (1 - beta1); v += (g^2 - v) (1 - beta2);
 *           w -= m * alpha / (sqrt(v) + epsilon), alpha = rate sqrt(1 - beta2^t) / (1 - beta1^t)
 *   torch   g += decay * w; m as above; v = beta2 v + (1 - beta2) g^2;
 *           w -= rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
 *
 * The two place epsilon differently. The numbers in `hyper`, t included, are read at each run. With
 * `slope` and `clip`, g is made of the gradient in memory as in sgd_.
 * Not handled: AMSGrad. */
#include <math.h>

#include "isa/kernels.h"
#include "ops/optimizer.h"
#include "ops/pieces.h"

enum { PARAM, GRAD, M, V, HYPER };

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    const pcnn_adam_attrs *attrs = call->attrs;
    PCNN_TRY(pcnn_infer_step(call, V, HYPER, 6, attrs->clip));
    out[0] = call->in[PARAM];
    out[1] = call->in[M];
    out[2] = call->in[V];
    return PCNN_OK;
}

typedef struct {
    const pcnn_kernels *kernels;
    char *w, *m, *v;
    const char *g;
    pcnn_step_gradient gradient;
    int64_t n;
    size_t width;
    bool keras;
    double c[7];
} job;
_Static_assert(sizeof(job) <= PCNN_JOB_BYTES, "a job has no room");

static void
run_pieces(const void *context, int64_t begin, int64_t end)
{
    const job *j = context;
    int64_t from = begin * PCNN_STEP_PIECE, to = end * PCNN_STEP_PIECE;
    size_t at = (size_t)from * j->width;
    j->kernels->adam_range(j->w + at, j->g + at, j->m + at, j->v + at, &j->gradient,
                           (to < j->n ? to : j->n) - from, j->c, j->keras);
}

static pcnn_status
prepare(const pcnn_site *site, void *memory, int64_t *pieces, double *cost_ns)
{
    const pcnn_adam_attrs *attrs = site->attrs;
    job *j = memory;
    const pcnn_type *type = &site->out[0].type;
    const double *hyper = site->in[HYPER].data;
    double rate = hyper[0], beta1 = hyper[1], beta2 = hyper[2], step = hyper[5];
    PCNN_TRY(pcnn_check_hyper(site, HYPER));
    if (!(step >= 1))
        return pcnn_fail(PCNN_ERR_VALUE, "adam_: step must be 1 or more, got %g", step);
    *j = (job){pcnn_kernels_for(type->dtype),
               site->out[0].data,
               site->out[1].data,
               site->out[2].data,
               site->in[GRAD].data,
               pcnn_step_gradient_of(site, HYPER, attrs->clip),
               pcnn_type_size(type),
               pcnn_dtype_size(type->dtype),
               attrs->style == PCNN_STYLE_KERAS,
               {0}};
    double correction1 = 1 - pow(beta1, step), correction2 = sqrt(1 - pow(beta2, step));
    j->c[0] = j->keras ? rate * correction2 / correction1 : rate / correction1;
    j->c[1] = 1 - beta1;
    j->c[2] = 1 - beta2;
    j->c[3] = hyper[3];
    j->c[4] = hyper[4];
    j->c[5] = j->keras ? rate : beta2;
    j->c[6] = correction2;
    pcnn_take_over(&site->in[PARAM], &site->out[0]);
    pcnn_take_over(&site->in[M], &site->out[1]);
    pcnn_take_over(&site->in[V], &site->out[2]);
    *pieces = (j->n + PCNN_STEP_PIECE - 1) / PCNN_STEP_PIECE;
    *cost_ns = (double)j->n;
    return PCNN_OK;
}

static pcnn_status
run(const pcnn_site *site)
{
    return pcnn_pieces_run(site, 1, NULL);
}

static const pcnn_attr attrs[] = {
    {"style", PCNN_ATTR_CHOICE, offsetof(pcnn_adam_attrs, style), "keras", pcnn_style_choices},
    {"clip", PCNN_ATTR_CHOICE, offsetof(pcnn_adam_attrs, clip), "none", pcnn_clip_choices},
    {0},
};

static const pcnn_impl impls[] = {{"plain", 0, 0, 1, NULL, NULL, run, NULL}, {0}};
static const pcnn_pieces pieces = {prepare, run_pieces, NULL, PCNN_STEP_GRAIN};

const pcnn_op pcnn_op_adam_ = {
    .name = "adam_",
    .doc = "param -= Adam's step for grad, in place\n\nparam, grad, m, v: float32 or float64, one "
           "shape; hyper: float64 [6], (learning rate, beta1, beta2, epsilon, weight decay, step "
           "from 1 on); " PCNN_STEP_DOC " Gives (param, m, v).",
    .n_in = 8,
    .params = {{"param", false},
               {"grad", false},
               {"m", false},
               {"v", false},
               {"hyper", false},
               {"slope", true},
               {"clip_a", true},
               {"clip_b", true}},
    .n_out = 3,
    .out_names = {"param", "m", "v"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_adam_attrs),
    .writes = {PARAM + 1, M + 1, V + 1},
    .infer = infer,
    .impls = impls,
    .pieces = &pieces,
};
