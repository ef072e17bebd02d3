"""The statuses, bodies and echo of the cases, for ASGI. A backend is asked for the same below /api."""
LURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
EMPTY = (204, 304)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return
    path = scope["path"].removeprefix("/api")
    if path == "/echo":
        while (await receive()).get("more_body"):
            pass
    status = int(path.rsplit("/", 1)[1]) if path.startswith("/status/") else 200
    body = b"x" * 1_000_000 if path == "/big" else b"" if status in EMPTY else b"ok\n"
    headers = [] if path == "/lure" or status in EMPTY else [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if path == "/lure":
        for _ in range(40):
            await send({"type": "http.response.body", "body": LURE, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})
