"""What every part of the benchmarks needs: a store and mount of one user, files, measurements in turn, and their rows.

Not here: what is measured (bench.py and beside it).
"""
import json, os, random, statistics, subprocess, sys, time
from pathlib import Path

RUNS = 5
rows = {}


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


def row(part, what, figure, goal, met, how):
    rows.setdefault(part, []).append((what, figure, goal, met, how))
    say(f"{what}: {figure} (goal {goal}){'' if met else '  NOT MET'}")


def ratio_row(part, what, ours, theirs, goal, how, less_is_better=False):
    """One row from two lists of measurements taken in turn."""
    a, b = statistics.median(ours), statistics.median(theirs)
    value = a / b
    met = value <= goal if less_is_better else value >= goal
    sign = "≤" if less_is_better else "≥"
    row(part, what, f"{value:.2f}", f"{sign} {goal}", met, how)


class Box:
    """A store, a mount and the environment of one user, all gone at the end."""

    def __init__(self, program, root, uid=None):
        self.program, self.root, self.uid, self.mounts = program, Path(root), uid, []
        self.root.mkdir(parents=True, exist_ok=True)
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.root), "MODELFS_STORE": str(self.root / "store"), "LANG": "C.UTF-8", "MODELFS_ENRICH_AFTER_IMPORT": "0"}

    def prefix(self):
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"] if self.uid else []

    def run(self, *words, check=True):
        done = subprocess.run([*self.prefix(), self.program, *map(str, words)], env=self.env, capture_output=True, text=True)
        if check and done.returncode:
            sys.exit(f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def mount(self, name="mount"):
        point = self.root / name
        point.mkdir(exist_ok=True)
        if self.uid:
            os.chown(point, self.uid, self.uid)
        self.run("mount", point)
        self.mounts.append(point)
        return point

    def unmount(self, point):
        self.run("unmount", point)
        self.mounts.remove(point)

    def close(self):
        for point in list(self.mounts):
            self.run("unmount", point, check=False)


def warm(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(8 << 20):
            pass


def model_file(path, number, size):
    """A LoRA of `size` bytes whose bytes a number decides."""
    rank = size // 2 // 320
    header = json.dumps({
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight":
            {"dtype": "F16", "shape": [rank, 320], "data_offsets": [0, rank * 640]},
        "__metadata__": {"ss_network_module": "networks.lora", "number": str(number)},
    }).encode()
    header += b" " * (-len(header) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    source = random.Random(number)
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        left = rank * 640
        while left:
            piece = source.randbytes(min(left, 16 << 20))
            file.write(piece)
            left -= len(piece)


def in_turn(*measures, runs=RUNS):
    results = [[] for _ in measures]
    for _ in range(runs):
        for result, measure in zip(results, measures):
            result.append(measure())
    return results


def timed(words, env=None):
    start = time.perf_counter()
    done = subprocess.run([str(word) for word in words], env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{words}: {done.stderr}")
    return time.perf_counter() - start


