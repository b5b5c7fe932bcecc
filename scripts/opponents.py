"""Remote files against the tools people use for them, all of them on the same files of the same nginx.

Three servers: one as fast as it can, one that gives each connection 20 MB/s, and one whose every answer begins 30 ms
late (nginx hands its files' requests on to the project's fake hub, since nginx itself cannot wait). Every run begins
with nothing on this side: a new store, a new cache, a new mount.
"""
import json, mmap, os, random, shutil, signal, socket, statistics, subprocess, sys, time
from multiprocessing import get_context
from pathlib import Path

from measuring import Box, in_turn, model_file, ratio_row, row, say, timed, warm

PART = "opponents"
LARGE_BYTES = 256 << 20
# What a slow line gives one connection, as nginx counts: 20 MiB.
RATE = "20m"
LATENCY_MS = 30
# Of the fake hub, whose files come without a redirect below it.
COMMIT = "0123456789abcdef0123456789abcdef01234567"
READ_BYTES = 1 << 20
READS_EACH = 8
FAULTS_EACH = 24
READERS = 8
DOWNLOADS = 16
DOWNLOAD_BYTES = 64 << 20
WAIT_S = 120

NGINX = """
daemon off; master_process off; pid {work}/nginx.pid; error_log {work}/nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off; sendfile on; tcp_nodelay on; keepalive_requests 100000;
    client_body_temp_path {work}/tmp; proxy_temp_path {work}/tmp; fastcgi_temp_path {work}/tmp; uwsgi_temp_path {work}/tmp; scgi_temp_path {work}/tmp;
    server {{ listen 127.0.0.1:{fast}; root {work}/files; autoindex on; }}
    server {{ listen 127.0.0.1:{slow}; root {work}/files; autoindex on; limit_rate {rate}; }}
    server {{
        listen 127.0.0.1:{late}; root {work}/files; autoindex on;
        location ~ [.]safetensors$ {{ proxy_pass {hub}/api/resolve-cache/models/org/name/{commit}$uri; proxy_buffering off; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def eventually(what, holds):
    end = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"not within {WAIT_S} s: {what}")
        time.sleep(0.005)


class Servers:
    """nginx and the late hub behind it, gone at the end."""

    def __init__(self, work, target):
        self.ports = {name: free_port() for name in ["fast", "slow", "late"]}
        # Nothing of it comes from a CDN: a redirect would double the wait.
        hub = [target / "examples/fake_hub", "--folder", work / "files", "--lfs-from", str(1 << 40), "--latency-ms", str(LATENCY_MS)]
        self.hub = subprocess.Popen(hub, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        endpoint = self.hub.stdout.readline().strip().split("=", 1)[1]
        (work / "tmp").mkdir()
        (work / "nginx.conf").write_text(NGINX.format(work=work, rate=RATE, hub=endpoint, commit=COMMIT, **self.ports))
        self.nginx = subprocess.Popen(["nginx", "-p", work, "-c", work / "nginx.conf"], stderr=subprocess.DEVNULL)
        for port in self.ports.values():
            eventually("nginx listens", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)

    def url(self, server, name=""):
        return f"http://127.0.0.1:{self.ports[server]}/{name}"

    def close(self):
        for process in [self.nginx, self.hub]:
            process.terminate()
            process.wait()


class Cold:
    """A mount on which nothing is here yet; `path` is the file. One of two kinds, which differ in how they begin."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Ours(Cold):
    def __init__(self, program, work, servers, server, names=("large.safetensors",)):
        shutil.rmtree(work / "ours", ignore_errors=True)
        self.box = Box(program, work / "ours")
        for name in names:
            self.box.run("add", servers.url(server, name))
        self.folder = self.box.mount() / "comfyui/loras"
        self.path = self.folder / names[0]

    def close(self):
        self.box.close()


class Rclone(Cold):
    def __init__(self, work, servers, server):
        root = work / "rclone"
        shutil.rmtree(root, ignore_errors=True)
        point = root / "mount"
        point.mkdir(parents=True)
        words = ["rclone", "mount", ":http:", point, "--http-url", servers.url(server), "--vfs-cache-mode", "full", "--cache-dir", root / "cache",
                 "--config", root / "none", "--read-only"]
        self.point, self.process = point, subprocess.Popen(words, stderr=subprocess.DEVNULL)
        self.path = point / "large.safetensors"
        eventually("rclone has mounted", self.path.exists)

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def state(path):
    return os.getxattr(path, "user.modelfs.state").decode()


def whole(mount, verified):
    start = time.perf_counter()
    warm(mount.path)
    if verified:
        eventually("verified", lambda: state(mount.path) == "resident")
    return LARGE_BYTES / (time.perf_counter() - start)


def first(mount):
    start = time.perf_counter()
    with open(mount.path, "rb", buffering=0) as file:
        file.read(65536)
    return time.perf_counter() - start


def read_some(path, seed):
    source = random.Random(seed)
    with open(path, "rb", buffering=0) as file:
        for _ in range(READS_EACH):
            at = source.randrange(LARGE_BYTES - READ_BYTES)
            if len(os.pread(file.fileno(), READ_BYTES, at)) != READ_BYTES:
                raise OSError("a short read")


def touch_some(path, seed):
    source = random.Random(seed)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        for _ in range(FAULTS_EACH):
            memory[source.randrange(len(memory))]


def together(work, path, count):
    """What is done in a second by `count` readers at once; processes, since a fault would hold Python's threads."""
    readers = [get_context("fork").Process(target=work, args=(path, seed)) for seed in range(count)]
    start = time.perf_counter()
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    seconds = time.perf_counter() - start
    if any(reader.exitcode for reader in readers):
        sys.exit(f"a reader of {path} failed")
    return count / seconds


def speeds(ours, rclone, curl, aria):
    """Whole files and first bytes."""
    how = "the other side: `{}`, which proves nothing about the bytes"
    def mine(server):
        with ours(server) as mount:
            return whole(mount, True)
    def rcloned(server):
        with rclone(server) as mount:
            return whole(mount, False)
    a, b, c = in_turn(lambda: mine("fast"), lambda: LARGE_BYTES / curl("fast"), lambda: rcloned("fast"), runs=3)
    ratio_row(PART, "whole file, read and verified", a, b, 0.90, how.format("curl -o"))
    ratio_row(PART, "whole file, read and verified", a, c, 1.0, how.format("rclone mount --vfs-cache-mode full"))
    a, b, c, d = in_turn(lambda: mine("slow"), lambda: LARGE_BYTES / curl("slow"), lambda: LARGE_BYTES / aria("slow"), lambda: rcloned("slow"), runs=3)
    ratio_row(PART, "whole file, 20 MB/s per connection", a, b, 8, how.format("curl -o"))
    ratio_row(PART, "whole file, 20 MB/s per connection", a, c, 1.0, how.format("aria2c -x16"))
    ratio_row(PART, "whole file, 20 MB/s per connection", a, d, 1.0, how.format("rclone mount --vfs-cache-mode full"))
    def mine_first():
        with ours("fast") as mount:
            return first(mount)
    def rcloned_first():
        with rclone("fast") as mount:
            return first(mount)
    a, b, c = in_turn(mine_first, lambda: curl("fast", "-r", "0-65535"), rcloned_first)
    ratio_row(PART, "first 64 KiB", a, b, 1.3, "the other side: `curl -r 0-65535`, its start included", less_is_better=True)
    ratio_row(PART, "first 64 KiB", a, c, 1.0, "the other side: `rclone mount --vfs-cache-mode full`", less_is_better=True)


def crowds(ours, rclone):
    """Several readers of one cold file on a late server."""
    for what, work, unit in [("random 1 MiB reads", read_some, READS_EACH), ("page faults of a mapping", touch_some, FAULTS_EACH)]:
        def measure(kind, count):
            with kind("late") as mount:
                return together(work, mount.path, count) * unit
        results = in_turn(*[lambda kind=kind, count=count: measure(kind, count) for kind in (ours, rclone) for count in (1, READERS)], runs=3)
        one, many, other_one, other_many = results
        say(f"{what} a second: ours {statistics.median(one):.0f} and {statistics.median(many):.0f}, rclone {statistics.median(other_one):.0f} and {statistics.median(other_many):.0f}")
        where = f"one cold file of {LARGE_BYTES >> 20} MiB, every answer {LATENCY_MS} ms late"
        ratio_row(PART, f"{what}, {READERS} readers", many, one, 3, f"the other side: one reader; {where}")
        ratio_row(PART, f"{what}, one reader", one, other_one, 1.0, f"the other side: `rclone mount --vfs-cache-mode full`; {where}")
        ratio_row(PART, f"{what}, {READERS} readers", many, other_many, 1.0, f"the other side: `rclone mount --vfs-cache-mode full`; {where}")


def memory(program, work, servers):
    names = [f"small{number}.safetensors" for number in range(DOWNLOADS)]
    with Ours(program, work, servers, "fast", names) as mount:
        paths = [mount.folder / name for name in names]
        pid = json.loads((mount.folder.parent.parent / ".modelfs/status.json").read_text())["pid"]
        for path in paths:
            os.setxattr(path, "user.modelfs.fetch", b"1")
        eventually("everything is here", lambda: all(state(path) == "resident" for path in paths))
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    row(PART, f"memory of the mount, {DOWNLOADS} downloads at once", f"at most {peak:.0f} MiB", "≤ 200 MiB", peak <= 200, f"`VmHWM`; {DOWNLOAD_BYTES >> 20} MiB each")


def opponents(program, work, target):
    work.mkdir()
    model_file(work / "files/large.safetensors", 9, LARGE_BYTES)
    for number in range(DOWNLOADS):
        model_file(work / f"files/small{number}.safetensors", 100 + number, DOWNLOAD_BYTES)
    servers = Servers(work, target)
    try:
        ours = lambda server: Ours(program, work, servers, server)
        rclone = lambda server: Rclone(work, servers, server)
        curl = lambda server, *more: timed(["curl", "-s", *more, "-o", work / "curl.out", servers.url(server, "large.safetensors")])
        aria = lambda server: timed(["aria2c", "-q", "-x16", "-s16", "-k1M", "--file-allocation=none", "--allow-overwrite=true", "--auto-file-renaming=false",
                                     "-d", work, "-o", "aria.out", servers.url(server, "large.safetensors")])
        speeds(ours, rclone, curl, aria)
        crowds(ours, rclone)
        memory(program, work, servers)
    finally:
        servers.close()
