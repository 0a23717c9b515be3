/* The pool: fork-join over chunks of items.
 *
 * A job is published by bumping `generation`; workers that see the new number help until the
 * chunks run out, and the caller returns when every helper that joined has left. Every worker
 * begins with a share of its own, neighbouring chunks, and then helps with the others': so the same
 * data is touched by the same thread in one job after another, as long as all are equally fast, and
 * stays in its caches. Where cores do not share a cache, moving it costs as much as memory does.
 * Workers spin briefly for the next job (a fork-join between spinning threads costs well under a
 * microsecond, a wake-up through the kernel about five) and then sleep. When there are more threads
 * than processors a spinner only steals time, so they sleep at once.
 *
 * Every thread that works, the caller included, has denormals flushed to zero for the time of a
 * run, so that results do not depend on who computed them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "core/parallel.h"
#include "core/tiles.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define PAUSE() _mm_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

enum { SPINS = 4000 };
static const double default_threshold_ns = 20e3;

/* ---- floating-point state ---- */

static uint64_t
flush_denormals(void)
{
#if defined(__x86_64__)
    unsigned state = _mm_getcsr();
    _mm_setcsr(state | 0x8040); /* flush to zero, denormals are zero */
    return state;
#elif defined(__aarch64__)
    uint64_t state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    __asm__ volatile("msr fpcr, %0" ::"r"(state | (1u << 24)));
    return state;
#else
    return 0;
#endif
}

static void
restore_denormals(uint64_t state)
{
#if defined(__x86_64__)
    _mm_setcsr((unsigned)state);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"(state));
#else
    (void)state;
#endif
}

/* ---- the pool ---- */

static struct {
    pthread_mutex_t mutex; /* guards sleeping and starting */
    pthread_cond_t wake;
    atomic_int threads; /* wanted, caller included; 0: not yet determined */
    int started;        /* workers alive: caller excluded */
    int sleeping;
    atomic_bool oversubscribed;
    _Atomic double threshold_ns;
    _Alignas(64) atomic_uint generation;
    /* the job */
    _Alignas(64) atomic_int inside; /* workers that may still touch the job */
    atomic_bool open;  /* a job is there to be joined */
    atomic_uint seen;  /* bit w: worker w took items */
    unsigned number;   /* of the job, from 1 on */
    int wanted;        /* workers that may join this job, caller included */
    bool dealt;        /* chunks are dealt out: every worker must take part */
    atomic_int joined; /* workers that have done their share of a dealt job */
    int64_t items, grain, chunks;
    pcnn_task task;
    void *context;
    struct {
        _Alignas(64) atomic_llong taken; /* chunks of worker w's share */
    } shares[PCNN_MAX_THREADS];
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static pthread_mutex_t run_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t capture_mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t run_fp_state;
static int forks;

static void
run_chunk(int64_t begin, int worker)
{
    int64_t end = begin + pool.grain < pool.items ? begin + pool.grain : pool.items;
    pool.task(pool.context, begin, end, worker);
}

/* For tests: chunks are dealt out in turn, so that every worker has its share however loaded the
 * machine is. */
static void
take_share(int worker)
{
    int64_t begin = worker * pool.grain;
    if (begin < pool.items)
        atomic_fetch_or(&pool.seen, 1u << (worker & 31));
    for (; begin < pool.items; begin += pool.wanted * pool.grain)
        run_chunk(begin, worker);
}

static void
take_chunks(int worker)
{
    bool took = false;
    if (pool.dealt) {
        take_share(worker);
        return;
    }
    for (int k = 0; k < pool.wanted; k++) {
        const int owner = (worker + k) % pool.wanted;
        const int64_t first = pcnn_tile_begin(pool.chunks, pool.wanted, owner);
        const int64_t count = pcnn_tile_begin(pool.chunks, pool.wanted, owner + 1) - first;
        atomic_llong *taken = &pool.shares[owner].taken;
        while (atomic_load_explicit(taken, memory_order_relaxed) < count) {
            const int64_t chunk = atomic_fetch_add(taken, 1);
            if (chunk >= count)
                break;
            run_chunk((first + chunk) * pool.grain, worker);
            took = true;
        }
    }
    if (took)
        atomic_fetch_or(&pool.seen, 1u << (worker & 31));
}

static void *
worker_main(void *argument)
{
    int worker = (int)(intptr_t)argument;
    unsigned generation = 0, done = 0;
    (void)flush_denormals();
    for (;;) {
        int spins = pool.oversubscribed ? 0 : SPINS;
        while (atomic_load_explicit(&pool.generation, memory_order_acquire) == generation) {
            if (spins-- > 0) {
                PAUSE();
                continue;
            }
            pthread_mutex_lock(&pool.mutex);
            pool.sleeping++;
            while (atomic_load(&pool.generation) == generation)
                pthread_cond_wait(&pool.wake, &pool.mutex);
            pool.sleeping--;
            pthread_mutex_unlock(&pool.mutex);
        }
        generation = atomic_load(&pool.generation);
        /* Announce first, then look: the caller closes the job before it counts who is inside. */
        atomic_fetch_add(&pool.inside, 1);
        /* Who was late for one job may meet the next before its generation is told: once only. */
        if (atomic_load(&pool.open) && worker < pool.wanted && done != pool.number) {
            done = pool.number;
            take_chunks(worker);
            atomic_fetch_add(&pool.joined, 1);
        }
        atomic_fetch_sub(&pool.inside, 1);
    }
    return NULL;
}

static int
read_quota(void)
{
    /* cgroup v2: "max 100000" or "200000 100000". */
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    long long quota, period;
    int cores = 0;
    if (file != NULL) {
        if (fscanf(file, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0)
            cores = (int)((quota + period - 1) / period);
        (void)fclose(file);
    }
    return cores;
}

static int
processors(void)
{
    int count = (int)sysconf(_SC_NPROCESSORS_ONLN);
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        count = CPU_COUNT(&set);
#endif
    int quota = read_quota();
    if (quota > 0 && quota < count)
        count = quota;
    return count < 1 ? 1 : count;
}

static int
from_environment(const char *name)
{
    const char *text = getenv(name);
    long value = text ? strtol(text, NULL, 10) : 0;
    return value > 0 && value <= PCNN_MAX_THREADS ? (int)value : 0;
}

static void
forget_workers(void)
{
    /* In a child after fork no worker exists, and locks held by others would stay locked. */
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_mutex_init(&run_mutex, NULL);
    pthread_mutex_init(&capture_mutex, NULL);
    forks++;
    pool.started = 0;
    pool.sleeping = 0;
    atomic_store(&pool.inside, 0);
    atomic_store(&pool.open, false);
}

static void
determine(void)
{
    if (pool.threads > 0)
        return;
    int threads = from_environment("PYCNN_NUM_THREADS");
    if (threads == 0)
        threads = from_environment("OMP_NUM_THREADS");
    if (threads == 0)
        threads = processors();
    if (pool.threshold_ns == 0)
        pool.threshold_ns = default_threshold_ns;
    static bool registered = false;
    if (!registered) {
        registered = true;
        (void)pthread_atfork(NULL, NULL, forget_workers);
    }
    pool.oversubscribed = threads > processors();
    pool.threads = threads > PCNN_MAX_THREADS ? PCNN_MAX_THREADS : threads;
}

int
pcnn_threads(void)
{
    determine();
    return pool.threads;
}

int
pcnn_set_threads(int threads)
{
    pcnn_run_lock();
    pool.threads = threads;
    determine();
    if (pool.threads > PCNN_MAX_THREADS)
        pool.threads = PCNN_MAX_THREADS;
    pool.oversubscribed = pool.threads > processors();
    pcnn_run_unlock();
    return pool.threads;
}

void
pcnn_set_parallel_threshold(double ns)
{
    determine();
    pool.threshold_ns = ns < 0 ? default_threshold_ns : ns;
}

int
pcnn_workers_seen(void)
{
    return __builtin_popcount(atomic_exchange(&pool.seen, 0));
}

static void
start_workers(int workers)
{
    if (pool.started >= workers)
        return;
    /* Signals are for the threads of the program: workers are born with all of them blocked. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.started < workers) {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        int failed =
            pthread_create(&thread, &attributes, worker_main, (void *)(intptr_t)(pool.started + 1));
        pthread_attr_destroy(&attributes);
        if (failed)
            break; /* fewer workers only make it slower: the caller takes every chunk left */
        pool.started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void
pcnn_parallel(int64_t items, int64_t grain, double cost_ns, pcnn_task task, void *context)
{
    if (items <= 0)
        return;
    if (grain < 1)
        grain = 1;
    determine();
    if (pool.threads == 1 || cost_ns < pool.threshold_ns || items <= grain) {
        task(context, 0, items, 0);
        atomic_fetch_or(&pool.seen, 1u);
        return;
    }
    start_workers(pool.threads - 1);
    pool.items = items;
    pool.grain = grain;
    pool.chunks = pcnn_tiles(items, grain);
    pool.task = task;
    pool.context = context;
    pool.dealt = pool.threshold_ns == 0;
    pool.wanted = pool.dealt ? pool.started + 1 : pool.threads;
    if (pool.wanted > pool.threads)
        pool.wanted = pool.threads;
    pool.number++;
    atomic_store(&pool.joined, 0);
    for (int w = 0; w < pool.wanted; w++)
        atomic_store_explicit(&pool.shares[w].taken, 0, memory_order_relaxed);
    atomic_store(&pool.open, true);
    atomic_fetch_add(&pool.generation, 1);
    if (pool.started > 0) {
        pthread_mutex_lock(&pool.mutex);
        if (pool.sleeping > 0)
            pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.mutex);
    }
    take_chunks(0);
    while (pool.dealt && atomic_load(&pool.joined) < pool.wanted - 1)
        sched_yield();
    atomic_store(&pool.open, false);
    for (int spins = 0; atomic_load(&pool.inside) != 0; spins++) {
        if (pool.oversubscribed || spins > SPINS)
            sched_yield();
        else
            PAUSE();
    }
}

void
pcnn_run_lock(void)
{
    pthread_mutex_lock(&run_mutex);
    run_fp_state = flush_denormals();
}

void
pcnn_run_unlock(void)
{
    restore_denormals(run_fp_state);
    pthread_mutex_unlock(&run_mutex);
}

void
pcnn_capture_lock(void)
{
    determine(); /* registers what a child has to do after fork */
    pthread_mutex_lock(&capture_mutex);
}

void
pcnn_capture_unlock(void)
{
    pthread_mutex_unlock(&capture_mutex);
}

int
pcnn_forks(void)
{
    return forks;
}

void
pcnn_at_thread_exit(void (*function)(void *argument), void *argument)
{
    /* Called with the interpreter lock held, which guards the making of the key. */
    static pthread_key_t key;
    static bool made = false;
    if (!made)
        made = pthread_key_create(&key, function) == 0;
    if (made)
        (void)pthread_setspecific(key, argument);
}
