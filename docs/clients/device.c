/* A device that posts a reading with plain sockets and HTTP/1.0, and sends it again until it is taken.
 *
 *     cc -o device device.c && ./device 127.0.0.1 8001 [KEY]
 */
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int dial(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    struct timeval patience = {.tv_sec = 30}; /* the gateway answers within 10 s, with Kafka or without */
    int s = -1;
    if (getaddrinfo(host, port, &hints, &found))
        return -1;
    for (struct addrinfo *at = found; at && s < 0; at = at->ai_next) {
        if ((s = socket(at->ai_family, at->ai_socktype, at->ai_protocol)) < 0)
            continue;
        setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (connect(s, at->ai_addr, at->ai_addrlen)) {
            close(s);
            s = -1;
        }
    }
    freeaddrinfo(found);
    return s;
}

/* Post a body; gives the answer's status, or 0 where there is none. The answer is text, cut where it is too long. */
static int post(const char *host, const char *port, const char *key, const char *body, char *answer, size_t size)
{
    char request[2048];
    size_t have = 0;
    ssize_t got;
    int length = snprintf(request, sizeof request,
        "POST /ingest/packets HTTP/1.0\r\nHost: %s\r\nContent-Type: application/json\r\n%s%s%sContent-Length: %zu\r\n\r\n%s",
        host, key ? "X-API-Key: " : "", key ? key : "", key ? "\r\n" : "", strlen(body), body);
    int s;
    *answer = 0;
    if (length >= (int)sizeof request || (s = dial(host, port)) < 0)
        return 0;
    for (int sent = 0; sent < length; sent += (int)got)
        if ((got = send(s, request + sent, (size_t)(length - sent), 0)) <= 0)
            break;
    while (have < size - 1 && (got = recv(s, answer + have, size - 1 - have, 0)) > 0)
        have += (size_t)got;
    answer[have] = 0;
    close(s);
    int status = 0;
    sscanf(answer, "HTTP/%*d.%*d %d", &status);
    return status;
}

int main(int argc, char **argv)
{
    char body[512], answer[4096];
    signal(SIGPIPE, SIG_IGN); /* a gateway that goes away is no reason to end */
    if (argc < 3) {
        fprintf(stderr, "usage: %s HOST PORT [KEY]\n", argv[0]);
        return 2;
    }
    /* Measured now, once: sent again with the same ts, it counts once. */
    snprintf(body, sizeof body,
        "{\"device_uuid\": \"device-in-c\", \"ts\": %lld, \"readings\": [{\"sensor_uuid\": \"device-in-c-1\", \"value\": 23.5}]}",
        (long long)time(NULL));
    for (;;) {
        int status = post(argv[1], argv[2], argc > 3 ? argv[3] : NULL, body, answer, sizeof answer);
        if (status == 202 || status == 207) { /* 207: all but the readings that the answer names */
            char *json = strstr(answer, "\r\n\r\n");
            puts(json ? json + 4 : "taken");
            return 0;
        }
        if (status != 0 && status != 408 && status != 429 && status < 500) {
            fprintf(stderr, "%s\n", answer); /* it would be refused again: the answer says why */
            return 1;
        }
        char *wait = strstr(answer, "Retry-After: ");
        sleep(status && wait ? (unsigned)atoi(wait + 13) : 1);
    }
}
