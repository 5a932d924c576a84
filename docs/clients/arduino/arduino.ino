// A device that posts a reading every ten seconds over HTTP/1.0, and sends it again until it is taken.
//
// For boards with WiFi.h (ESP32, MKR, Nano 33 IoT; with <ESP8266WiFi.h> in its place, ESP8266). To try it on a computer:
//     g++ -x c++ -DGATEWAY_HOST='"127.0.0.1"' -o device arduino.ino && ./device
#ifdef ARDUINO
#include <WiFi.h>
#else
#include "computer.h"
#endif

#ifndef GATEWAY_HOST
#define GATEWAY_HOST "192.168.1.10"
#endif
#ifndef GATEWAY_PORT
#define GATEWAY_PORT 8001
#endif

const char *network = "my network";
const char *password = "my password";
const char *api_key = "";  // INGEST_API_KEY of the gateway, where it has one

unsigned long boot, sequence;

// Post a body. Gives the answer's status, or 0 where there is none; `wait` gets the seconds after which to try again.
int post(const char *body, unsigned long *wait) {
  WiFiClient client;
  char line[128];
  int status = 0;
  *wait = 1;
  client.setTimeout(30000);  // the gateway answers within 10 s, with Kafka or without
  if (!client.connect(GATEWAY_HOST, GATEWAY_PORT)) return 0;
  client.print("POST /ingest/packets HTTP/1.0\r\nHost: " GATEWAY_HOST "\r\nContent-Type: application/json\r\n");
  if (*api_key) {
    client.print("X-API-Key: ");
    client.print(api_key);
    client.print("\r\n");
  }
  snprintf(line, sizeof line, "Content-Length: %u\r\n\r\n", (unsigned)strlen(body));
  client.print(line);
  client.print(body);
  for (;;) {  // the head ends with an empty line; of it only the status and the time to wait matter
    size_t got = client.readBytesUntil('\n', line, sizeof line - 1);
    line[got] = 0;
    if (got <= 1) break;
    if (!status) sscanf(line, "HTTP/%*d.%*d %d", &status);
    sscanf(line, "Retry-After: %lu", wait);
  }
  client.stop();
  return status;
}

void setup() {
  Serial.begin(115200);
  WiFi.begin(network, password);
  while (WiFi.status() != WL_CONNECTED) delay(500);
  randomSeed(analogRead(0) + micros());
  boot = random(2147483647);
}

void loop() {
  char body[256];
  unsigned long wait;
  // There is no clock, so no ts: the packet_id has the reading count once, however often it is sent.
  snprintf(body, sizeof body,
           "{\"device_uuid\": \"device-arduino\", \"packet_id\": \"%lu/%lu\","
           " \"readings\": [{\"sensor_uuid\": \"device-arduino-1\", \"value\": %d}]}",
           boot, ++sequence, analogRead(1));
  for (;;) {
    int status = post(body, &wait);
    if (status == 202 || status == 207) break;
    Serial.print("not taken, status ");
    Serial.println(status);
    if (status >= 400 && status < 500 && status != 408 && status != 429) break;  // it would be refused again
    delay(wait * 1000);
  }
  delay(10000);
}
