// socket.c - socket options and messages with structures, ioctls, terminals. Run with and without a
// root: the addresses of unix sockets are the guest's own either way.
#define _GNU_SOURCE
#include "check.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pty.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static void internet(void) {
    struct sockaddr_in6 in = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}, from;
    socklen_t len = sizeof in4;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, value = 0;
    CHECK(!setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    CHECK(!bind(s, (void *)&in4, len) && !listen(s, 5) && !getsockname(s, (void *)&in4, &len) &&
          in4.sin_port);
    int c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int r = connect(c, (void *)&in4, sizeof in4), e = errno;
    CHECK(r == 0 || e == EINPROGRESS);
    len = sizeof from;
    int a = accept4(s, (void *)&from, &len, SOCK_CLOEXEC);
    CHECK(a >= 0 && len == sizeof from && from.sin_family == AF_INET &&
          fcntl(a, F_GETFD) == FD_CLOEXEC);
    struct tcp_info info;
    len = sizeof info;
    CHECK(!getsockopt(a, IPPROTO_TCP, TCP_INFO, &info, &len) && info.tcpi_state == TCP_ESTABLISHED);
    struct linger linger = {1, 7}, got = {0};
    len = sizeof got;
    CHECK(!setsockopt(a, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) &&
          !getsockopt(a, SOL_SOCKET, SO_LINGER, &got, &len) && got.l_onoff && got.l_linger == 7);
    struct timeval tv = {2, 500000}, tv2 = {0};
    len = sizeof tv2;
    CHECK(!setsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) &&
          !getsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &tv2, &len) && tv2.tv_sec == 2 &&
          tv2.tv_usec >= 500000 && tv2.tv_usec < 510000);
    len = sizeof value;
    CHECK(!getsockopt(a, SOL_SOCKET, SO_TYPE, &value, &len) && value == SOCK_STREAM);
    FAILS(ENOPROTOOPT, setsockopt(a, IPPROTO_TCP, 9999, &one, sizeof one));
    FAILS(EFAULT, setsockopt(a, SOL_SOCKET, SO_LINGER, (void *)8, 8));
    CHECK(send(c, "hello", 5, MSG_NOSIGNAL) == 5);
    CHECK(poll(&(struct pollfd){a, POLLIN, 0}, 1, 1000) == 1 && !ioctl(a, FIONREAD, &value) &&
          value == 5);
    char buffer[64];
    CHECK(recv(a, buffer, 64, MSG_PEEK) == 5 && recv(a, buffer, 64, 0) == 5);
    FAILS(EFAULT, recv(a, (void *)8, 10, MSG_DONTWAIT) == -1 && errno == EAGAIN
                      ? (errno = EFAULT, -1)
                      : -1);
    close(a);
    close(c);
    close(s);
    // datagrams with what comes along
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    in4.sin_port = 0;
    len = sizeof in4;
    CHECK(!bind(u, (void *)&in4, sizeof in4) && !getsockname(u, (void *)&in4, &len));
    CHECK(!setsockopt(u, IPPROTO_IP, IP_PKTINFO, &one, sizeof one) &&
          !setsockopt(u, SOL_SOCKET, SO_TIMESTAMP, &one, sizeof one));
    CHECK(sendto(u, "dgram", 5, 0, (void *)&in4, sizeof in4) == 5);
    char control[256];
    struct iovec iov = {buffer, sizeof buffer};
    struct msghdr m = {.msg_name = &from,
                       .msg_namelen = sizeof from,
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof control};
    CHECK(recvmsg(u, &m, 0) == 5 && m.msg_namelen == sizeof from && from.sin_port == in4.sin_port);
    int seen = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_PKTINFO)
            seen |= ((struct in_pktinfo *)CMSG_DATA(h))->ipi_addr.s_addr == htonl(INADDR_LOOPBACK);
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SO_TIMESTAMP)
            seen |= 2 * (((struct timeval *)CMSG_DATA(h))->tv_sec > 1000000000);
    }
    CHECK(seen == 3);
    struct mmsghdr mm[3] = {0};
    char parts[3][8] = {"one", "two", "three"};
    struct iovec iovs[3];
    for (int i = 0; i < 3; i++) {
        iovs[i] = (struct iovec){parts[i], strlen(parts[i])};
        mm[i].msg_hdr = (struct msghdr){
            .msg_name = &in4, .msg_namelen = sizeof in4, .msg_iov = &iovs[i], .msg_iovlen = 1};
    }
    CHECK(sendmmsg(u, mm, 3, 0) == 3 && mm[2].msg_len == 5);
    for (int i = 0; i < 3; i++) iovs[i].iov_len = 8;
    CHECK(recvmmsg(u, mm, 3, MSG_WAITFORONE, NULL) >= 1 && mm[0].msg_len == 3 &&
          mm[0].msg_hdr.msg_namelen == sizeof in4);
    struct ifconf conf = {.ifc_len = sizeof control, .ifc_buf = control};
    CHECK(!ioctl(u, SIOCGIFCONF, &conf) && conf.ifc_len >= (int)sizeof(struct ifreq));
    struct ifreq req = {.ifr_name = "lo"};
    CHECK(!ioctl(u, SIOCGIFFLAGS, &req) && req.ifr_flags & IFF_LOOPBACK &&
          if_nametoindex("lo") > 0);
    close(u);
}

static void locals(const char *dir) {
    struct sockaddr_un a = {.sun_family = AF_UNIX}, b = a, got;
    socklen_t len = sizeof got;
    snprintf(a.sun_path, sizeof a.sun_path, "%s/a.sock", dir);
    snprintf(b.sun_path, sizeof b.sun_path, "%s/b.sock", dir);
    unlink(a.sun_path);
    unlink(b.sun_path);
    int x = socket(AF_UNIX, SOCK_DGRAM, 0), y = socket(AF_UNIX, SOCK_DGRAM, 0), one = 1;
    CHECK(!bind(x, (void *)&a, sizeof a) && !bind(y, (void *)&b, sizeof b));
    FAILS(EADDRINUSE, bind(socket(AF_UNIX, SOCK_DGRAM, 0), (void *)&a, sizeof a));
    CHECK(!getsockname(x, (void *)&got, &len) && !strcmp(got.sun_path, a.sun_path) &&
          len == offsetof(struct sockaddr_un, sun_path) + strlen(a.sun_path) + 1);
    char buffer[64], control[256] = "";
    CHECK(sendto(x, "to b", 4, 0, (void *)&b, sizeof b) == 4);
    len = sizeof got;
    CHECK(recvfrom(y, buffer, 64, 0, (void *)&got, &len) == 4 && !strcmp(got.sun_path, a.sun_path));
    // a descriptor and credentials along with it
    CHECK(!setsockopt(y, SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
    int fd = memfd_create("passed", 0);
    write(fd, "inside", 6);
    struct iovec iov = {"msg", 3};
    struct msghdr m = {.msg_name = &b,
                       .msg_namelen = sizeof b,
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = CMSG_SPACE(sizeof fd)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    *h = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    CHECK(sendmsg(x, &m, 0) == 3);
    iov = (struct iovec){buffer, sizeof buffer};
    m = (struct msghdr){.msg_name = &got,
                        .msg_namelen = sizeof got,
                        .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control,
                        .msg_controllen = sizeof control};
    CHECK(recvmsg(y, &m, MSG_CMSG_CLOEXEC) == 3 && !strcmp(got.sun_path, a.sun_path));
    int seen = 0;
    for (h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_type == SCM_CREDENTIALS)
            seen |= ((struct ucred *)CMSG_DATA(h))->pid == getpid();
        if (h->cmsg_type == SCM_RIGHTS) {
            int passed = *(int *)CMSG_DATA(h);
            seen |= 2 * (pread(passed, buffer, 6, 0) == 6 && !memcmp(buffer, "inside", 6) &&
                         fcntl(passed, F_GETFD) == FD_CLOEXEC);
        }
    }
    CHECK(seen == 3);
    // connected, by a relative name
    int s = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un rel = {.sun_family = AF_UNIX, .sun_path = "rel.sock"};
    char cwd[4096];
    getcwd(cwd, sizeof cwd);
    CHECK(!chdir(dir));
    unlink("rel.sock");
    CHECK(!bind(s, (void *)&rel, sizeof rel) && !listen(s, 1) &&
          !connect(c, (void *)&rel, sizeof rel));
    len = sizeof got;
    CHECK(!getpeername(c, (void *)&got, &len) && !strcmp(got.sun_path, "rel.sock"));
    len = sizeof got;
    int acc = accept(s, (void *)&got, &len);
    CHECK(acc >= 0 && len == sizeof got.sun_family);
    struct ucred cred;
    len = sizeof cred;
    CHECK(!getsockopt(acc, SOL_SOCKET, SO_PEERCRED, &cred, &len) && cred.pid == getpid() &&
          cred.uid == getuid());
    unlink("rel.sock");
    chdir(cwd);
    // no file: abstract
    struct sockaddr_un abs = {.sun_family = AF_UNIX};
    len = offsetof(struct sockaddr_un, sun_path) + 1 +
          snprintf(abs.sun_path + 1, 50, "dgm-test-%d", getpid());
    CHECK(!bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&abs, len));
    FAILS(ENOENT, ({
              unlink(a.sun_path);
              connect(y, (void *)&a, sizeof a);
          }));
    FAILS(EINVAL, bind(s, (void *)&a, 1));
    unlink(b.sun_path);
    close(x);
    close(y);
    close(s);
    close(c);
}

static void terminals(void) {
    struct winsize w = {30, 100, 0, 0}, got = {0};
    struct termios t, raw;
    int master, slave;
    char name[100], buffer[100];
    if (openpty(&master, &slave, name, NULL, &w)) return; // no devpts here
    CHECK(!ioctl(slave, TIOCGWINSZ, &got) && got.ws_row == 30 && got.ws_col == 100);
    CHECK(isatty(slave) && !strcmp(ttyname(slave), name));
    CHECK(!tcgetattr(slave, &t) && t.c_lflag & ECHO && t.c_cc[VINTR] == 3);
    raw = t;
    cfmakeraw(&raw);
    CHECK(!tcsetattr(slave, TCSANOW, &raw) && !tcgetattr(slave, &t) &&
          !(t.c_lflag & (ECHO | ICANON)));
    CHECK(write(master, "x\n", 2) == 2 && read(slave, buffer, 100) == 2 && buffer[1] == '\n');
    pid_t pid = fork(); // a controlling terminal, and job control by it
    if (!pid) {
        setsid();
        int e = ioctl(slave, TIOCSCTTY, 0) || tcgetpgrp(slave) != getpid();
        _exit(e);
    }
    int status;
    waitpid(pid, &status, 0);
    CHECK(status == 0);
    int value = 1;
    CHECK(!ioctl(master, FIONBIO, &value));
    FAILS(EAGAIN, read(master, buffer, 100));
    FAILS(ENOTTY, ioctl(memfd_create("x", 0), TCGETS, &t));
    FAILS(EFAULT, ioctl(slave, TIOCGWINSZ, 8));
    FAILS(EBADF, ioctl(999, TIOCGWINSZ, &w));
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    char dir[] = "/tmp/socketXXXXXX";
    CHECK(mkdtemp(dir));
    internet();
    locals(dir);
    terminals();
    rmdir(dir);
    return check_done();
}
