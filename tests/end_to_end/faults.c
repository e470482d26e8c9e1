/* Lets system calls of the process that it is preloaded into fail or wait, and sets its clock, as the orders say.
 *
 * The orders lie in the file that MAILBE_TEST_FAULTS names, which faults.py writes while the process runs. What cannot
 * be had really on any machine is had here: a disk that fails a write or an fsync, a quota, a process or a system
 * without descriptors, another time of day.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define ORDERS 8
#define SECOND 1000000000L

/* The same in faults.py. */
struct order {
    atomic_int given;
    int error; /* errno; 0: let it pass, but not before the order is taken back */
    atomic_int passes; /* so many calls pass first */
    atomic_int fails; /* so many fail then; negative: all */
    atomic_int hits; /* so many have been met */
    char call[12];
    char path[256]; /* what must stand in the path */
};

struct orders {
    atomic_llong clock; /* nanoseconds that the time of day is ahead */
    struct order order[ORDERS];
};

static struct orders *orders;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void read_orders(void) {
    const char *path = getenv("MAILBE_TEST_FAULTS");
    int descriptor = path ? REAL(open)(path, O_RDWR | O_CLOEXEC) : -1;
    void *memory = MAP_FAILED;

    if (descriptor >= 0)
        memory = mmap(NULL, sizeof *orders, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "faults.c: no orders in MAILBE_TEST_FAULTS\n");
        _exit(99);
    }
    close(descriptor);
    orders = memory;
}

/* Whether this call fails; errno is set then. */
static int fails(const char *call, const char *path) {
    for (struct order *order = orders ? orders->order : NULL; order && order < orders->order + ORDERS; order++) {
        if (!order->given || strcmp(order->call, call) || !strstr(path, order->path))
            continue;
        if (atomic_fetch_sub(&order->passes, 1) > 0)
            continue;
        order->passes = 0;
        if (atomic_load(&order->fails) >= 0 && atomic_fetch_sub(&order->fails, 1) <= 0) {
            order->fails = 0;
            continue;
        }
        order->hits++;
        if (order->error) {
            errno = order->error;
            return 1;
        }
        while (order->given)
            usleep(1000);
    }
    return 0;
}

/* The path of a descriptor is looked up only where an order is about this call. */
static int fails_at(const char *call, int descriptor) {
    for (int i = 0; orders && i < ORDERS; i++) {
        char link[32], path[4096];
        ssize_t length;

        if (!orders->order[i].given || strcmp(orders->order[i].call, call))
            continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        if ((length = readlink(link, path, sizeof path - 1)) < 0)
            return 0;
        path[length] = 0;
        return fails(call, path);
    }
    return 0;
}

#define BY_DESCRIPTOR(call, result, name, parameters, ...)                                                             \
    result name parameters { return fails_at(call, descriptor) ? -1 : REAL(name)(__VA_ARGS__); }
#define BY_PATH(call, result, failure, name, parameters, ...)                                                          \
    result name parameters { return fails(call, path) ? failure : REAL(name)(__VA_ARGS__); }

BY_DESCRIPTOR("read", ssize_t, read, (int descriptor, void *to, size_t size), descriptor, to, size)
BY_DESCRIPTOR("read", ssize_t, pread64, (int descriptor, void *to, size_t size, off64_t at), descriptor, to, size, at)
BY_DESCRIPTOR("write", ssize_t, write, (int descriptor, const void *from, size_t size), descriptor, from, size)
BY_DESCRIPTOR("write", ssize_t, pwrite64, (int descriptor, const void *from, size_t size, off64_t at), descriptor, from,
              size, at)
BY_DESCRIPTOR("fsync", int, fsync, (int descriptor), descriptor)
BY_DESCRIPTOR("fsync", int, fdatasync, (int descriptor), descriptor)
BY_PATH("open", DIR *, NULL, opendir, (const char *path), path)
BY_PATH("link", int, -1, link, (const char *old, const char *path), old, path)
BY_PATH("link", int, -1, linkat, (int from, const char *old, int to, const char *path, int flags), from, old, to, path,
        flags)
BY_PATH("unlink", int, -1, unlink, (const char *path), path)
BY_PATH("mkdir", int, -1, mkdir, (const char *path, mode_t mode), path, mode)
BY_PATH("rmdir", int, -1, rmdir, (const char *path), path)

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list rest;                                                                                                  \
        mode_t mode;                                                                                                   \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
        return fails("open", path) ? -1 : REAL(name)(path, flags, mode);                                               \
    }

OPEN(open)
OPEN(open64)

int accept4(int descriptor, struct sockaddr *address, socklen_t *length, int flags) {
    return fails("open", "socket:") ? -1 : REAL(accept4)(descriptor, address, length, flags);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = REAL(clock_gettime)(clock, now);

    if (result == 0 && orders && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t sum = now->tv_sec * SECOND + now->tv_nsec + orders->clock;

        now->tv_sec = sum / SECOND;
        now->tv_nsec = sum % SECOND;
    }
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;

    clock_gettime(CLOCK_REALTIME, &precise);
    if (now)
        *now = precise.tv_sec;
    return precise.tv_sec;
}
