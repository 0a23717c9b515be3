/* Memory of values that outlive a run: reference-counted, 64-byte aligned, recycled.
 *
 * Released memory goes to a free list by size, so that a training loop touches no fresh page after
 * its second step. Reference counts are guarded by the interpreter lock, as the whole graph is. */
#ifndef PCNN_CORE_STORAGE_H
#define PCNN_CORE_STORAGE_H

#include "core/tensor.h"

typedef struct pcnn_storage {
    int64_t refs;
    void *data;
    int64_t bytes;
    /* Bumped by every in-place write: a value computed from an older version is stale. */
    uint32_t version;
    /* References through which NumPy can write without our knowing. */
    int32_t exports;
    /* Pending nodes that read this memory: a write waits for them. */
    int32_t pending_readers;
    /* Scratch of the walk over a segment (plan/segment.c); 0 outside of it: the external that this
     * memory is, and the value that holds its numbers at this point of the walk. */
    int32_t external, holder;
    bool recycled;                /* from the free lists; otherwise `release(owner)` frees it */
    void (*release)(void *owner); /* foreign memory: called with the interpreter lock held */
    void *owner;
    struct pcnn_storage *next_free;
} pcnn_storage;

pcnn_storage *pcnn_storage_new(int64_t bytes); /* NULL: out of memory (message set) */
pcnn_storage *pcnn_storage_wrap(void *data, int64_t bytes, void (*release)(void *), void *owner);

static inline pcnn_storage *
pcnn_storage_ref(pcnn_storage *storage)
{
    storage->refs++;
    return storage;
}

void pcnn_storage_unref(pcnn_storage *storage); /* NULL is fine */

/* Bytes alive, and bytes waiting in the free lists. */
int64_t pcnn_storage_live(void);
int64_t pcnn_storage_cached(void);
void pcnn_storage_trim(void); /* gives the free lists back to the system */

/* Tests: fill new and returned memory with NaN patterns, and check guard bytes on release. */
void pcnn_storage_set_poison(bool poison);
bool pcnn_storage_poison(void);
int64_t pcnn_storage_guard_errors(void);

#endif
