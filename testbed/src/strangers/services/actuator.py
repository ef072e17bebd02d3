"""An ASGI app with a health report like Spring Boot's: the app is up, and says which part is not."""
import asyncio
import os
import time
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import fault

UPSTREAM = urlsplit(os.environ["UPSTREAM"])
CREDENTIAL = fault.credential()
pool = asyncio.Semaphore(12)
CONFIG = fault.configuration()


async def front(request):
    faults = fault.now()
    if faults.get("app") == "blocked":
        time.sleep(3600)
    if faults.get("app") == "warming-up" and fault.age() < 12:
        await asyncio.sleep(0.3)
    if faults.get("db") == "down" and faults.get("data") == "needs-db":
        return JSONResponse({"error": "no connection to the database"}, 500)
    if faults.get("data") == "poison" and fault.strikes():
        raise RuntimeError("the cache holds nonsense")
    if faults.get("data") == "pool":
        await pool.acquire()
    fault.check(CREDENTIAL)
    return JSONResponse({"sold": 1, "currency": CONFIG["currency"]})


async def ask():
    reader, writer = await asyncio.open_connection(UPSTREAM.hostname, UPSTREAM.port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: prices\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        return int(answer.split(b" ", 2)[1])
    finally:
        writer.close()


async def prices(request):
    """Without a limit of time, as is easily forgotten, it waits as long as the service behind."""
    limit = None if fault.now().get("limit") == "none" else 1.5
    try:
        status = await asyncio.wait_for(ask(), limit)
    except TimeoutError:
        return JSONResponse({"error": "no prices in time"}, 504)
    except OSError:
        return JSONResponse({"error": "no prices now"}, 502)
    if status == 401:
        raise PermissionError("the credential is not accepted")
    return JSONResponse({"price": 3}, 200 if status == 200 else 502)


async def health(request):
    faults = fault.now()
    if faults.get("app") == "blocked":
        time.sleep(3600)
    database = "DOWN" if faults.get("db") == "down" else "UP"
    body = {
        "status": database,
        "components": {
            "db": {"status": database, "details": {"database": "PostgreSQL"}},
            "diskSpace": {"status": "UP", "details": {"free": 17179869184}},
            "ping": {"status": "UP"},
        },
    }
    return JSONResponse(body, 200 if database == "UP" else 503)


app = Starlette(routes=[
    Route("/", front),
    Route("/prices", prices),
    Route(os.environ.get("HEALTH_PATH", "/health"), health),
])
