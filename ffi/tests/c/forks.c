/* A forked child: it is told so of everything its parent made, does it no harm, and can use the
 * library for itself: forks DIR */
#include "check.h"
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

static toykv *db;
static toykv_batch *batch;
static toykv_options *options;
static toykv_snapshot *snapshot;
static toykv_iter *it;
static toykv_buf value, pinned;

static void calls_answer_forked(void)
{
    toykv_slice key = SLICE("k"), other;
    toykv_read_opts ro = { .struct_size = sizeof ro, .snapshot = snapshot };
    toykv_result result = { 0 };
    toykv_snapshot *new_snapshot;
    toykv_iter *new_iter;
    toykv_buf buf;
    toykv *opened;
    uint64_t count;
    size_t rows;
    const int32_t forked = TOYKV_ERR_FORKED;
    WANT(forked, toykv_put(db, NULL, S("child"), S("v"), NULL, &err));
    SAYS("fork");
    WANT(forked, toykv_delete(db, NULL, S("k"), NULL, &err));
    WANT(forked, toykv_get(db, NULL, S("k"), NULL, &buf, &err));
    WANT(forked, toykv_get_into(db, NULL, S("k"), NULL, NULL, 0, &rows, &err));
    WANT(forked, toykv_contains(db, NULL, S("k"), &ro, &err));
    WANT(forked, toykv_multi_get(db, NULL, &key, 1, NULL, &result, &buf, &err));
    WANT(forked, toykv_len(db, NULL, &count, &err));
    WANT(forked, toykv_pop_first(db, NULL, NULL, NULL, NULL, &err));
    WANT(forked, toykv_pop_last(db, NULL, NULL, NULL, NULL, &err));
    WANT(forked, toykv_write(db, batch, NULL, NULL, &err));
    WANT(forked, toykv_snapshot_new(db, &new_snapshot, &err));
    WANT(forked, toykv_iter_new(db, NULL, NULL, &new_iter, &err));
    WANT(forked, toykv_sync(db, &err));
    WANT(forked, toykv_flush(db, &err));
    WANT(forked, toykv_compact(db, NULL, NULL, NULL, &err));
    WANT(forked, toykv_scrub(db, 0, NULL, NULL, NULL, NULL, &err));
    WANT(forked, toykv_health(db, &err));
    WANT(forked, toykv_stats_json(db, &buf, &err));
    WANT(forked, toykv_close(db, &err));
    WANT(forked, toykv_iter_next(it, &key, &other, &err));
    WANT(forked, toykv_iter_prev(it, &key, &other, &err));
    WANT(forked, toykv_iter_seek(it, S("k"), &err));
    WANT(forked, toykv_iter_seek_to_start(it, &err));
    WANT(forked, toykv_iter_seek_to_end(it, &err));
    WANT(forked, toykv_iter_next_batch(it, 1, 0, &key, &other, &rows, &err));
    WANT(forked, toykv_batch_put(batch, NULL, S("k"), S("v"), &err));
    WANT(forked, toykv_batch_delete(batch, NULL, S("k"), &err));
    CHECK(toykv_batch_count(batch) == 0);
    WANT(forked, toykv_options_set(options, "read_only", "true", &err));
    WANT(forked, toykv_open("child", options, &opened, &err));
    CHECK(strchr(toykv_version(), '.') && *toykv_strerror(forked));
}

static void frees_do_nothing(void)
{
    toykv_buf copy = value;
    toykv_buf_free(&copy);
    toykv_iter_free(it);
    toykv_snapshot_free(snapshot);
    toykv_batch_clear(batch);
    toykv_batch_free(batch);
    toykv_options_free(options);
    toykv_free(db);
    WANT(TOYKV_ERR_FORKED, toykv_flush(db, &err));
    CHECK(IS(value, "v") && pinned.len == 50000 && pinned.data[49999] == 'p');
}

/* The child has its own database, and cannot have its parent's. */
static void child_for_itself(const char *dir)
{
    toykv *own = NULL;
    toykv_batch *own_batch = toykv_batch_new();
    toykv_iter *own_iter;
    toykv_slice key, found;
    WANT(TOYKV_ERR_LOCKED, toykv_open(in_dir(dir, "parent"), NULL, &own, &err));
    own = open_db(in_dir(dir, "child"));
    WANT(TOYKV_OK, toykv_batch_put(own_batch, NULL, S("own"), S("1"), &err));
    WANT(TOYKV_OK, toykv_write(own, own_batch, NULL, NULL, &err));
    toykv_batch_free(own_batch);
    WANT(TOYKV_OK, toykv_flush(own, &err));
    WANT(TOYKV_OK, toykv_iter_new(own, NULL, NULL, &own_iter, &err));
    WANT(TOYKV_OK, toykv_iter_next(own_iter, &key, &found, &err));
    CHECK(IS(key, "own") && IS(found, "1"));
    toykv_iter_free(own_iter);
    WANT(TOYKV_ERR_MISUSE, toykv_iter_next(own_iter, &key, &found, &err));
    close_db(own);
}

/* Ends well if the child does. */
static void wait_for(pid_t child)
{
    int status;
    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void parent_goes_on(const char *dir)
{
    toykv_slice key, found;
    toykv_buf buf;
    uint64_t count;
    WANT(TOYKV_OK, toykv_get(db, NULL, S("k"), NULL, &buf, &err));
    CHECK(IS(buf, "v"));
    toykv_buf_free(&buf);
    WANT(TOYKV_OK, toykv_iter_next(it, &key, &found, &err));
    CHECK(IS(key, "large"));
    CHECK(toykv_batch_count(batch) == 1);
    WANT(TOYKV_OK, toykv_write(db, batch, NULL, NULL, &err));
    WANT(TOYKV_OK, toykv_sync(db, &err));
    WANT(TOYKV_OK, toykv_len(db, NULL, &count, &err));
    CHECK(count == 3);
    CHECK(IS(value, "v"));
    toykv_buf_free(&value);
    toykv_buf_free(&pinned);
    toykv_snapshot_free(snapshot);
    toykv_iter_free(it);
    toykv_batch_free(batch);
    toykv_options_free(options);
    close_db(db);
    db = open_db(in_dir(dir, "parent"));
    WANT(TOYKV_OK, toykv_contains(db, NULL, S("batch"), NULL, &err));
    WANT(TOYKV_NOT_FOUND, toykv_contains(db, NULL, S("child"), NULL, &err));
    close_db(db);
}

/* A program that the child becomes inherits no descriptor, and none of ours is 0, 1 or 2. */
static void descriptors(const char *dir)
{
    int before[256], fd, flags, ours = 0;
    toykv *own;
    close(0);
    for (fd = 0; fd < 256; fd++)
        before[fd] = fcntl(fd, F_GETFD);
    own = open_db(in_dir(dir, "descriptors"));
    WANT(TOYKV_OK, toykv_put(own, NULL, S("k"), S("v"), NULL, &err));
    WANT(TOYKV_OK, toykv_flush(own, &err));
    for (fd = 0; fd < 256; fd++) {
        flags = fcntl(fd, F_GETFD);
        if (before[fd] == -1 && flags != -1) {
            CHECK(fd > 2 && flags & FD_CLOEXEC);
            ours++;
        }
    }
    CHECK(before[0] == -1 && ours > 0);
    close_db(own);
}

int main(int argc, char **argv)
{
    char *large = malloc(50000);
    toykv_slice key, found;
    pid_t child;
    CHECK(argc == 2 && large != NULL);
    memset(large, 'p', 50000);
    db = open_db(in_dir(argv[1], "parent"));
    put(db, "k", "v");
    WANT(TOYKV_OK, toykv_put(db, NULL, S("large"), large, 50000, NULL, &err));
    free(large);
    options = toykv_options_new();
    batch = toykv_batch_new();
    WANT(TOYKV_OK, toykv_batch_put(batch, NULL, S("batch"), S("v"), &err));
    WANT(TOYKV_OK, toykv_snapshot_new(db, &snapshot, &err));
    WANT(TOYKV_OK, toykv_iter_new(db, NULL, NULL, &it, &err));
    WANT(TOYKV_OK, toykv_iter_next(it, &key, &found, &err));
    WANT(TOYKV_OK, toykv_get(db, NULL, S("k"), NULL, &value, &err));
    WANT(TOYKV_OK, toykv_get(db, NULL, S("large"), NULL, &pinned, &err));
    child = fork();
    if (child == 0) {
        calls_answer_forked();
        frees_do_nothing();
        child_for_itself(argv[1]);
        /* A grandchild: its parent's handles are foreign to it, too. */
        db = open_db(in_dir(argv[1], "child"));
        child = fork();
        if (child == 0) {
            WANT(TOYKV_ERR_FORKED, toykv_flush(db, &err));
            toykv_free(db);
            exit(0);
        }
        wait_for(child);
        WANT(TOYKV_OK, toykv_flush(db, &err));
        close_db(db);
        descriptors(argv[1]);
        exit(0);
    }
    wait_for(child);
    parent_goes_on(argv[1]);
    return 0;
}
