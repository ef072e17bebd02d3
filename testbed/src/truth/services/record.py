"""What a client asked for and was given."""

STATUSES = [200, 204, 301, 304, 404, 500, 502, 503]
BIG = 1_000_000
LURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n" * 40
PATIENCE = 20


class Wrong(Exception):
    """A server did not give what was asked for."""


class Record:
    """Requests; heads as [status, code of gRPC]; codes in trailers; and codes of which this client
    cannot tell whether a head came before. The same of what a proxy was asked to pass on."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.all = {"requests": 0, "heads": [], "trailers": [], "either": []}
        self.passed = {"requests": 0, "heads": [], "trailers": [], "either": []}

    def asked(self, passed):
        for part in self._parts(passed):
            part["requests"] += 1

    def head(self, passed, status, code=None):
        for part in self._parts(passed):
            part["heads"].append([status, code])

    def trailers(self, passed, code):
        for part in self._parts(passed):
            part["trailers"].append(code)

    def either(self, passed, code):
        for part in self._parts(passed):
            part["either"].append(code)

    def _parts(self, passed):
        return [self.all, self.passed] if passed else [self.all]

    def shown(self):
        return {"all": self.all, "passed": self.passed}


def check(path, method, status, body):
    """Whether a server gave what the path asks for."""
    name = path.rsplit("/", 1)[-1]
    wanted = int(name) if name.isdigit() else 200
    if status != wanted:
        raise Wrong(f"{method} {path}: {status}")
    if method == "HEAD" and body:
        raise Wrong(f"{method} {path}: a body of {len(body)}")
    if method == "GET" and name == "big" and len(body) != BIG:
        raise Wrong(f"{path}: {len(body)} bytes")
    if method == "GET" and name == "lure" and body != LURE:
        raise Wrong(f"{path}: {body[:80]}, {len(body)} bytes")
