/* The child that dies: runs a script on a database and says after each operation what it answered.
 * death DIR SCRIPT; tests/death writes the scripts and knows what may be found afterwards.
 *
 * A script begins with any of
 *   option NAME VALUE      how the database is opened
 *   short                  reads and writes of files move only a part of what was asked for
 *   leave                  ends without closing the database
 * then each line is an operation of a thread, which does them in order:
 *   THREAD put DURABILITY KEY MARK LEN      a value is made from MARK and LEN
 *   THREAD delete DURABILITY KEY
 *   THREAD batch DURABILITY COUNT           of the next COUNT lines, which are puts and deletes
 *   THREAD get|scan KEY                     scan: all whose keys begin so
 *   THREAD pop_first|pop_last|sync|flush|compact|gc|reopen
 *
 * It says `ready` and waits for a byte; `open STATUS` after each attempt to open, of which there
 * are two; `A THREAD NUMBER STATUS DIGEST` after an operation; `end` as the last. */
#define _GNU_SOURCE
#include "check.h"
#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_THREADS 8

/* How long a database may do nothing: far longer than any machine takes. */
#define ALARM_SECONDS 600

struct op {
    char verb[12];
    uint32_t durability;
    char key[64];
    uint64_t mark;
    size_t len;
};

struct list {
    struct op *ops;
    size_t count;
};

static struct list lists[MAX_THREADS];
static toykv_options *options;
static const char *path;
static toykv *db;
static pthread_barrier_t opened;
static int is_short;
static int leave;

/* How much of a transfer is done: half of it, in whole pages where all is whole pages, since direct
 * transfers come in such units. */
static size_t half(const void *bytes, size_t len, off64_t offset)
{
    const size_t unit = ((uintptr_t)bytes | len | (uintptr_t)offset) % 4096 == 0 ? 4096 : 1;
    return is_short && len >= 2 * unit ? len / 2 / unit * unit : len;
}

/* These take the place of the C library's. */

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset)
{
    return syscall(SYS_pwrite64, fd, bytes, half(bytes, len, offset), offset);
}

ssize_t pread64(int fd, void *bytes, size_t len, off64_t offset)
{
    return syscall(SYS_pread64, fd, bytes, half(bytes, len, offset), offset);
}

/* One system call: what was said is said whole. */
static void say(const char *line)
{
    ssize_t len = (ssize_t)strlen(line), said;
    do
        said = write(1, line, (size_t)len);
    while (said < 0 && errno == EINTR);
    CHECK(said == len);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* `len` bytes that belong to `mark`; to be freed. */
static uint8_t *value_of(uint64_t mark, size_t len)
{
    uint8_t *value = malloc(len + 8);
    size_t at, i;
    CHECK(value != NULL);
    for (at = 0; at < len; at += 8) {
        uint64_t word = next_random(&mark);
        for (i = 0; i < 8; i++)
            value[at + i] = (uint8_t)(word >> (8 * i));
    }
    return value;
}

static uint64_t digest(uint64_t state, const uint8_t *bytes, size_t len)
{
    size_t i;
    state = (state ^ len) * 0x100000001b3u;
    for (i = 0; i < len; i++)
        state = (state ^ bytes[i]) * 0x100000001b3u;
    return state;
}

static uint32_t durability_of(const char *name)
{
    if (strcmp(name, "process") == 0)
        return TOYKV_DURABILITY_PROCESS;
    if (strcmp(name, "interval") == 0)
        return TOYKV_DURABILITY_INTERVAL;
    CHECK(strcmp(name, "sync") == 0);
    return TOYKV_DURABILITY_SYNC;
}

static void parse_operation(const char *line)
{
    struct list *list;
    struct op *op;
    char durability[12] = "";
    int thread, used = 0;
    unsigned long long mark = 0, len = 0;
    CHECK(sscanf(line, "%d%n", &thread, &used) == 1 && thread >= 0 && thread < MAX_THREADS);
    list = &lists[thread];
    list->ops = realloc(list->ops, (list->count + 1) * sizeof *op);
    CHECK(list->ops != NULL);
    op = &list->ops[list->count++];
    memset(op, 0, sizeof *op);
    line += used;
    CHECK(sscanf(line, "%11s%n", op->verb, &used) == 1);
    line += used;
    if (strcmp(op->verb, "put") == 0) {
        CHECK(sscanf(line, "%11s %63s %llu %llu", durability, op->key, &mark, &len) == 4);
    } else if (strcmp(op->verb, "delete") == 0) {
        CHECK(sscanf(line, "%11s %63s", durability, op->key) == 2);
    } else if (strcmp(op->verb, "batch") == 0) {
        CHECK(sscanf(line, "%11s %llu", durability, &len) == 2);
    } else if (strcmp(op->verb, "get") == 0 || strcmp(op->verb, "scan") == 0) {
        CHECK(sscanf(line, "%63s", op->key) == 1);
    }
    if (durability[0] != '\0')
        op->durability = durability_of(durability);
    op->mark = mark;
    op->len = (size_t)len;
}

static void read_script(const char *name)
{
    FILE *file = fopen(name, "r");
    char line[256], option[64], value[64];
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "option %63s %63s", option, value) == 2)
            WANT(TOYKV_OK, toykv_options_set(options, option, value, &err));
        else if (strcmp(line, "short\n") == 0)
            is_short = 1;
        else if (strcmp(line, "leave\n") == 0)
            leave = 1;
        else
            parse_operation(line);
    }
    fclose(file);
}

/* A second attempt follows one that failed: it changed nothing. */
static int32_t open_it(void)
{
    char line[64];
    int attempt;
    for (attempt = 0; attempt < 2; attempt++) {
        int32_t status = toykv_open(path, options, &db, &err);
        sprintf(line, "open %d\n", (int)status);
        say(line);
        if (status == TOYKV_OK)
            return status;
        fprintf(stderr, "open: %s\n", err.message);
    }
    return err.code;
}

static int32_t scan(const struct op *op, uint64_t *sum, toykv_error *mine)
{
    toykv_iter_opts opts = { .struct_size = sizeof opts };
    toykv_iter *it = NULL;
    toykv_slice key, value;
    int32_t status;
    opts.prefix = (toykv_slice){ (const uint8_t *)op->key, strlen(op->key) };
    status = toykv_iter_new(db, NULL, &opts, &it, mine);
    while (status == TOYKV_OK && (status = toykv_iter_next(it, &key, &value, mine)) == TOYKV_OK) {
        *sum = digest(*sum, key.data, key.len);
        *sum = digest(*sum, value.data, value.len);
    }
    toykv_iter_free(it);
    return status == TOYKV_DONE ? TOYKV_OK : status;
}

static int32_t pop(int first, const toykv_write_opts *wo, uint64_t *sum, toykv_error *mine)
{
    toykv_buf key, value;
    int32_t status;
    if (first)
        status = toykv_pop_first(db, NULL, wo, &key, &value, mine);
    else
        status = toykv_pop_last(db, NULL, wo, &key, &value, mine);
    if (status == TOYKV_OK) {
        *sum = digest(*sum, key.data, key.len);
        *sum = digest(*sum, value.data, value.len);
        toykv_buf_free(&key);
        toykv_buf_free(&value);
    }
    return status;
}

static int32_t write_batch(const struct op *op, const toykv_write_opts *wo, toykv_error *mine)
{
    toykv_batch *batch = toykv_batch_new();
    const struct op *entry;
    int32_t status;
    CHECK(batch != NULL);
    for (entry = op + 1; entry <= op + op->len; entry++) {
        if (entry->verb[0] == 'p') {
            uint8_t *value = value_of(entry->mark, entry->len);
            status = toykv_batch_put(batch, NULL, entry->key, strlen(entry->key), value,
                                     entry->len, mine);
            free(value);
        } else {
            status = toykv_batch_delete(batch, NULL, entry->key, strlen(entry->key), mine);
        }
        CHECK(status == TOYKV_OK);
    }
    status = toykv_write(db, batch, wo, NULL, mine);
    toykv_batch_free(batch);
    return status;
}

static int32_t perform(const struct op *op, uint64_t *sum, toykv_error *mine)
{
    const toykv_write_opts wo = { .struct_size = sizeof wo, .durability = op->durability };
    const char *verb = op->verb;
    int32_t status;
    if (strcmp(verb, "put") == 0) {
        uint8_t *value = value_of(op->mark, op->len);
        status = toykv_put(db, NULL, op->key, strlen(op->key), value, op->len, &wo, mine);
        free(value);
        return status;
    }
    if (strcmp(verb, "get") == 0) {
        toykv_buf value;
        status = toykv_get(db, NULL, op->key, strlen(op->key), NULL, &value, mine);
        if (status == TOYKV_OK) {
            *sum = digest(*sum, value.data, value.len);
            toykv_buf_free(&value);
        }
        return status;
    }
    if (strcmp(verb, "delete") == 0)
        return toykv_delete(db, NULL, op->key, strlen(op->key), &wo, mine);
    if (strcmp(verb, "batch") == 0)
        return write_batch(op, &wo, mine);
    if (strcmp(verb, "scan") == 0)
        return scan(op, sum, mine);
    if (strncmp(verb, "pop", 3) == 0)
        return pop(strcmp(verb, "pop_first") == 0, &wo, sum, mine);
    if (strcmp(verb, "sync") == 0)
        return toykv_sync(db, mine);
    if (strcmp(verb, "flush") == 0)
        return toykv_flush(db, mine);
    if (strcmp(verb, "compact") == 0)
        return toykv_compact(db, NULL, NULL, NULL, mine);
    if (strcmp(verb, "gc") == 0)
        return toykv_gc(db, mine);
    CHECK(strcmp(verb, "reopen") == 0);
    status = toykv_close(db, mine);
    CHECK(status != TOYKV_ERR_PANIC);
    toykv_free(db);
    db = NULL;
    return open_it();
}

static void *run(void *own)
{
    const struct list *list = own;
    toykv_error mine = { .struct_size = sizeof mine };
    char line[96];
    size_t i;
    pthread_barrier_wait(&opened);
    for (i = 0; i < list->count && db != NULL; i++) {
        uint64_t sum = 0xcbf29ce484222325u;
        int32_t status = perform(&list->ops[i], &sum, &mine);
        if (status < 0)
            fprintf(stderr, "%s: %s\n", list->ops[i].verb, mine.message);
        snprintf(line, sizeof line, "A %d %lu %d %llx\n", (int)(list - lists), (unsigned long)i,
                 (int)status, (unsigned long long)sum);
        say(line);
        if (strcmp(list->ops[i].verb, "batch") == 0)
            i += list->ops[i].len;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[MAX_THREADS];
    unsigned count = 1;
    char byte;
    int i;
    CHECK(argc == 3);
    path = argv[1];
    options = toykv_options_new();
    CHECK(options != NULL);
    read_script(argv[2]);
    alarm(ALARM_SECONDS);
    /* Before anybody steps in: the calls that fail are those of the library. */
    for (i = 1; i < MAX_THREADS; i++)
        count += lists[i].count != 0;
    CHECK(pthread_barrier_init(&opened, NULL, count) == 0);
    for (i = 1; i < MAX_THREADS; i++)
        CHECK(lists[i].count == 0 || pthread_create(&threads[i], NULL, run, &lists[i]) == 0);
    say("ready\n");
    while (read(0, &byte, 1) < 0)
        CHECK(errno == EINTR);
    if (open_it() == TOYKV_OK) {
        run(&lists[0]);
        for (i = 1; i < MAX_THREADS; i++)
            CHECK(lists[i].count == 0 || pthread_join(threads[i], NULL) == 0);
        if (!leave && db != NULL) {
            CHECK(toykv_close(db, &err) != TOYKV_ERR_PANIC);
            toykv_free(db);
        }
    }
    say("end\n");
    _exit(0);
}
