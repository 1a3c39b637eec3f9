/* Work cut among the threads of the OpenMP team that torch itself computes with.
 *
 * Between two products torch's threads wait in a loop for the next one. Threads of our own would have
 * to share the cores with them; its own start at once. GOMP_parallel is what a compiler calls at a
 * parallel region; it is looked up where torch has loaded it (processor.py), so that nothing is linked.
 * Where it was not found, one thread does everything. Each extension has a team of its own to set.
 */
#ifndef PLAYOUT_TEAM_H
#define PLAYOUT_TEAM_H

#include <stddef.h>
#include <stdint.h>

static struct {
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned); /* GOMP_parallel */
    int (*number)(void), (*size)(void); /* omp_get_thread_num, omp_get_num_threads */
} playout_team;

/* Addresses of the three functions; of none of them if the first is 0. */
static void playout_set_team(size_t parallel, size_t number, size_t size) {
    playout_team.parallel = (void (*)(void (*)(void *), void *, unsigned, unsigned))parallel;
    playout_team.number = (int (*)(void))number;
    playout_team.size = (int (*)(void))size;
}

/* Works on rows [begin, end) and writes nothing else. */
typedef void (*playout_kernel)(const void *job, int64_t begin, int64_t end);

typedef struct {
    playout_kernel kernel;
    const void *job;
    int64_t rows;
} playout_cut;

static void playout_own_rows(void *data) {
    const playout_cut *cut = (const playout_cut *)data;
    int64_t number = playout_team.number(), size = playout_team.size();
    cut->kernel(cut->job, cut->rows * number / size, cut->rows * (number + 1) / size);
}

/* All rows, on at most so many threads. */
static void playout_over_rows(playout_kernel kernel, const void *job, int64_t rows, int threads) {
    if (threads < 2 || !playout_team.parallel) {
        kernel(job, 0, rows);
        return;
    }
    playout_cut cut = {kernel, job, rows};
    playout_team.parallel(playout_own_rows, &cut, (unsigned)threads, 0);
}

#endif
