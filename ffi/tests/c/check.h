/* What the test programs share: checks that name their place, and short ways to say bytes.
 *
 * A program prints nothing and ends with 0 when all is well; a failed check says where and ends
 * with 1. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <toykv.h>

/* The error of the last call, for WANT and SAYS. */
static toykv_error err = { .struct_size = sizeof(toykv_error) };

#define CHECK(condition) \
    do { \
        if (!(condition)) \
            fail(__FILE__, __LINE__, #condition); \
    } while (0)

/* The call, which was given &err, answers this status; an error is described in err. */
#define WANT(status, call) want(__FILE__, __LINE__, #call, (status), (call))

/* The error of the last WANT names this. */
#define SAYS(text) says(__FILE__, __LINE__, (text))

/* A text as pointer and length, and as a slice. */
#define S(text) (text), (sizeof(text) - 1)
#define SLICE(text) ((toykv_slice){ (const uint8_t *)(text), sizeof(text) - 1 })
#define IS(slice, text) \
    ((slice).len == sizeof(text) - 1 && memcmp((slice).data, (text), sizeof(text) - 1) == 0)

static inline void fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(1);
}

static inline void want(const char *file, int line, const char *what, int32_t wanted, int32_t found)
{
    if (found != wanted) {
        fprintf(stderr, "%s:%d: %s: %d (%s), not %d\n%s\n", file, line, what, (int)found,
                toykv_strerror(found), (int)wanted, found < 0 ? err.message : "");
        exit(1);
    }
    if (found < 0) {
        if (err.code != found || err.message[0] == '\0' || err.struct_size != sizeof err)
            fail(file, line, "the error is not described");
        err.code = 0;
    } else if (err.code != 0) {
        fail(file, line, "an error is described where there was none");
    }
}

static inline void says(const char *file, int line, const char *text)
{
    if (strstr(err.message, text) == NULL) {
        fprintf(stderr, "%s:%d: \"%s\" does not say \"%s\"\n", file, line, err.message, text);
        exit(1);
    }
}

/* dir/name; stays until the program ends. */
static inline const char *in_dir(const char *dir, const char *name)
{
    static char *kept[4096];
    static size_t count;
    char *path = malloc(strlen(dir) + strlen(name) + 2);
    CHECK(path != NULL && count < sizeof kept / sizeof kept[0]);
    sprintf(path, "%s/%s", dir, name);
    return kept[count++] = path;
}

/* Opens with default options. */
static inline toykv *open_db(const char *path)
{
    toykv *db = NULL;
    WANT(TOYKV_OK, toykv_open(path, NULL, &db, &err));
    CHECK(db != NULL);
    return db;
}

/* Opens with one option set. */
static inline int32_t open_with(const char *path, const char *name, const char *value, toykv **db)
{
    toykv_options *options = toykv_options_new();
    int32_t status;
    WANT(TOYKV_OK, toykv_options_set(options, name, value, &err));
    status = toykv_open(path, options, db, &err);
    toykv_options_free(options);
    return status;
}

static inline void close_db(toykv *db)
{
    WANT(TOYKV_OK, toykv_close(db, &err));
    toykv_free(db);
}

static inline void put(toykv *db, const char *key, const char *value)
{
    WANT(TOYKV_OK, toykv_put(db, NULL, key, strlen(key), value, strlen(value), NULL, &err));
}

#endif
