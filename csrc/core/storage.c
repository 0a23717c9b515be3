/* Recycled memory: free lists by size class. */
#include "core/storage.h"

#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { CLASSES = 160, GUARD = 64, HUGE = 1 << 21 };
static const int64_t cache_limit = (int64_t)1 << 31;

static pcnn_storage *free_list[CLASSES];
static int64_t live_bytes, cached_bytes, guard_errors;
static bool poison;

/* Four classes a power of two: at most a quarter is wasted, and a repeated step finds its sizes. */
static int
size_class(int64_t bytes, int64_t *rounded)
{
    int log = 6;
    while (((int64_t)1 << (log + 1)) <= bytes)
        log++;
    int64_t quarter = (int64_t)1 << (log - 2);
    int64_t quarters = (bytes + quarter - 1) / quarter; /* 4 .. 8 */
    *rounded = quarters * quarter;
    return (log - 6) * 4 + (int)(quarters - 4);
}

static void
write_guard(pcnn_storage *storage)
{
    memset((char *)storage->data + storage->bytes, 0xA5, GUARD);
}

static void
check_guard(const pcnn_storage *storage)
{
    const unsigned char *guard = (const unsigned char *)storage->data + storage->bytes;
    for (int i = 0; i < GUARD; i++)
        if (guard[i] != 0xA5) {
            guard_errors++;
            return;
        }
}

/* Large memory lies on huge pages where the system gives them: weights are read from one end to the
 * other in every step, and what fetches ahead stops at a page's end. */
static bool
allocate(void **data, int64_t bytes)
{
    const bool huge = bytes >= 2 * HUGE;
    if (posix_memalign(data, huge ? HUGE : 64, (size_t)bytes) != 0)
        return false;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (huge)
        (void)madvise(*data, (size_t)(bytes / HUGE * HUGE), MADV_HUGEPAGE);
#endif
    return true;
}

pcnn_storage *
pcnn_storage_new(int64_t bytes)
{
    int64_t rounded;
    int64_t wanted = bytes;
    int class =
        size_class(bytes + (poison ? GUARD : 0) < 64 ? 64 : bytes + (poison ? GUARD : 0), &rounded);
    pcnn_storage *storage = NULL;
    if (class < CLASSES && (storage = free_list[class]) != NULL) {
        free_list[class] = storage->next_free;
        cached_bytes -= rounded;
    }
    else {
        storage = calloc(1, sizeof *storage);
        if (storage != NULL && !allocate(&storage->data, rounded)) {
            free(storage);
            storage = NULL;
        }
        if (storage == NULL) {
            (void)pcnn_fail(PCNN_ERR_MEMORY, "cannot allocate %lld bytes", (long long)bytes);
            return NULL;
        }
    }
    storage->refs = 1;
    storage->bytes = wanted;
    storage->version = 0;
    storage->exports = 0;
    storage->pending_readers = 0;
    storage->external = storage->holder = 0;
    storage->recycled = true;
    storage->release = NULL;
    storage->owner = NULL;
    live_bytes += rounded;
    if (poison) {
        memset(storage->data, 0xFF, (size_t)wanted); /* NaN as float and double */
        write_guard(storage);
    }
    return storage;
}

pcnn_storage *
pcnn_storage_wrap(void *data, int64_t bytes, void (*release)(void *), void *owner)
{
    pcnn_storage *storage = calloc(1, sizeof *storage);
    if (storage == NULL) {
        (void)pcnn_fail(PCNN_ERR_MEMORY, "cannot allocate a storage");
        return NULL;
    }
    storage->refs = 1;
    storage->data = data;
    storage->bytes = bytes;
    storage->release = release;
    storage->owner = owner;
    return storage;
}

void
pcnn_storage_unref(pcnn_storage *storage)
{
    if (storage == NULL || --storage->refs > 0)
        return;
    if (!storage->recycled) {
        if (storage->release)
            storage->release(storage->owner);
        free(storage);
        return;
    }
    int64_t rounded;
    if (poison)
        check_guard(storage);
    int class = size_class(
        storage->bytes + (poison ? GUARD : 0) < 64 ? 64 : storage->bytes + (poison ? GUARD : 0),
        &rounded);
    live_bytes -= rounded;
    if (class >= CLASSES || cached_bytes + rounded > cache_limit) {
        free(storage->data);
        free(storage);
        return;
    }
    storage->next_free = free_list[class];
    free_list[class] = storage;
    cached_bytes += rounded;
}

int64_t
pcnn_storage_live(void)
{
    return live_bytes;
}

int64_t
pcnn_storage_cached(void)
{
    return cached_bytes;
}

void
pcnn_storage_trim(void)
{
    for (int class = 0; class < CLASSES; class++)
        while (free_list[class] != NULL) {
            pcnn_storage *storage = free_list[class];
            free_list[class] = storage->next_free;
            free(storage->data);
            free(storage);
        }
    cached_bytes = 0;
}

void
pcnn_storage_set_poison(bool wanted)
{
    /* Only sound while nothing is alive that was allocated in the other mode: sizes are rounded
     * with the guard included. Set it before the first tensor (PYCNN_POISON=1). */
    poison = wanted;
}

bool
pcnn_storage_poison(void)
{
    return poison;
}

int64_t
pcnn_storage_guard_errors(void)
{
    return guard_errors;
}
