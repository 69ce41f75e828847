/* toykv: an embedded, ordered, crash-safe key-value store.
 *
 * Generated from ffi/src; to change it, change that and run
 * UPDATE_HEADER=1 cargo test -p toykv-ffi --test header
 *
 * Every call that can fail answers an int32_t: TOYKV_OK, a positive number for a normal answer that
 * is not OK, a negative one (TOYKV_ERR_...) for an error. Every comment says what a function does,
 * who owns what, from which threads it may be called, and which errors it knows, by their names
 * without TOYKV_ERR_. Besides those, every function that takes a handle answers MISUSE for one that
 * is NULL, freed or of another type, FORKED for one that was made before a fork, and any function
 * answers PANIC for a fault in the library. No call ends the program for what it was passed, while
 * pointers point to as much memory as the lengths beside them say. */

#ifndef TOYKV_H
#define TOYKV_H

#include <stddef.h>
#include <stdint.h>

/** Version of the ABI that this header describes; compare with toykv_abi_version(). */
#define TOYKV_ABI_VERSION 0

/** Done. */
#define TOYKV_OK 0

/** There is no such key. */
#define TOYKV_NOT_FOUND 1

/** The iterator, or the list, is at its end. */
#define TOYKV_DONE 2

/** Kept for conditional writes. */
#define TOYKV_CONDITION_FAILED 3

/** The value does not fit; its length is reported and nothing was copied. */
#define TOYKV_SHORT_BUFFER 4

/** Kept for calls with a time limit. */
#define TOYKV_TIMEOUT 5

/** The write would have waited for background work and was told not to; nothing was written. */
#define TOYKV_WOULD_STALL 6

/** An argument is not acceptable: correct the call. */
#define TOYKV_ERR_INVALID (-1)

/** A handle is NULL, freed, of another kind or of another database, or a call is out of order. */
#define TOYKV_ERR_MISUSE (-2)

/** The database was closed. */
#define TOYKV_ERR_CLOSED (-3)

/** The handle was made before a fork: open the database in this process. */
#define TOYKV_ERR_FORKED (-4)

/** Another opener holds the directory. */
#define TOYKV_ERR_LOCKED (-5)

/** The database was opened for reading, or its directory cannot be written. */
#define TOYKV_ERR_READ_ONLY (-6)

/** error_if_exists was set and a database is there. */
#define TOYKV_ERR_EXISTS (-7)

/** No database at the path, and create_if_missing was not set. */
#define TOYKV_ERR_NO_SUCH (-8)

/** A key, value, batch or list is above its limit: correct the call. */
#define TOYKV_ERR_TOO_LARGE (-9)

/** Memory or handles could not be had. */
#define TOYKV_ERR_NO_MEMORY (-10)

/** The operating system reported a failure; os_errno has its number. */
#define TOYKV_ERR_IO (-11)

/** The disk is full: make room; writes go on once there is some. */
#define TOYKV_ERR_DISK_FULL (-12)

/** Stored bytes are not what was written; file_number and file_offset say where. */
#define TOYKV_ERR_CORRUPTION (-13)

/** The files have a format that this version cannot read. */
#define TOYKV_ERR_FORMAT (-14)

/** Kept for transactions: another one touched the same keys. */
#define TOYKV_ERR_CONFLICT (-15)

/** An earlier append or sync failed: writes are refused until the database is opened again. */
#define TOYKV_ERR_POISONED (-16)

/** A callback asked to stop. */
#define TOYKV_ERR_CANCELLED (-17)

/** The system or this build cannot do what was asked for. */
#define TOYKV_ERR_UNSUPPORTED (-18)

/** A fault in the library was caught; close the database and report it. */
#define TOYKV_ERR_PANIC (-19)

/** The snapshot is older than the option snapshot_max_age_ms: make a new one. */
#define TOYKV_ERR_SNAPSHOT_EXPIRED (-20)

/** The same call may succeed later. */
#define TOYKV_EF_RETRYABLE 1

/** The database has to be opened again before it takes writes. */
#define TOYKV_EF_FATAL 2

/** Stored data is damaged. */
#define TOYKV_EF_DATA_LOSS 4

/** The program around the library has to be corrected. */
#define TOYKV_EF_CALLER_BUG 8

/** Bytes of toykv_error.message, the closing NUL among them. */
#define TOYKV_MESSAGE_SIZE 216

/** Most bytes of a key. */
#define TOYKV_MAX_KEY_LEN 65535

/** Most bytes of a value. */
#define TOYKV_MAX_VALUE_LEN 4294967295

/** Most keys of a toykv_multi_get and most rows of a toykv_iter_next_batch. */
#define TOYKV_MAX_LIST_LEN 1048576

/** As the options of the database say. */
#define TOYKV_DURABILITY_DEFAULT 0

/** Acknowledged writes survive the death of the process. */
#define TOYKV_DURABILITY_PROCESS 1

/** That, and power loss after at most sync_interval_ms. */
#define TOYKV_DURABILITY_INTERVAL 2

/** Power loss, before the call returns. */
#define TOYKV_DURABILITY_SYNC 3

/** Answer TOYKV_WOULD_STALL instead of waiting for background work. */
#define TOYKV_WF_NO_WAIT 1

/** From large to small. */
#define TOYKV_RF_REVERSE 1

/** Values come back empty and are not read. */
#define TOYKV_RF_KEYS_ONLY 2

/** The lower bound itself is left out. */
#define TOYKV_RF_LOWER_EXCLUSIVE 4

/** The upper bound itself is part of the scan. */
#define TOYKV_RF_UPPER_INCLUSIVE 8

/** An open database. Any thread may use it. */
typedef struct toykv toykv;

/** A list of puts and deletes. One thread at a time may use it. */
typedef struct toykv_batch toykv_batch;

/** A position between the entries of a frozen state. One thread at a time may use it. */
typedef struct toykv_iter toykv_iter;

/** A separate range of keys. There is one so far: pass NULL. */
typedef struct toykv_keyspace toykv_keyspace;

/** How a database is opened. Any thread may use it. */
typedef struct toykv_options toykv_options;

/** A frozen state of a database. Any thread may use it. */
typedef struct toykv_snapshot toykv_snapshot;

/**
 * Bytes that stay as they are until toykv_buf_free, also after the database was closed. Calls
 * that fill one in overwrite it whatever it held: free it first.
 */
typedef struct toykv_buf {
    /** The first byte; NULL when there is nothing to free. */
    const uint8_t *data;
    /** How many there are. */
    size_t len;
    /** What keeps them; for toykv_buf_free. */
    void *owner;
} toykv_buf;

/**
 * What an error was about. The caller owns it, and sets struct_size to sizeof(toykv_error); every
 * call takes NULL instead. Filled in when a call answers a negative status or TOYKV_WOULD_STALL,
 * left as it is otherwise.
 */
typedef struct toykv_error {
    /** sizeof(toykv_error), set by the caller. */
    uint32_t struct_size;
    /** The status that the call answered. */
    int32_t code;
    /** The operating system's error number; 0 when there is none. */
    int32_t os_errno;
    /** TOYKV_EF_... */
    uint32_t flags;
    /** The number in the name of the file at fault; UINT64_MAX when there is none. */
    uint64_t file_number;
    /** The byte offset in that file; UINT64_MAX when there is none. */
    uint64_t file_offset;
    /** What was at fault, with its file, in UTF-8, NUL-terminated, cut to the size. */
    char message[TOYKV_MESSAGE_SIZE];
} toykv_error;

/** How one write is made; NULL in its place means all zero. */
typedef struct toykv_write_opts {
    /** sizeof(toykv_write_opts). */
    uint32_t struct_size;
    /** TOYKV_DURABILITY_... */
    uint32_t durability;
    /** TOYKV_WF_... */
    uint32_t flags;
    /** Kept; must be 0. */
    uint32_t stall_timeout_ms;
} toykv_write_opts;

/** How one read is made; NULL in its place means all zero. */
typedef struct toykv_read_opts {
    /** sizeof(toykv_read_opts). */
    uint32_t struct_size;
    /** Kept; must be 0. */
    uint32_t flags;
    /** Read this state; NULL for the newest. */
    const toykv_snapshot *snapshot;
} toykv_read_opts;

/**
 * Bytes that belong to somebody else: to the caller as an argument, to the handle that they were
 * read from as a result. NULL with a length of 0 is the empty slice.
 */
typedef struct toykv_slice {
    /** The first byte. */
    const uint8_t *data;
    /** How many there are. */
    size_t len;
} toykv_slice;

/** What toykv_multi_get found for one key. */
typedef struct toykv_result {
    /** TOYKV_OK or TOYKV_NOT_FOUND. */
    int32_t status;
    /** 0. */
    uint32_t reserved;
    /** The value; stays until the owner is freed. */
    toykv_slice value;
} toykv_result;

/** One place of damage. */
typedef struct toykv_finding {
    /** The file, NUL-terminated. */
    const char *path;
    /** What is wrong, in words, NUL-terminated. */
    const char *what;
    /** Where in the file, in bytes. */
    uint64_t offset;
    /** No key before this one is concerned; data NULL when that is not known. */
    toykv_slice first_key;
    /** No key behind this one is; data NULL when that is not known. */
    toykv_slice last_key;
    /**
     * How many records are concerned, old versions and deletes counted; UINT64_MAX when that is
     * not known.
     */
    uint64_t records;
} toykv_finding;

/**
 * Told of damage, one place a call, with the caller's `arg`, on the thread of the caller, when the
 * search is over. The finding and all that it points to stay until it returns. It may use
 * the database, and must not throw or jump out.
 */
typedef void (*toykv_on_finding)(void *arg, const toykv_finding *finding);

/**
 * Told now and then how many bytes are done, and how many there are, estimated, with the caller's
 * `arg`, on the thread of the caller and without any lock. Another answer than 0 cancels the
 * call. It may use the database, but not close it, and must not throw or jump out.
 */
typedef int32_t (*toykv_on_progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);

/** What a search for damage, or a salvage, has done. */
typedef struct toykv_report {
    /** Places of damage; 0 when nothing is wrong. */
    uint64_t findings;
    /** How many of those were only counted: at most 10 000 are told one by one. */
    uint64_t omitted_findings;
    /** Files that were looked at. */
    uint64_t files;
    /** Bytes of them. */
    uint64_t bytes;
    /**
     * Of verify and scrub: intact records, old versions and deletes counted. Of salvage: keys
     * that the new database has.
     */
    uint64_t records;
} toykv_report;

/** What an iterator covers; NULL in its place means all zero: everything, from small to large. */
typedef struct toykv_iter_opts {
    /** sizeof(toykv_iter_opts). */
    uint32_t struct_size;
    /** TOYKV_RF_... */
    uint32_t flags;
    /** Read this state; NULL for the newest. */
    const toykv_snapshot *snapshot;
    /** The smallest key; data NULL for no bound. */
    toykv_slice lower;
    /** The key behind the largest; data NULL for no bound. */
    toykv_slice upper;
    /** What all keys begin with; data NULL for any. */
    toykv_slice prefix;
    /** Most rows of toykv_iter_next; 0 for no limit. A seek begins a new count. */
    uint64_t limit;
} toykv_iter_opts;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Version of the ABI of this library: TOYKV_ABI_VERSION of the header that it was built with.
 * Ownership: none.
 * Threads: any, at any time, also in a forked child.
 * Errors: none.
 */
uint32_t toykv_abi_version(void);

/**
 * Version of the library as text, such as "0.1.0".
 * Ownership: the text is the library's and stays for ever.
 * Threads: any, at any time, also in a forked child.
 * Errors: none.
 */
const char *toykv_version(void);

/**
 * A status in words; for a number that is no status, a text that says so. Never NULL.
 * Ownership: the text is the library's and stays for ever.
 * Threads: any, at any time, also in a forked child.
 * Errors: none.
 */
const char *toykv_strerror(int32_t code);

/**
 * Frees what a buffer holds and makes it empty; nothing for NULL, an empty buffer and one that a
 * copy of the struct freed before.
 * Ownership: the struct stays the caller's; its bytes may not be read afterwards.
 * Threads: any; one thread at a time per buffer.
 * Errors: none.
 */
void toykv_buf_free(toykv_buf *buf);

/**
 * New options, all at their defaults; NULL when no handle could be had.
 * Ownership: the caller frees them with toykv_options_free; toykv_open copies them.
 * Threads: any.
 * Errors: none but NULL.
 */
toykv_options *toykv_options_new(void);

/**
 * Frees options; nothing for NULL, for freed ones and in a forked child.
 * Ownership: the handle is gone; databases opened with it keep their copy.
 * Threads: any.
 * Errors: none.
 */
void toykv_options_free(toykv_options *options);

/**
 * Sets the option `name` from text: "true" or "false", a number, or bytes such as "256MiB".
 * Ownership: both texts are copied.
 * Threads: any.
 * Errors: INVALID (names the option and what it accepts), MISUSE, FORKED.
 */
int32_t toykv_options_set(toykv_options *options,
                          const char *name,
                          const char *value,
                          toykv_error *err);

/**
 * The value of the option `name` as NUL-terminated text that toykv_options_set takes; "auto" for
 * what the engine chooses. NULL options: the default.
 * Ownership: the caller frees *out with toykv_buf_free; out->len leaves out the NUL.
 * Threads: any.
 * Errors: INVALID, MISUSE, FORKED, NO_MEMORY.
 */
int32_t toykv_options_get(const toykv_options *options,
                          const char *name,
                          toykv_buf *out,
                          toykv_error *err);

/**
 * Describes the option with this number, counted from 0; DONE behind the last. NULL: not wanted.
 * Ownership: the texts are the library's and stay for ever.
 * Threads: any, at any time, also in a forked child.
 * Errors: INVALID for pointers that are not aligned.
 */
int32_t toykv_options_describe(size_t index,
                               const char **name,
                               const char **value_type,
                               const char **default_value,
                               const char **doc);

/**
 * Opens the database in the directory `path`, with default options for NULL; *out becomes NULL on
 * failure. A failed open changes nothing but what the file LOCK says about its last opener.
 * Ownership: the caller closes *out with toykv_close and frees it with toykv_free.
 * Threads: any.
 * Errors: INVALID, LOCKED, NO_SUCH, EXISTS, READ_ONLY, FORMAT, CORRUPTION, IO, DISK_FULL, ...
 */
int32_t toykv_open(const char *path,
                   const toykv_options *options,
                   toykv **out,
                   toykv_error *err);

/**
 * Closes: waits for calls and background work, syncs, unlocks. Closing twice is fine. Snapshots
 * and iterators answer CLOSED from now on; buffers stay valid.
 * Ownership: the handle stays the caller's; free it with toykv_free.
 * Threads: any, also while others use the database.
 * Errors: IO, DISK_FULL: of the last sync; POISONED. The database is closed all the same.
 */
int32_t toykv_close(toykv *db, toykv_error *err);

/**
 * Closes, if that was not done, and frees the handle; nothing for NULL, for freed handles and in a
 * forked child. Errors of an implied close are lost: call toykv_close first.
 * Ownership: the handle is gone; snapshots, iterators and buffers are freed on their own.
 * Threads: any, also while others use the database: they find CLOSED or MISUSE.
 * Errors: none.
 */
void toykv_free(toykv *db);

/**
 * Removes the database at `path`: its own files, and the directory if that leaves it empty.
 * Ownership: none.
 * Threads: any.
 * Errors: INVALID, LOCKED while it is open, NO_SUCH, READ_ONLY, IO.
 */
int32_t toykv_destroy(const char *path, toykv_error *err);

/**
 * Sets the value of a key. NULL with a length of 0 is the empty key or value.
 * Ownership: key and value are copied.
 * Threads: any.
 * Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, READ_ONLY, DISK_FULL, IO, POISONED; WOULD_STALL.
 */
int32_t toykv_put(toykv *db,
                  toykv_keyspace *keyspace,
                  const void *key,
                  size_t key_len,
                  const void *value,
                  size_t value_len,
                  const toykv_write_opts *opts,
                  toykv_error *err);

/**
 * Deletes a key; one that is not there is no error.
 * Ownership: the key is copied.
 * Threads: any.
 * Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, READ_ONLY, DISK_FULL, IO, POISONED; WOULD_STALL.
 */
int32_t toykv_delete(toykv *db,
                     toykv_keyspace *keyspace,
                     const void *key,
                     size_t key_len,
                     const toykv_write_opts *opts,
                     toykv_error *err);

/**
 * Reads the value of a key without copying large values; NOT_FOUND and an empty *out without one.
 * Ownership: the caller frees *out with toykv_buf_free; it stays valid after close.
 * Threads: any.
 * Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, CORRUPTION, IO, NO_MEMORY.
 */
int32_t toykv_get(toykv *db,
                  toykv_keyspace *keyspace,
                  const void *key,
                  size_t key_len,
                  const toykv_read_opts *opts,
                  toykv_buf *out,
                  toykv_error *err);

/**
 * Copies the value of a key to `buf` if it fits in `cap` bytes; SHORT_BUFFER and nothing copied
 * otherwise. *value_len becomes its length in both cases, 0 for NOT_FOUND.
 * Ownership: `buf` is the caller's; NULL with a cap of 0 asks for the length.
 * Threads: any.
 * Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, CORRUPTION, IO.
 */
int32_t toykv_get_into(toykv *db,
                       toykv_keyspace *keyspace,
                       const void *key,
                       size_t key_len,
                       const toykv_read_opts *opts,
                       void *buf,
                       size_t cap,
                       size_t *value_len,
                       toykv_error *err);

/**
 * Reads `len` bytes of the value of a key from `offset`, cut at its end, without copying; the
 * rest of a large value is not read; NOT_FOUND and an empty *out without one. A value from
 * 64 KiB on is not verified by this call unless it has been read whole before.
 * Ownership: the caller frees *out with toykv_buf_free; it stays valid after close.
 * Threads: any.
 * Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, CORRUPTION, IO, NO_MEMORY.
 */
int32_t toykv_get_range(toykv *db,
                        toykv_keyspace *keyspace,
                        const void *key,
                        size_t key_len,
                        uint64_t offset,
                        size_t len,
                        const toykv_read_opts *opts,
                        toykv_buf *out,
                        toykv_error *err);

/**
 * OK when the key is there, NOT_FOUND when it is not. The value is not read.
 * Ownership: none.
 * Threads: any.
 * Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, CORRUPTION, IO.
 */
int32_t toykv_contains(toykv *db,
                       toykv_keyspace *keyspace,
                       const void *key,
                       size_t key_len,
                       const toykv_read_opts *opts,
                       toykv_error *err);

/**
 * Reads `count` keys of one state: results[i] is about keys[i]. All or nothing: a status that is
 * not OK leaves `results` as they were and *owner empty.
 * Ownership: the caller frees *owner with toykv_buf_free; until then the values stay.
 * Threads: any.
 * Errors: INVALID, TOO_LARGE (also above TOYKV_MAX_LIST_LEN keys), MISUSE, CLOSED, CORRUPTION, IO.
 */
int32_t toykv_multi_get(toykv *db,
                        toykv_keyspace *keyspace,
                        const toykv_slice *keys,
                        size_t count,
                        const toykv_read_opts *opts,
                        toykv_result *results,
                        toykv_buf *owner,
                        toykv_error *err);

/**
 * Counts the keys: *count becomes their exact number, cheaply.
 * Ownership: none.
 * Threads: any.
 * Errors: INVALID, MISUSE, CLOSED, CORRUPTION, IO.
 */
int32_t toykv_len(toykv *db,
                  toykv_keyspace *keyspace,
                  uint64_t *count,
                  toykv_error *err);

/**
 * Removes the entry with the smallest key and answers it, in one step; NOT_FOUND without entries.
 * Ownership: the caller frees *key and *value with toykv_buf_free; NULL for what is not wanted.
 * Threads: any; of several, each gets an entry of its own.
 * Errors: INVALID, MISUSE, CLOSED, READ_ONLY, DISK_FULL, IO, POISONED, NO_MEMORY; WOULD_STALL.
 */
int32_t toykv_pop_first(toykv *db,
                        toykv_keyspace *keyspace,
                        const toykv_write_opts *opts,
                        toykv_buf *key,
                        toykv_buf *value,
                        toykv_error *err);

/**
 * Removes the entry with the largest key and answers it, in one step; NOT_FOUND without entries.
 * Ownership: the caller frees *key and *value with toykv_buf_free; NULL for what is not wanted.
 * Threads: any; of several, each gets an entry of its own.
 * Errors: INVALID, MISUSE, CLOSED, READ_ONLY, DISK_FULL, IO, POISONED, NO_MEMORY; WOULD_STALL.
 */
int32_t toykv_pop_last(toykv *db,
                       toykv_keyspace *keyspace,
                       const toykv_write_opts *opts,
                       toykv_buf *key,
                       toykv_buf *value,
                       toykv_error *err);

/**
 * Makes everything acknowledged so far survive power loss.
 * Ownership: none.
 * Threads: any.
 * Errors: MISUSE, CLOSED, IO, DISK_FULL, POISONED.
 */
int32_t toykv_sync(toykv *db, toykv_error *err);

/**
 * Moves what is in memory to tables, and waits for it. Never needed for durability.
 * Ownership: none.
 * Threads: any.
 * Errors: MISUSE, CLOSED, READ_ONLY, IO, DISK_FULL, POISONED.
 */
int32_t toykv_flush(toykv *db, toykv_error *err);

/**
 * Merges the keys from *lower to before *upper, NULL for no bound, into one sorted run; waits.
 * Ownership: bounds are copied.
 * Threads: any.
 * Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, READ_ONLY, CORRUPTION, IO, DISK_FULL, POISONED.
 */
int32_t toykv_compact(toykv *db,
                      toykv_keyspace *keyspace,
                      const toykv_slice *lower,
                      const toykv_slice *upper,
                      toykv_error *err);

/**
 * Frees all space that can be freed now: merges everything, then rewrites every file of the value
 * log that holds dead values; waits. Needed for nothing: the option space_amplification is kept
 * without it.
 * Ownership: none.
 * Threads: any.
 * Errors: MISUSE, CLOSED, READ_ONLY, CORRUPTION, IO, DISK_FULL, POISONED.
 */
int32_t toykv_gc(toykv *db, toykv_error *err);

/**
 * OK when all is well; otherwise the error that keeps writes from being taken (POISONED, until the
 * database is opened again) or the newest one of background work that will be tried again.
 * Ownership: none.
 * Threads: any.
 * Errors: MISUSE, FORKED, and those that it reports.
 */
int32_t toykv_health(toykv *db, toykv_error *err);

/**
 * Counts and sizes as one JSON object, NUL-terminated; later versions add members. sorted_runs
 * lists the tables, entries and bytes of each run, the newest first.
 * Ownership: the caller frees *out with toykv_buf_free; out->len leaves out the NUL.
 * Threads: any.
 * Errors: INVALID, MISUSE, FORKED, NO_MEMORY.
 */
int32_t toykv_stats_json(toykv *db, toykv_buf *out, toykv_error *err);

/**
 * What the space of the directory is needed for, in bytes, as one JSON object, NUL-terminated;
 * later versions add members. All members but hidden_value_bytes, which is part of
 * live_value_bytes, and two lists, snapshots and held_files, which are those of obsolete_bytes and
 * how long they have waited for readers, add up to total_bytes. hidden_value_bytes estimates
 * what newer entries of other runs hide, each one older value; a compaction finds it dead.
 * Ownership: the caller frees *out with toykv_buf_free; out->len leaves out the NUL.
 * Threads: any.
 * Errors: INVALID, MISUSE, CLOSED, FORKED, IO, NO_MEMORY.
 */
int32_t toykv_space_json(toykv *db, toykv_buf *out, toykv_error *err);

/**
 * Searches the closed database in the directory `source` for damage: reads all of it, compares
 * every checksum, and what files say of each other. Changes nothing. What any read would refuse
 * is found, and where the manifest is damaged, that only. The answer is OK, damage or not:
 * *report counts it, `on_finding` is told of it. NULL for what is not wanted. Cost: all bytes are
 * read once, every key is looked up three times; some MiB of memory.
 * Ownership: the finding is the library's; nothing is kept.
 * Threads: any.
 * Errors: INVALID, NO_SUCH, LOCKED while it is open for writing, CANCELLED, IO.
 */
int32_t toykv_verify(const char *source,
                     toykv_on_finding on_finding,
                     toykv_on_progress on_progress,
                     void *arg,
                     toykv_report *report,
                     toykv_error *err);

/**
 * Searches an open database for damage while others use it, as toykv_verify does, but for the
 * count of its keys. Reads at most `bytes_per_second`, 0 for no limit, on the caller's thread.
 * Ownership: the finding is the library's; nothing is kept.
 * Threads: any.
 * Errors: INVALID, MISUSE, CLOSED, also when it is closed meanwhile, CANCELLED, IO.
 */
int32_t toykv_scrub(toykv *db,
                    uint64_t bytes_per_second,
                    toykv_on_finding on_finding,
                    toykv_on_progress on_progress,
                    void *arg,
                    toykv_report *report,
                    toykv_error *err);

/**
 * Writes what can be read of the damaged database in `source`, which is only read, into a new one
 * in the directory `target`, opened with `options` (NULL for the defaults) and closed again. Of
 * every key the newest version that can be read is saved. What was lost is told as by
 * toykv_verify: where a finding names keys, those may be missing or have older values. Cost: as
 * storing all keys; what was not flushed is held in memory.
 * Ownership: the finding is the library's; nothing is kept.
 * Threads: any.
 * Errors: INVALID, NO_SUCH, LOCKED, EXISTS, FORMAT, and, when the new database has a part of what
 * can be read, CANCELLED, IO, DISK_FULL.
 */
int32_t toykv_salvage(const char *source,
                      const char *target,
                      const toykv_options *options,
                      toykv_on_finding on_finding,
                      toykv_on_progress on_progress,
                      void *arg,
                      toykv_report *report,
                      toykv_error *err);

/**
 * A new, empty batch; NULL when no handle could be had.
 * Ownership: the caller frees it with toykv_batch_free.
 * Threads: any.
 * Errors: none but NULL.
 */
toykv_batch *toykv_batch_new(void);

/**
 * Frees a batch; nothing for NULL, for a freed one and in a forked child.
 * Ownership: the handle is gone.
 * Threads: any.
 * Errors: none.
 */
void toykv_batch_free(toykv_batch *batch);

/**
 * Removes all entries and keeps the memory.
 * Ownership: none.
 * Threads: one at a time.
 * Errors: none; nothing happens where another call would answer MISUSE.
 */
void toykv_batch_clear(toykv_batch *batch);

/**
 * Number of entries; 0 where another call would answer MISUSE.
 * Ownership: none.
 * Threads: one at a time.
 * Errors: none.
 */
size_t toykv_batch_count(const toykv_batch *batch);

/**
 * Adds a put. The batch stays as it was on failure.
 * Ownership: key and value are copied.
 * Threads: one at a time.
 * Errors: INVALID, TOO_LARGE, MISUSE, FORKED.
 */
int32_t toykv_batch_put(toykv_batch *batch,
                        toykv_keyspace *keyspace,
                        const void *key,
                        size_t key_len,
                        const void *value,
                        size_t value_len,
                        toykv_error *err);

/**
 * Adds a delete. The batch stays as it was on failure.
 * Ownership: the key is copied.
 * Threads: one at a time.
 * Errors: INVALID, TOO_LARGE, MISUSE, FORKED.
 */
int32_t toykv_batch_delete(toykv_batch *batch,
                           toykv_keyspace *keyspace,
                           const void *key,
                           size_t key_len,
                           toykv_error *err);

/**
 * Applies a batch in one step: all of it or nothing, also after a crash. *seqno, if not NULL,
 * becomes the place of its last entry in the order of all writes.
 * Ownership: the batch stays the caller's, with its entries.
 * Threads: any for the database, one at a time for the batch.
 * Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, READ_ONLY, DISK_FULL, IO, POISONED; WOULD_STALL.
 */
int32_t toykv_write(toykv *db,
                    toykv_batch *batch,
                    const toykv_write_opts *opts,
                    uint64_t *seqno,
                    toykv_error *err);

/**
 * Freezes the newest state for reads that name the snapshot; later writes do not show in it.
 * Ownership: the caller frees *out with toykv_snapshot_free; it keeps disk space from being freed.
 * Threads: any.
 * Errors: INVALID, MISUSE, CLOSED, FORKED.
 */
int32_t toykv_snapshot_new(toykv *db, toykv_snapshot **out, toykv_error *err);

/**
 * Frees a snapshot; nothing for NULL, for a freed one and in a forked child.
 * Ownership: the handle is gone; iterators over it stay and see what they saw.
 * Threads: any, also while others read through it.
 * Errors: none.
 */
void toykv_snapshot_free(toykv_snapshot *snapshot);

/**
 * A new iterator before the first entry; it reads the state of this moment, or of opts->snapshot,
 * whatever is written later.
 * Ownership: the caller frees *out with toykv_iter_free; bounds and prefix are copied.
 * Threads: any for the database; the iterator then one at a time, and it may move between threads.
 * Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, CORRUPTION, IO.
 */
int32_t toykv_iter_new(toykv *db,
                       toykv_keyspace *keyspace,
                       const toykv_iter_opts *opts,
                       toykv_iter **out,
                       toykv_error *err);

/**
 * Frees an iterator; nothing for NULL, for a freed one and in a forked child.
 * Ownership: the handle is gone, and with it the keys and values that it answered.
 * Threads: any.
 * Errors: none.
 */
void toykv_iter_free(toykv_iter *iter);

/**
 * Moves before the first entry whose key is at or after `key` in the direction of the iterator.
 * Ownership: the key is copied; keys and values answered before are gone.
 * Threads: one at a time.
 * Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, CORRUPTION, IO.
 */
int32_t toykv_iter_seek(toykv_iter *iter,
                        const void *key,
                        size_t key_len,
                        toykv_error *err);

/**
 * Moves before the first entry in the direction of the iterator.
 * Ownership: keys and values answered before are gone.
 * Threads: one at a time.
 * Errors: MISUSE, CLOSED, CORRUPTION, IO.
 */
int32_t toykv_iter_seek_to_start(toykv_iter *iter, toykv_error *err);

/**
 * Moves behind the last entry in the direction of the iterator, for toykv_iter_prev.
 * Ownership: keys and values answered before are gone.
 * Threads: one at a time.
 * Errors: MISUSE, CLOSED, CORRUPTION, IO.
 */
int32_t toykv_iter_seek_to_end(toykv_iter *iter, toykv_error *err);

/**
 * Steps over the next entry and answers it; DONE and empty slices at the end.
 * Ownership: key and value stay until the next call with this iterator. NULL: not wanted.
 * Threads: one at a time.
 * Errors: MISUSE, CLOSED, CORRUPTION, IO; an error is answered again by every later call.
 */
int32_t toykv_iter_next(toykv_iter *iter,
                        toykv_slice *key,
                        toykv_slice *value,
                        toykv_error *err);

/**
 * Steps back over the entry before the position and answers it; DONE, empty slices at the start.
 * Ownership: key and value stay until the next call with this iterator. NULL: not wanted.
 * Threads: one at a time.
 * Errors: MISUSE, CLOSED, CORRUPTION, IO; an error is answered again by every later call.
 */
int32_t toykv_iter_prev(toykv_iter *iter,
                        toykv_slice *key,
                        toykv_slice *value,
                        toykv_error *err);

/**
 * Steps over the next rows and answers them: at least one, unless DONE; at most `max_rows`; and
 * none after their bytes reach `max_bytes` (0 for 1 MiB). *rows becomes their number.
 * Ownership: arrays of `max_rows` are the caller's (values NULL: not wanted); the bytes that they
 * point to stay until the next call with this iterator.
 * Threads: one at a time.
 * Errors: INVALID, TOO_LARGE (TOYKV_MAX_LIST_LEN), MISUSE, CLOSED, CORRUPTION, IO; see next.
 */
int32_t toykv_iter_next_batch(toykv_iter *iter,
                              size_t max_rows,
                              size_t max_bytes,
                              toykv_slice *keys,
                              toykv_slice *values,
                              size_t *rows,
                              toykv_error *err);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TOYKV_H */
