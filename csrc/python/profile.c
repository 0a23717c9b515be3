/* What profiles and the verbose mode need of the engine: labels, sessions, a hook on plans, the
 * words for a step, and the machine's peak. */
#include "python/python.h"

#include <string.h>
#include <time.h>

#include "core/parallel.h"
#include "isa/kernels.h"

static const char *const phase_names[] = {"forward", "backward", "update", NULL};

/* ---- labels ---- */

static PyObject *
push_label(PyObject *module, PyObject *const *args, Py_ssize_t n_args)
{
    (void)module;
    if (n_args < 1 || n_args > 2) {
        PyErr_Format(PyExc_TypeError, "_push_label: expected 1 or 2 arguments, got %zd", n_args);
        return NULL;
    }
    PyObject *object = args[0];
    const char *name = n_args > 1 ? PyUnicode_AsUTF8(args[1]) : phase_names[0];
    if (name == NULL)
        return NULL;
    int phase = 0;
    while (phase_names[phase] != NULL && strcmp(phase_names[phase], name) != 0)
        phase++;
    if (phase_names[phase] == NULL) {
        PyErr_Format(PyExc_ValueError, "_push_label: expected forward, backward or update, got %s",
                     name);
        return NULL;
    }
    /* A label is never a reason to fail: what is no text, or none in UTF-8, is left out. */
    const char *text = PyUnicode_Check(object) ? PyUnicode_AsUTF8(object) : NULL;
    PyErr_Clear();
    pcnn_status status = pcnn_label_push(text ? text : "", (pcnn_phase)phase);
    if (status != PCNN_OK)
        return pcnn_py_raise(status);
    Py_RETURN_NONE;
}

static PyObject *
pop_label(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (!pcnn_label_pop()) {
        PyErr_SetString(PyExc_RuntimeError, "_pop_label: this thread has no label");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- the words for a step ---- */

static PyObject *
attribute_value(const pcnn_attr *attr, const void *attrs)
{
    const void *at = (const char *)attrs + attr->offset;
    int64_t whole = 0;
    if (attr->kind != PCNN_ATTR_REAL && attr->kind != PCNN_ATTR_INTS)
        memcpy(&whole, at, sizeof whole);
    switch (attr->kind) {
    case PCNN_ATTR_INT: return PyLong_FromLongLong(whole);
    case PCNN_ATTR_BOOL: return PyBool_FromLong(whole != 0);
    case PCNN_ATTR_REAL: return PyFloat_FromDouble(*(const double *)at);
    case PCNN_ATTR_CHOICE: return PyUnicode_FromString(attr->choices[whole]);
    case PCNN_ATTR_DTYPE:
        return whole < 0 ? Py_NewRef(Py_None)
                         : PyUnicode_FromString(pcnn_dtype_name((pcnn_dtype)whole));
    case PCNN_ATTR_INTS: break;
    }
    const pcnn_ints *ints = at;
    if (ints->n < 0)
        return Py_NewRef(Py_None);
    PyObject *tuple = PyTuple_New((Py_ssize_t)ints->n);
    for (int64_t i = 0; tuple && i < ints->n; i++) {
        PyObject *number = PyLong_FromLongLong(ints->at[i]);
        if (number == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, number);
    }
    return tuple;
}

static PyObject *
attributes_of(const pcnn_pnode *node)
{
    PyObject *dict = PyDict_New();
    for (const pcnn_attr *attr = node->op->attrs; dict && attr && attr->name; attr++) {
        PyObject *value = attribute_value(attr, node->attrs);
        if (value == NULL || PyDict_SetItemString(dict, attr->name, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}

/* [(implementation, why it did not take the call)], of those before the chosen one. */
static PyObject *
refusals_of(const pcnn_plan *plan, const pcnn_pnode *node)
{
    PyObject *list = PyList_New(0);
    for (int k = 0; list && k < PCNN_MAX_REFUSED && node->op->impls[k].name; k++) {
        const char *reason = plan->program.reasons[node->refused[k]];
        if (reason == NULL)
            continue;
        PyObject *text = NULL;
        const int32_t v = node->n_in > 0 ? node->in[0] : node->out[0];
        if (reason == pcnn_refused_batch && v >= 0 && plan->program.values[v].type.ndim > 0)
            text = PyUnicode_FromFormat("batch of %lld is below %d",
                                        (long long)plan->program.values[v].type.shape[0],
                                        pcnn_plan_options.min_n16_batch);
        else
            text = PyUnicode_FromString(reason);
        PyObject *pair = text ? Py_BuildValue("(sN)", node->op->impls[k].name, text) : NULL;
        if (pair == NULL || PyList_Append(list, pair) < 0)
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    return list;
}

static int
put(PyObject *dict, const char *name, PyObject *value /* taken over */)
{
    int result = value ? PyDict_SetItemString(dict, name, value) : -1;
    Py_XDECREF(value);
    return result;
}

int
pcnn_py_describe_step(PyObject *step, const pcnn_plan *plan, const pcnn_pnode *node)
{
    const bool known = node->origin >= 0 && node->origin < plan->n_labels;
    const pcnn_label *label = known ? plan->labels[node->origin] : NULL;
    const char *phase = phase_names[known ? plan->phases[node->origin] : PCNN_FORWARD];
    const pcnn_type *type = &plan->program.values[node->out[0]].type;
    if (put(step, "layer",
            label && *label->text ? PyUnicode_FromString(label->text) : Py_NewRef(Py_None)) < 0 ||
        put(step, "pass", PyUnicode_FromString(phase)) < 0 ||
        put(step, "dtype", PyUnicode_FromString(pcnn_dtype_name(type->dtype))) < 0 ||
        put(step, "attrs", attributes_of(node)) < 0 ||
        put(step, "last_ns", PyFloat_FromDouble(node->last_ns)) < 0)
        return -1;
    return put(step, "refused", refusals_of(plan, node));
}

static PyObject *
describe_plan(const pcnn_plan *plan)
{
    PyObject *steps = pcnn_py_plan_steps(plan);
    if (steps == NULL)
        return NULL;
    return Py_BuildValue("{s:L,s:d,s:L,s:N}", "number", (long long)plan->number, "ns", plan->ns,
                         "runs", (long long)plan->timed_runs, "steps", steps);
}

/* ---- sessions ---- */

static double
seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double began; /* guarded by the run lock */

static PyObject *
profile_begin(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    bool running;
    Py_BEGIN_ALLOW_THREADS
    pcnn_run_lock();
    running = pcnn_profile_running();
    if (!running) {
        pcnn_profile_begin();
        began = seconds();
    }
    pcnn_run_unlock();
    Py_END_ALLOW_THREADS
    if (running) {
        PyErr_SetString(PyExc_RuntimeError, "a profile is being taken already: profiles cannot be "
                                            "nested, nor taken by two threads at once");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
profile_end(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    double elapsed;
    Py_BEGIN_ALLOW_THREADS
    pcnn_run_lock();
    pcnn_profile_end();
    elapsed = seconds() - began;
    pcnn_run_unlock();
    Py_END_ALLOW_THREADS
    /* No run adds to a time any more. */
    pcnn_plan *const *plans;
    PyObject *list = PyList_New(0);
    for (int32_t k = 0; list && k < pcnn_profile_noted(&plans); k++) {
        if (!pcnn_profile_timed(plans[k]))
            continue;
        PyObject *item = describe_plan(plans[k]);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    pcnn_profile_clear();
    return list ? Py_BuildValue("(Nd)", list, elapsed) : NULL;
}

/* ---- the hook ---- */

static PyObject *hook; /* hook(made: bool, plan: dict) */

static PyObject *
set_plan_hook(PyObject *module, PyObject *args)
{
    PyObject *function;
    int level;
    (void)module;
    if (!PyArg_ParseTuple(args, "Oi:_set_plan_hook", &function, &level))
        return NULL;
    if (function != Py_None && !PyCallable_Check(function)) {
        PyErr_Format(PyExc_TypeError, "_set_plan_hook: expected a function or None, got %R",
                     function);
        return NULL;
    }
    PyObject *before = hook;
    hook = function == Py_None ? NULL : Py_NewRef(function);
    pcnn_plan_options.verbose = hook ? level : 0;
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

void
pcnn_py_tell_plan(pcnn_plan *plan, bool made)
{
    if (hook == NULL || pcnn_plan_options.verbose < (made ? 1 : 2))
        return;
    PyObject *function = Py_NewRef(hook), *description = describe_plan(plan);
    PyObject *result =
        description
            ? PyObject_CallFunctionObjArgs(function, made ? Py_True : Py_False, description, NULL)
            : NULL;
    if (result == NULL)
        PyErr_WriteUnraisable(function);
    Py_XDECREF(result);
    Py_XDECREF(description);
    Py_DECREF(function);
}

/* ---- the peak ---- */

enum { PEAK_ROUNDS = 500000, PEAK_TRIES = 40 };

static void
peak_task(void *context, int64_t begin, int64_t end, int worker)
{
    const pcnn_kernels *kernels = context;
    (void)worker;
    for (int64_t item = begin; item < end; item++)
        (void)kernels->fma_peak(PEAK_ROUNDS);
}

/* All of a run's threads at once, by the clock on the wall: cores that share units or slow each
 * other down count as what they give together. */
static double
peak_of_all(const pcnn_kernels *kernels)
{
    const int64_t threads = pcnn_threads();
    double least = 0, lane_bytes = kernels == pcnn_kernels_for(PCNN_F64) ? 8 : 4;
    for (int i = 0; i < PEAK_TRIES; i++) {
        double begin = seconds();
        pcnn_parallel(threads, 1, 1e9, peak_task, (void *)(uintptr_t)kernels);
        double time = seconds() - begin;
        least = i == 0 || time < least ? time : least;
    }
    double operations = (double)threads * PEAK_ROUNDS * 12 * 2 * kernels->vector_bytes / lane_bytes;
    return least > 0 ? operations / least * 1e-9 : 0;
}

static PyObject *
fma_peak(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"all_threads", "dtype", NULL};
    int all_threads = 0;
    PyObject *dtype = NULL;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|pO:fma_peak", names, &all_threads, &dtype))
        return NULL;
    int kind = dtype ? pcnn_py_parse_dtype(dtype, PCNN_F32) : PCNN_F32;
    if (kind < 0)
        return NULL;
    if (!pcnn_is_float((pcnn_dtype)kind)) {
        PyErr_Format(PyExc_ValueError, "fma_peak: dtype must be float32 or float64, got %R", dtype);
        return NULL;
    }
    const pcnn_kernels *kernels = pcnn_kernels_for((pcnn_dtype)kind);
    double peak = 0;
    Py_BEGIN_ALLOW_THREADS
    pcnn_run_lock();
    if (all_threads)
        peak = peak_of_all(kernels);
    for (int i = 0; i < PEAK_TRIES && !all_threads; i++) {
        double rate = kernels->fma_peak(PEAK_ROUNDS);
        peak = rate > peak ? rate : peak;
    }
    pcnn_run_unlock();
    Py_END_ALLOW_THREADS
    return PyFloat_FromDouble(peak);
}

PyMethodDef pcnn_py_profile_methods[] = {
    {"fma_peak", (PyCFunction)(void (*)(void))fma_peak, METH_VARARGS | METH_KEYWORDS,
     "fma_peak(all_threads=False, dtype='float32'): measured fused multiply-add rate of one core, "
     "or\nof all threads of a run together, in GFLOP/s."},
    {"_push_label", (PyCFunction)(void (*)(void))push_label, METH_FASTCALL, NULL},
    {"_pop_label", pop_label, METH_NOARGS, NULL},
    {"_profile_begin", profile_begin, METH_NOARGS, NULL},
    {"_profile_end", profile_end, METH_NOARGS, NULL},
    {"_set_plan_hook", set_plan_hook, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
