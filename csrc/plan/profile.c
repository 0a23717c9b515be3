/* Profiling sessions: the plans that run while one is open are held, so that their times can be
 * read at its end, though the cache or their owner may have dropped them.
 *
 * The list is guarded by the interpreter lock; times, and which session they belong to, by the run
 * lock. */
#include "plan/plan.h"

#include <stdlib.h>

static pcnn_plan **noted;
static int32_t n_noted, cap_noted;
static _Atomic int32_t session; /* counts; times of another one are old */
static _Atomic bool running;    /* from pcnn_profile_begin to pcnn_profile_clear */

void
pcnn_profile_begin(void)
{
    session++;
    running = true;
    pcnn_plan_options.profile = true;
}

void
pcnn_profile_end(void)
{
    pcnn_plan_options.profile = false;
}

bool
pcnn_profile_running(void)
{
    return running;
}

pcnn_status
pcnn_profile_note(pcnn_plan *plan)
{
    if (!running || plan->noted == session)
        return PCNN_OK;
    if (n_noted == cap_noted) {
        int32_t capacity = cap_noted ? 2 * cap_noted : 16;
        pcnn_plan **more = realloc(noted, (size_t)capacity * sizeof *more);
        if (more == NULL)
            return pcnn_fail(PCNN_ERR_MEMORY, "profile: out of memory");
        noted = more;
        cap_noted = capacity;
    }
    plan->noted = session;
    plan->refs++;
    noted[n_noted++] = plan;
    return PCNN_OK;
}

int32_t
pcnn_profile_noted(pcnn_plan *const **plans)
{
    *plans = noted;
    return n_noted;
}

void
pcnn_profile_clear(void)
{
    while (n_noted > 0)
        pcnn_plan_unref(noted[--n_noted]);
    free(noted);
    noted = NULL;
    cap_noted = 0;
    running = false;
}

bool
pcnn_profile_timed(const pcnn_plan *plan)
{
    return plan->timed == session;
}

void
pcnn_profile_adopt(pcnn_plan *plan)
{
    if (pcnn_profile_timed(plan))
        return;
    plan->timed = session;
    plan->ns = 0;
    plan->timed_runs = 0;
    for (int32_t n = 0; n < plan->program.n_nodes; n++) {
        plan->program.nodes[n].ns = 0;
        plan->program.nodes[n].runs = 0;
    }
}
