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
#include "plan/plan.h"
#include "plan/segment.h"

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
/* An array on the tensor's memory: to hand out, or to read at once and let go. */
PyObject *pcnn_py_tensor_numpy(PyObject *self);
PyObject *pcnn_py_tensor_look(PyObject *self);

/* ---- gradients.c ---- */
PyObject *pcnn_py_tensor_backward(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *pcnn_py_gradients(PyObject *module, PyObject *arguments);

/* ---- tensor_index.c ---- */
PyObject *pcnn_py_tensor_subscript(PyObject *self, PyObject *key);

/* ---- force.c: computing ---- */

/* Computes everything pending in a trace; 0 or -1 with an exception set. */
int pcnn_py_force(pcnn_trace *trace);
int pcnn_py_force_first(pcnn_trace *trace, int64_t count); /* the oldest `count` nodes of it */
/* Sees to it that the value has memory. */
int pcnn_py_compute(pcnn_value *value);
/* Sees to it that the value can be used in this trace: computed, or pending there. Gives 1 where
 * the interpreter lock was released for it, so that other values may have changed; -1: failed. */
int pcnn_py_settle(pcnn_trace *trace, const char *what, pcnn_value *value);
/* Runs every pending node that reads this memory, whichever thread recorded it, and waits for those
 * that are running. */
int pcnn_py_force_readers(pcnn_storage *storage);

/* While the interpreter lock may be released, another thread may compute this thread's trace: values
 * that are still needed must stay visible to it, though no tensor may stand for them just then. */
void pcnn_py_hold(pcnn_value *const *values, int n, int change);
/* Every input must be usable in this trace, computed or pending here, and what the op overwrites
 * must have been read. Each step towards that may release the interpreter lock and undo another one,
 * so this goes on until a whole round had nothing to do. */
int pcnn_py_settle_inputs(pcnn_trace *trace, const pcnn_op *op, pcnn_value *const *in, int n);

/* ---- arrays.c: between NumPy and values ---- */

/* Whether some elements of an array are masked out (numpy.ma). */
bool pcnn_py_has_masked(PyObject *array);

/* The items of a sequence (not of a Tensor) as a tuple of our own, which nobody else can change;
 * `message` is raised as a TypeError where there are none. */
PyObject *pcnn_py_tuple(PyObject *object, const char *message);

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

/* ---- bind_attrs.c ---- */

/* Parses one attribute into its place in the op's struct; 0, or -1 with an exception. */
int pcnn_py_parse_attr(const pcnn_op *op, const pcnn_attr *attr, PyObject *object, void *attrs);

/* ---- bind_ops.c ---- */

int pcnn_py_add_ops(PyObject *module);
/* Records an op on Python objects (Tensors, arrays, numbers, None). New reference: Tensor or tuple. */
PyObject *pcnn_py_apply(const pcnn_op *op, const void *attrs, PyObject *const *inputs, int n);
PyObject *pcnn_py_apply_defaults(const pcnn_op *op, PyObject *const *inputs, int n);
PyObject *pcnn_py_call_op(const char *name, PyObject *args, PyObject *kwargs);

/* ---- capture.c, plan.c ---- */

extern PyType_Spec pcnn_py_capture_spec, pcnn_py_plan_spec;
/* The plan of a captured segment that computes `wanted`; placeholders are Tensors, in order. */
PyObject *pcnn_py_plan_new(pcnn_segment *segment, pcnn_value *const *wanted,
                           PyObject *placeholders);
PyObject *pcnn_py_plan_steps(const pcnn_plan *plan); /* list of dicts */
/* Inside a capture an effect rebinds handles for the capture's time only. */
int pcnn_py_capture_note(pcnn_py_tensor *tensor);

/* ---- profile.c ---- */

/* Adds to a step's dict its dtype, attributes, label, phase and refusals; 0 or -1. */
int pcnn_py_describe_step(PyObject *step, const pcnn_plan *plan, const pcnn_pnode *node);
/* Tells the hook, where there is one, that a plan was made, or has run. */
void pcnn_py_tell_plan(pcnn_plan *plan, bool made);
extern PyMethodDef pcnn_py_profile_methods[];

#endif
