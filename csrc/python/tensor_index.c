/* x[...]: integers, slices, ... and None, as a slice whose starts are run-time numbers. */
#include "python/python.h"

#include <string.h>

typedef struct {
    int n; /* axes of x consumed */
    int64_t start[PCNN_MAX_NDIM], shape[PCNN_MAX_NDIM], step[PCNN_MAX_NDIM];
    int out_n;
    int64_t out[2 * PCNN_MAX_NDIM];
} selection;

static int
select_index(selection *s, const pcnn_type *type, PyObject *index)
{
    Py_ssize_t i = PyNumber_AsSsize_t(index, PyExc_IndexError);
    if (i == -1 && PyErr_Occurred())
        return -1;
    int64_t extent = type->shape[s->n];
    if (i < -extent || i >= extent) {
        PyErr_Format(PyExc_IndexError, "index %zd is out of bounds for axis %d with size %lld", i,
                     s->n, (long long)extent);
        return -1;
    }
    s->start[s->n] = i < 0 ? i + extent : i;
    s->shape[s->n] = 1;
    s->step[s->n++] = 1;
    return 0;
}

static int
select_slice(selection *s, const pcnn_type *type, PyObject *slice)
{
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(slice, &start, &stop, &step) < 0)
        return -1;
    Py_ssize_t length = PySlice_AdjustIndices((Py_ssize_t)type->shape[s->n], &start, &stop, step);
    if (step < 0) {
        PyErr_SetString(PyExc_NotImplementedError, "slices with a negative step");
        return -1;
    }
    s->start[s->n] = start;
    s->shape[s->n] = length;
    s->step[s->n++] = step;
    s->out[s->out_n++] = length;
    return 0;
}

static int
select_items(selection *s, const pcnn_type *type, PyObject *key)
{
    Py_ssize_t items = PyTuple_GET_SIZE(key), used = 0;
    for (Py_ssize_t k = 0; k < items; k++)
        used += PyTuple_GET_ITEM(key, k) != Py_None && PyTuple_GET_ITEM(key, k) != Py_Ellipsis;
    if (used > type->ndim) {
        PyErr_Format(PyExc_IndexError, "too many indices: the tensor has %d dimensions, got %zd",
                     type->ndim, used);
        return -1;
    }
    if (items - used + type->ndim > 2 * PCNN_MAX_NDIM) {
        PyErr_SetString(PyExc_IndexError, "too many new axes");
        return -1;
    }
    PyObject *all = PySlice_New(NULL, NULL, NULL);
    int failed = all == NULL;
    bool ellipsis = false;
    for (Py_ssize_t k = 0; k <= items && !failed; k++) {
        PyObject *item = k < items ? PyTuple_GET_ITEM(key, k) : Py_Ellipsis;
        if (item == Py_Ellipsis) {
            if (ellipsis && k < items) {
                PyErr_SetString(PyExc_IndexError, "an index can have one ellipsis (...)");
                failed = 1;
            }
            for (Py_ssize_t rest = ellipsis ? 0 : type->ndim - used; rest > 0 && !failed; rest--)
                failed = select_slice(s, type, all) < 0;
            ellipsis = true;
        }
        else if (item == Py_None) {
            s->out[s->out_n++] = 1;
        }
        else if (PySlice_Check(item)) {
            failed = select_slice(s, type, item) < 0;
        }
        else if (PyIndex_Check(item) && !PyArray_Check(item) && !PyBool_Check(item)) {
            failed = select_index(s, type, item) < 0;
        }
        else {
            PyErr_Format(PyExc_NotImplementedError,
                         "tensors are indexed by ints, slices, ... and None, got %s; use "
                         "ops.gather for rows, or numpy()",
                         Py_TYPE(item)->tp_name);
            failed = 1;
        }
    }
    Py_XDECREF(all);
    return failed ? -1 : 0;
}

static PyObject *
tuple_of(const int64_t *at, int n)
{
    PyObject *tuple = PyTuple_New(n);
    for (int i = 0; tuple && i < n; i++)
        PyTuple_SET_ITEM(tuple, i, PyLong_FromLongLong(at[i]));
    return tuple;
}

PyObject *
pcnn_py_tensor_subscript(PyObject *self, PyObject *key)
{
    const pcnn_type *type = &((pcnn_py_tensor *)self)->value->type;
    selection s = {0};
    PyObject *items = PyTuple_Check(key) ? Py_NewRef(key) : PyTuple_Pack(1, key);
    if (items == NULL || PyTuple_GET_SIZE(items) > 2 * PCNN_MAX_NDIM ||
        select_items(&s, type, items) < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_IndexError, "too many indices");
        Py_XDECREF(items);
        return NULL;
    }
    Py_DECREF(items);
    npy_intp n = s.n;
    PyObject *start = PyArray_SimpleNew(1, &n, NPY_INT64);
    PyObject *shape = tuple_of(s.shape, s.n), *step = tuple_of(s.step, s.n);
    PyObject *out_shape = tuple_of(s.out, s.out_n);
    PyObject *result = NULL, *args = NULL, *kwargs = NULL;
    if (start && shape && step && out_shape) {
        memcpy(PyArray_DATA((PyArrayObject *)start), s.start, (size_t)s.n * sizeof(int64_t));
        args = PyTuple_Pack(2, self, start);
        kwargs = Py_BuildValue("{s:O,s:O}", "shape", shape, "step", step);
        PyObject *sliced = args && kwargs ? pcnn_py_call_op("slice", args, kwargs) : NULL;
        if (sliced != NULL)
            result = PyObject_CallMethod(sliced, "reshape", "O", out_shape);
        Py_XDECREF(sliced);
    }
    Py_XDECREF(start);
    Py_XDECREF(shape);
    Py_XDECREF(step);
    Py_XDECREF(out_shape);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return result;
}
