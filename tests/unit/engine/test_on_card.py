"""The runner of card tests and benches, with small programs in their place: what a cut, a failure or a missing package leaves."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import on_card
from bench.card_benches import BENCHES, ROOT, Bar, Bench
from bench.card_pack import PACKAGES, THERE
from bench.shape_cuda import save
from localmodel.engine.loader import load_model
from needed_imports import needed


def program(name, code, seconds=0, limit=20, bars=(), **more):
    return Bench(name, ("-c", code), seconds, limit, bars, **{"sources": ("tests/needed_imports.py",), **more})


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """run(benches, *arguments) -> (code, what was printed, results)"""
    monkeypatch.setattr(on_card, "cards", lambda: ["GPU 0: made up"])

    def call(benches, *arguments):
        monkeypatch.setattr(on_card, "BENCHES", benches)
        code = on_card.main(["--into", str(tmp_path), *arguments])
        results = {file.stem: json.loads(file.read_text()) for file in tmp_path.glob("*.json")}
        return code, capsys.readouterr().out, results

    return call


SPEED = Bar("speed", "speed @ x", ">= 1.5")


def test_what_fails_or_hangs_costs_the_others_nothing(run, tmp_path):
    code, printed, results = run(
        [
            program("good", "print('speed 1,600.5 x'); print('speed 9 x')", bars=(SPEED,)),
            program("bad", "print('speed 1.2 x'); raise SystemExit(3)", bars=(SPEED,)),
            program("hangs", "import time; time.sleep(600)", limit=1),
            program("last", "print('here')"),
        ]
    )
    assert code == 1
    assert {name: each["outcome"] for name, each in results.items()} == {
        "good": "done", "bad": "failed: 3", "hangs": "cut after 1 s", "last": "done"
    }  # fmt: skip
    assert results["good"]["measured"] == {"speed": 1600.5} and results["good"]["cards"] == ["GPU 0: made up"]
    assert "| speed | >= 1.5 | 1,600.5 | met |" in printed and "| speed | >= 1.5 | 1.2 | missed |" in printed
    assert (tmp_path / "last.log").read_text() == "here\n"


def test_what_a_bench_started_ends_with_it():
    code = "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    child = Path("/proc", process.stdout.readline().strip(), "stat")
    assert is_alive(child)
    on_card.end(process)
    until = time.monotonic() + 60
    while is_alive(child):
        assert time.monotonic() < until, "it goes on"
        time.sleep(0.01)


def is_alive(stat):
    try:
        return ") Z" not in stat.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_is_done_is_not_done_again_and_is_in_the_table(run):
    first = [program("a", "print('speed 2 x')", bars=(SPEED,)), program("b", "raise SystemExit(1)")]
    assert run(first)[0] == 1
    code, printed, results = run([program("a", "raise SystemExit(1)", bars=(SPEED,)), program("b", "")], "--skip-done")
    assert code == 0 and {each["outcome"] for each in results.values()} == {"done"}
    assert "| speed | >= 1.5 | 2 | met |" in printed


def test_nothing_is_begun_that_would_be_cut(run):
    code, printed, results = run([program("long", "", seconds=5000, limit=6000), program("short", "")], "--seconds", "500")
    assert (code, list(results)) == (1, ["short"])
    assert "no time" in printed


def test_what_is_missing_is_said_before_anything_runs(run, monkeypatch, tmp_path):
    lacking = tmp_path / "lacking.py"
    lacking.write_text("import no_such_package_at_all\n")
    monkeypatch.setattr(Bench, "files", property(lambda bench: [lacking] if bench.name == "poor" else []))
    code, printed, results = run([program("poor", ""), program("rich", ""), program("wide", "", cards=2)])
    assert (code, list(results)) == (1, ["rich"])
    assert "lacks no_such_package_at_all" in printed and "needs 2 cards" in printed


def test_packages_that_hide_the_machines_own_are_found_out(monkeypatch):
    broken = subprocess.CompletedProcess((), 1, "", "Traceback\nno LlamaForCausalLM\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: broken)
    tests = next(bench for bench in BENCHES if bench.name == "tests")
    assert on_card.refuse([tests], None, 1) == {"tests": "no LlamaForCausalLM"}


def test_an_end_from_outside_keeps_what_was_measured(tmp_path):
    code = (
        "import sys; from bench import on_card; from bench.card_benches import Bench, Bar; on_card.cards = lambda: ['one'];"
        "on_card.BENCHES = [Bench('slow', ('-c', 'import time; print(\"speed 7 x\", flush=True); time.sleep(60)'), 0, 60,"
        "(Bar('speed', 'speed @ x'),), ('tests/needed_imports.py',))]; sys.exit(on_card.main(['--into', sys.argv[1]]))"
    )
    environment = on_card.environment(BENCHES[0], None)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert any(line.startswith("speed 7") for line in process.stdout)
    began = time.monotonic()
    process.terminate()
    process.communicate()
    assert time.monotonic() - began < 30
    result = json.loads((tmp_path / "slow.json").read_text())
    assert (result["outcome"], result["measured"]) == ("interrupted", {"speed": 7})


@pytest.mark.parametrize("bench", [bench for bench in BENCHES if bench.name != "tests"], ids=lambda bench: bench.name)
def test_bars_are_looked_for_in_words_that_the_bench_prints(bench):
    assert bench.files and all(file.is_file() for file in bench.files)
    folder = ROOT / "tests" / "bench"
    sources = [*bench.files, *folder.glob("chain_*.py")] if bench.packed else bench.files
    printed = "".join(file.read_text() for file in sources)
    for bar in bench.bars:
        for words in re.findall(r"[a-z][a-zA-Z %]*[a-z]{2}", bar.pattern):
            assert words in printed, (bar, words)


PRINTED = {
    "decode": ("16 bits,   1:   5.211 ms,     191.9 tokens/s, 1.000 x\n 8 bits,   1:   3.117 ms,     320.8 tokens/s, 1.672 x\n"
               " 4 bits, 256:  10.932 ms,   23418.0 tokens/s, 0.966 x",
               {"INT8, one sequence": 1.672, "INT4, 256 sequences": 0.966}),
    "start": ("16 bits: Python after 0.0 s, loaded 8.1 s, first token 9.4 s; 191.1 tokens/s; room for\n"
              "16 bits: Python after 0.0 s, loaded 5.1 s, first token 5.3 s; 191.1 tokens/s; room for",
              {"first token, kernels new, s": 9.4, "first token, s": 5.3}),
    "chain": ("1 streams at 1,000 tokens:\n  gateway     191.8 tok/s, 0.921 of the limit of 208\nfirst token of 512 tokens, "
              "0 streams beside: raw 22.0 ms (+0.0), channel 24.5 ms (+2.5), gateway 25.4 ms (+3.4)",
              {"one stream, gateway, of the limit": 0.921, "channel, first of 512, ms more": 2.5}),
    "waits": ("no hits: 210.1 ms without a look for prefixes, 212.0 with (-1.2%)", {"looking for prefixes, %": -1.2}),
    "tests": ("a.py::test_x PASSED\n== 1 failed, 117 passed, 9 skipped in 232.04s ==", {"tests passed": 117, "failed": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
def test_bars_are_found_in_what_was_printed(name):
    printed, expected = PRINTED[name]
    bars = next(bench for bench in BENCHES if bench.name == name).bars
    assert {bar.what: bar.find(printed) for bar in bars if bar.find(printed) is not None} == expected


def test_imports_are_found_through_our_own_modules_and_not_where_they_are_optional(tmp_path):
    file = tmp_path / "one.py"
    file.write_text(
        "import json\nfrom typing import TYPE_CHECKING\nimport bench.on_card\n"
        "def late():\n    from far.away import thing\n"
        "try:\n    import perhaps\nexcept ImportError:\n    pass\nif TYPE_CHECKING:\n    import only_types\n"
    )
    assert list(needed([file])) == ["far"]
    assert {"torch", "transformers", "llguidance", "msgspec", "pytest"} <= set(needed(BENCHES[0].files))


def test_what_benches_save_the_engine_loads(engine_config, make_model, tmp_path):
    from transformers import AutoModelForCausalLM

    save(AutoModelForCausalLM.from_pretrained(make_model("qwen2")), tmp_path)
    assert load_model(engine_config(tmp_path)).parameters


def test_all_that_is_imported_is_packed_or_there():
    files = [file for bench in BENCHES if not bench.packed for file in bench.files]
    assert set(needed(files)) <= {name.replace("-", "_") for name in [*PACKAGES, *THERE]}
