"""A service that knows nothing of Paramedic. It keeps a price in memory and reads it anew at SIGHUP.

GET /spoil spoils the price in memory. GET /spoil-for-good also spoils where it is read from, which only
a new process can mend.
"""

import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

source = {"price": "12"}
memory = dict(source)


class Shop(BaseHTTPRequestHandler):
    """Answers every path with the price, or with 500 if that is no number."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """One request."""
        if self.path == "/spoil-for-good":
            source["price"] = "twelve"
        if self.path.startswith("/spoil"):
            memory["price"] = "twelve"
        try:
            status, body = 200, f"{int(memory['price'])}\n".encode()
        except ValueError as error:
            status, body = 500, f"{error}\n".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


signal.signal(signal.SIGHUP, lambda *_: memory.update(source))
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Shop).serve_forever()
