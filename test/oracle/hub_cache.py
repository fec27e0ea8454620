"""Checks that Python's huggingface_hub and native/clip_hub share one cache, against a hub on loopback.

From the project's root, with `pip install huggingface_hub==2.4.0`, and `transformers torch` to load the model as well:

    cargo build --release -p clip_hub --example fetch
    python test/oracle/hub_cache.py target/release/examples/fetch

What one downloads the other has to find without a request, by branch, pull request and commit; both at once have to
end with one copy. With `openssl` there, a hub with TLS is asked too: certificates, and a redirect to plain HTTP.
"""

import hashlib
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MODEL = Path("priv/models/emoji-clip")
NAME = "org/model"
FOLDER = "models--org--model"
COMMIT = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
NOBODY = "http://127.0.0.1:9"
TOKEN = "hf_canary"

FILES = {path.name: path.read_bytes() for path in sorted(MODEL.glob("*.json"))}
WEIGHTS = (MODEL / "model.safetensors").read_bytes()
FILES["model.safetensors"] = WEIGHTS
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()

# Each a program for a Python of its own: the package reads the environment when it is imported.
DOWNLOAD = "from huggingface_hub import hf_hub_download as get\nfor name in NAMES: print(get(NAME, name, revision=REVISION))"
SNAPSHOT = "from huggingface_hub import snapshot_download as get\nprint(get(NAME, revision=REVISION))"
SCAN = "from huggingface_hub import scan_cache_dir as scan\ns = scan()\nprint(len(s.repos), len(s.warnings), s.size_on_disk)"
TRANSFORMERS = """
from transformers import CLIPModel, CLIPProcessor
model = CLIPModel.from_pretrained(NAME, revision=REVISION)
processor = CLIPProcessor.from_pretrained(NAME, revision=REVISION)
print(model.config.projection_dim, processor.tokenizer("a dog")["input_ids"][0])
"""


def git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, headers=(), body=b""):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for start in range(0, len(body) if self.command == "GET" else 0, 1 << 18):
            self.wfile.write(body[start : start + (1 << 18)])
            time.sleep(self.server.pause)

    def do_GET(self):
        self.server.requests.append((self.command, self.path, self.headers.get("Authorization", "")))
        path = self.path.split("?")[0]
        if path == f"/xet/{SHA256}":
            self.answer(200, body=WEIGHTS)
        elif path.startswith("/api/models/"):
            self.api(path)
        elif path.startswith(f"/{NAME}/resolve/"):
            self.resolve(path.rsplit("/", 1)[1])
        else:
            self.answer(401, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def resolve(self, name):
        if name not in FILES:
            return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{git_hash(FILES[name])}"'}
        if name != "model.safetensors":
            return self.answer(200, headers, FILES[name])
        location = f"{self.server.content}/xet/{SHA256}"
        linked = {"X-Linked-ETag": f'"{SHA256}"', "X-Linked-Size": str(len(WEIGHTS)), "Location": location}
        self.answer(302, headers | linked)

    def api(self, path):
        if "/tree/" in path:
            entries = [{"type": "file", "path": n, "size": len(c), "oid": git_hash(c)} for n, c in FILES.items()]
        else:
            entries = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(entries).encode())


class Server:
    """A hub, or with no `content` of its own the place of large files."""

    def __init__(self, content=None, pause=0, tls=None):
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.requests, self.http.content, self.http.pause = [], content and content.url, pause
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://localhost:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def requests(self):
        return list(self.http.requests)


def environment(cache, endpoint, **more):
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_", "SSL_"))}
    home = {"HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": TOKEN}
    return ours | home | more


def python(program, cache, endpoint, revision="main", **more):
    names = f"NAME, REVISION, NAMES = {NAME!r}, {revision!r}, {list(FILES)!r}\n"
    command = [sys.executable, "-W", "ignore", "-c", names + program]
    return subprocess.Popen(
        command, env=environment(cache, endpoint, **more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ours(cache, endpoint, revision="main", **more):
    return subprocess.Popen(
        [sys.argv[1], NAME, revision],
        env=environment(cache, endpoint, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, status=0):
    output, errors = process.communicate(timeout=120)
    assert process.returncode == status, f"status {process.returncode}\n{output}\n{errors}"
    return (output if status == 0 else errors).strip()


def content_of(directory):
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def passed(what, started=[time.monotonic()]):
    print(f"{what} ({time.monotonic() - started[0]:.1f} s)", flush=True)
    started[0] = time.monotonic()


def from_python(hub, cache):
    for revision in ["main", "refs/pr/15", COMMIT]:
        finish(python(DOWNLOAD, cache, hub.url, revision))
        sent = len(hub.requests)
        directory = finish(ours(cache, NOBODY, revision)).splitlines()[-1]
        assert content_of(directory) == FILES and len(hub.requests) == sent
        shutil.rmtree(cache / "hub")
    finish(python(SNAPSHOT, cache, hub.url))
    assert content_of(finish(ours(cache, NOBODY)).splitlines()[-1]) == FILES
    passed("what huggingface_hub downloaded is used without a request")


def to_python(hub, cache):
    offline = {"HF_HUB_OFFLINE": "1"}
    for revision in ["main", "refs/pr/15", COMMIT]:
        directory = finish(ours(cache, hub.url, revision)).splitlines()[-1]
        for program in [DOWNLOAD, SNAPSHOT]:
            last = finish(python(program, cache, NOBODY, revision, **offline)).splitlines()[-1]
            assert last.startswith(directory), last
        if has_transformers():
            found = finish(python(TRANSFORMERS, cache, NOBODY, revision, **offline))
            print(f"  transformers at {revision}: {found}")
    size = sum(map(len, FILES.values()))
    assert finish(python(SCAN, cache, NOBODY)) == f"1 0 {size}"
    sent = len(hub.requests)
    finish(python(DOWNLOAD, cache, hub.url))
    assert all(method == "HEAD" for method, *_ in hub.requests[sent:]), "asked again, and found to be the same"
    passed("what we downloaded is found by huggingface_hub, offline and not")


def without_links(hub, cache):
    copies = {"HF_HUB_DISABLE_SYMLINKS": "1"}
    downloads = {
        "python": lambda endpoint: python(DOWNLOAD, cache, endpoint, **copies),
        "ours": lambda endpoint: ours(cache, endpoint, **copies),
    }
    for first, second in [("python", "ours"), ("ours", "python")]:
        directory = Path(finish(downloads[first](hub.url)).splitlines()[-1])
        directory = directory if directory.is_dir() else directory.parent
        assert content_of(directory) == FILES
        assert not any(path.is_symlink() for path in cache.rglob("*")), f"{first} made links"
        assert not list(cache.rglob("blobs/*")), f"{first} left blobs"
        sent = len(hub.requests)
        found = finish(downloads[second](hub.url)).splitlines()[-1]
        assert found.startswith(str(directory))
        assert all(method == "HEAD" for method, *_ in hub.requests[sent:]), f"{second} finds what {first} left"
        shutil.rmtree(cache / "hub")
    passed("without symbolic links, either finds what the other downloaded")


def has_transformers():
    return subprocess.run([sys.executable, "-c", "import transformers, torch"], capture_output=True).returncode == 0


def both_at_once(hub, content, cache):
    processes = [start(cache, hub.url) for start in [ours, lambda *a: python(DOWNLOAD, *a)] for _ in range(3)]
    for process in processes:
        finish(process)
    downloads = [path for method, path, _ in content.requests if method == "GET"]
    assert len(downloads) == 1, downloads
    blobs = sorted(path.name for path in (cache / "hub" / FOLDER / "blobs").iterdir())
    assert blobs == sorted([SHA256] + [git_hash(FILES[name]) for name in FILES if name != "model.safetensors"])
    passed("three of each at once: one copy, downloaded once")


def certificates(folder):
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    extensions = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command.split() + extensions + ["-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def encrypted(folder):
    cert, key = certificates(folder)
    content = Server(tls=(cert, key))
    hub = Server(content, tls=(cert, key))
    trusted = {"SSL_CERT_FILE": str(cert)}
    directory = finish(ours(folder / "tls", hub.url, **trusted)).splitlines()[-1]
    assert content_of(directory) == FILES
    message = finish(ours(folder / "untrusted", hub.url), status=1)
    assert message.startswith("insecure: ") and "SSL_CERT_FILE" in message, message
    print(f"  {message}")
    plain = Server()
    message = finish(ours(folder / "downgraded", Server(plain, tls=(cert, key)).url, **trusted), status=1)
    assert message.startswith("insecure: ") and "not encrypted" in message and not plain.requests, message
    print(f"  {message}")
    assert all(TOKEN not in token for *_, token in content.requests)
    passed("TLS: trusted, not trusted, led astray")


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        content = Server()
        hub = Server(content)
        from_python(hub, folder / "python")
        to_python(hub, folder / "ours")
        without_links(hub, folder / "copies")
        slow = Server(pause=0.05)
        both_at_once(Server(slow), slow, folder / "both")
        assert all(TOKEN in token for *_, token in hub.requests)
        assert all(TOKEN not in token for *_, token in content.requests + slow.requests)
        if shutil.which("openssl"):
            encrypted(folder)
        else:
            print("without openssl: TLS not checked")


if __name__ == "__main__":
    main()
