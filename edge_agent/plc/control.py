"""What may be asked on the control socket, and the answers. Runs on the publisher thread; slow work is answered later."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge_agent.errors import DeliveryError, EdgeAgentError
from edge_agent.events import say
from edge_agent.plc.parts import MODES, ONLINE
from edge_agent.plc.publisher import Publisher
from edge_agent.wire import NAME, Reply, Request, encode_json, id_of, read_request

Later = Callable[[Reply], None]
_MOST_SEQS = 4096
_MOST_REPLY_BYTES = 256 << 10
_HALF_ERROR, _MOST_OP = 1000, 80  # characters


class Control:
    """Answers what is asked of a publisher. The daemon hangs in what belongs to other rooms: trigger, recipe, reload, cameras."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        publisher.answer = self.answer
        self.on_trigger: Callable[[str, str], None] | None = None  # line, part id
        self.counters_of_cameras: Callable[[], dict[str, dict[str, int]]] = dict  # by line
        self.on_recipe: Callable[[str, str, Later], None] | None = None  # line, recipe, answer
        self.on_reload: Callable[[Later], None] | None = None

    def answer(self, identity: bytes, body: bytes) -> bytes | None:
        """Return the reply, or None where it comes later."""
        request = Request(op="")
        try:
            request = read_request(body)
            reply = self._dispatch(identity, request)
        except EdgeAgentError as error:
            if not request.op:
                request = Request(op="", id=id_of(body))
            why = _short(str(error))
            say("plc.request_refused", op=request.op[:_MOST_OP], why=why)
            reply = Reply(ok=False, error=why)
        return None if reply is None else encode_json(_for(reply, request))

    def _dispatch(self, identity: bytes, request: Request) -> Reply | None:
        if len(request.seqs) > _MOST_SEQS:
            raise DeliveryError(f"{len(request.seqs)} seqs in one request, at most {_MOST_SEQS}; ask in portions")
        match request.op:
            case "ack":
                new = self._publisher.replay.acknowledge(request.line, request.epoch, request.seqs)
                return Reply(ok=True, status={"new": new})
            case "replay":
                found, missing = self._publisher.replay.find(request.line, request.epoch, request.seqs, _MOST_REPLY_BYTES)
                return Reply(ok=True, verdicts=tuple(msgspec.Raw(v) for v in found), missing=tuple(missing))
            case "status":
                return Reply(ok=True, epoch=self._publisher.book.epoch, status=self._status())
            case "trigger":
                return self._trigger(request)
            case "recipe":
                self._recipe(identity, request)
                return None
            case "reload":
                self._reload(identity, request)
                return None
            case "mode":
                return self._mode(request)
            case "counters":
                return self._counters(request)
            case "challenge":
                return self._challenge(request)
        raise DeliveryError(
            f"op {request.op!r} is not known; one of ack, replay, status, trigger, recipe, reload, mode, counters, challenge"
        )

    def _known(self, line: str) -> str:
        if line not in self._publisher.book.lines:
            raise DeliveryError(f"line {line!r} is not known; one of {', '.join(self._publisher.book.lines)}")
        return line

    def _trigger(self, request: Request) -> Reply:
        if self.on_trigger is None:
            raise DeliveryError("this station takes no software trigger")
        if len(request.part_id.encode()) > 64:
            raise DeliveryError(f"part_id has {len(request.part_id.encode())} bytes, at most 64")
        self.on_trigger(self._known(request.line), request.part_id)
        return Reply(ok=True)

    def _recipe(self, identity: bytes, request: Request) -> None:
        if self.on_recipe is None:
            raise DeliveryError("this station does not change recipes")
        if not NAME.fullmatch(request.name):
            raise DeliveryError(f"recipe {request.name!r} is no name; give that of a file in the recipes' folder, without .yaml")
        self.on_recipe(self._known(request.line), request.name, self._later(identity, request))

    def _reload(self, identity: bytes, request: Request) -> None:
        if self.on_reload is None:
            raise DeliveryError("this station does not reload")
        self.on_reload(self._later(identity, request))

    def _later(self, identity: bytes, request: Request) -> Later:
        """What sends the reply, from any thread."""
        publisher = self._publisher

        def later(reply: Reply) -> None:
            body = encode_json(_for(reply, request))
            publisher.call(lambda: publisher.sockets.reply(identity, body))

        return later

    def _mode(self, request: Request) -> Reply:
        if request.mode not in MODES:
            raise DeliveryError(f"mode {request.mode!r} is not known; one of {', '.join(MODES)}")
        line = self._publisher.book.lines[self._known(request.line)]
        if line.is_preview and request.mode == ONLINE:
            raise DeliveryError(
                f"line {line.name} leaves pictures out, which no machine may rely on: set lines.*.delivery: every, and restart"
            )
        line.mode = request.mode
        if self._publisher.counters is not None:
            self._publisher.counters.lines[request.line].ask_mode(request.mode)
        say("line.mode_changed", line=request.line, mode=request.mode)
        return Reply(ok=True)

    def _counters(self, request: Request) -> Reply:
        """Tell what shift and lot came to; then begin a new shift, or a new lot, where that is asked for."""
        counters = self._publisher.counters
        if counters is None:
            raise DeliveryError("this station keeps no counters")
        if request.name and not NAME.fullmatch(request.name):
            raise DeliveryError(f"lot {request.name!r} is no name: 1 to 64 letters, digits, '.', '_' and '-'")
        lines = [self._known(request.line)] if request.line else list(counters.lines)
        told = counters.told()
        for line in lines:
            if request.reset:
                counters.lines[line].begin_shift(line, self._publisher.now_us())
            if request.name:
                counters.lines[line].begin_lot(line, request.name, self._publisher.now_us())
        return Reply(ok=True, status={line: told[line] for line in lines})

    def _challenge(self, request: Request) -> Reply:
        challenge = self._publisher.challenges.get(self._known(request.line))
        if challenge is None:
            raise DeliveryError(f"line {request.line} has no master parts; declare them in its settings, lines.*.challenge")
        if request.reset:
            challenge.disarm()
        else:
            challenge.arm(request.name, self._publisher.now_ns())
        return Reply(ok=True, status=challenge.told())

    def _status(self) -> dict[str, object]:
        publisher = self._publisher
        periods = publisher.counters.told() if publisher.counters is not None else {}
        return {
            **publisher.heartbeat(),
            "published": publisher.published,
            "acknowledged": publisher.replay.acknowledged,
            "subscribers": publisher.sockets.subscribers,
            "dropped": publisher.sockets.dropped,
            "records_refused": publisher.records_refused,
            "cameras": self.counters_of_cameras(),
            "challenges": {name: challenge.told() for name, challenge in publisher.challenges.items()},
            "counters": {
                name: {
                    "triggers": line.triggers,
                    "outcomes": line.outcomes,
                    "reasons": line.reasons,
                    "rules": line.broken_rules,
                    "discarded": line.discarded,
                    **periods.get(name, {}),
                }
                for name, line in publisher.book.lines.items()
            },
        }


def _short(error: str) -> str:
    """The error without the middle of what a stranger put into it: a request has up to a megabyte, the log a line for it."""
    return error if len(error) <= 2 * _HALF_ERROR else f"{error[:_HALF_ERROR]} ... {error[-_HALF_ERROR:]}"


def _for(reply: Reply, request: Request) -> Reply:
    """Echo the request's id, so that the asker can match the two."""
    return msgspec.structs.replace(reply, id=request.id)
