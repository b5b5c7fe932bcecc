"""Talks to a hub with the real ModelScope client and compares what it gets with a folder.

Usage: check_modelscope.py FOLDER      the hub is MODELSCOPE_ENDPOINT and serves FOLDER as org/name
"""

import hashlib
import os
import sys

from modelscope.hub.api import HubApi
from modelscope.hub.file_download import model_file_download
from modelscope.hub.snapshot_download import snapshot_download


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as opened:
        while piece := opened.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def files_below(folder):
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            yield os.path.relpath(path, folder), path


def main(folder):
    expected = dict(files_below(folder))
    listed = {entry["Path"]: entry["Size"] for entry in HubApi().get_model_files("org/name", recursive=True)}
    folders = {path for path in listed if os.path.isdir(os.path.join(folder, path))}
    assert set(listed) - folders == set(expected), (set(listed) - folders) ^ set(expected)
    for name, path in expected.items():
        assert listed[name] == os.path.getsize(path), name
    print(f"ok lists {len(expected)} files")

    snapshot = snapshot_download("org/name")
    for name, path in expected.items():
        # Every file but the empty ones, whose size the hub cannot tell from an unknown one.
        if os.path.getsize(path):
            assert sha256_of(os.path.join(snapshot, name)) == sha256_of(path), name
    print(f"ok downloads {len(expected)} files")

    name = max(expected, key=lambda name: os.path.getsize(expected[name]))
    assert sha256_of(model_file_download("org/name", name)) == sha256_of(expected[name]), name
    print("ok downloads one file")

    for repo, file in (("org/none", name), ("org/name", "none.bin")):
        try:
            model_file_download(repo, file)
        except Exception as error:
            print(f"ok {type(error).__name__} for {repo}/{file}")
        else:
            raise AssertionError(f"no error for {repo}/{file}")


if __name__ == "__main__":
    main(sys.argv[1])
