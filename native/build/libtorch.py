"""Installs libtorch from the PyTorch wheels on PyPI.

    python3 libtorch.py DESTINATION PLATFORM REQUIREMENTS...

DESTINATION is a folder named libtorch-VERSION-cpu or libtorch-VERSION-cuda. PLATFORM is x86_64 or
aarch64 (Linux) or arm64 (macOS). REQUIREMENTS are files for pip that name every wheel with its hash.

Progress goes to stderr; stdout stays empty, or says in one line why the installation failed.
Called by `libtorch.exs`. Needs Python 3.8 or later, and pip.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

# One Python for all, so that the wheels (and their hashes) do not depend on the Python at hand.
PYTHON = ["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312", "--abi", "none"]
MANYLINUX = ["_2_28", "_2_27", "_2_25", "_2_18", "_2_17", "_2_12", "_2_5", "2014"]
PLATFORMS = {
    "x86_64": ["manylinux%s_x86_64" % tag for tag in MANYLINUX],
    "aarch64": ["manylinux%s_aarch64" % tag for tag in MANYLINUX],
    "arm64": ["macosx_11_0_arm64"],
}

# The wheel's own libtorch.so only refers to libtorch_cpu.so and libtorch_cuda.so.
NOT_FOR_CPU = re.compile(r"cuda|nvrtc|shm|python|global_deps|^libtorch\.so$")
NOT_FOR_CUDA = re.compile(r"^libshm|python|global_deps")
CUDA_FOR_CPU = re.compile(r"^lib(cudart|cupti)\.so\.\d+$")


class Failure(Exception):
    """What went wrong, in one line."""


def say(text):
    print("libtorch: " + text, file=sys.stderr, flush=True)


def install(destination, platform, requirements):
    parent, name = os.path.split(os.path.abspath(destination))
    os.makedirs(parent, exist_ok=True)
    # The lock ends with the process, however that ends: a part found while holding it is a leftover.
    with open(os.path.join(parent, ".%s.lock" % name), "w") as lock:
        wait_for(lock, name)
        for entry in os.listdir(parent):
            if entry.startswith(".%s.part-" % name):
                shutil.rmtree(os.path.join(parent, entry))
        if not whole(destination):
            part = tempfile.mkdtemp(prefix=".%s.part-" % name, dir=parent)
            try:
                build(part, name, platform, requirements)
                replace(destination, os.path.join(part, "root"))
            finally:
                shutil.rmtree(part, ignore_errors=True)


def wait_for(lock, name):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another build is installing %s, waiting for it" % name)
        fcntl.flock(lock, fcntl.LOCK_EX)


def whole(root):
    # build-version is the last file of an installation, and a rename puts all of it there at once.
    return os.path.isfile(os.path.join(root, "build-version"))


def build(part, name, platform, requirements):
    wheels, root = os.path.join(part, "wheels"), os.path.join(part, "root")
    version, variant = name.split("-")[1:3]
    say("installing %s, once for all projects of this user" % name)
    download(wheels, platform, requirements)
    for wheel in sorted(os.listdir(wheels)):
        unpack(os.path.join(wheels, wheel), root, variant)
    if variant == "cpu" and platform != "arm64":
        stand_in(os.path.join(root, "lib", "libtorch.so"))
    with open(os.path.join(root, "build-version"), "w") as file:
        file.write(version + "\n")


def stand_in(path):
    # For the linker only, which tch tells to link libtorch.so. Not a symbolic link: `mix release`
    # would make a second copy of libtorch_cpu.so of it.
    with open(path, "w") as file:
        file.write("/* GNU ld script */\nINPUT(-ltorch_cpu)\n")


def download(wheels, platform, requirements):
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-cache-dir"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--dest", wheels] + PYTHON
    for tag in PLATFORMS[platform]:
        command += ["--platform", tag]
    for file in requirements:
        command += ["--requirement", file]
    # Nothing is installed into a Python, so the wish for a virtual environment does not apply.
    env = dict(os.environ, PIP_REQUIRE_VIRTUALENV="0")
    pip = subprocess.Popen(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, env=env)
    said = []
    for line in pip.stderr:
        sys.stderr.write(line)
        said.append(line)
    if pip.wait() != 0:
        raise Failure(reason("".join(said)))


def reason(said):
    if "No module named pip" in said:
        return "expected `python3 -m pip` to work, found no pip (Debian: apt-get install python3-pip)"
    if "DO NOT MATCH THE HASHES" in said:
        return "expected the wheels named in native/build/libtorch*.txt, got one with another hash"
    if "No space left" in said:
        return "expected room for the wheels and what is in them, found the disk full"
    if re.search(r"Max retries|Connection|connection|timed out|resolution|SSLError|ProxyError", said):
        return "expected to reach PyPI, or the index pip is set to, and could not"
    if "No matching distribution" in said:
        return "expected PyPI, or the index pip is set to, to have the wheels of native/build/libtorch*.txt"
    return "expected `pip download` to succeed, it failed as shown above"


def unpack(wheel, root, variant):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            target = None if entry.is_dir() else place(entry.filename, variant)
            if target:
                path = os.path.join(root, target)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with archive.open(entry) as source, open(path, "wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    os.remove(wheel)


def place(name, variant):
    """Where a file of a wheel goes in libtorch's root; None for what is left out."""
    parts = name.split("/")
    base = parts[-1]
    if parts[:2] == ["torch", "include"]:
        return "/".join(parts[1:])
    if parts[:2] == ["torch", "lib"] and len(parts) == 3:
        left_out = NOT_FOR_CPU if variant == "cpu" else NOT_FOR_CUDA
        return None if left_out.search(base) else "lib/" + base
    if parts[0] == "nvidia" and parts[-2] == "lib" and ".so" in base:
        return "lib/" + base if variant == "cuda" or CUDA_FOR_CPU.match(base) else None
    if re.match(r"(?i)licen[cs]e|notice", base) and parts[0] != "torch":
        owner = parts[1] if parts[0] == "nvidia" else parts[0].replace(".dist-info", "")
        return "licences/%s/%s" % (owner, base)
    return None


def replace(destination, root):
    # Data before name: after a power cut the folder is whole or not there.
    os.sync()
    if os.path.exists(destination):
        shutil.rmtree(destination)
    os.rename(root, destination)


def main():
    try:
        install(sys.argv[1], sys.argv[2], sys.argv[3:])
    except (Failure, OSError, zipfile.BadZipFile) as error:
        print(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
