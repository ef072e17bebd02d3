"""A small shop in Flask. HEALTH=none leaves out /health, HEAL=yes adds /heal as in the original demo."""
import gzip
import json
import os
import resource
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

from flask import Flask, Response, request

import fault

app = Flask(__name__)
errors = 0
requests = 0
held = []
stuck = threading.Lock()
stuck.acquire()
convoy = threading.Lock()
# Connections to the database, and to the service for quotes.
pool = threading.Semaphore(12)
quotes_pool = threading.Semaphore(2)
CONFIG = fault.configuration()
CREDENTIAL = fault.credential()


def upstream(path="/"):
    try:
        with urllib.request.urlopen(os.environ["UPSTREAM"] + path, timeout=1.5) as answer:
            answer.read()
        return {"price": 3}
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise PermissionError("the credential is not accepted") from error
        return Response("the price service fails\n", 502 if error.code >= 500 else error.code)
    except OSError as error:
        late = isinstance(getattr(error, "reason", error), (TimeoutError, socket.timeout))
        return Response("no prices now\n", 504 if late else 502)


def not_now():
    return Response("back soon\n", 503, {"Retry-After": "120"})


@app.before_request
def befall():
    """What is wrong with the whole app."""
    what = fault.now().get("app")
    if what == "deadlock":
        stuck.acquire()
    if what == "warming-up" and fault.age() < 12:
        time.sleep(0.3)
    if what == "maintenance" or what == "cold" and fault.age() < 20:
        return not_now()
    return None


@app.errorhandler(Exception)
def failed(error):
    global errors
    if getattr(error, "code", 500) < 500:
        return error
    errors += 1
    return {"error": type(error).__name__}, 500


@app.get("/")
def front():
    global requests
    requests += 1
    what = fault.now().get("data")
    fault.check(CREDENTIAL)
    if what == "poison" and fault.strikes():
        raise RuntimeError("the cache holds nonsense")
    if what == "rare" and requests % 100 == 50:
        raise RuntimeError("one in a hundred")
    if what == "leak":
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        held.extend(open("/dev/null") for _ in range(4))
    if what == "threads":
        leak_threads()
    if what == "convoy":
        with convoy:
            time.sleep(0.5)
    if what == "pool":
        pool.acquire()
    if what == "cut" and requests % 2:
        hang_up()
    if what == "eat":
        held.append(b"x" * 30_000_000)
    if what == "busy":
        until = time.thread_time() + 0.025
        while time.thread_time() < until:
            pass
    if what == "flood":
        sys.stderr.write("INFO a line of a log that is verbose and that grows on\n" * 1000)
    if what == "deadlock":
        stuck.acquire()
    with open(os.path.join(fault.FOLDER, "journal"), "a") as journal:
        journal.write("sold\n")
    return {"sold": 1, "currency": CONFIG["currency"]}


def leak_threads():
    """Until the address space is full, which limits threads as a container's limit of tasks does."""
    if not held:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
        room = pages * resource.getpagesize() + 200_000_000
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
    for _ in range(4):
        held.append(threading.Thread(target=time.sleep, args=[3600], daemon=True))
        held[-1].start()


def hang_up():
    """As a handler does that takes its connection down with it."""
    names = ("werkzeug.socket", "gunicorn.socket")
    connection = next(request.environ[name] for name in names if name in request.environ)
    connection.shutdown(socket.SHUT_RDWR)


@app.post("/orders")
def orders():
    return {"bytes": len(request.get_data())}


@app.get("/brochure")
def brochure():
    return Response(b"x" * 16_000_000, mimetype="text/plain")


@app.get("/reports")
def reports():
    if fault.now().get("data") == "reports":
        raise RuntimeError("no such table")
    return {"reports": []}


@app.get("/prices")
def prices():
    return upstream()


@app.get("/quotes")
def quotes():
    with quotes_pool:
        return upstream()


@app.get("/private")
def private():
    return Response("authentication required\n", 401, {"WWW-Authenticate": "Basic"})


@app.get("/log")
def log():
    """A client follows, in small pieces, a log that shows failed requests of others."""
    def lines():
        for _ in range(30):
            yield "HTTP/1.1 500 Internal Server Error\n"
    return Response(lines(), mimetype="text/plain")


def health_of_demo():
    count = errors
    if fault.now().get("health") == "old-errors":
        count = 1200 + int(fault.age() / 6)
    return {
        "status": "healthy", "cpu_usage": 12.5, "memory_usage": 30.0, "error_count": count,
        "uptime": fault.age(),
    }


def plain(body, status=200, kind="application/json", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(body, status, names, mimetype=kind)


LOGIN = "<!doctype html><title>Log in</title><form></form>"
VARIANTS = {
    "200-text": lambda body: plain("OK\n", kind="text/plain"),
    "204": lambda body: plain("", 204),
    "302": lambda body: plain("", 302, Location="/login"),
    "401": lambda body: plain("log in\n", 401, "text/plain", WWW_Authenticate="Basic"),
    "403": lambda body: plain("no\n", 403, "text/plain"),
    "404": lambda body: plain("not here\n", 404, "text/plain"),
    "407": lambda body: plain("", 407, Proxy_Authenticate="Basic"),
    "429": lambda body: plain("slow down\n", 429, "text/plain", Retry_After="60"),
    "503": lambda body: not_now(),
    "html": lambda body: plain(LOGIN, kind="text/html"),
    "gzip": lambda body: plain(gzip.compress(body.encode()), Content_Encoding="gzip"),
    "bom": lambda body: plain("\ufeff" + body),
    "nan": lambda body: plain(body.replace("12.5", "NaN")),
    "cpu-135": lambda body: plain(body.replace("12.5", "135.0")),
    "memory-mb": lambda body: plain(body.replace("30.0", "5120")),
    "too-large": lambda body: plain(body[:-1] + ', "threads": "' + "x" * 200_000 + '"}'),
}

if os.environ.get("HEALTH") != "none":
    @app.get("/health")
    def health():
        body = json.dumps(health_of_demo())
        variant = VARIANTS.get(fault.now().get("health"), plain)
        return variant(body)

if os.environ.get("HEAL") == "yes":
    @app.post("/heal")
    def heal():
        global errors
        if (request.get_json(silent=True) or {}).get("action") != "reset_errors":
            return {"error": "unknown action"}, 400
        errors = 0
        return {"healed": True}

if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
