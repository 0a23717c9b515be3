/* Between NumPy arrays and values. */
#include "python/python.h"

#include <string.h>

static const int numpy_types[PCNN_N_DTYPES] = {NPY_FLOAT32, NPY_FLOAT64, NPY_INT64,
                                               NPY_INT32,   NPY_UINT8,   NPY_BOOL};

int
pcnn_py_numpy_type(pcnn_dtype dtype)
{
    return numpy_types[dtype];
}

/* The engine's dtype that holds every number of a NumPy type; -1: there is none. */
static int
wider_dtype(PyArray_Descr *descr)
{
    static const struct {
        char kind;
        int bytes;
        pcnn_dtype dtype;
    } table[] = {
        {'f', 2, PCNN_F32},  {'f', 4, PCNN_F32}, {'f', 8, PCNN_F64}, {'f', 16, PCNN_F64},
        {'i', 1, PCNN_I32},  {'i', 2, PCNN_I32}, {'i', 4, PCNN_I32}, {'i', 8, PCNN_I64},
        {'u', 1, PCNN_U8},   {'u', 2, PCNN_I32}, {'u', 4, PCNN_I64}, {'u', 8, PCNN_I64},
        {'b', 1, PCNN_BOOL},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].kind == descr->kind && table[i].bytes == (int)PyDataType_ELSIZE(descr))
            return (int)table[i].dtype;
    return -1;
}

int
pcnn_py_dtype_of(PyArrayObject *array)
{
    return wider_dtype(PyArray_DESCR(array));
}

int
pcnn_py_parse_dtype(PyObject *object, int fallback)
{
    if (object == NULL || object == Py_None)
        return fallback;
    PyArray_Descr *descr = NULL;
    if (!PyArray_DescrConverter(object, &descr))
        return -1;
    for (int d = 0; d < PCNN_N_DTYPES; d++)
        if (PyArray_EquivTypenums(descr->type_num, numpy_types[d])) {
            Py_DECREF(descr);
            return d;
        }
    PyErr_Format(PyExc_TypeError,
                 "dtype must be float32, float64, int64, int32, uint8 or bool, got %S", descr);
    Py_DECREF(descr);
    return -1;
}

/* A masked array's data would be taken for good where the mask says that it is not. */
bool
pcnn_py_has_masked(PyObject *array)
{
    if (PyArray_CheckExact(array))
        return false;
    PyObject *mask = PyObject_GetAttrString(array, "mask");
    PyObject *any = mask ? PyObject_CallMethod(mask, "any", NULL) : NULL;
    bool masked = any != NULL && PyObject_IsTrue(any) > 0;
    PyErr_Clear();
    Py_XDECREF(mask);
    Py_XDECREF(any);
    return masked;
}

PyObject *
pcnn_py_tuple(PyObject *object, const char *message)
{
    PyObject *tuple = pcnn_py_is_tensor(object) ? NULL : PySequence_Tuple(object);
    if (tuple == NULL && (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_TypeError)))
        PyErr_SetString(PyExc_TypeError, message);
    return tuple;
}

/* int64 is the widest whole number here: larger ones would turn negative. */
static bool
has_too_large(PyArrayObject *array)
{
    PyObject *largest =
        PyArray_SIZE(array) > 0 ? PyObject_CallMethod((PyObject *)array, "max", NULL) : NULL;
    int overflow = 0;
    PyObject *number = largest ? PyNumber_Index(largest) : NULL;
    if (number != NULL)
        (void)PyLong_AsLongLongAndOverflow(number, &overflow);
    PyErr_Clear();
    Py_XDECREF(number);
    Py_XDECREF(largest);
    return overflow != 0;
}

PyArrayObject *
pcnn_py_array(PyObject *object, const char *name)
{
    PyArrayObject *any = (PyArrayObject *)PyArray_FROM_O(object);
    if (any == NULL)
        return NULL;
    if (pcnn_py_has_masked((PyObject *)any)) {
        PyErr_Format(PyExc_TypeError, "%s has masked elements; use its filled(value)", name);
        Py_DECREF(any);
        return NULL;
    }
    int dtype = wider_dtype(PyArray_DESCR(any));
    if (dtype < 0) {
        PyErr_Format(PyExc_TypeError, "%s must hold numbers (float, int or bool), got dtype %S",
                     name, PyArray_DESCR(any));
        Py_DECREF(any);
        return NULL;
    }
    if (PyArray_TYPE(any) == NPY_UINT64 && has_too_large(any)) {
        PyErr_Format(PyExc_ValueError, "%s holds numbers above 2**63 - 1, too large for int64",
                     name);
        Py_DECREF(any);
        return NULL;
    }
    if (PyArray_NDIM(any) > PCNN_MAX_NDIM) {
        PyErr_Format(PyExc_ValueError, "%s has %d dimensions; at most %d are supported", name,
                     PyArray_NDIM(any), (int)PCNN_MAX_NDIM);
        Py_DECREF(any);
        return NULL;
    }
    PyArrayObject *result = (PyArrayObject *)PyArray_FROM_OTF(
        (PyObject *)any, numpy_types[dtype],
        NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_FORCECAST);
    Py_DECREF(any);
    return result;
}

pcnn_type
pcnn_py_type_of(PyArrayObject *array)
{
    pcnn_type type = {(pcnn_dtype)pcnn_py_dtype_of(array), PyArray_NDIM(array), {0}};
    for (int i = 0; i < type.ndim; i++)
        type.shape[i] = PyArray_DIM(array, i);
    return type;
}

pcnn_value *
pcnn_py_value_copy(PyArrayObject *array)
{
    pcnn_type type = pcnn_py_type_of(array);
    pcnn_storage *storage = pcnn_storage_new(PyArray_NBYTES(array));
    if (storage == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(storage->data, PyArray_DATA(array), (size_t)PyArray_NBYTES(array));
    pcnn_value *value = pcnn_value_from_storage(&type, storage);
    if (value == NULL)
        PyErr_NoMemory();
    return value;
}

static void
release_object(void *owner)
{
    Py_DECREF((PyObject *)owner);
}

pcnn_value *
pcnn_py_value_share(PyArrayObject *array)
{
    pcnn_type type = pcnn_py_type_of(array);
    pcnn_storage *storage = pcnn_storage_wrap(PyArray_DATA(array), PyArray_NBYTES(array),
                                              release_object, Py_NewRef((PyObject *)array));
    if (storage == NULL) {
        Py_DECREF(array);
        PyErr_NoMemory();
        return NULL;
    }
    /* NumPy can write it for as long as it lives. */
    storage->exports = 1;
    pcnn_value *value = pcnn_value_from_storage(&type, storage);
    if (value == NULL)
        PyErr_NoMemory();
    return value;
}

pcnn_value *
pcnn_py_value_number(PyObject *number, pcnn_dtype dtype)
{
    const pcnn_type type = {dtype, 0, {0}};
    pcnn_storage *storage = pcnn_storage_new(8);
    if (storage == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (pcnn_is_float(dtype)) {
        double x = PyFloat_AsDouble(number);
        if (dtype == PCNN_F64)
            *(double *)storage->data = x;
        else
            *(float *)storage->data = (float)x;
    }
    else {
        long long x = PyLong_AsLongLong(number);
        bool fits = true;
        if (dtype == PCNN_I64)
            *(int64_t *)storage->data = x;
        else if (dtype == PCNN_I32)
            fits = (*(int32_t *)storage->data = (int32_t)x) == x;
        else if (dtype == PCNN_U8)
            fits = (*(uint8_t *)storage->data = (uint8_t)x) == x;
        else
            *(uint8_t *)storage->data = x != 0;
        if (!fits && !PyErr_Occurred())
            PyErr_Format(PyExc_OverflowError, "%lld is out of bounds for %s", x,
                         pcnn_dtype_name(dtype));
    }
    if (PyErr_Occurred()) {
        pcnn_storage_unref(storage);
        return NULL;
    }
    pcnn_value *value = pcnn_value_from_storage(&type, storage);
    if (value == NULL)
        PyErr_NoMemory();
    return value;
}

static void
release_export(PyObject *capsule)
{
    pcnn_storage *storage = PyCapsule_GetPointer(capsule, "pycnn.memory");
    storage->exports--;
    pcnn_storage_unref(storage);
}

PyObject *
pcnn_py_array_on(pcnn_value *value)
{
    npy_intp shape[PCNN_MAX_NDIM];
    for (int i = 0; i < value->type.ndim; i++)
        shape[i] = (npy_intp)value->type.shape[i];
    pcnn_storage *storage = value->storage;
    PyObject *capsule = PyCapsule_New(storage, "pycnn.memory", release_export);
    if (capsule == NULL)
        return NULL;
    pcnn_storage_ref(storage)->exports++;
    PyObject *array = PyArray_SimpleNewFromData(value->type.ndim, shape,
                                                numpy_types[value->type.dtype], storage->data);
    if (array == NULL || PyArray_SetBaseObject((PyArrayObject *)array, capsule) < 0) {
        if (array == NULL)
            Py_DECREF(capsule);
        Py_XDECREF(array);
        return NULL;
    }
    return array;
}

int
pcnn_py_copy_into(pcnn_value *value, PyObject *object)
{
    PyObject *target = pcnn_py_array_on(value);
    PyObject *source = target ? PyArray_FROM_O(object) : NULL;
    int result = -1;
    if (source != NULL) {
        PyArrayObject *s = (PyArrayObject *)source, *t = (PyArrayObject *)target;
        bool same = PyArray_NDIM(s) == PyArray_NDIM(t) &&
                    PyArray_CompareLists(PyArray_DIMS(s), PyArray_DIMS(t), PyArray_NDIM(t));
        if (wider_dtype(PyArray_DESCR(s)) < 0) {
            PyErr_Format(PyExc_TypeError,
                         "assign: the value must hold numbers (float, int or bool), got dtype %S",
                         PyArray_DESCR(s));
        }
        else if (!same) {
            PyObject *want = PyObject_GetAttrString(target, "shape");
            PyObject *got = PyObject_GetAttrString(source, "shape");
            if (want && got)
                PyErr_Format(pcnn_py.shape_error, "assign: expected shape %S, got %S", want, got);
            Py_XDECREF(want);
            Py_XDECREF(got);
        }
        else if (!PyArray_CanCastTypeTo(PyArray_DESCR(s), PyArray_DESCR(t),
                                        NPY_SAME_KIND_CASTING) &&
                 !pcnn_is_float(value->type.dtype)) {
            PyErr_Format(PyExc_TypeError, "assign: cannot cast %S to %S safely", PyArray_DESCR(s),
                         PyArray_DESCR(t));
        }
        else {
            result = PyArray_CopyInto(t, s);
        }
    }
    Py_XDECREF(source);
    Py_XDECREF(target);
    return result;
}
