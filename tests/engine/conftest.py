"""Real engines with a random model of a few kilobytes, on loopback.

`transformers serve` is needed: it is in the environment that `make test-engine` makes, or in that of
VASTPROXY_TEST_ENGINE_PYTHON. llama.cpp is tested where there is a `llama-server`, in PATH or named by
VASTPROXY_TEST_LLAMA_SERVER.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.ports import free_port
from tests.helpers.processes import Process

_HERE = Path(__file__).parent
_READY_LIMIT_S = 120.0  # importing torch on a busy machine takes most of it


@dataclass(frozen=True)
class RealEngine:
    """`model` is the name to ask for; `lists_models` whether /v1/models names it."""

    port: int
    model: str
    lists_models: bool


def _python() -> str:
    """An interpreter that has transformers."""
    if named := os.environ.get("VASTPROXY_TEST_ENGINE_PYTHON"):
        return named
    if importlib.util.find_spec("transformers"):
        return sys.executable
    made = _HERE.parent.parent / ".venv-engine" / "bin" / "python"
    if made.exists():
        return str(made)
    pytest.fail(
        "no engine: run `make test-engine`, or name a Python in VASTPROXY_TEST_ENGINE_PYTHON", pytrace=False
    )


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def _make_model(kind: str, target: Path) -> Path:
    command: list[str | Path] = [_python(), _HERE / "make_model.py", kind, target]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"the model was not made:\n{done.stderr}", pytrace=False)
    return target


def _environment(**more: str) -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **offline, **more}


def _serve(argv: Sequence[str | Path], port: int, directory: Path) -> Process:
    return Process(
        argv,
        log=directory / "engine.log",
        ready=lambda: _answers(port),
        env=_environment(HF_HOME=str(directory / "no-cache")),
        ready_limit_s=_READY_LIMIT_S,
    )


@pytest.fixture(scope="session")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEngine]:
    directory = tmp_path_factory.mktemp("transformers")
    model = _make_model("transformers", directory / "model")
    port = free_port()
    program = "from transformers.cli.transformers import main; main()"
    argv = [_python(), "-c", program, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with _serve(argv, port, directory):
        yield RealEngine(port, str(model), lists_models=False)


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEngine]:
    program = os.environ.get("VASTPROXY_TEST_LLAMA_SERVER") or shutil.which("llama-server")
    if program is None:
        pytest.skip("no llama-server in PATH or VASTPROXY_TEST_LLAMA_SERVER")
    directory = tmp_path_factory.mktemp("llamacpp")
    model = _make_model("gguf", directory / "tiny.gguf")
    port = free_port()
    argv = [program, "-m", str(model), "--host", "127.0.0.1", "--port", str(port), "--alias", "tiny"]
    with _serve([*argv, "-c", "512", "-np", "2"], port, directory):
        yield RealEngine(port, "tiny", lists_models=True)


@pytest.fixture(scope="session", params=["transformers_serve", "llama_server"])
def engine(request: pytest.FixtureRequest) -> RealEngine:
    """Each real engine in turn."""
    real: RealEngine = request.getfixturevalue(request.param)
    return real
