<%@ page contentType="application/json" import="java.lang.management.*, java.nio.file.*" %><%
long up = ManagementFactory.getRuntimeMXBean().getUptime();
Path file = Path.of(System.getenv("STRANGER"), "fault");
String fault = Files.exists(file) ? Files.readString(file) : "";
if (fault.contains("app=cold") && up < 20_000) { response.setStatus(503); }
if (fault.contains("app=maintenance")) { response.setStatus(503); response.setHeader("Retry-After", "120"); }
%>{"sold":1}
