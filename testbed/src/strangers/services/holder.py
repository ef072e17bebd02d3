"""Holds the port for a server, and runs something else beside it, as a session's supervisor does.

The holder accepts nothing itself: its child does, and is started again when it ends. The other child
has nothing to do with the port; if that is ended, the holder ends too, so that it shows.
"""
import os
import socket
import subprocess
import sys
import time

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
other = subprocess.Popen(["sleep", "3600"])
server = None
while other.poll() is None:
    if server is None or server.poll() is not None:
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--threads", "4", "--no-control-socket", "--bind",
             f"fd://{listener.fileno()}", "shop:app"],
            pass_fds=[listener.fileno()], cwd=os.environ["STRANGER"],
        )
    time.sleep(0.1)
