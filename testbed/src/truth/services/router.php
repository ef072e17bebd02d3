<?php
// The statuses and bodies of the cases, in PHP's own server.
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/big') {
    echo str_repeat('x', 1000000);
} elseif ($path === '/lure') {
    for ($n = 0; $n < 40; $n++) {
        echo "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
        flush();
    }
} else {
    http_response_code((int) explode('/', $path)[2]);
    if (!in_array(http_response_code(), [204, 304])) {
        echo "ok\n";
    }
}
