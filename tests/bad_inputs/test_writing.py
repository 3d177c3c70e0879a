"""Writing: through links, to devices as they are, with the old mode, whole or not at all, and nothing left behind."""

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphflops import UsageError
from graphflops.cli import main
from graphflops.report import files as writing
from graphflops.report.files import write_atomic

OLD, NEW = "old\n", "new\n" * 50_000


@pytest.fixture(params=["as the system can", "where every file has a name"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With files that have no name until they are whole, and on file systems that know none."""
    if request.param != "as the system can":
        monkeypatch.setattr(writing, "_open_unnamed", lambda folder: None)


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


@pytest.mark.usefixtures("both_ways")
class TestRegularFiles:
    def test_a_new_one_has_the_mode_that_the_umask_says(self, tmp_path: Path, umask: int) -> None:
        assert stat.S_IMODE(write_atomic(tmp_path / "new", NEW).stat().st_mode) == 0o666 & ~umask

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
    def test_an_old_one_keeps_its_mode(self, tmp_path: Path, mode: int, umask: int) -> None:
        (tmp_path / "old").write_text(OLD)
        (tmp_path / "old").chmod(mode)
        write_atomic(tmp_path / "old", NEW)
        assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == mode
        assert (tmp_path / "old").read_text() == NEW

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_an_old_one_keeps_its_owner(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_text(OLD)
        os.chown(tmp_path / "old", 1234, 2345)
        write_atomic(tmp_path / "old", NEW)
        assert ((tmp_path / "old").stat().st_uid, (tmp_path / "old").stat().st_gid) == (1234, 2345)

    def test_a_name_as_long_as_names_may_be(self, tmp_path: Path) -> None:
        assert write_atomic(tmp_path / ("x" * 255), NEW).read_text() == NEW

    def test_half_a_character_is_written_as_a_question_mark(self, tmp_path: Path) -> None:
        assert write_atomic(tmp_path / "new", "a\ud800b").read_text() == "a?b"


@pytest.mark.usefixtures("both_ways")
class TestLinks:
    def test_the_target_is_written_and_the_link_stays(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "target").write_text(OLD)
        (tmp_path / "link").symlink_to("there/target")
        (tmp_path / "link to link").symlink_to("link")
        write_atomic(tmp_path / "link to link", NEW)
        assert os.readlink(tmp_path / "link to link") == "link"
        assert os.readlink(tmp_path / "link") == "there/target"
        assert (tmp_path / "there" / "target").read_text() == NEW

    def test_a_link_to_nothing_leads_to_a_new_file(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("target")
        write_atomic(tmp_path / "link", NEW)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_text() == NEW

    def test_a_link_to_itself_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("link")
        with pytest.raises(UsageError, match=r"cannot write .*link"):
            write_atomic(tmp_path / "link", NEW)


class TestDevices:
    def test_a_fifo_is_written_through(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        read: list[str] = []
        reader = threading.Thread(target=lambda: read.append((tmp_path / "fifo").read_text()))
        reader.start()
        write_atomic(tmp_path / "fifo", NEW)
        reader.join()
        assert read == [NEW]
        assert (tmp_path / "fifo").is_fifo()

    def test_a_fifo_without_reader_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writing, "FIFO_TIMEOUT", 0.1)
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(UsageError, match="has no reader"):
            write_atomic(tmp_path / "fifo", NEW)
        assert (tmp_path / "fifo").is_fifo()

    @pytest.mark.parametrize(("minor", "message"), [(3, ""), (7, "No space left on device")], ids=["null", "full"])
    def test_a_device_is_written_through(self, tmp_path: Path, minor: int, message: str) -> None:
        device = tmp_path / "device"
        try:
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        except OSError:
            pytest.skip("devices cannot be made here")
        if message:
            with pytest.raises(UsageError, match=message):
                write_atomic(device, NEW)
        else:
            write_atomic(device, NEW)
        assert stat.S_ISCHR(device.stat().st_mode)
        assert list(tmp_path.iterdir()) == [device]

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="of Linux")
    @pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
    def test_standard_output_stays_where_it_is(self, tmp_path: Path, path: str) -> None:
        write = f"from graphflops.report.files import write_atomic; write_atomic({path!r}, 'x\\n')"
        code = f"print('before'); {write}; print('after')"
        with (tmp_path / "out").open("w") as out:
            subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
        assert (tmp_path / "out").read_text() == "before\nx\nafter\n"


@pytest.mark.usefixtures("both_ways")
class TestFailures:
    @pytest.mark.parametrize("path", ["", ".", "nowhere/x", "old/x", "a\0b", "x" * 256, "\ud800"], ids=repr)
    def test_a_path_that_cannot_be_written(self, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "old").write_text(OLD)
        with pytest.raises(UsageError, match=r"^cannot write [^\n]*$"):
            write_atomic(path, NEW)
        assert [file.name for file in tmp_path.iterdir()] == ["old"]
        assert (tmp_path / "old").read_text() == OLD

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_disk_that_is_full(self, tmp_path: Path, exists: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        if exists:
            (tmp_path / "file").write_text(OLD)

        def full(descriptor: int, data: bytes) -> None:
            os.write(descriptor, data[:10])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(writing, "_write_all", full)
        with pytest.raises(UsageError, match="No space left"):
            write_atomic(tmp_path / "file", NEW)
        assert [file.read_text() for file in tmp_path.iterdir()] == [OLD] * exists

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
    def test_a_folder_or_a_file_that_is_read_only(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text(OLD)
        (tmp_path / "file").chmod(0o400)
        with pytest.raises(UsageError, match="Permission denied"):
            write_atomic(tmp_path / "file", NEW)
        assert (tmp_path / "file").read_text() == OLD

    @pytest.mark.parametrize("exists", [True, False])
    @pytest.mark.parametrize("step", ["_copy_mode", "_write_all", "_link", "replace"])
    def test_an_interrupt_leaves_the_old_and_nothing_else(
        self, tmp_path: Path, exists: bool, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if exists:
            (tmp_path / "file").write_text(OLD)

        def interrupted(*arguments: object, **options: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(writing.os if step == "replace" else writing, step, interrupted)
        try:
            write_atomic(tmp_path / "file", NEW)
        except KeyboardInterrupt:
            assert [file.read_text() for file in tmp_path.iterdir()] == [OLD] * exists
        else:  # this step is none of this way
            assert [file.read_text() for file in tmp_path.iterdir()] == [NEW]


STOPPED = """
import os, signal, sys
from graphflops.report.files import write_atomic
signal.signal(signal.SIGINT, signal.default_int_handler)
data, path, keep = "new\\n" * 50_000, sys.argv[1], sys.argv[2] == "old"
print("ready", flush=True)
while True:
    write_atomic(path, data)
    if not keep:
        os.unlink(path)
"""


@pytest.mark.parametrize("before", ["old", "none"])
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
def test_who_is_stopped_at_any_moment_leaves_what_is_whole(tmp_path: Path, kind: int, before: str) -> None:
    for moment in range(8):
        for file in tmp_path.iterdir():
            file.unlink()
        if before == "old":
            (tmp_path / "file").write_text(OLD)
        process = subprocess.Popen(
            [sys.executable, "-c", STOPPED, str(tmp_path / "file"), before],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        threading.Event().wait(moment * 0.0017)
        process.send_signal(kind)
        process.wait()
        process.stdout.close()
        left = {file.name: file.read_text() for file in tmp_path.iterdir()}
        if before == "old":
            assert left.pop("file") in (OLD, NEW)
            if kind == signal.SIGKILL:  # may come between the two system calls that replace a file
                left.popitem() if NEW in left.values() else None
        else:
            assert left.pop("file", NEW) == NEW
        assert not left


def test_many_threads_write_one_file_whole(tmp_path: Path) -> None:
    contents = [str(i) * 10_000 for i in range(8)]
    threads = [threading.Thread(target=write_atomic, args=(tmp_path / "file", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() in contents


@pytest.mark.parametrize("command", [["rules", "stub", "torch.nn:Linear", "--force", "-o"]], ids=["rules stub"])
def test_the_command_writes_through_a_link(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "target").write_text(OLD)
    (tmp_path / "target").chmod(0o600)
    (tmp_path / "link").symlink_to("target")
    assert main([*command, str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink()
    assert "@rule" in (tmp_path / "target").read_text()
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o600
