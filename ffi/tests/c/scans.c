/* Iterators, on real data in the log, in tables and in both: scans DIR */
#include "check.h"

#define ROWS 3000

static toykv_iter *iter(toykv *db, const toykv_iter_opts *opts)
{
    toykv_iter *it = NULL;
    WANT(TOYKV_OK, toykv_iter_new(db, NULL, opts, &it, &err));
    CHECK(it != NULL);
    return it;
}

/* Whether an iterator answers exactly these keys, separated by spaces. */
static void covers(toykv *db, const toykv_iter_opts *opts, const char *wanted)
{
    char found[256] = "";
    toykv_slice key, value;
    toykv_iter *it = iter(db, opts);
    int32_t status;
    while ((status = toykv_iter_next(it, &key, &value, &err)) == TOYKV_OK) {
        sprintf(found + strlen(found), "%s%.*s", *found ? " " : "", (int)key.len, key.data);
        CHECK(opts != NULL && opts->flags & TOYKV_RF_KEYS_ONLY ? value.len == 0 : value.len == 1);
    }
    CHECK(status == TOYKV_DONE && key.data == NULL && value.data == NULL);
    toykv_iter_free(it);
    if (strcmp(found, wanted) != 0)
        fprintf(stderr, "found \"%s\", wanted \"%s\"\n", found, wanted);
    CHECK(strcmp(found, wanted) == 0);
}

static void bounds(toykv *db)
{
    toykv_iter_opts opts = { .struct_size = sizeof opts };
    const char *names[] = { "aa", "ab", "b", "ba", "bb", "c", "ca" };
    size_t i;
    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        put(db, names[i], "v");
        if (i == 3)
            WANT(TOYKV_OK, toykv_flush(db, &err));
    }
    covers(db, NULL, "aa ab b ba bb c ca");
    covers(db, &opts, "aa ab b ba bb c ca");
    opts.flags = TOYKV_RF_REVERSE;
    covers(db, &opts, "ca c bb ba b ab aa");
    opts.lower = SLICE("ab");
    opts.upper = SLICE("c");
    covers(db, &opts, "bb ba b ab");
    opts.flags = TOYKV_RF_REVERSE | TOYKV_RF_UPPER_INCLUSIVE | TOYKV_RF_LOWER_EXCLUSIVE;
    covers(db, &opts, "c bb ba b");
    opts.flags = 0;
    covers(db, &opts, "ab b ba bb");
    opts.flags = TOYKV_RF_LOWER_EXCLUSIVE;
    covers(db, &opts, "b ba bb");
    opts.flags = TOYKV_RF_UPPER_INCLUSIVE | TOYKV_RF_KEYS_ONLY;
    covers(db, &opts, "ab b ba bb c");
    opts.limit = 2;
    covers(db, &opts, "ab b");
    opts.limit = 0;
    opts.prefix = SLICE("b");
    covers(db, &opts, "b ba bb");
    opts.lower = SLICE("ba");
    covers(db, &opts, "ba bb");
    opts.flags = 0;
    opts.lower = opts.upper = (toykv_slice){ NULL, 0 };
    opts.prefix = SLICE("c");
    covers(db, &opts, "c ca");
    opts.flags = TOYKV_RF_REVERSE;
    covers(db, &opts, "ca c");
    opts.flags = 0;
    opts.prefix = SLICE("x");
    covers(db, &opts, "");
    opts.prefix = (toykv_slice){ NULL, 0 };
    /* The empty slice is a bound: below it there is nothing. */
    opts.upper = SLICE("");
    covers(db, &opts, "");
    opts.upper = SLICE("aa");
    opts.lower = SLICE("b");
    covers(db, &opts, "");
}

static void refused(toykv *db)
{
    toykv_iter_opts opts = { .struct_size = sizeof opts };
    toykv_iter *it = (toykv_iter *)&opts;
    WANT(TOYKV_ERR_INVALID, toykv_iter_new(db, NULL, NULL, NULL, &err));
    opts.flags = 16;
    WANT(TOYKV_ERR_INVALID, toykv_iter_new(db, NULL, &opts, &it, &err));
    CHECK(it == NULL);
    SAYS("flags 0x10");
    opts.flags = 0;
    opts.struct_size--;
    WANT(TOYKV_ERR_INVALID, toykv_iter_new(db, NULL, &opts, &it, &err));
    opts.struct_size++;
    opts.upper.len = 1;
    WANT(TOYKV_ERR_INVALID, toykv_iter_new(db, NULL, &opts, &it, &err));
    SAYS("upper is NULL");
    opts.upper = (toykv_slice){ (const uint8_t *)&opts, SIZE_MAX };
    WANT(TOYKV_ERR_TOO_LARGE, toykv_iter_new(db, NULL, &opts, &it, &err));
}

static void moves(toykv *db)
{
    toykv_iter_opts opts = { .struct_size = sizeof opts, .limit = 3 };
    toykv_slice key, value;
    toykv_iter *it = iter(db, NULL);
    WANT(TOYKV_DONE, toykv_iter_prev(it, &key, &value, &err));
    WANT(TOYKV_OK, toykv_iter_next(it, &key, &value, &err));
    CHECK(IS(key, "aa"));
    WANT(TOYKV_OK, toykv_iter_next(it, &key, NULL, &err));
    CHECK(IS(key, "ab"));
    WANT(TOYKV_OK, toykv_iter_prev(it, &key, &value, &err));
    CHECK(IS(key, "ab") && IS(value, "v"));
    WANT(TOYKV_OK, toykv_iter_prev(it, &key, &value, &err));
    CHECK(IS(key, "aa"));
    WANT(TOYKV_DONE, toykv_iter_prev(it, &key, &value, &err));
    CHECK(key.data == NULL);
    WANT(TOYKV_OK, toykv_iter_seek(it, S("az"), &err));
    WANT(TOYKV_OK, toykv_iter_next(it, &key, &value, &err));
    CHECK(IS(key, "b"));
    WANT(TOYKV_OK, toykv_iter_seek(it, S("az"), &err));
    WANT(TOYKV_OK, toykv_iter_prev(it, &key, &value, &err));
    CHECK(IS(key, "ab"));
    WANT(TOYKV_OK, toykv_iter_seek(it, S("zz"), &err));
    WANT(TOYKV_DONE, toykv_iter_next(it, NULL, NULL, &err));
    WANT(TOYKV_OK, toykv_iter_seek(it, NULL, 0, &err));
    WANT(TOYKV_OK, toykv_iter_next(it, &key, &value, &err));
    CHECK(IS(key, "aa"));
    WANT(TOYKV_OK, toykv_iter_seek_to_end(it, &err));
    WANT(TOYKV_DONE, toykv_iter_next(it, &key, &value, &err));
    WANT(TOYKV_OK, toykv_iter_prev(it, &key, &value, &err));
    CHECK(IS(key, "ca"));
    WANT(TOYKV_OK, toykv_iter_seek_to_start(it, &err));
    WANT(TOYKV_OK, toykv_iter_next(it, &key, &value, &err));
    CHECK(IS(key, "aa"));
    WANT(TOYKV_ERR_INVALID, toykv_iter_seek(it, NULL, 1, &err));
    toykv_iter_free(it);

    /* A seek begins the limit anew. */
    it = iter(db, &opts);
    WANT(TOYKV_OK, toykv_iter_next(it, &key, &value, &err));
    WANT(TOYKV_OK, toykv_iter_next(it, &key, &value, &err));
    WANT(TOYKV_OK, toykv_iter_next(it, &key, &value, &err));
    WANT(TOYKV_DONE, toykv_iter_next(it, &key, &value, &err));
    WANT(TOYKV_OK, toykv_iter_seek(it, S("ba"), &err));
    WANT(TOYKV_OK, toykv_iter_next(it, &key, &value, &err));
    CHECK(IS(key, "ba"));
    toykv_iter_free(it);
    opts.flags = TOYKV_RF_REVERSE;
    it = iter(db, &opts);
    WANT(TOYKV_OK, toykv_iter_seek(it, S("az"), &err));
    WANT(TOYKV_OK, toykv_iter_next(it, &key, &value, &err));
    CHECK(IS(key, "ab"));
    toykv_iter_free(it);
}

static void frozen(toykv *db)
{
    toykv_iter_opts opts = { .struct_size = sizeof opts, .prefix = SLICE("new") };
    toykv_snapshot *snapshot;
    toykv_slice key, value;
    toykv_iter *before = iter(db, &opts), *at;
    put(db, "new 1", "1");
    WANT(TOYKV_OK, toykv_snapshot_new(db, &snapshot, &err));
    put(db, "new 1", "2");
    put(db, "new 2", "2");
    opts.snapshot = snapshot;
    at = iter(db, &opts);
    toykv_snapshot_free(snapshot);
    WANT(TOYKV_OK, toykv_flush(db, &err));
    WANT(TOYKV_OK, toykv_compact(db, NULL, NULL, NULL, &err));
    WANT(TOYKV_DONE, toykv_iter_next(before, &key, &value, &err));
    WANT(TOYKV_OK, toykv_iter_next(at, &key, &value, &err));
    CHECK(IS(key, "new 1") && IS(value, "1"));
    WANT(TOYKV_DONE, toykv_iter_next(at, &key, &value, &err));
    toykv_iter_free(before);
    toykv_iter_free(at);
    WANT(TOYKV_ERR_MISUSE, toykv_iter_new(db, NULL, &opts, &at, &err));
}

static void row(int number, char *key, char *value)
{
    sprintf(key, "row %06d", number);
    sprintf(value, "%0*d", 1 + number % 50, number);
}

static void check_row(int number, toykv_slice key, toykv_slice value)
{
    char wanted_key[32], wanted_value[64];
    row(number, wanted_key, wanted_value);
    CHECK(key.len == strlen(wanted_key) && memcmp(key.data, wanted_key, key.len) == 0);
    CHECK(value.len == strlen(wanted_value) && memcmp(value.data, wanted_value, value.len) == 0);
}

static void by_batches(toykv *db, uint32_t flags, size_t max_rows, size_t max_bytes)
{
    static toykv_slice keys[ROWS + 1], values[ROWS + 1];
    toykv_iter_opts opts = { .struct_size = sizeof opts, .flags = flags, .prefix = SLICE("row ") };
    toykv_iter *it = iter(db, &opts);
    size_t rows, i, bytes;
    int number = 0;
    int32_t status;
    while ((status = toykv_iter_next_batch(it, max_rows, max_bytes, keys, values, &rows, &err)) ==
           TOYKV_OK) {
        CHECK(rows >= 1 && rows <= max_rows);
        for (i = 0, bytes = 0; i < rows; i++, number++) {
            CHECK(max_bytes == 0 || bytes < max_bytes);
            bytes += keys[i].len + values[i].len;
            check_row(flags & TOYKV_RF_REVERSE ? ROWS - 1 - number : number, keys[i], values[i]);
        }
    }
    CHECK(status == TOYKV_DONE && rows == 0 && number == ROWS);
    /* One row more backwards: the batches moved the same position. */
    WANT(TOYKV_OK, toykv_iter_prev(it, &keys[0], &values[0], &err));
    check_row(flags & TOYKV_RF_REVERSE ? 0 : ROWS - 1, keys[0], values[0]);
    toykv_iter_free(it);
}

static void batches(toykv *db)
{
    toykv_iter *it = iter(db, NULL);
    toykv_slice keys[2];
    size_t rows = 7;
    WANT(TOYKV_ERR_INVALID, toykv_iter_next_batch(it, 0, 0, keys, keys, &rows, &err));
    CHECK(rows == 0);
    WANT(TOYKV_ERR_INVALID, toykv_iter_next_batch(it, 2, 0, NULL, keys, &rows, &err));
    WANT(TOYKV_ERR_INVALID, toykv_iter_next_batch(it, 2, 0, keys, keys, NULL, &err));
    WANT(TOYKV_ERR_TOO_LARGE, toykv_iter_next_batch(it, SIZE_MAX, 0, keys, NULL, &rows, &err));
    WANT(TOYKV_OK, toykv_iter_next_batch(it, 2, 0, keys, NULL, &rows, &err));
    CHECK(rows == 2 && IS(keys[0], "aa") && IS(keys[1], "ab"));
    toykv_iter_free(it);
    by_batches(db, 0, 1, 0);
    by_batches(db, 0, 100, 0);
    by_batches(db, 0, ROWS + 1, 0);
    by_batches(db, 0, ROWS + 1, 1000);
    by_batches(db, 0, 10, 1);
    by_batches(db, TOYKV_RF_REVERSE, 64, 0);
}

static void after_close(toykv *db)
{
    toykv_iter *it = iter(db, NULL);
    toykv_slice key = SLICE("x"), value = SLICE("x");
    size_t rows;
    WANT(TOYKV_OK, toykv_iter_next(it, &key, &value, &err));
    WANT(TOYKV_OK, toykv_close(db, &err));
    WANT(TOYKV_ERR_CLOSED, toykv_iter_next(it, &key, &value, &err));
    CHECK(key.data == NULL && value.data == NULL);
    WANT(TOYKV_ERR_CLOSED, toykv_iter_prev(it, &key, &value, &err));
    WANT(TOYKV_ERR_CLOSED, toykv_iter_seek(it, S("a"), &err));
    WANT(TOYKV_ERR_CLOSED, toykv_iter_seek_to_start(it, &err));
    WANT(TOYKV_ERR_CLOSED, toykv_iter_next_batch(it, 1, 0, &key, &value, &rows, &err));
    toykv_free(db);
    WANT(TOYKV_ERR_CLOSED, toykv_iter_seek_to_end(it, &err));
    toykv_iter_free(it);
    WANT(TOYKV_ERR_MISUSE, toykv_iter_seek_to_end(it, &err));
}

int main(int argc, char **argv)
{
    char key[32], value[64];
    toykv *db;
    int i;
    CHECK(argc == 2);
    db = open_db(in_dir(argv[1], "scans"));
    bounds(db);
    refused(db);
    moves(db);
    frozen(db);
    for (i = 0; i < ROWS; i++) {
        row(i, key, value);
        put(db, key, value);
        if (i == ROWS / 2)
            WANT(TOYKV_OK, toykv_flush(db, &err));
    }
    batches(db);
    after_close(db);
    return 0;
}
