/* Pieces of several calls in one parallel region: see pieces.h. */
#include "ops/pieces.h"

#include "core/parallel.h"

typedef struct {
    int64_t begin; /* its first piece among those of all */
    _Alignas(16) char job[PCNN_JOB_BYTES];
} prepared;

typedef struct {
    const pcnn_pieces *pieces;
    int n;
    prepared calls[PCNN_PIECES_CALLS];
    int64_t end;
} together;

static void
task(void *context, int64_t begin, int64_t end, int worker)
{
    const together *t = context;
    (void)worker;
    for (int k = 0; k < t->n; k++) {
        const int64_t first = t->calls[k].begin,
                      last = k + 1 < t->n ? t->calls[k + 1].begin : t->end;
        const int64_t from = begin > first ? begin : first, to = end < last ? end : last;
        if (from < to)
            t->pieces->run(t->calls[k].job, from - first, to - first);
    }
}

pcnn_status
pcnn_pieces_run(const pcnn_site *sites, int n, int *failed)
{
    together t;
    pcnn_status status = PCNN_OK;
    double cost = 0;
    t.pieces = sites->op->pieces; /* all have their own `prepare` */
    t.end = 0;
    for (t.n = 0; t.n < n; t.n++) {
        int64_t pieces = 0;
        double more = 0;
        status = sites[t.n].op->pieces->prepare(&sites[t.n], t.calls[t.n].job, &pieces, &more);
        if (status != PCNN_OK) {
            if (failed != NULL)
                *failed = t.n;
            break;
        }
        t.calls[t.n].begin = t.end;
        t.end += pieces;
        cost += more;
    }
    pcnn_parallel(t.end, t.pieces->grain, cost, task, &t);
    for (int k = 0; k < t.n && t.pieces->finish != NULL; k++)
        t.pieces->finish(t.calls[k].job);
    return status;
}
