// What arduino.ino needs of a board, on a computer: WiFiClient over sockets, a serial line that is the error output.
// It posts three readings, without the pauses between them, and ends.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <netdb.h>
#include <string>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

const int WL_CONNECTED = 3;

struct {
  void begin(const char *, const char *) {}
  int status() { return WL_CONNECTED; }
} WiFi;

struct {
  void begin(long) {}
  void print(const char *text) { fputs(text, stderr); }
  void println(int number) { fprintf(stderr, "%d\n", number); }
} Serial;

class WiFiClient {
  int s = -1;
  timeval patience = {1, 0};

 public:
  void setTimeout(long ms) { patience = {ms / 1000, ms % 1000 * 1000}; }
  bool connect(const char *host, int port) {
    addrinfo hints = {}, *found;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host, std::to_string(port).c_str(), &hints, &found)) return false;
    s = socket(found->ai_family, found->ai_socktype, 0);
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    bool reached = ::connect(s, found->ai_addr, found->ai_addrlen) == 0;
    freeaddrinfo(found);
    if (!reached) stop();
    return reached;
  }
  void print(const char *text) {
    for (size_t left = strlen(text); left;) {
      ssize_t sent = send(s, text, left, MSG_NOSIGNAL);
      if (sent <= 0) return;
      text += sent, left -= sent;
    }
  }
  size_t readBytesUntil(char end, char *into, size_t size) {
    size_t count = 0;
    for (char each; count < size && recv(s, &each, 1, 0) == 1 && each != end;) into[count++] = each;
    return count;
  }
  void stop() {
    if (s >= 0) close(s);
    s = -1;
  }
};

inline void delay(unsigned long ms) { if (ms < 10000) usleep(ms * 1000); }
inline unsigned long micros() { return (unsigned long)clock(); }
inline int analogRead(int) { return rand() % 1024; }
inline void randomSeed(unsigned long seed) { srand((unsigned)seed ^ (unsigned)getpid() ^ (unsigned)time(nullptr)); }
inline long random(long below) { return rand() % below; }

void setup();
void loop();

int main() {
  setup();
  for (int i = 0; i < 3; i++) loop();
}
