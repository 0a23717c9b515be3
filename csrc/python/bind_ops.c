/* The generic binder: one builtin an op, from the op's own description of inputs and attributes. */
#include "python/python.h"

#include <string.h>

#include "ops/op.h"

enum { MAX_ATTRS = 12, MAX_STACK_INPUTS = 16, MAX_PENDING_NODES = 4000 };
static const int64_t max_pending_bytes = (int64_t)1 << 30;

/* What the binder knows of an op beyond its description. */
typedef struct {
    const pcnn_op *op;
    int n_attrs;
    PyObject *attr_names[MAX_ATTRS];
    PyObject *input_names[8];
    void *defaults;
    PyMethodDef method;
} binding;

/* ---- inputs ---- */

static bool
is_number(PyObject *object)
{
    return PyFloat_Check(object) || PyLong_Check(object) || PyArray_IsScalar(object, Floating) ||
           PyArray_IsScalar(object, Integer) || PyArray_IsScalar(object, Bool);
}

/* Python numbers take the dtype of the tensors and arrays beside them; float32 on their own. */
static pcnn_dtype
number_dtype(PyObject *const *inputs, int n)
{
    int found = -1;
    for (int i = 0; i < n; i++) {
        int dtype = -1;
        if (inputs[i] == NULL || inputs[i] == Py_None)
            continue;
        if (pcnn_py_is_tensor(inputs[i]))
            dtype = (int)((pcnn_py_tensor *)inputs[i])->value->type.dtype;
        else if (PyArray_Check(inputs[i]))
            dtype = pcnn_py_dtype_of((PyArrayObject *)inputs[i]);
        if (dtype >= 0 && pcnn_is_float((pcnn_dtype)dtype))
            return (pcnn_dtype)dtype;
        if (dtype >= 0 && found < 0)
            found = dtype;
    }
    return found >= 0 ? (pcnn_dtype)found : PCNN_F32;
}

static pcnn_value *
input_value(const pcnn_op *op, int i, PyObject *object, pcnn_dtype number)
{
    if (pcnn_py_is_tensor(object))
        return pcnn_value_ref(((pcnn_py_tensor *)object)->value);
    const char *name = op->params[op->n_in == PCNN_VARIADIC ? 0 : i].name;
    if (is_number(object)) {
        if (!pcnn_is_float(number) && (PyFloat_Check(object) || PyArray_IsScalar(object, Floating)))
            number = PCNN_F32;
        pcnn_value *value = pcnn_py_value_number(object, number);
        if (value == NULL && PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "%s: %s, %R, is too large for %s", op->name, name,
                         object, pcnn_dtype_name(number));
        }
        return value;
    }
    PyArrayObject *array = pcnn_py_array(object, name);
    if (array == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyObject *type, *value, *trace;
            PyErr_Fetch(&type, &value, &trace);
            PyErr_Format(type, "%s: %S", op->name, value ? value : Py_None);
            Py_XDECREF(type);
            Py_XDECREF(value);
            Py_XDECREF(trace);
        }
        return NULL;
    }
    /* Lists of Python floats come as float64: let them follow the tensors beside them. */
    if (!PyArray_Check(object) && pcnn_is_float(number) && PyArray_TYPE(array) == NPY_FLOAT64 &&
        number == PCNN_F32) {
        PyObject *cast = PyArray_Cast(array, NPY_FLOAT32);
        Py_SETREF(array, (PyArrayObject *)cast);
        if (array == NULL)
            return NULL;
    }
    pcnn_value *value = pcnn_py_value_copy(array);
    Py_DECREF(array);
    return value;
}

/* NumPy sees the memory: an effect on it happens at once. */
static bool
seen_outside(const pcnn_op *op, pcnn_value *const *out)
{
    for (int o = 0; o < op->n_out; o++)
        if (op->writes[o] && out[o]->target != NULL && out[o]->target->exports > 0)
            return true;
    return false;
}

static PyObject *
wrap_outputs(const pcnn_op *op, PyObject *const *inputs, pcnn_value **out)
{
    PyObject *handle[PCNN_MAX_OUT] = {NULL};
    bool failed = false;
    for (int o = 0; o < op->n_out; o++) {
        int written = op->writes[o] - 1;
        if (written >= 0 && inputs[written] != NULL && inputs[written] != Py_None) {
            pcnn_py_tensor *tensor = (pcnn_py_tensor *)inputs[written];
            if (out[o]->symbolic && pcnn_py_capture_note(tensor) < 0)
                failed = true;
            pcnn_py_tensor_rebind(tensor, out[o]);
            handle[o] = Py_NewRef(inputs[written]);
        }
        else if (written >= 0) {
            pcnn_value_unref(out[o]);
            handle[o] = Py_NewRef(Py_None);
        }
        else {
            handle[o] = pcnn_py_tensor_wrap(out[o]);
        }
        failed |= handle[o] == NULL;
    }
    PyObject *result = NULL;
    if (!failed && op->n_out == 1)
        return handle[0];
    if (!failed && (result = PyTuple_New(op->n_out)) != NULL) {
        for (int o = 0; o < op->n_out; o++)
            PyTuple_SET_ITEM(result, o, handle[o]);
        return result;
    }
    for (int o = 0; o < op->n_out; o++)
        Py_XDECREF(handle[o]);
    return NULL;
}

/* An object that stands for a Tensor (a vocabulary's variable) says so by __pycnn_tensor__(): taken
 * as an array it would become a constant, and never learn. */
static PyObject *
stand_in(PyObject *object)
{
    if (object == NULL || object == Py_None || pcnn_py_is_tensor(object) || PyArray_Check(object) ||
        is_number(object))
        return Py_XNewRef(object);
    PyObject *method = PyObject_GetAttr(object, pcnn_py.tensor_method);
    if (method == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return NULL;
        PyErr_Clear();
        return Py_NewRef(object);
    }
    PyObject *tensor = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    return tensor;
}

/* Computes a trace that has grown large. The newest op comes last and by itself: where there is no
 * memory for it, nothing else is lost. */
static int
force_both(pcnn_trace *trace, pcnn_value *const *in, int n)
{
    int failed = 0;
    if (trace->bytes > max_pending_bytes && trace->nodes > 1) {
        pcnn_py_hold(in, n, 1);
        failed = pcnn_py_force_first(trace, trace->nodes - 1) < 0;
        pcnn_py_hold(in, n, -1);
    }
    return failed || pcnn_py_force(trace) < 0 ? -1 : 0;
}

static PyObject *apply_tensors(const pcnn_op *op, const void *attrs, PyObject *const *inputs,
                               int n);

PyObject *
pcnn_py_apply(const pcnn_op *op, const void *attrs, PyObject *const *inputs, int n)
{
    PyObject *stack[MAX_STACK_INPUTS] = {NULL}, **objects = stack, *result = NULL;
    bool failed = false;
    if (n > MAX_STACK_INPUTS && (objects = PyMem_Calloc((size_t)n, sizeof *objects)) == NULL)
        return PyErr_NoMemory();
    for (int i = 0; i < n && !failed; i++) {
        objects[i] = stand_in(inputs[i]);
        failed = inputs[i] != NULL && objects[i] == NULL;
    }
    if (!failed)
        result = apply_tensors(op, attrs, objects, n);
    for (int i = 0; i < n; i++)
        Py_XDECREF(objects[i]);
    if (objects != stack)
        PyMem_Free(objects);
    return result;
}

static PyObject *
apply_tensors(const pcnn_op *op, const void *attrs, PyObject *const *inputs, int n)
{
    pcnn_trace *trace = pcnn_trace_current();
    pcnn_value *stack[MAX_STACK_INPUTS] = {NULL}, **in = stack, *out[PCNN_MAX_OUT] = {NULL};
    PyObject *result = NULL;
    if (trace == NULL)
        return PyErr_NoMemory();
    if (n > MAX_STACK_INPUTS && (in = PyMem_Calloc((size_t)n, sizeof *in)) == NULL)
        return PyErr_NoMemory();
    pcnn_dtype number = number_dtype(inputs, n);
    for (int i = 0; i < n; i++) {
        if (inputs[i] == NULL || inputs[i] == Py_None)
            continue;
        in[i] = input_value(op, i, inputs[i], number);
        if (in[i] == NULL)
            goto done;
    }
    for (int o = 0; o < op->n_out; o++) {
        int written = op->writes[o] - 1;
        if (written >= 0 && written < n && in[written] && !pcnn_py_is_tensor(inputs[written])) {
            PyErr_Format(PyExc_TypeError, "%s: %s is written in place and must be a Tensor, got %s",
                         op->name, op->params[written].name, Py_TYPE(inputs[written])->tp_name);
            goto done;
        }
    }
    if (pcnn_py_settle_inputs(trace, op, in, n) < 0)
        goto done;
    pcnn_status status = pcnn_record(trace, op, attrs, in, n, pcnn_grad_enabled(), out);
    if (status != PCNN_OK) {
        pcnn_py_raise(status);
        goto done;
    }
    bool at_once = !trace->capture && seen_outside(op, out);
    pcnn_value *held[PCNN_MAX_OUT];
    for (int o = 0; o < op->n_out; o++)
        held[o] = pcnn_value_ref(out[o]);
    pcnn_py_hold(held, op->n_out, 1);
    result = wrap_outputs(op, inputs, out);
    pcnn_py_hold(held, op->n_out, -1);
    for (int o = 0; o < op->n_out; o++)
        pcnn_value_unref(held[o]);
    if (result != NULL && !trace->capture &&
        (at_once || trace->nodes > MAX_PENDING_NODES || trace->bytes > max_pending_bytes) &&
        force_both(trace, in, n) < 0)
        Py_CLEAR(result);
done:
    for (int i = 0; i < n; i++)
        pcnn_value_unref(in[i]);
    if (in != stack)
        PyMem_Free(in);
    return result;
}

/* ---- the builtins ---- */

static binding *bindings;

static const binding *
binding_of(const pcnn_op *op)
{
    for (const binding *b = bindings; b->op; b++)
        if (b->op == op)
            return b;
    return NULL;
}

PyObject *
pcnn_py_apply_defaults(const pcnn_op *op, PyObject *const *inputs, int n)
{
    return pcnn_py_apply(op, op->attrs_size ? binding_of(op)->defaults : NULL, inputs, n);
}

static int
find_name(PyObject *const *names, int n, PyObject *name)
{
    for (int i = 0; i < n; i++)
        if (names[i] == name)
            return i;
    for (int i = 0; i < n; i++)
        if (PyUnicode_Compare(names[i], name) == 0)
            return i;
    return -1;
}

static PyObject *
call_op(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    const binding *b = PyCapsule_GetPointer(self, NULL);
    if (b == NULL)
        return NULL;
    const pcnn_op *op = b->op;
    bool variadic = op->n_in == PCNN_VARIADIC;
    PyObject *stack[8] = {NULL};
    PyObject *const *inputs = variadic ? args : stack;
    _Alignas(8) char attrs[1024];
    uint32_t given = 0;
    if (!variadic && n_args > op->n_in) {
        PyErr_Format(PyExc_TypeError,
                     "%s takes at most %d inputs, got %zd; attributes are keywords", op->name,
                     op->n_in, n_args);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n_args && !variadic; i++)
        stack[i] = args[i];
    int n = variadic ? (int)n_args : op->n_in;
    if (op->attrs_size)
        memcpy(attrs, b->defaults, op->attrs_size);
    Py_ssize_t n_keywords = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    for (Py_ssize_t k = 0; k < n_keywords; k++) {
        PyObject *name = PyTuple_GET_ITEM(keywords, k), *object = args[n_args + k];
        int a = find_name(b->attr_names, b->n_attrs, name);
        if (a >= 0) {
            if (pcnn_py_parse_attr(op, &op->attrs[a], object, attrs) < 0)
                return NULL;
            given |= 1u << a;
            continue;
        }
        int i = variadic ? -1 : find_name(b->input_names, op->n_in, name);
        if (i < 0) {
            /* "conv2d($module, x, ...": only the part between the parentheses is for the user. */
            const char *text = strstr(b->method.ml_doc, "$module") + strlen("$module, ");
            const char *end = strstr(text, ")\n--");
            PyObject *signature = PyUnicode_FromStringAndSize(text, end - text);
            if (signature)
                PyErr_Format(PyExc_TypeError, "%s got an unexpected argument '%U'; it takes (%U)",
                             op->name, name, signature);
            Py_XDECREF(signature);
            return NULL;
        }
        if (stack[i] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s got two values for '%U'", op->name, name);
            return NULL;
        }
        stack[i] = object;
    }
    for (int a = 0; a < b->n_attrs; a++)
        if (op->attrs[a].initial == NULL && !(given >> a & 1)) {
            PyErr_Format(PyExc_TypeError, "%s: %s is missing", op->name, op->attrs[a].name);
            return NULL;
        }
    return pcnn_py_apply(op, op->attrs_size ? attrs : NULL, inputs, n);
}

PyObject *
pcnn_py_call_op(const char *name, PyObject *args, PyObject *kwargs)
{
    PyObject *function = PyObject_GetAttrString(pcnn_py.ops, name);
    PyObject *result = function ? PyObject_Call(function, args, kwargs) : NULL;
    Py_XDECREF(function);
    return result;
}

/* ---- making them ---- */

static int
append_text(char **text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    PyObject *piece = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    const char *utf8 = piece ? PyUnicode_AsUTF8(piece) : NULL;
    size_t old = *text ? strlen(*text) : 0;
    char *longer = utf8 ? PyMem_Realloc(*text, old + strlen(utf8) + 1) : NULL;
    if (longer != NULL) {
        strcpy(longer + old, utf8);
        *text = longer;
    }
    Py_XDECREF(piece);
    return longer ? 0 : -1;
}

/* "conv2d($module, x, w, b=None, *, stride=(1, 1))\n--\n\n<doc>": the form inspect understands. */
static char *
make_doc(const pcnn_op *op)
{
    char *text = NULL;
    int failed = append_text(&text, "%s($module", op->name);
    if (op->n_in == PCNN_VARIADIC)
        failed |= append_text(&text, ", *%s", op->params[0].name);
    else {
        for (int i = 0; i < op->n_in; i++) {
            /* A default can only be shown where all that follow have one. */
            bool optional = true;
            for (int k = i; k < op->n_in; k++)
                optional &= op->params[k].optional;
            failed |= append_text(&text, optional ? ", %s=None" : ", %s", op->params[i].name);
        }
        if (op->attrs != NULL)
            failed |= append_text(&text, ", *");
    }
    for (const pcnn_attr *attr = op->attrs; attr && attr->name; attr++) {
        const char *quote = attr->kind == PCNN_ATTR_CHOICE && attr->initial ? "'" : "";
        failed |= append_text(&text, attr->initial ? ", %s=%s%s%s" : ", %s", attr->name, quote,
                              attr->initial, quote);
    }
    failed |= append_text(&text, ")\n--\n\n%s", op->doc ? op->doc : "");
    return failed ? NULL : text;
}

static int
parse_defaults(binding *b)
{
    PyObject *ast = PyImport_ImportModule("ast");
    if (ast == NULL)
        return -1;
    int failed = 0;
    for (int a = 0; a < b->n_attrs && !failed; a++) {
        const pcnn_attr *attr = &b->op->attrs[a];
        if (attr->initial == NULL)
            continue;
        PyObject *value = attr->kind == PCNN_ATTR_CHOICE
                              ? PyUnicode_FromString(attr->initial)
                              : PyObject_CallMethod(ast, "literal_eval", "s", attr->initial);
        failed = value == NULL || pcnn_py_parse_attr(b->op, attr, value, b->defaults) < 0;
        Py_XDECREF(value);
    }
    Py_DECREF(ast);
    return failed ? -1 : 0;
}

static int
bind(binding *b, const pcnn_op *op)
{
    b->op = op;
    for (const pcnn_attr *attr = op->attrs; attr && attr->name; attr++)
        if ((b->attr_names[b->n_attrs++] = PyUnicode_InternFromString(attr->name)) == NULL)
            return -1;
    for (int i = 0; i < op->n_in; i++)
        if ((b->input_names[i] = PyUnicode_InternFromString(op->params[i].name)) == NULL)
            return -1;
    b->defaults = PyMem_Calloc(1, op->attrs_size ? op->attrs_size : 1);
    if (b->defaults == NULL || op->attrs_size > 1024 || parse_defaults(b) < 0)
        return -1;
    b->method.ml_name = op->name;
    b->method.ml_meth = (PyCFunction)(void (*)(void))call_op;
    b->method.ml_flags = METH_FASTCALL | METH_KEYWORDS;
    b->method.ml_doc = make_doc(op);
    return b->method.ml_doc ? 0 : -1;
}

int
pcnn_py_add_ops(PyObject *module)
{
    size_t count = 0;
    while (pcnn_ops[count])
        count++;
    /* For the life of the process: the builtins point into it. */
    bindings = PyMem_Calloc(count + 1, sizeof *bindings);
    pcnn_py.ops = PyModule_New("pycnn._core.ops");
    PyObject *module_name = PyUnicode_FromString("pycnn.ops");
    PyObject *names = PyList_New(0);
    int failed = bindings == NULL || pcnn_py.ops == NULL || module_name == NULL || names == NULL;
    for (size_t k = 0; k < count && !failed; k++) {
        binding *b = &bindings[k];
        failed = bind(b, pcnn_ops[k]) < 0;
        if (pcnn_ops[k]->flags & PCNN_OP_INTERNAL)
            continue; /* made by gradients and passes, which keep to what it expects unchecked */
        PyObject *capsule = failed ? NULL : PyCapsule_New(b, NULL, NULL);
        PyObject *function = capsule ? PyCFunction_NewEx(&b->method, capsule, module_name) : NULL;
        PyObject *name = PyUnicode_FromString(b->op->name);
        failed = function == NULL || name == NULL ||
                 PyObject_SetAttr(pcnn_py.ops, name, function) < 0 ||
                 PyList_Append(names, name) < 0;
        Py_XDECREF(capsule);
        Py_XDECREF(function);
        Py_XDECREF(name);
    }
    Py_XDECREF(module_name);
    if (!failed)
        failed = PyModule_AddObjectRef(pcnn_py.ops, "_names", names) < 0 ||
                 PyModule_AddObjectRef(module, "ops", pcnn_py.ops) < 0;
    Py_XDECREF(names);
    return failed ? -1 : 0;
}
