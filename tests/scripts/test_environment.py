"""Which Python scripts/environment.sh takes and what it installs, shown with stand-ins."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "cat", "cp", "dirname", "flock", "kill", "mkdir", "rm", "sed", "sleep", "touch")

# A Python whose packages are files beside it: runtime, dev and torch stand for what is installed.
STAND_IN = r"""#!/usr/bin/env bash
here=$(cd "$(dirname "$0")" && pwd)
case "$*" in
    *version_info*) cat "$here/version" ;;
    *sys.executable*) echo "$here/python" ;;
    *sysconfig* | *site-packages*) mkdir -p "$here/site" && echo "$here/site" ;;
    *check_environment.py*torch) test -e "$here/torch" || cat "$here"/site/*.pth ;;
    *check_environment.py*)
        test -e "$here/runtime" || { echo "polars>=1"; exit 1; }
        case "$*" in
            *requirements-dev*) test -e "$here/dev" || { echo "ruff>=0"; exit 1; } ;;
        esac ;;
    "-m venv "*)
        echo "$here: $*" >>"$CALLS"
        for target in "$@"; do :; done
        mkdir -p "$target/bin" && cp "$here/python" "$here/version" "$target/bin" ;;
    "-m pip --version" | "-m ensurepip") test ! -e "$here/without-pip" ;;
    "-m pip install "*)
        echo "$here: $*" >>"$CALLS"
        for constraints in "$@"; do :; done
        cp "$constraints" "$CALLS.constraints"
        case "$PIP" in
            fails) echo "no network" >&2; exit 1 ;;
            killed) touch "$here/runtime"; kill -9 $PPID; exit 1 ;;
            slow) sleep 0.5 ;;
        esac
        touch "$here/runtime"
        case "$*" in *requirements-dev*) touch "$here/dev" ;; esac ;;
    *) echo "stand-in: unexpected $*" >&2; exit 99 ;;
esac
"""


class Machine:
    """A repository and a PATH with stand-ins for Python."""

    def __init__(self, folder: Path) -> None:
        self.repository, self.path, self.calls = folder / "repo", folder / "path", folder / "calls"
        self.path.mkdir()
        for tool in TOOLS:
            if found := shutil.which(tool):
                (self.path / tool).symlink_to(found)
        (self.repository / "scripts").mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "environment.sh", self.repository / "scripts")
        for name in ("requirements.txt", "requirements-dev.txt"):
            shutil.copy(ROOT / name, self.repository)
        constraints = "numpy==2\n# --- torch ---\nsympy==1\ntorch==2\n"
        (self.repository / "constraints.txt").write_text(constraints, encoding="utf-8")
        self.venv = self.repository / ".venv"

    def add_python(self, name: str = "python3", version: str = "3.11", *packages: str) -> Path:
        """Puts a Python on PATH; it lives in a folder of its own, its packages beside it."""
        folder = self.path.parent / f"{name}-{version}"
        python = self.add_stand_in(folder, version, *packages)
        (self.path / name).write_text(f'#!/usr/bin/env bash\nexec "{python}" "$@"\n')
        (self.path / name).chmod(0o755)
        return python

    def add_stand_in(self, folder: Path, version: str, *packages: str) -> Path:
        """Writes the files of one stand-in."""
        folder.mkdir(parents=True)
        (folder / "python").write_text(STAND_IN, encoding="utf-8")
        (folder / "python").chmod(0o755)
        (folder / "version").write_text(version + "\n", encoding="utf-8")
        for package in packages:
            (folder / package).touch()
        return folder / "python"

    def start(self, kind: str = "", **variables: str) -> subprocess.Popen:
        """Starts use_environment in a strict shell."""
        script = (
            f'set -euo pipefail; . scripts/environment.sh; use_environment {kind}; echo "$PYTHON"'
        )
        return subprocess.Popen(
            [str(self.path / "bash"), "-c", script],
            cwd=self.repository,
            env={"PATH": str(self.path), "CALLS": str(self.calls), "PIP": "works", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def use(self, kind: str = "", **variables: str) -> tuple[int, str, str]:
        """Returns the exit status, the Python that was chosen and the messages."""
        process = self.start(kind, **variables)
        chosen, messages = process.communicate(timeout=60)
        return process.returncode, chosen.strip(), messages

    def calls_of(self, what: str) -> list[str]:
        """Returns the calls of ``venv`` or ``pip`` so far."""
        text = self.calls.read_text(encoding="utf-8") if self.calls.exists() else ""
        return [line for line in text.splitlines() if f"-m {what} " in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_active_python_is_used_if_it_meets_the_requirements(machine: Machine) -> None:
    python = machine.add_python("python3", "3.11", "runtime")
    assert machine.use() == (0, str(python), "")
    assert not machine.venv.exists()


def test_python_of_an_active_environment_comes_before_python3(machine: Machine) -> None:
    machine.add_python("python3", "3.11", "runtime")
    python = machine.add_python("python", "3.12", "runtime")
    assert machine.use(VIRTUAL_ENV="/somewhere") == (0, str(python), "")
    assert machine.use(CONDA_PREFIX="/somewhere") == (0, str(python), "")


def test_PYTHON_comes_first_and_must_run(machine: Machine) -> None:
    machine.add_python("python3", "3.11", "runtime")
    other = machine.add_python("other", "3.12", "runtime")
    assert machine.use(PYTHON=str(other)) == (0, str(other), "")
    status, chosen, messages = machine.use(PYTHON="/no/python")
    assert (status, chosen) == (1, "")
    assert "'/no/python'" in messages and len(messages.splitlines()) == 1


def test_a_venv_that_meets_the_requirements_is_used(machine: Machine) -> None:
    machine.add_python()
    python = machine.add_stand_in(machine.venv / "bin", "3.11", "runtime")
    assert machine.use() == (0, str(python), "")
    assert not machine.calls.exists()
    assert not Path(f"{machine.venv}.lock").exists()  # a repository that is not writable will do


def test_a_venv_is_made_once(machine: Machine) -> None:
    machine.add_python()
    status, chosen, messages = machine.use()
    assert (status, chosen) == (0, str(machine.venv / "bin" / "python"))
    assert "No Python environment with the requirements is active: creating .venv" in messages
    (install,) = machine.calls_of("pip")
    assert "-r " + str(machine.repository / "requirements.txt") in install
    assert install.endswith("-c " + str(machine.repository / "constraints.txt"))
    assert "requirements-dev.txt" not in install
    assert machine.use() == (0, chosen, "")
    assert len(machine.calls_of("pip")) == len(machine.calls_of("venv")) == 1


def test_dev_adds_what_is_missing_to_the_venv(machine: Machine) -> None:
    machine.add_python()
    machine.use()
    status, _, messages = machine.use("dev")
    assert status == 0
    assert "which lacks: ruff>=0" in messages
    assert "requirements-dev.txt" in machine.calls_of("pip")[1]
    assert len(machine.calls_of("venv")) == 1
    assert machine.use("dev")[2] == machine.use()[2] == ""


def test_a_torch_in_range_is_kept(machine: Machine) -> None:
    python = machine.add_python("python3", "3.11", "torch")
    status, _, messages = machine.use()
    assert status == 0 and "It keeps the torch of" in messages
    (path_file,) = (machine.venv / "bin" / "site").iterdir()
    assert path_file.read_text(encoding="utf-8").strip() == str(python.parent / "site")
    assert Path(f"{machine.calls}.constraints").read_text(encoding="utf-8") == "numpy==2\n"


def test_an_old_python_is_passed_over(machine: Machine) -> None:
    machine.add_python("python3", "3.8")
    newer = machine.add_python("python3.12", "3.12")
    assert machine.use()[0] == 0
    assert machine.calls_of("venv")[0].startswith(str(newer.parent))


def test_no_python_is_new_enough(machine: Machine) -> None:
    machine.add_python("python3", "3.9")
    status, chosen, messages = machine.use()
    assert (status, chosen) == (1, "")
    expected = f"Error: Python 3.10 or newer is needed ({machine.path}/python3 is 3.9); install one"
    assert messages.startswith(expected) and len(messages.splitlines()) == 1
    assert not machine.venv.exists()


def test_a_machine_without_python(machine: Machine) -> None:
    status, _, messages = machine.use()
    assert status == 1
    assert "no Python is on PATH" in messages and len(messages.splitlines()) == 1


def test_a_failed_installation_ends_in_one_line_and_can_be_repeated(machine: Machine) -> None:
    machine.add_python()
    status, chosen, messages = machine.use(PIP="fails")
    assert (status, chosen) == (1, "")
    last = messages.splitlines()[-1]
    assert last.startswith("Error: installing requirements.txt into .venv failed")
    assert "polars>=1" in last and "run this command again" in last
    assert machine.use()[0] == 0
    assert len(machine.calls_of("venv")) == 1


def test_a_killed_installation_is_made_again(machine: Machine) -> None:
    machine.add_python()
    assert machine.use(PIP="killed")[0] != 0
    status, _, messages = machine.use()
    assert status == 0 and "was cut off: making .venv again" in messages
    assert len(machine.calls_of("venv")) == 2
    assert machine.use()[2] == ""


@pytest.mark.parametrize("broken", ["no python", "python does not run", "no pip"])
def test_a_broken_venv_is_made_again(machine: Machine, broken: str) -> None:
    machine.add_python()
    python = machine.add_stand_in(machine.venv / "bin", "3.11")
    if broken == "no python":
        python.unlink()
    elif broken == "python does not run":
        python.write_text("#!/no/such/interpreter\n", encoding="utf-8")
    else:
        (python.parent / "without-pip").touch()
    assert machine.use()[:2] == (0, str(python))
    assert len(machine.calls_of("venv")) == 1


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_two_commands_at_once_install_once(machine: Machine) -> None:
    machine.add_python()
    first = machine.start(PIP="slow")
    while not machine.calls_of("pip") and first.poll() is None:
        time.sleep(0.01)
    status, _, messages = machine.use(PIP="slow")
    first.communicate(timeout=60)
    assert (first.returncode, status) == (0, 0)
    assert "waiting for it" in messages
    assert len(machine.calls_of("pip")) == len(machine.calls_of("venv")) == 1


def test_an_unknown_kind_is_an_error(machine: Machine) -> None:
    machine.add_python("python3", "3.11", "runtime")
    status, _, messages = machine.use("test")
    assert status == 1 and "'test' is unknown" in messages
