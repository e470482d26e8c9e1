/*
 * The clients of the benchmark: as many threads as there are to be connections at once, each of which speaks one
 * dialogue after the other and waits for every reply, as most clients do. Any reply that is not the expected one
 * ends the program with status 1. At the end it prints how many units were done (letters or log-ins) and
 * in how many seconds.
 *
 *     load smtp   letters, on connections of -k letters each (0: on one as long as it lasts)
 *     load poll   log in, STAT, QUIT
 *     load fetch  log in, RETR 1 to -k (with -d also DELE), QUIT; with -i all commands are sent before any reply is read
 *     load idle   opens -n connections (POP3, logged in, where there is a password), prints "ready", waits for its
 *                 standard input to end
 *
 * -o is the size of the letters to send, the least size of those to fetch, or how many letters STAT must tell.
 * A # in -u or -r stands for a number that is another one for each log-in or recipient, and less than -m.
 * What a connection does alone needs no locks: the next number of a unit is the one thing that threads share.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/ssl.h>
#endif

enum { ROOM = 65536, LINE = 1000, PATIENCE = 120 /* seconds */, SILENCE = 1000 /* milliseconds */ };

static int port, at_once = 1, each = 1, recipients = 1, starttls, pipelined, deletes;
static long units = 1, octets = 4096, names = 1;
static double seconds = 60;
static const char *user, *password, *recipient = "nobody", *sender = "sender@client.test", *plain;
static char *letter, *commands;
static size_t letter_length, commands_length;
static atomic_long next_unit, done;
static double deadline;

struct wire {
    int fd;
    size_t at, end;
    char line[LINE];
#ifdef WITH_TLS
    SSL *tls;
#endif
    char buffer[ROOM];
};

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static int connected(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval patience = {.tv_sec = PATIENCE};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("connecting: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return fd;
}

/*
 * A new connection on which the server has begun to speak. Where a server's listen backlog is a handful, Linux drops
 * the end of a handshake and leaves the client in the belief that it is connected; such a one tries again.
 */
static void dial(struct wire *wire)
{
    wire->at = wire->end = 0;
    wire->line[0] = 0;
#ifdef WITH_TLS
    wire->tls = NULL;
#endif
    for (int i = 0; i < PATIENCE; i++) {
        struct pollfd greeting = {.fd = wire->fd = connected(), .events = POLLIN};
        if (poll(&greeting, 1, SILENCE) == 1)
            return;
        close(wire->fd);
    }
    die("no greeting");
}

static void hang_up(struct wire *wire)
{
#ifdef WITH_TLS
    if (wire->tls) {
        SSL_shutdown(wire->tls);
        SSL_free(wire->tls);
    }
#endif
    close(wire->fd);
}

static void put(struct wire *wire, const char *data, size_t length)
{
    while (length) {
        ssize_t count;
#ifdef WITH_TLS
        if (wire->tls)
            count = SSL_write(wire->tls, data, length < 1 << 20 ? length : 1 << 20);
        else
#endif
            count = send(wire->fd, data, length, MSG_NOSIGNAL);
        if (count <= 0)
            die("writing: %s", strerror(errno));
        data += count;
        length -= count;
    }
}

static void fill(struct wire *wire)
{
    ssize_t count;
#ifdef WITH_TLS
    if (wire->tls)
        count = SSL_read(wire->tls, wire->buffer, ROOM);
    else
#endif
        count = recv(wire->fd, wire->buffer, ROOM, 0);
    if (count <= 0)
        die("%s behind: %s", count ? strerror(errno) : "the server hung up", wire->line);
    wire->at = 0;
    wire->end = count;
}

/* The next line, without its end; what does not fit into wire->line is left out. Returns its whole length. */
static size_t get_line(struct wire *wire)
{
    size_t length = 0;
    for (;;) {
        if (wire->at == wire->end)
            fill(wire);
        char *start = wire->buffer + wire->at;
        char *end = memchr(start, '\n', wire->end - wire->at);
        size_t piece = (end ? end : wire->buffer + wire->end) - start;
        if (length < LINE - 1)
            memcpy(wire->line + length, start, piece < LINE - 1 - length ? piece : LINE - 1 - length);
        length += piece;
        wire->at += piece + (end != NULL);
        if (end) {
            size_t kept = length < LINE - 1 ? length : LINE - 1;
            while (kept && wire->line[kept - 1] == '\r')
                kept--;
            wire->line[kept] = 0;
            return length;
        }
    }
}

static void tell(struct wire *wire, const char *format, ...)
{
    char line[LINE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    put(wire, line, length);
}

/* An SMTP reply, all its lines. */
static void hear(struct wire *wire, const char *code, const char *to)
{
    do
        get_line(wire);
    while (strlen(wire->line) > 3 && wire->line[3] == '-');
    if (strncmp(wire->line, code, 3))
        die("%s was answered: %s", to, wire->line);
}

static void hear_ok(struct wire *wire, const char *to)
{
    get_line(wire);
    if (strncmp(wire->line, "+OK", 3))
        die("%s was answered: %s", to, wire->line);
}

/* The name that a pattern gives for a number. */
static void name(char *into, const char *pattern, long number)
{
    const char *mark = strchr(pattern, '#');
    if (mark)
        snprintf(into, LINE, "%.*s%ld%s", (int)(mark - pattern), pattern, number % names, mark + 1);
    else
        snprintf(into, LINE, "%s", pattern);
}

static void greet(struct wire *wire)
{
    dial(wire);
    hear(wire, "220", "connecting");
    tell(wire, "EHLO client.test\r\n");
    hear(wire, "250", "EHLO");
    if (!starttls)
        return;
#ifdef WITH_TLS
    static SSL_CTX *context;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    if (!context)
        context = SSL_CTX_new(TLS_client_method());
    pthread_mutex_unlock(&lock);
    tell(wire, "STARTTLS\r\n");
    hear(wire, "220", "STARTTLS");
    wire->tls = SSL_new(context);
    SSL_set_fd(wire->tls, wire->fd);
    if (SSL_connect(wire->tls) != 1)
        die("no handshake");
    tell(wire, "EHLO client.test\r\n");
    hear(wire, "250", "EHLO in TLS");
    if (plain) {
        tell(wire, "AUTH PLAIN %s\r\n", plain);
        hear(wire, "235", "AUTH");
    }
#else
    die("compiled without TLS");
#endif
}

static void send_letter(struct wire *wire, long unit)
{
    char to[LINE];
    tell(wire, "MAIL FROM:<%s>\r\n", sender);
    hear(wire, "250", "MAIL");
    for (int i = 0; i < recipients; i++) {
        name(to, recipient, unit * recipients + i);
        tell(wire, "RCPT TO:<%s>\r\n", to);
        hear(wire, "250", to);
    }
    tell(wire, "DATA\r\n");
    hear(wire, "354", "DATA");
    put(wire, letter, letter_length);
    hear(wire, "250", "the letter");
    done++;
}

static void quit(struct wire *wire)
{
    tell(wire, "QUIT\r\n");
    hear(wire, "221", "QUIT");
    hang_up(wire);
}

/* The number of the next unit, or -1 where there is no more to do. */
static long take(void)
{
    long unit = next_unit++;
    return unit < units && now() < deadline ? unit : -1;
}

static void *smtp(void *wire)
{
    long unit = take();
    while (unit >= 0) {
        greet(wire);
        int sent = 0;
        do {
            send_letter(wire, unit);
            sent++;
            unit = take();
        } while (unit >= 0 && sent != each);
        quit(wire);
    }
    return NULL;
}

static void log_in(struct wire *wire, long number)
{
    char who[LINE];
    name(who, user, number);
    dial(wire);
    hear_ok(wire, "connecting");
    tell(wire, "USER %s\r\n", who);
    hear_ok(wire, "USER");
    tell(wire, "PASS %s\r\n", password);
    hear_ok(wire, who);
}

static void leave(struct wire *wire)
{
    tell(wire, "QUIT\r\n");
    hear_ok(wire, "QUIT");
    hang_up(wire);
}

static void *poll_all(void *wire)
{
    long unit;
    while ((unit = take()) >= 0) {
        log_in(wire, unit);
        tell(wire, "STAT\r\n");
        hear_ok(wire, "STAT");
        if (strtol(((struct wire *)wire)->line + 4, NULL, 10) != octets)
            die("there should be %ld letters: %s", octets, ((struct wire *)wire)->line);
        leave(wire);
        done++;
    }
    return NULL;
}

/* One letter. Each has to be of -o octets at least, so that nobody is fast who sends less. */
static void hear_letter(struct wire *wire)
{
    long length = 0;
    hear_ok(wire, "RETR");
    for (;;) {
        size_t line = get_line(wire);
        if (line == 2 && wire->line[0] == '.')
            break;
        length += line + 1;
    }
    if (length < octets)
        die("a letter of %ld octets, not of %ld", length, octets);
    done++;
}

static void *fetch(void *wire)
{
    long unit;
    while ((unit = take()) >= 0) {
        log_in(wire, unit);
        if (pipelined)
            put(wire, commands, commands_length);
        for (int i = 1; i <= each; i++) {
            if (!pipelined)
                tell(wire, "RETR %d\r\n", i);
            hear_letter(wire);
            if (deletes && !pipelined)
                tell(wire, "DELE %d\r\n", i);
            if (deletes)
                hear_ok(wire, "DELE");
        }
        leave(wire);
    }
    return NULL;
}

static void idle(void)
{
    for (long i = 0; i < units; i++) {
        struct wire *wire = malloc(sizeof *wire);
        if (password)
            log_in(wire, i);
        else
            greet(wire);
    }
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        ;
}

static void write_letter(void)
{
    FILE *into = open_memstream(&letter, &letter_length);
    fprintf(into, "From: <%s>\r\nTo: <somebody@bench.test>\r\nSubject: Benchmark\r\n"
                  "Date: Mon, 2 Mar 2026 10:00:00 +0000\r\nMessage-ID: <1@client.test>\r\n\r\n", sender);
    while (ftell(into) < octets)
        fprintf(into, "The quick brown fox jumps over the lazy dog, and the dog does not even look.\r\n");
    fprintf(into, ".\r\n");
    fclose(into);
}

static void write_commands(void)
{
    FILE *into = open_memstream(&commands, &commands_length);
    for (int i = 1; i <= each; i++)
        fprintf(into, deletes ? "RETR %d\r\nDELE %d\r\n" : "RETR %d\r\n", i, i);
    fclose(into);
}

int main(int count, char **arguments)
{
    int option;
    const char *mode = count > 1 ? arguments[1] : "";
    for (optind = 2; (option = getopt(count, arguments, "p:n:s:c:k:o:R:u:w:r:f:a:m:tid")) != -1;)
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'n': units = atol(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'c': at_once = atoi(optarg); break;
        case 'k': each = atoi(optarg); break;
        case 'o': octets = atol(optarg); break;
        case 'R': recipients = atoi(optarg); break;
        case 'u': user = optarg; break;
        case 'w': password = optarg; break;
        case 'r': recipient = optarg; break;
        case 'f': sender = optarg; break;
        case 'a': plain = optarg; break;
        case 'm': names = atol(optarg); break;
        case 't': starttls = 1; break;
        case 'i': pipelined = 1; break;
        case 'd': deletes = 1; break;
        default: return 2;
        }
    if (!strcmp(mode, "idle")) {
        idle();
        return 0;
    }
    void *(*work)(void *) = !strcmp(mode, "smtp") ? smtp : !strcmp(mode, "poll") ? poll_all : fetch;
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    if (work == smtp)
        write_letter();
    if (work == fetch)
        write_commands();
    pthread_t *threads = calloc(at_once, sizeof *threads);
    double begin = now();
    deadline = begin + seconds;
    for (int i = 0; i < at_once; i++)
        if (pthread_create(threads + i, NULL, work, malloc(sizeof(struct wire))))
            die("no thread");
    for (int i = 0; i < at_once; i++)
        pthread_join(threads[i], NULL);
    printf("%ld %.6f\n", done, now() - begin);
    return 0;
}
