/* Tensor.backward() and gradients(). */
#include "python/python.h"

#include <stdlib.h>
#include <string.h>

static pcnn_py_tensor *
as_tensor(PyObject *object)
{
    return (pcnn_py_tensor *)object;
}

/* ---- what a sweep finds ----
 *
 * It is only noted down: making Python objects may run anything (the garbage collector does), and
 * adding to a gradient may have to wait for another thread. Neither is allowed amid a sweep. */

typedef struct {
    struct {
        pcnn_value *value, *gradient; /* owned */
    } *at;
    Py_ssize_t n, capacity;
    bool leaves_only;
} findings;

static pcnn_status
note(void *context, pcnn_value *value, pcnn_value *gradient)
{
    findings *f = context;
    if (f->leaves_only && value->leaf == NULL)
        return PCNN_OK;
    if (f->n == f->capacity) {
        Py_ssize_t capacity = f->capacity ? 2 * f->capacity : 32;
        void *at = realloc(f->at, (size_t)capacity * sizeof *f->at);
        if (at == NULL)
            return pcnn_fail(PCNN_ERR_MEMORY, "backward: out of memory");
        f->at = at;
        f->capacity = capacity;
    }
    f->at[f->n].value = pcnn_value_ref(value);
    /* Until a tensor stands for it: another thread may compute this trace meanwhile. */
    pcnn_value_ref(gradient)->handles++;
    f->at[f->n++].gradient = gradient;
    return PCNN_OK;
}

static void
forget(findings *f)
{
    for (Py_ssize_t k = 0; k < f->n; k++) {
        pcnn_value_unref(f->at[k].value);
        f->at[k].gradient->handles--;
        pcnn_value_unref(f->at[k].gradient);
    }
    f->n = 0;
}

/* A sweep from `loss`; again where it had to wait for another thread. 0 or -1. */
static int
sweep(pcnn_trace *trace, pcnn_value *loss, pcnn_value *seed, bool retain, findings *found)
{
    for (;;) {
        int settled = pcnn_py_settle(trace, "backward", loss);
        if (settled == 0 && seed != NULL)
            settled = pcnn_py_settle(trace, "backward", seed);
        if (settled < 0)
            return -1;
        if (settled > 0)
            continue;
        pcnn_value *blocked;
        pcnn_status status = pcnn_backward(trace, loss, seed, retain, note, found, &blocked);
        if (blocked != NULL) {
            forget(found);
            int failed = pcnn_py_compute(blocked);
            pcnn_value_unref(blocked);
            if (failed < 0)
                return -1;
            continue;
        }
        if (status == PCNN_OK)
            return 0;
        pcnn_py_raise(status);
        return -1;
    }
}

/* ---- backward() ---- */

typedef struct {
    pcnn_py_tensor *leaf; /* owned */
    pcnn_value *before;   /* what .grad stood for, or NULL (owned) */
    PyObject *grad;       /* .grad as it is now (owned) */
} undo;

/* leaf.grad += gradient, in the Tensor that is there. */
static int
add_gradient(pcnn_trace *trace, pcnn_py_tensor *leaf, pcnn_value *gradient, undo *step)
{
    step->leaf = (pcnn_py_tensor *)Py_NewRef((PyObject *)leaf);
    if (leaf->grad == NULL) {
        PyObject *made = pcnn_py_tensor_wrap(pcnn_value_ref(gradient));
        if (made == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        Py_XSETREF(leaf->grad, made);
        step->grad = Py_NewRef(made);
        return 0;
    }
    step->grad = Py_NewRef(leaf->grad);
    pcnn_value *old = NULL, *sum = NULL;
    int settled;
    do { /* another thread may replace it meanwhile */
        pcnn_value_unref(old);
        old = pcnn_value_ref(as_tensor(step->grad)->value);
        settled = pcnn_py_settle(trace, "backward", old);
    } while (settled > 0);
    if (settled < 0) {
        pcnn_value_unref(old);
        return -1;
    }
    step->before = old;
    pcnn_status status = pcnn_record(trace, &pcnn_op_add, NULL,
                                     (pcnn_value *const[]){old, gradient}, 2, false, &sum);
    if (status != PCNN_OK) {
        pcnn_py_raise(status);
        return -1;
    }
    pcnn_py_tensor_rebind(as_tensor(step->grad), sum);
    return 0;
}

/* A failed backward() leaves every .grad as it was. */
static void
take_back(undo *step)
{
    if (step->grad == NULL)
        return;
    if (step->before != NULL)
        pcnn_py_tensor_rebind(as_tensor(step->grad), pcnn_value_ref(step->before));
    else if (step->leaf->grad == step->grad)
        Py_CLEAR(step->leaf->grad);
}

static int
add_gradients(pcnn_trace *trace, const findings *found)
{
    undo *steps = calloc((size_t)found->n + 1, sizeof *steps);
    Py_ssize_t n = 0;
    int failed = steps == NULL;
    if (failed)
        PyErr_NoMemory();
    for (Py_ssize_t k = 0; k < found->n && !failed; k++) {
        const pcnn_leaf *leaf = found->at[k].value->leaf;
        if (leaf != NULL && leaf->tensor != NULL) /* else the user's tensor is gone */
            failed = add_gradient(trace, leaf->tensor, found->at[k].gradient, &steps[n++]) < 0;
    }
    failed = failed || pcnn_py_force(trace) < 0;
    if (failed && steps != NULL) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        for (Py_ssize_t k = n - 1; k >= 0; k--)
            take_back(&steps[k]);
        PyErr_Restore(type, value, traceback);
    }
    for (Py_ssize_t k = 0; k < n; k++) {
        Py_XDECREF((PyObject *)steps[k].leaf);
        Py_XDECREF(steps[k].grad);
        pcnn_value_unref(steps[k].before);
    }
    free(steps);
    return failed ? -1 : 0;
}

PyObject *
pcnn_py_tensor_backward(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"gradient", "retain_graph", NULL};
    PyObject *gradient = Py_None;
    int retain = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|Op:backward", names, &gradient, &retain))
        return NULL;
    pcnn_value *loss = as_tensor(self)->value, *seed = NULL;
    pcnn_trace *trace = pcnn_trace_lazy(); /* also inside a capture: this computes */
    if (trace == NULL)
        return PyErr_NoMemory();
    if (loss->symbolic) {
        PyErr_SetString(PyExc_RuntimeError,
                        "backward: inside a capture use pycnn.gradients(loss, tensors)");
        return NULL;
    }
    if (gradient != Py_None) {
        if (pcnn_py_is_tensor(gradient)) {
            seed = pcnn_value_ref(as_tensor(gradient)->value);
        }
        else {
            PyArrayObject *array = pcnn_py_array(gradient, "gradient");
            seed = array ? pcnn_py_value_copy(array) : NULL;
            Py_XDECREF(array);
        }
        if (seed == NULL)
            return NULL;
    }
    findings found = {.leaves_only = true};
    pcnn_value_ref(loss);
    int failed = sweep(trace, loss, seed, retain, &found) < 0 || add_gradients(trace, &found) < 0;
    forget(&found);
    free(found.at);
    pcnn_value_unref(seed);
    pcnn_value_unref(loss);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- gradients() ---- */

static PyObject *
zeros_like(const pcnn_type *type)
{
    pcnn_storage *storage = pcnn_storage_new(pcnn_layout_bytes(type, PCNN_PLAIN));
    if (storage == NULL)
        return PyErr_NoMemory();
    memset(storage->data, 0, (size_t)storage->bytes);
    return pcnn_py_tensor_wrap(pcnn_value_from_storage(type, storage));
}

/* The gradient for one tensor: the sum over all values that stand for it (the tensor's own, and
 * copies of memory that NumPy can write). */
static PyObject *
gradient_of(pcnn_trace *trace, const findings *found, pcnn_py_tensor *tensor)
{
    pcnn_value *total = NULL;
    for (Py_ssize_t k = 0; k < found->n; k++) {
        const pcnn_value *value = found->at[k].value;
        if (tensor->value != value && (value->leaf == NULL || value->leaf->tensor != tensor))
            continue;
        pcnn_value *more = found->at[k].gradient, *sum = NULL;
        if (total == NULL) {
            total = pcnn_value_ref(more);
            continue;
        }
        pcnn_status status = pcnn_record(trace, &pcnn_op_add, NULL,
                                         (pcnn_value *const[]){total, more}, 2, false, &sum);
        pcnn_value_unref(total);
        if (status != PCNN_OK)
            return pcnn_py_raise(status);
        total = sum;
    }
    return total ? pcnn_py_tensor_wrap(total) : zeros_like(&tensor->value->type);
}

/* gradients(loss, tensors): the symbolic form, which adds to no tensor's .grad. */
PyObject *
pcnn_py_gradients(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *loss, *wanted;
    if (!PyArg_ParseTuple(arguments, "O!O:gradients", pcnn_py.tensor_type, &loss, &wanted))
        return NULL;
    PyObject *tensors = pcnn_py_tuple(wanted, "gradients: tensors must be a sequence");
    if (tensors == NULL)
        return NULL;
    Py_ssize_t n = PyTuple_GET_SIZE(tensors);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(tensors, i);
        if (!pcnn_py_is_tensor(item) || !as_tensor(item)->value->requires_grad) {
            PyErr_Format(PyExc_ValueError,
                         "gradients: item %zd must be a Tensor with requires_grad=True", i);
            Py_DECREF(tensors);
            return NULL;
        }
    }
    pcnn_trace *trace = pcnn_trace_current();
    pcnn_value *value = pcnn_value_ref(as_tensor(loss)->value);
    findings found = {.leaves_only = false};
    PyObject *result = NULL;
    /* A loss that depends on nothing: every gradient is zero. */
    if (trace == NULL)
        PyErr_NoMemory();
    else if (!value->requires_grad || sweep(trace, value, NULL, trace->capture, &found) == 0)
        result = PyList_New(n);
    for (Py_ssize_t i = 0; i < n && result != NULL; i++) {
        PyObject *item = gradient_of(trace, &found, as_tensor(PyTuple_GET_ITEM(tensors, i)));
        if (item == NULL)
            Py_CLEAR(result);
        else
            PyList_SET_ITEM(result, i, item);
    }
    forget(&found);
    free(found.at);
    pcnn_value_unref(value);
    Py_DECREF(tensors);
    return result;
}
