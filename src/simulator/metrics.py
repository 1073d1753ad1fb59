"""Prometheus text as each engine writes it (SGLang 0.5.18, vLLM 0.11, llama.cpp b6900, TGI 3.3). Pure."""

from collections.abc import Sequence

from vastproxy.simulator.engine import Engine

#: (name, kind, help, value)
Sample = tuple[str, str, str, float]


def _render(samples: Sequence[Sample], labels: str) -> str:
    lines: list[str] = []
    for name, kind, text, value in samples:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name}{labels} {float(value)}"]
    return "\n".join(lines) + "\n"


def _throughput(engine: Engine) -> float:
    return round(engine.active_streams * engine.tokens_per_s / engine.slowness, 2)


def sglang_metrics(engine: Engine) -> str:
    busy = engine.active_streams
    labels = f'{{engine_type="unified",model_name="{engine.model}",pp_rank="0",tp_rank="0"}}'
    return _render(
        [
            ("sglang:num_running_reqs", "gauge", "The number of running requests.", busy),
            ("sglang:num_queue_reqs", "gauge", "The number of waiting requests.", engine.waiting),
            ("sglang:num_used_tokens", "gauge", "The number of used tokens.", 400.0 * busy),
            ("sglang:max_total_num_tokens", "gauge", "The capacity in tokens.", 61_440.0),
            ("sglang:token_usage", "gauge", "The token usage.", round(min(1.0, 400 * busy / 61_440), 4)),
            ("sglang:gen_throughput", "gauge", "The generation throughput (token/s).", _throughput(engine)),
            ("sglang:cache_hit_rate", "gauge", "The prefix cache hit rate.", 0.41),
            ("sglang:prompt_tokens_total", "counter", "Prefill tokens.", engine.prompt_tokens),
            (
                "sglang:generation_tokens_total",
                "counter",
                "Generated tokens.",
                engine.generated_tokens,
            ),
            ("sglang:num_requests_total", "counter", "Requests processed.", engine.served),
            ("sglang:num_aborted_requests_total", "counter", "Requests aborted.", len(engine.aborted)),
        ],
        labels,
    )


def vllm_metrics(engine: Engine) -> str:
    busy = engine.active_streams
    return _render(
        [
            ("vllm:num_requests_running", "gauge", "Number of requests running.", busy),
            ("vllm:num_requests_waiting", "gauge", "Number of requests waiting.", engine.waiting),
            (
                "vllm:kv_cache_usage_perc",
                "gauge",
                "KV-cache usage. 1 means 100 percent.",
                round(engine.load, 4),
            ),
            ("vllm:prompt_tokens_total", "counter", "Prefill tokens.", engine.prompt_tokens),
            ("vllm:generation_tokens_total", "counter", "Generated tokens.", engine.generated_tokens),
        ],
        f'{{engine="0",model_name="{engine.model}"}}',
    )


def llamacpp_metrics(engine: Engine) -> str:
    return _render(
        [
            (
                "llamacpp:prompt_tokens_total",
                "counter",
                "Prompt tokens processed.",
                engine.prompt_tokens,
            ),
            (
                "llamacpp:tokens_predicted_total",
                "counter",
                "Tokens generated.",
                engine.generated_tokens,
            ),
            ("llamacpp:predicted_tokens_seconds", "gauge", "Throughput in tokens/s.", _throughput(engine)),
            ("llamacpp:requests_processing", "gauge", "Requests processing.", engine.active_streams),
            ("llamacpp:requests_deferred", "gauge", "Requests deferred.", engine.waiting),
        ],
        "",
    )


def tgi_metrics(engine: Engine) -> str:
    return _render(
        [
            ("tgi_queue_size", "gauge", "Requests in the queue.", engine.waiting),
            ("tgi_batch_current_size", "gauge", "Requests in the batch.", engine.active_streams),
            ("tgi_request_success", "counter", "Requests answered.", engine.served),
        ],
        "",
    )
