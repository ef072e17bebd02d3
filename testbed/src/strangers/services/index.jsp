<%@ page contentType="application/json" import="java.lang.management.*, java.nio.file.*, java.util.*" %><%!
// What a cache without a limit keeps, and garbage that is made beside it.
static final List<byte[]> kept = new ArrayList<>();
static volatile byte[] garbage;

static long used() {
  return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
}
%><%
long up = ManagementFactory.getRuntimeMXBean().getUptime();
Path folder = Path.of(System.getenv("STRANGER"));
Path file = folder.resolve("fault");
String fault = Files.exists(file) ? Files.readString(file) : "";
boolean old = Files.exists(file)
  && Files.getLastModifiedTime(file).toMillis() < ManagementFactory.getRuntimeMXBean().getStartTime();
if (fault.contains("once") && old) { fault = ""; }
if (fault.contains("app=cold") && up < 20_000) { response.setStatus(503); }
if (fault.contains("app=maintenance")) { response.setStatus(503); response.setHeader("Retry-After", "120"); }
if (fault.contains("app=warming-up") && up < 15_000) { Thread.sleep(300); }
if (fault.contains("data=garbage")) {
  for (int i = 0; i < 40; i++) { garbage = new byte[1 << 20]; }
}
if (fault.contains("data=keep")) {
  // Nearly full: every allocation makes the collector search for room that is not there.
  synchronized (kept) {
    while (used() < Runtime.getRuntime().maxMemory() * 97 / 100) { kept.add(new byte[1 << 15]); }
  }
  for (int i = 0; i < 2000; i++) { garbage = new byte[1 << 14]; }
}
%>{"sold":1}
