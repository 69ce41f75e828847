/* Threads that use, close and free the same handles at the same time: each call answers a status
 * that fits, and nothing is used after it was freed: threads DIR */
#include "check.h"
#include <pthread.h>

#define ROUNDS 40
#define THREADS 4

static toykv *db;
static toykv_iter *it;
static toykv_snapshot *snapshot;
static toykv_batch *batch;
static pthread_barrier_t barrier;

static void expect(int32_t status, int32_t a, int32_t b, int32_t c, int32_t d)
{
    if (status != a && status != b && status != c && status != d)
        fprintf(stderr, "status %d: %s\n", (int)status, toykv_strerror(status));
    CHECK(status == a || status == b || status == c || status == d);
}

/* One of everything, over and over, until the database is gone. */
static void *use(void *unused)
{
    const int32_t closed = TOYKV_ERR_CLOSED, misuse = TOYKV_ERR_MISUSE;
    toykv_read_opts ro = { .struct_size = sizeof ro, .snapshot = snapshot };
    toykv_slice key, value, keys[16], values[16];
    toykv_buf buf;
    toykv_error mine = { .struct_size = sizeof mine };
    size_t len, i;
    int32_t status;
    char into[16];
    pthread_barrier_wait(&barrier);
    do {
        expect(toykv_put(db, NULL, S("k"), S("v"), NULL, &mine), TOYKV_OK, closed, misuse, 0);
        status = toykv_get(db, NULL, S("k"), NULL, &buf, &mine);
        expect(status, TOYKV_OK, closed, misuse, 0);
        CHECK(status != TOYKV_OK || IS(buf, "v"));
        toykv_buf_free(&buf);
        status = toykv_get_into(db, NULL, S("k"), &ro, into, 16, &len, &mine);
        expect(status, TOYKV_OK, closed, misuse, 0);
        CHECK(status != TOYKV_OK || len == 1);
        /* One thread at a time may use these two: the others are told, or come in between. */
        expect(toykv_iter_next(it, &key, &value, &mine), TOYKV_OK, TOYKV_DONE, closed, misuse);
        expect(toykv_iter_seek_to_start(it, &mine), TOYKV_OK, closed, misuse, 0);
        status = toykv_iter_next_batch(it, 16, 0, keys, values, &len, &mine);
        expect(status, TOYKV_OK, TOYKV_DONE, closed, misuse);
        for (i = 0; i < len; i++)
            CHECK(keys[i].data != NULL && keys[i].len >= 1);
        expect(toykv_batch_put(batch, NULL, S("b"), S("v"), &mine), TOYKV_OK, misuse, 0, 0);
        expect(toykv_write(db, batch, NULL, NULL, &mine), TOYKV_OK, closed, misuse, 0);
        toykv_batch_clear(batch);
        status = toykv_flush(db, &mine);
        expect(status, TOYKV_OK, closed, misuse, 0);
    } while (status == TOYKV_OK);
    return unused;
}

static void *end(void *unused)
{
    pthread_barrier_wait(&barrier);
    toykv_iter_free(it);
    toykv_batch_free(batch);
    toykv_snapshot_free(snapshot);
    toykv_free(db);
    return unused;
}

/* Handles made and freed by all threads at once, each found by its maker alone. */
static void *churn(void *name)
{
    toykv_batch *mine[8];
    toykv_error error = { .struct_size = sizeof error };
    toykv_buf buf;
    int i, j;
    for (i = 0; i < 2000; i++) {
        for (j = 0; j < 8; j++) {
            mine[j] = toykv_batch_new();
            CHECK(mine[j] != NULL && toykv_batch_count(mine[j]) == 0);
            CHECK(toykv_batch_put(mine[j], NULL, name, 1, S("v"), &error) == TOYKV_OK);
        }
        CHECK(toykv_get(db, NULL, S("k"), NULL, &buf, &error) == TOYKV_OK && IS(buf, "v"));
        for (j = 0; j < 8; j++) {
            CHECK(toykv_batch_count(mine[j]) == 1);
            toykv_batch_free(mine[j]);
            CHECK(toykv_batch_count(mine[j]) == 0);
        }
        CHECK(IS(buf, "v"));
        toykv_buf_free(&buf);
    }
    return NULL;
}

static void run(void *(*last)(void *), void *(*others)(void *))
{
    static char names[THREADS] = { 'a', 'b', 'c', 'd' };
    pthread_t threads[THREADS];
    int i;
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, i == 0 ? last : others, &names[i]) == 0);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

int main(int argc, char **argv)
{
    int i;
    CHECK(argc == 2);
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    db = open_db(in_dir(argv[1], "db"));
    put(db, "k", "v");
    run(churn, churn);
    for (i = 0; i < ROUNDS; i++) {
        WANT(TOYKV_OK, toykv_snapshot_new(db, &snapshot, &err));
        WANT(TOYKV_OK, toykv_iter_new(db, NULL, NULL, &it, &err));
        batch = toykv_batch_new();
        run(end, use);
        db = open_db(in_dir(argv[1], "db"));
        WANT(TOYKV_OK, toykv_contains(db, NULL, S("k"), NULL, &err));
    }
    close_db(db);
    return 0;
}
