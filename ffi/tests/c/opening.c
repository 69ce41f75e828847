/* Opening what is not there, not ours, not whole, not allowed or in use: a clear status, a message
 * that names the thing, and a directory that stays as it was.
 *
 *   opening make DIR            a database in DIR/future, for somebody to change
 *   opening check DIR           everything; DIR/future has a manifest of a later format by now
 *   opening second-opener PATH  tries to open a database that another process has open */
#include "check.h"
#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGE 5000

/* --- Directories ------------------------------------------------------------------------------ */

static unsigned char *read_file(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes;
    CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
    *len = (size_t)ftell(file);
    rewind(file);
    bytes = malloc(*len + 1);
    CHECK(bytes != NULL && fread(bytes, 1, *len, file) == *len);
    fclose(file);
    return bytes;
}

static void write_file(const char *path, const void *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fwrite(bytes, 1, len, file) == len && fclose(file) == 0);
}

static uint64_t fold(uint64_t hash, const void *bytes, size_t len)
{
    const unsigned char *byte = bytes;
    while (len-- > 0)
        hash = (hash ^ *byte++) * 0x100000001B3u;
    return hash;
}

/* A number that changes with any name and byte in a directory, whatever the order. What LOCK says
 * does not count: it names the last process that tried, for the message of the next. */
static uint64_t fingerprint(const char *dir)
{
    DIR *stream = opendir(dir);
    struct dirent *entry;
    uint64_t sum = 0, hash;
    unsigned char *bytes;
    size_t len;
    CHECK(stream != NULL);
    while ((entry = readdir(stream)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        hash = fold(14695981039346656037u, entry->d_name, strlen(entry->d_name));
        if (strcmp(entry->d_name, "LOCK") != 0) {
            bytes = read_file(in_dir(dir, entry->d_name), &len);
            hash = fold(hash, bytes, len);
            free(bytes);
        }
        sum += hash;
    }
    closedir(stream);
    return sum;
}

static size_t count_entries(const char *dir)
{
    DIR *stream = opendir(dir);
    size_t count = 0;
    CHECK(stream != NULL);
    while (readdir(stream) != NULL)
        count++;
    closedir(stream);
    return count - 2;
}

/* The first file in a directory whose name has this in it, as a path. */
static const char *find(const char *dir, const char *part)
{
    char name[256] = "~";
    DIR *stream = opendir(dir);
    struct dirent *entry;
    CHECK(stream != NULL);
    while ((entry = readdir(stream)) != NULL)
        if (strstr(entry->d_name, part) != NULL && strcmp(entry->d_name, name) < 0)
            strcpy(name, entry->d_name);
    closedir(stream);
    CHECK(name[0] != '~');
    return in_dir(dir, name);
}

/* The number in a file's name. */
static uint64_t number_of(const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    while (*name < '0' || *name > '9')
        name++;
    return strtoull(name, NULL, 10);
}

static void copy_dir(const char *from, const char *to)
{
    DIR *stream = opendir(from);
    struct dirent *entry;
    unsigned char *bytes;
    size_t len;
    CHECK(stream != NULL && mkdir(to, 0755) == 0);
    while ((entry = readdir(stream)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        bytes = read_file(in_dir(from, entry->d_name), &len);
        write_file(in_dir(to, entry->d_name), bytes, len);
        free(bytes);
    }
    closedir(stream);
}

/* --- Expectations ----------------------------------------------------------------------------- */

/* An open that fails like this, with these words. */
static void refused(int32_t status, const char *path, const char *option, const char *words)
{
    toykv *db = (toykv *)&db;
    if (option == NULL)
        WANT(status, toykv_open(path, NULL, &db, &err));
    else
        WANT(status, open_with(path, option, option[0] == 'c' ? "false" : "true", &db));
    CHECK(db == NULL);
    SAYS(words);
}

/* As refused, of a directory that nobody has open; not a byte in it changes. */
static void fails(int32_t status, const char *path, const char *option, const char *words)
{
    struct stat info;
    int is_dir = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    uint64_t before = is_dir ? fingerprint(path) : 0;
    refused(status, path, option, words);
    if (is_dir)
        CHECK(fingerprint(path) == before);
}

/* Fills a database so that it has tables, large values in segments, and a log. */
static void fill(const char *path)
{
    static char large[LARGE];
    toykv *db = open_db(path);
    char key[16];
    int i;
    memset(large, 'L', LARGE);
    for (i = 0; i < 500; i++) {
        sprintf(key, "key %d", i);
        put(db, key, "value");
        WANT(TOYKV_OK, toykv_put(db, NULL, key, 3 + i % 3, large, LARGE, NULL, &err));
        if (i % 250 == 249)
            WANT(TOYKV_OK, toykv_flush(db, &err));
    }
    put(db, "only in the log", "value");
    close_db(db);
}

/* --- Cases ------------------------------------------------------------------------------------ */

static void nothing_there(const char *dir)
{
    char longest[5000];
    struct stat info;
    const char *path = in_dir(dir, "absent");
    const char *deep = in_dir(dir, "absent/deep");
    const char *empty = in_dir(dir, "empty");
    const char *file = in_dir(dir, "file");
    toykv *db;
    fails(TOYKV_ERR_INVALID, "", NULL, "path is empty");
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    fails(TOYKV_ERR_INVALID, longest, NULL, "path is longer");
    WANT(TOYKV_ERR_INVALID, toykv_open(NULL, NULL, &db, &err));
    SAYS("path is NULL");
    WANT(TOYKV_ERR_INVALID, toykv_open(path, NULL, NULL, &err));
    SAYS("out is NULL");

    fails(TOYKV_ERR_NO_SUCH, path, "create_if_missing", path);
    fails(TOYKV_ERR_NO_SUCH, path, "read_only", path);
    CHECK(stat(path, &info) == -1);
    WANT(TOYKV_ERR_NO_SUCH, toykv_destroy(path, &err));
    SAYS(path);
    fails(TOYKV_ERR_IO, deep, NULL, deep);
    CHECK(err.os_errno == 2 && stat(path, &info) == -1);

    CHECK(mkdir(empty, 0755) == 0);
    fails(TOYKV_ERR_NO_SUCH, empty, "create_if_missing", empty);
    fails(TOYKV_ERR_NO_SUCH, empty, "read_only", empty);
    WANT(TOYKV_ERR_NO_SUCH, toykv_destroy(empty, &err));
    CHECK(count_entries(empty) == 0);
    close_db(open_db(empty));
    WANT(TOYKV_OK, toykv_destroy(empty, &err));
    CHECK(stat(empty, &info) == -1);

    write_file(file, "text", 4);
    fails(TOYKV_ERR_INVALID, file, NULL, file);
    SAYS("not a directory");
    fails(TOYKV_ERR_INVALID, file, "read_only", file);
    CHECK(stat(file, &info) == 0 && info.st_size == 4);
}

static void options_that_refuse(const char *path)
{
    toykv *db;
    uint64_t before;
    fails(TOYKV_ERR_EXISTS, path, "error_if_exists", path);
    before = fingerprint(path);
    WANT(TOYKV_OK, open_with(path, "read_only", "true", &db));
    WANT(TOYKV_OK, toykv_contains(db, NULL, S("only in the log"), NULL, &err));
    WANT(TOYKV_ERR_READ_ONLY, toykv_put(db, NULL, S("k"), S("v"), NULL, &err));
    WANT(TOYKV_ERR_READ_ONLY, toykv_flush(db, &err));
    WANT(TOYKV_ERR_READ_ONLY, toykv_pop_first(db, NULL, NULL, NULL, NULL, &err));
    close_db(db);
    CHECK(fingerprint(path) == before);
    WANT(TOYKV_ERR_INVALID, open_with(path, "memtable_size_bytes", "1", &db));
    SAYS("memtable_size_bytes");
    CHECK(db == NULL);
}

static void run_child(pid_t child)
{
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void second_openers(const char *program, const char *path)
{
    toykv *db = open_db(path), *second;
    char pid[32];
    pid_t child;
    put(db, "k", "v");
    sprintf(pid, "process %ld", (long)getpid());
    refused(TOYKV_ERR_LOCKED, path, NULL, pid);
    CHECK(err.flags == TOYKV_EF_RETRYABLE);
    SAYS("LOCK");
    refused(TOYKV_ERR_LOCKED, path, "read_only", pid);
    WANT(TOYKV_ERR_LOCKED, toykv_destroy(path, &err));
    child = fork();
    if (child == 0) {
        execl(program, program, "second-opener", path, (char *)NULL);
        _exit(9);
    }
    run_child(child);
    put(db, "k", "w");
    close_db(db);

    /* Several may read; then nobody may write. */
    WANT(TOYKV_OK, open_with(path, "read_only", "true", &db));
    WANT(TOYKV_OK, open_with(path, "read_only", "true", &second));
    refused(TOYKV_ERR_LOCKED, path, NULL, "LOCK");
    close_db(second);
    close_db(db);
    close_db(open_db(path));
}

static int second_opener(const char *path)
{
    char pid[32];
    sprintf(pid, "process %ld", (long)getppid());
    refused(TOYKV_ERR_LOCKED, path, NULL, pid);
    refused(TOYKV_ERR_LOCKED, path, "read_only", pid);
    WANT(TOYKV_ERR_LOCKED, toykv_destroy(path, &err));
    return 0;
}

/* As somebody who may read the directory and not write it. */
static void without_permission(const char *dir, const char *path)
{
    const char *closed = in_dir(dir, "closed");
    struct stat info;
    toykv *db;
    pid_t child;
    CHECK(mkdir(closed, 0755) == 0 && chmod(path, 0555) == 0 && chmod(closed, 0555) == 0);
    child = fork();
    if (child == 0) {
        if (geteuid() == 0)
            CHECK(setegid(65534) == 0 && seteuid(65534) == 0);
        CHECK(access(path, X_OK) == 0);
        fails(TOYKV_ERR_READ_ONLY, in_dir(closed, "new"), NULL, in_dir(closed, "new"));
        CHECK(err.os_errno == 13);
        fails(TOYKV_ERR_READ_ONLY, closed, NULL, closed);
        if (stat(in_dir(path, "LOCK"), &info) == 0 && info.st_uid != geteuid())
            fails(TOYKV_ERR_READ_ONLY, path, NULL, "LOCK");
        WANT(TOYKV_OK, open_with(path, "read_only", "true", &db));
        WANT(TOYKV_OK, toykv_contains(db, NULL, S("key 7"), NULL, &err));
        close_db(db);
        /* Not exit: a search for leaks needs the rights that are gone. */
        _exit(0);
    }
    run_child(child);
    CHECK(chmod(path, 0755) == 0 && count_entries(closed) == 0);
}

static void foreign_files(const char *dir, const char *path)
{
    const char *strange = in_dir(dir, "strange"), *mixed = in_dir(dir, "mixed");
    uint64_t before;
    toykv *db;
    CHECK(mkdir(strange, 0755) == 0);
    write_file(in_dir(strange, "letters.txt"), "text", 4);
    fails(TOYKV_ERR_INVALID, strange, NULL, "letters.txt");
    SAYS(strange);
    fails(TOYKV_ERR_NO_SUCH, strange, "create_if_missing", strange);
    WANT(TOYKV_ERR_NO_SUCH, toykv_destroy(strange, &err));
    CHECK(count_entries(strange) == 1);

    copy_dir(path, mixed);
    write_file(in_dir(mixed, "letters.txt"), "text", 4);
    write_file(in_dir(mixed, "12.table"), "text", 4);
    db = open_db(mixed);
    WANT(TOYKV_OK, toykv_contains(db, NULL, S("key 7"), NULL, &err));
    WANT(TOYKV_OK, toykv_compact(db, NULL, NULL, NULL, &err));
    close_db(db);
    WANT(TOYKV_OK, toykv_destroy(mixed, &err));
    CHECK(count_entries(mixed) == 2);
    before = fingerprint(mixed);
    WANT(TOYKV_ERR_NO_SUCH, toykv_destroy(mixed, &err));
    CHECK(fingerprint(mixed) == before);
}

static void later_format(const char *path)
{
    fails(TOYKV_ERR_FORMAT, path, NULL, "format version 2");
    SAYS("supports 1");
    CHECK(err.file_number == number_of(find(path, "MANIFEST-")) && err.file_offset == 8);
    fails(TOYKV_ERR_FORMAT, path, "read_only", "MANIFEST-");
}

/* A copy of the database with one file changed: an open that fails and names it. */
static const char *damaged(const char *dir, const char *path, const char *part, const char **file)
{
    static int turn;
    char name[32];
    const char *copy;
    sprintf(name, "damaged %d", turn++);
    copy = in_dir(dir, name);
    copy_dir(path, copy);
    *file = find(copy, part);
    return copy;
}

static void file_is_named(const char *file)
{
    SAYS(strrchr(file, '/') + 1);
    CHECK(err.file_number == number_of(file) && err.flags == TOYKV_EF_DATA_LOSS);
    CHECK(err.file_offset != UINT64_MAX);
}

static void damage(const char *dir, const char *path)
{
    static const char *parts[] = { ".table", ".vlog", "MANIFEST-" };
    const char *copy, *file;
    unsigned char *bytes;
    size_t len, i;
    toykv *db;
    toykv_iter *it;
    toykv_slice key, value;
    int32_t status;
    for (i = 0; i < 3; i++) {
        copy = damaged(dir, path, parts[i], &file);
        CHECK(unlink(file) == 0);
        fails(TOYKV_ERR_CORRUPTION, copy, NULL, "missing");
        file_is_named(file);
        fails(TOYKV_ERR_CORRUPTION, copy, "read_only", "missing");

        copy = damaged(dir, path, parts[i], &file);
        bytes = read_file(file, &len);
        write_file(file, bytes, len - 1);
        fails(TOYKV_ERR_CORRUPTION, copy, NULL, "");
        file_is_named(file);
        write_file(file, bytes, 0);
        fails(TOYKV_ERR_CORRUPTION, copy, NULL, "");
        file_is_named(file);
        bytes[0] ^= 1;
        write_file(file, bytes, len);
        if (i > 0)
            fails(TOYKV_ERR_CORRUPTION, copy, NULL, "");
        free(bytes);
    }
    /* Damage inside a table is found where it is read, and the iterator stays there. */
    copy = damaged(dir, path, ".table", &file);
    bytes = read_file(file, &len);
    memset(bytes + 100, 0x55, 8);
    write_file(file, bytes, len);
    free(bytes);
    db = open_db(copy);
    WANT(TOYKV_OK, toykv_iter_new(db, NULL, NULL, &it, &err));
    while ((status = toykv_iter_next(it, &key, &value, &err)) == TOYKV_OK)
        CHECK(key.len > 0);
    WANT(TOYKV_ERR_CORRUPTION, status);
    file_is_named(file);
    WANT(TOYKV_ERR_CORRUPTION, toykv_iter_next(it, &key, &value, &err));
    WANT(TOYKV_ERR_CORRUPTION, toykv_iter_prev(it, &key, &value, &err));
    CHECK(key.data == NULL && value.data == NULL);
    toykv_iter_free(it);
    close_db(db);

    copy = damaged(dir, path, "CURRENT", &file);
    CHECK(unlink(file) == 0);
    fails(TOYKV_ERR_CORRUPTION, copy, NULL, "CURRENT");
    CHECK(err.file_number == UINT64_MAX);
    fails(TOYKV_ERR_CORRUPTION, copy, "create_if_missing", "CURRENT");
    write_file(file, "MANIFEST-999999\n", 16);
    fails(TOYKV_ERR_CORRUPTION, copy, NULL, "CURRENT");
    write_file(file, "", 0);
    fails(TOYKV_ERR_CORRUPTION, copy, NULL, "CURRENT");
    CHECK(unlink(file) == 0 && mkdir(file, 0755) == 0);
    WANT(TOYKV_ERR_CORRUPTION, toykv_open(copy, NULL, &db, &err));
    SAYS("CURRENT");
}

/* A path that leaves no room for the message: then the message goes without it. */
static void long_paths(const char *dir)
{
    char name[256];
    const char *path;
    memset(name, 'n', 250);
    name[250] = '\0';
    path = in_dir(dir, name);
    WANT(TOYKV_ERR_NO_SUCH, toykv_destroy(path, &err));
    CHECK(strlen(err.message) == TOYKV_MESSAGE_SIZE - 1);
    fill(path);
    CHECK(unlink(find(path, ".table")) == 0);
    fails(TOYKV_ERR_CORRUPTION, path, NULL, ".table");
    SAYS("missing");
}

int main(int argc, char **argv)
{
    const char *path;
    CHECK(argc == 3);
    umask(022);
    if (strcmp(argv[1], "second-opener") == 0)
        return second_opener(argv[2]);
    if (strcmp(argv[1], "make") == 0) {
        fill(in_dir(argv[2], "future"));
        return 0;
    }
    later_format(in_dir(argv[2], "future"));
    path = in_dir(argv[2], "sound");
    fill(path);
    nothing_there(argv[2]);
    options_that_refuse(path);
    second_openers(argv[0], path);
    without_permission(argv[2], path);
    foreign_files(argv[2], path);
    damage(argv[2], path);
    long_paths(argv[2]);
    return 0;
}
