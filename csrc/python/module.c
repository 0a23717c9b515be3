/* The extension module pycnn._core. */
#define PCNN_IMPORTS_NUMPY
#include "python/python.h"

#include <string.h>

#include "blas/gemm.h"
#include "core/options.h"
#include "core/parallel.h"
#include "isa/kernels.h"
#include "plan/cache.h"

pcnn_py_state pcnn_py;

/* ---- making tensors ---- */

static PyObject *
core_tensor(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"data", "dtype", "requires_grad", NULL};
    PyObject *data, *dtype = Py_None;
    int requires_grad = 0;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|Op:tensor", names, &data, &dtype,
                                     &requires_grad))
        return NULL;
    int wanted = pcnn_py_parse_dtype(dtype, -1);
    if (wanted < 0 && PyErr_Occurred())
        return NULL;
    data = pcnn_py_is_tensor(data) ? pcnn_py_tensor_look(data) : Py_NewRef(data);
    if (data == NULL)
        return NULL;
    PyArrayObject *array = pcnn_py_array(data, "tensor: data");
    /* Python floats make float32, the dtype to work in; arrays keep theirs. */
    if (array && wanted < 0 && !PyArray_Check(data) && !PyArray_IsScalar(data, Generic) &&
        PyArray_TYPE(array) == NPY_FLOAT64)
        wanted = PCNN_F32;
    Py_DECREF(data);
    if (array == NULL)
        return NULL;
    if (wanted >= 0 && wanted != pcnn_py_dtype_of(array)) {
        PyObject *cast = PyArray_Cast(array, pcnn_py_numpy_type((pcnn_dtype)wanted));
        Py_SETREF(array, (PyArrayObject *)cast);
        if (array == NULL)
            return NULL;
    }
    pcnn_value *value = pcnn_py_value_copy(array);
    Py_DECREF(array);
    PyObject *tensor = value ? pcnn_py_tensor_wrap(value) : NULL;
    if (tensor && requires_grad && PyObject_SetAttrString(tensor, "requires_grad", Py_True) < 0)
        Py_CLEAR(tensor);
    return tensor;
}

static PyObject *
core_from_numpy(PyObject *module, PyObject *object)
{
    (void)module;
    if (!PyArray_Check(object)) {
        PyErr_Format(PyExc_TypeError, "from_numpy: expected a numpy.ndarray, got %s",
                     Py_TYPE(object)->tp_name);
        return NULL;
    }
    if (pcnn_py_has_masked(object)) {
        PyErr_SetString(PyExc_TypeError,
                        "from_numpy: the array has masked elements; use its filled(value)");
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)object;
    int dtype = pcnn_py_dtype_of(array);
    if (dtype < 0 || pcnn_py_numpy_type((pcnn_dtype)dtype) != PyArray_TYPE(array) ||
        !PyArray_ISNOTSWAPPED(array)) {
        if (dtype < 0 ||
            !PyArray_EquivTypenums(pcnn_py_numpy_type((pcnn_dtype)dtype), PyArray_TYPE(array)) ||
            !PyArray_ISNOTSWAPPED(array)) {
            PyErr_Format(PyExc_TypeError,
                         "from_numpy: dtype %S cannot be shared (float32, float64, int64, int32, "
                         "uint8 and bool can); use tensor(array)",
                         PyArray_DESCR(array));
            return NULL;
        }
    }
    if (!PyArray_IS_C_CONTIGUOUS(array) || !PyArray_ISALIGNED(array)) {
        PyErr_SetString(PyExc_ValueError,
                        "from_numpy: only row-major, aligned arrays share memory; use "
                        "tensor(array), which copies");
        return NULL;
    }
    if (PyArray_NDIM(array) > PCNN_MAX_NDIM) {
        PyErr_Format(PyExc_ValueError, "from_numpy: at most %d dimensions", (int)PCNN_MAX_NDIM);
        return NULL;
    }
    if (!PyArray_ISWRITEABLE(array)) {
        PyErr_SetString(PyExc_ValueError, "from_numpy: the array is read-only, and a tensor can be "
                                          "written; use tensor(array), which copies");
        return NULL;
    }
    pcnn_value *value = pcnn_py_value_share(array);
    return value ? pcnn_py_tensor_wrap(value) : NULL;
}

/* ---- gradients on and off, threads ---- */

static PyObject *
core_is_grad_enabled(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBool_FromLong(pcnn_grad_enabled());
}

static PyObject *
core_set_grad_enabled(PyObject *module, PyObject *flag)
{
    (void)module;
    int enabled = PyObject_IsTrue(flag);
    if (enabled < 0)
        return NULL;
    pcnn_set_grad_enabled(enabled);
    Py_RETURN_NONE;
}

static PyObject *
core_set_num_threads(PyObject *module, PyObject *object)
{
    (void)module;
    long threads = PyLong_AsLong(object);
    if (threads == -1 && PyErr_Occurred())
        return NULL;
    if (threads < 1 || threads > PCNN_MAX_THREADS) {
        PyErr_Format(PyExc_ValueError, "set_num_threads: expected 1 .. %d, got %ld",
                     (int)PCNN_MAX_THREADS, threads);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    pcnn_set_threads((int)threads);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
core_get_num_threads(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromLong(pcnn_threads());
}

static PyObject *
core_synchronize(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (pcnn_py_force(pcnn_trace_lazy()) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- plans and memory ---- */

static PyObject *
core_clear_plans(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    pcnn_cache_clear();
    Py_BEGIN_ALLOW_THREADS
    pcnn_run_lock();
    pcnn_arena_trim();
    pcnn_run_unlock();
    Py_END_ALLOW_THREADS
    pcnn_storage_trim();
    Py_RETURN_NONE;
}

static PyObject *
core_plan_cache_info(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return Py_BuildValue(
        "{s:L,s:L,s:L,s:L,s:L,s:L,s:L}", "plans", (long long)pcnn_cache_plans(), "made",
        (long long)pcnn_cache_made(), "bytes", (long long)pcnn_cache_bytes(), "arena_bytes",
        (long long)pcnn_arena_bytes(), "live_bytes", (long long)pcnn_storage_live(), "free_bytes",
        (long long)pcnn_storage_cached(), "pending", (long long)pcnn_trace_lazy()->nodes);
}

static PyObject *
core_cached_plans(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    PyObject *list = PyList_New(0);
    for (const pcnn_plan *plan = pcnn_cache_newest(); list && plan; plan = plan->older) {
        PyObject *steps = pcnn_py_plan_steps(plan);
        PyObject *item =
            steps ? Py_BuildValue("{s:L,s:L,s:N}", "runs", (long long)plan->runs, "arena_bytes",
                                  (long long)plan->arena_bytes, "steps", steps)
                  : NULL;
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *
names_tuple(const char *const *names)
{
    PyObject *list = PyList_New(0);
    for (; list && *names; names++) {
        PyObject *name = PyUnicode_FromString(*names);
        if (name == NULL || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    PyObject *tuple = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return tuple;
}

static PyObject *
core_config(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    PyObject *available = names_tuple(pcnn_isa_available());
    PyObject *compiled = names_tuple(pcnn_isa_compiled());
    if (available == NULL || compiled == NULL) {
        Py_XDECREF(available);
        Py_XDECREF(compiled);
        return NULL;
    }
    return Py_BuildValue("{s:s,s:N,s:N,s:z,s:i,s:i,s:s}", "isa", pcnn_isa_name(), "isa_available",
                         available, "isa_compiled", compiled, "isa_emulated", pcnn_isa_emulated(),
                         "vector_bytes", pcnn_kernels_for(PCNN_F32)->vector_bytes, "threads",
                         pcnn_threads(), "blas", pcnn_blas_config());
}

static PyObject *
core_show_config(PyObject *module, PyObject *unused)
{
    PyObject *config = core_config(module, unused);
    if (config == NULL)
        return NULL;
    PyObject *text = PyUnicode_FromFormat(
        "instruction set: %S (compiled: %S; this processor: %S)%s\nthreads: %S\nBLAS: %S",
        PyDict_GetItemString(config, "isa"), PyDict_GetItemString(config, "isa_compiled"),
        PyDict_GetItemString(config, "isa_available"),
        pcnn_isa_emulated() ? "\na build for tests: avx512 is emulated with AVX2, and slow" : "",
        PyDict_GetItemString(config, "threads"), PyDict_GetItemString(config, "blas"));
    Py_DECREF(config);
    return text;
}

/* ---- options for tests and measurements ---- */

static PyObject *
core_force_impl(PyObject *module, PyObject *args)
{
    const char *op, *impl;
    (void)module;
    if (!PyArg_ParseTuple(args, "sz:_force_impl", &op, &impl))
        return NULL;
    pcnn_status status = pcnn_force_impl(op, impl);
    if (status != PCNN_OK)
        return pcnn_py_raise(status);
    pcnn_cache_clear();
    Py_RETURN_NONE;
}

static PyObject *
core_set_option(PyObject *module, PyObject *args)
{
    const char *name;
    int value, before = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "si:_set_option", &name, &value))
        return NULL;
    if (strcmp(name, "fuse") == 0) {
        before = pcnn_plan_options.fuse;
        pcnn_plan_options.fuse = value;
    }
    else if (strcmp(name, "chain") == 0) {
        before = pcnn_plan_options.chain;
        pcnn_plan_options.chain = value;
    }
    else if (strcmp(name, "n16") == 0) {
        before = pcnn_plan_options.n16;
        pcnn_plan_options.n16 = value;
    }
    else if (strcmp(name, "min_n16_batch") == 0) {
        before = pcnn_plan_options.min_n16_batch;
        pcnn_plan_options.min_n16_batch = value;
    }
    else if (strcmp(name, "profile") == 0) {
        before = pcnn_plan_options.profile;
        pcnn_plan_options.profile = value;
    }
    else if (strcmp(name, "winograd") == 0) {
        before = pcnn_option_winograd;
        pcnn_option_winograd = value;
    }
    else {
        PyErr_Format(
            PyExc_ValueError,
            "_set_option: expected fuse, chain, n16, min_n16_batch, profile or winograd, got %s",
            name);
        return NULL;
    }
    return PyLong_FromLong(before);
}

static PyObject *
core_set_isa(PyObject *module, PyObject *name)
{
    (void)module;
    const char *text = PyUnicode_AsUTF8(name);
    if (text == NULL || pcnn_py_force(pcnn_trace_lazy()) < 0)
        return NULL;
    pcnn_status status;
    Py_BEGIN_ALLOW_THREADS
    pcnn_run_lock();
    status = pcnn_isa_init(text);
    pcnn_run_unlock();
    Py_END_ALLOW_THREADS
    if (status != PCNN_OK)
        return pcnn_py_raise(status);
    pcnn_cache_clear(); /* what an implementation accepts may depend on it */
    Py_RETURN_NONE;
}

static PyObject *
core_set_parallel_threshold(PyObject *module, PyObject *ns)
{
    (void)module;
    double value = PyFloat_AsDouble(ns);
    if (value == -1 && PyErr_Occurred())
        return NULL;
    pcnn_set_parallel_threshold(value);
    Py_RETURN_NONE;
}

static PyObject *
core_workers_seen(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromLong(pcnn_workers_seen());
}

static PyObject *
core_guard_errors(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromLongLong(pcnn_arena_guard_errors() + pcnn_storage_guard_errors());
}

static PyObject *
core_op_info(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    PyObject *list = PyList_New(0);
    for (const pcnn_op *const *op = pcnn_ops; list && *op; op++) {
        PyObject *impls = PyList_New(0);
        for (const pcnn_impl *impl = (*op)->impls; impls && impl->name; impl++) {
            PyObject *name = PyUnicode_FromString(impl->name);
            if (name == NULL || PyList_Append(impls, name) < 0)
                Py_CLEAR(impls);
            Py_XDECREF(name);
        }
        PyObject *attrs = PyDict_New();
        for (const pcnn_attr *attr = (*op)->attrs; attrs && attr && attr->name; attr++) {
            PyObject *text = Py_BuildValue("z", attr->initial);
            if (text == NULL || PyDict_SetItemString(attrs, attr->name, text) < 0)
                Py_CLEAR(attrs);
            Py_XDECREF(text);
        }
        if (attrs == NULL)
            Py_CLEAR(impls);
        if (impls == NULL)
            Py_CLEAR(attrs);
        PyObject *item = impls
                             ? Py_BuildValue("{s:s,s:N,s:N,s:O,s:O}", "name", (*op)->name, "impls",
                                             impls, "attrs", attrs, "internal",
                                             (*op)->flags & PCNN_OP_INTERNAL ? Py_True : Py_False,
                                             "differentiable", (*op)->gradient ? Py_True : Py_False)
                             : NULL;
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

#define WITH_KEYWORDS(function) (PyCFunction)(void (*)(void)) function, METH_VARARGS | METH_KEYWORDS

static PyMethodDef methods[] = {
    {"tensor", WITH_KEYWORDS(core_tensor),
     "tensor(data, dtype=None, requires_grad=False): a Tensor with a copy of the data.\n\n"
     "Python floats make float32; arrays keep their dtype (float16 becomes float32)."},
    {"from_numpy", core_from_numpy, METH_O,
     "from_numpy(array): a Tensor on the array's memory (as torch.from_numpy).\n\n"
     "An op recorded on it reads the numbers as they are then."},
    {"gradients", pcnn_py_gradients, METH_VARARGS,
     "gradients(loss, tensors): the gradients of a scalar, one Tensor each; zeros where the loss "
     "does\nnot depend on a tensor. Adds to no .grad."},
    {"is_grad_enabled", core_is_grad_enabled, METH_NOARGS, "Whether ops record gradients."},
    {"set_grad_enabled", core_set_grad_enabled, METH_O, "Switches the recording of gradients."},
    {"set_num_threads", core_set_num_threads, METH_O,
     "Threads that a run uses; results do not depend on it."},
    {"get_num_threads", core_get_num_threads, METH_NOARGS, "Threads that a run uses."},
    {"synchronize", core_synchronize, METH_NOARGS, "Computes everything this thread recorded."},
    {"clear_plans", core_clear_plans, METH_NOARGS,
     "Forgets cached plans and gives cached memory back to the system."},
    {"plan_cache_info", core_plan_cache_info, METH_NOARGS,
     "Counts of plans (held, made since import), bytes of plans, arena and tensors."},
    {"config", core_config, METH_NOARGS, "Instruction set, threads and BLAS, as a dict."},
    {"show_config", core_show_config, METH_NOARGS, "Instruction set, threads and BLAS, as text."},
    {"_force_impl", core_force_impl, METH_VARARGS, NULL},
    {"_set_option", core_set_option, METH_VARARGS, NULL},
    {"_set_isa", core_set_isa, METH_O, NULL},
    {"_set_parallel_threshold", core_set_parallel_threshold, METH_O, NULL},
    {"_workers_seen", core_workers_seen, METH_NOARGS, NULL},
    {"_guard_errors", core_guard_errors, METH_NOARGS, NULL},
    {"_cached_plans", core_cached_plans, METH_NOARGS, NULL},
    {"_op_info", core_op_info, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- the module ---- */

static int
add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **slot)
{
    *slot = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *slot ? PyModule_AddType(module, *slot) : -1;
}

/* array + tensor must be ours: NumPy's own would turn the tensor into an array without gradients. */
static int
put_array_priority(PyTypeObject *type)
{
    PyObject *priority = PyFloat_FromDouble(1000);
    int result =
        priority ? PyDict_SetItemString(type->tp_dict, "__array_priority__", priority) : -1;
    Py_XDECREF(priority);
    PyType_Modified(type);
    return result;
}

static int
core_exec(PyObject *module)
{
    static bool loaded = false;
    if (loaded) {
        PyErr_SetString(PyExc_ImportError, "pycnn._core can be loaded once in a process");
        return -1;
    }
    if (PyArray_ImportNumPyAPI() < 0)
        return -1;
    const char *poison = getenv("PYCNN_POISON"), *isa = getenv("PYCNN_ISA");
    const char *conv = getenv("PYCNN_CONV");
    if (conv && strcmp(conv, "direct") == 0) {
        pcnn_option_winograd = PCNN_WINOGRAD_OFF;
    }
    else if (conv && *conv && strcmp(conv, "auto") != 0) {
        PyErr_Format(PyExc_ImportError, "PYCNN_CONV=%s is not one of auto, direct", conv);
        return -1;
    }
    pcnn_storage_set_poison(poison && *poison && strcmp(poison, "0") != 0);
    pcnn_status status = pcnn_isa_init(isa && *isa ? isa : NULL);
    if (status != PCNN_OK) {
        PyErr_SetString(PyExc_ImportError, pcnn_error_message());
        return -1;
    }
    pcnn_blas_init();
    (void)pcnn_threads(); /* says what has to be done after a fork */
    if ((pcnn_py.tensor_method = PyUnicode_InternFromString("__pycnn_tensor__")) == NULL)
        return -1;
    PyObject *bases = PyTuple_Pack(2, PyExc_ValueError, PyExc_RuntimeError);
    pcnn_py.shape_error =
        bases ? PyErr_NewExceptionWithDoc("pycnn.ShapeError",
                                          "Shapes that do not fit. Both a ValueError (as Keras "
                                          "raises) and a RuntimeError (as PyTorch).",
                                          bases, NULL)
              : NULL;
    Py_XDECREF(bases);
    if (pcnn_py.shape_error == NULL || PyModule_AddFunctions(module, pcnn_py_profile_methods) < 0 ||
        PyModule_AddObjectRef(module, "ShapeError", pcnn_py.shape_error) < 0 ||
        add_type(module, &pcnn_py_tensor_spec, &pcnn_py.tensor_type) < 0 ||
        put_array_priority(pcnn_py.tensor_type) < 0 ||
        add_type(module, &pcnn_py_no_grad_spec, &pcnn_py.no_grad_type) < 0 ||
        add_type(module, &pcnn_py_capture_spec, &pcnn_py.capture_type) < 0 ||
        add_type(module, &pcnn_py_plan_spec, &pcnn_py.plan_type) < 0 || pcnn_py_add_ops(module) < 0)
        return -1;
    loaded = true;
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, core_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pycnn._core",
    .m_doc = "The engine of pycnn: tensors, ops, plans.",
    .m_methods = methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&module_definition);
}
