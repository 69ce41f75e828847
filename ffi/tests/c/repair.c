/* Damage: verify, scrub and salvage of databases that are intact, damaged, open: repair DIR */
#include "check.h"

#include <dirent.h>
#include <sys/types.h>

enum { SMALL = 400, LARGE = 3000, FILES = 32 };

/* --- The files of a directory ----------------------------------------------------------------- */

typedef struct file {
    char name[64];
    unsigned char *bytes;
    size_t len;
} file;

static file read_file(const char *dir, const char *name)
{
    file found;
    FILE *stream = fopen(in_dir(dir, name), "rb");
    CHECK(stream != NULL && strlen(name) < sizeof found.name);
    strcpy(found.name, name);
    CHECK(fseek(stream, 0, SEEK_END) == 0);
    found.len = (size_t)ftell(stream);
    rewind(stream);
    found.bytes = malloc(found.len + 1);
    CHECK(found.bytes != NULL && fread(found.bytes, 1, found.len, stream) == found.len);
    fclose(stream);
    return found;
}

/* All files but LOCK, which says who has opened the database last. */
static size_t read_files(const char *dir, file *files)
{
    DIR *entries = opendir(dir);
    struct dirent *entry;
    size_t count = 0;
    CHECK(entries != NULL);
    while ((entry = readdir(entries)) != NULL) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "LOCK") == 0)
            continue;
        CHECK(count < FILES);
        files[count++] = read_file(dir, entry->d_name);
    }
    closedir(entries);
    return count;
}

static void free_files(file *files, size_t count)
{
    while (count > 0)
        free(files[--count].bytes);
}

/* Where the value lies in a file; SIZE_MAX if it does not. */
static size_t find(const file *found, const unsigned char *value, size_t len)
{
    size_t at;
    for (at = 0; at + len <= found->len; at++) {
        if (memcmp(found->bytes + at, value, len) == 0)
            return at;
    }
    return SIZE_MAX;
}

/* Flips a bit in the middle of a value, in the file with this ending. Answers the file's name, and
 * where the value begins. */
static const char *damage(const char *dir, const char *ending, const unsigned char *value,
                          size_t len, size_t *at)
{
    static char name[64];
    file files[FILES];
    size_t i, count = read_files(dir, files);
    FILE *stream;
    for (i = 0; i < count; i++) {
        *at = find(&files[i], value, len);
        if (*at != SIZE_MAX && strstr(files[i].name, ending) != NULL)
            break;
    }
    CHECK(i < count);
    strcpy(name, files[i].name);
    stream = fopen(in_dir(dir, name), "r+b");
    CHECK(stream != NULL && fseek(stream, (long)(*at + len / 2), SEEK_SET) == 0);
    CHECK(fputc(files[i].bytes[*at + len / 2] ^ 4, stream) != EOF && fclose(stream) == 0);
    free_files(files, count);
    return name;
}

/* --- What is stored --------------------------------------------------------------------------- */

static void small_value(int number, char *key, char *value)
{
    sprintf(key, "key%03d", number);
    sprintf(value, "%08x%08x%08x%08x%08x", number * 2654435761u, number * 40503u, number * 69069u,
            number * 1597334677u, number * 1103515245u);
}

static void large_value(int number, unsigned char *value)
{
    unsigned state = 77u + (unsigned)number;
    size_t i;
    for (i = 0; i < LARGE; i++) {
        state = state * 1103515245u + 12345u;
        value[i] = (unsigned char)(state >> 16);
    }
}

static void fill(toykv *db)
{
    unsigned char large[LARGE];
    char key[24], value[64];
    int number;
    for (number = 0; number < SMALL; number++) {
        small_value(number, key, value);
        put(db, key, value);
    }
    for (number = 0; number < 3; number++) {
        large_value(number, large);
        sprintf(key, "large%d", number);
        WANT(TOYKV_OK, toykv_put(db, NULL, key, strlen(key), large, LARGE, NULL, &err));
    }
    WANT(TOYKV_OK, toykv_compact(db, NULL, NULL, NULL, &err));
}

/* Compares all that `path` has with what was stored; answers how many keys are not there. */
static int missing(const char *path, const char *least, const char *most)
{
    toykv *db = open_db(path);
    unsigned char large[LARGE];
    char key[24], value[64];
    toykv_buf buf;
    uint64_t count;
    int number, gone = 0;
    for (number = 0; number < SMALL + 3; number++) {
        int32_t status;
        if (number < SMALL) {
            small_value(number, key, value);
        } else {
            large_value(number - SMALL, large);
            sprintf(key, "large%d", number - SMALL);
        }
        status = toykv_get(db, NULL, key, strlen(key), NULL, &buf, &err);
        if (status == TOYKV_NOT_FOUND) {
            CHECK(strcmp(key, least) >= 0 && strcmp(key, most) <= 0);
            gone++;
            continue;
        }
        WANT(TOYKV_OK, status);
        CHECK(number < SMALL ? buf.len == 40 && memcmp(buf.data, value, 40) == 0
                             : buf.len == LARGE && memcmp(buf.data, large, LARGE) == 0);
        toykv_buf_free(&buf);
    }
    WANT(TOYKV_OK, toykv_len(db, NULL, &count, &err));
    CHECK(count == (uint64_t)(SMALL + 3 - gone));
    close_db(db);
    return gone;
}

/* --- What is told ----------------------------------------------------------------------------- */

typedef struct told {
    const char *dir, *file;
    uint64_t findings, records, offset, calls;
    char first[16], last[16];
    toykv *db;
} told;

/* The finding that has keys is kept; every one is about the file. */
static void on_finding(void *arg, const toykv_finding *finding)
{
    told *told = arg;
    CHECK(strcmp(finding->path, in_dir(told->dir, told->file)) == 0);
    CHECK(finding->what[0] != '\0');
    told->findings++;
    if (finding->first_key.data == NULL)
        return;
    CHECK(finding->last_key.data != NULL);
    CHECK(finding->first_key.len < 16 && finding->last_key.len < 16);
    memset(told->first, 0, 16);
    memset(told->last, 0, 16);
    memcpy(told->first, finding->first_key.data, finding->first_key.len);
    memcpy(told->last, finding->last_key.data, finding->last_key.len);
    told->offset = finding->offset;
    told->records = finding->records;
}

static int32_t on_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    told *told = arg;
    CHECK(done_bytes <= total_bytes);
    told->calls++;
    if (told->db != NULL) {
        WANT(TOYKV_OK, toykv_contains(told->db, NULL, S("key001"), NULL, &err));
        WANT(TOYKV_ERR_MISUSE, toykv_close(told->db, &err));
    }
    return 0;
}

static int32_t cancel(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)arg, (void)done_bytes, (void)total_bytes;
    return 7;
}

/* --- The tests -------------------------------------------------------------------------------- */

static void intact(const char *dir, const char *saved)
{
    toykv_report report = { 7, 7, 7, 7, 7 };
    told told = { .dir = dir, .file = "" };
    toykv *db = open_db(dir);
    fill(db);
    told.db = db;
    WANT(TOYKV_OK, toykv_scrub(db, 0, on_finding, on_progress, &told, &report, &err));
    CHECK(report.findings == 0 && report.records >= SMALL + 3 && told.calls > 0);
    CHECK(report.files >= 2 && report.bytes > 3 * LARGE && report.omitted_findings == 0);
    WANT(TOYKV_OK, toykv_scrub(db, 0, NULL, NULL, NULL, NULL, &err));
    WANT(TOYKV_ERR_CANCELLED, toykv_scrub(db, 1, on_finding, cancel, &told, &report, &err));
    CHECK(report.files == 0 && report.bytes == 0 && report.records == 0);
    WANT(TOYKV_ERR_LOCKED, toykv_verify(dir, on_finding, NULL, &told, &report, &err));
    WANT(TOYKV_ERR_LOCKED, toykv_salvage(dir, saved, NULL, NULL, NULL, NULL, NULL, &err));
    close_db(db);
    WANT(TOYKV_ERR_MISUSE, toykv_scrub(db, 0, NULL, NULL, NULL, NULL, &err));

    told.db = NULL;
    told.calls = 0;
    WANT(TOYKV_OK, toykv_verify(dir, on_finding, on_progress, &told, &report, &err));
    CHECK(report.findings == 0 && report.records >= SMALL + 3 && told.calls > 0);
    WANT(TOYKV_OK, toykv_verify(dir, NULL, NULL, NULL, NULL, &err));
    WANT(TOYKV_ERR_CANCELLED, toykv_verify(dir, on_finding, cancel, NULL, &report, &err));
    WANT(TOYKV_ERR_EXISTS, toykv_salvage(dir, dir, NULL, NULL, NULL, NULL, NULL, &err));
    WANT(TOYKV_OK, toykv_salvage(dir, saved, NULL, on_finding, on_progress, &told, &report, &err));
    CHECK(report.findings == 0 && report.records == SMALL + 3 && told.findings == 0);
    CHECK(missing(saved, "", "") == 0);
}

/* The damaged file, as verify, scrub and salvage tell of it; what is outside of it is saved, and
 * the source stays as it is, byte for byte. Answers what salvage told. */
static told judge(const char *dir, const char *saved, const char *name)
{
    toykv_report report;
    told verified = { .dir = dir, .file = name }, salvaged = verified;
    file before[FILES], after[FILES];
    size_t i, count = read_files(dir, before);
    WANT(TOYKV_OK, toykv_verify(dir, on_finding, on_progress, &verified, &report, &err));
    CHECK(report.findings == verified.findings && report.findings > 0);
    CHECK(report.records + verified.records == SMALL + 3 || verified.records == 1);
    WANT(TOYKV_OK,
         toykv_salvage(dir, saved, NULL, on_finding, on_progress, &salvaged, &report, &err));
    CHECK(report.findings == salvaged.findings && report.findings > 0);
    CHECK(report.records == SMALL + 3 - verified.records);
    CHECK(read_files(dir, after) == count);
    for (i = 0; i < count; i++) {
        CHECK(strcmp(before[i].name, after[i].name) == 0 && before[i].len == after[i].len);
        CHECK(memcmp(before[i].bytes, after[i].bytes, before[i].len) == 0);
    }
    free_files(before, count);
    free_files(after, count);
    CHECK(missing(saved, verified.first, verified.last) == (int)verified.records);
    return verified;
}

static void damaged_value(const char *dir, const char *saved)
{
    unsigned char value[LARGE];
    size_t at;
    told told;
    toykv *db = open_db(dir);
    fill(db);
    close_db(db);
    large_value(1, value);
    told = judge(dir, saved, damage(dir, ".vlog", value, LARGE, &at));
    CHECK(strcmp(told.first, "large1") == 0 && strcmp(told.last, "large1") == 0);
    CHECK(told.records == 1);
    /* The record begins a little before its value. */
    CHECK(told.offset < at && told.offset + 64 > at);
}

static void damaged_block(const char *dir, const char *saved)
{
    char key[24], value[64];
    const char *name;
    size_t at;
    told told;
    toykv_report report;
    toykv *db = open_db(dir);
    fill(db);
    small_value(200, key, value);
    name = damage(dir, ".table", (unsigned char *)value, strlen(value), &at);
    /* Also while the database is open. */
    memset(&told, 0, sizeof told);
    told.dir = dir;
    told.file = name;
    WANT(TOYKV_OK, toykv_scrub(db, 0, on_finding, NULL, &told, &report, &err));
    CHECK(told.findings > 0 && told.offset <= at);
    close_db(db);
    told = judge(dir, saved, name);
    CHECK(told.offset <= at && told.records > 1 && told.records < SMALL);
    CHECK(strcmp(told.first, key) <= 0 && strcmp(told.last, key) >= 0);
}

static void refusals(const char *dir)
{
    toykv_report report;
    const char *none = in_dir(dir, "none");
    WANT(TOYKV_ERR_INVALID, toykv_verify(NULL, NULL, NULL, NULL, &report, &err));
    WANT(TOYKV_ERR_INVALID, toykv_salvage(dir, NULL, NULL, NULL, NULL, NULL, &report, &err));
    WANT(TOYKV_ERR_NO_SUCH, toykv_verify(none, NULL, NULL, NULL, &report, &err));
    SAYS("none");
    WANT(TOYKV_ERR_NO_SUCH, toykv_verify(dir, NULL, NULL, NULL, &report, &err));
    WANT(TOYKV_ERR_NO_SUCH, toykv_salvage(none, dir, NULL, NULL, NULL, NULL, &report, &err));
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    refusals(argv[1]);
    intact(in_dir(argv[1], "intact"), in_dir(argv[1], "saved"));
    damaged_value(in_dir(argv[1], "value"), in_dir(argv[1], "value.saved"));
    damaged_block(in_dir(argv[1], "block"), in_dir(argv[1], "block.saved"));
    return 0;
}
