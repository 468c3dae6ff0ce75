"""The rules by which claims are served, as values; and as a machine, over both registers, against a simple model."""

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from spark_flow.errors import Busy, InvalidArgument, OtherLimit, QueueFull, UnknownPool
from spark_flow.ledger import DeltaRegister, MemoryRegister
from spark_flow.orchestration.claims import KEPT, Claim, Holder, Pool, check_slots
from spark_flow.orchestration.leases import PoolDocument

ME = Holder(host="h", pid=1)
NOW = 1_000_000.0


def claim(name, key=None, **fields):
    return Claim(**{"id": name, "pipeline": "p", "key": key or name, "holder": ME, **fields})


def asked(*claims, pool=None, **how):
    pool = pool or Pool()
    for each in claims:
        pool = pool.ask("pools/x", each, now=NOW, **how)
    return pool


def ids(claims):
    return [each.id for each in claims]


def test_slots_are_given_in_the_order_of_arrival():
    pool = asked(*[claim(name, limit=2) for name in "abcd"])
    assert (ids(pool.held), ids(pool.waiting)) == (["a", "b"], ["c", "d"])
    assert ids(pool.release("b", NOW).held) == ["a", "c"]


def test_each_lease_has_a_higher_token_than_all_before_it():
    pool = asked(claim("a", limit=1), claim("b", limit=1))
    first = pool.find("a").token
    pool = pool.release("a", NOW)
    assert pool.find("b").token > first


def test_a_pool_that_was_lost_gives_no_old_tokens_again():
    lost = asked(*[claim(str(n)) for n in range(50)])
    anew = Pool().ask("x", claim("z"), now=NOW + 1)
    assert anew.find("z").token > max(each.token for each in lost.held)


def test_one_that_wants_many_slots_is_not_overtaken_by_smaller_ones():
    pool = asked(claim("a", limit=3, slots=2), claim("big", limit=3, slots=3), claim("small", limit=3))
    assert ids(pool.held) == ["a"]
    assert ids(pool.release("a", NOW).held) == ["big"]


def test_no_two_of_one_key_are_held_and_they_hold_up_nobody_else():
    pool = asked(claim("a", "k"), claim("b", "k"), claim("c", "other"))
    assert (ids(pool.held), ids(pool.waiting)) == (["a", "c"], ["b"])
    assert ids(pool.release("a", NOW).held) == ["b", "c"]


def test_the_same_key_of_another_pipeline_is_another_unit():
    pool = asked(claim("a", "k"), claim("b", "k", pipeline="q"))
    assert ids(pool.held) == ["a", "b"]


def test_who_has_no_limit_takes_the_others_one():
    pool = asked(claim("a", limit=1), claim("b"))
    assert ids(pool.waiting) == ["b"]
    assert ids(asked(claim("b"), claim("a", limit=1)).held) == ["b"]


def test_exit_does_not_wait_and_leaves_nothing_behind():
    pool = asked(claim("a", limit=1))
    with pytest.raises(Busy) as refused:
        asked(claim("b", limit=1), pool=pool, busy="exit")
    assert refused.value.holders == (str(pool.find("a")),)


@pytest.mark.parametrize(("queue", "refused"), [(0, 1), (1, 2), (100, 101)])
def test_a_queue_takes_so_many_and_refuses_one_more(queue, refused):
    pool = asked(claim("held", limit=1))
    for n in range(refused - 1):
        pool = asked(claim(str(n), limit=1), pool=pool, busy="queue", queue=queue)
    with pytest.raises(QueueFull) as full:
        asked(claim("more", limit=1), pool=pool, busy="queue", queue=queue)
    assert (full.value.waiting, full.value.most) == (queue, queue)


@pytest.mark.parametrize("first", ["held", "waiting"])
def test_another_limit_is_refused_while_somebody_runs_or_waits(first):
    pool = asked(claim("a", limit=2), *([claim("b", limit=2, slots=2)] if first == "waiting" else []))
    with pytest.raises(OtherLimit) as refused:
        asked(claim("c", limit=3), pool=pool)
    assert (refused.value.found, refused.value.wanted) == (2, 3)
    for name in "ab":
        pool = pool.release(name, NOW)
    assert ids(asked(claim("c", limit=3), pool=pool).held) == ["c"]


def test_a_claim_that_wants_more_than_there_is_is_refused():
    with pytest.raises(UnknownPool):
        asked(claim("a", limit=2, slots=3))


def test_who_is_taken_is_remembered_and_who_waits_is_served():
    pool = asked(claim("a", limit=1), claim("b", limit=1))
    pool = pool.take({pool.find("a"): "gone"}, ME, NOW + 5)
    assert (ids(pool.held), [(t.claim.id, t.why, t.at) for t in pool.taken]) == (["b"], [("a", "gone", NOW + 5)])


def test_who_was_renewed_since_is_not_taken():
    pool = asked(claim("a", limit=1))
    seen = pool.find("a")
    renewed = pool.renew("a", NOW + 1)
    assert renewed.take({seen: "silent"}, ME, NOW + 2) == renewed


def test_who_became_a_lease_since_is_not_taken():
    pool = asked(claim("a", limit=1), claim("b", limit=1))
    seen = pool.find("b")
    served = pool.release("a", NOW)
    assert served.take({seen: "silent"}, ME, NOW) == served


def test_takeovers_are_remembered_up_to_a_number():
    pool = Pool()
    for n in range(KEPT + 5):
        pool = asked(claim(str(n)), pool=pool)
        pool = pool.take({pool.find(str(n)): "gone"}, ME, NOW)
    assert [each.claim.id for each in pool.taken] == [str(n) for n in range(5, KEPT + 5)]


def test_what_is_not_there_is_renewed_released_and_taken_without_a_change():
    pool = asked(claim("a"))
    assert pool.renew("x", NOW) == pool.release("x", NOW) == pool.take({claim("x"): ""}, ME, NOW) == pool


def test_a_pool_comes_back_from_its_document():
    pool = asked(claim("a", limit=1), claim("b", limit=1)).renew("a", NOW + 1)
    pool = pool.take({pool.find("a"): "gone"}, ME, NOW)
    register = MemoryRegister()
    register.swap(0, pool.as_content())
    assert PoolDocument("x", register).read() == pool


@pytest.mark.parametrize(
    ("pools", "pool", "slots", "error"),
    [
        ({"a": 0}, "a", 1, InvalidArgument),
        ({"a": 1, "b": -3}, "a", 1, InvalidArgument),
        ({"a": 1}, "a", 0, InvalidArgument),
        ({"a": 1}, "b", 1, UnknownPool),
        ({}, "b", 1, UnknownPool),
        ({"a": 2}, "a", 3, UnknownPool),
    ],
)
def test_slots_that_cannot_be_had_are_refused(pools, pool, slots, error):
    with pytest.raises(error):
        check_slots(pools, pool, slots)


# --- the machine: whatever is done, in whatever order, by two processes that see one register --------------------

LIMIT = 3


class Model:
    """What must be true, said as simply as it can be: a list, and who is served from its front."""

    def __init__(self):
        self.claims = []  # [id, key, slots, held]

    def serve(self):
        for each in self.claims:
            used = sum(c[2] for c in self.claims if c[3])
            if each[3] or any(c[3] and c[1] == each[1] for c in self.claims):
                continue
            if used + each[2] > LIMIT:
                return
            each[3] = True

    def end(self, name):
        self.claims = [each for each in self.claims if each[0] != name]
        self.serve()


class Claims(RuleBasedStateMachine):
    """Claim, renew, expire, release and crash; each step through one of two places over the same register."""

    registers = MemoryRegister
    names = Bundle("names")

    @initialize()
    def begin(self):
        made = self.registers()
        self.places = [PoolDocument("x", register) for register in (made if isinstance(made, tuple) else (made, made))]
        self.model, self.count, self.tokens, self.now = Model(), 0, [], NOW
        self.stopped = {}  # what a process that was stopped remembers of its claim

    @rule(target=names, by=st.integers(0, 1), key=st.sampled_from("klm"), slots=st.integers(1, LIMIT))
    def ask(self, by, key, slots):
        self.count += 1
        name = f"c{self.count}"
        wish = claim(name, key, slots=slots, limit=LIMIT)
        self.places[by].change(lambda pool: pool.ask("x", wish, now=self.now))
        self.model.claims.append([name, key, slots, False])
        self.model.serve()
        return name

    @rule(by=st.integers(0, 1), name=names, seconds=st.floats(0, 100))
    def renew(self, by, name, seconds):
        self.now += seconds
        before = self.places[1 - by].read().find(name)
        after = self.places[by].change(lambda pool: pool.renew(name, self.now)).find(name)
        assert (before is None) == (after is None)
        if before is not None:
            assert dataclasses.replace(before, beat=before.beat + 1, expires=self.now + before.ttl) == after

    @rule(by=st.integers(0, 1), name=consumes(names))
    def release(self, by, name):
        self.places[by].change(lambda pool: pool.release(name, self.now))
        self.model.end(name)

    @rule(by=st.integers(0, 1), name=names)
    def expire(self, by, name):
        """Its holder lives on, stopped: it wakes up in ``wake``."""
        seen = self.places[by].read().find(name)
        if seen is not None:
            self.places[1 - by].change(lambda pool: pool.take({seen: "silent"}, ME, self.now))
            self.stopped[name] = seen
            self.model.end(name)

    @rule(by=st.integers(0, 1), name=consumes(names))
    def crash(self, by, name):
        seen = self.places[by].read().find(name)
        if seen is not None:
            self.places[by].change(lambda pool: pool.take({seen: "gone"}, ME, self.now))
            self.model.end(name)

    @rule(by=st.integers(0, 1), late=st.booleans())
    def wake(self, by, late):
        """Who was taken over changes nothing any more, neither by a renewal nor by its release."""
        for name, seen in self.stopped.items():
            before = self.places[by].read()
            how = (lambda pool, n=name: pool.renew(n, self.now)) if late else (lambda pool, n=name: pool.release(n, 0))
            assert self.places[1 - by].change(how) == before
            assert before.take({seen: "again"}, ME, 0) == before

    @invariant()
    def as_the_model_says(self):
        if not hasattr(self, "places"):
            return
        pools = [place.read() for place in self.places]
        assert pools[0] == pools[1]
        assert [[c.id, c.key, c.slots, c.token > 0] for c in pools[0].claims] == self.model.claims
        assert pools[0].used <= LIMIT
        units = [each.unit for each in pools[0].held]
        assert len(units) == len(set(units))
        known = dict(self.tokens)
        for each in pools[0].held:
            if each.id not in known:
                assert all(each.token > token for token in known.values())
        for each in sorted(pools[0].held, key=lambda c: c.token):
            if each.id not in known:
                self.tokens.append((each.id, each.token))


TestClaims = Claims.TestCase
TestClaims.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    count = iter(range(10**6))
    return lambda: str(tmp_path_factory.getbasetemp() / f"claims{next(count)}")


def test_claims_over_delta(folders):
    """The same machine, each place with a table of its own over one log."""

    class OverDelta(Claims):
        @staticmethod
        def registers():
            path = folders()
            return DeltaRegister(path), DeltaRegister(path)

    case = OverDelta.TestCase()
    case.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
    case.runTest()
