<%@ page contentType="application/json" import="java.lang.management.*, java.nio.file.*" %><%
long up = ManagementFactory.getRuntimeMXBean().getUptime();
Path file = Path.of(System.getenv("STRANGER"), "fault");
String fault = Files.exists(file) ? Files.readString(file) : "";
boolean cold = fault.contains("app=cold") && up < 20_000;
if (cold) response.setStatus(503);
%>{"status":"<%= cold ? "OUT_OF_SERVICE" : "UP" %>"}
