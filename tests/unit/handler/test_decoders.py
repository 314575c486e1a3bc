"""Decoder processes: their limits, what happens to a photo that exceeds them, and that none is left behind."""

import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import psutil
import pytest

from benchmarks.harness import costly
from deploy.host.processes import alive
from deploy.settings import ROOT
from handler.budget import Budget, Patience
from handler.decoders import Decoders
from handler.decoding.common_case import is_common
from handler.errors import RequestError
from handler.image import preprocess
from handler.spec import Input, Limits
from tests.helpers import pictures
from tests.helpers.waiting import eventually

SIZE = Input(height=70, width=50)
LIMITS = Limits(photo_seconds=0.3, photo_megabytes=210)


@pytest.fixture(scope="module")
def processes() -> Decoders:
    return Decoders(SIZE, LIMITS)


@pytest.fixture
def decoders(processes: Decoders) -> Decoders:
    """The same processes, with all their patience."""
    processes._patience = Patience(LIMITS.photo_seconds)
    return processes


def budget(seconds: float = 60) -> Budget:
    return Budget(seconds)


def slow() -> bytes:
    return costly.jpeg_of_scans(2400, 90)


def large() -> bytes:
    return costly.png(7000, 7000, 0)


def good() -> bytes:
    return pictures.TAKEN["tiff"]()


def assert_answers(decoders: Decoders) -> None:
    assert np.array_equal(decoders.preprocess(good(), budget()), preprocess(good(), SIZE, LIMITS))


def refused(decoders: Decoders, data: bytes, seconds: float = 60) -> RequestError:
    with pytest.raises(RequestError) as caught:
        decoders.preprocess(data, budget(seconds))
    return caught.value


def child(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", [name for name, make in pictures.TAKEN.items() if not is_common(make())])
def test_a_process_gives_the_pixels_of_preprocess(decoders: Decoders, name: str) -> None:
    data = pictures.TAKEN[name]()
    assert np.array_equal(decoders.preprocess(data, budget()), preprocess(data, SIZE, LIMITS))


@pytest.mark.parametrize("name", [name for name, (make, _, _) in pictures.REFUSED.items() if not is_common(make())])
def test_a_process_refuses_what_preprocess_refuses(decoders: Decoders, name: str) -> None:
    make, status, code = pictures.REFUSED[name]
    error = refused(decoders, make())
    assert (error.status, error.code) == (status, code)


def test_the_processes_may_use_their_own_memory_and_the_limit(decoders: Decoders) -> None:
    assert_answers(decoders)
    process = psutil.Process(decoders.pids()[0])
    soft, _ = resource.prlimit(process.pid, resource.RLIMIT_AS)
    allowed = LIMITS.photo_megabytes * 10**6
    assert allowed <= soft <= process.memory_info().vms + allowed + 10 * 10**6
    assert process.nice() == 5


def test_a_process_imports_nothing_that_starts_slowly() -> None:
    done = child("import sys, handler.decoder\nprint(*{'torch', 'pydantic', 'onnxruntime'}.intersection(sys.modules))")
    assert (done.stdout, done.stderr) == ("\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["while True: pass", "import zlib; zlib.decompress(zlib.compress(bytes(10**9)))"])
def test_the_kernel_ends_a_block_that_uses_too_much_cpu_time(loop: str) -> None:
    done = child(f"from handler.decoder import limited_time\nwith limited_time(0.05):\n    {loop}")
    assert done.returncode == -signal.SIGPROF, done.stderr


def test_the_kernel_refuses_memory_beyond_the_limit() -> None:
    done = child("from handler.decoder import limit_memory\nlimit_memory(100)\nbytearray(90 * 10**6)\nbytearray(10**8)")
    assert "MemoryError" in done.stderr
    assert "line 4" in done.stderr


@pytest.mark.slow
def test_a_photo_that_takes_too_long_is_too_costly_and_the_next_is_answered(decoders: Decoders) -> None:
    assert_answers(decoders)
    before = decoders.pids()
    error = refused(decoders, slow())
    assert (error.status, error.code) == (413, "too_costly")
    assert "more than 0.3 s" in error.message
    assert_answers(decoders)
    assert decoders.pids()[0] == before[1]
    assert not psutil.pid_exists(before[0])  # not even as a zombie


@pytest.mark.slow
def test_where_nobody_waits_a_photo_gets_its_cpu_time_however_busy_the_machine_is() -> None:
    """The process is stopped for longer than three times its limit, as it would be if others used the cores."""
    answered = []
    for patient in (False, True):
        decoders = Decoders(SIZE, LIMITS, patient)
        assert_answers(decoders)
        process = psutil.Process(decoders.pids()[0])
        process.suspend()
        threading.Timer(4 * LIMITS.photo_seconds, process.resume).start()
        try:
            assert_answers(decoders)
        except RequestError as error:
            assert not patient, error.message
            answered.append(error.code)
    assert answered == ["too_costly"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["JPEG2000", "AVIF", "TIFF", "PNG"])
def test_a_process_returns_the_memory_of_a_large_photo(form: str) -> None:
    decoders = Decoders(SIZE, Limits(photo_seconds=20))
    before = decoders.pids()
    assert_answers(decoders)
    resident = psutil.Process(before[0]).memory_info().rss
    for _ in range(3):
        decoders.preprocess(costly.flat(form, 1500, 1500), budget())
    assert decoders.pids() == before
    assert psutil.Process(before[0]).memory_info().rss < resident + 20 * 10**6


@pytest.mark.slow
def test_a_photo_that_needs_too_much_memory_is_too_costly_and_the_next_is_answered() -> None:
    decoders = Decoders(SIZE, Limits(photo_seconds=20, photo_megabytes=210))
    error = refused(decoders, large())
    assert (error.status, error.code) == (413, "too_costly")
    assert "more than 210 MB of memory" in error.message
    assert_answers(decoders)


@pytest.mark.slow
def test_a_photo_may_use_only_what_is_left_of_its_request(decoders: Decoders) -> None:
    left = budget(0.1)
    with pytest.raises(RequestError, match=r"more than 0\.1 s"):
        decoders.preprocess(slow(), left)
    with pytest.raises(RequestError, match=r"the photos before this one took 0\.1 s") as caught:
        decoders.preprocess(good(), left)
    assert caught.value.code == "too_costly"
    assert_answers(decoders)


@pytest.mark.slow
def test_after_photos_that_wasted_time_uncommon_photos_get_little_of_it(decoders: Decoders) -> None:
    refused(decoders, slow())
    error = refused(decoders, slow())
    assert "more than 0.1 s, the limit for some minutes after photos that were too costly" in error.message
    assert_answers(decoders)


@pytest.mark.slow
def test_photos_that_are_stopped_spend_the_budget_of_a_whole_photo(decoders: Decoders) -> None:
    left = budget(2 * LIMITS.photo_seconds)
    for _ in range(2):
        with pytest.raises(RequestError, match="decoding the photo takes more than"):
            decoders.preprocess(slow(), left)
    with pytest.raises(RequestError, match="the photos before this one"):
        decoders.preprocess(good(), left)


def test_patience_comes_back_with_time() -> None:
    now = [0.0]
    patience = Patience(1, clock=lambda: now[0])
    patience.waste(0.01)
    assert patience.left() == 1
    patience.waste(0.7)
    assert patience.left() == pytest.approx(0.3)
    patience.waste(0.7)
    assert patience.left() == Patience.LEAST
    now[0] = 30
    assert patience.left() == pytest.approx(0.3)
    now[0] = 1000
    assert patience.left() == 1


def test_a_budget_counts_the_thread_that_decodes() -> None:
    left = budget(0.02)
    with left.in_this_thread():
        sum(range(3_000_000))
    with pytest.raises(RequestError), left.in_this_thread():
        raise AssertionError("the block must not run")


def test_a_photo_whose_decoder_crashes_is_corrupt_and_the_next_is_answered(decoders: Decoders) -> None:
    assert_answers(decoders)
    process = psutil.Process(decoders.pids()[0])
    used = process.cpu_times().user

    def crash() -> None:
        eventually(lambda: process.cpu_times().user > used)
        process.send_signal(signal.SIGSEGV)

    thread = threading.Thread(target=crash)
    thread.start()
    error = refused(decoders, slow())
    thread.join()
    assert (error.status, error.code) == (400, "corrupt_image")
    assert_answers(decoders)


@pytest.mark.slow
def test_processes_that_died_while_idle_are_replaced(decoders: Decoders) -> None:
    for pid in decoders.pids():
        process = psutil.Process(pid)
        process.kill()
        eventually(gone([process]))
    assert_answers(decoders)


def test_a_bug_in_a_process_is_no_answer_about_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handler.decoder.__name__", "no_such_module")
    with pytest.raises(RuntimeError, match="code 1"):
        Decoders(SIZE, LIMITS).preprocess(good(), budget())


@pytest.mark.slow
def test_the_processes_end_with_their_owner() -> None:
    owned = Decoders(SIZE, LIMITS)
    processes = [psutil.Process(pid) for pid in owned.pids()]
    del owned
    assert not any(process.is_running() for process in processes)


@pytest.mark.slow
@pytest.mark.parametrize("decoding", [False, True])
def test_no_process_survives_a_worker_that_is_killed(decoding: bool) -> None:
    code = (
        "from tests.unit.handler.test_decoders import *\n"
        "owned = Decoders(SIZE, LIMITS)\nassert_answers(owned)\nprint(*owned.pids(), flush=True)\n"
        f"{decoding} and owned.preprocess(slow(), budget())\ninput()"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        decoders = [psutil.Process(int(pid)) for pid in worker.stdout.readline().split()]
        worker.kill()
    assert len(decoders) == 2
    eventually(gone(decoders))


def gone(processes: list[psutil.Process]) -> Callable[[], bool]:
    return lambda: not any(alive(process) for process in processes)
