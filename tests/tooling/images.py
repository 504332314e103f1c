"""Builds the Dockerfile's image and runs it without a Docker engine: buildah, a base made by debootstrap, unshare.

It takes root, as CI and a container have it. A container here has what compose.yaml gives it: a root that can't be written,
a /tmp of its own, the user of the image, no capabilities and no way to gain any. It shares the network of the machine.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from devtools.guard import ROOT, guard
from devtools.processes import Process
from devtools.programs import find_buildah, find_debootstrap

BASE_PACKAGES = "python3-venv,python-is-python3,ca-certificates"
BASE_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Run with the mount namespace of its own that unshare gives it. $1: the image's root, $2: a folder to share, $3: workdir
CONFINE = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$1/tmp"
mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev"
mkdir -p "$1$2" && mount --bind "$2" "$1$2"
root=$1 folder=$3; shift 3
exec chroot "$root" setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all \\
    sh -c 'cd "$0" && exec "$@"' "$folder" "$@"
"""


class Builder:
    """buildah with its images in a folder of its own, as plain files; a `with` block deletes them at its end."""

    def __enter__(self) -> Builder:
        self.folder = Path(tempfile.mkdtemp(prefix="asapp-images-", dir="/var/tmp"))  # too much for a folder in memory
        return self

    def __exit__(self, *_error: object) -> None:
        assert str(self.folder) not in Path("/proc/mounts").read_text()
        shutil.rmtree(self.folder)

    def run(self, *arguments: str) -> str:
        """Return what the command printed."""
        storage = ["--storage-driver", "vfs", "--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run"]
        return _output([str(find_buildah()), *storage, *arguments])

    def make_base(self, name: str) -> None:
        """Make an image with Python, as the system's own package source has it."""
        container = self.run("from", "scratch")
        root = self.run("mount", container)
        codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
        options = ["--variant=minbase", f"--include={BASE_PACKAGES}", f"--cache-dir={self.folder}"]
        _output([str(find_debootstrap()), *options, codename, root, package_source(codename)])
        for folder in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(Path(root, folder))
        self.run("config", "--env", BASE_PATH, container)
        self.run("commit", "--rm", container, name)

    def build(self, name: str, source: Path, base: str, commit: str) -> None:
        """Build the Dockerfile in `source`, with the package index that pip uses on this machine."""
        settings = pip_settings()
        folders = [part.removeprefix("file://") for value in settings.values() for part in value.split() if "/" in part]
        local = [folder for folder in folders if folder.startswith("/")]
        volumes = [f"--volume={path}:{path}:ro" for path in set(map(_shared, local))]
        arguments = [f"--build-arg={variable}={value}" for variable, value in settings.items()]
        self.run(
            "build",
            "--isolation=chroot",
            f"--build-arg=BASE={base}",
            f"--build-arg=GIT_COMMIT={commit}",
            f"--tag={name}",
            *volumes,
            *arguments,
            str(source),
        )


class Image:
    """A built image, mounted: `root` is its tree, `config` what its Dockerfile says about user, environment, command."""

    def __init__(self, builder: Builder, name: str) -> None:
        container = builder.run("from", name)
        self.root = Path(builder.run("mount", container))
        about = json.loads(builder.run("inspect", container))["OCIv1"]
        self.config: dict[str, Any] = about["config"]
        self.history: list[dict[str, str]] = about["history"]

    @property
    def environ(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.config["Env"])

    def files(self) -> dict[str, int]:
        """Return {path below the root: bytes}."""
        found = (path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())
        return {str(path.relative_to(self.root)): path.stat().st_size for path in found}


class Container(Process):
    """One command in the image, confined as in compose.yaml. shared: a folder that it sees at the same path."""

    def __init__(
        self, name: str, image: Image, command: Sequence[str], environ: Mapping[str, str], log: Path, shared: Path
    ) -> None:
        confined = ["unshare", "--mount", "sh", "-ec", CONFINE, "sh", str(image.root), str(shared)]
        mark = {key: value for key, value in guard().environ().items() if key.startswith("ASAPP_")}
        super().__init__(
            name,
            [*confined, image.config["WorkingDir"], *command],
            log,
            {**image.environ, **environ, **mark, "HOME": image.config["WorkingDir"]},
        )

    def complete(self, patience_s: float = 60.0) -> str:
        """Run it to its end and return what it printed; it fails if the exit code is not 0."""
        self.spawn()
        self.wait(patience_s)
        assert self.exit_code == 0, self.log_tail()
        return self.log_tail()


def package_source(codename: str) -> str:
    """Return the address that apt gets this release's packages from."""
    listed = _output(["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"])
    return next(line.split()[1] for line in listed.splitlines() if line.split()[0] == codename)


def pip_settings() -> dict[str, str]:
    """Return pip's own configuration that says where packages are, as the variables of the Dockerfile."""
    wanted = ("index-url", "extra-index-url", "find-links", "cert")
    listed = _output([sys.executable, "-m", "pip", "config", "list"])
    found = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        if (key := name.rpartition(".")[2]) in wanted:
            found[f"PIP_{key.upper().replace('-', '_')}"] = value.strip("'").replace("\\n", " ").strip()
    return found


def _shared(path: str) -> str:
    """An index of files refers to its packages in a folder beside it."""
    return str(Path(path).parent) if Path(path).name == "simple" else path


def _output(command: list[str]) -> str:
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, f"{command[0]} failed: {answer.stdout[-3000:]}{answer.stderr[-3000:]}"
    return answer.stdout.strip()
