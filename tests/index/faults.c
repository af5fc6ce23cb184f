/* Lets the nth call that changes the disk fail; preloaded into the process that a test watches.
 *
 * Only regular files and folders count, so pipes and terminals go on. Syncing is left out: a test
 * of thousands of calls would wait for the disk, and learn nothing from it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static long seen, first;
static int code, lasting;

/* From now on the nth call fails with an error, and if lasting every one after it. */
void faults_arm(long nth, int error, int all_after) {
    seen = 0;
    first = nth;
    code = error;
    lasting = all_after;
}

/* Let all calls succeed; return how many there were. */
long faults_disarm(void) {
    first = 0;
    return seen;
}

static int fails(void) {
    if (!first) return 0;
    seen++;
    if (seen != first && !(lasting && seen > first)) return 0;
    errno = code;
    return 1;
}

static int fails_on(int file) {
    struct stat status;
    if (!first || fstat(file, &status)) return 0;
    return (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) && fails();
}

#define NEXT(name, result, ...) \
    static result (*next)(__VA_ARGS__); \
    if (!next) next = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int file, const void *bytes, size_t size) {
    NEXT("write", ssize_t, int, const void *, size_t);
    return fails_on(file) ? -1 : next(file, bytes, size);
}

ssize_t pwrite(int file, const void *bytes, size_t size, off_t at) {
    NEXT("pwrite", ssize_t, int, const void *, size_t, off_t);
    return fails_on(file) ? -1 : next(file, bytes, size, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at) {
    NEXT("pwrite64", ssize_t, int, const void *, size_t, off64_t);
    return fails_on(file) ? -1 : next(file, bytes, size, at);
}

int ftruncate(int file, off_t size) {
    NEXT("ftruncate", int, int, off_t);
    return fails_on(file) ? -1 : next(file, size);
}

int ftruncate64(int file, off64_t size) {
    NEXT("ftruncate64", int, int, off64_t);
    return fails_on(file) ? -1 : next(file, size);
}

int fsync(int file) { return fails_on(file) ? -1 : 0; }

int fdatasync(int file) { return fails_on(file) ? -1 : 0; }

int rename(const char *from, const char *to) {
    NEXT("rename", int, const char *, const char *);
    return fails() ? -1 : next(from, to);
}

int link(const char *from, const char *to) {
    NEXT("link", int, const char *, const char *);
    return fails() ? -1 : next(from, to);
}

int mkdir(const char *path, mode_t mode) {
    NEXT("mkdir", int, const char *, mode_t);
    return fails() ? -1 : next(path, mode);
}

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        NEXT(#name, int, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return (flags & O_CREAT) && fails() ? -1 : next(path, flags, mode); \
    }

OPENS(open)
OPENS(open64)
