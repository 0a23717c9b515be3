/* A hash table of chains, and a list from the newest plan used to the oldest. */
#include "plan/cache.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 256 };
static const int64_t limit_bytes = (int64_t)64 << 20;

static pcnn_plan *buckets[BUCKETS];
static pcnn_plan *newest, *oldest;
static int64_t plans, bytes_held, made;

static int64_t
weight(const pcnn_plan *plan)
{
    return (int64_t)(plan->key_bytes + sizeof *plan) +
           plan->n_tensors * (int64_t)sizeof(pcnn_tensor) +
           plan->program.n_values * (int64_t)sizeof(pcnn_pvalue) +
           plan->program.n_nodes * (int64_t)sizeof(pcnn_pnode);
}

static void
unlink_order(pcnn_plan *plan)
{
    if (plan->newer)
        plan->newer->older = plan->older;
    else
        newest = plan->older;
    if (plan->older)
        plan->older->newer = plan->newer;
    else
        oldest = plan->newer;
    plan->newer = plan->older = NULL;
}

static void
link_newest(pcnn_plan *plan)
{
    plan->older = newest;
    if (newest)
        newest->newer = plan;
    newest = plan;
    if (oldest == NULL)
        oldest = plan;
}

static void
drop(pcnn_plan *plan)
{
    pcnn_plan **link = &buckets[plan->hash % BUCKETS];
    while (*link != plan)
        link = &(*link)->chain;
    *link = plan->chain;
    unlink_order(plan);
    plans--;
    bytes_held -= weight(plan);
    pcnn_plan_unref(plan);
}

pcnn_plan *
pcnn_cache_find(const void *key, size_t bytes, uint64_t hash)
{
    for (pcnn_plan *plan = buckets[hash % BUCKETS]; plan; plan = plan->chain)
        if (plan->hash == hash && plan->key_bytes == bytes && memcmp(plan->key, key, bytes) == 0) {
            if (plan != newest) {
                unlink_order(plan);
                link_newest(plan);
            }
            return plan;
        }
    return NULL;
}

pcnn_status
pcnn_cache_add(pcnn_plan *plan, const void *key, size_t bytes, uint64_t hash)
{
    made++;
    plan->key = malloc(bytes);
    if (plan->key == NULL)
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    memcpy(plan->key, key, bytes);
    plan->key_bytes = bytes;
    plan->hash = hash;
    plan->refs++;
    plan->chain = buckets[hash % BUCKETS];
    buckets[hash % BUCKETS] = plan;
    link_newest(plan);
    plans++;
    bytes_held += weight(plan);
    while (bytes_held > limit_bytes && oldest != plan)
        drop(oldest);
    return PCNN_OK;
}

void
pcnn_cache_clear(void)
{
    while (oldest != NULL)
        drop(oldest);
}

const pcnn_plan *
pcnn_cache_newest(void)
{
    return newest;
}

int64_t
pcnn_cache_plans(void)
{
    return plans;
}

int64_t
pcnn_cache_bytes(void)
{
    return bytes_held;
}

int64_t
pcnn_cache_made(void)
{
    return made;
}
