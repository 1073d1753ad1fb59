"""The list of contenders."""

from bench.contenders import nginx, routers, vastproxy
from bench.contenders.base import Contender, direct

DIRECT = "direct"

#: In the order in which they take turns.
CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender(DIRECT, "the engine itself", False, direct),
        Contender("vastproxy", "vastproxy over SSH", True, vastproxy.start),
        Contender("vastproxy-python", "vastproxy over SSH, not compiled", True, vastproxy.start_python),
        Contender("nginx-ssh", "nginx + `ssh -N -L`", True, nginx.start_ssh),
        Contender("nginx-ssh-command", "nginx + `ssh -L` with a command", True, nginx.start_ssh_command),
        Contender("vastproxy-plain", "vastproxy without SSH", False, vastproxy.start_plain),
        Contender("nginx", "nginx", False, nginx.start_plain),
        Contender("vllm-router", "vllm-router", False, routers.start_vllm_router),
        Contender("sglang-router", "sglang-router", False, routers.start_sglang_router),
        Contender("litellm", "LiteLLM proxy", False, routers.start_litellm),
    )
}
