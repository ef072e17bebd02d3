<?php
// A small shop in PHP's own server. It has no health report, and reads its configuration each time.
$folder = getenv('STRANGER');
$fault = @file_get_contents("$folder/fault") ?: '';
if (str_contains($fault, 'data=broken')) {
    require "$folder/settings-that-were-not-deployed.php";
}
if (str_contains($fault, 'data=rare') && random_int(1, 50) === 1) {
    http_response_code(500);
    exit("one in fifty\n");
}
if (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) !== '/') {
    http_response_code(404);
    exit("not here\n");
}
header('Content-Type: application/json');
echo json_encode(['sold' => 1]), "\n";
