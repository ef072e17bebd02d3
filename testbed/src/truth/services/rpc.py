"""A client of gRPC by its library, and (case `bare`) without it. A call's message is the code that it
asks for."""
import grpc

import http2
from record import PATIENCE, Record, Wrong

CODES = range(17)
UNARY = "/truth.Truth/Unary"
STREAM = "/truth.Truth/Stream"
FIELDS = [("te", "trailers"), ("content-type", "application/grpc")]


class Client:
    def __init__(self, port, api):
        self.port = port
        # All calls are passed on by a proxy, or none.
        self.passed = api != ""
        self.record = Record()
        self.half = None
        self.cases = {
            "ready": self.one, "codes": self.codes, "stream": self.stream, "bare": self.bare,
            "begin": self.begin, "mid": self.mid, "begin_well": self.begin_well,
            "fails": self.fails,
        }

    def connect(self):
        # A pool of its own: else channels share their connections.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", options)

    def one(self):
        with self.connect() as channel:
            try:
                self.unary(channel, 0)
            except Wrong as error:
                raise ConnectionError(str(error)) from error

    def unary(self, channel, code):
        self.record.asked(self.passed)
        try:
            channel.unary_unary(UNARY)(bytes([code]), timeout=PATIENCE)
            given = 0
        except grpc.RpcError as error:
            given = error.code().value[0]
            if error.details() != "as asked":
                raise Wrong(f"{error.details()}") from error
        if given != code:
            raise Wrong(f"code {given} instead of {code}")
        self.record.either(self.passed, code)

    def codes(self):
        with self.connect() as channel:
            for code in [*CODES] * 3:
                self.unary(channel, code)

    def stream(self):
        with self.connect() as channel:
            for code in [*CODES] * 2:
                self.record.asked(self.passed)
                call = channel.unary_stream(STREAM)(bytes([code]), timeout=PATIENCE)
                messages, given = 0, 0
                try:
                    for _ in call:
                        messages += 1
                except grpc.RpcError as error:
                    given = error.code().value[0]
                if messages != 3 or given != code:
                    raise Wrong(f"{messages} messages and code {given} instead of {code}")
                self.record.head(self.passed, 200)
                self.record.trailers(self.passed, code)

    def bare(self):
        connection = http2.Connection(self.port, self.record)
        connection.begin()
        for method in (UNARY, STREAM) * 2:
            for code in CODES:
                self.call(connection, method, code)
                connection.finish()
            for code in CODES:
                self.call(connection, method, code)
            connection.finish()
        connection.close()
        codes = [code for _, code in self.record.all["heads"] if code is not None]
        if sorted(codes + self.record.all["trailers"]) != sorted([*CODES] * 8):
            raise Wrong("not the codes that were asked for")

    def call(self, connection, method, code):
        connection.ask(method, FIELDS, http2.framed(bytes([code])), self.passed)

    def begin(self):
        """The part of `mid` that is not watched."""
        self.half = self.connect()
        for code in [*CODES] * 2:
            self.unary(self.half, code)

    def begin_well(self):
        """The part of `fails` that is not watched."""
        self.half = self.connect()
        for _ in range(30):
            self.unary(self.half, 0)

    def fails(self):
        for code in [*CODES] * 3:
            self.unary(self.half, code)
        self.half.close()

    def mid(self):
        for code in [*CODES] * 2:
            self.unary(self.half, code)
        self.half.close()
