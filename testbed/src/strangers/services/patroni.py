"""A node of a database cluster as Patroni shows it: /primary is 503 on a replica, by design."""
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fault


class Node(BaseHTTPRequestHandler):
    def do_GET(self):
        role = fault.now().get("role", "primary")
        serves = {"/primary": role == "primary", "/replica": role == "replica"}
        body = json.dumps({
            "state": "running", "role": role, "server_version": 150004, "timeline": 3,
            "patroni": {"version": "3.0.2", "scope": "shop"},
        }).encode()
        self.send_response(200 if serves.get(self.path, True) else 503)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Node).serve_forever()
