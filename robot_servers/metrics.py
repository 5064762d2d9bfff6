"""``GET /v1/metrics``: what the robot server has counted, as text for Prometheus. Needs an observer's token."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from robot_servers.service import RobotService
from serl_core.metrics_text import CONTENT_TYPE, Kind, Sample, counters, process_samples, render

PATH = "/v1/metrics"


def samples(service: RobotService) -> list[Sample]:
    """Return the counters of a service, and how its arm is."""
    counts = service.counts()
    state = service.state()
    refused = "Commands that were refused, by the kind of the refusal"
    return [
        Sample("cmd_accepted", counts.accepted, "Commands that were carried out", Kind.COUNTER),
        *(
            Sample("cmd_rejected_by_reason", count, refused, Kind.COUNTER, {"reason": reason})
            for reason, count in sorted(counts.rejected.items())
        ),
        *counters("", {"watchdog_fired": counts.watchdog_fired}, "Holds because no command came in time"),
        *counters("", {"automatic_recoveries": counts.automatic_recoveries}, "Faults cleared without a person"),
        *counters("", {"nonfinite_obs": counts.dropped_readings}, "Readings dropped for a number that is not finite"),
        Sample("lease_epoch", counts.lease_epoch, "Of the present lease; 0 while nobody holds it"),
        Sample("state_age_ms", 1e3 * counts.state_age_s, "Since the newest control tick; 0 in lockstep"),
        Sample(
            "latch_cause",
            int(counts.latch_cause is not None),
            "1, and the cause, while a stop or a fault is latched",
            labels={"cause": counts.latch_cause or ""},
        ),
        Sample("robot_mode", 1, "What the arm is doing", labels={"mode": state.mode.value}),
    ]


def add_metrics(app: FastAPI, service: RobotService) -> None:
    """Add the route to an app."""

    async def metrics(request: Request) -> Response:
        return Response(render([*samples(service), *process_samples()]), media_type=CONTENT_TYPE)

    app.add_api_route(
        PATH,
        metrics,
        methods=["GET"],
        name="metrics",
        summary="Return the counters as text for Prometheus.",
        response_model=None,
        response_class=Response,
        responses={200: {"description": "done", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
