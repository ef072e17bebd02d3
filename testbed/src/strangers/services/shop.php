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
if (str_contains((string) @file_get_contents("$folder/credential"), 'expired')) {
    http_response_code(500);
    exit("the credential is not accepted\n");
}
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/prices') {
    $patient = stream_context_create(['http' => ['timeout' => 1.5]]);
    $price = @file_get_contents(getenv('UPSTREAM'), false, $patient);
    http_response_code($price === false ? 502 : 200);
    exit($price === false ? "no prices now\n" : $price);
}
if ($path !== '/') {
    http_response_code(404);
    exit("not here\n");
}
header('Content-Type: application/json');
echo json_encode(['sold' => 1]), "\n";
