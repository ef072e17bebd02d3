"""What goes wrong with an app: the stage writes it into a file, one KEY=VALUE a line.

A line `once` means that a restart cures it: a process that was born after the file was written is
well. `share` is the share of the requests that it strikes.
"""
import json
import os
import random
import time

FOLDER = os.environ["STRANGER"]
FILE = os.path.join(FOLDER, "fault")
BORN = time.time()


def now():
    """The faults of this process, as it is asked."""
    try:
        written = os.stat(FILE).st_mtime
        with open(FILE) as file:
            lines = file.read().split()
    except OSError:
        return {}
    if "once" in lines and written < BORN:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


def strikes():
    """Whether it strikes this request."""
    return random.random() < float(now().get("share", 1))


def credential():
    """The credential that others accept now; an app that keeps an older one is turned away."""
    try:
        with open(os.path.join(FOLDER, "credential")) as file:
            return file.read()
    except OSError:
        return "first"


def configuration():
    """Read once, as it is by most apps: a bad one fails every request until it is put right."""
    try:
        with open(os.path.join(FOLDER, "config.json")) as file:
            return json.load(file)
    except OSError:
        return {"currency": "EUR"}


def check(kept):
    """What the service behind says of the credential that an app keeps."""
    if kept != credential() or kept == "expired":
        raise PermissionError("the credential is not accepted")


def age():
    """Seconds since this process was born."""
    return time.time() - BORN
