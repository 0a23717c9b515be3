/* Plan: the executable form of a capture, run with arrays for its placeholders, once or many times. */
#include "python/python.h"

#include <string.h>

#include "core/parallel.h"
#include "isa/kernels.h"
#include "plan/segment.h"

typedef struct {
    PyObject_HEAD pcnn_plan *plan;
    int32_t n_externals, n_outputs, n_placeholders;
    pcnn_value **externals; /* owned; placeholders have no storage */
    pcnn_type *out_types;
    pcnn_type *placeholder_types;
    bool *written; /* externals that effects overwrite */
    const char *isa; /* whose kernels it was made for: sizes of workspaces are theirs */
    int64_t runs; /* completed */
} plan_object;

static void
plan_dealloc(PyObject *object)
{
    plan_object *self = (plan_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    pcnn_plan_unref(self->plan);
    for (int32_t e = 0; self->externals && e < self->n_externals; e++)
        pcnn_value_unref(self->externals[e]);
    PyMem_Free(self->externals);
    PyMem_Free(self->out_types);
    PyMem_Free(self->placeholder_types);
    PyMem_Free(self->written);
    type->tp_free(object);
    Py_DECREF(type);
}

static bool
overlap(const char *a, int64_t a_bytes, const char *b, int64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

static int64_t
bytes_of(const pcnn_type *type)
{
    return pcnn_layout_bytes(type, PCNN_PLAIN);
}

/* Tensors made from arrays that overlap look like different memory to the passes. */
static int
refuse_shared_memory(const plan_object *self)
{
    for (int32_t w = 0; w < self->n_externals; w++)
        for (int32_t e = 0; e < self->n_externals && self->written[w]; e++) {
            const pcnn_value *a = self->externals[w], *b = self->externals[e];
            char a_text[PCNN_SHAPE_TEXT], b_text[PCNN_SHAPE_TEXT];
            if (a->storage == NULL || b->storage == NULL || a->storage == b->storage ||
                !overlap(a->storage->data, bytes_of(&a->type), b->storage->data,
                         bytes_of(&b->type)))
                continue;
            PyErr_Format(PyExc_ValueError,
                         "compile: a tensor of shape %s that the capture writes shares memory with "
                         "another, of shape %s (both were made by from_numpy from overlapping "
                         "arrays): use one tensor for both, or copy one of the arrays",
                         pcnn_shape_text(&a->type, a_text), pcnn_shape_text(&b->type, b_text));
            return -1;
        }
    return 0;
}

PyObject *
pcnn_py_plan_new(pcnn_segment *segment, pcnn_value *const *wanted, PyObject *placeholders)
{
    plan_object *self = (plan_object *)pcnn_py.plan_type->tp_alloc(pcnn_py.plan_type, 0);
    if (self == NULL)
        return NULL;
    self->n_outputs = segment->n_outputs;
    self->n_placeholders = (int32_t)PyList_GET_SIZE(placeholders);
    self->externals = PyMem_Calloc((size_t)segment->n_externals + 1, sizeof(pcnn_value *));
    self->written = PyMem_Calloc((size_t)segment->n_externals + 1, sizeof(bool));
    self->out_types = PyMem_Calloc((size_t)self->n_outputs + 1, sizeof(pcnn_type));
    self->placeholder_types = PyMem_Calloc((size_t)self->n_placeholders + 1, sizeof(pcnn_type));
    if (!self->externals || !self->out_types || !self->placeholder_types || !self->written) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (int32_t e = 0; e < segment->n_externals; e++)
        self->externals[e] = pcnn_value_ref(segment->externals[e]);
    self->n_externals = segment->n_externals;
    for (int32_t k = 0; k < self->n_outputs; k++)
        self->out_types[k] = wanted[k]->type;
    for (int32_t p = 0; p < self->n_placeholders; p++) {
        PyObject *tensor = PyList_GET_ITEM(placeholders, p);
        self->placeholder_types[p] = ((pcnn_py_tensor *)tensor)->value->type;
    }
    self->isa = pcnn_isa_name();
    pcnn_status status = pcnn_segment_plan(segment, &self->plan);
    if (status != PCNN_OK) {
        Py_DECREF(self);
        return pcnn_py_raise(status);
    }
    const pcnn_program *program = &self->plan->program;
    for (int32_t v = 0; v < program->n_values; v++)
        if (program->values[v].external >= 0 && program->values[v].producer >= 0 &&
            program->nodes[program->values[v].producer].effect)
            self->written[program->values[v].external] = true;
    if (refuse_shared_memory(self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    pcnn_py_tell_plan(self->plan, true);
    return (PyObject *)self;
}

static void
let_go(PyObject *capsule)
{
    pcnn_storage_unref(PyCapsule_GetPointer(capsule, NULL));
}

/* Whether `stacked` is `type` with `count` in front. */
static bool
is_stack_of(const pcnn_type *type, int64_t count, const pcnn_type *stacked)
{
    pcnn_type row = {.dtype = stacked->dtype, .ndim = stacked->ndim - 1};
    if (stacked->ndim < 1 || stacked->shape[0] != count)
        return false;
    for (int i = 0; i < row.ndim; i++)
        row.shape[i] = stacked->shape[i + 1];
    return pcnn_type_equal(&row, type);
}

/* One array of a run, or of `count` runs (-1: not several) that may each have a row of it, `step`
 * bytes apart: zero-copy where it is row-major, aligned and of the right dtype. */
static PyObject *
plan_argument(const plan_object *self, Py_ssize_t p, PyObject *object, int64_t count, void **data,
              int64_t *step)
{
    const pcnn_type *type = &self->placeholder_types[p];
    PyObject *held = NULL;
    pcnn_type got;
    if (pcnn_py_is_tensor(object)) {
        /* The tensor may come to stand for other memory while the interpreter lock is released:
         * what is held is the memory. */
        pcnn_value *value = pcnn_value_ref(((pcnn_py_tensor *)object)->value);
        got = value->type;
        if (pcnn_py_compute(value) == 0 &&
            (held = PyCapsule_New(value->storage, NULL, let_go)) != NULL)
            *data = pcnn_storage_ref(value->storage)->data;
        pcnn_value_unref(value);
        if (held == NULL)
            return NULL;
    }
    else {
        PyArrayObject *array = pcnn_py_array(object, "run");
        if (array == NULL)
            return NULL;
        got = pcnn_py_type_of(array);
        *data = PyArray_DATA(array);
        held = (PyObject *)array;
    }
    *step = 0;
    if (count >= 0 && is_stack_of(type, count, &got))
        *step = bytes_of(type);
    else if (!pcnn_type_equal(&got, type)) {
        char want_text[PCNN_SHAPE_TEXT], got_text[PCNN_SHAPE_TEXT];
        PyErr_Format(pcnn_py.shape_error,
                     "run: array %zd must be %s of shape %s, got %s of shape %s", p,
                     pcnn_dtype_name(type->dtype), pcnn_shape_text(type, want_text),
                     pcnn_dtype_name(got.dtype), pcnn_shape_text(&got, got_text));
        Py_DECREF(held);
        return NULL;
    }
    return held;
}

/* What is pending may read memory that this run overwrites, or be about to overwrite memory that
 * this run reads. */
static int
settle_memory(const plan_object *self)
{
    if (pcnn_py_force(pcnn_trace_lazy()) < 0)
        return -1;
    for (int32_t e = 0; e < self->n_externals; e++) {
        pcnn_storage *storage = self->externals[e]->storage;
        if (storage != NULL && storage->pending_readers > 0 && pcnn_py_force_readers(storage) < 0)
            return -1;
    }
    return 0;
}

/* Whether these bytes are, in part, of a tensor that the plan writes. */
static bool
is_written(const plan_object *self, const char *data, int64_t bytes)
{
    for (int32_t e = 0; e < self->n_externals; e++) {
        const pcnn_value *value = self->externals[e];
        if (self->written[e] && value->storage != NULL &&
            overlap(data, bytes, value->storage->data, bytes_of(&value->type)))
            return true;
    }
    return false;
}

/* Passes moved effects before and behind the reads of placeholders, as of other memory. So an array
 * that shares memory with a tensor that the plan writes is copied: a run sees it as it came. */
static int
separate_argument(const plan_object *self, PyObject **held, void **data, int64_t bytes)
{
    if (!is_written(self, *data, bytes))
        return 0;
    pcnn_storage *copy = pcnn_storage_new(bytes);
    PyObject *capsule = copy ? PyCapsule_New(copy, NULL, let_go) : PyErr_NoMemory();
    if (capsule == NULL) {
        pcnn_storage_unref(copy);
        return -1;
    }
    memcpy(copy->data, *data, (size_t)bytes);
    *data = copy->data;
    Py_SETREF(*held, capsule);
    return 0;
}

/* A call of run or run_many. */
typedef struct {
    Py_ssize_t n_args;
    int64_t count, times; /* count: -1 for run */
    PyObject **held; /* of each argument: what keeps its memory, */
    void **data; /* where it is, */
    int64_t *step; /* and how far the next run's row is */
    void **address; /* of externals, then of outputs */
    pcnn_storage **memory; /* of outputs */
} call;

static int
take_arguments(const plan_object *self, call *c, PyObject *const *args)
{
    for (Py_ssize_t p = 0; p < c->n_args; p++) {
        c->held[p] = plan_argument(self, p, args[p], c->count, &c->data[p], &c->step[p]);
        if (c->held[p] == NULL)
            return -1;
    }
    if (settle_memory(self) < 0)
        return -1;
    for (Py_ssize_t p = 0; p < c->n_args; p++) {
        const int64_t bytes = bytes_of(&self->placeholder_types[p]);
        if (separate_argument(self, &c->held[p], &c->data[p],
                              c->step[p] ? c->count * bytes : bytes) < 0)
            return -1;
    }
    return 0;
}

static int
fill_addresses(const plan_object *self, call *c)
{
    for (int32_t e = 0; e < self->n_externals; e++) {
        const pcnn_value *value = self->externals[e];
        c->address[e] =
            value->placeholder >= 0 ? c->data[value->placeholder] : value->storage->data;
    }
    for (int32_t k = 0; k < self->n_outputs; k++) {
        const int64_t bytes = bytes_of(&self->out_types[k]);
        c->memory[k] =
            bytes <= INT64_MAX / (c->times + 1) ? pcnn_storage_new(c->times * bytes) : NULL;
        if (c->memory[k] == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        c->address[self->n_externals + k] = c->memory[k]->data;
    }
    return 0;
}

/* To the rows of the next run. */
static void
advance_addresses(const plan_object *self, call *c)
{
    for (int32_t e = 0; e < self->n_externals; e++)
        if (self->externals[e]->placeholder >= 0)
            c->address[e] = (char *)c->address[e] + c->step[self->externals[e]->placeholder];
    void **outputs = c->address + self->n_externals;
    for (int32_t k = 0; k < self->n_outputs; k++)
        outputs[k] = (char *)outputs[k] + bytes_of(&self->out_types[k]);
}

static int
compute(plan_object *self, call *c)
{
    pcnn_status status = pcnn_profile_note(self->plan);
    int32_t failed;
    if (status != PCNN_OK) {
        pcnn_py_raise(status);
        return -1;
    }
    PyThreadState *state = PyEval_SaveThread();
    pcnn_run_lock();
    for (int64_t run = 0; run < c->times && status == PCNN_OK; run++) {
        status = pcnn_plan_run(self->plan, c->address, c->address + self->n_externals, &failed);
        self->runs += status == PCNN_OK;
        advance_addresses(self, c);
    }
    pcnn_run_unlock();
    PyEval_RestoreThread(state);
    /* Also where it failed: some effects may have happened before. */
    for (int32_t e = 0; e < self->n_externals; e++)
        if (self->written[e] && self->externals[e]->storage)
            self->externals[e]->storage->version++;
    if (status != PCNN_OK) {
        pcnn_py_raise(status);
        return -1;
    }
    pcnn_py_tell_plan(self->plan, false);
    return 0;
}

static PyObject *
wrap_outputs(const plan_object *self, call *c)
{
    PyObject *result = PyTuple_New(self->n_outputs);
    for (int32_t k = 0; k < self->n_outputs && result; k++) {
        pcnn_type type = self->out_types[k];
        if (c->count >= 0) {
            type.shape[0] = c->count;
            for (int i = 0; i < type.ndim; i++)
                type.shape[i + 1] = self->out_types[k].shape[i];
            type.ndim++;
        }
        pcnn_value *value = pcnn_value_from_storage(&type, c->memory[k]);
        c->memory[k] = NULL;
        PyObject *tensor = value ? pcnn_py_tensor_wrap(value) : PyErr_NoMemory();
        if (tensor == NULL)
            Py_CLEAR(result);
        else
            PyTuple_SET_ITEM(result, k, tensor);
    }
    return result;
}

/* Runs the plan once, or `count` times with outputs stacked. */
static PyObject *
run_times(plan_object *self, PyObject *const *args, Py_ssize_t n_args, int64_t count)
{
    if (n_args != self->n_placeholders) {
        PyErr_Format(PyExc_TypeError, "run: expected %d arrays, got %zd", (int)self->n_placeholders,
                     n_args);
        return NULL;
    }
    if (self->isa != pcnn_isa_name()) {
        PyErr_Format(PyExc_RuntimeError,
                     "run: the plan was made for the instruction set %s, and by now %s is chosen: "
                     "make it again",
                     self->isa, pcnn_isa_name());
        return NULL;
    }
    const int32_t n_addresses = self->n_externals + self->n_outputs;
    PyObject *held[32] = {NULL};
    void *data[32], *address[256];
    int64_t step[32];
    pcnn_storage *memory[32] = {NULL};
    call c = {n_args, count, count < 0 ? 1 : count, held, data, step, address, memory};
    const bool heap = n_args > 32 || n_addresses > 256 || self->n_outputs > 32;
    if (heap) {
        c.held = PyMem_Calloc((size_t)n_args + 1, sizeof *c.held);
        c.data = PyMem_Calloc((size_t)n_args + 1, sizeof *c.data);
        c.step = PyMem_Calloc((size_t)n_args + 1, sizeof *c.step);
        c.address = PyMem_Calloc((size_t)n_addresses + 1, sizeof *c.address);
        c.memory = PyMem_Calloc((size_t)self->n_outputs + 1, sizeof *c.memory);
    }
    PyObject *result = NULL;
    if (!c.held || !c.data || !c.step || !c.address || !c.memory)
        PyErr_NoMemory();
    else if (take_arguments(self, &c, args) == 0 && fill_addresses(self, &c) == 0 &&
             compute(self, &c) == 0)
        result = wrap_outputs(self, &c);
    for (Py_ssize_t p = 0; c.held && p < n_args; p++)
        Py_XDECREF(c.held[p]);
    for (int32_t k = 0; c.memory && k < self->n_outputs; k++)
        pcnn_storage_unref(c.memory[k]);
    if (heap) {
        PyMem_Free(c.held);
        PyMem_Free(c.data);
        PyMem_Free(c.step);
        PyMem_Free(c.address);
        PyMem_Free(c.memory);
    }
    return result;
}

static PyObject *
plan_run(PyObject *object, PyObject *const *args, Py_ssize_t n_args)
{
    return run_times((plan_object *)object, args, n_args, -1);
}

static PyObject *
plan_run_many(PyObject *object, PyObject *const *args, Py_ssize_t n_args)
{
    plan_object *self = (plan_object *)object;
    const Py_ssize_t count = n_args > 0 ? PyNumber_AsSsize_t(args[0], PyExc_OverflowError) : -1;
    if (count < 1) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "run_many: expected a count above 0, then arrays");
        return NULL;
    }
    for (int32_t k = 0; k < self->n_outputs; k++)
        if (self->out_types[k].ndim == PCNN_MAX_NDIM) {
            PyErr_Format(pcnn_py.shape_error, "run_many: output %d has no room for another axis",
                         (int)k);
            return NULL;
        }
    return run_times(self, args + 1, n_args - 1, count);
}

static const char *
layout_name(const pcnn_program *program, int32_t v)
{
    return v < 0 ? "-" : program->values[v].layout == PCNN_N16 ? "n16" : "plain";
}

static PyObject *
shapes_of(const pcnn_program *program, const int32_t *ids, int32_t n)
{
    PyObject *list = PyList_New(0);
    for (int32_t i = 0; list && i < n; i++) {
        char text[PCNN_SHAPE_TEXT];
        const char *shape = ids[i] < 0 ? "-" : pcnn_shape_text(&program->values[ids[i]].type, text);
        PyObject *item = Py_BuildValue("(ss)", shape, layout_name(program, ids[i]));
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

PyObject *
pcnn_py_plan_steps(const pcnn_plan *plan)
{
    const pcnn_program *program = &plan->program;
    PyObject *list = PyList_New(0);
    int32_t first = 0;
    for (int32_t n = 0; list && n < program->n_nodes; n++) {
        const pcnn_pnode *node = &program->nodes[n];
        PyObject *step =
            Py_BuildValue("{s:s,s:s,s:N,s:N,s:d,s:L}", "op", node->op->name, "impl",
                          node->impl->name, "inputs", shapes_of(program, node->in, node->n_in),
                          "outputs", shapes_of(program, node->out, node->n_out), "ns", node->ns,
                          "runs", (long long)node->runs);
        const pcnn_attr *activation = step ? pcnn_op_attr(node->op, "activation") : NULL;
        if (activation != NULL) {
            int64_t choice = *(const int64_t *)((const char *)node->attrs + activation->offset);
            PyObject *text = PyUnicode_FromString(activation->choices[choice]);
            if (text == NULL || PyDict_SetItemString(step, "activation", text) < 0)
                Py_CLEAR(step);
            Py_XDECREF(text);
        }
        /* The steps of a chain run as one: all have its first step's number, which has the time. */
        if (node->chain >= 0)
            first = n;
        if (node->chain != 0 && step != NULL) {
            PyObject *number = PyLong_FromLong(first);
            if (number == NULL || PyDict_SetItemString(step, "chain", number) < 0)
                Py_CLEAR(step);
            Py_XDECREF(number);
        }
        /* In how many strips it takes a plane, in a chain. */
        if (node->units > 0 && step != NULL) {
            PyObject *strips = PyLong_FromLongLong(program->nodes[first].scratch->strips);
            if (strips == NULL || PyDict_SetItemString(step, "strips", strips) < 0)
                Py_CLEAR(step);
            Py_XDECREF(strips);
        }
        if (step == NULL || pcnn_py_describe_step(step, plan, node) < 0 ||
            PyList_Append(list, step) < 0)
            Py_CLEAR(list);
        Py_XDECREF(step);
    }
    return list;
}

static PyObject *
plan_steps(PyObject *object, void *closure)
{
    (void)closure;
    return pcnn_py_plan_steps(((plan_object *)object)->plan);
}

static PyObject *
plan_arena(PyObject *object, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(((plan_object *)object)->plan->arena_bytes);
}

static PyObject *
plan_runs(PyObject *object, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(((plan_object *)object)->runs);
}

static PyMethodDef plan_methods[] = {
    {"run", (PyCFunction)(void (*)(void))plan_run, METH_FASTCALL,
     "run(*arrays): one array or Tensor a placeholder, in order of creation; returns a tuple of "
     "Tensors. Arrays are not copied, but for those that share memory with a tensor that the plan "
     "writes: a run sees them as they came.\n\nRaises ShapeError where a shape or dtype differs."},
    {"run_many", (PyCFunction)(void (*)(void))plan_run_many, METH_FASTCALL,
     "run_many(count, *arrays): run `count` times, one after the other, in one call. An array with "
     "one more axis of that length in front brings a row for each run. Returns the outputs of all "
     "runs, stacked. What shares memory with a tensor that the plan writes is copied before the "
     "first run."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef plan_getset[] = {
    {"steps", plan_steps, NULL, "one dict a step: op, impl, operands, time while profiling", NULL},
    {"runs", plan_runs, NULL, "how many runs were completed", NULL},
    {"arena_bytes", plan_arena, NULL, "memory that a run needs for intermediate values", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot plan_slots[] = {
    {Py_tp_doc, "The executable form of a capture; made by capture.compile."},
    {Py_tp_dealloc, plan_dealloc},
    {Py_tp_methods, plan_methods},
    {Py_tp_getset, plan_getset},
    {0, NULL},
};

PyType_Spec pcnn_py_plan_spec = {
    .name = "pycnn._core.Plan",
    .basicsize = sizeof(plan_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = plan_slots,
};
