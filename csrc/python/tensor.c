/* pycnn.Tensor: a handle on a value, and the operators on it. */
#include "python/python.h"

#include <structmember.h>

#include "core/parallel.h"

PyObject *
pcnn_py_tensor_wrap(pcnn_value *value)
{
    pcnn_py_tensor *self =
        value ? (pcnn_py_tensor *)pcnn_py.tensor_type->tp_alloc(pcnn_py.tensor_type, 0) : NULL;
    if (self == NULL) {
        pcnn_value_unref(value);
        return NULL;
    }
    self->value = value;
    value->handles++;
    return (PyObject *)self;
}

void
pcnn_py_tensor_rebind(pcnn_py_tensor *self, pcnn_value *value)
{
    pcnn_value *old = self->value;
    /* A graph that still leads to the old value must not find this tensor by a pointer that nobody
     * would clear. */
    if (old->leaf != NULL && old->leaf != value->leaf && old->leaf->tensor == self)
        old->leaf->tensor = NULL;
    value->handles++;
    self->value = value;
    old->handles--;
    pcnn_value_unref(old);
}

static void
tensor_dealloc(PyObject *object)
{
    pcnn_py_tensor *self = (pcnn_py_tensor *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (self->weak_references != NULL)
        PyObject_ClearWeakRefs(object);
    if (self->value != NULL) {
        if (self->value->leaf != NULL && self->value->leaf->tensor == self)
            self->value->leaf->tensor = NULL;
        self->value->handles--;
        pcnn_value_unref(self->value);
    }
    Py_CLEAR(self->grad);
    Py_CLEAR(self->keras_logits);
    type->tp_free(object);
    Py_DECREF(type);
}

static int
tensor_traverse(PyObject *object, visitproc visit, void *arg)
{
    pcnn_py_tensor *self = (pcnn_py_tensor *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->grad);
    Py_VISIT(self->keras_logits);
    return 0;
}

static int
tensor_clear(PyObject *object)
{
    pcnn_py_tensor *self = (pcnn_py_tensor *)object;
    Py_CLEAR(self->grad);
    Py_CLEAR(self->keras_logits);
    return 0;
}

static PyObject *
tensor_repr(PyObject *object)
{
    pcnn_py_tensor *self = (pcnn_py_tensor *)object;
    const char *grad = self->value->requires_grad ? ", requires_grad=True" : "";
    if (self->value->symbolic) {
        char text[PCNN_SHAPE_TEXT];
        return PyUnicode_FromFormat("tensor(<in a capture>, shape=%s, dtype=%s%s)",
                                    pcnn_shape_text(&self->value->type, text),
                                    pcnn_dtype_name(self->value->type.dtype), grad);
    }
    PyObject *array = pcnn_py_tensor_look(object);
    PyObject *numpy = array ? PyImport_ImportModule("numpy") : NULL;
    PyObject *text = numpy ? PyObject_CallMethod(numpy, "array2string", "OOOOs", array, Py_None,
                                                 Py_None, Py_None, ", ")
                           : NULL;
    PyObject *result = NULL;
    if (text != NULL)
        result = PyUnicode_FromFormat("tensor(%U, dtype=%s%s)", text,
                                      pcnn_dtype_name(self->value->type.dtype), grad);
    Py_XDECREF(text);
    Py_XDECREF(numpy);
    Py_XDECREF(array);
    return result;
}

/* ---- operators ---- */

static bool
is_operand(PyObject *object)
{
    return pcnn_py_is_tensor(object) || PyArray_Check(object) || PyNumber_Check(object) ||
           PySequence_Check(object) || PyObject_HasAttr(object, pcnn_py.tensor_method);
}

static PyObject *
binary(const pcnn_op *op, PyObject *a, PyObject *b)
{
    /* Objects that know better (a DataFrame, say) get their turn. */
    if (!is_operand(a) || !is_operand(b))
        Py_RETURN_NOTIMPLEMENTED;
    return pcnn_py_apply_defaults(op, (PyObject *const[]){a, b}, 2);
}

#define BINARY(name, op)                                     \
    static PyObject *tensor_##name(PyObject *a, PyObject *b) \
    {                                                        \
        return binary(&pcnn_op_##op, a, b);                  \
    }
BINARY(add, add)
BINARY(subtract, sub)
BINARY(multiply, mul)
BINARY(true_divide, div)
BINARY(matmul, matmul)

static PyObject *
tensor_power(PyObject *a, PyObject *b, PyObject *modulus)
{
    if (modulus != Py_None)
        Py_RETURN_NOTIMPLEMENTED;
    int overflow;
    if (PyLong_CheckExact(b) && PyLong_AsLongAndOverflow(b, &overflow) == 2)
        return pcnn_py_apply_defaults(&pcnn_op_square, &a, 1);
    return binary(&pcnn_op_pow, a, b);
}

static PyObject *
tensor_negative(PyObject *a)
{
    return pcnn_py_apply_defaults(&pcnn_op_neg, &a, 1);
}

static PyObject *
tensor_absolute(PyObject *a)
{
    return pcnn_py_apply_defaults(&pcnn_op_abs, &a, 1);
}

static PyObject *
tensor_compare(PyObject *a, PyObject *b, int operation)
{
    if (b == Py_None) {
        if (operation == Py_EQ)
            Py_RETURN_FALSE;
        if (operation == Py_NE)
            Py_RETURN_TRUE;
        Py_RETURN_NOTIMPLEMENTED;
    }
    switch (operation) {
    case Py_LT: return binary(&pcnn_op_less, a, b);
    case Py_LE: return binary(&pcnn_op_less_equal, a, b);
    case Py_EQ: return binary(&pcnn_op_equal, a, b);
    case Py_NE: return binary(&pcnn_op_not_equal, a, b);
    case Py_GT: return binary(&pcnn_op_greater, a, b);
    default: return binary(&pcnn_op_greater_equal, a, b);
    }
}

/* Identity, as for any object that can be a key: == compares numbers. */
static Py_hash_t
tensor_hash(PyObject *self)
{
    return (Py_hash_t)((uintptr_t)self >> 4);
}

static PyObject *
tensor_positive(PyObject *self)
{
    return Py_NewRef(self);
}

/* For iteration: pcnn_py_tensor_subscript raises IndexError behind the last row. */
static PyObject *
tensor_item(PyObject *self, Py_ssize_t i)
{
    PyObject *index = PyLong_FromSsize_t(i);
    PyObject *item = index ? pcnn_py_tensor_subscript(self, index) : NULL;
    Py_XDECREF(index);
    return item;
}

static PyObject *
tensor_iterate(PyObject *self)
{
    if (((pcnn_py_tensor *)self)->value->type.ndim == 0) {
        PyErr_SetString(PyExc_TypeError, "iteration over a 0-d tensor");
        return NULL;
    }
    return PySeqIter_New(self);
}

static PyObject *
single_number(PyObject *self)
{
    PyObject *array = pcnn_py_tensor_look(self);
    PyObject *number = array ? PyObject_CallMethod(array, "item", NULL) : NULL;
    Py_XDECREF(array);
    return number;
}

static PyObject *
tensor_float(PyObject *self)
{
    PyObject *number = single_number(self);
    PyObject *result = number ? PyNumber_Float(number) : NULL;
    Py_XDECREF(number);
    return result;
}

static PyObject *
tensor_int(PyObject *self)
{
    PyObject *number = single_number(self);
    PyObject *result = number ? PyNumber_Long(number) : NULL;
    Py_XDECREF(number);
    return result;
}

static int
tensor_bool(PyObject *self)
{
    PyObject *number = single_number(self);
    int result = number ? PyObject_IsTrue(number) : -1;
    Py_XDECREF(number);
    return result;
}

static Py_ssize_t
tensor_length(PyObject *object)
{
    const pcnn_type *type = &((pcnn_py_tensor *)object)->value->type;
    if (type->ndim == 0) {
        PyErr_SetString(PyExc_TypeError, "len() of a 0-d tensor");
        return -1;
    }
    return (Py_ssize_t)type->shape[0];
}

/* ---- buffer protocol: through the array on the same memory ---- */

static int
tensor_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    PyObject *array = pcnn_py_tensor_numpy(self);
    if (array == NULL)
        return -1;
    int result = PyObject_GetBuffer(array, view, flags);
    Py_DECREF(array); /* the view holds it now */
    return result;
}

static PyObject *
tensor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)type;
    (void)args;
    (void)kwargs;
    PyErr_SetString(PyExc_TypeError, "make tensors with pycnn.tensor(data) or pycnn.from_numpy(a)");
    return NULL;
}

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(pcnn_py_tensor, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "A handle on a value of the graph: pending, computed, or symbolic inside a capture.\n\n"
     "Operators record; numpy(), item(), backward(), printing and comparisons in Python's if "
     "compute.\nMade by pycnn.tensor, pycnn.from_numpy and the ops."},
    {Py_tp_new, tensor_new},
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_traverse, tensor_traverse},
    {Py_tp_clear, tensor_clear},
    {Py_tp_repr, tensor_repr},
    {Py_tp_hash, tensor_hash},
    {Py_tp_richcompare, tensor_compare},
    {Py_tp_members, members},
    {Py_tp_methods, pcnn_py_tensor_methods},
    {Py_tp_getset, pcnn_py_tensor_getset},
    {Py_nb_add, tensor_add},
    {Py_nb_subtract, tensor_subtract},
    {Py_nb_multiply, tensor_multiply},
    {Py_nb_true_divide, tensor_true_divide},
    {Py_nb_matrix_multiply, tensor_matmul},
    {Py_nb_power, tensor_power},
    {Py_nb_negative, tensor_negative},
    {Py_nb_positive, tensor_positive},
    {Py_nb_absolute, tensor_absolute},
    {Py_nb_float, tensor_float},
    {Py_nb_int, tensor_int},
    {Py_nb_bool, tensor_bool},
    {Py_tp_iter, tensor_iterate},
    {Py_sq_item, tensor_item},
    {Py_mp_length, tensor_length},
    {Py_mp_subscript, pcnn_py_tensor_subscript},
    {Py_bf_getbuffer, tensor_getbuffer},
    {0, NULL},
};

PyType_Spec pcnn_py_tensor_spec = {
    .name = "pycnn._core.Tensor",
    .basicsize = sizeof(pcnn_py_tensor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

/* ---- no_grad ---- */

typedef struct {
    PyObject_HEAD int depth;
    unsigned long long before; /* bit d: gradients were enabled at entry d */
} no_grad_object;

static PyObject *
no_grad_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    no_grad_object *self = (no_grad_object *)object;
    if (self->depth >= 64) {
        PyErr_SetString(PyExc_RuntimeError, "no_grad: entered more than 64 times");
        return NULL;
    }
    unsigned long long bit = 1ull << self->depth++;
    self->before = pcnn_grad_enabled() ? self->before | bit : self->before & ~bit;
    pcnn_set_grad_enabled(false);
    Py_RETURN_NONE;
}

static PyObject *
no_grad_exit(PyObject *object, PyObject *args)
{
    (void)args;
    no_grad_object *self = (no_grad_object *)object;
    if (self->depth > 0)
        pcnn_set_grad_enabled(self->before >> --self->depth & 1);
    Py_RETURN_NONE;
}

static void
no_grad_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef no_grad_methods[] = {
    {"__enter__", no_grad_enter, METH_NOARGS, NULL},
    {"__exit__", no_grad_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot no_grad_slots[] = {
    {Py_tp_doc, "with no_grad(): ops inside record no gradients (as torch.no_grad)."},
    {Py_tp_methods, no_grad_methods},
    {Py_tp_dealloc, no_grad_dealloc},
    {0, NULL},
};

PyType_Spec pcnn_py_no_grad_spec = {
    .name = "pycnn._core.no_grad",
    .basicsize = sizeof(no_grad_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = no_grad_slots,
};
