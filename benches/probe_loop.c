/* The measure of O10: the least that a blocking prober must do per HTTP probe, in C.
 *
 *   probe_loop PORT COUNT fresh|kept
 *
 * fresh: socket, zero linger, connect, send, receive, close. kept: send and receive on one connection.
 * Prints microseconds of CPU (user and system) per probe. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static double micros(struct timeval t) { return t.tv_sec * 1e6 + t.tv_usec; }

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  int port = atoi(argv[1]), kept = !strcmp(argv[3], "kept"), fd = -1;
  long count = atol(argv[2]);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  char request[256], buffer[4096];
  int length = snprintf(request, sizeof request,
                        "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: hale-probe/0.1.0\r\n"
                        "Accept: */*\r\nConnection: %s\r\n\r\n",
                        port, kept ? "keep-alive" : "close");
  for (long i = 0; i < count; i++) {
    if (fd < 0) {
      fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
      if (connect(fd, (void *)&address, sizeof address)) {
        perror("connect");
        return 1;
      }
    }
    if (send(fd, request, length, MSG_NOSIGNAL) != length || recv(fd, buffer, sizeof buffer, 0) <= 0 ||
        memcmp(buffer, "HTTP/1.1 200", 12)) {
      perror("probe");
      return 1;
    }
    if (!kept) {
      close(fd);
      fd = -1;
    }
  }
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  printf("%.3f\n", (micros(used.ru_utime) + micros(used.ru_stime)) / count);
  return 0;
}
