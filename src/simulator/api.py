"""The vast.ai REST API over one account, as a Starlette app (calls and shapes: vast.ai API docs, 2026-08)."""

import json
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from vastproxy.simulator import prices
from vastproxy.simulator.account import Account, Call
from vastproxy.simulator.contract import Verb
from vastproxy.simulator.errors import Refusal, invalid_args
from vastproxy.simulator.faults import Fault
from vastproxy.simulator.faulty import empty_list, spoil, too_frequent, truncated
from vastproxy.simulator.limits import Endpoint
from vastproxy.simulator.payloads import JsonObject
from vastproxy.simulator.query import parse_query, run_query

#: Gets the request and its JSON body ({} without one), returns the JSON answer.
Handler = Callable[[Request, JsonObject], Any]


def create_api(account: Account) -> Starlette:
    """The whole API. A call may meet a fault, needs the key, counts against the limits: in this order."""
    api = _Api(account)
    inst, v1 = "/api/v0/instances", "/api/v1/instances"
    routes = [
        api.route(f"{v1}/", "GET", Endpoint.LIST_V1, api.list_v1),
        api.route(f"{inst}/", "GET", Endpoint.LIST_V0, api.list_v0),
        api.route(f"{inst}/", "PUT", Endpoint.BULK_UPDATE, api.bulk_update),
        api.route(f"{inst}/", "DELETE", Endpoint.DESTROY, api.bulk_destroy),
        api.route(f"{inst}/filters/", "GET", Endpoint.FILTERS, api.filters),
        api.route(f"{inst}/reboot/{{id:int}}/", "PUT", Endpoint.REBOOT, api.reboot),
        api.route(f"{inst}/recycle/{{id:int}}/", "PUT", Endpoint.RECYCLE, api.recycle),
        api.route(f"{inst}/bid_price/{{id:int}}/", "PUT", Endpoint.BID, api.change_bid),
        api.route(f"{inst}/request_logs/{{id:int}}/", "PUT", Endpoint.LOGS, api.request_logs),
        api.route(f"{inst}/pending-price-increases/", "GET", Endpoint.PRICES, api.price_rises),
        api.route(f"{inst}/accept-price-increase/", "PUT", Endpoint.PRICES, api.accept_price),
        api.route(f"{inst}/reject-price-increase/", "PUT", Endpoint.PRICES, api.reject_price),
        api.route(f"{inst}/{{id:int}}/", "GET", Endpoint.SHOW, api.show),
        api.route(f"{inst}/{{id:int}}/", "PUT", Endpoint.UPDATE, api.update),
        api.route(f"{inst}/{{id:int}}/", "DELETE", Endpoint.DESTROY, api.destroy),
        api.route(f"{inst}/{{id:int}}/ssh/", "GET", Endpoint.KEYS, api.instance_keys),
        api.route(f"{inst}/{{id:int}}/ssh/", "POST", Endpoint.ATTACH_KEY, api.attach_key),
        api.route(f"{inst}/{{id:int}}/ssh/{{key:int}}/", "DELETE", Endpoint.ATTACH_KEY, api.detach_key),
        api.route("/api/v0/ssh/", "GET", Endpoint.KEYS, api.keys),
        api.route("/api/v0/ssh/", "POST", Endpoint.ADD_KEY, api.add_key),
        api.route("/api/v0/users/current", "GET", Endpoint.USER, api.user),
        api.route("/api/v0/users/current/", "GET", Endpoint.USER, api.user),
        api.route("/api/v0/bundles/", "POST", Endpoint.SEARCH, api.search),
        api.route("/api/v0/asks/{id:int}/", "PUT", Endpoint.CREATE, api.create),
        api.route("/api/v0/gpu_names/unique/", "GET", Endpoint.OPEN, api.gpu_names),
        Route("/results/{name}", api.result, methods=["GET"]),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={404: _unknown_path, 405: _unknown_path, ClientDisconnect: _caller_left},
    )
    app.router.redirect_slashes = False
    return app


async def _unknown_path(request: Request, exc: Exception) -> Response:
    status = getattr(exc, "status_code", 404)
    return JSONResponse({"success": False, "error": "not_found", "msg": "No such route."}, status)


async def _caller_left(request: Request, exc: Exception) -> Response:
    """Nobody reads this; but nobody did anything wrong either."""
    return Response(status_code=400)


class _Api:
    def __init__(self, account: Account) -> None:
        self._account = account

    def route(self, path: str, method: str, endpoint: Endpoint, handler: Handler) -> Route:
        async def serve(request: Request) -> Response:
            return await self._serve(request, endpoint, handler)

        # Starlette derives HEAD from GET; the path and the method name the route.
        return Route(path, serve, methods=[method], name=f"{method} {path}")

    async def _serve(self, request: Request, endpoint: Endpoint, handler: Handler) -> Response:
        account, method, path = self._account, request.method, request.url.path
        account.calls.append(Call(method, path, dict(request.query_params)))
        fault = account.faults.take(method, path)
        if fault is Fault.HANG:
            await account.faults.hang()
            fault = None
        if fault is not None and (spoilt := spoil(fault)) is not None:
            return spoilt
        try:
            if endpoint is not Endpoint.OPEN:
                self._authenticate(request)
            if (excess := account.limits.admit(_identity(request), endpoint)) is not None:
                return too_frequent(endpoint, excess, announce=account.limits.retry_after)
            answer = handler(request, await _body(request))
        except Refusal as refusal:
            return JSONResponse(refusal.body, refusal.http_status)
        if fault is Fault.EMPTY_LIST:
            answer = empty_list(answer)
        return truncated(answer) if fault is Fault.TRUNCATED_JSON else JSONResponse(answer)

    def _authenticate(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else request.query_params.get("api_key", "")
        if not key:
            raise Refusal(403, "auth_error", "This action requires login.")
        if key != self._account.api_key:
            raise Refusal(self._account.bad_key_status, "auth_error", "Invalid user key")

    # Instances

    def list_v1(self, request: Request, body: JsonObject) -> JsonObject:
        return run_query(self._account.rows(), parse_query(request.query_params))

    def list_v0(self, request: Request, body: JsonObject) -> JsonObject:
        rows = self._account.rows()
        return {"instances_found": len(rows), "instances": rows}

    def filters(self, request: Request, body: JsonObject) -> JsonObject:
        return {"success": True, "filters": self._account.filter_values()}

    def show(self, request: Request, body: JsonObject) -> JsonObject:
        return {"instances": self._account.row(_id(request))}

    def update(self, request: Request, body: JsonObject) -> JsonObject:
        instance_id = _id(request)
        self._account.contract(instance_id)
        if "label" in body:
            self._account.set_label(instance_id, body["label"])
        if "state" in body:
            return self._account.set_state(instance_id, body["state"])
        if "label" not in body:
            raise invalid_args()
        return {"success": True}

    def bulk_update(self, request: Request, body: JsonObject) -> JsonObject:
        answers = [self._account.set_state(one, body.get("state")) for one in _ids(body, "ids")]
        return next((answer for answer in answers if not answer["success"]), {"success": True})

    def reboot(self, request: Request, body: JsonObject) -> JsonObject:
        self._account.restart(_id(request), Verb.REBOOT)
        return {"success": True}

    def recycle(self, request: Request, body: JsonObject) -> JsonObject:
        self._account.restart(_id(request), Verb.RECYCLE)
        return {"success": True}

    def destroy(self, request: Request, body: JsonObject) -> JsonObject:
        self._account.destroy(_id(request))
        return {"success": True}

    def bulk_destroy(self, request: Request, body: JsonObject) -> JsonObject:
        for one in _ids(body, "instance_ids"):
            self._account.destroy(one)
        return {"success": True}

    def change_bid(self, request: Request, body: JsonObject) -> JsonObject:
        self._account.change_bid(_id(request), body.get("price"))
        return {"success": True}

    def price_rises(self, request: Request, body: JsonObject) -> JsonObject:
        return prices.pending(self._account.contracts)

    def accept_price(self, request: Request, body: JsonObject) -> JsonObject:
        return prices.answer(self._account.contracts, body, accepts=True)

    def reject_price(self, request: Request, body: JsonObject) -> JsonObject:
        return prices.answer(self._account.contracts, body, accepts=False)

    def request_logs(self, request: Request, body: JsonObject) -> JsonObject:
        try:
            tail = int(body.get("tail") or 1000)
        except (TypeError, ValueError):
            raise invalid_args("tail is not a number") from None
        name = self._account.request_log(_id(request), tail=tail, pattern=body.get("filter"))
        return {"success": True, "result_url": str(request.url_for("result", name=name))}

    async def result(self, request: Request) -> Response:
        """A log that was asked for. No key: on vast.ai this address is an object store's."""
        text = self._account.take_log(request.path_params["name"])
        return PlainTextResponse("not found", 404) if text is None else PlainTextResponse(text)

    # Keys

    def instance_keys(self, request: Request, body: JsonObject) -> JsonObject:
        keys = self._account.contract(_id(request)).keys
        rows = [{"id": key.id, "public_key": key.text} for key in keys]
        return {"success": True, "ssh_keys": json.dumps(rows)}

    def attach_key(self, request: Request, body: JsonObject) -> JsonObject:
        self._account.attach_key(_id(request), str(body.get("ssh_key") or ""))
        return {"success": True}

    def detach_key(self, request: Request, body: JsonObject) -> JsonObject:
        self._account.detach_key(_id(request), int(request.path_params["key"]))
        return {"success": True}

    def keys(self, request: Request, body: JsonObject) -> list[JsonObject]:
        return [self._account.key_row(key) for key in self._account.keys]

    def add_key(self, request: Request, body: JsonObject) -> JsonObject:
        key = self._account.add_key(str(body.get("ssh_key") or ""))
        return {"success": True, "key": self._account.key_row(key, field="public_key")}

    # The rest

    def user(self, request: Request, body: JsonObject) -> JsonObject:
        return {**self._account.user, "api_key": self._account.api_key}

    def search(self, request: Request, body: JsonObject) -> JsonObject:
        return {"offers": self._account.market.search(body)}

    def create(self, request: Request, body: JsonObject) -> JsonObject:
        contract = self._account.rent(_id(request), body)
        return {"success": True, "new_contract": contract.id, "instance_api_key": f"simulated-{contract.id}"}

    def gpu_names(self, request: Request, body: JsonObject) -> JsonObject:
        return {"gpu_names": self._account.market.gpu_names()}


def _id(request: Request) -> int:
    return int(request.path_params["id"])


def _ids(body: JsonObject, name: str) -> list[int]:
    ids = body.get(name)
    if not isinstance(ids, list) or not all(isinstance(one, int) for one in ids):
        raise invalid_args(f"{name} must be a list of ids")
    return ids


def _identity(request: Request) -> str:
    """Whose limit this is: a proxy and the official CLI on one key and one address share it."""
    host = request.client.host if request.client else ""
    return f"{request.headers.get('authorization', '')}|{request.query_params.get('api_key', '')}|{host}"


async def _body(request: Request) -> JsonObject:
    raw = await request.body()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError:
        raise invalid_args("the body is not JSON") from None
    if not isinstance(body, dict):
        raise invalid_args("the body is not an object")
    return body
