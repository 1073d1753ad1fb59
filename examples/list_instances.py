"""Only the client: what runs on the account, what it costs, and what could be rented instead.

`VastClient` is the vast.ai API as a library. It knows nothing of proxying, it blocks (call it in a thread from
coroutines), and it may be used from several threads. Reads are kept for five seconds; calls that fail for a reason that
may pass are tried again by itself. Whatever goes wrong is a `VastError`, and its class says what to do next.

With your account:              python examples/list_instances.py
With one that does not exist:   python -m vastproxy.simulator python examples/list_instances.py
"""

import sys

import vastproxy


def show_account(client: vastproxy.VastClient) -> None:
    """The credit, and every instance with its state and its price."""
    user = client.current_user()
    print(f"credit: ${user.credit or 0:.2f}")
    instances = client.list_instances()
    for one in instances:
        price = f"${one.hourly_cost:.3f}/h" if one.hourly_cost is not None else "price unknown"
        print(
            f"{one.id}  {one.phase.value:<12} {one.num_gpus or '?'}x {one.gpu_name or 'GPU'}  {price}  {one.label}"
        )
    print(f"{len(instances)} instances, ${sum(one.hourly_cost or 0 for one in instances):.2f} an hour in all")


def show_offers(client: vastproxy.VastClient, gpu: str, count: int) -> None:
    """The cheapest machines with such a GPU. Filters are those of vast.ai: field -> operator -> value."""
    for offer in client.search_offers({"gpu_name": {"eq": gpu}, "num_gpus": {"eq": 1}}, limit=count):
        print(f"offer {offer.id}: {offer.gpu_name} for ${offer.dph_total or 0:.3f}/h in {offer.geolocation}")


def main() -> int:
    """The exit code. Every kind of trouble that a caller can do something about has a class of its own."""
    try:
        # The key comes from VAST_API_KEY, from .env, from a config file or from the official command line's file.
        with vastproxy.VastClient(vastproxy.load_vast_config()) as client:
            show_account(client)
            show_offers(client, gpu="RTX 4090", count=3)
            client.show_instance(1)  # there is none with this id
    except vastproxy.VastNotFound as error:
        print(f"not found ({error.code}): {error}")
        return 0
    except vastproxy.VastUnauthorized as error:
        print(f"make a new key at https://cloud.vast.ai/manage-keys/: {error}", file=sys.stderr)
        return error.exit_code
    except vastproxy.VastError as error:
        again = (
            f"try again in {error.retry_after_s or 5:.0f} s"
            if error.retryable
            else "trying again will not help"
        )
        print(f"{error} ({again})", file=sys.stderr)
        return 1
    except vastproxy.SettingsError as error:  # no key, or a setting that cannot be used
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
