/* A small HTTP server for the probe benchmark: one thread, epoll, one fixed answer, kept connections.
 * Prints its port, and serves until it is killed or its standard input ends.
 *
 * With the argument "many" it is reached at every address of 127.0.0.0/8, and treats them by their second number:
 *   127.2.x.x takes requests and never answers;
 *   127.3.x.x answers 503 from a 'b' on standard input to the next 'g';
 *   all others answer 200.
 * A 'c' on standard input has it print how many requests came. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char answer[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";

static const char trouble[] = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";

/* The second number of the address that each connection was made to, by descriptor. */
static unsigned char asked[1 << 20];

int main(int argc, char **argv) {
  int many = argc > 1 && !strcmp(argv[1], "many"), broken = 0;
  long requests = 0;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (many) {
    /* All of loopback, and nothing but loopback. */
    if (setsockopt(listener, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3)) {
      perror("probe_server: SO_BINDTODEVICE");
      return 1;
    }
    address.sin_addr.s_addr = htonl(INADDR_ANY);
  }
  if (bind(listener, (void *)&address, size) || listen(listener, 4096) ||
      getsockname(listener, (void *)&address, &size)) {
    perror("probe_server");
    return 1;
  }
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  event.data.fd = 0;
  epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
  char buffer[4096];
  for (;;) {
    int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == 0) {
        ssize_t got = read(0, buffer, sizeof buffer);
        if (got <= 0) return 0;
        if (buffer[got - 1] == 'c') {
          printf("%ld\n", requests);
          fflush(stdout);
        } else {
          broken = buffer[got - 1] == 'b';
        }
      } else if (fd == listener) {
        for (;;) {
          int connection = accept4(listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
          if (connection < 0) break;
          if (many && connection < (int)sizeof asked) {
            struct sockaddr_in local;
            socklen_t length = sizeof local;
            getsockname(connection, (void *)&local, &length);
            asked[connection] = ntohl(local.sin_addr.s_addr) >> 16;
          }
          event.events = EPOLLIN;
          event.data.fd = connection;
          epoll_ctl(epoll, EPOLL_CTL_ADD, connection, &event);
        }
      } else {
        ssize_t got = recv(fd, buffer, sizeof buffer, 0);
        int kind = many && fd < (int)sizeof asked ? asked[fd] : 0;
        requests += got > 0;
        if (got > 0 && kind == 2)
          continue;
        else if (got > 0 && kind == 3 && broken)
          send(fd, trouble, sizeof trouble - 1, MSG_NOSIGNAL);
        else if (got > 0)
          send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
        else if (got == 0 || errno != EAGAIN)
          close(fd);
      }
    }
  }
}
