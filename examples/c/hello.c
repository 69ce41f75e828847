/* The small program of the README in C: hello [DIRECTORY] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <toykv.h>

static toykv_error error = { .struct_size = sizeof error };

static void check(int32_t status)
{
    if (status < 0) {
        fprintf(stderr, "hello: %s\n", error.message);
        exit(1);
    }
}

static void put(toykv *db, const char *key, const char *value)
{
    check(toykv_put(db, NULL, key, strlen(key), value, strlen(value), NULL, &error));
}

static void print(toykv *db, const char *key)
{
    toykv_buf value;
    check(toykv_get(db, NULL, key, strlen(key), NULL, &value, &error));
    printf("%s = %.*s\n", key, (int)value.len, (const char *)value.data);
    toykv_buf_free(&value);
}

int main(int argc, char **argv)
{
    toykv_iter_opts fruit = { .struct_size = sizeof fruit, .prefix = { (const uint8_t *)"b", 1 } };
    toykv_batch *batch = toykv_batch_new();
    toykv_slice key, value;
    toykv_iter *iter;
    uint64_t count;
    int32_t status;
    toykv *db;
    check(toykv_open(argc > 1 ? argv[1] : "hello.db", NULL, &db, &error));

    put(db, "apple", "red");
    put(db, "cherry", "dark red");
    check(toykv_batch_put(batch, NULL, "banana", 6, "yellow", 6, &error));
    check(toykv_batch_put(batch, NULL, "blueberry", 9, "blue", 4, &error));
    check(toykv_write(db, batch, NULL, NULL, &error)); /* both or neither */
    toykv_batch_free(batch);

    print(db, "apple");
    print(db, "cherry");

    check(toykv_iter_new(db, NULL, &fruit, &iter, &error));
    while ((status = toykv_iter_next(iter, &key, &value, &error)) == TOYKV_OK)
        printf("%.*s = %.*s\n", (int)key.len, (const char *)key.data, (int)value.len,
               (const char *)value.data);
    check(status);
    toykv_iter_free(iter);

    check(toykv_delete(db, NULL, "apple", 5, NULL, &error));
    check(toykv_len(db, NULL, &count, &error));
    printf("after delete: %llu keys\n", (unsigned long long)count);

    check(toykv_close(db, &error));
    toykv_free(db);
    return 0;
}
