/* Every function of the header with every combination of good and bad arguments: a status each
 * time, the right sign, and never a signal: abuse DIR
 *
 * abuse_calls.inc is made from the header: for each function, loops over the arrays below that
 * belong to the types and names of its parameters. A parameter of a new type or name does not
 * compile until somebody says here what may be passed for it. */
#include "check.h"

/* What an argument makes of a call: it may succeed, nobody can tell, it has to fail. */
enum { GOOD, OPEN, BAD };

typedef struct argument {
    void *p;
    int worth;
} argument;

typedef struct length {
    size_t n;
    int worth;
} length;

typedef struct pair {
    void *p;
    size_t n;
    int worth;
} pair;

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
/* A place for its type that is not aligned for it. */
#define CROOKED(place) ((char *)(place) + 1)

static const char *dir;
static unsigned long calls;

/* --- Places for results ----------------------------------------------------------------------- */

static toykv *out_db;
static toykv_iter *out_iter;
static toykv_snapshot *out_snapshot;
static toykv_buf out_bufs[3], kept_buf, freed_buf, false_buf;
static toykv_slice out_slices[4], out_lists[2][16];
static toykv_result out_results[16];
static toykv_report out_report;
static uint64_t out_number;
static size_t out_size;
static const char *out_text;
static char bytes[65600], into[64];
/* With room for one that is not aligned. */
static toykv_error errors[2];
#define error (errors[0])

/* --- What is passed --------------------------------------------------------------------------- */

static argument args_toykv_db[8], args_toykv_batch_batch[6], args_const_toykv_batch_batch[6];
static argument args_toykv_iter_iter[8], args_toykv_snapshot_snapshot[6];
static argument args_toykv_options_options[6], args_const_toykv_options_options[6];
static argument args_toykv_keyspace_keyspace[3];

static toykv_write_opts wo[4];
static toykv_read_opts ro[6];
static toykv_iter_opts io[7];
static argument args_const_toykv_write_opts_opts[] = {
    { NULL, GOOD }, { &wo[0], GOOD }, { &wo[1], BAD }, { &wo[2], BAD }, { &wo[3], BAD },
    { CROOKED(wo), BAD },
};
static argument args_const_toykv_read_opts_opts[] = {
    { NULL, GOOD }, { &ro[0], GOOD }, { &ro[1], GOOD }, { &ro[2], BAD }, { &ro[3], BAD },
    { &ro[4], BAD }, { &ro[5], BAD }, { CROOKED(ro), BAD },
};
static argument args_const_toykv_iter_opts_opts[] = {
    { NULL, GOOD }, { &io[0], GOOD }, { &io[1], GOOD }, { &io[2], BAD }, { &io[3], BAD },
    { &io[4], BAD }, { &io[5], BAD }, { &io[6], BAD }, { CROOKED(io), BAD },
};

static pair pairs_key[] = {
    { NULL, 0, GOOD }, { bytes, 0, GOOD }, { bytes, 1, GOOD }, { bytes, 16, GOOD },
    { bytes, TOYKV_MAX_KEY_LEN, GOOD }, { NULL, 1, BAD }, { NULL, SIZE_MAX, BAD },
    { bytes, TOYKV_MAX_KEY_LEN + 1, BAD }, { bytes, SIZE_MAX, BAD },
};
static pair pairs_value[] = {
    { NULL, 0, GOOD }, { bytes, 0, GOOD }, { bytes, 1, GOOD }, { bytes, 16, GOOD },
    { NULL, 1, BAD }, { NULL, SIZE_MAX, BAD }, { bytes, (size_t)TOYKV_MAX_VALUE_LEN + 1, BAD },
    { bytes, SIZE_MAX, BAD },
};
static pair pairs_buf[] = {
    { NULL, 0, GOOD }, { into, 0, GOOD }, { into, 1, GOOD }, { into, sizeof into, GOOD },
    { into, SIZE_MAX, GOOD }, { NULL, 1, BAD }, { NULL, SIZE_MAX, BAD },
};
static toykv_slice slices[5];
static pair pairs_keys[] = {
    { NULL, 0, GOOD }, { slices, 0, GOOD }, { slices, 1, GOOD }, { slices, 3, GOOD },
    { slices, 4, BAD }, { &slices[4], 1, BAD }, { NULL, 1, BAD }, { NULL, SIZE_MAX, BAD },
    { slices, TOYKV_MAX_LIST_LEN + 1, BAD }, { slices, SIZE_MAX, BAD },
    { CROOKED(slices), 1, BAD },
};
static argument args_const_toykv_slice_lower[] = {
    { NULL, GOOD }, { &slices[0], GOOD }, { &slices[3], BAD }, { &slices[4], BAD },
    { CROOKED(slices), BAD },
};
#define args_const_toykv_slice_upper args_const_toykv_slice_lower

#define PLACE(name, place) \
    static argument name[] = { { place, GOOD }, { NULL, BAD }, { CROOKED(place), BAD } }
#define OPTIONAL_PLACE(name, place) \
    static argument name[] = { { place, GOOD }, { NULL, GOOD }, { CROOKED(place), BAD } }
PLACE(args_toykv_out, &out_db);
PLACE(args_toykv_iter_out, &out_iter);
PLACE(args_toykv_snapshot_out, &out_snapshot);
PLACE(args_toykv_buf_out, &out_bufs[0]);
PLACE(args_toykv_buf_owner, &out_bufs[0]);
OPTIONAL_PLACE(args_toykv_buf_key, &out_bufs[1]);
OPTIONAL_PLACE(args_toykv_buf_value, &out_bufs[2]);
static argument args_toykv_buf_buf[] = {
    { NULL, GOOD }, { &kept_buf, GOOD }, { &freed_buf, GOOD }, { &false_buf, GOOD },
    { CROOKED(&kept_buf), GOOD },
};
/* No results are needed for no keys. */
static argument args_toykv_result_results[] = {
    { out_results, GOOD }, { NULL, OPEN }, { CROOKED(out_results), OPEN },
};
OPTIONAL_PLACE(args_toykv_slice_key, &out_slices[0]);
OPTIONAL_PLACE(args_toykv_slice_value, &out_slices[1]);
PLACE(args_toykv_slice_keys, out_lists[0]);
OPTIONAL_PLACE(args_toykv_slice_values, out_lists[1]);
PLACE(args_uint64_t_count, &out_number);
OPTIONAL_PLACE(args_uint64_t_seqno, &out_number);
OPTIONAL_PLACE(args_toykv_report_report, &out_report);
PLACE(args_size_t_rows, &out_size);
PLACE(args_size_t_value_len, &out_size);
OPTIONAL_PLACE(args_text_out, &out_text);
static argument args_toykv_error_err[] = {
    { &error, GOOD }, { NULL, GOOD }, { CROOKED(&error), GOOD },
};

static length args_size_t_max_rows[] = {
    { 0, BAD }, { 1, GOOD }, { 16, GOOD }, { TOYKV_MAX_LIST_LEN + 1, BAD }, { SIZE_MAX, BAD },
};
static length args_size_t_max_bytes[] = { { 0, GOOD }, { 1, GOOD }, { SIZE_MAX, GOOD } };
static length args_size_t_index[] = { { 0, GOOD }, { 1000, GOOD }, { SIZE_MAX, GOOD } };
static length args_size_t_len[] = { { 0, GOOD }, { 3, GOOD }, { SIZE_MAX, GOOD } };
static length args_uint64_t_offset[] = { { 0, GOOD }, { 2, GOOD }, { SIZE_MAX, GOOD } };
static length args_int32_t_code[] = { { 0, GOOD }, { 6, GOOD }, { 0x80000000u, GOOD } };

static char no_text[5000];
static argument args_const_char_path[] = {
    { NULL, BAD }, { "", BAD }, { no_text, BAD }, { NULL, BAD }, { NULL, BAD }, { NULL, BAD },
    { NULL, OPEN },
};
/* What is not there, what is open, and what is no database: refused, each in its way. */
static argument args_const_char_source[] = {
    { NULL, BAD }, { "", BAD }, { no_text, BAD }, { NULL, BAD }, { NULL, BAD },
};
static argument args_const_char_target[] = { { NULL, BAD }, { "", BAD }, { NULL, GOOD } };
/* Numbers of functions; set_up has them. */
static length args_toykv_on_finding_on_finding[2], args_toykv_on_progress_on_progress[2];
static argument args_void_arg[] = { { NULL, GOOD }, { &error, GOOD } };
static length args_uint64_t_bytes_per_second[] = { { 0, GOOD }, { SIZE_MAX, GOOD } };
static argument args_const_char_name[] = {
    { NULL, BAD }, { "", BAD }, { "\xFF", BAD }, { no_text, BAD }, { "durability", GOOD },
};
static argument args_const_char_value[] = {
    { NULL, BAD }, { "", BAD }, { "\xFF", BAD }, { no_text, BAD }, { "process", GOOD },
};

/* --- Handles ---------------------------------------------------------------------------------- */

static toykv *db, *other_db, *closed_db, *freed_db;
static toykv_batch *batch, *freed_batch;
static toykv_iter *iter, *closed_iter, *freed_iter;
static toykv_snapshot *snapshot, *other_snapshot, *freed_snapshot;
static toykv_options *options, *freed_options;

static void set(argument *at, void *p, int worth)
{
    at->p = p;
    at->worth = worth;
}

/* Live, freed, NULL, of another type, and two that are no handles at all. */
static void set_six(argument *at, void *live, void *freed, void *other_type)
{
    set(&at[0], live, GOOD);
    set(&at[1], freed, BAD);
    set(&at[2], NULL, BAD);
    set(&at[3], other_type, BAD);
    set(&at[4], &error, BAD);
    set(&at[5], (void *)(uintptr_t)-1, BAD);
}

static void set_handles(void)
{
    set_six(args_toykv_db, db, freed_db, batch);
    set(&args_toykv_db[6], closed_db, OPEN);
    set(&args_toykv_db[7], (char *)db + 16, BAD);
    set_six(args_toykv_batch_batch, batch, freed_batch, iter);
    set_six(args_const_toykv_batch_batch, batch, freed_batch, iter);
    set_six(args_toykv_iter_iter, iter, freed_iter, snapshot);
    set(&args_toykv_iter_iter[6], closed_iter, BAD);
    set(&args_toykv_iter_iter[7], (char *)iter + 16, BAD);
    set_six(args_toykv_snapshot_snapshot, snapshot, freed_snapshot, options);
    set_six(args_toykv_options_options, options, freed_options, db);
    set_six(args_const_toykv_options_options, options, freed_options, db);
    args_const_toykv_options_options[2].worth = GOOD;
    set(&args_toykv_keyspace_keyspace[0], NULL, GOOD);
    set(&args_toykv_keyspace_keyspace[1], db, BAD);
    set(&args_toykv_keyspace_keyspace[2], &error, BAD);
    ro[1].snapshot = io[1].snapshot = snapshot;
    ro[2].snapshot = io[2].snapshot = freed_snapshot;
    ro[3].snapshot = other_snapshot;
}

/* Makes anew what the last call has ended. */
static void renew(void)
{
    toykv_read_opts frozen = { .struct_size = sizeof frozen };
    int changed = 0;
    calls++;
    if (toykv_contains(db, NULL, S("z"), NULL, NULL) < 0) {
        toykv_free(db);
        db = open_db(in_dir(dir, "db"));
        WANT(TOYKV_OK, toykv_put(db, NULL, S("z"), S("z"), NULL, &err));
        changed = 1;
    }
    if (toykv_batch_delete(batch, NULL, S("never"), NULL) < 0) {
        batch = toykv_batch_new();
        changed = 1;
    }
    toykv_batch_clear(batch);
    if (toykv_iter_seek_to_start(iter, NULL) < 0) {
        toykv_iter_free(iter);
        WANT(TOYKV_OK, toykv_iter_new(db, NULL, NULL, &iter, &err));
        changed = 1;
    }
    frozen.snapshot = snapshot;
    if (toykv_contains(db, NULL, S("z"), &frozen, NULL) < 0) {
        toykv_snapshot_free(snapshot);
        WANT(TOYKV_OK, toykv_snapshot_new(db, &snapshot, &err));
        changed = 1;
    }
    if (toykv_options_set(options, "read_only", "false", NULL) < 0) {
        options = toykv_options_new();
        changed = 1;
    }
    if (kept_buf.owner == NULL) {
        WANT(TOYKV_OK, toykv_stats_json(db, &kept_buf, &err));
        changed = 1;
    }
    if (changed)
        set_handles();
}

/* Frees what the last call has made. */
static void clean(void)
{
    size_t i;
    toykv_free(out_db);
    toykv_iter_free(out_iter);
    toykv_snapshot_free(out_snapshot);
    out_db = NULL;
    out_iter = NULL;
    out_snapshot = NULL;
    for (i = 0; i < COUNT(out_bufs); i++)
        toykv_buf_free(&out_bufs[i]);
    renew();
}

/* Judges the status of a call by the worst of its arguments. */
static void judge(const char *name, int32_t status, int worst)
{
    int fits = status > TOYKV_ERR_PANIC && status <= TOYKV_WOULD_STALL;
    if (!fits || (worst == BAD && status >= 0) || (worst == GOOD && status < 0)) {
        fprintf(stderr, "%s: %d (%s) for arguments of worth %d\n%s\n", name, (int)status,
                toykv_strerror(status), worst, error.message);
        exit(1);
    }
    clean();
}

static int worse(int a, int b)
{
    return a > b ? a : b;
}

static void ignore_finding(void *arg, const toykv_finding *finding)
{
    (void)arg, (void)finding;
}

static int32_t ignore_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)arg, (void)done_bytes, (void)total_bytes;
    return 0;
}

static void set_up(void)
{
    size_t i;
    memset(no_text, 'x', sizeof no_text);
    for (i = 0; i < COUNT(wo); i++)
        wo[i].struct_size = sizeof wo[i];
    wo[0].durability = TOYKV_DURABILITY_PROCESS;
    wo[1].struct_size = 0;
    wo[2].flags = 0x80000000u;
    wo[3].durability = 4;
    for (i = 0; i < COUNT(ro); i++)
        ro[i].struct_size = sizeof ro[i];
    ro[4].struct_size = UINT32_MAX;
    ro[5].flags = 1;
    for (i = 0; i < COUNT(io); i++)
        io[i].struct_size = sizeof io[i];
    io[0].prefix = SLICE("k");
    io[0].flags = TOYKV_RF_REVERSE | TOYKV_RF_KEYS_ONLY;
    io[1].lower = SLICE("a");
    io[3].struct_size = 1;
    io[4].flags = 0xFFF0;
    io[5].prefix.len = 1;
    io[6].upper = (toykv_slice){ (const uint8_t *)bytes, SIZE_MAX };
    slices[0] = SLICE("a");
    slices[1] = (toykv_slice){ NULL, 0 };
    slices[2] = (toykv_slice){ (const uint8_t *)bytes, 16 };
    slices[3] = (toykv_slice){ NULL, 1 };
    slices[4] = (toykv_slice){ (const uint8_t *)bytes, SIZE_MAX };

    db = open_db(in_dir(dir, "db"));
    put(db, "z", "z");
    other_db = open_db(in_dir(dir, "other"));
    WANT(TOYKV_OK, toykv_snapshot_new(other_db, &other_snapshot, &err));
    closed_db = open_db(in_dir(dir, "closed"));
    WANT(TOYKV_OK, toykv_iter_new(closed_db, NULL, NULL, &closed_iter, &err));
    WANT(TOYKV_OK, toykv_close(closed_db, &err));
    freed_db = open_db(in_dir(dir, "freed"));
    WANT(TOYKV_OK, toykv_snapshot_new(db, &freed_snapshot, &err));
    WANT(TOYKV_OK, toykv_iter_new(db, NULL, NULL, &freed_iter, &err));
    WANT(TOYKV_OK, toykv_stats_json(db, &freed_buf, &err));
    freed_batch = toykv_batch_new();
    freed_options = toykv_options_new();
    false_buf.owner = freed_buf.owner;
    toykv_buf_free(&false_buf);
    freed_buf.owner = db;
    false_buf.owner = &error;
    toykv_free(freed_db);
    toykv_snapshot_free(freed_snapshot);
    toykv_iter_free(freed_iter);
    toykv_batch_free(freed_batch);
    toykv_options_free(freed_options);
    args_const_char_path[3].p = (void *)in_dir(dir, "none/deep");
    args_const_char_path[4].p = (void *)in_dir(dir, "db/LOCK");
    args_const_char_path[5].p = (void *)in_dir(dir, "other");
    args_const_char_path[6].p = (void *)in_dir(dir, "fresh");
    args_const_char_source[3].p = (void *)in_dir(dir, "none/deep");
    args_const_char_source[4].p = (void *)in_dir(dir, "db");
    args_toykv_on_finding_on_finding[1].n = (size_t)(uintptr_t)ignore_finding;
    args_toykv_on_progress_on_progress[1].n = (size_t)(uintptr_t)ignore_progress;
    args_const_char_target[2].p = (void *)in_dir(dir, "saved");
    renew();
}

#include "abuse_calls.inc"

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    dir = argv[1];
    set_up();
    call_everything();
    CHECK(calls > 100000);
    toykv_free(db);
    toykv_free(other_db);
    toykv_free(closed_db);
    return 0;
}
