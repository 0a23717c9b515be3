/* The one pool of threads, and the only file that knows threads (parallel.c).
 *
 * Work is cut by shape into `items`; which thread takes which items never changes a result,
 * because an item writes only what is its own and partial sums are combined afterwards in order.
 * The functions that fill items must not call the pool again. */
#ifndef PCNN_CORE_PARALLEL_H
#define PCNN_CORE_PARALLEL_H

#include <stdint.h>

/* Processes items begin .. end-1. `worker` is below pcnn_threads(): an index for scratch memory. */
typedef void (*pcnn_task)(void *context, int64_t begin, int64_t end, int worker);

/* Runs `task` over 0 .. items-1 in chunks of `grain` items. `cost_ns` is a rough estimate of the
 * whole work; work below the pool's threshold (20 us) stays on the calling thread. */
void pcnn_parallel(int64_t items, int64_t grain, double cost_ns, pcnn_task task, void *context);

int pcnn_threads(void);              /* threads that a run uses, the caller included */
int pcnn_set_threads(int threads);   /* 0: the default; returns the number in force */
enum { PCNN_MAX_THREADS = 256 };

/* For tests: the threshold in ns below which work stays single-threaded (negative: the default; 0:
 * none, and chunks are dealt out to all workers in turn, so that each has its share),
 * and how many different workers took items since the last call. */
void pcnn_set_parallel_threshold(double ns);
int pcnn_workers_seen(void);

/* One run owns the pool. These serialise runs; callers hold no interpreter lock. */
void pcnn_run_lock(void);
void pcnn_run_unlock(void);

/* Captures rebind tensors for their time: one thread captures at once. */
void pcnn_capture_lock(void);
void pcnn_capture_unlock(void);

/* How often this process was forked from one that had loaded the engine: what other threads were
 * doing at that moment is lost in the child. */
int pcnn_forks(void);

/* Calls `function(argument)` when the calling thread ends, without the interpreter lock. One
 * registration a thread, and one function for all. */
void pcnn_at_thread_exit(void (*function)(void *argument), void *argument);

#endif
