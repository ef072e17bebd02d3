"""What goes wrong with an app: the stage writes it into a file, one KEY=VALUE a line.

A line `once` means that a restart cures it: a process that was born after the file was written is
well.
"""
import os
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


def age():
    """Seconds since this process was born."""
    return time.time() - BORN
