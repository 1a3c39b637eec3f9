/* A small pool of POSIX threads that runs one function over the numbers 0 .. n-1 in chunks.
 *
 * Which thread takes which chunk is left to chance; the work must therefore not depend on it (a tree is only touched by
 * the thread that holds its chunk). The caller works too. After a fork the threads are gone and are made anew.
 */
#ifndef MCTS_POOL_H
#define MCTS_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

typedef void (*mcts_task)(void *context, int32_t from, int32_t to);

typedef struct mcts_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake, finished;
    pthread_t *threads;
    pid_t owner;
    int32_t num_threads; /* besides the caller */
    int32_t busy;
    uint64_t round;
    int stop;
    mcts_task task;
    void *context;
    int32_t total, chunk;
    atomic_int next;
} mcts_pool;

static inline void mcts_pool_work(mcts_pool *pool) {
    for (;;) {
        const int32_t from = atomic_fetch_add(&pool->next, pool->chunk);
        if (from >= pool->total) return;
        const int32_t to = pool->total - from < pool->chunk ? pool->total : from + pool->chunk;
        pool->task(pool->context, from, to);
    }
}

static void *mcts_pool_thread(void *argument) {
    mcts_pool *pool = (mcts_pool *)argument;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->stop && pool->round == seen) pthread_cond_wait(&pool->wake, &pool->lock);
        if (pool->stop) break;
        seen = pool->round;
        pthread_mutex_unlock(&pool->lock);
        mcts_pool_work(pool);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0) pthread_cond_signal(&pool->finished);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Starts the threads; with fewer than wanted it goes on with those it got. */
static inline void mcts_pool_start(mcts_pool *pool, int32_t num_threads) {
    pool->threads = (pthread_t *)calloc((size_t)num_threads, sizeof *pool->threads);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->owner = getpid();
    pool->stop = 0;
    pool->round = 0;
    pool->num_threads = 0;
    while (pool->threads && pool->num_threads < num_threads &&
           pthread_create(&pool->threads[pool->num_threads], NULL, mcts_pool_thread, pool) == 0)
        pool->num_threads++;
}

static inline void mcts_pool_stop(mcts_pool *pool) {
    if (pool->threads && pool->owner == getpid()) {
        pthread_mutex_lock(&pool->lock);
        pool->stop = 1;
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
        for (int32_t i = 0; i < pool->num_threads; i++) pthread_join(pool->threads[i], NULL);
        pthread_mutex_destroy(&pool->lock);
        pthread_cond_destroy(&pool->wake);
        pthread_cond_destroy(&pool->finished);
    }
    free(pool->threads);
    pool->threads = NULL;
}

static inline void mcts_pool_run(mcts_pool *pool, int32_t threads, mcts_task task, void *context, int32_t total,
                                 int32_t chunk) {
    if (threads <= 1 || total <= chunk) {
        task(context, 0, total);
        return;
    }
    if (pool->threads && pool->owner != getpid()) {
        free(pool->threads);
        pool->threads = NULL;
    }
    if (!pool->threads) mcts_pool_start(pool, threads - 1);
    pool->task = task;
    pool->context = context;
    pool->total = total;
    pool->chunk = chunk;
    atomic_store(&pool->next, 0);
    pthread_mutex_lock(&pool->lock);
    pool->busy = pool->num_threads;
    pool->round++;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    mcts_pool_work(pool);
    pthread_mutex_lock(&pool->lock);
    while (pool->busy > 0) pthread_cond_wait(&pool->finished, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

#endif
