/* A small pool of POSIX threads that runs one function over the numbers 0 .. n-1 in chunks.
 *
 * Which thread takes which chunk is left to chance; the work must therefore not depend on it (a tree is only touched by
 * the thread that holds its chunk). The caller works too, and waits for nobody who has not begun: with little to do it
 * is through before a sleeping thread wakes. A thread without work looks for more for some microseconds, then sleeps.
 * After a fork the threads are gone and are made anew.
 */
#ifndef MCTS_POOL_H
#define MCTS_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

/* `worker` numbers the thread: 0 is the caller. */
typedef void (*mcts_task)(void *context, int32_t from, int32_t to, int32_t worker);

#define MCTS_POOL_INSIDE UINT64_C(0xffff)  /* threads at work besides the caller */
#define MCTS_POOL_OPEN UINT64_C(0x10000)   /* more may join */
#define MCTS_POOL_ROUND(state) ((state) >> 32)
#define MCTS_POOL_SPIN 400 /* looks for work before sleeping: about 10 microseconds */

struct mcts_pool;
typedef struct mcts_pool_member {
    struct mcts_pool *pool;
    pthread_t thread;
    int32_t worker;
} mcts_pool_member;

typedef struct mcts_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake, finished;
    mcts_pool_member *members;
    pid_t owner;
    int32_t num_threads; /* besides the caller */
    _Atomic uint64_t state; /* number of the round, whether it is open, who is inside */
    atomic_int stop, next;
    mcts_task task;
    void *context;
    int32_t total, chunk;
} mcts_pool;

static inline void mcts_pool_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static inline void mcts_pool_work(mcts_pool *pool, int32_t worker) {
    for (;;) {
        const int32_t from = atomic_fetch_add(&pool->next, pool->chunk);
        if (from >= pool->total) return;
        const int32_t to = pool->total - from < pool->chunk ? pool->total : from + pool->chunk;
        pool->task(pool->context, from, to, worker);
    }
}

/* Is there a round that this thread has not seen yet? */
static inline int mcts_pool_called(uint64_t state, uint64_t seen) {
    return (state & MCTS_POOL_OPEN) && MCTS_POOL_ROUND(state) != seen;
}

static void *mcts_pool_thread(void *argument) {
    mcts_pool_member *member = (mcts_pool_member *)argument;
    mcts_pool *pool = member->pool;
    uint64_t seen = 0;
    for (int32_t looked = 0; !atomic_load(&pool->stop);) {
        uint64_t state = atomic_load(&pool->state);
        if (mcts_pool_called(state, seen)) {
            if (!atomic_compare_exchange_weak(&pool->state, &state, state + 1)) continue;
            seen = MCTS_POOL_ROUND(state);
            mcts_pool_work(pool, member->worker);
            state = atomic_fetch_sub(&pool->state, 1) - 1;
            if (!(state & (MCTS_POOL_OPEN | MCTS_POOL_INSIDE))) {
                pthread_mutex_lock(&pool->lock);
                pthread_cond_signal(&pool->finished);
                pthread_mutex_unlock(&pool->lock);
            }
            looked = 0;
        } else if (looked++ < MCTS_POOL_SPIN) {
            mcts_pool_pause();
        } else {
            pthread_mutex_lock(&pool->lock);
            while (!atomic_load(&pool->stop) && !mcts_pool_called(atomic_load(&pool->state), seen))
                pthread_cond_wait(&pool->wake, &pool->lock);
            pthread_mutex_unlock(&pool->lock);
            looked = 0;
        }
    }
    return NULL;
}

/* Starts the threads; with fewer than wanted it goes on with those it got. */
static inline void mcts_pool_start(mcts_pool *pool, int32_t num_threads) {
    pool->members = (mcts_pool_member *)calloc((size_t)num_threads, sizeof *pool->members);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->owner = getpid();
    atomic_store(&pool->stop, 0);
    atomic_store(&pool->state, 0);
    pool->num_threads = 0;
    while (pool->members && pool->num_threads < num_threads) {
        mcts_pool_member *member = &pool->members[pool->num_threads];
        member->pool = pool;
        member->worker = pool->num_threads + 1;
        if (pthread_create(&member->thread, NULL, mcts_pool_thread, member)) break;
        pool->num_threads++;
    }
}

static inline void mcts_pool_stop(mcts_pool *pool) {
    if (pool->members && pool->owner == getpid()) {
        pthread_mutex_lock(&pool->lock);
        atomic_store(&pool->stop, 1);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
        for (int32_t i = 0; i < pool->num_threads; i++) pthread_join(pool->members[i].thread, NULL);
        pthread_mutex_destroy(&pool->lock);
        pthread_cond_destroy(&pool->wake);
        pthread_cond_destroy(&pool->finished);
    }
    free(pool->members);
    pool->members = NULL;
}

/* Runs the task over 0 .. total-1. A chunk has from `least` numbers to `most`, fewer where threads would go short. */
static inline void mcts_pool_run(mcts_pool *pool, int32_t threads, mcts_task task, void *context, int32_t total,
                                 int32_t least, int32_t most) {
    int32_t chunk = threads > 1 ? total / (4 * threads) : total;
    chunk = chunk > most ? most : chunk;
    chunk = chunk < least ? least : chunk;
    if (threads <= 1 || total <= chunk) {
        if (total > 0) task(context, 0, total, 0);
        return;
    }
    if (pool->members && pool->owner != getpid()) {
        free(pool->members);
        pool->members = NULL;
    }
    if (!pool->members) mcts_pool_start(pool, threads - 1);
    pool->task = task;
    pool->context = context;
    pool->total = total;
    pool->chunk = chunk;
    atomic_store(&pool->next, 0);
    pthread_mutex_lock(&pool->lock);
    const uint64_t round = (MCTS_POOL_ROUND(atomic_load(&pool->state)) + 1) & UINT32_MAX;
    atomic_store(&pool->state, round << 32 | MCTS_POOL_OPEN);
    const int32_t others = (total - 1) / chunk;
    if (others < pool->num_threads)
        for (int32_t i = 0; i < others; i++) pthread_cond_signal(&pool->wake);
    else pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    mcts_pool_work(pool, 0);
    uint64_t state = atomic_fetch_and(&pool->state, ~MCTS_POOL_OPEN);
    for (int32_t looked = 0; state & MCTS_POOL_INSIDE && looked < MCTS_POOL_SPIN; looked++) {
        mcts_pool_pause();
        state = atomic_load(&pool->state);
    }
    if (!(state & MCTS_POOL_INSIDE)) return;
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->state) & MCTS_POOL_INSIDE) pthread_cond_wait(&pool->finished, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

#endif
