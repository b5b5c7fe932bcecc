"""Opens every safetensors file whose path stands on a line of stdin, as applications that list a folder do."""

import sys

from safetensors import safe_open

for line in sys.stdin:
    with safe_open(line.rstrip("\n"), framework="numpy") as file:
        print(len(list(file.keys())), len(file.metadata()["ss_tag_frequency"]))
