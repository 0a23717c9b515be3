/* Computing what is pending: a segment is taken with the interpreter lock held, run without it, and
 * finished with it again. */
#include "python/python.h"

#include <time.h>

#include "core/parallel.h"
#include "plan/segment.h"

/* Runs under way in this process; after a fork those of other threads are lost. */
static int under_way, forks;

static void
count_runs(int change)
{
    if (forks != pcnn_forks()) {
        forks = pcnn_forks();
        under_way = 0;
    }
    under_way += change;
}

int
pcnn_py_force_first(pcnn_trace *trace, int64_t count)
{
    if (trace->nodes == 0)
        return 0;
    pcnn_segment segment;
    pcnn_status status = pcnn_segment_take(&segment, trace, count);
    if (status == PCNN_OK)
        status = pcnn_segment_prepare(&segment);
    if (status == PCNN_OK) {
        count_runs(1);
        PyThreadState *state = PyEval_SaveThread();
        pcnn_run_lock();
        status = pcnn_segment_run(&segment);
        pcnn_run_unlock();
        PyEval_RestoreThread(state);
        count_runs(-1);
    }
    /* Told when the segment is done with: telling runs Python. */
    pcnn_plan *plan = status == PCNN_OK && pcnn_plan_options.verbose > 0 ? segment.plan : NULL;
    bool made = segment.made;
    if (plan != NULL)
        plan->refs++;
    pcnn_segment_finish(&segment, status);
    if (plan != NULL) {
        if (made)
            pcnn_py_tell_plan(plan, true);
        pcnn_py_tell_plan(plan, false);
        pcnn_plan_unref(plan);
    }
    if (status == PCNN_OK)
        return 0;
    pcnn_py_raise(status);
    return -1;
}

int
pcnn_py_force(pcnn_trace *trace)
{
    return pcnn_py_force_first(trace, trace->nodes);
}

/* Waits until some run of another thread may have ended; false: there is none. */
static bool
wait_for_runs(void)
{
    count_runs(0);
    if (under_way <= 0)
        return false;
    const struct timespec moment = {0, 50000};
    PyThreadState *state = PyEval_SaveThread();
    pcnn_run_lock();
    pcnn_run_unlock();
    nanosleep(&moment, NULL);
    PyEval_RestoreThread(state);
    return true;
}

static int
compute_held(pcnn_value *value)
{
    while (value->storage == NULL) {
        pcnn_node *node = value->node;
        if (value->symbolic) {
            PyErr_SetString(PyExc_RuntimeError,
                            "this tensor belongs to a capture: it has no numbers to look at");
            return -1;
        }
        if (node == NULL || node->state == PCNN_NODE_FAILED || node->state == PCNN_NODE_DONE) {
            pcnn_py_raise(pcnn_node_failed(node));
            return -1;
        }
        if (node->state == PCNN_NODE_RUNNING) {
            if (wait_for_runs())
                continue;
            PyErr_SetString(PyExc_RuntimeError, "this tensor was being computed by another thread "
                                                "when the process was forked");
            return -1;
        }
        pcnn_trace *trace = node->trace;
        if (pcnn_py_force(trace) < 0) {
            /* What failed in another thread's trace, after this value was computed, is told to
             * whoever looks at it; this thread's own errors are told at once. */
            if (value->storage == NULL || trace == pcnn_trace_lazy())
                return -1;
            PyErr_Clear();
        }
    }
    return 0;
}

int
pcnn_py_compute(pcnn_value *value)
{
    if (value->storage != NULL)
        return 0;
    /* While the interpreter lock is released the caller's tensor may come to stand for something
     * else: the value must not die, and must stay visible to the plan. */
    pcnn_value_ref(value)->handles++;
    int result = compute_held(value);
    value->handles--;
    pcnn_value_unref(value);
    return result;
}

int
pcnn_py_settle(pcnn_trace *trace, const char *what, pcnn_value *value)
{
    if (value->symbolic) {
        if (pcnn_trace_owns(trace, value))
            return 0;
        PyErr_Format(PyExc_RuntimeError,
                     "%s: this tensor belongs to a capture and cannot be used outside of it", what);
        return -1;
    }
    if (value->storage != NULL || (value->node != NULL && value->node->trace == trace &&
                                   value->node->state == PCNN_NODE_PENDING))
        return 0;
    return pcnn_py_compute(value) < 0 ? -1 : 1;
}

int
pcnn_py_force_readers(pcnn_storage *storage)
{
    int result = 0;
    pcnn_storage_ref(storage);
    while (storage->pending_readers > 0 && result == 0) {
        pcnn_trace *trace = pcnn_trace_with_reader(storage);
        if (trace == NULL) {
            if (!wait_for_runs())
                storage->pending_readers = 0; /* they were lost in a fork */
        }
        else if (pcnn_py_force(trace) < 0) {
            /* An error of another thread's ops is told to whoever looks at them. */
            if (trace == pcnn_trace_lazy())
                result = -1;
            else
                PyErr_Clear();
        }
    }
    pcnn_storage_unref(storage);
    return result;
}

void
pcnn_py_hold(pcnn_value *const *values, int n, int change)
{
    for (int i = 0; i < n; i++)
        if (values[i] != NULL)
            values[i]->handles += change;
}

static int
settle_held(pcnn_trace *trace, const pcnn_op *op, pcnn_value *const *in, int n)
{
    for (bool again = true; again;) {
        again = false;
        for (int i = 0; i < n; i++) {
            int settled = in[i] ? pcnn_py_settle(trace, op->name, in[i]) : 0;
            if (settled < 0)
                return -1;
            again |= settled > 0;
        }
        if (again || !pcnn_record_hazard(trace, op, in, n))
            continue;
        again = true;
        for (int o = 0; o < op->n_out; o++) {
            int i = op->writes[o] - 1;
            if (i < 0 || i >= n || in[i] == NULL)
                continue;
            if (in[i]->storage == NULL ? pcnn_py_force(trace) < 0
                                       : pcnn_py_force_readers(in[i]->storage) < 0)
                return -1;
        }
    }
    return 0;
}

int
pcnn_py_settle_inputs(pcnn_trace *trace, const pcnn_op *op, pcnn_value *const *in, int n)
{
    pcnn_py_hold(in, n, 1);
    int result = settle_held(trace, op, in, n);
    pcnn_py_hold(in, n, -1);
    return result;
}
