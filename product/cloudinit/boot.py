"""Stage 45 of a boot: find the node's configuration, apply what is new of it, say what was done.

Nothing here stops a boot: what cannot be used is a problem, with file, line and reason, and the
node goes on with what it had. What changes nothing costs a digest: neither yaml nor pydantic is
loaded.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from product.agent.system.files import read_bounded, sync_directory, write_atomic
from product.cloudinit import sources
from product.cloudinit.errors import CloudInitError, InvalidFileError
from product.cloudinit.record import Applied, Record, Seen, read_record, write_record
from product.cloudinit.sources import (
    META_DATA,
    NETWORK,
    RESULT_NAME,
    USER_DATA,
    Seed,
    Where,
)

if TYPE_CHECKING:
    from product.cloudinit.load import MetaData
    from product.cloudinit.plan import Plan
    from product.cloudinit.planned import PlannedFile

try:
    # hashlib loads OpenSSL, which costs an emulated node a tenth of a second.
    from _sha2 import sha256  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha256

# The URL of a seed that waits for a network; the service seed fetches it.
TO_FETCH = "run/kubesolo/seed-url"
# There until the kubeconfig that user-data asks for lies on the seed (product.cloudinit.to_seed).
OWED = "var/lib/kubesolo/config/kubeconfig-owed"
# A seed disk orders an installation: a system that runs from a medium starts the installer alone.
INSTALL = "run/kubesolo/install-ordered"
DEFAULT_RANK = 3
# Without these a node would follow no updates any more: another instance leaves them.
STAYS = ("/etc/kubesolo/update.conf", "/etc/kubesolo/update-key.pem")
# A larger file of the node is neither appended to nor compared.
MAX_FILE = 1 << 24


class Outcome(NamedTuple):
    """What this boot found; ``lines`` are for the console, problems apart.

    ``fresh``: something was applied just now.
    """

    source: str | None
    instance_id: str | None
    outcome: str
    problems: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    fresh: bool = False


class Boot:
    """One run. ``where`` has the node's places; its ``root`` moves all of them."""

    def __init__(self, where: Where, boot_disk: str, esp: str) -> None:
        self.where = where
        self._boot_disk, self._esp = boot_disk, esp
        self._record_path = where.under("var/lib/kubesolo/config/applied.json")
        self._problems: list[str] = []
        self._lines: list[str] = []
        self._fresh = False
        # Something failed that may succeed at the next boot.
        self._retry = False
        # What was written of a file before a later one of its plan failed: path to digest.
        self._partly_written: dict[str, str] = {}

    def run(self) -> Outcome:
        """Find, compare, apply, record."""
        record = self._read_record()
        sources.settle(self.where)
        try:
            seeds, errors = sources.find_seeds(self.where, self._boot_disk, self._esp)
        except CloudInitError as error:
            self._problem(error)
            return self._end(record.source, record, "refused")
        for behind in errors:
            self._problem(behind)
        seed = _chosen(seeds, record)
        if seed is None:
            return self._end(record.source, record, "unchanged" if record.source else "none")
        if seed.url and not seed.files:
            self._lines.append(f"configuration: {seed.place} is fetched once there is a network")
            with suppress(OSError):
                write_atomic(self.where.under(TO_FETCH), f"{seed.url}\n".encode())
            return self._end(seed.place, record, "waiting")
        digest, release, seen = digest_of_seed(seed), self._release(), record.seen
        if seen and (seen.release, seen.digest) == (release, digest):
            self._problems += seen.problems
            outcome = "unchanged" if seen.outcome == "applied" else seen.outcome
            return self._end(seed.place, record, outcome)
        before = len(self._problems)
        outcome, record = self._take(seed, seeds, record)
        if not self._retry:
            seen = Seen(release, digest, outcome, tuple(self._problems[before:]))
        self._keep(record._replace(seen=seen))
        found = self._end(seed.place, record, outcome)
        self._tell(seed, found)
        return found

    def _take(self, seed: Seed, seeds: Sequence[Seed], record: Record) -> tuple[str, Record]:
        """Apply what is new of a seed: the outcome, and the record as it is then."""
        try:
            meta = self._meta_data(seed)
        except CloudInitError as error:
            self._problem(error, seed)
            return "refused", record
        before = len(self._problems)
        instance = meta.instance_id or f"sha256:{digest_of_seed(seed)}"
        applied = self._apply(seed, instance, meta.local_hostname, record)
        kept = record.files if record.instance_id == instance else {}
        wrong = len(self._problems) > before
        if not (applied or kept):
            # Nothing of the new instance was taken: what was applied before still stands.
            stale = {**record.stale, **self._partly_written}
            return "refused" if wrong else "unchanged", record._replace(stale=stale)
        held = tuple(digest_of_seed(other) for other in seeds if other is not seed)
        stale = {**record.stale, **self._partly_written}
        if instance != record.instance_id:
            stale |= written_of(record)
        changed = Record(instance, seed.place, {**kept, **applied}, held, stale=stale)
        self._fresh = bool(applied)
        if wrong:
            # What a file that is yet to come may want is not taken away.
            return "partly", changed
        self._remove(stale, changed)
        return "applied" if applied else "unchanged", changed._replace(stale={})

    def _meta_data(self, seed: Seed) -> MetaData:
        from product.cloudinit.load import load_meta_data

        return load_meta_data(seed.files.get(META_DATA, b""), META_DATA)

    def _apply(
        self, seed: Seed, instance: str, local_hostname: str | None, record: Record
    ) -> dict[str, Applied]:
        """Each file that this instance has not had; what is wrong with one goes to the problems."""
        applied: dict[str, Applied] = {}
        before = record.files if record.instance_id == instance else {}
        # A network that is a file of its own goes before one in user-data.
        for name in (NETWORK, USER_DATA):
            if name not in seed.files:
                continue
            digest = _hex(seed.files[name])
            if name in before:
                if before[name].digest != digest:
                    self._problems.append(
                        f"{name} of {seed.place} has changed, and instance-id is {instance} as "
                        "before: it is not applied; give another instance-id to have it applied"
                    )
                continue
            try:
                has_network = NETWORK in applied or NETWORK in before
                plan = self._plan(name, seed.files[name], local_hostname, has_network)
                written = self._write(plan, record, keep_edited=seed.rank == DEFAULT_RANK)
            except CloudInitError as error:
                self._problem(error, seed)
                continue
            except OSError as error:
                self._problems.append(f"{name} of {seed.place}: {_sentence(error)}")
                self._retry = True
                continue
            if name == USER_DATA:
                self._owe_kubeconfig(seed, plan.kubeconfig_to_seed)
                if plan.install and seed.rank == 0:
                    with suppress(OSError):
                        write_atomic(self.where.under(INSTALL), b"")
            self._lines.append(f"configuration: {name} of {seed.place} applied")
            self._lines += [f"configuration: {note}" for note in plan.notes]
            applied[name] = Applied(digest, written)
        return applied

    def _plan(
        self, name: str, content: bytes, local_hostname: str | None, has_network: bool
    ) -> Plan:
        from product.cloudinit.load import load_network, load_user_data
        from product.cloudinit.plan import plan_network, plan_user_data

        if name == NETWORK:
            return plan_network(load_network(content, NETWORK))
        return plan_user_data(
            load_user_data(content, USER_DATA),
            payload_settings=self._payload_settings(),
            local_hostname=local_hostname,
            network_config=has_network,
        )

    def _write(self, plan: Plan, record: Record, *, keep_edited: bool) -> dict[str, str]:
        """Write the plan's files; path to digest of those that this configuration may take away.

        All contents are put together first: an error that is seen then leaves everything as it is.
        """
        ours = {**record.stale, **written_of(record)}
        ready: list[tuple[PlannedFile, bytes, bool]] = []
        for file in plan.files:
            path = self.where.under(file.path)
            if keep_edited and self._digest(path) not in (None, ours.get(file.path)):
                self._lines.append(f"configuration: {file.path} was edited on the node, and stays")
                continue
            there = self._content(path) if file.append else b""
            if there.endswith(file.content) and there:
                continue  # Appended before, at a boot that did not come to its end.
            ready.append((file, there + file.content, bool(there)))
        written = {}
        for file, content, was_there in ready:
            path = self.where.under(file.path)
            write_atomic(path, content, mode=file.mode)
            # The umask may have taken something from the mode.
            os.chmod(path, file.mode)
            if not was_there:
                written[file.path] = self._partly_written[file.path] = _hex(content)
        self._partly_written.clear()
        return written

    def _owe_kubeconfig(self, seed: Seed, wanted: bool) -> None:
        """Have the service kubeconfig-to-seed write one onto this seed, and onto no other."""
        path = self.where.under(OWED)
        with suppress(OSError):
            if wanted:
                write_atomic(path, f"{digest_of_seed(seed)}\n".encode())
            else:
                os.unlink(path)

    def _remove(self, stale: Mapping[str, str], record: Record) -> None:
        """What instances before wrote and this one does not, unless somebody has edited it."""
        now = written_of(record)
        for path, digest in stale.items():
            if path in now or path in STAYS or self._digest(self.where.under(path)) != digest:
                continue
            try:
                os.unlink(self.where.under(path))
            except OSError as error:
                self._problems.append(f"cannot remove {path}: {error.strerror}")
                continue
            self._lines.append(f"configuration: {path} removed, nothing asks for it any more")

    def _end(self, source: str | None, record: Record, outcome: str) -> Outcome:
        found = Outcome(
            source,
            record.instance_id,
            outcome,
            tuple(self._problems),
            tuple(self._lines),
            self._fresh,
        )
        with suppress(OSError):
            self._publish(found, record)
        return found

    def failed(self, error: Exception) -> Outcome:
        """What is told where a run ended by what nobody thought of."""
        self._problems.append(f"it failed: {type(error).__name__}: {error}")
        return self._end(None, Record(), "refused")

    def _keep(self, record: Record) -> None:
        try:
            write_record(self._record_path, record)
        except OSError as error:
            self._problems.append(f"the configuration's record: {_sentence(error)}")

    def _publish(self, found: Outcome, record: Record) -> None:
        document = {
            "source": found.source,
            "instance_id": found.instance_id,
            "outcome": found.outcome,
            "problems": list(found.problems),
            "files": {name: sorted(entry.written) for name, entry in record.files.items()},
        }
        data = (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
        write_atomic(self.where.under("run/kubesolo/config.json"), data, mode=0o600)

    def _tell(self, seed: Seed, found: Outcome) -> None:
        """Leave the outcome on a seed that can be written: whoever prepared it has no console."""
        lines = [f"outcome: {found.outcome}", f"instance-id: {found.instance_id}"]
        lines += [f"problem: {problem}" for problem in found.problems]
        lines += list(found.lines)
        text = "".join(f"{line}\r\n" for line in lines).encode()
        if seed.kind != "vfat" or seed.device is None:
            return
        # A stick may be locked.
        with (
            suppress(CloudInitError, OSError),
            self.where.mounted(seed.device, seed.kind, writable=True) as folder,
            open(os.path.join(folder, seed.folder, RESULT_NAME), "wb") as file,
        ):
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            # Others may hold the file system mounted: nothing else brings the name to the medium.
            sync_directory(os.path.join(folder, seed.folder))

    def _problem(self, error: CloudInitError, seed: Seed | None = None) -> None:
        of = f" of {seed.place}" if seed else ""
        if isinstance(error, InvalidFileError):
            for problem in error.problems:
                where = f"{problem.file}{of}, line {problem.line}, column {problem.column}"
                key = f"{problem.key}: " if problem.key else ""
                self._problems.append(f"{where}: {key}{problem.message}")
            return
        self._problems.append(error.message + (f"; {error.hint}" if error.hint else ""))

    def _read_record(self) -> Record:
        try:
            return read_record(self._record_path)
        except (OSError, ValueError) as error:
            with suppress(OSError):
                os.replace(self._record_path, f"{self._record_path}.bad")
            self._problems.append(
                f"the configuration's record is garbage ({error}): it was put aside, and the "
                "seed's files are applied again"
            )
            return Record()

    def _release(self) -> str:
        try:
            return _hex(read_bounded(self.where.under("usr/lib/kubesolo/release.json"), 65536))
        except (OSError, ValueError):
            return ""

    def _payload_settings(self) -> frozenset[str] | None:
        """The settings that the image's Kubernetes takes; None where it does not say."""
        try:
            document = json.loads(
                read_bounded(self.where.under("usr/lib/kubesolo/payload.json"), 65536)
            )
            names = document.get("settings")
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, AttributeError):
            return None
        return frozenset(map(str, names)) if isinstance(names, list) else None

    def _content(self, path: str) -> bytes:
        """What is there to append to. Raises OSError, also where that is too much."""
        try:
            return read_bounded(path, MAX_FILE)
        except FileNotFoundError:
            return b""
        except ValueError:
            raise OSError(errno.EFBIG, f"it has more than {MAX_FILE} bytes", path) from None

    def _digest(self, path: str) -> str | None:
        try:
            return _hex(read_bounded(path, MAX_FILE))
        except (OSError, ValueError):
            return None


def _hex(data: bytes) -> str:
    return str(sha256(data).hexdigest())


def written_of(record: Record) -> dict[str, str]:
    """All that the record's configuration wrote, path to digest."""
    return {
        path: digest for entry in record.files.values() for path, digest in entry.written.items()
    }


def digest_of_seed(seed: Seed) -> str:
    """64 hex digits over all files of a seed."""
    digest = sha256()
    for name, content in sorted(seed.files.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return str(digest.hexdigest())


def _chosen(seeds: Sequence[Seed], record: Record) -> Seed | None:
    """The first one, unless it stood behind the one that was applied and has been pulled since."""
    if not seeds:
        return None
    seed = seeds[0]
    if seed.rank > 0 and digest_of_seed(seed) in record.held:
        return None
    if seed.rank == DEFAULT_RANK and record.source not in (None, seed.place):
        return None
    return seed


def _sentence(error: OSError) -> str:
    return f"cannot write {error.filename or ''}: {error.strerror}"


def main(
    arguments: Sequence[str], say: Callable[[str], None] = print, where: Where | None = None
) -> int:
    """``DISK ESP``: print a line ``say TEXT`` or ``problem TEXT`` for each thing to tell; 0.

    Whatever goes wrong, the boot goes on with what the node had, and says it.
    """
    boot_disk, esp = arguments
    boot = Boot(where or Where(), boot_disk, esp)
    try:
        found = boot.run()
    except Exception as error:
        found = boot.failed(error)
    for line in found.lines:
        say(f"say {line}")
    for problem in found.problems:
        say(f"problem configuration: {' '.join(problem.split())}")
    return 0
