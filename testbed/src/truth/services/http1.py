"""A client of HTTP/1.1 on a plain socket."""
import socket

from record import PATIENCE, STATUSES, Record, Wrong, check


class Client:
    def __init__(self, port, api):
        self.port, self.api = port, api
        self.record = Record()
        self.stream = None
        self.rest = b""
        self.cases = {
            "ready": self.one, "mix": self.mix, "head": self.head, "pipelined": self.pipelined,
            "first": self.first, "lure": self.lure, "continue": self.expect, "big": self.big,
            "passed on": self.passed_on,
        }

    def one(self):
        self.get("/status/200")
        self.close()

    def mix(self):
        for status in STATUSES * 3:
            self.get(f"/status/{status}")
        self.close()

    def head(self):
        for path in ["/status/200", "/big", "/status/404", "/status/204", "/lure", "/status/503"] * 2:
            self.exchange("HEAD", path)
            self.get("/status/200")
        self.close()

    def pipelined(self):
        for _ in range(3):
            self.get("/status/200")
            self.at_once()
            self.get("/status/503")
        self.close()

    def first(self):
        for _ in range(3):
            self.at_once()
            self.get("/status/200")
            self.close()

    def at_once(self):
        paths = [f"/status/{status}" for status in (200, 404, 204, 200, 301, 404, 304, 200)]
        for path in paths:
            self.record.asked(False)
        self.send("".join(self.text("GET", path) for path in paths).encode())
        for path in paths:
            self.answer("GET", path)

    def lure(self):
        for _ in range(3):
            self.get("/lure")
            self.get("/status/404")
        self.close()

    def expect(self):
        body = b"x" * 2000
        path = f"{self.api}/echo"
        for _ in range(3):
            self.record.asked(self.is_passed(path))
            head = self.text("POST", path, f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n")
            self.send(head.encode())
            status, _, _ = self.read_head(path)
            if status != 100:
                raise Wrong(f"no 100 Continue, but {status}")
            self.send(body)
            self.answer("POST", path)
            self.get("/status/200")
        self.close()

    def big(self):
        for _ in range(3):
            self.get("/big")
            self.get("/status/500")
        self.close()

    def passed_on(self):
        for path in [f"/status/{status}" for status in STATUSES] + ["/big", "/lure", "/status/502"]:
            self.get(f"/api{path}")
        self.close()

    def get(self, path):
        self.exchange("GET", path)

    def exchange(self, method, path):
        self.record.asked(self.is_passed(path))
        self.send(self.text(method, path).encode())
        self.answer(method, path)

    def answer(self, method, path):
        while True:
            status, fields, version = self.read_head(path)
            if status >= 200:
                break
        body = b""
        if method != "HEAD" and status not in (204, 304):
            body = self.read_body(fields)
        check(path, method, status, body)
        if fields.get("connection", "").lower() == "close" or version == "HTTP/1.0":
            self.close()

    def is_passed(self, path):
        return path.startswith("/api")

    def text(self, method, path, more=""):
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAccept: */*\r\n{more}\r\n"

    def send(self, data):
        if self.stream is None:
            self.stream = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
            self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.rest = b""
        self.stream.sendall(data)

    def more(self):
        if self.stream is None:
            raise Wrong("the server has closed the connection before its last answer")
        data = self.stream.recv(65536)
        if not data:
            raise ConnectionError("the server has closed the connection")
        self.rest += data

    def read_head(self, path):
        while b"\r\n\r\n" not in self.rest:
            self.more()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        line, *lines = head.decode("latin-1").split("\r\n")
        version, status = line.split(" ")[:2]
        fields = {}
        for field in lines:
            name, value = field.split(":", 1)
            fields[name.lower()] = value.strip()
        self.record.head(self.is_passed(path), int(status))
        return int(status), fields, version

    def read_body(self, fields):
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return self.read_chunks()
        if "content-length" in fields:
            return self.take(int(fields["content-length"]))
        body = self.rest
        while data := self.stream.recv(65536):
            body += data
        self.rest = b""
        self.close()
        return body

    def read_chunks(self):
        body = b""
        while True:
            while b"\r\n" not in self.rest:
                self.more()
            size, self.rest = self.rest.split(b"\r\n", 1)
            chunk = self.take(int(size.split(b";")[0], 16))
            if self.take(2) != b"\r\n":
                raise Wrong("a chunk does not end")
            if not chunk:
                return body
            body += chunk

    def take(self, count):
        while len(self.rest) < count:
            self.more()
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def close(self):
        if self.stream is not None:
            self.stream.close()
            self.stream = None
