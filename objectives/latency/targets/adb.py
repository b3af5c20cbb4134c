"""Run commands, store files and read temperatures on a phone by ``adb``."""

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protege.objectives.latency.targets.ssh_connection import ConnectionLost
from protege.spaces.errors import DiskFull, Unavailable, Unsupported
from protege.spaces.files.hashing import sha256_of

FOLDER = "/data/local/tmp/protege"
"""The folder on the phone that needs no root access; may be deleted at any time."""

_NOT_COPIED = "failed to copy"
_ASK_S = 60.0
_PUSH_S = 900.0

_REFUSALS = {
    "unauthorized": "unlock the phone and allow USB debugging from this computer",
    "no devices": "connect one, turn USB debugging on, and look at: adb devices",
    "more than one device": "say which: android:SERIAL, as adb devices lists them",
    "not found": "look at: adb devices",
    "no permissions": "this user may not use USB devices; look at: adb devices",
}


@dataclass(frozen=True)
class Phone:
    """A device that ``adb`` reaches.

    Attributes:
        serial: The serial number as ``adb devices`` lists it; the only device if empty.
    """

    serial: str = ""

    @property
    def name(self) -> str:
        """The phone's name in messages."""
        return f"phone {self.serial}" if self.serial else "the phone"

    def shell(self, command: str, patience_s: float = _ASK_S) -> str:
        """Run a command in the phone's shell; return its standard output and error together.

        Raises:
            Unavailable: ``adb`` cannot reach the phone; no retry would help.
            CommandError: The command failed.
            ConnectionLost: The phone does not answer.
        """
        return self._adb("shell", f"({command}) 2>&1", patience_s=patience_s)

    def keep(self, content: Path, suffix: str = "") -> str:
        """Push a file unless the phone has it; return its path there, named by its hash.

        Raises:
            Unavailable: ``adb`` cannot reach the phone, or the pushed file has a wrong checksum.
            DiskFull: The phone's storage is full.
            ConnectionLost: The phone does not answer.
        """
        sha256 = sha256_of(content)
        path = f"{FOLDER}/{sha256[:16]}{suffix}"
        if self._sha256(path) == sha256:
            return path
        self.shell(f"mkdir -p {FOLDER}")
        try:
            self._adb("push", str(content), f"{path}.part", patience_s=_PUSH_S)
        except CommandError as error:
            if "No space left" in str(error):
                raise DiskFull(f"{self.name}: no room in {FOLDER}; make room, then go on") from None
            raise ConnectionLost(str(error)) from None
        if self._sha256(f"{path}.part") != sha256:
            self.shell(f"rm -f {path}.part")
            raise Unavailable(f"{self.name} received {content.name} with a wrong checksum")
        self.shell(f"mv {path}.part {path}")
        return path

    def environment(self) -> dict[str, Any]:
        """Return temperatures, throttling status and battery level, as far as available."""
        heat, battery = self._dump("thermalservice"), self._dump("battery")
        sensors = re.findall(r"mValue=([\d.]+), mType=\d+, mName=([\w-]+)", heat)
        found: dict[str, Any] = {"temperatures_c": {name: float(value) for value, name in sensors}}
        if status := re.search(r"Thermal Status: (\d+)", heat):
            # 0 is cool; a rise during the measurement means throttling
            found["throttle_counts"] = {"thermal status": int(status[1])}
        if level := re.search(r"^\s*level: (\d+)", battery, re.MULTILINE):
            found["battery_percent"] = int(level[1])
        if tenths := re.search(r"^\s*temperature: (\d+)", battery, re.MULTILINE):
            found["temperatures_c"]["battery"] = int(tenths[1]) / 10
        return found

    def _dump(self, service: str) -> str:
        try:
            return self.shell(f"dumpsys {service}")
        except CommandError:  # an older Android has no such service
            return ""

    def _sha256(self, path: str) -> str:
        try:
            return self.shell(f"sha256sum {shlex.quote(path)}").partition(" ")[0]
        except CommandError:
            return ""

    def _adb(self, *words: str, patience_s: float) -> str:
        program = shutil.which("adb")
        if program is None:
            raise Unsupported("there is no adb command on this machine; install Android's")
        chosen = ["-s", self.serial] if self.serial else []
        try:
            done = subprocess.run(
                [program, *chosen, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                errors="replace",
                timeout=patience_s,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise ConnectionLost(f"no answer within {patience_s:g} s") from None
        if done.returncode == 0:
            return done.stdout
        said = (done.stdout + done.stderr).strip().splitlines() or [f"code {done.returncode}"]
        # the shell command redirects its stderr to stdout, so stderr is adb's own
        if not done.stderr.strip() or _NOT_COPIED in done.stderr:
            raise CommandError(said[-1])
        for cause, advice in _REFUSALS.items():
            if cause in said[-1]:
                raise Unavailable(f"adb does not reach {self.name} ({said[-1]}): {advice}")
        raise ConnectionLost(said[-1])


class CommandError(Exception):
    """A command failed on the phone; holds the last line of its output."""
