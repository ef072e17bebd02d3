"""A client of plaintext HTTP/2, and of gRPC without its library, on a plain socket."""
import socket
import struct

import h2.config
import h2.connection
import h2.events
import h2.settings

from record import PATIENCE, STATUSES, Record, Wrong, check

AT_ONCE = 20
WINDOW = 1 << 24


class Connection:
    """One connection; what is given is recorded."""

    def __init__(self, port, record):
        self.port, self.record = port, record
        self.stream = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.waiting = {}
        self.over = False

    def begin(self):
        self.h2.initiate_connection()
        self.widen()

    def widen(self):
        """The connection's window, as most clients do."""
        self.h2.increment_flow_control_window(WINDOW)
        self.flush()

    def upgrade(self, path):
        """Asks in HTTP/1.1 to go on in HTTP/2; the answer to it is stream 1's."""
        # Go's server may apply this setting while it encodes the answer. Then it puts the table's new
        # size between two fields, and h2 refuses the field block.
        del self.h2.local_settings[h2.settings.SettingCodes.HEADER_TABLE_SIZE]
        settings = self.h2.initiate_upgrade_connection().decode()
        self.record.asked(False)
        self.stream.sendall((
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: {settings}\r\n\r\n"
        ).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.stream.recv(65536)
            if not data:
                raise ConnectionError("the server has closed the connection")
            head += data
        head, rest = head.split(b"\r\n\r\n", 1)
        status = int(head.split(b" ")[1])
        self.record.head(False, status)
        if status != 101:
            raise Wrong(f"no upgrade, but {status}")
        self.waiting[1] = [path, None, b"", False]
        self.widen()
        self.given(rest)
        self.finish()

    def ask(self, path, fields=(), body=None, passed=False):
        """Begins a request, as soon as the server permits one more."""
        while self.h2.open_outbound_streams >= self.h2.remote_settings.max_concurrent_streams:
            self.flush()
            self.receive()
        number = self.h2.get_next_available_stream_id()
        passed = passed or path.startswith("/api")
        self.record.asked(passed)
        self.waiting[number] = [path, None, b"", passed]
        method = "GET" if body is None else "POST"
        head = [
            (":method", method), (":path", path), (":scheme", "http"),
            (":authority", f"127.0.0.1:{self.port}"), *fields,
        ]
        self.h2.send_headers(number, head, end_stream=body is None)
        if body is not None:
            self.h2.send_data(number, body, end_stream=True)

    def get(self, *paths):
        """Asks for these at once, and waits for all."""
        for path in paths:
            self.ask(path)
        self.finish()

    def finish(self):
        self.flush()
        while self.waiting:
            self.receive()

    def receive(self):
        data = self.stream.recv(65536)
        if not data:
            raise ConnectionError("the server has closed the connection")
        self.given(data)

    def pause(self):
        """For what the server may say yet: some end a connection that was upgraded."""
        self.stream.settimeout(0.1)
        try:
            self.receive()
        except TimeoutError:
            pass
        self.stream.settimeout(PATIENCE)

    def flush(self):
        self.stream.sendall(self.h2.data_to_send())

    def given(self, data):
        for event in self.h2.receive_data(data):
            self.happened(event)
        self.flush()

    def happened(self, event):
        if isinstance(event, (h2.events.ResponseReceived, h2.events.InformationalResponseReceived)):
            fields = dict(event.headers)
            answer = self.waiting[event.stream_id]
            answer[1] = int(fields[":status"])
            code = fields.get("grpc-status")
            self.record.head(answer[3], answer[1], code and int(code))
        elif isinstance(event, h2.events.TrailersReceived):
            code = dict(event.headers).get("grpc-status")
            if code is not None:
                self.record.trailers(self.waiting[event.stream_id][3], int(code))
        elif isinstance(event, h2.events.DataReceived):
            self.waiting[event.stream_id][2] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            path, status, body, _ = self.waiting.pop(event.stream_id)
            check(path, "GET", status, body)
        elif isinstance(event, h2.events.StreamReset):
            # A server may reset what it has answered in full.
            if event.stream_id in self.waiting:
                path = self.waiting[event.stream_id][0]
                raise Wrong(f"{path}: reset by {event.error_code!r}, here: {not event.remote_reset}")
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.over = True
            if self.waiting:
                raise Wrong(f"the server ends the connection: {event.error_code}")

    def close(self):
        self.stream.close()


class Client:
    def __init__(self, port, api):
        self.port, self.api = port, api
        self.record = Record()
        self.half = None
        self.cases = {
            "ready": self.one, "mix": self.mix, "streams": self.streams, "big": self.big,
            "upgrade": self.upgrade, "passed on": self.passed_on, "begin": self.begin,
            "mid": self.mid,
        }

    def connect(self):
        connection = Connection(self.port, self.record)
        connection.begin()
        return connection

    def one(self):
        connection = self.connect()
        connection.get("/status/200")
        connection.close()

    def mix(self):
        connection = self.connect()
        for status in STATUSES * 3:
            connection.get(f"/status/{status}")
        connection.close()

    def streams(self):
        connection = self.connect()
        # The server's settings come with the first answer: not all permit so many.
        connection.get("/status/200")
        for turn in range(5):
            connection.get(*(f"/status/{STATUSES[(turn + n) % 8]}" for n in range(AT_ONCE)))
        connection.close()

    def big(self):
        connection = self.connect()
        for _ in range(3):
            connection.get("/big")
            connection.get("/status/500", "/lure", "/big", "/status/404")
        connection.close()

    def upgrade(self):
        for first in ("/status/200", "/lure", "/status/200"):
            connection = Connection(self.port, self.record)
            connection.upgrade(first)
            connection.pause()
            if not connection.over:
                for status in STATUSES:
                    connection.get(f"/status/{status}")
            connection.close()

    def passed_on(self):
        connection = self.connect()
        paths = [f"/api/status/{status}" for status in STATUSES] + ["/api/big", "/api/lure"]
        for path in paths:
            connection.get(path)
        connection.get(*paths)
        connection.close()

    def begin(self):
        """The part of `mid` that is not watched."""
        self.half = self.connect()
        for status in STATUSES * 2:
            self.half.get(f"/status/{status}")

    def mid(self):
        for status in STATUSES * 2:
            self.half.get(f"/status/{status}")
        self.half.get(*(f"/status/{status}" for status in STATUSES))
        self.half.close()


def framed(message):
    return b"\0" + struct.pack(">I", len(message)) + message
