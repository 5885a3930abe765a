"""What a recording says of itself: its kernel, its settings, and what cannot be read."""

import gzip
import json
from pathlib import Path

import pytest

from pagesoak.base.errors import InputError
from pagesoak.study import recording_meta
from pagesoak.study.recording_meta import (
    find_file,
    read_run_json,
    read_section,
    recorded_kernel,
    registered_order,
)

BANNER = "Linux version 6.1.0-56-amd64 (a@b) (gcc) #1 SMP Debian 6.1.192-2 (2026-11-16)"


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def run_json(folder: Path, **settings: object) -> Path:
    return write(folder / "run.json", json.dumps(settings))


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("meta.txt", f"== cpus\n1\n== version\n{BANNER}\n", 4),
        ("meta.version.gz", f"{BANNER}\n", 1),
        ("meta.version", BANNER, 1),
        ("dmesg.txt.gz", f"[    0.000000] {BANNER}\n", 1),
    ],
)
def test_the_kernel_by_its_banner(tmp_path: Path, name: str, text: str, line: int) -> None:
    path = write(tmp_path / name, text)
    kernel = recorded_kernel(tmp_path)
    assert kernel.version == "6.1.0-56-amd64"
    assert (kernel.profile.name, kernel.profile.release) == ("6.1", 192)
    assert kernel.said is not None
    assert kernel.said.place == f"{path}:{line}"


def test_the_kernel_by_the_image_that_was_booted(tmp_path: Path) -> None:
    path = run_json(tmp_path, qemu_args="qemu -m 512 -kernel boot/vmlinuz-6.12.43+deb13-amd64 -x")
    kernel = recorded_kernel(tmp_path)
    assert (kernel.version, kernel.profile.name) == ("6.12.43+deb13-amd64", "6.12")
    assert kernel.said is not None
    assert kernel.said.place == str(path)
    run_json(tmp_path, kernel="6.12.40", qemu_args="-kernel vmlinuz-6.1.0-56-amd64")
    assert recorded_kernel(tmp_path).version == "6.12.40"


def test_a_run_json_of_another_name(tmp_path: Path) -> None:
    run_json(tmp_path, kernel="6.12.40").rename(tmp_path / "boot_A.run.json")
    assert recorded_kernel(tmp_path).said is None
    assert recorded_kernel(tmp_path, "boot_A.run.json").profile.name == "6.12"


def test_no_kernel_named_is_the_default(tmp_path: Path) -> None:
    kernel = recorded_kernel(tmp_path)
    assert kernel.said is None
    assert (kernel.version, kernel.profile.name) == ("", "6.1")


def test_a_kernel_that_is_not_modelled_is_named_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "meta.txt", "== version\nLinux version 5.10.3 (a@b)\n")
    with pytest.raises(InputError) as caught:
        recorded_kernel(tmp_path)
    assert str(caught.value).startswith(f"{path}:2: kernel 5.10 is not modelled")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "1: not JSON: "),
        ('{"a":\n\n', "3: not JSON: "),
        ("[1]", " not a JSON object"),
        ("[" * 100_000, " not JSON that anybody wrote"),
    ],
)
def test_a_run_json_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "run.json", text)
    with pytest.raises(InputError) as caught:
        read_run_json(path)
    assert str(caught.value).startswith(f"{path}:{message}")


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "meta.version.gz"
    path.write_bytes(gzip.compress(BANNER.encode())[:-12])
    with pytest.raises(InputError, match=r"the gzip data is cut off"):
        read_section(tmp_path, "version")
    path.write_bytes(gzip.compress(BANNER.encode())[:-8] + bytes(8))
    with pytest.raises(InputError, match=r"the gzip data is damaged"):
        read_section(tmp_path, "version")
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_section(tmp_path, "version")
    path.rmdir()
    write(path, "x" * 101)
    monkeypatch.setattr(recording_meta, "SMALL_FILE_BYTES_MAX", 100)
    with pytest.raises(InputError, match="longer than 100 bytes"):
        read_section(tmp_path, "version")


def test_plain_files_before_compressed_ones(tmp_path: Path) -> None:
    write(tmp_path / "b.gz", "")
    assert find_file(tmp_path, "a", "b") == tmp_path / "b.gz"
    write(tmp_path / "b", "")
    assert find_file(tmp_path, "a", "b") == tmp_path / "b"
    assert find_file(tmp_path, "c") is None


@pytest.mark.parametrize(
    ("written", "shown", "order"),
    [
        (None, None, 9),
        (None, "5", 5),
        (None, "11", 9),
        (None, "-1", 9),
        (None, "4294967295", 9),
        ("7", "11", 7),
        (0, "9", 0),
    ],
)
def test_the_order_that_was_registered(
    tmp_path: Path, written: object, shown: str | None, order: int
) -> None:
    if written is not None:
        run_json(tmp_path, kv={"po": written})
    if shown is not None:
        write(tmp_path / "meta.txt", f"== page_reporting_order\n{shown}\n== thp\nnever\n")
    assert registered_order(tmp_path, 9) == order


@pytest.mark.parametrize("written", ["x", 11, -1, "²"])
def test_an_order_that_is_none(tmp_path: Path, written: object) -> None:
    path = run_json(tmp_path, kv={"po": written})
    with pytest.raises(InputError, match=f"^{path}: kv.po: .* is no order"):
        registered_order(tmp_path, 9)
