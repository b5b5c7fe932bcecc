"""Talks to a hub with the real Hugging Face client and compares what it gets with a folder.

Usage: check_hub.py open|gated FOLDER      the hub is HF_ENDPOINT; FOLDER is what it serves
"""

import hashlib
import os
import sys

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

try:
    from huggingface_hub.errors import RemoteEntryNotFoundError as EntryNotFoundError
except ImportError:
    from huggingface_hub.errors import EntryNotFoundError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SYNTHETIC = "synthetic.safetensors"


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as opened:
        while piece := opened.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def git_sha1_of(path):
    with open(path, "rb") as opened:
        content = opened.read()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def files_below(folder):
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            yield os.path.relpath(path, folder), path


def refused(error, work, status=None):
    try:
        work()
    except error as caught:
        assert type(caught) is error, f"{type(caught).__name__} instead of {error.__name__}"
        assert status in (None, caught.response.status_code), caught
        print(f"ok {error.__name__}")
        return
    raise AssertionError(f"no {error.__name__}")


def check_open(folder):
    api = HfApi()
    info = api.model_info("org/name", files_metadata=True)
    assert (info.id, info.sha, info.gated) == ("org/name", COMMIT, False), info
    expected = dict(files_below(folder))
    listed = {file.rfilename: file for file in info.siblings}
    assert set(listed) == set(expected) | {SYNTHETIC}, "the list of files"
    tree = [entry for entry in api.list_repo_tree("org/name", recursive=True) if hasattr(entry, "blob_id")]
    assert {entry.path for entry in tree} == set(listed), "the tree"
    large = 0
    for entry in tree:
        if entry.path == SYNTHETIC:
            continue
        path = expected[entry.path]
        assert entry.size == os.path.getsize(path) == listed[entry.path].size, entry.path
        if entry.lfs:
            large += 1
            assert entry.lfs.sha256 == sha256_of(path) == listed[entry.path].lfs.sha256, entry.path
        else:
            assert entry.blob_id == git_sha1_of(path) == listed[entry.path].blob_id, entry.path
    assert large > 10 and len(tree) > large + 10, "both large and small files"
    some = sorted(expected)[:3]
    assert sorted(entry.path for entry in api.get_paths_info("org/name", some + ["none"])) == some, "paths-info"
    assert [branch.target_commit for branch in api.list_repo_refs("org/name").branches] == [COMMIT]
    print(f"ok lists {len(tree)} files")

    snapshot = snapshot_download("org/name")
    assert os.path.basename(snapshot) == COMMIT, snapshot
    downloaded = dict(files_below(snapshot))
    assert set(downloaded) == set(listed), "the snapshot"
    for name, path in expected.items():
        assert sha256_of(path) == sha256_of(downloaded[name]), name
    synthetic = next(entry for entry in tree if entry.path == SYNTHETIC)
    assert sha256_of(downloaded[SYNTHETIC]) == synthetic.lfs.sha256, "the generated file"
    print(f"ok downloads {len(downloaded)} files")

    name = next(entry.path for entry in tree if entry.lfs)
    path = hf_hub_download("org/name", name, revision="main", local_dir=os.environ["HF_HOME"] + "/local")
    assert sha256_of(path) == sha256_of(expected[name]), name
    print("ok downloads one file into a folder")

    # Over https the client calls this a missing repository; over http it only repeats the status.
    refused(HfHubHTTPError, lambda: api.model_info("org/none"), 401)
    refused(RevisionNotFoundError, lambda: api.model_info("org/name", revision="v9"))
    refused(RevisionNotFoundError, lambda: hf_hub_download("org/name", name, revision="v9"))
    refused(EntryNotFoundError, lambda: hf_hub_download("org/name", "none.bin"))
    refused(HfHubHTTPError, lambda: api.whoami(token="hf_wrong"), 401)


def check_gated(_):
    api = HfApi()
    assert api.model_info("org/gated").gated == "auto"
    name = next(path for path in api.list_repo_files("org/gated") if path.endswith(".safetensors"))
    refused(GatedRepoError, lambda: hf_hub_download("org/gated", name))
    refused(GatedRepoError, lambda: hf_hub_download("org/gated", name, token="hf_wrong"))
    assert os.path.getsize(hf_hub_download("org/gated", name, token="hf_granted")) > 0
    assert api.whoami(token="hf_granted")["name"]
    refused(RepositoryNotFoundError, lambda: api.model_info("org/none", token="hf_granted"))
    refused(RepositoryNotFoundError, lambda: hf_hub_download("org/none", "config.json", token="hf_granted"))
    print("ok downloads with the token that was granted")


if __name__ == "__main__":
    {"open": check_open, "gated": check_gated}[sys.argv[1]](sys.argv[2])
