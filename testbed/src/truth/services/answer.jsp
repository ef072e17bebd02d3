<%@ page session="false" trimDirectiveWhitespaces="true" contentType="text/plain" buffer="8kb" %><%
String path = request.getRequestURI();
if (path.equals("/big")) {
    response.setContentLength(1000000);
    for (int n = 0; n < 10000; n++) { out.print("x".repeat(100)); }
} else if (path.equals("/lure")) {
    for (int n = 0; n < 40; n++) {
        out.print("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
        out.flush();
    }
} else if (path.equals("/echo")) {
    request.getInputStream().readAllBytes();
    out.print("ok\n");
} else {
    int status = Integer.parseInt(path.substring("/status/".length()));
    response.setStatus(status);
    if (status != 204 && status != 304) { out.print("ok\n"); }
}
%>
