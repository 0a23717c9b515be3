/* Computing what is pending: a segment is taken with the interpreter lock held, run without it, and
 * finished with it again. */
#include "python/python.h"

#include <sched.h>

#include "core/parallel.h"
#include "plan/segment.h"

int
pcnn_py_force(pcnn_trace *trace)
{
    if (trace->nodes == 0)
        return 0;
    pcnn_segment segment;
    pcnn_status status = pcnn_segment_take(&segment, trace);
    if (status == PCNN_OK)
        status = pcnn_segment_prepare(&segment);
    if (status == PCNN_OK) {
        Py_BEGIN_ALLOW_THREADS pcnn_run_lock();
        status = pcnn_segment_run(&segment);
        pcnn_run_unlock();
        Py_END_ALLOW_THREADS
    }
    pcnn_segment_finish(&segment, status);
    if (status == PCNN_OK)
        return 0;
    pcnn_py_raise(status);
    return -1;
}

int
pcnn_py_compute(pcnn_value *value)
{
    while (value->storage == NULL) {
        pcnn_node *node = value->node;
        if (value->symbolic) {
            PyErr_SetString(PyExc_RuntimeError,
                            "this tensor belongs to a capture: it has no numbers to look at");
            return -1;
        }
        if (node == NULL || node->state == PCNN_NODE_FAILED || node->state == PCNN_NODE_DONE) {
            PyErr_SetString(PyExc_RuntimeError,
                            "the computation that should have made this tensor failed");
            return -1;
        }
        if (node->state == PCNN_NODE_RUNNING) {
            /* Another thread runs it: wait for that run, then look again. */
            Py_BEGIN_ALLOW_THREADS pcnn_run_lock();
            pcnn_run_unlock();
            sched_yield();
            Py_END_ALLOW_THREADS continue;
        }
        if (pcnn_py_force(node->trace) < 0)
            return -1;
    }
    return 0;
}
