/* From Python objects to an op's attributes, with messages that name the op and the attribute. */
#include "python/python.h"

#include <math.h>
#include <string.h>

#include "ops/op.h"

/* An int of 64 bits; what is larger is no less wrong than what is out of range. */
static int
parse_int(const pcnn_op *op, const pcnn_attr *attr, PyObject *object, int64_t *out)
{
    if (!PyIndex_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s: %s must %s, got %R", op->name, attr->name,
                     attr->kind == PCNN_ATTR_INTS ? "be an int or a sequence of ints" : "be an int",
                     object);
        return -1;
    }
    *out = PyNumber_AsSsize_t(object, PyExc_OverflowError);
    if (*out == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "%s: %s, %R, is too large", op->name, attr->name,
                         object);
        }
        return -1;
    }
    return 0;
}

static int
parse_ints(const pcnn_op *op, const pcnn_attr *attr, PyObject *object, pcnn_ints *out)
{
    memset(out, 0, sizeof *out);
    if (object == Py_None && attr->initial && strcmp(attr->initial, "None") == 0) {
        out->n = -1;
        return 0;
    }
    if (PyIndex_Check(object)) {
        out->n = 1;
        return parse_int(op, attr, object, &out->at[0]);
    }
    /* A tuple of its own: an item's __index__ may change the list it comes from. */
    PyObject *items =
        PySequence_Check(object) && !PyUnicode_Check(object) ? PySequence_Tuple(object) : NULL;
    if (items == NULL) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s: %s must be an int or a sequence of ints, got %R",
                     op->name, attr->name, object);
        return -1;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    int failed = n > 2 * PCNN_MAX_NDIM;
    if (failed)
        PyErr_Format(PyExc_ValueError, "%s: %s has %zd numbers; at most %d are supported", op->name,
                     attr->name, n, 2 * PCNN_MAX_NDIM);
    out->n = n;
    for (Py_ssize_t i = 0; i < n && !failed; i++)
        failed = parse_int(op, attr, PyTuple_GET_ITEM(items, i), &out->at[i]) < 0;
    Py_DECREF(items);
    return failed ? -1 : 0;
}

static int
parse_choice(const pcnn_op *op, const pcnn_attr *attr, PyObject *object, int64_t *out)
{
    const char *text = PyUnicode_Check(object) ? PyUnicode_AsUTF8(object) : NULL;
    for (int64_t c = 0; text && attr->choices[c]; c++)
        if (strcmp(attr->choices[c], text) == 0) {
            *out = c;
            return 0;
        }
    PyObject *names = PyUnicode_FromString("");
    for (int c = 0; names && attr->choices[c]; c++) {
        PyObject *more = PyUnicode_FromFormat(c ? "%U, '%s'" : "%U'%s'", names, attr->choices[c]);
        Py_SETREF(names, more);
    }
    if (names)
        PyErr_Format(PyExc_ValueError, "%s: %s must be one of %U, got %R", op->name, attr->name,
                     names, object);
    Py_XDECREF(names);
    return -1;
}

static int
parse_real(const pcnn_op *op, const pcnn_attr *attr, PyObject *object, double *out)
{
    *out = PyFloat_AsDouble(object);
    if (*out == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s: %s must be a number, got %R", op->name, attr->name,
                     object);
        return -1;
    }
    /* `value` is data (what pad fills with); the others are hyper-parameters. */
    if (!isfinite(*out) && strcmp(attr->name, "value") != 0) {
        PyErr_Format(PyExc_ValueError, "%s: %s must be a finite number, got %R", op->name,
                     attr->name, object);
        return -1;
    }
    return 0;
}

static int
parse_dtype(const pcnn_op *op, const pcnn_attr *attr, PyObject *object, int64_t *out)
{
    int dtype = pcnn_py_parse_dtype(object, -1);
    *out = dtype;
    if (dtype >= 0 || !PyErr_Occurred())
        return 0;
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_Format(PyExc_TypeError, "%s: %s: %S", op->name, attr->name, value ? value : Py_None);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return -1;
}

int
pcnn_py_parse_attr(const pcnn_op *op, const pcnn_attr *attr, PyObject *object, void *attrs)
{
    void *at = (char *)attrs + attr->offset;
    switch (attr->kind) {
    case PCNN_ATTR_INTS: return parse_ints(op, attr, object, at);
    case PCNN_ATTR_CHOICE: return parse_choice(op, attr, object, at);
    case PCNN_ATTR_DTYPE: return parse_dtype(op, attr, object, at);
    case PCNN_ATTR_REAL: return parse_real(op, attr, object, at);
    case PCNN_ATTR_INT: return parse_int(op, attr, object, at);
    case PCNN_ATTR_BOOL: {
        int flag = PyObject_IsTrue(object);
        *(int64_t *)at = flag > 0;
        return flag < 0 ? -1 : 0;
    }
    }
    return 0;
}
