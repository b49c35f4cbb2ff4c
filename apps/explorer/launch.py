"""How the explorer is started: ``streamlit run`` with the options it wants.

Nothing leaves the machine: no usage statistics, no watching of files, a server that listens to this
machine alone. Loading this module by its path imports neither Streamlit nor the package; run as a
script it is the server.
"""

import gc
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from threading import Thread

HERE = Path(__file__).resolve()
APP = HERE.parent / "app.py"

OPTIONS: Mapping[str, str] = {
    "browser.gatherUsageStats": "false",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    # A full collection after every run, of each look at a run's progress too, takes longer than the run.
    "runner.postScriptGC": "false",
    "server.maxUploadSize": "1",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "theme.baseRadius": "6px",
    "theme.light.primaryColor": "#0072b2",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f3f5f7",
    "theme.light.textColor": "#1b1f24",
    "theme.light.borderColor": "#d5dae0",
    "theme.light.linkColor": "#005f96",
    "theme.dark.primaryColor": "#56aee6",
    "theme.dark.backgroundColor": "#14171c",
    "theme.dark.secondaryBackgroundColor": "#1e232a",
    "theme.dark.textColor": "#e8eaed",
    "theme.dark.borderColor": "#3a424c",
    "theme.dark.linkColor": "#8cc8f0",
}


def command(
    bundles: Sequence[str | Path] = (),
    *,
    model: str | Path | None = None,
    port: int | None = None,
    address: str = "localhost",
    browser: bool = True,
) -> list[str]:
    """The arguments of the process that serves the explorer.

    Args:
        bundles: result bundles, or folders that hold some; none for those of the package.
        model: a native model directory for live runs; None for the packaged pair's.
        port: where to serve; None lets Streamlit take the first free one from 8501 on.
        address: which interface to listen on.
        browser: whether to open a browser window.
    """
    options = {
        **OPTIONS,
        "server.address": address,
        "server.headless": "false" if browser else "true",
        **({} if port is None else {"server.port": str(port)}),
    }
    given = [str(bundle) for bundle in bundles]
    return [
        sys.executable,
        str(HERE),
        "run",
        str(APP),
        *(f"--{name}={value}" for name, value in options.items()),
        "--",
        *given,
        *([] if model is None else ["--model", str(model)]),
    ]


def serve() -> None:
    """Be Streamlit; import what the first page needs while the browser is still opening."""
    gc.disable()  # imports leave next to no garbage, and looking for it is a sixth of their time
    from streamlit.web.cli import main

    Thread(target=_warm_up, name="warm-up", daemon=True).start()
    main(prog_name="streamlit")


def _warm_up() -> None:
    """Read and draw a map once: what that imports, and looks up on first use, is then there."""
    try:
        from engram_interp import pairs
        from engram_interp.results import open_bundle

        path = pairs.bundle_path()
        if (path / "manifest.json").is_file():
            open_bundle(path)["depth"].plot().to_json()
        import_module("explorer.overview")
    finally:
        gc.enable()


if __name__ == "__main__":
    serve()
