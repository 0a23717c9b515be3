/* Methods and attributes of pycnn.Tensor. */
#include "python/python.h"

#include <string.h>

static pcnn_py_tensor *
as_tensor(PyObject *object)
{
    return (pcnn_py_tensor *)object;
}

PyObject *
pcnn_py_tensor_look(PyObject *self)
{
    pcnn_value *value = pcnn_value_ref(as_tensor(self)->value);
    PyObject *array = pcnn_py_compute(value) < 0 ? NULL : pcnn_py_array_on(value);
    pcnn_value_unref(value);
    return array;
}

/* Whoever gets the array may write into it: what is pending has to read the memory before. */
PyObject *
pcnn_py_tensor_numpy(PyObject *self)
{
    pcnn_value *value = pcnn_value_ref(as_tensor(self)->value);
    PyObject *array = NULL;
    if (pcnn_py_compute(value) == 0 && pcnn_py_force_readers(value->storage) == 0)
        array = pcnn_py_array_on(value);
    pcnn_value_unref(value);
    return array;
}

static PyObject *
method_numpy(PyObject *self, PyObject *unused)
{
    (void)unused;
    return pcnn_py_tensor_numpy(self);
}

static PyObject *
method_array(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"dtype", "copy", NULL};
    PyObject *dtype = Py_None, *copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:__array__", names, &dtype, &copy))
        return NULL;
    PyObject *array = pcnn_py_tensor_numpy(self);
    if (array == NULL)
        return NULL;
    PyArray_Descr *descr = NULL;
    if (dtype != Py_None && !PyArray_DescrConverter(dtype, &descr)) {
        Py_DECREF(array);
        return NULL;
    }
    int flags = copy == Py_True ? NPY_ARRAY_ENSURECOPY : 0;
    if (copy == Py_False && descr != NULL &&
        !PyArray_EquivTypes(descr, PyArray_DESCR((PyArrayObject *)array))) {
        PyErr_SetString(PyExc_ValueError, "__array__: this dtype cannot be had without a copy");
        Py_DECREF(array);
        Py_DECREF(descr);
        return NULL;
    }
    PyObject *result =
        PyArray_FromArray((PyArrayObject *)array, descr, flags | NPY_ARRAY_FORCECAST);
    Py_DECREF(array);
    return result;
}

static PyObject *
via_array(PyObject *self, const char *method)
{
    PyObject *array = pcnn_py_tensor_look(self);
    PyObject *result = array ? PyObject_CallMethod(array, method, NULL) : NULL;
    Py_XDECREF(array);
    return result;
}

static PyObject *
method_item(PyObject *self, PyObject *unused)
{
    (void)unused;
    return via_array(self, "item");
}

/* f"{loss:.3f}": one number is formatted as a number. */
static PyObject *
method_format(PyObject *self, PyObject *spec)
{
    if (PyUnicode_Check(spec) && PyUnicode_GET_LENGTH(spec) == 0)
        return PyObject_Str(self);
    PyObject *number = method_item(self, NULL);
    PyObject *text = number ? PyObject_Format(number, spec) : NULL;
    Py_XDECREF(number);
    return text;
}

static PyObject *
method_tolist(PyObject *self, PyObject *unused)
{
    (void)unused;
    return via_array(self, "tolist");
}

static PyObject *
method_detach(PyObject *self, PyObject *unused)
{
    (void)unused;
    pcnn_value *value = as_tensor(self)->value;
    if (value->symbolic) {
        pcnn_value *copy = NULL;
        if (pcnn_py_settle(pcnn_trace_current(), "detach", value) < 0)
            return NULL;
        pcnn_status status =
            pcnn_record(pcnn_trace_current(), &pcnn_op_copy, NULL, &value, 1, false, &copy);
        return status == PCNN_OK ? pcnn_py_tensor_wrap(copy) : pcnn_py_raise(status);
    }
    pcnn_value *shared = NULL;
    pcnn_value_ref(value);
    if (pcnn_py_compute(value) == 0 &&
        (shared = pcnn_value_from_storage(&value->type, pcnn_storage_ref(value->storage))) == NULL)
        PyErr_NoMemory();
    pcnn_value_unref(value);
    return shared ? pcnn_py_tensor_wrap(shared) : NULL;
}

static PyObject *
method_assign(PyObject *self, PyObject *source)
{
    pcnn_value *value = as_tensor(self)->value;
    PyObject *array = NULL;
    if (value->symbolic) {
        PyErr_SetString(PyExc_RuntimeError, "assign: inside a capture use ops.assign_");
        return NULL;
    }
    if (pcnn_py_is_tensor(source)) {
        if ((array = pcnn_py_tensor_look(source)) == NULL)
            return NULL;
    }
    else {
        array = Py_NewRef(source);
    }
    /* Everything pending must have read the old numbers. */
    pcnn_value_ref(value);
    int failed = pcnn_py_compute(value) < 0 || pcnn_py_force_readers(value->storage) < 0 ||
                 pcnn_py_copy_into(value, array) < 0;
    if (!failed)
        value->storage->version++;
    Py_DECREF(array);
    pcnn_value_unref(value);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- shape methods: the ops with other manners ---- */

static PyObject *
call_with(PyObject *self, const char *op, const char *attr, PyObject *number, PyObject *kwargs)
{
    PyObject *all = kwargs ? PyDict_Copy(kwargs) : PyDict_New();
    PyObject *args = PyTuple_Pack(1, self);
    PyObject *result = NULL;
    if (all && args && (number == NULL || PyDict_SetItemString(all, attr, number) == 0))
        result = pcnn_py_call_op(op, args, all);
    Py_XDECREF(all);
    Py_XDECREF(args);
    return result;
}

/* reshape(2, 3) and reshape((2, 3)). */
static PyObject *
one_tuple(PyObject *args)
{
    if (PyTuple_GET_SIZE(args) == 1 && PySequence_Check(PyTuple_GET_ITEM(args, 0)))
        return PySequence_Tuple(PyTuple_GET_ITEM(args, 0));
    return Py_NewRef(args);
}

static PyObject *
method_reshape(PyObject *self, PyObject *args)
{
    PyObject *shape = one_tuple(args);
    PyObject *result = shape ? call_with(self, "reshape", "shape", shape, NULL) : NULL;
    Py_XDECREF(shape);
    return result;
}

static PyObject *
method_transpose(PyObject *self, PyObject *args)
{
    PyObject *perm = NULL;
    if (PyTuple_GET_SIZE(args) == 0) {
        int ndim = as_tensor(self)->value->type.ndim;
        perm = PyTuple_New(ndim);
        for (int i = 0; perm && i < ndim; i++)
            PyTuple_SET_ITEM(perm, i, PyLong_FromLong(ndim - 1 - i));
    }
    else {
        perm = one_tuple(args);
    }
    PyObject *result = perm ? call_with(self, "transpose", "perm", perm, NULL) : NULL;
    Py_XDECREF(perm);
    return result;
}

static PyObject *
reduction(PyObject *self, const char *op, PyObject *args, PyObject *kwargs)
{
    PyObject *axis = NULL, *own = kwargs ? PyDict_Copy(kwargs) : PyDict_New(), *result = NULL;
    /* np.mean(t) passes dtype=None and out=None on. */
    static const char *const numpys[] = {"dtype", "out"};
    for (int i = 0; own && i < 2; i++)
        if (PyDict_GetItemString(own, numpys[i]) == Py_None &&
            PyDict_DelItemString(own, numpys[i]) < 0)
            Py_CLEAR(own);
    if (own && PyArg_ParseTuple(args, "|O", &axis))
        result = call_with(self, op, "axis", axis, own);
    Py_XDECREF(own);
    return result;
}

static PyObject *
method_sum(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return reduction(self, "sum", args, kwargs);
}

static PyObject *
method_mean(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return reduction(self, "mean", args, kwargs);
}

static PyObject *
method_max(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return reduction(self, "max", args, kwargs);
}

static PyObject *
method_argmax(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return reduction(self, "argmax", args, kwargs);
}

static PyObject *
method_astype(PyObject *self, PyObject *dtype)
{
    return call_with(self, "cast", "dtype", dtype, NULL);
}

PyMethodDef pcnn_py_tensor_methods[] = {
    {"numpy", method_numpy, METH_NOARGS,
     "An array on this tensor's memory; computes it if it is pending."},
    {"__array__", (PyCFunction)(void (*)(void))method_array, METH_VARARGS | METH_KEYWORDS, NULL},
    {"__format__", method_format, METH_O, NULL},
    {"item", method_item, METH_NOARGS, "The only number of this tensor, as a Python number."},
    {"tolist", method_tolist, METH_NOARGS, "The numbers as nested lists."},
    {"detach", method_detach, METH_NOARGS, "A tensor on the same memory without gradients."},
    {"assign", method_assign, METH_O,
     "Writes the numbers of an array or tensor into this tensor's memory, in place.\n\n"
     "Raises ShapeError where the shapes differ."},
    {"backward", (PyCFunction)(void (*)(void))pcnn_py_tensor_backward, METH_VARARGS | METH_KEYWORDS,
     "backward(gradient=None, retain_graph=False): adds the gradients of this tensor to .grad of "
     "every\nleaf with requires_grad=True (as torch.Tensor.backward)."},
    {"reshape", method_reshape, METH_VARARGS,
     "reshape(*shape): the same numbers in another shape."},
    {"transpose", method_transpose, METH_VARARGS,
     "transpose(*axes): axes in another order; reversed without arguments (as numpy)."},
    {"sum", (PyCFunction)(void (*)(void))method_sum, METH_VARARGS | METH_KEYWORDS,
     "sum(axis=None, keepdims=False)"},
    {"mean", (PyCFunction)(void (*)(void))method_mean, METH_VARARGS | METH_KEYWORDS,
     "mean(axis=None, keepdims=False)"},
    {"max", (PyCFunction)(void (*)(void))method_max, METH_VARARGS | METH_KEYWORDS,
     "max(axis=None, keepdims=False)"},
    {"argmax", (PyCFunction)(void (*)(void))method_argmax, METH_VARARGS | METH_KEYWORDS,
     "argmax(axis=-1)"},
    {"astype", method_astype, METH_O, "astype(dtype): the numbers in another dtype."},
    {NULL, NULL, 0, NULL},
};

/* ---- attributes ---- */

static PyObject *
get_shape(PyObject *self, void *closure)
{
    (void)closure;
    const pcnn_type *type = &as_tensor(self)->value->type;
    PyObject *shape = PyTuple_New(type->ndim);
    for (int i = 0; shape && i < type->ndim; i++)
        PyTuple_SET_ITEM(shape, i, PyLong_FromLongLong(type->shape[i]));
    return shape;
}

static PyObject *
get_ndim(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLong(as_tensor(self)->value->type.ndim);
}

static PyObject *
get_size(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(pcnn_type_size(&as_tensor(self)->value->type));
}

static PyObject *
get_dtype(PyObject *self, void *closure)
{
    (void)closure;
    return (PyObject *)PyArray_DescrFromType(
        pcnn_py_numpy_type(as_tensor(self)->value->type.dtype));
}

static PyObject *
get_requires_grad(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(as_tensor(self)->value->requires_grad);
}

static int
set_requires_grad(PyObject *self, PyObject *wanted, void *closure)
{
    (void)closure;
    pcnn_value *value = as_tensor(self)->value;
    int flag = wanted ? PyObject_IsTrue(wanted) : 0;
    if (flag < 0)
        return -1;
    if (flag && !pcnn_is_float(value->type.dtype)) {
        PyErr_Format(PyExc_RuntimeError, "only float tensors can require gradients, this is %s",
                     pcnn_dtype_name(value->type.dtype));
        return -1;
    }
    if (value->node != NULL && value->node->grad) {
        if (flag)
            return 0;
        PyErr_SetString(PyExc_RuntimeError,
                        "requires_grad can be changed on leaves only; use detach()");
        return -1;
    }
    if (flag && value->leaf == NULL && (value->leaf = pcnn_leaf_new(self)) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (flag && value->leaf->tensor == NULL)
        value->leaf->tensor = self; /* the handle that had asked is gone */
    if (!flag && value->leaf != NULL) {
        value->leaf->tensor = NULL; /* graphs recorded before may still hold it */
        pcnn_leaf_unref(value->leaf);
        value->leaf = NULL;
    }
    value->requires_grad = flag;
    return 0;
}

static PyObject *
get_is_leaf(PyObject *self, void *closure)
{
    (void)closure;
    const pcnn_value *value = as_tensor(self)->value;
    return PyBool_FromLong(value->leaf != NULL || value->node == NULL || !value->node->grad);
}

static PyObject *
get_object(PyObject *self, void *closure)
{
    PyObject *object = *(PyObject **)((char *)self + (size_t)(uintptr_t)closure);
    return Py_NewRef(object ? object : Py_None);
}

static int
set_object(PyObject *self, PyObject *object, void *closure)
{
    PyObject **slot = (PyObject **)((char *)self + (size_t)(uintptr_t)closure);
    PyObject *old = *slot;
    *slot = object == NULL || object == Py_None ? NULL : Py_NewRef(object);
    Py_XDECREF(old);
    return 0;
}

static int
set_grad(PyObject *self, PyObject *object, void *closure)
{
    if (object != NULL && object != Py_None) {
        if (!pcnn_py_is_tensor(object)) {
            PyErr_Format(PyExc_TypeError, "grad must be a Tensor or None, got %s",
                         Py_TYPE(object)->tp_name);
            return -1;
        }
        if (!pcnn_type_equal(&as_tensor(object)->value->type, &as_tensor(self)->value->type)) {
            PyErr_SetString(pcnn_py.shape_error, "grad must have the tensor's shape and dtype");
            return -1;
        }
    }
    return set_object(self, object, closure);
}

static PyObject *
get_transposed(PyObject *self, void *closure)
{
    (void)closure;
    PyObject *none = PyTuple_New(0);
    PyObject *result = none ? method_transpose(self, none) : NULL;
    Py_XDECREF(none);
    return result;
}

PyGetSetDef pcnn_py_tensor_getset[] = {
    {"shape", get_shape, NULL, "tuple of ints", NULL},
    {"ndim", get_ndim, NULL, "number of dimensions", NULL},
    {"size", get_size, NULL, "number of elements", NULL},
    {"dtype", get_dtype, NULL, "numpy.dtype", NULL},
    {"T", get_transposed, NULL, "the axes reversed", NULL},
    {"requires_grad", get_requires_grad, set_requires_grad,
     "whether backward() leaves a gradient here", NULL},
    {"is_leaf", get_is_leaf, NULL, "not made by an op that records gradients", NULL},
    {"grad", get_object, set_grad, "the gradient gathered by backward(), or None",
     (void *)offsetof(pcnn_py_tensor, grad)},
    {"_keras_logits", get_object, set_object,
     "what softmax or sigmoid was applied to: cross-entropies prefer it",
     (void *)offsetof(pcnn_py_tensor, keras_logits)},
    {NULL, NULL, NULL, NULL, NULL},
};
