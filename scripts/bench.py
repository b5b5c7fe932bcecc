"""Runs the benchmarks that scripts/bench prepares, and writes docs/BENCHMARKS.md.

Every figure is a ratio of two medians, measured in turn (ours, theirs, ours, theirs, ...) on the same machine in the
same minutes, because single times say more about the machine than about the program.
"""
import argparse, datetime, json, os, platform, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path

from measuring import RUNS, Box, in_turn, model_file, ratio_row, row, rows, say, timed, warm
from opponents import opponents

LARGE_BYTES = 1 << 30
SCALE_MODELS = 100_000
USER = 65534  # nobody
PAGE = "docs/BENCHMARKS.md"
PARTS = ["resident", "import", "remote", "opponents", "scale", "search", "judging"]


def drop_caches():
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text("3")


def fio(path, rw, engine, block, seconds=None, uid=None):
    words = ["fio", "--name=read", f"--filename={path}", "--readonly", f"--rw={rw}", f"--bs={block}", f"--ioengine={engine}",
             "--invalidate=0", "--output-format=json", "--fadvise_hint=0", "--randseed=7"]
    if seconds:
        words += ["--time_based", f"--runtime={seconds}"]
    prefix = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
    done = subprocess.run(prefix + words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"fio: {done.stderr}{done.stdout}")
    text = done.stdout[done.stdout.index("{"):]
    return json.loads(text)["jobs"][0]["read"]["bw_bytes"]


def resident(program, work):
    for uid, who, goals in [(None, "root, passthrough", (0.98, 0.90, 0.98)), (USER, "ordinary user", (0.85, None, 0.70))]:
        box = Box(program, work / f"resident-{uid or 0}", uid)
        source = box.root / "in/large.safetensors"
        model_file(source, 1, LARGE_BYTES)
        if uid:
            if not can_mount_as(uid):
                row("resident", f"{who}", "not measured", "", False, "/dev/fuse cannot be opened by an ordinary user here")
                continue
            subprocess.run(["chown", "-R", f"{uid}:{uid}", box.root], check=True)
        box.run("import", "--mode", "move", source)
        point = box.mount()
        theirs = next((box.root / "store/models").glob("*/*"))
        ours = point / "comfyui/loras" / theirs.name
        if uid:
            # Only the mounting user may look into it, and root is another one.
            subprocess.run(box.prefix() + ["cat", ours], stdout=subprocess.DEVNULL, check=True)
        else:
            warm(ours)
        warm(theirs)
        for what, rw, engine, block, goal in [
            ("sequential read, 1 MiB, warm", "read", "psync", "1M", goals[0]),
            ("random read, 4 KiB, warm", "randread", "psync", "4k", goals[1]),
            ("mmap read, sequential, warm", "read", "mmap", "128k", goals[2]),
        ]:
            seconds = 2
            a, b = in_turn(lambda: fio(ours, rw, engine, block, seconds, uid), lambda: fio(theirs, rw, engine, block, seconds, uid))
            how = f"`fio --rw={rw} --bs={block} --ioengine={engine} --invalidate=0`, 1 GiB file; the other side: the same file on ext4"
            if goal is None:
                row("resident", f"{what} ({who})", f"{statistics.median(a) / statistics.median(b):.2f}", "none", True, how)
            else:
                ratio_row("resident", f"{what} ({who})", a, b, goal, how)
        if not uid:
            def cold(path):
                drop_caches()
                return fio(path, "read", "psync", "1M")
            a, b = in_turn(lambda: cold(ours), lambda: cold(theirs))
            ratio_row("resident", f"sequential read, 1 MiB, cold ({who})", a, b, goals[0], "the same after `drop_caches`")
        box.close()


def can_mount_as(uid):
    words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "sh", "-c", "exec 3<>/dev/fuse"]
    if subprocess.run(words, stderr=subprocess.DEVNULL).returncode == 0:
        return True
    if os.geteuid() == 0:
        # As on every desktop; put back at the end.
        mode = os.stat("/dev/fuse").st_mode & 0o777
        os.chmod("/dev/fuse", 0o666)
        restore.append(lambda: os.chmod("/dev/fuse", mode))
        return subprocess.run(words, stderr=subprocess.DEVNULL).returncode == 0
    return False


restore = []


def importing(program, work):
    folder = work / "import/in"
    files = []
    for number in range(4):
        path = folder / f"{number}.safetensors"
        model_file(path, number, LARGE_BYTES // 2)
        files.append(path)
    for path in files:
        warm(path)
    total = sum(path.stat().st_size for path in files)

    def ours(mode):
        store = work / "import/store"
        shutil.rmtree(store, ignore_errors=True)
        env = {"PATH": os.environ["PATH"], "HOME": str(work), "MODELFS_STORE": str(store), "MODELFS_ENRICH_AFTER_IMPORT": "0"}
        return total / timed([program, "import", "--mode", mode, folder], env)

    def theirs():
        return total / timed(["sha256sum", *files])

    def copy():
        target = work / "import/copy"
        shutil.rmtree(target, ignore_errors=True)
        seconds = timed(["sh", "-c", f"cp -r '{folder}' '{target}' && sync -f '{target}' && sha256sum '{target}'/*"])
        shutil.rmtree(target, ignore_errors=True)
        return total / seconds

    a, b = in_turn(lambda: ours("link"), theirs)
    ratio_row("import", "import by link of 4 × 512 MiB, all six hashes in one pass, warm", a, b, 0.90,
              "the other side: `sha256sum` of the same files")
    a, b = in_turn(lambda: ours("copy"), copy, runs=3)
    ratio_row("import", "import by copy of 4 × 512 MiB, on disk when it returns", a, b, 0.90,
              "the other side: `cp`, `sync` and `sha256sum`")


def remote(program, work, target):
    folder = work / "remote/repo"
    model_file(folder / "loras/large.safetensors", 9, 256 << 20)
    size = (folder / "loras/large.safetensors").stat().st_size

    def hub(*more):
        process = subprocess.Popen([target / "examples/fake_hub", "--repo", "org/name", "--folder", folder, *more],
                                   stdout=subprocess.PIPE, text=True)
        endpoint = process.stdout.readline().strip().split("=", 1)[1]
        return process, endpoint

    def fresh(endpoint, name):
        root = work / f"remote/{name}"
        shutil.rmtree(root, ignore_errors=True)
        box = Box(program, root)
        box.env["HF_ENDPOINT"] = endpoint
        box.run("add", "hf:org/name")
        return box, box.mount() / "comfyui/loras/large.safetensors"

    def state(path):
        return os.getxattr(path, "user.modelfs.state").decode()

    process, endpoint = hub()
    try:
        url = f"{endpoint}/org/name/resolve/main/loras/large.safetensors"

        def ours():
            box, path = fresh(endpoint, "whole")
            start = time.perf_counter()
            warm(path)
            while state(path) != "resident":
                time.sleep(0.005)
            seconds = time.perf_counter() - start
            box.close()
            return size / seconds

        def theirs():
            return size / timed(["curl", "-sL", "-o", work / "remote/curl.out", url])

        a, b = in_turn(ours, theirs)
        ratio_row("remote", "remote file read from start to end and verified, loopback", a, b, 0.90, "the other side: `curl -o`")

        def first():
            box, path = fresh(endpoint, "first")
            start = time.perf_counter()
            with open(path, "rb", buffering=0) as file:
                file.read(65536)
            seconds = time.perf_counter() - start
            box.close()
            return seconds

        def first_curl():
            return timed(["curl", "-sL", "-r", "0-65535", "-o", work / "remote/curl.out", url])

        a, b = in_turn(first, first_curl)
        ratio_row("remote", "first 64 KiB of a remote file", a, b, 1.3, "the other side: `curl -r 0-65535`", less_is_better=True)
    finally:
        process.terminate()
        process.wait()


def walk(root):
    start = time.perf_counter()
    count = 0
    for folder, _, files in os.walk(root):
        for name in files:
            os.stat(os.path.join(folder, name))
            count += 1
    return time.perf_counter() - start, count


def scale(program, work, target):
    box = Box(program, work / "scale")
    models = box.root / "in"
    say(f"making {SCALE_MODELS} models")
    subprocess.run([target / "examples/samples", models, "--count", str(SCALE_MODELS)], check=True)
    say("importing them")
    seconds = timed([program, "import", "--quiet", "--mode", "move", models], box.env)
    row("scale", f"import of {SCALE_MODELS} small files", f"{seconds:.0f} s ({SCALE_MODELS / seconds:.0f} a second)", "none", True, "`modelfs import --mode move`")
    ready = []
    for _ in range(RUNS):
        point = box.root / "mount"
        start = time.perf_counter()
        box.mount()
        ready.append(time.perf_counter() - start)
        if len(ready) < RUNS:
            box.unmount(point)
    ready = statistics.median(ready)
    row("scale", f"mount ready with {SCALE_MODELS} models", f"{ready:.2f} s", "≤ 0.5 s", ready <= 0.5, "`modelfs mount`, process start included")
    point = box.mounts[0]
    status = json.loads((point / ".modelfs/status.json").read_text())

    def memory(key):
        text = Path(f"/proc/{status['pid']}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(key)) / 1024

    view = point / "comfyui"
    twin = box.root / "twin"
    for folder, _, files in os.walk(view):
        at = twin / os.path.relpath(folder, view)
        at.mkdir(parents=True)
        for name in files:
            (at / name).touch()
    walk(view), walk(twin)
    a, b = in_turn(lambda: walk(view)[0], lambda: walk(twin)[0])
    ratio_row("scale", f"`os.walk` + `stat` over {walk(view)[1]} files, warm", a, b, 1.5, "the other side: the same tree on ext4", less_is_better=True)
    finds = in_turn(lambda: timed(["find", view, "-type", "f", "-size", "+0"]), lambda: timed(["find", twin, "-type", "f", "-size", "+0"]))
    ratio_row("scale", "`find` with `stat` over them, warm", *finds, 1.5, "the other side: the same tree on ext4", less_is_better=True)

    times = []
    for number in range(RUNS):
        new = box.root / f"new/{number}/fresh{number}.safetensors"
        model_file(new, 10**6 + number, 64000)
        views = [point / "comfyui/loras", point / "forge/Lora", point / "a1111/Lora", point / "by/type/lora"]
        process = subprocess.Popen([program, "import", "--quiet", new], env=box.env, stdout=subprocess.DEVNULL)
        process.wait()
        start = time.perf_counter()
        while not all((view / new.name).exists() for view in views):
            time.sleep(0.001)
        times.append(time.perf_counter() - start)
    visible = max(times)
    row("scale", "a new model visible in every view, after `import` returned", f"{visible * 1000:.0f} ms", "≤ 250 ms", visible <= 0.25, f"the longest of {RUNS}")
    one = timed([program, "import", "--quiet", "--mode", "copy", box.root / "new/0"], box.env)
    row("scale", "import of one more file into them", f"{one:.2f} s", "none", True, "the whole command")
    row("scale", "memory of the mount after all this", f"{memory('VmRSS'):.0f} MiB, at most {memory('VmHWM'):.0f} MiB", "≤ 200 MiB", memory("VmRSS") <= 200, "`VmRSS`, `VmHWM`")
    box.close()


LISTED = 10_000


def search(program, work, target, catalog):
    """A catalog of a million names, made and asked by examples/catalog_cost.rs; and a directory of many answers."""
    listing(program, work, target)
    say("making a catalog of 1,000,000 models, some ten minutes, unless one is there")
    words = ["1000000", catalog] if catalog else []
    done = subprocess.run([target / "examples/catalog_cost", *words], stdout=subprocess.PIPE, text=True, check=True)
    say(done.stdout)
    p99 = float(done.stdout.strip().splitlines()[-1].split()[1])
    row("search", "fifteen typical queries over 1,000,000 names, p99", f"{p99:.0f} ms", "≤ 20 ms", p99 <= 20, "`cargo run --release --example catalog_cost`")


def listing(program, work, target):
    box = Box(program, work / "listing")
    subprocess.run([target / "examples/samples", box.root / "in", "--count", str(LISTED)], check=True)
    box.run("import", "--quiet", "--mode", "move", box.root / "in")
    found = box.mount() / "search/type:lora size>0"
    found.mkdir()
    names = os.listdir(found)
    if len(names) != LISTED:
        sys.exit(f"{found} shows {len(names)} of {LISTED}")
    twin = box.root / "twin"
    twin.mkdir()
    for name in names:
        (twin / name).touch()
    for flag in ["-f", "-1", "-l"]:
        timed(["ls", flag, found]), timed(["ls", flag, twin])
        a, b = in_turn(lambda: timed(["ls", flag, found]), lambda: timed(["ls", flag, twin]), runs=2 * RUNS)
        ratio_row("search", f"`ls {flag}` of a search directory of {LISTED} models", a, b, 2, "the other side: a directory of as many files on ext4", less_is_better=True)
    box.close()


JUDGED = 10_000
JUDGED_SECONDS = 5


def judging(program, work, target):
    """A collection of headers without files, made by examples/judging_cost.rs, judged again under a mount."""
    box = Box(program, work / "judging")
    box.run("init")
    made = subprocess.run([target / "examples/judging_cost", box.root / "store", str(JUDGED)], stdout=subprocess.PIPE, text=True, check=True)
    headers = made.stdout.strip()
    say(headers)
    point = box.mount()

    def classify(*words):
        return timed([program, "classify", "--quiet", *words], box.env)

    def figure(what, seconds, how):
        row("judging", what, f"{seconds:.2f} s", f"≤ {JUDGED_SECONDS} s", seconds <= JUDGED_SECONDS, how)

    figure(f"what new rules would change about {JUDGED} models", statistics.median(classify("--diff") for _ in range(RUNS)),
           f"`modelfs classify --diff`, all of them differ; {headers}, no file of them exists")
    figure("the same written, every model moves", classify(), "`modelfs classify`: one transaction, under a mount")
    begun = time.monotonic()
    while len(os.listdir(point / "by/type")) < 5 or not os.listdir(point / "comfyui/loras"):
        if time.monotonic() - begun > JUDGED_SECONDS:
            sys.exit("the mount does not follow")
        time.sleep(0.001)
    row("judging", "until the mount shows it", f"{(time.monotonic() - begun) * 1e3:.0f} ms", "≤ 250 ms", time.monotonic() - begun <= 0.25, "after `classify` returned")
    figure("judged again, nothing changes", statistics.median(classify() for _ in range(RUNS)), "`modelfs classify`")
    box.close()


def page(command):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    old = Path(PAGE).read_text() if Path(PAGE).exists() else ""
    parts = {}
    for block in old.split("\n## ")[1:]:
        name, _, text = block.partition("\n")
        parts[name.strip()] = text.strip()
    for part, found in rows.items():
        lines = ["", f"Measured {datetime.date.today()} with `{command}` on {cpu}, {os.cpu_count()} processors, Linux {platform.release()}.", "",
                 "| what | figure | goal | | how |", "| --- | --- | --- | --- | --- |"]
        for what, figure, goal, met, how in found:
            lines.append(f"| {what} | {figure} | {goal} | {'' if met else 'not met'} | {how} |")
        parts[part] = "\n".join(lines).strip()
    text = "# Benchmarks\n\nWritten by `scripts/bench`. A figure without a unit is a ratio of medians, ours to the other side's, measured in turn in one run.\n"
    for name in PARTS:
        if name in parts:
            text += f"\n## {name}\n\n{parts[name]}\n"
    Path(PAGE).write_text(text)
    say(f"written to {PAGE}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--catalog", type=Path, help="keep the catalog of `search` in this folder for a later run")
    parser.add_argument("parts", nargs="*")
    given = parser.parse_args()
    known = PARTS
    parts = given.parts or known
    if unknown := set(parts) - set(known):
        sys.exit(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    target = given.target.resolve()
    program = target / "modelfs"
    with tempfile.TemporaryDirectory(prefix="modelfs-bench-", dir="/var/tmp") as work:
        work = Path(work)
        os.chmod(work, 0o755)
        try:
            for part in parts:
                {"resident": lambda: resident(program, work), "import": lambda: importing(program, work),
                 "remote": lambda: remote(program, work, target),
                 "opponents": lambda: opponents(program, work / "opponents", target), "scale": lambda: scale(program, work, target),
                 "search": lambda: search(program, work, target, given.catalog),
                 "judging": lambda: judging(program, work, target)}[part]()
        finally:
            for undo in restore:
                undo()
    page("scripts/bench " + " ".join(parts))


main()
