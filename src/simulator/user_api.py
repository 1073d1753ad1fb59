"""The part of the simulated API that is about the user: webhooks, and keys with certain rights."""

from starlette.requests import Request

from vastproxy.simulator.account import Account
from vastproxy.simulator.payloads import JsonObject
from vastproxy.simulator.webhooks import notification_types


class UserCalls:
    """Each call gets the request and its JSON body, and returns the JSON answer. Raises Refusal."""

    def __init__(self, account: Account) -> None:
        self._webhooks = account.webhooks
        self._keys = account.api_keys

    def types(self, request: Request, body: JsonObject) -> JsonObject:
        return {"success": True, "notification_types": notification_types()}

    def hooks(self, request: Request, body: JsonObject) -> JsonObject:
        return {"success": True, "webhooks": self._webhooks.rows()}

    def create_hook(self, request: Request, body: JsonObject) -> JsonObject:
        made = self._webhooks.create(body)
        return {"success": True, "webhook": made, "enabled_notification_preferences": made["event_types"]}

    def rotate_hook(self, request: Request, body: JsonObject) -> JsonObject:
        return {"success": True, "webhook": self._webhooks.rotate(_id(request))}

    def delete_hook(self, request: Request, body: JsonObject) -> JsonObject:
        self._webhooks.delete(_id(request))
        return {"success": True}

    def test_hook(self, request: Request, body: JsonObject) -> JsonObject:
        self._webhooks.send_test(_id(request))
        return {"success": True}

    def keys(self, request: Request, body: JsonObject) -> JsonObject:
        return {"success": True, "apikeys": self._keys.rows()}

    def key(self, request: Request, body: JsonObject) -> JsonObject:
        return self._keys.get(_id(request)).to_json()

    def create_key(self, request: Request, body: JsonObject) -> JsonObject:
        return {"success": True, **self._keys.create(body.get("name"), body.get("permissions")).to_json()}

    def delete_key(self, request: Request, body: JsonObject) -> JsonObject:
        self._keys.delete(_id(request))
        return {"success": True}


def _id(request: Request) -> int:
    return int(request.path_params["id"])
