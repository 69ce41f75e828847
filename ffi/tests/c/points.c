/* Single keys, batches, snapshots and upkeep, on real data: points DIR */
#include "check.h"

#define LARGE ((size_t)3 << 20)

static toykv_buf get(toykv *db, const char *key, const toykv_snapshot *snapshot)
{
    toykv_read_opts opts = { .struct_size = sizeof opts, .snapshot = snapshot };
    toykv_buf buf;
    WANT(TOYKV_OK, toykv_get(db, NULL, key, strlen(key), &opts, &buf, &err));
    CHECK(buf.data != NULL && buf.owner != NULL);
    return buf;
}

static void values(toykv *db)
{
    toykv_buf buf, other;
    char small[8] = "-------";
    size_t len = 9;
    unsigned char *large = malloc(LARGE);
    CHECK(large != NULL);
    memset(large, 0xA5, LARGE);
    put(db, "apple", "red");
    put(db, "apple", "green");
    buf = get(db, "apple", NULL);
    CHECK(IS(buf, "green"));
    toykv_buf_free(&buf);
    CHECK(buf.data == NULL && buf.len == 0 && buf.owner == NULL);

    /* The empty key and the empty value are as good as others. */
    WANT(TOYKV_NOT_FOUND, toykv_contains(db, NULL, NULL, 0, NULL, &err));
    WANT(TOYKV_OK, toykv_put(db, NULL, NULL, 0, NULL, 0, NULL, &err));
    WANT(TOYKV_OK, toykv_contains(db, NULL, "", 0, NULL, &err));
    WANT(TOYKV_OK, toykv_get(db, NULL, "x", 0, NULL, &buf, &err));
    CHECK(buf.data != NULL && buf.len == 0);
    toykv_buf_free(&buf);

    /* Keys and values hold any bytes. */
    WANT(TOYKV_OK, toykv_put(db, NULL, S("a\0b"), S("\0\xFF\0"), NULL, &err));
    WANT(TOYKV_OK, toykv_get(db, NULL, S("a\0b"), NULL, &buf, &err));
    CHECK(IS(buf, "\0\xFF\0"));
    toykv_buf_free(&buf);

    WANT(TOYKV_OK, toykv_put(db, NULL, S("large"), large, LARGE, NULL, &err));
    memset(large, 0, LARGE);
    other = get(db, "large", NULL);
    CHECK(other.len == LARGE && other.data[0] == 0xA5 && other.data[LARGE - 1] == 0xA5);

    /* Into a buffer: whole, or not at all and the length told. */
    WANT(TOYKV_SHORT_BUFFER, toykv_get_into(db, NULL, S("apple"), NULL, small, 4, &len, &err));
    CHECK(len == 5 && strcmp(small, "-------") == 0);
    WANT(TOYKV_OK, toykv_get_into(db, NULL, S("apple"), NULL, small, 5, &len, &err));
    CHECK(len == 5 && strcmp(small, "green--") == 0);
    WANT(TOYKV_SHORT_BUFFER, toykv_get_into(db, NULL, S("large"), NULL, NULL, 0, &len, &err));
    CHECK(len == LARGE);
    WANT(TOYKV_OK, toykv_get_into(db, NULL, S("large"), NULL, large, LARGE, &len, &err));
    CHECK(len == LARGE && memcmp(large, other.data, LARGE) == 0);
    WANT(TOYKV_NOT_FOUND, toykv_get_into(db, NULL, S("pear"), NULL, small, 8, &len, &err));
    CHECK(len == 0);

    /* A part of a value, cut at its end. */
    WANT(TOYKV_OK, toykv_get_range(db, NULL, S("apple"), 1, 3, NULL, &buf, &err));
    CHECK(IS(buf, "ree"));
    toykv_buf_free(&buf);
    WANT(TOYKV_OK, toykv_get_range(db, NULL, S("large"), LARGE - 5, SIZE_MAX, NULL, &buf, &err));
    CHECK(buf.len == 5 && memcmp(buf.data, other.data + LARGE - 5, 5) == 0);
    toykv_buf_free(&buf);
    WANT(TOYKV_OK, toykv_get_range(db, NULL, S("apple"), UINT64_MAX, 3, NULL, &buf, &err));
    CHECK(buf.data != NULL && buf.len == 0);
    toykv_buf_free(&buf);
    WANT(TOYKV_NOT_FOUND, toykv_get_range(db, NULL, S("pear"), 0, 3, NULL, &buf, &err));
    CHECK(buf.data == NULL);
    free(large);

    WANT(TOYKV_OK, toykv_delete(db, NULL, S("apple"), NULL, &err));
    WANT(TOYKV_OK, toykv_delete(db, NULL, S("apple"), NULL, &err));
    WANT(TOYKV_NOT_FOUND, toykv_get(db, NULL, S("apple"), NULL, &buf, &err));
    CHECK(buf.data == NULL && buf.len == 0 && buf.owner == NULL);
    toykv_buf_free(&buf);
    WANT(TOYKV_OK, toykv_delete(db, NULL, S("large"), NULL, &err));
    CHECK(other.data[LARGE / 2] == 0xA5);
    toykv_buf_free(&other);
    WANT(TOYKV_OK, toykv_delete(db, NULL, S("a\0b"), NULL, &err));
    WANT(TOYKV_OK, toykv_delete(db, NULL, NULL, 0, NULL, &err));
}

static void limits(toykv *db)
{
    static char key[TOYKV_MAX_KEY_LEN + 1];
    toykv_batch *batch = toykv_batch_new();
    toykv_buf buf;
    uint64_t count;
    size_t over = sizeof key;
    WANT(TOYKV_OK, toykv_put(db, NULL, key, over - 1, S("long"), NULL, &err));
    WANT(TOYKV_OK, toykv_get(db, NULL, key, over - 1, NULL, &buf, &err));
    CHECK(IS(buf, "long"));
    toykv_buf_free(&buf);
    WANT(TOYKV_OK, toykv_delete(db, NULL, key, over - 1, NULL, &err));
    WANT(TOYKV_ERR_TOO_LARGE, toykv_put(db, NULL, key, over, S("v"), NULL, &err));
    SAYS("key of 65536 bytes");
    SAYS("65535");
    CHECK(err.flags == TOYKV_EF_CALLER_BUG && err.os_errno == 0);
    CHECK(err.file_number == UINT64_MAX && err.file_offset == UINT64_MAX);
    WANT(TOYKV_ERR_TOO_LARGE, toykv_get(db, NULL, key, SIZE_MAX, NULL, &buf, &err));
    WANT(TOYKV_ERR_TOO_LARGE, toykv_delete(db, NULL, key, over, NULL, &err));
    WANT(TOYKV_ERR_TOO_LARGE, toykv_batch_put(batch, NULL, key, over, NULL, 0, &err));
    WANT(TOYKV_ERR_TOO_LARGE,
         toykv_put(db, NULL, S("k"), key, (size_t)TOYKV_MAX_VALUE_LEN + 1, NULL, &err));
    SAYS("value of 4294967296 bytes");
    WANT(TOYKV_ERR_INVALID, toykv_put(db, NULL, NULL, 1, S("v"), NULL, &err));
    SAYS("key is NULL with a length of 1");
    WANT(TOYKV_ERR_INVALID, toykv_put(db, NULL, S("k"), NULL, 9, NULL, &err));
    SAYS("value is NULL with a length of 9");
    WANT(TOYKV_ERR_INVALID, toykv_get(db, NULL, S("k"), NULL, NULL, &err));
    SAYS("out is NULL");
    WANT(TOYKV_ERR_INVALID, toykv_get_into(db, NULL, S("k"), NULL, NULL, 1, &over, &err));
    WANT(TOYKV_ERR_INVALID, toykv_get_into(db, NULL, S("k"), NULL, key, 1, NULL, &err));
    CHECK(toykv_batch_count(batch) == 0);
    toykv_batch_free(batch);
    WANT(TOYKV_OK, toykv_len(db, NULL, &count, &err));
    CHECK(count == 0);
    /* Nobody has to take an error. */
    CHECK(toykv_put(db, NULL, key, sizeof key, NULL, 0, NULL, NULL) == TOYKV_ERR_TOO_LARGE);
}

static void write_options(toykv *db)
{
    toykv_write_opts opts = { .struct_size = sizeof opts };
    for (opts.durability = 0; opts.durability <= TOYKV_DURABILITY_SYNC; opts.durability++)
        WANT(TOYKV_OK, toykv_put(db, NULL, S("durable"), S("v"), &opts, &err));
    WANT(TOYKV_ERR_INVALID, toykv_put(db, NULL, S("durable"), S("v"), &opts, &err));
    SAYS("durability 4");
    opts.durability = 0;
    opts.flags = TOYKV_WF_NO_WAIT;
    WANT(TOYKV_OK, toykv_delete(db, NULL, S("durable"), &opts, &err));
    opts.flags = 2;
    WANT(TOYKV_ERR_INVALID, toykv_delete(db, NULL, S("durable"), &opts, &err));
    SAYS("flags 0x2");
    opts.flags = 0;
    opts.stall_timeout_ms = 1;
    WANT(TOYKV_ERR_INVALID, toykv_delete(db, NULL, S("durable"), &opts, &err));
    opts.stall_timeout_ms = 0;
    opts.struct_size = 12;
    WANT(TOYKV_ERR_INVALID, toykv_delete(db, NULL, S("durable"), &opts, &err));
    SAYS("struct_size is 12");
}

static void batches_and_snapshots(toykv *db)
{
    toykv_batch *batch = toykv_batch_new();
    toykv_snapshot *snapshot;
    toykv_slice keys[4] = { SLICE("fig"), SLICE("none"), SLICE("kiwi"), { NULL, 0 } };
    toykv_result results[4];
    toykv_read_opts opts = { .struct_size = sizeof opts };
    toykv_buf buf, owner;
    uint64_t first = 0, second = 0, count;
    char into[8];
    size_t len;
    WANT(TOYKV_OK, toykv_batch_put(batch, NULL, S("fig"), S("purple"), &err));
    WANT(TOYKV_OK, toykv_batch_put(batch, NULL, S("kiwi"), S("brown"), &err));
    WANT(TOYKV_OK, toykv_batch_delete(batch, NULL, S("fig"), &err));
    WANT(TOYKV_OK, toykv_batch_put(batch, NULL, S("fig"), S("violet"), &err));
    CHECK(toykv_batch_count(batch) == 4);
    WANT(TOYKV_NOT_FOUND, toykv_contains(db, NULL, S("fig"), NULL, &err));
    WANT(TOYKV_OK, toykv_write(db, batch, NULL, &first, &err));
    CHECK(toykv_batch_count(batch) == 4);
    WANT(TOYKV_OK, toykv_snapshot_new(db, &snapshot, &err));

    toykv_batch_clear(batch);
    CHECK(toykv_batch_count(batch) == 0);
    WANT(TOYKV_OK, toykv_batch_delete(batch, NULL, S("fig"), &err));
    WANT(TOYKV_OK, toykv_batch_put(batch, NULL, S("kiwi"), S("green"), &err));
    WANT(TOYKV_OK, toykv_write(db, batch, NULL, &second, &err));
    CHECK(second == first + 2);
    WANT(TOYKV_OK, toykv_write(db, batch, NULL, NULL, &err));
    toykv_batch_clear(batch);
    WANT(TOYKV_OK, toykv_write(db, batch, NULL, NULL, &err));
    toykv_batch_free(batch);

    WANT(TOYKV_NOT_FOUND, toykv_contains(db, NULL, S("fig"), NULL, &err));
    buf = get(db, "kiwi", NULL);
    CHECK(IS(buf, "green"));
    toykv_buf_free(&buf);
    buf = get(db, "fig", snapshot);
    CHECK(IS(buf, "violet"));
    toykv_buf_free(&buf);
    opts.snapshot = snapshot;
    WANT(TOYKV_OK, toykv_contains(db, NULL, S("fig"), &opts, &err));
    WANT(TOYKV_OK, toykv_get_into(db, NULL, S("kiwi"), &opts, into, 8, &len, &err));
    CHECK(len == 5 && memcmp(into, "brown", 5) == 0);

    WANT(TOYKV_OK, toykv_multi_get(db, NULL, keys, 4, &opts, results, &owner, &err));
    CHECK(results[0].status == TOYKV_OK && IS(results[0].value, "violet"));
    CHECK(results[1].status == TOYKV_NOT_FOUND && results[1].value.data == NULL);
    CHECK(results[2].status == TOYKV_OK && IS(results[2].value, "brown"));
    CHECK(results[3].status == TOYKV_NOT_FOUND && results[3].reserved == 0);
    toykv_buf_free(&owner);
    WANT(TOYKV_OK, toykv_multi_get(db, NULL, keys, 4, NULL, results, &owner, &err));
    CHECK(results[0].status == TOYKV_NOT_FOUND && IS(results[2].value, "green"));
    toykv_buf_free(&owner);
    WANT(TOYKV_OK, toykv_multi_get(db, NULL, NULL, 0, NULL, NULL, &owner, &err));
    toykv_buf_free(&owner);
    keys[1].data = NULL;
    WANT(TOYKV_ERR_INVALID, toykv_multi_get(db, NULL, keys, 4, NULL, results, &owner, &err));
    CHECK(owner.owner == NULL);
    keys[1].data = keys[0].data;
    keys[1].len = TOYKV_MAX_KEY_LEN + 1;
    WANT(TOYKV_ERR_TOO_LARGE, toykv_multi_get(db, NULL, keys, 4, NULL, results, &owner, &err));
    WANT(TOYKV_ERR_TOO_LARGE,
         toykv_multi_get(db, NULL, keys, TOYKV_MAX_LIST_LEN + 1, NULL, results, &owner, &err));

    opts.flags = 1;
    WANT(TOYKV_ERR_INVALID, toykv_contains(db, NULL, S("fig"), &opts, &err));
    toykv_snapshot_free(snapshot);
    opts.flags = 0;
    WANT(TOYKV_ERR_MISUSE, toykv_contains(db, NULL, S("fig"), &opts, &err));
    SAYS("toykv_snapshot");
    WANT(TOYKV_OK, toykv_delete(db, NULL, S("kiwi"), NULL, &err));
    WANT(TOYKV_OK, toykv_len(db, NULL, &count, &err));
    CHECK(count == 0);
}

static void ends(toykv *db)
{
    toykv_buf key, value;
    uint64_t count;
    put(db, "b", "2");
    put(db, "a", "1");
    put(db, "d", "4");
    put(db, "c", "3");
    WANT(TOYKV_OK, toykv_pop_first(db, NULL, NULL, &key, &value, &err));
    CHECK(IS(key, "a") && IS(value, "1"));
    toykv_buf_free(&key);
    toykv_buf_free(&value);
    WANT(TOYKV_OK, toykv_pop_last(db, NULL, NULL, &key, NULL, &err));
    CHECK(IS(key, "d"));
    toykv_buf_free(&key);
    WANT(TOYKV_OK, toykv_pop_first(db, NULL, NULL, NULL, &value, &err));
    CHECK(IS(value, "2"));
    toykv_buf_free(&value);
    WANT(TOYKV_OK, toykv_len(db, NULL, &count, &err));
    CHECK(count == 1);
    WANT(TOYKV_OK, toykv_pop_last(db, NULL, NULL, NULL, NULL, &err));
    WANT(TOYKV_NOT_FOUND, toykv_pop_last(db, NULL, NULL, &key, &value, &err));
    CHECK(key.owner == NULL && value.owner == NULL);
    WANT(TOYKV_NOT_FOUND, toykv_pop_first(db, NULL, NULL, &key, &value, &err));
    WANT(TOYKV_OK, toykv_len(db, NULL, &count, &err));
    CHECK(count == 0);
}

/* Enough rows for several tables; then the same questions again after a reopen. */
static void many(const char *path)
{
    toykv *db;
    toykv_options *options = toykv_options_new();
    toykv_batch *batch = toykv_batch_new();
    toykv_slice lower = SLICE("key 00100"), upper = SLICE("key 19000");
    toykv_buf buf;
    char key[32], value[64];
    uint64_t count;
    int i, round;
    WANT(TOYKV_OK, toykv_options_set(options, "memtable_size_bytes", "64KiB", &err));
    WANT(TOYKV_OK, toykv_open(path, options, &db, &err));
    for (i = 0; i < 20000; i++) {
        sprintf(key, "key %05d", i);
        sprintf(value, "the value of row %d", i);
        WANT(TOYKV_OK, toykv_batch_put(batch, NULL, key, strlen(key), value, strlen(value), &err));
        if (toykv_batch_count(batch) == 100) {
            WANT(TOYKV_OK, toykv_write(db, batch, NULL, NULL, &err));
            toykv_batch_clear(batch);
        }
    }
    toykv_batch_free(batch);
    for (round = 0; round < 2; round++) {
        WANT(TOYKV_OK, toykv_len(db, NULL, &count, &err));
        CHECK(count == 20000);
        for (i = 0; i < 20000; i += 7) {
            sprintf(key, "key %05d", i);
            sprintf(value, "the value of row %d", i);
            buf = get(db, key, NULL);
            CHECK(buf.len == strlen(value) && memcmp(buf.data, value, buf.len) == 0);
            toykv_buf_free(&buf);
        }
        WANT(TOYKV_OK, toykv_sync(db, &err));
        WANT(TOYKV_OK, toykv_flush(db, &err));
        WANT(TOYKV_OK, toykv_compact(db, NULL, &lower, &upper, &err));
        WANT(TOYKV_OK, toykv_compact(db, NULL, NULL, NULL, &err));
        WANT(TOYKV_OK, toykv_health(db, &err));
        WANT(TOYKV_OK, toykv_stats_json(db, &buf, &err));
        CHECK(buf.data[0] == '{' && buf.data[buf.len - 1] == '}' && buf.data[buf.len] == '\0');
        CHECK(strstr((const char *)buf.data, "\"poisoned\":null") != NULL);
        CHECK(strstr((const char *)buf.data, "\"runs\":1,") != NULL);
        CHECK(strstr((const char *)buf.data, "\"sorted_runs\":[{\"tables\":1,") != NULL);
        toykv_buf_free(&buf);
        close_db(db);
        WANT(TOYKV_OK, toykv_open(path, options, &db, &err));
    }
    close_db(db);
    toykv_options_free(options);
}

/* What a buffer holds on the heap is in the statistics until it is freed. */
static void held(const char *path)
{
    toykv *db;
    toykv_options *options = toykv_options_new();
    toykv_buf value, stats;
    char none[] = "\"pinned_bytes\":0,", *zeros = calloc(100000, 1);
    int round;
    CHECK(zeros != NULL);
    WANT(TOYKV_OK, toykv_options_set(options, "compression", "zstd", &err));
    WANT(TOYKV_OK, toykv_open(path, options, &db, &err));
    toykv_options_free(options);
    WANT(TOYKV_OK, toykv_put(db, NULL, S("zeros"), zeros, 100000, NULL, &err));
    value = get(db, "zeros", NULL);
    CHECK(value.len == 100000 && memcmp(value.data, zeros, 100000) == 0);
    for (round = 0; round < 2; round++) {
        WANT(TOYKV_OK, toykv_stats_json(db, &stats, &err));
        CHECK((strstr((const char *)stats.data, none) != NULL) == (round == 1));
        CHECK((strstr((const char *)stats.data, "\"pinned_bytes\":100") != NULL) == (round == 0));
        toykv_buf_free(&stats);
        toykv_buf_free(&value);
    }
    close_db(db);
    free(zeros);
}

static void library(void)
{
    const char *name, *type, *standard, *doc;
    toykv_buf value;
    toykv_options *options = toykv_options_new();
    size_t index;
    int32_t code;
    CHECK(toykv_abi_version() == TOYKV_ABI_VERSION);
    CHECK(strchr(toykv_version(), '.') != NULL);
    for (code = TOYKV_ERR_PANIC; code <= TOYKV_WOULD_STALL; code++)
        CHECK(strcmp(toykv_strerror(code), toykv_strerror(7)) != 0);
    CHECK(strcmp(toykv_strerror(INT32_MIN), toykv_strerror(7)) == 0);
    for (index = 0;; index++) {
        code = toykv_options_describe(index, &name, &type, &standard, &doc);
        if (code == TOYKV_DONE)
            break;
        CHECK(code == TOYKV_OK && *name && *type && *standard && *doc);
        WANT(TOYKV_OK, toykv_options_set(options, name, standard, &err));
        WANT(TOYKV_OK, toykv_options_get(options, name, &value, &err));
        CHECK(strcmp((const char *)value.data, standard) == 0 && value.len == strlen(standard));
        toykv_buf_free(&value);
        WANT(TOYKV_OK, toykv_options_get(NULL, name, &value, &err));
        CHECK(strcmp((const char *)value.data, standard) == 0);
        toykv_buf_free(&value);
        WANT(TOYKV_ERR_INVALID, toykv_options_set(options, name, "nonsense", &err));
        SAYS(name);
    }
    CHECK(index >= 8 && name == NULL);
    CHECK(toykv_options_describe(0, NULL, NULL, NULL, NULL) == TOYKV_OK);
    CHECK(toykv_options_describe(SIZE_MAX, &name, NULL, NULL, NULL) == TOYKV_DONE);
    WANT(TOYKV_ERR_INVALID, toykv_options_set(options, "no_such", "1", &err));
    SAYS("no_such");
    WANT(TOYKV_ERR_INVALID, toykv_options_get(options, "no_such", &value, &err));
    CHECK(value.data == NULL);
    WANT(TOYKV_ERR_INVALID, toykv_options_get(options, NULL, &value, &err));
    WANT(TOYKV_ERR_INVALID, toykv_options_set(options, NULL, "1", &err));
    WANT(TOYKV_ERR_INVALID, toykv_options_set(options, "read_only", NULL, &err));
    WANT(TOYKV_ERR_INVALID, toykv_options_set(options, "\xFF", "1", &err));
    toykv_options_free(options);
    toykv_options_free(NULL);
    toykv_batch_free(NULL);
    toykv_snapshot_free(NULL);
    toykv_iter_free(NULL);
    toykv_free(NULL);
    toykv_buf_free(NULL);
}

int main(int argc, char **argv)
{
    toykv *db;
    CHECK(argc == 2);
    library();
    db = open_db(in_dir(argv[1], "points"));
    values(db);
    limits(db);
    write_options(db);
    batches_and_snapshots(db);
    ends(db);
    close_db(db);
    many(in_dir(argv[1], "many"));
    held(in_dir(argv[1], "held"));
    WANT(TOYKV_OK, toykv_destroy(in_dir(argv[1], "many"), &err));
    WANT(TOYKV_ERR_NO_SUCH, toykv_destroy(in_dir(argv[1], "many"), &err));
    return 0;
}
