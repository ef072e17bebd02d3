"""A gRPC service with the standard health service, and (`rpc.py call PORT`) a client of it."""
import sys
import time
from concurrent import futures

import grpc

import fault

METHOD = "/shop.Shop/Buy"


def buy(request, context):
    what = fault.now().get("rpc")
    if what == "internal":
        context.abort(grpc.StatusCode.INTERNAL, "the cache holds nonsense")
    if what == "hang":
        time.sleep(3600)
    return b"sold"


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


def call(port):
    """Calls six times a second for ever, and prints what became of each: ok, failed or silent."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    buy = channel.unary_unary(METHOD)
    pool = futures.ThreadPoolExecutor(16)

    def one():
        try:
            buy(b"", timeout=2)
            print("ok", flush=True)
        except grpc.RpcError as error:
            late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            print("silent" if late else "failed", flush=True)

    while True:
        pool.submit(one)
        time.sleep(1 / 6)


if sys.argv[1] == "call":
    call(sys.argv[2])
else:
    serve(sys.argv[1])
