/* y = x: a plain copy, for a value that is wanted in two places. */
#include <string.h>

#include "ops/op.h"

static pcnn_status
copy_infer(const pcnn_call *call, pcnn_type *out)
{
    out[0] = call->in[0];
    return PCNN_OK;
}

static pcnn_status
copy_gradient(pcnn_grad *grad)
{
    return PCNN_EMIT(grad, &grad->din[0], copy, NULL, grad->dout[0]);
}

static pcnn_status
copy_run(const pcnn_site *site)
{
    if (site->out[0].data != site->in[0].data)
        memcpy(site->out[0].data, site->in[0].data,
               (size_t)pcnn_layout_bytes(&site->in[0].type, PCNN_PLAIN));
    return PCNN_OK;
}

static const pcnn_impl impls[] = {{.name = "reference", .run = copy_run}, {0}};

const pcnn_op pcnn_op_copy = {
    .name = "copy",
    .doc = "y = x, in memory of its own.",
    .n_in = 1,
    .params = {{"x", false}},
    .n_out = 1,
    .out_names = {"y"},
    .infer = copy_infer,
    .gradient = copy_gradient,
    .impls = impls,
};
