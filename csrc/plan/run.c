/* Making a plan of a program, and running it.
 *
 * All plans share one arena, as large as the largest wants: runs are serialised by the run lock,
 * and what must outlive a run has memory of its own. It is touched once and kept. */
#include "core/parallel.h"
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { ARENA_ALIGN = 1 << 21, GUARD = 64 };

static char *arena;
static _Atomic int64_t arena_size; /* other threads ask for it */
static int64_t guard_errors;

static pcnn_status
need_arena(int64_t bytes)
{
    if (bytes <= arena_size)
        return PCNN_OK;
    void *memory;
    free(arena);
    arena = NULL;
    arena_size = 0;
    int64_t rounded = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if (posix_memalign(&memory, ARENA_ALIGN, (size_t)rounded) != 0)
        return pcnn_fail(PCNN_ERR_MEMORY, "cannot allocate an arena of %lld bytes",
                         (long long)rounded);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    (void)madvise(memory, (size_t)rounded, MADV_HUGEPAGE);
#endif
    arena = memory;
    arena_size = rounded;
    return PCNN_OK;
}

int64_t
pcnn_arena_bytes(void)
{
    return arena_size;
}

int64_t
pcnn_arena_guard_errors(void)
{
    return guard_errors;
}

void
pcnn_arena_trim(void)
{
    free(arena);
    arena = NULL;
    arena_size = 0;
}

/* ---- making ---- */

static void
plan_free(pcnn_plan *plan)
{
    pcnn_program_free(&plan->program);
    for (int32_t n = 0; n < plan->n_labels; n++)
        pcnn_label_unref(plan->labels[n]);
    free(plan->labels);
    free(plan->phases);
    free(plan->tensors);
    free(plan->key);
    free(plan);
}

void
pcnn_plan_unref(pcnn_plan *plan)
{
    if (plan != NULL && --plan->refs == 0)
        plan_free(plan);
}

pcnn_status
pcnn_plan_make(pcnn_program *program, pcnn_plan **result)
{
    pcnn_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        pcnn_program_free(program);
        return pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    }
    static int64_t made;
    plan->refs = 1;
    plan->number = ++made;
    plan->program = *program;
    memset(program, 0, sizeof *program);
    pcnn_status status = pcnn_pass_dead(&plan->program);
    if (status == PCNN_OK)
        status = pcnn_pass_flatten(&plan->program);
    if (status == PCNN_OK && pcnn_plan_options.fuse)
        status = pcnn_pass_images(&plan->program);
    if (status == PCNN_OK && pcnn_plan_options.fuse)
        status = pcnn_pass_fuse(&plan->program);
    if (status == PCNN_OK && pcnn_plan_options.fuse)
        status = pcnn_pass_remember(&plan->program);
    if (status == PCNN_OK)
        status = pcnn_pass_layout(&plan->program);
    if (status == PCNN_OK && pcnn_plan_options.fuse && pcnn_plan_options.chain)
        status = pcnn_pass_chain(&plan->program);
    if (status == PCNN_OK && pcnn_plan_options.fuse && pcnn_plan_options.chain)
        status = pcnn_pass_group(&plan->program);
    if (status == PCNN_OK)
        status = pcnn_pass_memory(&plan->program, &plan->arena_bytes);
    plan->threads = PCNN_MAX_THREADS;
    for (int32_t n = 0; n < plan->program.n_nodes; n++) {
        const pcnn_pnode *node = &plan->program.nodes[n];
        plan->n_tensors += node->n_in + node->n_out;
        if (node->scratch == NULL)
            continue;
        if (node->scratch->bytes > plan->piece_bytes)
            plan->piece_bytes = node->scratch->bytes;
        /* Not asked for again: another thread of the program may have set it meanwhile. */
        if (node->scratch->pieces < plan->threads)
            plan->threads = node->scratch->pieces;
    }
    plan->tensors = calloc((size_t)plan->n_tensors + 1, sizeof *plan->tensors);
    if (status == PCNN_OK && plan->tensors == NULL)
        status = pcnn_fail(PCNN_ERR_MEMORY, "plan: out of memory");
    if (status != PCNN_OK) {
        plan_free(plan);
        return status;
    }
    pcnn_tensor *tensor = plan->tensors;
    for (int32_t n = 0; n < plan->program.n_nodes; n++) {
        const pcnn_pnode *node = &plan->program.nodes[n];
        for (int32_t k = 0; k < node->n_in + node->n_out; k++, tensor++) {
            int32_t v = k < node->n_in ? node->in[k] : node->out[k - node->n_in];
            tensor->type.ndim = -1;
            if (v >= 0) {
                tensor->type = plan->program.values[v].type;
                tensor->layout = plan->program.values[v].layout;
            }
        }
    }
    *result = plan;
    return PCNN_OK;
}

/* ---- running ---- */

static void *
address(const pcnn_pvalue *value, void *const *externals, void *const *outputs)
{
    if (value->output >= 0)
        return outputs[value->output];
    if (value->external >= 0)
        return externals[value->external];
    return value->scratch ? NULL : arena + value->offset;
}

static void
fill_addresses(pcnn_plan *plan, void *const *externals, void *const *outputs)
{
    pcnn_tensor *tensor = plan->tensors;
    for (int32_t n = 0; n < plan->program.n_nodes; n++) {
        const pcnn_pnode *node = &plan->program.nodes[n];
        for (int32_t i = 0; i < node->n_in; i++, tensor++)
            if (node->in[i] >= 0)
                tensor->data = address(&plan->program.values[node->in[i]], externals, outputs);
        for (int32_t o = 0; o < node->n_out; o++, tensor++)
            tensor->data = address(&plan->program.values[node->out[o]], externals, outputs);
    }
}

static double
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

/* What a run needs behind the arena: chains' scratch memory, where it was planned for fewer threads
 * than there are by now. */
static int64_t
bytes_behind(const pcnn_plan *plan)
{
    const int64_t threads = pcnn_threads();
    return threads > plan->threads ? threads * plan->piece_bytes + GUARD : 0;
}

static char *
pieces_of(const pcnn_plan *plan, const pcnn_scratch *scratch)
{
    return arena + (bytes_behind(plan) > 0 ? plan->arena_bytes : scratch->offset);
}

static int64_t
needed_pieces(const pcnn_plan *plan, const pcnn_scratch *scratch)
{
    return bytes_behind(plan) > 0 ? pcnn_threads() : scratch->pieces;
}

/* With poison on, every step's outputs and workspace start as NaN patterns with guards behind. */
static void
poison_step(const pcnn_plan *plan, const pcnn_pnode *node)
{
    for (int32_t o = 0; o < node->n_out; o++) {
        const pcnn_pvalue *value = &plan->program.values[node->out[o]];
        if (value->external >= 0 || value->output >= 0 || value->scratch)
            continue;
        int64_t bytes = pcnn_layout_bytes(&value->type, value->layout);
        if (value->root == node->out[o])
            memset(arena + value->offset, 0xFF, (size_t)bytes);
        memset(arena + value->offset + bytes, 0xA5, GUARD);
    }
    if (node->work_bytes > 0) {
        memset(arena + node->work_offset, 0xFF, (size_t)node->work_bytes);
        memset(arena + node->work_offset + node->work_bytes, 0xA5, GUARD);
    }
    if (node->scratch && node->scratch->bytes > 0) {
        char *pieces = pieces_of(plan, node->scratch);
        const int64_t bytes = needed_pieces(plan, node->scratch) * node->scratch->bytes;
        memset(pieces, 0xFF, (size_t)bytes);
        memset(pieces + bytes, 0xA5, GUARD);
    }
}

static void
check_guard(const char *guard)
{
    for (int i = 0; i < GUARD; i++)
        if ((unsigned char)guard[i] != 0xA5) {
            guard_errors++;
            return;
        }
}

static void
check_step(const pcnn_plan *plan, const pcnn_pnode *node)
{
    for (int32_t o = 0; o < node->n_out; o++) {
        const pcnn_pvalue *value = &plan->program.values[node->out[o]];
        if (value->external < 0 && value->output < 0 && !value->scratch)
            check_guard(arena + value->offset + pcnn_layout_bytes(&value->type, value->layout));
    }
    if (node->work_bytes > 0)
        check_guard(arena + node->work_offset + node->work_bytes);
    if (node->scratch && node->scratch->bytes > 0)
        check_guard(pieces_of(plan, node->scratch) +
                    needed_pieces(plan, node->scratch) * node->scratch->bytes);
}

/* Runs one step, or the steps that start with `node` and run together: as a chain where they work
 * plane by plane, else as a group. Where one fails, its place among them is stored to *failed. */
static pcnn_status
run_together(const pcnn_plan *plan, const pcnn_pnode *node, const pcnn_site *site, int *failed)
{
    if (node->chain == 0)
        return node->impl->run(site);
    if (node->impl->planes != NULL)
        return pcnn_sweep_run(node, plan->program.values, site->in, arena,
                              pieces_of(plan, node->scratch));
    return pcnn_group_run(node, site->in, arena, failed);
}

pcnn_status
pcnn_plan_run(pcnn_plan *plan, void *const *externals, void *const *outputs, int32_t *failed)
{
    *failed = 0;
    bool poison = pcnn_storage_poison();
    const bool profile = pcnn_plan_options.profile;
    const bool timed = profile || pcnn_plan_options.verbose > 1;
    const double begin = profile ? now_ns() : 0;
    if (profile)
        pcnn_profile_adopt(plan);
    PCNN_TRY(need_arena(plan->arena_bytes + bytes_behind(plan)));
    fill_addresses(plan, externals, outputs);
    const pcnn_tensor *tensor = plan->tensors;
    for (int32_t n = 0, steps; n < plan->program.n_nodes; n += steps) {
        pcnn_pnode *node = &plan->program.nodes[n];
        steps = node->chain > 0 ? node->chain : 1;
        const pcnn_site site = pcnn_pnode_site(node, tensor, arena);
        for (int32_t k = 0; k < steps; k++)
            tensor += node[k].n_in + node[k].n_out;
        for (int32_t k = 0; k < steps && poison; k++)
            poison_step(plan, node + k);
        const double start = timed ? now_ns() : 0;
        int which = 0;
        const pcnn_status status = run_together(plan, node, &site, &which);
        *failed = node[which].origin;
        PCNN_TRY(status);
        if (timed)
            node->last_ns = now_ns() - start;
        if (profile)
            node->ns += node->last_ns;
        for (int32_t k = 0; k < steps && profile; k++)
            node[k].runs++;
        for (int32_t k = 0; k < steps && poison; k++)
            check_step(plan, node + k);
    }
    plan->runs++;
    if (profile) {
        plan->ns += now_ns() - begin;
        plan->timed_runs++;
    }
    return PCNN_OK;
}
