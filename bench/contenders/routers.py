"""Routers and gateways from PyPI, in the bench's own virtual environment. None of them speaks SSH."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from bench.answers import MODEL
from bench.contenders.base import CLIENT_KEY, Running, answers, engine_url
from bench.engines import Engines
from bench.processes import CONTENDER_CORE, BenchError, Program, free_port

ROOT = Path(__file__).resolve().parents[2]
BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"

#: Rust's async runtime starts a thread per core that it sees; the process is pinned to one, so one is right.
_THREADS = {"TOKIO_WORKER_THREADS": "1", "RAYON_NUM_THREADS": "1"}


@contextlib.contextmanager
def start_vllm_router(directory: Path, engines: Engines) -> Iterator[Running]:
    """vllm-router, round robin."""
    with _router("vllm_router.launch_router", "warning", directory, engines) as running:
        yield running


@contextlib.contextmanager
def start_sglang_router(directory: Path, engines: Engines) -> Iterator[Running]:
    """sglang-router, round robin."""
    with _router("sglang_router.launch_router", "warn", directory, engines) as running:
        yield running


@contextlib.contextmanager
def _router(module: str, log_level: str, directory: Path, engines: Engines) -> Iterator[Running]:
    port, metrics = free_port(), free_port()
    argv = [str(_python()), "-m", module, "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--worker-urls", *map(engine_url, engines.ports), "--policy", "round_robin"]
    argv += ["--prometheus-port", str(metrics), "--prometheus-host", "127.0.0.1", "--log-level", log_level]
    log = directory / "router.log"
    with _program(argv, directory, log, port) as program:
        yield Running(f"http://127.0.0.1:{port}", (program,))


@contextlib.contextmanager
def start_litellm(directory: Path, engines: Engines) -> Iterator[Running]:
    """LiteLLM's proxy with one worker, its master key checked, no database."""
    port = free_port()
    config = directory / "litellm.yaml"
    config.write_text(litellm_config(engines))
    argv = [str(_python().parent / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    with _program(argv, directory, directory / "litellm.log", port, limit_s=90.0) as program:
        yield Running(f"http://127.0.0.1:{port}", (program,))


def litellm_config(engines: Engines) -> str:
    """As JSON, which is YAML."""
    models = [
        {
            "model_name": MODEL,
            "litellm_params": {
                "model": f"openai/{MODEL}",
                "api_base": f"{engine_url(port)}/v1",
                "api_key": "none",
            },
        }
        for port in engines.ports
    ]
    settings = {"num_retries": 0, "request_timeout": 600, "set_verbose": False}
    general = {"master_key": CLIENT_KEY}
    return json.dumps({"model_list": models, "litellm_settings": settings, "general_settings": general})


def _python() -> Path:
    if not BENCH_PYTHON.exists():
        raise BenchError(f"{BENCH_PYTHON.relative_to(ROOT)} is missing; run make bench")
    return BENCH_PYTHON


def _program(argv: list[str], directory: Path, log: Path, port: int, *, limit_s: float = 30.0) -> Program:
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(directory),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        **_THREADS,
    }
    return Program(
        argv,
        core=CONTENDER_CORE,
        log=log,
        env=env,
        cwd=directory,
        ready=lambda: answers(f"http://127.0.0.1:{port}"),
        ready_limit_s=limit_s,
    )
