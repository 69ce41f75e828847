/*
 * Stores every file below a folder in a toykv database, reads everything back, and compares.
 *
 *     import_tree DIR DB [PREFIX]
 *
 * Each regular file becomes two entries that are written together, in one batch:
 *
 *     path below DIR                              -> the file's content
 *     "\0mtime/" + time of change, 8 bytes + path -> the path
 *
 * No path begins with a zero byte, so the second kind never mixes with the first. Its time is in
 * nanoseconds, big-endian with the sign bit turned over, so the database's order of keys is the
 * order in time: read backwards, newest first (examples/python/query_tree.py does).
 *
 * Then the database is closed and opened again; every file is looked up and compared with what is
 * on disk, byte by byte; and scans over all files, each top folder, the index and PREFIX must
 * find exactly the keys that were stored. Any difference is named and the exit status is 1.
 * Symbolic links are not followed. Files that vanish, change or cannot be read meanwhile are
 * named, counted and left out.
 *
 *     cc -std=c99 -Iinclude examples/c/import_tree.c -Ltarget/release -ltoykv -o import_tree
 */
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "toykv.h"

#define INDEX_PREFIX "\0mtime/"
#define INDEX_PREFIX_LEN (sizeof INDEX_PREFIX - 1)
#define MAX_VALUE_LEN UINT32_MAX
#define CHUNK ((size_t)1 << 18) /* bytes read at once */

/* A file that was stored. */
struct file {
    char *path; /* below DIR */
    uint64_t size;
    uint64_t time; /* of change, as the index has it */
};

/* A vector of bytes that keeps its memory. */
struct bytes {
    uint8_t *data;
    size_t len, capacity;
};

/* Everything that the steps share. */
struct import {
    const char *dir, *db_path;
    int dir_fd;
    toykv *db;
    toykv_batch *batch;
    struct bytes content, index_key;
    struct file *files;
    size_t file_count, file_capacity;
    char **folders; /* a stack: still to be walked */
    size_t folder_count, folder_capacity;
    uint64_t byte_count, skipped, special;
    double store_seconds; /* inside toykv, while importing */
};

/* --- Messages ---------------------------------------------------------------------------- */

/* A key or path on stderr, with bytes that might upset a terminal as \xNN. */
static void print_name(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c < 0x20 || c == 0x7f)
            fprintf(stderr, "\\x%02x", c);
        else
            fputc(c, stderr);
    }
}

/* One message: "what: name: why", below the progress line if there is one. */
static void message(const char *what, const void *name, size_t len, const char *why)
{
    fprintf(stderr, "%s%s: ", isatty(STDERR_FILENO) ? "\n" : "", what);
    print_name(name, len);
    fprintf(stderr, ": %s\n", why);
}

/* Ends the program with a message about a key. */
static void fail_key(const char *what, const void *key, size_t len, const char *why)
{
    message(what, key, len, why);
    exit(EXIT_FAILURE);
}

/* Ends the program with a message about a name. */
static void fail(const char *what, const char *name, const char *why)
{
    fail_key(what, name, strlen(name), why);
}

/* Ends the program unless a call of toykv succeeded. */
static void check(int32_t status, const char *what, const char *name, const toykv_error *error)
{
    if (status < 0)
        fail(what, name, error->message[0] ? error->message : toykv_strerror(status));
}

/* Names a file that is left out, and counts it. */
static void skip(struct import *im, const char *path, const char *why)
{
    im->skipped++;
    message("left out", path, strlen(path), why);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The progress line: rewritten on a terminal ten times a second, elsewhere only once it is final. */
static void progress(const char *what, size_t files, uint64_t bytes, int final)
{
    static double last;
    double time = now();
    if (!final && (!isatty(STDERR_FILENO) || time - last < 0.1))
        return;
    last = time;
    fprintf(stderr, "%s%s %zu files, %.1f MB%s", isatty(STDERR_FILENO) ? "\r" : "", what, files,
            (double)bytes / 1e6, final ? "\n" : "  ");
    fflush(stderr);
}

/* --- Memory ------------------------------------------------------------------------------- */

/* Room for one more element of a vector; ends the program when there is no memory. */
static void *grow(void *data, size_t count, size_t *capacity, size_t element)
{
    if (count < *capacity)
        return data;
    *capacity = *capacity ? *capacity * 2 : 64;
    data = realloc(data, *capacity * element);
    if (!data)
        fail("memory", "vector", strerror(ENOMEM));
    return data;
}

/* Room for `len` bytes more; ends the program when there is no memory. */
static void bytes_reserve(struct bytes *b, size_t len)
{
    if (b->capacity - b->len >= len)
        return;
    b->capacity = 2 * b->capacity + len;
    b->data = realloc(b->data, b->capacity);
    if (!b->data)
        fail("memory", "buffer", strerror(ENOMEM));
}

static void bytes_append(struct bytes *b, const void *data, size_t len)
{
    bytes_reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

/* folder + "/" + name, or name alone at the top. */
static char *join(const char *folder, const char *name)
{
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = malloc(size);
    if (!path)
        fail("memory", name, strerror(ENOMEM));
    snprintf(path, size, "%s%s%s", folder, *folder ? "/" : "", name);
    return path;
}

/* --- Import ------------------------------------------------------------------------------- */

/* Nanoseconds since 1970 as an unsigned number of the same order. */
static uint64_t change_time(const struct stat *st)
{
    int64_t seconds = st->st_mtim.tv_sec;
    const int64_t limit = INT64_MAX / 1000000000 - 1;
    if (seconds > limit)
        seconds = limit;
    if (seconds < -limit)
        seconds = -limit;
    return (uint64_t)(seconds * 1000000000 + st->st_mtim.tv_nsec) ^ (UINT64_C(1) << 63);
}

/* The index entry's key, in im->index_key. */
static void make_index_key(struct import *im, const char *path, uint64_t time)
{
    uint8_t big_endian[8];
    for (int i = 0; i < 8; i++)
        big_endian[i] = (uint8_t)(time >> (56 - 8 * i));
    im->index_key.len = 0;
    bytes_append(&im->index_key, INDEX_PREFIX, INDEX_PREFIX_LEN);
    bytes_append(&im->index_key, big_endian, sizeof big_endian);
    bytes_append(&im->index_key, path, strlen(path));
}

/* Opens a regular file below DIR: a descriptor, or -1 with errno. */
static int open_file(const struct import *im, const char *path, struct stat *st)
{
    int fd = openat(im->dir_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && (fstat(fd, st) != 0 || !S_ISREG(st->st_mode))) {
        close(fd);
        errno = ENOENT; /* it was a regular file a moment ago */
        fd = -1;
    }
    return fd;
}

/* read, again when a signal came between. */
static ssize_t read_some(int fd, uint8_t *data, size_t len)
{
    ssize_t got;
    do
        got = read(fd, data, len);
    while (got < 0 && errno == EINTR);
    return got;
}

/* The whole file into im->content; 0, or -1 with errno. */
static int read_content(struct import *im, const char *path, struct stat *st)
{
    struct bytes *content = &im->content;
    ssize_t got = 0;
    int fd = open_file(im, path, st);
    if (fd < 0)
        return -1;
    content->len = 0;
    do {
        content->len += (size_t)got;
        if (content->len > MAX_VALUE_LEN) {
            errno = EFBIG;
            got = -1;
            break;
        }
        bytes_reserve(content, CHUNK);
    } while ((got = read_some(fd, content->data + content->len, CHUNK)) > 0);
    if (got < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    close(fd);
    return 0;
}

/* Content and index entry into im->batch: both, or neither when one of them is too large. */
static int32_t fill_batch(struct import *im, const char *path, uint64_t time, toykv_error *error)
{
    int32_t status;
    make_index_key(im, path, time);
    toykv_batch_clear(im->batch);
    status = toykv_batch_put(im->batch, NULL, path, strlen(path), im->content.data,
                             im->content.len, error);
    if (status < 0)
        return status;
    return toykv_batch_put(im->batch, NULL, im->index_key.data, im->index_key.len, path,
                           strlen(path), error);
}

/* Stores one file; takes the path over. */
static void store_file(struct import *im, char *path)
{
    toykv_error error = { .struct_size = sizeof error };
    struct stat st;
    int32_t status;
    double start;
    if (read_content(im, path, &st) != 0) {
        skip(im, path, strerror(errno));
        free(path);
        return;
    }
    start = now();
    status = fill_batch(im, path, change_time(&st), &error);
    if (status == TOYKV_ERR_TOO_LARGE) {
        skip(im, path, error.message);
        free(path);
        return;
    }
    check(status, "cannot batch", path, &error);
    check(toykv_write(im->db, im->batch, NULL, NULL, &error), "cannot store", path, &error);
    im->store_seconds += now() - start;
    im->files = grow(im->files, im->file_count, &im->file_capacity, sizeof *im->files);
    im->files[im->file_count++] =
        (struct file){ .path = path, .size = im->content.len, .time = change_time(&st) };
    im->byte_count += im->content.len;
    progress("stored", im->file_count, im->byte_count, 0);
}

/* A folder or file that a folder lists; takes the path over. */
static void visit(struct import *im, char *path, const struct stat *db_dir)
{
    struct stat st;
    if (fstatat(im->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        skip(im, path, strerror(errno));
    } else if (S_ISREG(st.st_mode)) {
        store_file(im, path);
        return;
    } else if (!S_ISDIR(st.st_mode)) {
        im->special++;
    } else if (st.st_dev != db_dir->st_dev || st.st_ino != db_dir->st_ino) {
        im->folders =
            grow(im->folders, im->folder_count, &im->folder_capacity, sizeof *im->folders);
        im->folders[im->folder_count++] = path;
        return;
    }
    free(path);
}

/* Everything that one folder lists. */
static void walk_folder(struct import *im, const char *folder, const struct stat *db_dir)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(im->dir_fd, *folder ? folder : ".", flags);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    if (!list) {
        skip(im, *folder ? folder : im->dir, strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    while (errno = 0, (entry = readdir(list)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            visit(im, join(folder, entry->d_name), db_dir);
    if (errno != 0)
        skip(im, *folder ? folder : im->dir, strerror(errno));
    closedir(list);
}

/* Opens the database: a new one, or the one that was just made. */
static void open_database(struct import *im, int create)
{
    toykv_error error = { .struct_size = sizeof error };
    toykv_options *options = toykv_options_new();
    const char *name = create ? "error_if_exists" : "create_if_missing";
    check(toykv_options_set(options, name, create ? "true" : "false", &error), "option", name,
          &error);
    check(toykv_open(im->db_path, options, &im->db, &error), "cannot open", im->db_path, &error);
    toykv_options_free(options);
}

static void close_database(struct import *im)
{
    toykv_error error = { .struct_size = sizeof error };
    check(toykv_close(im->db, &error), "cannot close", im->db_path, &error);
    toykv_free(im->db);
    im->db = NULL;
}

/* Walks DIR and stores; seconds until all of it is synced and the database closed. */
static double import_all(struct import *im)
{
    toykv_error error = { .struct_size = sizeof error };
    struct stat db_dir;
    double start = now(), sync_start;
    open_database(im, 1);
    if (stat(im->db_path, &db_dir) != 0)
        fail("cannot find", im->db_path, strerror(errno));
    im->batch = toykv_batch_new();
    walk_folder(im, "", &db_dir);
    while (im->folder_count > 0) {
        char *folder = im->folders[--im->folder_count];
        walk_folder(im, folder, &db_dir);
        free(folder);
    }
    toykv_batch_free(im->batch);
    sync_start = now();
    check(toykv_sync(im->db, &error), "cannot sync", im->db_path, &error);
    close_database(im);
    im->store_seconds += now() - sync_start;
    progress("stored", im->file_count, im->byte_count, 1);
    return now() - start;
}

/* --- Comparison --------------------------------------------------------------------------- */

/* Does the open file hold these bytes, and no more? -1 with errno when it cannot be read. */
static int same_content(int fd, const uint8_t *data, size_t len)
{
    static uint8_t chunk[CHUNK];
    size_t at = 0;
    ssize_t got;
    while ((got = read_some(fd, chunk, sizeof chunk)) > 0) {
        if ((size_t)got > len - at || memcmp(chunk, data + at, (size_t)got) != 0)
            return 0;
        at += (size_t)got;
    }
    return got < 0 ? -1 : at == len;
}

/* Looks one file up, and its index entry, and compares both. */
static void compare_file(struct import *im, const struct file *file)
{
    toykv_error error = { .struct_size = sizeof error };
    const char *path = file->path;
    size_t len = strlen(path);
    toykv_buf value = { 0 };
    struct stat st;
    int fd, same = -1;
    int32_t status = toykv_get(im->db, NULL, path, len, NULL, &value, &error);
    check(status, "cannot get", path, &error);
    if (status != TOYKV_OK)
        fail("mismatch", path, "was stored and is not found");
    if (value.len != file->size)
        fail("mismatch", path, "came back with another length");
    fd = open_file(im, path, &st);
    if (fd >= 0)
        same = same_content(fd, value.data, value.len);
    if (same < 0)
        skip(im, path, strerror(errno));
    else if (!same && change_time(&st) != file->time)
        skip(im, path, "changed since it was stored");
    else if (!same)
        fail("mismatch", path, "differs from the file");
    if (fd >= 0)
        close(fd);
    toykv_buf_free(&value);

    make_index_key(im, path, file->time);
    status = toykv_get(im->db, NULL, im->index_key.data, im->index_key.len, NULL, &value, &error);
    check(status, "cannot get the index entry of", path, &error);
    if (status != TOYKV_OK || value.len != len || memcmp(value.data, path, len) != 0)
        fail("mismatch", path, "its index entry is missing or names another file");
    toykv_buf_free(&value);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

/* Where in im->files, sorted, the paths with this prefix begin. */
static size_t find_prefix(const struct import *im, const char *prefix)
{
    size_t low = 0, high = im->file_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(im->files[middle].path, prefix) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Scans the files whose paths begin with `prefix`: exactly the expected ones, in order. */
static size_t scan_files(struct import *im, const char *prefix)
{
    toykv_error error = { .struct_size = sizeof error };
    toykv_iter_opts options = { .struct_size = sizeof options, .flags = TOYKV_RF_KEYS_ONLY };
    toykv_iter *iter = NULL;
    toykv_slice key, value;
    size_t len = strlen(prefix), first = find_prefix(im, prefix), at = first;
    int32_t status;
    options.prefix = (toykv_slice){ (const uint8_t *)prefix, len };
    options.lower = (toykv_slice){ (const uint8_t *)"\1", 1 }; /* behind the index */
    check(toykv_iter_new(im->db, NULL, &options, &iter, &error), "cannot scan", prefix, &error);
    while ((status = toykv_iter_next(iter, &key, &value, &error)) == TOYKV_OK) {
        const char *path = at < im->file_count ? im->files[at].path : "";
        if (key.len != strlen(path) || memcmp(key.data, path, key.len) != 0)
            fail_key("mismatch", key.data, key.len, "was not expected by the scan");
        at++;
    }
    check(status, "cannot scan", prefix, &error);
    toykv_iter_free(iter);
    if (at < im->file_count && strncmp(im->files[at].path, prefix, len) == 0)
        fail("mismatch", im->files[at].path, "the scan ended before it");
    return at - first;
}

/* Scans the index: one entry per file, ascending in time. */
static void scan_index(struct import *im)
{
    toykv_error error = { .struct_size = sizeof error };
    toykv_iter_opts options = { .struct_size = sizeof options };
    toykv_iter *iter = NULL;
    toykv_slice key, value;
    uint8_t previous[8] = { 0 };
    size_t count = 0;
    int32_t status;
    options.prefix = (toykv_slice){ (const uint8_t *)INDEX_PREFIX, INDEX_PREFIX_LEN };
    check(toykv_iter_new(im->db, NULL, &options, &iter, &error), "cannot scan", "index", &error);
    while ((status = toykv_iter_next(iter, &key, &value, &error)) == TOYKV_OK) {
        const uint8_t *time = key.data + INDEX_PREFIX_LEN;
        if (key.len < INDEX_PREFIX_LEN + 8 || memcmp(previous, time, 8) > 0)
            fail_key("mismatch", value.data, value.len, "out of order in the index");
        memcpy(previous, time, 8);
        count++;
    }
    check(status, "cannot scan", "index", &error);
    toykv_iter_free(iter);
    if (count != im->file_count)
        fail("mismatch", "index", "its scan did not find one entry for each file");
}

/* Scans every top folder on its own; how many there are. */
static size_t scan_folders(struct import *im)
{
    size_t folders = 0, at = 0;
    while (at < im->file_count) {
        const char *path = im->files[at].path, *slash = strchr(path, '/');
        size_t len = slash ? (size_t)(slash - path) + 1 : 0, count = 1;
        if (len > 0) {
            char *prefix = join("", path);
            prefix[len] = '\0';
            count = scan_files(im, prefix);
            free(prefix);
            folders++;
        }
        at += count;
    }
    return folders;
}

/* --- Report ------------------------------------------------------------------------------- */

/* Bytes that the files of the database occupy on disk. */
static uint64_t bytes_on_disk(const char *path)
{
    uint64_t total = 0;
    struct dirent *entry;
    DIR *list = opendir(path);
    if (!list)
        fail("cannot list", path, strerror(errno));
    while ((entry = readdir(list)) != NULL) {
        struct stat st;
        if (fstatat(dirfd(list), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode))
            total += (uint64_t)st.st_blocks * 512;
    }
    closedir(list);
    return total;
}

static void compare_all(struct import *im, const char *prefix)
{
    toykv_error error = { .struct_size = sizeof error };
    uint64_t count = 0, bytes = 0;
    double start = now(), seconds;
    size_t folders;
    open_database(im, 0);
    for (size_t i = 0; i < im->file_count; i++) {
        compare_file(im, &im->files[i]);
        progress("compared", i + 1, bytes += im->files[i].size, 0);
    }
    seconds = now() - start;
    progress("compared", im->file_count, bytes, 1);
    check(toykv_len(im->db, NULL, &count, &error), "cannot count", im->db_path, &error);
    if (count != 2 * (uint64_t)im->file_count)
        fail("mismatch", im->db_path, "counts another number of entries");
    qsort(im->files, im->file_count, sizeof *im->files, by_path);
    scan_files(im, "");
    scan_index(im);
    folders = scan_folders(im);
    printf("out        %.1f MB/s: %.2f s to open, look up and compare with the files\n",
           (double)bytes / 1e6 / seconds, seconds);
    printf("scans      all files, their index and %zu top folders: every key and count right\n",
           folders);
    if (prefix)
        printf("prefix     %zu files begin with %s\n", scan_files(im, prefix), prefix);
    close_database(im);
}

int main(int argc, char **argv)
{
    struct import im = { .dir_fd = -1 };
    uint64_t disk;
    double seconds;
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: %s DIR DB [PREFIX]\n", argv[0]);
        return 2;
    }
    im.dir = argv[1];
    im.db_path = argv[2];
    im.dir_fd = open(im.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (im.dir_fd < 0)
        fail("cannot open", im.dir, strerror(errno));
    seconds = import_all(&im);
    printf("files      %zu, and as many entries in the index by time of change\n", im.file_count);
    printf("bytes      %" PRIu64 "\n", im.byte_count);
    printf("in         %.1f MB/s: %.2f s to read, store and sync; toykv's part %.2f s, %.1f MB/s\n",
           (double)im.byte_count / 1e6 / seconds, seconds, im.store_seconds,
           (double)im.byte_count / 1e6 / im.store_seconds);
    compare_all(&im, argc == 4 ? argv[3] : NULL);
    disk = bytes_on_disk(im.db_path);
    printf("on disk    %" PRIu64 " bytes, %.2f times the content\n", disk,
           im.byte_count ? (double)disk / (double)im.byte_count : 0.0);
    printf("left out   %" PRIu64 " unreadable or changing files; %" PRIu64
           " links and other special files\n",
           im.skipped, im.special);
    for (size_t i = 0; i < im.file_count; i++)
        free(im.files[i].path);
    free(im.files);
    free(im.folders);
    free(im.content.data);
    free(im.index_key.data);
    close(im.dir_fd);
    return EXIT_SUCCESS;
}
