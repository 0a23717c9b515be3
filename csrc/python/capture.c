/* `with capture() as tape:` records ops into a plan of its own; plan.c runs it. */
#include "python/python.h"

#include <string.h>

#include "core/parallel.h"
#include "plan/segment.h"

typedef struct {
    PyObject_HEAD pcnn_trace *trace;
    bool entered;
    PyObject *placeholders; /* list of Tensors */
    /* Handles that effects rebound: (tensor, its value before). */
    struct {
        pcnn_py_tensor *tensor;
        pcnn_value *value;
    } *rebound;
    Py_ssize_t n_rebound;
} capture_object;

static _Thread_local capture_object *active; /* owned */

int
pcnn_py_capture_note(pcnn_py_tensor *tensor)
{
    if (active == NULL || tensor->value->symbolic)
        return 0;
    void *more =
        PyMem_Realloc(active->rebound, (size_t)(active->n_rebound + 1) * sizeof *active->rebound);
    if (more == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    active->rebound = more;
    active->rebound[active->n_rebound].tensor = (pcnn_py_tensor *)Py_NewRef((PyObject *)tensor);
    active->rebound[active->n_rebound++].value = pcnn_value_ref(tensor->value);
    return 0;
}

static PyObject *
capture_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) != 0 || (kwargs && PyDict_GET_SIZE(kwargs) != 0)) {
        PyErr_SetString(PyExc_TypeError, "capture() takes no arguments");
        return NULL;
    }
    capture_object *self = (capture_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->trace = pcnn_trace_new_capture();
    self->placeholders = PyList_New(0);
    if (self->trace == NULL || self->placeholders == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void
restore_handles(capture_object *self)
{
    while (self->n_rebound > 0) {
        pcnn_py_tensor *tensor = self->rebound[--self->n_rebound].tensor;
        pcnn_py_tensor_rebind(tensor, self->rebound[self->n_rebound].value);
        Py_DECREF(tensor);
    }
    PyMem_Free(self->rebound);
    self->rebound = NULL;
}

static PyObject *
capture_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    capture_object *self = (capture_object *)object;
    if (active != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "captures cannot be nested");
        return NULL;
    }
    if (self->entered) {
        PyErr_SetString(PyExc_RuntimeError, "a capture can be entered once");
        return NULL;
    }
    self->entered = true;
    /* Effects rebind handles while this capture is open: another thread's must wait. */
    PyThreadState *state = PyEval_SaveThread();
    pcnn_capture_lock();
    PyEval_RestoreThread(state);
    active = (capture_object *)Py_NewRef(object);
    pcnn_trace_set_capture(self->trace);
    return Py_NewRef(object);
}

static PyObject *
capture_exit(PyObject *object, PyObject *args)
{
    (void)args;
    capture_object *self = (capture_object *)object;
    if (active == self) {
        active = NULL;
        pcnn_trace_set_capture(NULL);
        restore_handles(self);
        pcnn_capture_unlock();
        Py_DECREF(object);
    }
    Py_RETURN_NONE;
}

static PyObject *
capture_placeholder(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"shape", "dtype", "name", NULL};
    capture_object *self = (capture_object *)object;
    PyObject *shape, *dtype = NULL, *name = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:placeholder", names, &shape, &dtype,
                                     &name))
        return NULL;
    PyObject *items = pcnn_py_tuple(shape, "placeholder: shape must be a sequence of ints");
    if (items == NULL)
        return NULL;
    Py_ssize_t ndim = PyTuple_GET_SIZE(items);
    int kind = pcnn_py_parse_dtype(dtype, PCNN_F32);
    pcnn_type type = {kind < 0 ? PCNN_F32 : (pcnn_dtype)kind, (int)ndim, {0}};
    if (ndim > PCNN_MAX_NDIM)
        PyErr_Format(PyExc_ValueError, "placeholder: at most %d dimensions", (int)PCNN_MAX_NDIM);
    for (Py_ssize_t i = 0; i < ndim && !PyErr_Occurred(); i++)
        type.shape[i] = PyNumber_AsSsize_t(PyTuple_GET_ITEM(items, i), PyExc_OverflowError);
    Py_DECREF(items);
    if (PyErr_Occurred())
        return NULL;
    pcnn_status status = pcnn_type_check(&type, "placeholder");
    if (status != PCNN_OK)
        return pcnn_py_raise(status);
    pcnn_value *value = pcnn_value_new(&type);
    if (value == NULL)
        return PyErr_NoMemory();
    value->symbolic = true;
    value->home = self->trace->number;
    value->placeholder = self->trace->placeholders++;
    PyObject *tensor = pcnn_py_tensor_wrap(value);
    if (tensor != NULL && PyList_Append(self->placeholders, tensor) < 0)
        Py_CLEAR(tensor);
    return tensor;
}

static void
capture_dealloc(PyObject *object)
{
    capture_object *self = (capture_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    restore_handles(self);
    Py_XDECREF(self->placeholders);
    if (self->trace)
        pcnn_trace_free_capture(self->trace);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *
capture_compile(PyObject *object, PyObject *outputs)
{
    capture_object *self = (capture_object *)object;
    PyObject *items = pcnn_py_tuple(outputs, "compile: outputs must be a sequence of Tensors");
    if (items == NULL)
        return NULL;
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    pcnn_value **wanted = PyMem_Calloc((size_t)n + 1, sizeof *wanted);
    PyObject *result = NULL;
    if (wanted == NULL) {
        Py_DECREF(items);
        return PyErr_NoMemory();
    }
    bool good = true;
    for (Py_ssize_t k = 0; k < n && good; k++) {
        PyObject *item = PyTuple_GET_ITEM(items, k);
        good = pcnn_py_is_tensor(item);
        if (!good) {
            PyErr_Format(PyExc_TypeError, "compile: output %zd is a %s, not a Tensor", k,
                         Py_TYPE(item)->tp_name);
            break;
        }
        wanted[k] = pcnn_value_ref(((pcnn_py_tensor *)item)->value);
        good = wanted[k]->symbolic || pcnn_py_compute(wanted[k]) == 0;
    }
    if (good) {
        pcnn_segment segment;
        pcnn_status status = pcnn_segment_capture(&segment, self->trace, wanted, (int32_t)n);
        if (status == PCNN_OK)
            result = pcnn_py_plan_new(&segment, wanted, self->placeholders);
        else
            pcnn_py_raise(status);
        pcnn_segment_clear(&segment);
    }
    for (Py_ssize_t k = 0; k < n; k++)
        pcnn_value_unref(wanted[k]);
    PyMem_Free(wanted);
    Py_DECREF(items);
    return result;
}

static PyMethodDef capture_methods[] = {
    {"__enter__", capture_enter, METH_NOARGS, NULL},
    {"__exit__", capture_exit, METH_VARARGS, NULL},
    {"placeholder", (PyCFunction)(void (*)(void))capture_placeholder, METH_VARARGS | METH_KEYWORDS,
     "placeholder(shape, dtype='float32', name=''): a tensor whose numbers each run brings."},
    {"compile", capture_compile, METH_O,
     "compile(outputs): the Plan that computes these tensors and all effects recorded."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot capture_slots[] = {
    {Py_tp_doc, "with capture() as tape: ops inside are recorded into one plan, not computed.\n\n"
                "Tensors that exist are read, and written by effects, at each run of the plan."},
    {Py_tp_new, capture_new},
    {Py_tp_dealloc, capture_dealloc},
    {Py_tp_methods, capture_methods},
    {0, NULL},
};

PyType_Spec pcnn_py_capture_spec = {
    .name = "pycnn._core.capture",
    .basicsize = sizeof(capture_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = capture_slots,
};
