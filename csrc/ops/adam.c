/* adam_: one step of Adam (Kingma and Ba, ICLR 2015), in place, at step t = 1, 2, ...
 *
 *   keras   w -= w * decay * rate; m += (g - m) (1 - beta1); v += (g^2 - v) (1 - beta2);
 *           w -= m * alpha / (sqrt(v) + epsilon), alpha = rate sqrt(1 - beta2^t) / (1 - beta1^t)
 *   torch   g += decay * w; m as above; v = beta2 v + (1 - beta2) g^2;
 *           w -= rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
 *
 * The two place epsilon differently. The numbers in `hyper`, t included, are read at each run. With
 * `slope`, g is g + slope * w, as in sgd_.
 * Not handled: AMSGrad. */
#include <math.h>

#include "core/parallel.h"
#include "isa/kernels.h"
#include "ops/optimizer.h"

enum { PARAM, GRAD, M, V, HYPER, SLOPE };

static pcnn_status
infer(const pcnn_call *call, pcnn_type *out)
{
    PCNN_TRY(pcnn_infer_step(call, V, HYPER, 6));
    out[0] = call->in[PARAM];
    out[1] = call->in[M];
    out[2] = call->in[V];
    return PCNN_OK;
}

typedef struct {
    const pcnn_kernels *kernels;
    char *w, *m, *v;
    const char *g;
    const void *slope;
    int64_t n;
    size_t width;
    bool keras;
    double c[7];
} job;

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    const job *j = context;
    int64_t from = begin * PCNN_STEP_CHUNK, to = end * PCNN_STEP_CHUNK;
    size_t at = (size_t)from * j->width;
    (void)worker;
    j->kernels->adam_range(j->w + at, j->g + at, j->m + at, j->v + at, j->slope,
                           (to < j->n ? to : j->n) - from, j->c, j->keras);
}

static pcnn_status
run(const pcnn_site *site)
{
    const pcnn_type *type = &site->out[0].type;
    const double *hyper = site->in[HYPER].data;
    double rate = hyper[0], beta1 = hyper[1], beta2 = hyper[2], step = hyper[5];
    PCNN_TRY(pcnn_check_hyper(site, HYPER));
    if (!(step >= 1))
        return pcnn_fail(PCNN_ERR_VALUE, "adam_: step must be 1 or more, got %g", step);
    job j = {pcnn_kernels_for(type->dtype),
             site->out[0].data,
             site->out[1].data,
             site->out[2].data,
             site->in[GRAD].data,
             site->n_in > SLOPE ? site->in[SLOPE].data : NULL,
             pcnn_type_size(type),
             pcnn_dtype_size(type->dtype),
             false,
             {0}};
    j.keras = ((const pcnn_adam_attrs *)site->attrs)->style == PCNN_STYLE_KERAS;
    double correction1 = 1 - pow(beta1, step), correction2 = sqrt(1 - pow(beta2, step));
    j.c[0] = j.keras ? rate * correction2 / correction1 : rate / correction1;
    j.c[1] = 1 - beta1;
    j.c[2] = 1 - beta2;
    j.c[3] = hyper[3];
    j.c[4] = hyper[4];
    j.c[5] = j.keras ? rate : beta2;
    j.c[6] = correction2;
    pcnn_take_over(&site->in[PARAM], &site->out[0]);
    pcnn_take_over(&site->in[M], &site->out[1]);
    pcnn_take_over(&site->in[V], &site->out[2]);
    if (j.n > 0)
        pcnn_parallel((j.n + PCNN_STEP_CHUNK - 1) / PCNN_STEP_CHUNK, 1, (double)j.n, task, &j);
    return PCNN_OK;
}

static const pcnn_attr attrs[] = {
    {"style", PCNN_ATTR_CHOICE, offsetof(pcnn_adam_attrs, style), "keras", pcnn_style_choices},
    {0},
};

static const pcnn_impl impls[] = {{"plain", 0, 0, 1, NULL, NULL, run, NULL}, {0}};

const pcnn_op pcnn_op_adam_ = {
    .name = "adam_",
    .doc = "param -= Adam's step for grad, in place\n\nparam, grad, m, v: float32 or float64, one "
           "shape; hyper: float64 [6], (learning rate, beta1, beta2, epsilon, weight decay, step "
           "from 1 on); slope: one number of param's dtype or None, grad + slope * param then "
           "stands for grad. Gives (param, m, v).",
    .n_in = 6,
    .params = {{"param", false},
               {"grad", false},
               {"m", false},
               {"v", false},
               {"hyper", false},
               {"slope", true}},
    .n_out = 3,
    .out_names = {"param", "m", "v"},
    .attrs = attrs,
    .attrs_size = sizeof(pcnn_adam_attrs),
    .writes = {PARAM + 1, M + 1, V + 1},
    .infer = infer,
    .impls = impls,
};
