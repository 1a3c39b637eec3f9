#!/usr/bin/env bash
# Builds sdist and wheel, installs the wheel built *from the sdist* into a folder of its own, and uses it from outside
# the tree: a header or module that the package forgot shows here and nowhere else.
# Usage: check.sh PYTHON (whose environment holds the build tools and the dependencies)
set -euo pipefail
python=$(realpath --no-symlinks "$1")
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$root"
"$python" -m build --no-isolation --outdir "$work/dist" . >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log"; exit 1; }
ls -l "$work/dist"
"$python" -m pip install --quiet --no-deps --target "$work/site" "$work"/dist/*.whl

cd "$work"
# -I leaves the editable install's finder in place, so the folder is put first by hand.
"$python" - "$work/site" <<'PY'
import sys

site = sys.argv[1]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path[:] = [site] + [entry for entry in sys.path if entry]
import playout

assert playout.__file__.startswith(site), playout.__file__
from pathlib import Path

from playout.envs import get_include

assert (Path(get_include()) / "playout_game.h").is_file(), "the game header is not in the wheel"
assert not (Path(site) / "tests").exists(), "tests must not be installed"

import gymnasium
import numpy as np

states = playout.game("connect_four").batch(3)
states.apply(np.array([3, 3, 3]))
assert states.legal_mask().sum() == 21
env = gymnasium.make("playout/CartPole-v1")
env.reset(seed=0)
env.step(1)

from playout.mcts.search import Search, SearchConfig

search = Search(playout.game("tic_tac_toe"), SearchConfig(algorithm="uct", num_simulations=200), num_trees=1, seed=0)
print("wheel works from", site)
PY
PYTHONPATH="$work/site" "$python" -m playout --help >/dev/null
echo "packages: ok"
