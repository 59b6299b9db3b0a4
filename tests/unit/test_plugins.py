"""Parts from outside: which are taken, which are refused and in which words."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_files import BACKBONE, DATASET, FUNCTION, SIGN_MAML, install, write

from data_pipeline import datasets, functions, registry
from data_pipeline.errors import DataError
from metadist import algorithms, backbones, plugins
from metadist.compute.resolve import resolve
from metadist.episode_data.places import kind_of
from metadist.errors import PluginError, RecipeError, RunError
from metadist.plugins import Plugin, kept, require, use
from metadist.recipe.schema import load_recipe
from metadist.track import run_tags


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test in a folder of its own, with the modules and paths it found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        # A package without a file of its own has places only.
        module = sys.modules[name]
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
        if any(place and Path(place).is_relative_to(tmp_path) for place in places):
            del sys.modules[name]


def _one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert len(text.splitlines()) == 1
    return text


# --- what is taken ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "package"),
    [
        (SIGN_MAML, "algorithm", algorithms),
        (BACKBONE, "backbone", backbones),
        (DATASET, "dataset", datasets),
        (FUNCTION, "function", functions),
    ],
    ids=["algorithm", "backbone", "dataset", "function"],
)
def test_each_kind_of_part_is_nameable_inside_the_block(text, kind, package):
    path = write(Path("toy.py"), text)
    assert "toy" not in package.names()
    with use(["./toy.py"]) as (plugin,):
        assert (plugin.kind, plugin.name) == (kind, "toy")
        assert plugin.source == str(path.resolve())
        assert "toy" in package.names()
        part = registry.load(package, "toy", kind)
        assert vars(part)["PART"] == kind
    assert "toy" not in package.names()


def test_a_module_is_found_in_the_current_directory():
    write(Path("cwd_lab/__init__.py"), "")
    write(Path("cwd_lab/cwd_toy.py"), SIGN_MAML)
    with use(["cwd_lab.cwd_toy"]) as (plugin,):
        assert plugin.source == "cwd_lab.cwd_toy"
        assert plugin.root == str(Path.cwd())
        assert "cwd_toy" in algorithms.names()


def test_one_may_be_given_alone_twice_or_inside_another_block():
    path = write(Path("toy.py"), BACKBONE)
    with use(path) as (plugin,), use(["toy.py", str(path.resolve())]), use([plugin]) as again:
        assert again == (plugin,)
    with use(path):
        assert "toy" in backbones.names()
    assert "toy" not in backbones.names()


def test_a_file_that_has_changed_is_read_anew_whatever_its_time():
    path = write(Path("toy.py"), BACKBONE + "VALUE = 1\n")
    with use(path) as (before,):
        assert registry.load(backbones, "toy", "backbone").VALUE == 1
    times = (path.stat().st_atime, path.stat().st_mtime)
    write(path, BACKBONE + "VALUE = 2\n")
    os.utime(path, times)
    with use(path) as (after,):
        assert registry.load(backbones, "toy", "backbone").VALUE == 2
    assert before.sha256 != after.sha256
    assert not Path("__pycache__").exists()


def test_which_parts_of_a_recipe_come_from_outside():
    write(Path("sign.py"), SIGN_MAML)
    write(Path("net.py"), BACKBONE)
    with use(["sign.py", "net.py"]) as (sign, net):
        recipe = resolve(load_recipe("sinusoid-10shot-maml", ("algorithm.name=sign",)))
        assert plugins.of(recipe) == {"algorithm": sign}
        assert plugins.unused(recipe) == [net]
        assert plugins.facts(plugins.of(recipe)) == {
            "algorithm": {
                "name": "sign",
                "path": str(Path("sign.py").resolve()),
                "sha256": sign.sha256,
            }
        }
        tags = run_tags({"plugins": plugins.facts({"algorithm": sign})}, {})
        assert tags["plugin.algorithm.sha256"] == sign.sha256
    assert plugins.of(recipe) == {}


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["must say which kind", "PART = 'algorithm'", "'function'", "it has no PART"]),
        ("PART = 'optimizer'", ["must say which kind", "it has PART = 'optimizer'"]),
        ("PART = ['algorithm']", ["must say which kind"]),
        ("PART = 'algorithm'", ["must export Options and build", "lacks Options and build"]),
        ("PART = 'backbone'\nOptions = None", ["must export Options and build", "lacks build"]),
        ("PART = 'dataset'", ["must export SPEC and iter_images"]),
        (FUNCTION.replace("{name}", "line"), ["SPEC.name must be 'toy'", "got 'line'"]),
        ("import nowhere_to_be_found", ["ModuleNotFoundError", "'nowhere_to_be_found'"]),
        ("def build(:", ["SyntaxError", "line 1"]),
        ("raise RuntimeError('a\\nb')", ["RuntimeError: a b"]),
        ("import sys; sys.exit('bye')", ["SystemExit: bye"]),
        ("1 / 0", ["ZeroDivisionError"]),
        ("raise KeyError", ["cannot be imported: KeyError"]),
    ],
)
@pytest.mark.parametrize("form", ["file", "module"])
def test_a_module_that_is_no_part_is_refused_in_one_line(text, words, form, tmp_path, request):
    package = f"lab_{abs(hash(request.node.name))}"
    path = write(Path(package) / "toy.py", text)
    before = set(sys.modules)
    given = str(path) if form == "file" else f"{package}.toy"
    with pytest.raises(PluginError) as error, use([given]):
        pass
    said = _one_line(error)
    for word in ("--plugin", given, *words):
        assert word in said
    assert "toy" not in {n for p in (algorithms, backbones, datasets) for n in p.names()}
    if "cannot be imported" in said:
        # --debug shows where it happened.
        cause = error.value.__cause__
        assert cause is not None
        assert type(cause.__cause__).__name__ in said
        assert not [n for n in set(sys.modules) - before if n.endswith(".toy") or "_toy_" in n]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("gone.py", ["cannot be read", "No such file"]),
        ("./gone", ["a Python file is needed"]),
        ("my-toy.py", ["a Python file is needed, named like a variable"]),
        ("gone_package.toy", ["ModuleNotFoundError", "'gone_package'"]),
        ("my-package.toy", ["the dotted name of a module is needed", "./toy.py"]),
        (".toy", ["the dotted name of a module is needed"]),
        ("json", ["this is a package"]),
        ("toy.py:build", ["cannot be read"]),
        ("toy.py:a.b", ["the dotted name of a module is needed"]),
        (Path("gone"), ["a Python file is needed"]),
    ],
)
def test_what_is_no_module_is_refused(given, words):
    with pytest.raises(PluginError) as error, use([given]):
        pass
    said = _one_line(error)
    for word in (str(given).removeprefix("./"), *words):
        assert word in said


@pytest.mark.parametrize(
    ("stem", "text", "owner"),
    [
        ("maml", SIGN_MAML, "the built-in algorithm 'maml'"),
        ("conv4", BACKBONE, "the built-in backbone 'conv4'"),
        ("sinusoid", FUNCTION, "the built-in function 'sinusoid'"),
        ("sinusoid", DATASET, "the built-in function 'sinusoid'"),
        ("strokes", FUNCTION, "the built-in dataset 'strokes'"),
    ],
)
def test_a_built_in_name_is_taken(stem, text, owner):
    path = write(Path(f"{stem}.py"), text)
    with pytest.raises(PluginError, match=f"the name '{stem}' is taken by {owner}"), use([path]):
        pass


def test_a_name_means_one_plugin():
    one = write(Path("one/toy.py"), SIGN_MAML)
    two = write(Path("two/toy.py"), SIGN_MAML + "\n")
    with pytest.raises(PluginError, match=r"'toy' is taken by --plugin .*one/toy.py"):
        use([one, two]).__enter__()
    with pytest.raises(PluginError, match=r"taken by --plugin .*data_one/toy.py"):
        use(
            [write(Path("data_one/toy.py"), DATASET), write(Path("data_two/toy.py"), FUNCTION)]
        ).__enter__()
    # An algorithm and a backbone are never meant by the same key.
    with use([one, write(Path("net/toy.py"), BACKBONE)]):
        assert "toy" in algorithms.names()
        assert "toy" in backbones.names()
    assert "toy" not in algorithms.names()


def test_what_is_kept_does_not_read_its_file_again():
    path = write(Path("toy.py"), BACKBONE)
    with use([path]) as used:
        again = kept(used)
        with again():  # as it is in use already
            assert "toy" in backbones.names()
    path.unlink()
    with again():
        assert "toy" in backbones.names()
    assert "toy" not in backbones.names()


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        ([], "plugins: names with values"),
        ({"algorithm": {}}, "plugins.algorithm.name"),
        ({"algorithm": {"name": 3, "sha256": "0", "path": "x"}}, "plugins.algorithm.name"),
        ({"algorithm": {"name": "toy", "path": "x"}}, "plugins.algorithm.sha256"),
        ({"algorithm": {"name": "toy", "sha256": "0"}}, "'path' or 'module' is needed"),
        ({"os": {"name": "toy", "sha256": "0", "path": "x"}}, "are known, got 'os'"),
    ],
)
def test_a_record_of_plugins_that_is_none_is_told(recorded, words):
    with pytest.raises(RunError, match=words):
        require(Path("runs/x"), {"plugins": recorded})


def test_a_module_that_has_changed_since_it_was_imported_is_refused():
    path = write(Path("stale_toy.py"), BACKBONE)
    with use(["stale_toy"]):
        pass
    write(path, BACKBONE + "VALUE = 2\n")
    with pytest.raises(PluginError, match="changed since this process imported it"):
        use(["stale_toy"]).__enter__()


@pytest.mark.parametrize("name", ["my_lab.toy", "./toy.py", "toy.py"])
@pytest.mark.parametrize("key", ["algorithm.name", "model.name", "data.dataset"])
def test_a_recipe_cannot_name_a_module(name, key):
    write(Path("my_lab/toy.py"), "raise SystemExit('a recipe has run code')")
    write(Path("toy.py"), "raise SystemExit('a recipe has run code')")
    sys.path.append(str(Path.cwd()))
    recipe = load_recipe("sinusoid-10shot-maml", (f"{key}={name}",))
    with pytest.raises(RecipeError) as error:
        kind_of(resolve(recipe).data.dataset)
    said = _one_line(error)
    assert "A recipe cannot name a module" in said
    assert f"--plugin {name} and call it 'toy'" in said


# --- in another process -----------------------------------------------------------------------


def test_a_worker_takes_the_source_that_the_driver_has_read():
    path = write(Path("toy.py"), BACKBONE)
    with use(path) as (plugin,):
        sent: Plugin = pickle.loads(pickle.dumps(plugin))
    with use([sent]):
        assert "toy" in backbones.names()
    write(path, BACKBONE + "# another\n")
    with pytest.raises(PluginError, match="every worker must see the same file"):
        use([sent]).__enter__()
    path.unlink()
    with pytest.raises(PluginError, match="cannot be read"):
        use([sent]).__enter__()


def test_a_worker_finds_a_module_where_the_driver_found_it(tmp_path, monkeypatch):
    write(Path("toys/worker_toy.py"), BACKBONE)
    with use(["toys.worker_toy"]) as (plugin,):
        pass
    for name in ("toys", "toys.worker_toy"):
        del sys.modules[name]
    sys.path.remove(str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    with use([plugin]):
        assert "worker_toy" in backbones.names()


# --- installed distributions ------------------------------------------------------------------


def _installed(distribution: str, modules: dict[str, str], **announced: str) -> None:
    site = Path(f"site-{distribution}").resolve()
    install(site, distribution, modules, **announced)
    sys.path.append(str(site))


def test_an_installed_part_is_listed_without_being_imported():
    _installed(
        "good",
        {"good_parts.good_sign": SIGN_MAML, "good_parts.good_line": FUNCTION},
        algorithm__good_sign="good_parts.good_sign",
        function__good_line="good_parts.good_line",
    )
    assert "good_sign" in algorithms.names()
    assert "good_line" in functions.names()
    assert "good_sign" not in backbones.names()
    assert not [name for name in sys.modules if name.startswith("good_parts")]
    recipe = resolve(load_recipe("sinusoid-10shot-maml", ("algorithm.name=good_sign",)))
    assert "good_parts.good_line" not in sys.modules
    plugin = plugins.of(recipe)["algorithm"]
    assert plugin.source == "good_parts.good_sign"
    assert plugin.distribution == "good 1.0"
    assert plugin.facts["distribution"] == "good 1.0"
    assert functions.load("good_line").SPEC.latent == ("slope",)
    # So a worker takes it; and to name it is no collision.
    with use([plugin]), use(["good_parts.good_sign"]):
        assert algorithms.names().count("good_sign") == 1


def test_a_broken_distribution_fails_only_when_it_is_named():
    _installed(
        "broken",
        {"broken_parts.liar": BACKBONE, "broken_parts.crash": "1 / 0"},
        algorithm__liar="broken_parts.liar",
        algorithm__crash="broken_parts.crash",
        dataset__crash="broken_parts.crash",
        backbone__gone="broken_parts.gone",
    )
    assert {"crash", "liar"} <= set(algorithms.names())
    resolve(load_recipe("sinusoid-10shot-maml"))
    for key, cause in {
        "algorithm.name=crash": r"algorithm 'crash' from broken 1.0 .*ZeroDivisionError",
        "algorithm.name=liar": r"says PART = 'backbone'; 'algorithm' is announced",
        "model.name=gone": r"No module named 'broken_parts.gone'",
    }.items():
        with pytest.raises(RecipeError, match=cause) as error:
            resolve(load_recipe("sinusoid-10shot-maml", (key,)))
        _one_line(error)
    with pytest.raises(DataError, match="ZeroDivisionError"):
        datasets.load("crash")


def test_an_installed_name_means_one_part():
    _installed(
        "first",
        {"first_parts.both": SIGN_MAML, "first_parts.maml": SIGN_MAML},
        algorithm__both="first_parts.both",
        algorithm__maml="first_parts.maml",
    )
    _installed("second", {"second_parts.both": SIGN_MAML}, algorithm__both="second_parts.both")
    with pytest.raises(RecipeError, match=r"first 1.0 .* and from second 1.0"):
        algorithms.options("both", {})
    with pytest.raises(RecipeError, match=r"'maml' comes with this package and from first 1.0"):
        algorithms.options("maml", {})
    path = write(Path("both.py"), SIGN_MAML)
    with pytest.raises(PluginError, match=r"first 1\.0"):
        use([path]).__enter__()
