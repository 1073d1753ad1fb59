"""Asking with OpenAI's client: streaming, on an instance of your choice, and in a conversation that stays together.

Nothing of vastproxy is needed on this side: whatever speaks OpenAI's API can ask, with another `base_url`. Two headers
say where a request should go, as far as that can be granted:

- `X-VastProxy-Instance: ID` asks for one instance (every answer says in the same header who has served it);
- a session header keeps a conversation on one instance, whose cache knows what was said. Its name is a setting,
  `routing.session_header`; without one, OpenAI's own `prompt_cache_key` and `user` do the same.

    vastproxy demo                               # in one terminal
    python examples/ask.py "Why is the sky blue?"    # in another one
"""

import os
import sys

import openai

BASE_URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
#: An inference key from `vastproxy keys create`, where keys are asked for.
API_KEY = os.environ.get("OPENAI_API_KEY", "unused")
INSTANCE_HEADER = "X-VastProxy-Instance"


def ask(
    client: openai.OpenAI, model: str, question: str, *, conversation: str, instance: str | None = None
) -> str:
    """Print the answer as it comes. Returns the id of the instance that gave it."""
    headers = {"X-Session-Id": conversation} | ({INSTANCE_HEADER: instance} if instance else {})
    with client.chat.completions.with_streaming_response.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        stream=True,
        extra_headers=headers,
        extra_body={"prompt_cache_key": conversation},
    ) as response:
        for chunk in response.parse():
            if chunk.choices:
                print(chunk.choices[0].delta.content or "", end="", flush=True)
        print()
        return str(response.headers[INSTANCE_HEADER])


def main(question: str) -> int:
    """The exit code."""
    client = openai.OpenAI(
        base_url=BASE_URL, api_key=API_KEY, max_retries=0
    )  # the proxy tries elsewhere itself
    try:
        model = next(iter(client.models.list())).id
        served_by = ask(client, model, question, conversation="tour")
        print(f"(served by instance {served_by})")
        again = ask(client, model, "And at night?", conversation="tour")
        print(f"(the same conversation: served by instance {again})")
        pinned = ask(client, model, "Who are you?", conversation="other", instance=served_by)
        print(f"(pinned: served by instance {pinned})")
    except openai.APIStatusError as error:
        # Errors of the proxy have OpenAI's shape; docs/RUNBOOK.md says what each code means.
        print(f"HTTP {error.status_code} ({error.code}): {error.message}", file=sys.stderr)
        return 1
    except openai.APIConnectionError:
        print(
            f"nobody answers at {BASE_URL}; is `vastproxy demo` or `vastproxy serve` running?",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "Why is the sky blue?"))
