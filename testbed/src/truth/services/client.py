"""Asks a server what each case asks for. `client.py PROTOCOL PORT API` reads the names of cases, one a
line, and prints what it was given as JSON, one a line. API begins the paths that a proxy passes on."""
import json
import sys
import time

import http1
import http2


def ready(client):
    """Asks until there is an answer, and no more than that."""
    until = time.monotonic() + 60
    while True:
        try:
            return client.cases["ready"]()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def main():
    protocol, port, api = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if protocol == "grpc":
        import rpc
        client = rpc.Client(port, api)
    else:
        client = (http1 if protocol == "http1" else http2).Client(port, api)
    for line in sys.stdin:
        case = line.strip()
        client.record.clear()
        try:
            ready(client) if case == "ready" else client.cases[case]()
            answer = client.record.shown()
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
