/* From the engine's status to Python's exceptions. */
#include "python/python.h"

PyObject *
pcnn_py_raise(pcnn_status status)
{
    PyObject *type = PyExc_RuntimeError;
    switch (status) {
    case PCNN_ERR_VALUE: type = PyExc_ValueError; break;
    case PCNN_ERR_SHAPE: type = pcnn_py.shape_error; break;
    case PCNN_ERR_TYPE: type = PyExc_TypeError; break;
    case PCNN_ERR_INDEX: type = PyExc_IndexError; break;
    case PCNN_ERR_MEMORY: type = PyExc_MemoryError; break;
    case PCNN_ERR_NOT_IMPLEMENTED: type = PyExc_NotImplementedError; break;
    case PCNN_OK:
    case PCNN_ERR_RUNTIME: break;
    }
    PyErr_SetString(type, pcnn_error_message());
    return NULL;
}
