"""Names of all keys in the state. Keys of a shard share a hash tag, so its scripts are atomic on Redis Cluster too."""

from binascii import crc_hqx
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Where things are. `shards` is fixed for the life of a deployment, since it decides where a lane lives."""

    prefix: str
    shards: int

    def shard_of(self, lane: str) -> int:
        """The shard of a lane: CRC-16, the checksum that Redis Cluster uses for its slots."""
        return crc_hqx(lane.encode(), 0) % self.shards

    def tag(self, shard: int) -> str:
        """What every key of the shard begins with, `ck:{s5}:`."""
        return f"{self.prefix}:{{s{shard}}}:"

    def tag_of(self, lane: str) -> str:
        """What every key of the lane's shard begins with."""
        return self.tag(self.shard_of(lane))

    def stream(self, lane: str, event_id: str) -> str:
        """The stream of the frames that the event's clients see."""
        return f"{self.tag_of(lane)}out:{event_id}"

    def journal(self, lane: str, event_id: str) -> str:
        """The hash of the event's completed steps."""
        return f"{self.tag_of(lane)}journal:{event_id}"

    def channel(self, lane: str, event_id: str) -> str:
        """The channel that announces new frames of the event."""
        return f"{self.tag_of(lane)}frames:{event_id}"

    def turns(self, lane: str) -> str:
        """The last turns of the lane's thread by acceptance, and the channel that announces new ones."""
        return f"{self.tag_of(lane)}turns:{lane}"

    def where(self, event_id: str) -> str:
        """Event id -> lane. Its slot is its own: the id is all that is known when it is asked for."""
        return f"{self.prefix}:where:{event_id}"

    def cancel_channel(self) -> str:
        """The channel that tells workers which running event is to be stopped."""
        return f"{self.prefix}:cancel"

    def revocations_channel(self) -> str:
        """The channel that tells gateways which sessions have been revoked."""
        return f"{self.prefix}:revoked"

    def sign_in(self, owner: str) -> str:
        """The hash of events that wait for their user to sign in again; `sign_ins` names all of these."""
        return f"{self.prefix}:sign-in:{owner}"

    def signed_in(self, owner: str) -> str:
        """Says for some seconds that the user has signed in."""
        return f"{self.prefix}:signed-in:{owner}"

    def deposit(self, handle: str) -> str:
        """A client secret that waits for its page, by its handle."""
        return f"{self.prefix}:deposit:{handle}"

    def effect_outcome(self, owner: str, action_id: str) -> str:
        """What a page of the owner's has reported of an effect."""
        return f"{self.prefix}:outcome:{owner}:{action_id}"

    @property
    def sign_ins(self) -> str:
        """All that waits for a sign-in, by its key, sorted by how long that is kept."""
        return f"{self.prefix}:sign-ins"

    @property
    def limits(self) -> str:
        """What every key of the limits begins with: one tag, so that one script sees them all."""
        return f"{self.prefix}:{{limits}}:"

    @property
    def figures(self) -> str:
        """What every key of the figures begins with, that the processes count: one tag, too."""
        return f"{self.prefix}:{{figures}}:"

    @property
    def check_in(self) -> str:
        """Says for a minute that the sweeper was reported alive."""
        return f"{self.prefix}:check-in"

    @property
    def probe(self) -> str:
        """What readiness writes, to know that the state takes writes."""
        return f"{self.prefix}:probe"

    @property
    def shard_count(self) -> str:
        """The number of shards that the deployment was made with."""
        return f"{self.prefix}:shards"

    @property
    def workers(self) -> str:
        """The live workers, by when they last signed."""
        return f"{self.prefix}:workers"

    @property
    def ingress(self) -> str:
        """The stream that upstream services write to."""
        return f"{self.prefix}:ingress"
