"""Commands that go on until they are stopped: servers of scorers and judges, and the watch over a spot machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vp_ray.cli.options import Set
from vp_ray.errors import SettingsError, did_you_mean


def judge(
    job: Annotated[Path | None, typer.Option(help="Takes the section `judge` of a job file.")] = None,
    assignments: Set = None,
) -> None:
    """Serves the embedded judge as an OpenAI-compatible server, on loopback unless its settings say otherwise."""
    from vp_ray.config import override, read_yaml
    from vp_ray.shapeworld.config import JudgeSettings
    from vp_ray.shapeworld.judge_server import serve

    values: dict[str, Any] = (read_yaml(job).get("judge") or {}) if job else {}
    serve(JudgeSettings.load(override(values, assignments or ()), str(job or "judge")))


def serve(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]CHECKPOINT...",
            help="VP-Score checkpoints, or scorers as KIND:PLACE; requests name one by its id, else take the first.",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback a token is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    token_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Environment variable with the bearer token that requests must bring."),
    ] = None,
    assignments: Set = None,
) -> None:
    """Serves reward models over HTTP until Ctrl-C: POST /v1/score, a page at /, the reference at /docs."""
    from vp_ray.config import override
    from vp_ray.reward.config import ServiceSettings
    from vp_ray.reward.names import named_models

    models = named_models(checkpoints)
    values = override({"token_env": token_env} if token_env else {}, assignments or ())
    settings = ServiceSettings.load(values, "service")
    from vp_ray.reward.running import serve_forever

    serve_forever(models, settings, host, port, typer.echo)


def spot_agent(
    address: Annotated[str, typer.Option("--ray", help="Address of the cluster, host:port.", show_default=False)],
    cloud: Annotated[str | None, typer.Option(help="aws or gcp, whose notice is waited for.")] = None,
    within: Annotated[
        int | None,
        typer.Option(metavar="SECONDS", help="Drains the node now, which goes in so long: for a pod's preStop hook."),
    ] = None,
    metadata: Annotated[str | None, typer.Option(help="Address of another metadata server, for a trial.")] = None,
    node_id: Annotated[str | None, typer.Option(help="The Ray node to drain; this machine's when not given.")] = None,
    every_seconds: Annotated[float, typer.Option(help="Seconds between two questions.")] = 5.0,
) -> None:
    """Waits until the cloud announces that it takes this spot machine, and then has Ray drain the node."""
    from vp_ray.distributed.spot import METADATA, drain_now, watch

    if (cloud is None) == (within is None):
        raise SettingsError("nothing says when the node goes", "Give --cloud or --within, and not both.", "spot-agent")
    if cloud is None:
        drain_now(address, within or 0, node_id, typer.echo)
        return
    if cloud not in METADATA:
        near = did_you_mean(cloud, METADATA)
        raise SettingsError(f"there is no cloud '{cloud}'{near}", f"These are known: {', '.join(METADATA)}.", "--cloud")
    watch(cloud, address, metadata, node_id, every_seconds, typer.echo)
