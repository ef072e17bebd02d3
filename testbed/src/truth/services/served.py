"""gRPC by grpcio: a call's message is the code that it asks for."""
import sys
from concurrent import futures

import grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}


def end(code, context):
    if code:
        context.abort(CODES[code], "as asked")


def unary(request, context):
    end(request[0], context)
    return b"ok"


def stream(request, context):
    for _ in range(3):
        yield b"ok"
    end(request[0], context)


server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("truth.Truth", {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Stream": grpc.unary_stream_rpc_method_handler(stream),
})])
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
