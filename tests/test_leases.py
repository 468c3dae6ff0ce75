"""A lease from its wish to its end: waiting, renewal, takeover, and who is kept out."""

import contextlib
import dataclasses
import datetime as dt
import multiprocessing as mp
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from spark_flow.core.clock import Clock
from spark_flow.errors import Busy, LeaseLost, OtherLimit, QueueFull, StateDamaged
from spark_flow.ledger import DeltaRegister, Event, MemoryRegister
from spark_flow.orchestration.claims import Claim, Holder, Pool
from spark_flow.orchestration.leases import HeldLeases, Leases, PoolDocument, free, has_gone, hold, this_process

ELSEWHERE = Holder(host="other", pid=1, place="another machine", started="1")


@pytest.fixture(params=["memory", "delta"])
def place(request, tmp_path):
    return PoolDocument(
        "pools/x", MemoryRegister() if request.param == "memory" else DeltaRegister(str(tmp_path / "r"))
    )


@pytest.fixture
def memory():
    return PoolDocument("pools/x", MemoryRegister())


class Time:
    """Two clocks that pass in sleep only, and may be set apart; what is planned for a moment is done then."""

    def __init__(self):
        self.passed, self.jump, self.plans = 0.0, 0.0, []
        self.start = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)

    def sleep(self, seconds):
        self.passed += seconds
        for plan in [plan for plan in self.plans if plan[0] <= self.passed]:
            self.plans.remove(plan)
            plan[1]()

    @property
    def clock(self):
        now = lambda: self.start + dt.timedelta(seconds=self.passed + self.jump)  # noqa: E731
        return Clock(monotonic=lambda: self.passed, sleep=self.sleep, now=now)


@pytest.fixture
def time_():
    return Time()


def foreign(place, time_, *, name="f", ttl=60.0, **fields):
    """A claim of another host, which nobody here can see the process of."""
    wish = Claim(id=name, pipeline="p", key=name, holder=ELSEWHERE, ttl=ttl, **{"limit": 1, **fields})
    now = time_.clock.now().timestamp()
    return place.change(lambda pool: pool.ask("x", wish, now=now)).find(name)


def test_it_is_held_in_the_block_and_free_after_it(place):
    with hold(place, "p", "k", limit=1) as lease:
        lease.check()
        assert [c.id for c in place.read().held] == [lease.claim.id]
    assert place.read().claims == ()


def test_it_is_free_after_an_error_and_after_an_interrupt(place):
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), hold(place, "p", "k"):
            raise error
    assert place.read().claims == ()


def test_one_who_is_interrupted_while_waiting_leaves_the_queue(memory, time_):
    def stop():
        raise KeyboardInterrupt

    time_.plans.append((1, stop))
    foreign(memory, time_)
    with pytest.raises(KeyboardInterrupt), hold(memory, "p", "k", limit=1, clock=time_.clock):
        pass
    assert [c.id for c in memory.read().claims] == ["f"]


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"busy": "exit"}, Busy),
        ({"busy": "queue", "queue": 0}, QueueFull),
        ({"limit": 2}, OtherLimit),
    ],
)
def test_one_who_shall_not_wait_is_told_and_leaves_nothing_behind(memory, time_, how, error):
    foreign(memory, time_)
    with pytest.raises(error), hold(memory, "p", "k", **{"limit": 1, "clock": time_.clock, **how}):
        pass
    assert [c.id for c in memory.read().claims] == ["f"]


def test_one_who_waits_is_told_of_the_holder_and_goes_on_when_it_ends(memory, time_):
    held = foreign(memory, time_)
    time_.plans.append((5, lambda: memory.change(lambda pool: pool.release("f", 0))))
    told = []
    with hold(memory, "p", "k", limit=1, report=told.append, clock=time_.clock) as lease:
        assert (lease.took_over, time_.passed) == ((), pytest.approx(5, abs=0.5))
    assert told == [f"k waits for pools/x: held by {held}"]


def test_a_holder_that_is_not_renewed_is_taken_over_after_its_ttl(memory, time_):
    foreign(memory, time_, ttl=60)
    with hold(memory, "p", "k", limit=1, clock=time_.clock) as lease:
        assert time_.passed == pytest.approx(60, abs=1)
    assert lease.took_over == ("p f (other:1) was taken over: not renewed for 60 s",)
    assert [taken.claim.id for taken in memory.read().taken] == ["f"]


def test_a_holder_that_is_renewed_is_waited_for(memory, time_):
    foreign(memory, time_, ttl=60)
    for beat in range(1, 30):
        time_.plans.append((beat * 20, lambda: memory.change(lambda pool: pool.renew("f", 0))))
    with hold(memory, "p", "k", limit=1, clock=time_.clock):
        assert time_.passed == pytest.approx(29 * 20 + 60, abs=1)


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_time_of_day_that_jumps_takes_nothing_from_one_who_renews(memory, time_, jump):
    foreign(memory, time_, ttl=60)
    time_.jump = jump
    for beat in range(1, 10):
        time_.plans.append((beat * 20, lambda: memory.change(lambda pool: pool.renew("f", 0))))
    with pytest.raises(Busy), hold(memory, "p", "k", limit=1, busy="exit", clock=time_.clock):
        pass
    assert [c.id for c in memory.read().claims] == ["f"]


@pytest.mark.parametrize("jump", [-86_400, 0, 86_400])
def test_a_time_of_day_that_jumps_frees_no_dead_one_late(memory, time_, jump):
    foreign(memory, time_, ttl=60)
    time_.jump = jump
    with hold(memory, "p", "k", limit=1, clock=time_.clock):
        assert time_.passed <= 61


def test_one_who_shall_not_wait_takes_over_what_has_long_expired(memory, time_):
    foreign(memory, time_, ttl=60)
    time_.sleep(61)
    with hold(memory, "p", "k", limit=1, busy="exit", clock=time_.clock) as lease:
        assert time_.passed == pytest.approx(61 + 30)
    assert len(lease.took_over) == 1


def test_one_who_waits_renews_itself_and_is_not_taken_for_dead(memory, time_):
    foreign(memory, time_, ttl=600)
    seen = []
    for second in range(1, 590, 10):
        time_.plans.append((second, lambda: seen.append(memory.read().waiting[0].beat)))
    time_.plans.append((590, lambda: memory.change(lambda pool: pool.release("f", 0))))
    with hold(memory, "p", "k", limit=1, ttl=60, clock=time_.clock):
        pass
    assert seen[-1] == pytest.approx(29, abs=2)


def test_one_who_was_taken_for_dead_while_waiting_queues_again(memory, time_):
    foreign(memory, time_, ttl=600)

    def take():
        mine = memory.read().waiting[0]
        memory.change(lambda pool: pool.take({mine: "silent"}, ELSEWHERE, 0))

    time_.plans += [(5, take), (10, lambda: memory.change(lambda pool: pool.release("f", 0)))]
    with hold(memory, "p", "k", limit=1, clock=time_.clock) as lease:
        assert (lease.claim.token > 0, time_.passed) == (True, pytest.approx(10, abs=1))


def test_a_dead_one_in_the_queue_holds_nobody_up(memory, time_):
    foreign(memory, time_, ttl=600)
    foreign(memory, time_, name="dead", ttl=30)
    time_.plans.append((60, lambda: memory.change(lambda pool: pool.release("f", 0))))
    with hold(memory, "p", "k", limit=1, clock=time_.clock):
        assert time_.passed == pytest.approx(60, abs=1)


def test_one_who_is_far_behind_looks_seldom_and_often_when_it_comes_near(memory, time_):
    looks = []
    read = memory.register.read
    memory.register.read = lambda: (looks.append(time_.passed), read())[1]

    def end(names):
        return lambda: [memory.change(lambda pool, name=name: pool.release(name, 0)) for name in names]

    for n in range(41):
        foreign(memory, time_, name=f"f{n}", ttl=10_000)
    time_.plans += [(300, end([f"f{n}" for n in range(1, 41)])), (600, end(["f0"]))]
    with hold(memory, "p", "k", limit=1, ttl=60, clock=time_.clock):
        assert time_.passed < 601
    far, near = (sum(begin <= at < begin + 100 for at in looks) for begin in (150, 400))
    assert far < 60
    assert near > 300


def test_a_change_that_is_overtaken_is_made_again_after_a_pause(memory, monkeypatch):
    pauses, swap, lost = [], memory.register.swap, [False] * 12
    monkeypatch.setattr("spark_flow.orchestration.leases.random.uniform", lambda _, most: most)
    monkeypatch.setattr("spark_flow.orchestration.leases.time.sleep", pauses.append)
    memory.register.swap = lambda version, content: lost.pop() if lost else swap(version, content)
    memory.change(lambda pool: dataclasses.replace(pool, token=1))
    assert pauses == sorted(pauses)
    assert (len(pauses), pauses[0], pauses[-1]) == (12, 0.01, 2.0)


@pytest.mark.parametrize("error", [None, ValueError])
def test_a_release_that_fails_is_told_and_hides_neither_success_nor_error(memory, error):
    told = []

    def work():
        with hold(memory, "p", "k", report=told.append):
            memory.register.swap(memory.register.read()[0], {"claims": [{"id": "x"}]})
            if error:
                raise error

    if error:
        with pytest.raises(error):
            work()
    else:
        work()
    assert "could not release its lease in pools/x" in told[-1]


# --- who was taken over -----------------------------------------------------------------------------------------


def test_one_who_wakes_up_after_its_ttl_asks_and_learns_that_it_was_taken_over(place, time_):
    with hold(place, "p", "k", ttl=60, clock=time_.clock) as lease:
        place.change(lambda pool: pool.take({pool.find(lease.claim.id): "silent"}, ELSEWHERE, 0))
        lease.check()  # nothing was due: storage is not asked
        time_.sleep(60)
        with pytest.raises(LeaseLost) as lost:
            lease.check()
    assert "silent" in lost.value.why


def test_one_who_was_stopped_right_after_it_was_served_asks_before_it_begins(memory, time_):
    def look():
        found = read()
        if any(claim["key"] == "k" and claim["token"] for claim in found[1].get("claims", ())):
            memory.register.read = read
            memory.change(lambda pool: pool.take({pool.held[0]: "silent"}, ELSEWHERE, 0))
            time_.sleep(61)
        return found

    read, foreign_ = memory.register.read, foreign(memory, time_)
    time_.plans.append((5, lambda: memory.change(lambda pool: pool.release(foreign_.id, 0))))
    memory.register.read = look
    with hold(memory, "p", "k", limit=1, ttl=60, clock=time_.clock) as lease, pytest.raises(LeaseLost):
        lease.check()


@pytest.mark.parametrize("jump", [0, 3600])
def test_one_who_wakes_up_and_was_not_taken_over_goes_on(place, time_, jump):
    with hold(place, "p", "k", ttl=60, clock=time_.clock) as lease:
        time_.sleep(1 if jump else 600)  # a suspended machine's monotonic clock stands still
        time_.jump = jump
        lease.check()
        assert place.read().find(lease.claim.id).beat >= 1


def test_what_is_lost_stays_lost_and_its_end_disturbs_nobody(place, time_):
    other = Claim(id="o", pipeline="p", key="k", holder=ELSEWHERE)
    with contextlib.suppress(LeaseLost), hold(place, "p", "k", clock=time_.clock) as lease:
        place.change(lambda pool: pool.take({pool.find(lease.claim.id): "silent"}, ELSEWHERE, 0))
        place.change(lambda pool: pool.ask("x", other, now=0))
        lease.renew()
        with pytest.raises(LeaseLost):
            lease.check()
    assert [c.id for c in place.read().held] == ["o"]


def test_rights_are_lost_with_any_of_their_leases(memory, time_):
    pool = PoolDocument("pools/y", MemoryRegister())
    with hold(memory, "p", "k", clock=time_.clock) as own, hold(pool, "p", "k", slots=2, clock=time_.clock) as slots:
        rights = HeldLeases((own, slots))
        rights.check()
        assert (rights.fence, rights.facts["slots"]) == (own.fence, {"pools/y": 2})
        free(pool, "k")
        slots.renew()
        with pytest.raises(LeaseLost):
            rights.check()


def test_release_by_hand_takes_a_key_or_one_claim(memory, time_):
    for name in "ab":
        foreign(memory, time_, name=name)
    assert [c.id for c in free(memory, "a")] == ["a"]
    assert free(memory, "nothing") == ()
    assert [t.why for t in memory.read().taken] == ["released manually"]
    assert [c.id for c in memory.read().held] == ["b"]


def test_it_is_renewed_beside_the_work(place):
    with hold(place, "p", "k", ttl=0.3) as lease:
        time.sleep(0.5)
        assert place.read().find(lease.claim.id).beat >= 2


def test_threads_of_one_process_wait_for_each_other(place):
    """Two at a time: each waits until another one holds its lease as well, and there are never three."""
    at_once, most, lock, pair = 0, 0, threading.Lock(), threading.Barrier(2, timeout=60)

    def work(n):
        nonlocal at_once, most
        with hold(place, "p", f"k{n}", limit=2):
            with lock:
                at_once += 1
                most = max(most, at_once)
            pair.wait()
            with lock:
                at_once -= 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, place.read().claims) == (2, ())


# --- processes ---------------------------------------------------------------------------------------------------


def test_a_process_that_lives_has_not_gone_and_one_that_ended_has():
    assert not has_gone(this_process())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = dataclasses.replace(this_process(), pid=child.pid, started=start_of(child.pid))
    assert not has_gone(holder)
    child.kill()
    while child.poll() is None:
        time.sleep(0.01)
    child.communicate()
    assert has_gone(holder)


def start_of(pid):
    from spark_flow.orchestration import leases

    return leases._start_of(pid)


def test_a_number_that_was_given_again_is_another_process():
    assert has_gone(dataclasses.replace(this_process(), started="1"))


@pytest.mark.parametrize("place", ["", "another machine"])
def test_of_another_machine_nothing_is_known(place):
    assert not has_gone(dataclasses.replace(this_process(), place=place, started="1"))


def _hold(path, pipe):
    with hold(PoolDocument("x", DeltaRegister(path)), "p", "k", limit=1, ttl=1.5) as lease:
        pipe.send(lease.claim.token)
        pipe.recv()
        try:
            lease.check()
        except LeaseLost as error:
            pipe.send(error.why)
        else:
            pipe.send("held")


@pytest.fixture
def holder(tmp_path):
    spawn = mp.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=_hold, args=(str(tmp_path / "r"), theirs))
    child.start()
    yield child, ours, PoolDocument("x", DeltaRegister(str(tmp_path / "r")))
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGCONT)
    child.kill()
    child.join()
    ours.close()
    theirs.close()


def test_a_killed_holder_of_this_machine_is_taken_over_at_once(holder):
    child, pipe, place = holder
    token = pipe.recv()
    child.kill()
    child.join()
    began = time.monotonic()
    with hold(place, "p", "k", limit=1, busy="exit") as lease:
        assert lease.claim.token > token
        assert "has ended" in lease.took_over[0]
    assert time.monotonic() - began < 1


def test_a_stopped_holder_is_taken_over_after_its_ttl_and_knows_it_when_it_wakes(holder):
    child, pipe, place = holder
    token = pipe.recv()
    os.kill(child.pid, signal.SIGSTOP)
    began = time.monotonic()
    with hold(place, "p", "k", limit=1) as lease:
        assert lease.claim.token > token
        assert time.monotonic() - began > 0.9
        os.kill(child.pid, signal.SIGCONT)
        pipe.send("go")
        assert "not renewed" in pipe.recv()
    assert place.read().claims == ()


def test_content_that_is_no_claims_is_told_as_damage(memory):
    memory.register.swap(0, {"claims": [{"id": "x"}]})
    with pytest.raises(StateDamaged):
        memory.read()


def test_all_pools_of_a_folder_are_listed(tmp_path):
    leases = Leases(str(tmp_path))
    assert leases.all() == []
    leases.of_pipeline("p")
    leases.of_pool("etl").change(
        lambda pool: pool.ask("x", Claim(id="a", pipeline="p", key="k", holder=ELSEWHERE), now=0)
    )
    assert [(place.name, len(place.read().claims)) for place in Leases(str(tmp_path)).all()] == [
        ("pipelines/p", 0),
        ("pools/etl", 1),
    ]
    assert leases.all()[0].read() == Pool()


# --- clocks that were ahead ----------------------------------------------------------------------------------------

AHEAD = 5 * 365 * 86_400


@pytest.mark.parametrize("busy", ["exit", "queue", "wait"])
def test_a_dead_claim_of_a_clock_that_was_ahead_is_taken_over_after_its_ttl(memory, time_, busy):
    time_.jump = AHEAD
    foreign(memory, time_, ttl=60)
    time_.jump = 0
    with hold(memory, "p", "k", limit=1, busy=busy, queue=0 if busy == "queue" else 100, clock=time_.clock) as lease:
        assert time_.passed <= 62
    assert len(lease.took_over) == 1


def test_a_live_claim_of_a_clock_that_is_ahead_is_not_taken(memory, time_):
    time_.jump = AHEAD
    foreign(memory, time_, ttl=60)
    ahead = time_.clock.now().timestamp()
    time_.jump = 0
    time_.plans.append((19, lambda: memory.change(lambda pool: pool.renew("f", ahead))))
    with pytest.raises(Busy), hold(memory, "p", "k", limit=1, busy="exit", clock=time_.clock):
        pass
    assert time_.passed == pytest.approx(20)


def test_a_pool_that_was_lost_after_a_clock_was_ahead_gives_tokens_that_the_ledger_takes(memory, time_, memory_ledger):
    event = Event(pipeline="p", key="k", generation=1, attempt=1, seq=1, node="n", kind="step", state="succeeded")
    time_.jump = AHEAD
    with hold(memory, "p", "k", clock=time_.clock) as lease:
        memory_ledger.append([event], lease.fence)
    time_.jump, anew = 0, PoolDocument("pools/x", MemoryRegister())
    above = memory_ledger.token(lease.fence.name)
    assert above == lease.claim.token
    with hold(anew, "p", "k", clock=time_.clock, above=above) as later:
        memory_ledger.append([event], later.fence)
        assert later.claim.token == anew.read().token == above + 1
