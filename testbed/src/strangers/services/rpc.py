"""A gRPC service with the standard health service, and (`rpc.py call PORT`) a client of it."""
import os
import sys
import time
import urllib.request
from concurrent import futures

import grpc

import fault

CREDENTIAL = fault.credential()
METHOD = "/shop.Shop/Buy"


def buy(request, context):
    what = fault.now().get("rpc")
    if os.environ.get("PRICES") == "yes":
        ask(context)
    try:
        fault.check(CREDENTIAL)
    except PermissionError as error:
        context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
    if what == "internal" and fault.strikes():
        context.abort(grpc.StatusCode.INTERNAL, "the cache holds nonsense")
    if what == "hang":
        time.sleep(3600)
    return b"sold"


def ask(context):
    """Without a limit of time, as is easily forgotten, it waits as long as the service behind."""
    limit = 3600 if fault.now().get("limit") == "none" else 1
    try:
        urllib.request.urlopen(os.environ["UPSTREAM"], timeout=limit).read()
    except OSError as error:
        context.abort(grpc.StatusCode.UNAVAILABLE, f"no prices now: {error}")


def serve(port):
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    server = grpc.server(futures.ThreadPoolExecutor(8))
    handler = grpc.unary_unary_rpc_method_handler(buy)
    server.add_generic_rpc_handlers([
        grpc.method_handlers_generic_handler("shop.Shop", {"Buy": handler}),
    ])
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def call(port, per_second):
    """Calls for ever, and prints what became of each (ok, failed or silent) and how long it took."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    buy = channel.unary_unary(METHOD)
    pool = futures.ThreadPoolExecutor(48)

    def one():
        begun = time.monotonic()
        try:
            buy(b"", timeout=2)
            word = "ok"
        except grpc.RpcError as error:
            late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            word = "silent" if late else "failed"
        print(word, round(1000 * (time.monotonic() - begun)), flush=True)

    while True:
        pool.submit(one)
        time.sleep(1 / per_second)


if sys.argv[1] == "call":
    call(sys.argv[2], int(sys.argv[3]))
else:
    serve(sys.argv[1])
