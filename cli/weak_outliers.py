"""jettag weak outliers: what a background alone finds odd."""

from typing import Annotated

import typer

from .console import JsonOption, boundary, emit_json, out, say
from .entry import loading
from .options import Device, refuse_file
from .weak_options import (
    Background,
    Card,
    Features,
    Folder,
    Jets,
    OfBackground,
    Pretrained,
    Runs,
    Test,
    names,
    weak_progress,
)

__all__ = ["outliers"]


@boundary
def outliers(
    background: Background,
    test: Test,
    methods: Annotated[str, typer.Option("--methods", help="Of these.")] = "isolation,distance,autoencoder,vae,nae",
    inputs: Annotated[str | None, typer.Option("--inputs", help="features, constituents, embedding.")] = None,
    runs: Runs = 10,
    card: Card = "jetclass",
    features: Features = None,
    pretrained: Pretrained = None,
    jets: Jets = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, metavar="N", help="Of autoencoders.")] = 20,
    latent: Annotated[int, typer.Option("--latent", min=1, metavar="N", help="Of their bottleneck.")] = 6,
    background_class: OfBackground = None,
    target: Folder = None,
    device: Device = "auto",
    as_json: JsonOption = False,
) -> None:
    """Outliers of one background, judged on every other class of the test jets: no signal is ever seen.

    Example: jettag weak outliers --background QCD.root --test 'test/*.root' --inputs features,constituents
    """
    with loading():
        from jettag import run
        from jettag.weak.features import DEFAULT_FEATURES

    from .weak_table import print_outliers

    refuse_file(target)
    study = run.OutlierStudy(
        background=background,
        test=test,
        methods=names(methods),
        inputs=names(inputs) if inputs else ["features", "constituents", *(["embedding"] if pretrained else [])],
        features=names(features) if features else list(DEFAULT_FEATURES),
        card=card,
        background_class=background_class or (),
        pretrained=pretrained,
        runs=runs,
        max_jets=jets,
        settings=run.AutoencoderSettings(epochs=epochs, latent=latent),
    )
    with weak_progress("outliers") as told:
        content = run.outlier_study(study, target, device=device, told=told)
    if as_json:
        emit_json(content)
    else:
        print_outliers(out, content)
    if target is not None:
        say(f"outliers: tables in {target}")
