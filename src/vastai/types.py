"""What the API tells, as frozen values. See the modules behind for the fields."""

from vastproxy.vastai.account import Offer, SshKey, User
from vastproxy.vastai.instance import Instance, InstanceList
from vastproxy.vastai.phase import Phase
from vastproxy.vastai.prices import PriceRise

__all__ = ["Instance", "InstanceList", "Offer", "Phase", "PriceRise", "SshKey", "User"]
