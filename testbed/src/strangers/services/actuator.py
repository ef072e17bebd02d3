"""An ASGI app with a health report like Spring Boot's: the app is up, and says which part is not."""
import os
import time

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import fault


async def front(request):
    faults = fault.now()
    if faults.get("app") == "blocked":
        time.sleep(3600)
    if faults.get("db") == "down" and faults.get("data") == "needs-db":
        return JSONResponse({"error": "no connection to the database"}, 500)
    return JSONResponse({"sold": 1})


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


app = Starlette(routes=[Route("/", front), Route(os.environ.get("HEALTH_PATH", "/health"), health)])
