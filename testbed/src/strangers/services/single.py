"""One connection at a time, kept alive: a client that holds it keeps all others out."""
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import fault


class One(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        well = {"status": "healthy", "cpu_usage": 5.0, "memory_usage": 10.0, "error_count": 0}
        if self.path == "/health" and fault.now().get("health") == "none":
            self.send_error(404)
            return
        self.answer(well if self.path == "/health" else {"sold": 1})

    def do_POST(self):
        self.answer({"bytes": len(self.rfile.read(int(self.headers["Content-Length"])))})

    def answer(self, what):
        body = json.dumps(what).encode()
        if self.path == "/brochure":
            body = b"x" * 16_000_000
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


HTTPServer(("127.0.0.1", int(sys.argv[1])), One).serve_forever()
