"""`import fedloom`: what completion shows, and that a script needs no `__main__` guard."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fedloom

SCRIPT = """
print("begun")
import fedloom
one = {"arch": "vit", "hidden": 16, "layers": 1, "heads": 2, "patch": 6, "width": 16}
run = fedloom.run(
    preset="smoke", method="standalone", rounds=0, out="out",
    overrides=["clients.text=[]", "engine.workers=WORKERS"], clients={"image": [one]},
)
print(run)
print("done")
"""
COMPARED = """
import fedloom
print("begun")
print(fedloom.compare(["standalone"], plan={"base": {"preset": "smoke", "rounds": 0}}, out="out"))
print("done")
"""


def test_completion():
    assert {"run", "compare", "load_run", "plan"} <= set(dir(fedloom))
    assert {name for name in dir(fedloom) if not name.startswith("_")} >= set(fedloom.__all__) - {"__version__"}
    assert not {"Any", "annotations", "import_module"} & set(dir(fedloom))
    for name in set(fedloom.__all__) - {"__version__"}:
        assert callable(getattr(fedloom, name))
        assert getattr(fedloom, name).__doc__
    with pytest.raises(AttributeError, match="module 'fedloom' has no attribute 'rum'"):
        _ = fedloom.rum


def test_modules_that_the_guides_name():
    code = "import fedloom; print(fedloom.errors.BadInput.__name__, fedloom.config.load_config.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "BadInput load_config\n"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: fedloom.run(overrides="rounds=3"),
            "overrides = 'rounds=3': expected a list, such as ['rounds=3']",
        ),
        (
            lambda: fedloom.compare("standalone"),
            "methods = 'standalone': expected a list, such as ['standalone']",
        ),
        (lambda: fedloom.compare(["standalone"], seeds=0), "seeds = 0: expected a list, such as [0]"),
        (lambda: fedloom.run({"method": "fedmkt"}), "unknown method 'fedmkt'. Did you mean 'fedmmkt'?"),
        (lambda: fedloom.run("nowhere.yaml"), "nowhere.yaml: No such file"),
    ],
)
def test_arguments_of_another_kind(call, said):
    with pytest.raises(fedloom.errors.BadInput) as error:
        call()
    assert said in str(error.value)


def test_what_type_checkers_see():
    """They read the imports under TYPE_CHECKING, which nothing runs."""
    tree = ast.parse(Path(fedloom.__file__).read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    seen = {a.name: n.module for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert seen == fedloom._LATE
    assert set(seen) == set(fedloom.__all__) - {"__version__"}


def script(tmp_path: Path, text: str, way: str, cache: Path) -> str:
    """What a script without a guard says; it is run in an empty folder, with a cache of its own."""
    (tmp_path / "mine.py").write_text(text)
    command = {
        "file": [sys.executable, "mine.py"],
        "stdin": [sys.executable, "-"],
        # As a notebook's kernel does: `__main__` is no file, the folder is on the path as ''.
        "notebook": [
            sys.executable,
            "-c",
            "exec(compile(open('mine.py').read(), '<ipython-input-1>', 'exec'))",
        ],
    }[way]
    done = subprocess.run(
        command,
        input=text if way == "stdin" else "",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "FEDLOOM_CACHE": str(cache)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begun") == 1  # no child runs the script again
    assert done.stdout.endswith("folder out\ndone\n"), done.stdout
    return done.stdout


@pytest.mark.conformance  # in ordinary tests: a script of its own method (test_registry)
def test_a_script_without_a_guard(tmp_path, smoke_run, fedloom_cache):
    """It pretrains in processes, and its client lives in another; the weights are those of pretraining in this one."""
    cache = tmp_path / "cache"
    in_processes = "from fedloom.experiment.pretraining import processes; processes.FEW = 0\n"
    said = script(tmp_path, in_processes + SCRIPT.replace("WORKERS", "1"), "file", cache)
    assert "standalone on flora, seed 0: finished, 0 rounds" in said
    made = [file.relative_to(cache) for file in cache.rglob("*.safetensors")]
    both = [file for file in made if (fedloom_cache / file).is_file()]
    assert {file.parts[0] for file in both} == {"backbone"}
    assert [f for f in both if (fedloom_cache / f).read_bytes() != (cache / f).read_bytes()] == []


@pytest.mark.conformance
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("way", ["file", "stdin", "notebook"])
def test_scripts_without_a_guard(tmp_path, way, workers):
    script(tmp_path, SCRIPT.replace("WORKERS", workers), way, tmp_path / "cache")


@pytest.mark.conformance
@pytest.mark.parametrize("way", ["file", "stdin", "notebook"])
def test_a_comparison_without_a_guard(tmp_path, way):
    script(tmp_path, COMPARED, way, tmp_path / "cache")
