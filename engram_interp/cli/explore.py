"""``engram-interp explore``: the Streamlit app over saved bundles."""

import signal
import socket
import subprocess
from importlib.resources import files
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Annotated, Any

import typer

from engram_interp import pairs
from engram_interp.errors import InputError

EXAMPLE = """\b
Examples:
  engram-interp explore
  engram-interp explore runs/mine.engram --model runs/mine --port 8700
  engram-interp explore runs/            (lists the bundles found there, and opens them)"""


def explore(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[BUNDLE|DIR]...",
            help="Result bundles, or folders that hold some; by default those that come with the package.",
        ),
    ] = None,
    *,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Model directory, or a packaged model's name, for live runs; by default the "
            "packaged pair's.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=65535, help="Port; by default the first free one from 8501."),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
) -> None:
    """Open the explorer in the browser; Ctrl-C stops it.

    Bundles open without loading a model. The server listens on this machine alone.
    """
    if not bundles and not (pairs.bundle_path() / "manifest.json").is_file():
        raise InputError(
            "No bundle comes with this package; make one with engram-interp report, and give it."
        )
    paths = [path.resolve() for path in bundles or ()]
    listed = _listed(bundles) if bundles else []
    folder = None if model is None else _model_folder(model)
    if port is not None:
        _check_free(port)
    for line in listed:
        typer.echo(line)
    _run(_launcher().command(paths, model=folder, port=port, browser=not no_browser))


def _model_folder(model: Path) -> Path:
    """The absolute path of a model directory, or of the packaged model of that name."""
    if (model / "config.json").is_file():
        return model.resolve()
    from engram_interp.checkpoints.loading import packaged

    known = packaged()
    if str(model) not in known:
        raise InputError(
            f"No model at {model}; give a directory that holds config.json and model.safetensors, or a "
            f"packaged model ({', '.join(known)})."
        )
    return known[str(model)]


def _listed(places: list[Path]) -> list[str]:
    """A line for each bundle found; of one that cannot be opened it says why, as the page will.

    Raises:
        InputError: If there is no bundle.
    """
    from engram_interp.results import open_bundle
    from engram_interp.results.finding import find_bundles

    found = find_bundles(places)
    if not found.bundles:
        raise InputError(" ".join(found.notes))
    lines: list[str] = []
    for name, path in found.bundles.items():
        try:
            said = f"{len(open_bundle(path))} parts"
        except InputError as problem:
            said = str(problem)
        lines.append(f"{name}  {path}  {said}")
    return [*lines, *found.notes]


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as cause:
            raise InputError(
                f"Port {port} cannot be used ({cause.strerror}); give another --port, or none."
            ) from cause


def _launcher() -> Any:
    """The module that says how the app is started: beside the package in a checkout, else inside it.

    Raises:
        InputError: If it is in neither place.
    """
    package = Path(str(files("engram_interp")))
    places = [
        package / "_apps" / "explorer" / "launch.py",
        package.parent / "apps" / "explorer" / "launch.py",
    ]
    found = next((place for place in places if place.is_file()), None)
    spec = None if found is None else spec_from_file_location("engram_interp_explorer_launch", found)
    if spec is None or spec.loader is None:
        raise InputError(
            f"The explorer is not installed: there is no {places[0]}; install the package again."
        )
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(command: list[str]) -> None:
    """Run the server until it ends or a signal comes, and never leave it behind."""

    def stop(_number: int, _frame: object) -> None:
        raise typer.Exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, stop)
    server = subprocess.Popen(command)
    try:
        code = server.wait()
    finally:
        server.terminate()
        server.wait()
        signal.signal(signal.SIGTERM, before)
    if code:
        raise typer.Exit(code if code > 0 else 128 - code)
