/* What the files of the Python boundary share. They are the only ones that include Python.h. */
#ifndef PCNN_PYTHON_PYTHON_H
#define PCNN_PYTHON_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define PY_ARRAY_UNIQUE_SYMBOL pcnn_numpy_api
#ifndef PCNN_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include "graph/graph.h"

/* ---- state of the module (one a process: the engine's caches are process-wide) ---- */

typedef struct {
    PyTypeObject *tensor_type, *capture_type, *plan_type, *no_grad_type;
    PyObject *shape_error;
    PyObject *ops;           /* module of builtins, one an op */
    PyObject *tensor_method; /* "__pycnn_tensor__" */
} pcnn_py_state;

extern pcnn_py_state pcnn_py;

/* ---- errors.c ---- */

/* Raises what the engine's status means; returns NULL for `return pcnn_py_raise(status);`. */
PyObject *pcnn_py_raise(pcnn_status status);

/* ---- tensor.c: a handle on a value ---- */

typedef struct {
    PyObject_HEAD pcnn_value *value;      /* owned; the handle counts in value->handles */
    PyObject *grad;         /* NULL, or a Tensor */
    PyObject *keras_logits; /* NULL, or what softmax or sigmoid was applied to */
    PyObject *weak_references;
} pcnn_py_tensor;

static inline bool
pcnn_py_is_tensor(PyObject *object)
{
    return PyObject_TypeCheck(object, pcnn_py.tensor_type);
}

PyObject *pcnn_py_tensor_wrap(pcnn_value *value); /* takes the reference; NULL: unreferenced */
/* The handle now stands for another value (takes the reference). */
void pcnn_py_tensor_rebind(pcnn_py_tensor *tensor, pcnn_value *value);
extern PyType_Spec pcnn_py_tensor_spec, pcnn_py_no_grad_spec;

/* ---- tensor_methods.c ---- */
extern PyMethodDef pcnn_py_tensor_methods[];
extern PyGetSetDef pcnn_py_tensor_getset[];
PyObject *pcnn_py_tensor_numpy(PyObject *self);
PyObject *pcnn_py_gradients(PyObject *module, PyObject *arguments);

/* ---- tensor_index.c ---- */
PyObject *pcnn_py_tensor_subscript(PyObject *self, PyObject *key);

/* ---- force.c: computing ---- */

/* Computes everything pending in a trace; 0 or -1 with an exception set. */
int pcnn_py_force(pcnn_trace *trace);
/* Sees to it that the value has memory. */
int pcnn_py_compute(pcnn_value *value);

/* ---- arrays.c: between NumPy and values ---- */

/* A row-major, aligned, native array of a dtype the engine has (new reference), from anything
 * array-like; `name` is for messages. */
PyArrayObject *pcnn_py_array(PyObject *object, const char *name);
int pcnn_py_dtype_of(PyArrayObject *array); /* a pcnn_dtype or -1 */
int pcnn_py_numpy_type(pcnn_dtype dtype);
/* From a dtype-like object; -1 with an exception. None gives `fallback`. */
int pcnn_py_parse_dtype(PyObject *object, int fallback);
pcnn_type pcnn_py_type_of(PyArrayObject *array);
pcnn_value *pcnn_py_value_copy(PyArrayObject *array);          /* copies */
pcnn_value *pcnn_py_value_share(PyArrayObject *array);         /* holds the array's memory */
/* A new value for a Python number in a dtype. */
pcnn_value *pcnn_py_value_number(PyObject *number, pcnn_dtype dtype);
/* An array on the value's memory, which it keeps alive and marks as writable from outside. */
PyObject *pcnn_py_array_on(pcnn_value *value);
/* Copies an array's numbers into memory of a type, casting; 0 or -1. */
int pcnn_py_copy_into(pcnn_value *value, PyObject *object);

/* ---- bind_ops.c ---- */

int pcnn_py_add_ops(PyObject *module);
/* Records an op on Python objects (Tensors, arrays, numbers, None). New reference: Tensor or tuple. */
PyObject *pcnn_py_apply(const pcnn_op *op, const void *attrs, PyObject *const *inputs, int n);
PyObject *pcnn_py_apply_defaults(const pcnn_op *op, PyObject *const *inputs, int n);
PyObject *pcnn_py_call_op(const char *name, PyObject *args, PyObject *kwargs);

/* ---- capture.c ---- */

extern PyType_Spec pcnn_py_capture_spec, pcnn_py_plan_spec;
/* Inside a capture an effect rebinds handles for the capture's time only. */
int pcnn_py_capture_note(pcnn_py_tensor *tensor);

#endif
