/* The cache of plans: by structure, bounded, oldest out first. */
#ifndef PCNN_PLAN_CACHE_H
#define PCNN_PLAN_CACHE_H

#include "plan/plan.h"

/* A borrowed plan whose whole key equals, or NULL. */
pcnn_plan *pcnn_cache_find(const void *key, size_t bytes, uint64_t hash);
/* Takes a reference of its own; copies the key. */
pcnn_status pcnn_cache_add(pcnn_plan *plan, const void *key, size_t bytes, uint64_t hash);
void pcnn_cache_clear(void);
/* Borrowed; the next older one is plan->older. */
const pcnn_plan *pcnn_cache_newest(void);
int64_t pcnn_cache_plans(void);
int64_t pcnn_cache_bytes(void);
/* Plans made since import: a loop that repeats itself makes none. */
int64_t pcnn_cache_made(void);

#endif
