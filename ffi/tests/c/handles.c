/* Handles that were freed, freed twice, are of another type, of another database or none at all,
 * and what a close leaves usable: handles DIR */
#include "check.h"

/* Every call that takes a database, with one that must be refused with this status. */
static void refused_db(int32_t status, toykv *db, toykv_batch *batch)
{
    toykv_snapshot *snapshot = (toykv_snapshot *)&db;
    toykv_iter *it = (toykv_iter *)&db;
    toykv_slice slice = SLICE("k");
    toykv_result result = { 0 };
    toykv_buf buf, other;
    uint64_t number;
    size_t len;
    char bytes[4];
    WANT(status, toykv_put(db, NULL, S("k"), S("v"), NULL, &err));
    WANT(status, toykv_delete(db, NULL, S("k"), NULL, &err));
    WANT(status, toykv_get(db, NULL, S("k"), NULL, &buf, &err));
    CHECK(buf.owner == NULL);
    WANT(status, toykv_get_into(db, NULL, S("k"), NULL, bytes, 4, &len, &err));
    WANT(status, toykv_contains(db, NULL, S("k"), NULL, &err));
    WANT(status, toykv_multi_get(db, NULL, &slice, 1, NULL, &result, &buf, &err));
    WANT(status, toykv_len(db, NULL, &number, &err));
    WANT(status, toykv_pop_first(db, NULL, NULL, &buf, &other, &err));
    WANT(status, toykv_pop_last(db, NULL, NULL, &buf, &other, &err));
    WANT(status, toykv_write(db, batch, NULL, &number, &err));
    WANT(status, toykv_snapshot_new(db, &snapshot, &err));
    CHECK(snapshot == NULL);
    WANT(status, toykv_iter_new(db, NULL, NULL, &it, &err));
    CHECK(it == NULL);
    WANT(status, toykv_sync(db, &err));
    WANT(status, toykv_flush(db, &err));
    WANT(status, toykv_compact(db, NULL, NULL, NULL, &err));
    WANT(status, toykv_scrub(db, 0, NULL, NULL, NULL, NULL, &err));
    if (status == TOYKV_ERR_MISUSE) {
        WANT(status, toykv_close(db, &err));
        WANT(status, toykv_health(db, &err));
        WANT(status, toykv_stats_json(db, &buf, &err));
    }
}

static void refused_iter(int32_t status, toykv_iter *it)
{
    toykv_slice key, value;
    size_t rows;
    WANT(status, toykv_iter_seek(it, S("k"), &err));
    WANT(status, toykv_iter_seek_to_start(it, &err));
    WANT(status, toykv_iter_seek_to_end(it, &err));
    WANT(status, toykv_iter_next(it, &key, &value, &err));
    WANT(status, toykv_iter_prev(it, &key, &value, &err));
    WANT(status, toykv_iter_next_batch(it, 1, 0, &key, &value, &rows, &err));
}

static void refused_batch(toykv *db, toykv_batch *batch)
{
    WANT(TOYKV_ERR_MISUSE, toykv_batch_put(batch, NULL, S("k"), S("v"), &err));
    WANT(TOYKV_ERR_MISUSE, toykv_batch_delete(batch, NULL, S("k"), &err));
    WANT(TOYKV_ERR_MISUSE, toykv_write(db, batch, NULL, NULL, &err));
    CHECK(toykv_batch_count(batch) == 0);
    toykv_batch_clear(batch);
}

static void refused_snapshot(toykv *db, toykv_snapshot *snapshot)
{
    toykv_read_opts ro = { .struct_size = sizeof ro, .snapshot = snapshot };
    toykv_iter_opts io = { .struct_size = sizeof io, .snapshot = snapshot };
    toykv_slice slice = SLICE("k");
    toykv_result result = { 0 };
    toykv_iter *it;
    toykv_buf buf;
    size_t len;
    WANT(TOYKV_ERR_MISUSE, toykv_get(db, NULL, S("k"), &ro, &buf, &err));
    WANT(TOYKV_ERR_MISUSE, toykv_get_into(db, NULL, S("k"), &ro, NULL, 0, &len, &err));
    WANT(TOYKV_ERR_MISUSE, toykv_contains(db, NULL, S("k"), &ro, &err));
    WANT(TOYKV_ERR_MISUSE, toykv_multi_get(db, NULL, &slice, 1, &ro, &result, &buf, &err));
    WANT(TOYKV_ERR_MISUSE, toykv_iter_new(db, NULL, &io, &it, &err));
}

/* A handle of each type, offered in the places of all the others. */
static void wrong_types(const char *path)
{
    toykv *db = open_db(path), *opened;
    toykv_batch *batch = toykv_batch_new();
    toykv_options *options = toykv_options_new();
    toykv_snapshot *snapshot;
    toykv_iter *it;
    toykv_buf buf;
    void *all[6];
    size_t i;
    put(db, "k", "v");
    WANT(TOYKV_OK, toykv_snapshot_new(db, &snapshot, &err));
    WANT(TOYKV_OK, toykv_iter_new(db, NULL, NULL, &it, &err));
    WANT(TOYKV_OK, toykv_get(db, NULL, S("k"), NULL, &buf, &err));
    all[0] = db, all[1] = batch, all[2] = options, all[3] = snapshot, all[4] = it;
    all[5] = buf.owner;
    for (i = 0; i < 6; i++) {
        toykv_buf fake = { NULL, 0, all[i] };
        if (i != 0)
            refused_db(TOYKV_ERR_MISUSE, all[i], batch);
        if (i != 1)
            refused_batch(db, all[i]);
        if (i != 2) {
            WANT(TOYKV_ERR_MISUSE, toykv_options_set(all[i], "read_only", "true", &err));
            WANT(TOYKV_ERR_MISUSE, toykv_open(path, all[i], &opened, &err));
            CHECK(opened == NULL);
        }
        if (i != 3)
            refused_snapshot(db, all[i]);
        if (i != 4)
            refused_iter(TOYKV_ERR_MISUSE, all[i]);
        /* Frees of another type's handle free nothing. */
        if (i != 0)
            toykv_free(all[i]);
        if (i != 1)
            toykv_batch_free(all[i]);
        if (i != 2)
            toykv_options_free(all[i]);
        if (i != 3)
            toykv_snapshot_free(all[i]);
        if (i != 4)
            toykv_iter_free(all[i]);
        if (i != 5)
            toykv_buf_free(&fake);
    }
    refused_db(TOYKV_ERR_MISUSE, NULL, batch);
    SAYS("NULL in place of a toykv");
    WANT(TOYKV_ERR_MISUSE, toykv_flush((toykv *)it, &err));
    SAYS("a toykv_iter in place of a toykv");
    WANT(TOYKV_ERR_MISUSE, toykv_flush((toykv *)&db, &err));
    SAYS("no handle in place of a toykv");
    WANT(TOYKV_ERR_MISUSE, toykv_flush((toykv *)(uintptr_t)-1, &err));
    refused_batch(db, NULL);
    refused_iter(TOYKV_ERR_MISUSE, NULL);
    refused_db(TOYKV_ERR_MISUSE, (toykv *)((char *)db + 16), batch);
    WANT(TOYKV_ERR_MISUSE,
         toykv_put(db, (toykv_keyspace *)db, S("k"), S("v"), NULL, &err));
    SAYS("keyspace");
    WANT(TOYKV_ERR_MISUSE, toykv_batch_delete(batch, (toykv_keyspace *)db, S("k"), &err));

    /* All of them live. */
    CHECK(IS(buf, "v"));
    WANT(TOYKV_OK, toykv_iter_next(it, NULL, NULL, &err));
    WANT(TOYKV_OK, toykv_batch_put(batch, NULL, S("k"), S("v"), &err));
    WANT(TOYKV_OK, toykv_options_set(options, "read_only", "false", &err));
    WANT(TOYKV_OK, toykv_flush(db, &err));

    /* And now none does, and freeing again does nothing. */
    for (i = 0; i < 3; i++) {
        toykv_buf copy = buf;
        toykv_iter_free(it);
        toykv_snapshot_free(snapshot);
        toykv_buf_free(&copy);
        toykv_batch_free(batch);
        toykv_options_free(options);
        refused_iter(TOYKV_ERR_MISUSE, it);
        refused_snapshot(db, snapshot);
        refused_batch(db, batch);
        WANT(TOYKV_ERR_MISUSE, toykv_options_set(options, "read_only", "true", &err));
    }
    for (i = 0; i < 3; i++) {
        toykv_free(db);
        refused_db(TOYKV_ERR_MISUSE, db, batch);
        SAYS("freed");
    }
}

/* A slot that is used again does not bring an old handle back to life. */
static void reused(toykv *db)
{
    toykv_iter *old[64], *now;
    toykv_batch *batch, *before = NULL;
    size_t i, j;
    for (i = 0; i < 64; i++) {
        WANT(TOYKV_OK, toykv_iter_new(db, NULL, NULL, &old[i], &err));
        WANT(TOYKV_OK, toykv_iter_seek_to_start(old[i], &err));
        toykv_iter_free(old[i]);
        for (j = 0; j <= i; j++)
            WANT(TOYKV_ERR_MISUSE, toykv_iter_seek_to_start(old[j], &err));
    }
    WANT(TOYKV_OK, toykv_iter_new(db, NULL, NULL, &now, &err));
    for (j = 0; j < 64; j++) {
        toykv_iter_free(old[j]);
        CHECK(now != old[j]);
    }
    WANT(TOYKV_OK, toykv_iter_seek_to_start(now, &err));
    toykv_iter_free(now);
    for (i = 0; i < 1000; i++) {
        batch = toykv_batch_new();
        CHECK(batch != NULL && batch != before);
        CHECK(toykv_batch_count(before) == 0);
        WANT(TOYKV_OK, toykv_batch_put(batch, NULL, S("k"), S("v"), &err));
        CHECK(toykv_batch_count(batch) == 1);
        toykv_batch_free(batch);
        before = batch;
    }
}

static void other_database(toykv *db, toykv *other)
{
    toykv_snapshot *snapshot;
    WANT(TOYKV_OK, toykv_snapshot_new(other, &snapshot, &err));
    refused_snapshot(db, snapshot);
    SAYS("another database");
    toykv_snapshot_free(snapshot);
}

/* What close leaves behind: buffers stay, everything else says so, frees work in any order. */
static void after_close(toykv *db)
{
    toykv_batch *batch = toykv_batch_new();
    toykv_read_opts ro = { .struct_size = sizeof ro };
    toykv_snapshot *snapshot;
    toykv_iter *it;
    toykv_buf small, large, stats;
    char *value = malloc(100000);
    CHECK(value != NULL);
    memset(value, 'L', 100000);
    put(db, "k", "v");
    WANT(TOYKV_OK, toykv_put(db, NULL, S("large"), value, 100000, NULL, &err));
    WANT(TOYKV_OK, toykv_snapshot_new(db, &snapshot, &err));
    WANT(TOYKV_OK, toykv_iter_new(db, NULL, NULL, &it, &err));
    WANT(TOYKV_OK, toykv_iter_next(it, NULL, NULL, &err));
    WANT(TOYKV_OK, toykv_get(db, NULL, S("k"), NULL, &small, &err));
    WANT(TOYKV_OK, toykv_get(db, NULL, S("large"), NULL, &large, &err));
    WANT(TOYKV_OK, toykv_delete(db, NULL, S("large"), NULL, &err));
    WANT(TOYKV_OK, toykv_flush(db, &err));
    WANT(TOYKV_OK, toykv_compact(db, NULL, NULL, NULL, &err));
    WANT(TOYKV_OK, toykv_close(db, &err));
    WANT(TOYKV_OK, toykv_close(db, &err));
    refused_db(TOYKV_ERR_CLOSED, db, batch);
    refused_iter(TOYKV_ERR_CLOSED, it);
    ro.snapshot = snapshot;
    WANT(TOYKV_ERR_CLOSED, toykv_contains(db, NULL, S("k"), &ro, &err));
    WANT(TOYKV_OK, toykv_stats_json(db, &stats, &err));
    WANT(TOYKV_OK, toykv_health(db, &err));
    toykv_free(db);
    refused_iter(TOYKV_ERR_CLOSED, it);
    CHECK(IS(small, "v"));
    CHECK(large.len == 100000 && memcmp(large.data, value, 100000) == 0);
    toykv_buf_free(&small);
    toykv_buf_free(&large);
    toykv_buf_free(&stats);
    toykv_snapshot_free(snapshot);
    toykv_iter_free(it);
    refused_iter(TOYKV_ERR_MISUSE, it);
    toykv_batch_free(batch);
    free(value);
}

/* Any error struct is good enough, and untouched but for its fields. */
static void error_structs(toykv *db)
{
    struct {
        toykv_error error;
        char behind[8];
    } place;
    memset(&place, 0x5A, sizeof place);
    CHECK(toykv_put(db, NULL, S("k"), S("v"), NULL, &place.error) == TOYKV_OK);
    CHECK(place.error.code == 0x5A5A5A5A);
    CHECK(toykv_put(db, NULL, NULL, 1, S("v"), NULL, &place.error) == TOYKV_ERR_INVALID);
    CHECK(place.error.code == TOYKV_ERR_INVALID && place.error.struct_size == 0x5A5A5A5A);
    CHECK(place.error.os_errno == 0 && strlen(place.error.message) < TOYKV_MESSAGE_SIZE);
    CHECK(memcmp(place.behind, "ZZZZZZZZ", 8) == 0);
    CHECK(toykv_put(db, NULL, NULL, 1, S("v"), NULL, (toykv_error *)((char *)&place + 1)) ==
          TOYKV_ERR_INVALID);
}

int main(int argc, char **argv)
{
    toykv *db, *other;
    CHECK(argc == 2);
    wrong_types(in_dir(argv[1], "types"));
    db = open_db(in_dir(argv[1], "one"));
    other = open_db(in_dir(argv[1], "two"));
    reused(db);
    other_database(db, other);
    error_structs(db);
    after_close(db);
    /* Freed without a close: closed all the same. */
    toykv_free(other);
    close_db(open_db(in_dir(argv[1], "two")));
    return 0;
}
