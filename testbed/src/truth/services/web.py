"""The same in Flask."""
from flask import Flask, Response, request

LURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
app = Flask(__name__)


@app.get("/status/<int:status>")
def status(status):
    return Response("" if status in (204, 304) else "ok\n", status)


@app.get("/big")
def big():
    return b"x" * 1_000_000


@app.get("/lure")
def lure():
    return Response(LURE for _ in range(40))


@app.post("/echo")
def echo():
    return {"bytes": len(request.get_data())}
