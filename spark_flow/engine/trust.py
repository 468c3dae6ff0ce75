"""Whether recorded results may be used: a target that remembers more than the ledger proves that the ledger is old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_flow.errors import LedgerOld, old_ledger
from spark_flow.storage import checkpoints, targets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spark_flow.engine.run import Run


class Trust:
    """The trust of one attempt in its ledger.

    Attributes:
        lost: What every later call raises, once a recorded result that may be old was used.
    """

    def __init__(self, run: Run) -> None:
        self.lost: LedgerOld | None = None
        self._run = run
        self._used = False

    def use(self) -> None:
        """Note that this attempt uses a recorded result."""
        self._used = True

    def check(self) -> None:
        """Check that nothing that was used has proved to be old.

        Raises:
            LedgerOld: It has.
        """
        if self.lost is not None:
            raise self.lost

    def ask_targets(self) -> None:
        """Before any result is reused, compare what the targets remember with the ledger."""
        run = self._run
        if run.history.reuses:
            self.doubt(dict(targets.newer(run.pipeline, run.key, run.history.written())))

    def doubt(self, remembered: Mapping[str, int]) -> str:
        """Why no recorded result is used any more: the targets' revisions prove that the ledger is old; else empty.

        The attempt becomes the first one of the next generation, which recomputes the key from its sources.

        Args:
            remembered: The targets' last revisions, by node.

        Raises:
            LedgerOld: This attempt has used a recorded result already, or is a partial backfill.
        """
        run, history = self._run, self._run.history
        with run.lock:
            if not history.reuses or not history.less_than(remembered):
                return ""
            history.refresh()  # another run may have recorded it meanwhile
            newer = history.less_than(remembered)
            if not newer:
                return ""
            node, there = next(iter(newer.items()))
            known = history.known(node)
            if run.mode.redo is not None:
                raise LedgerOld(node, known, there, "A partial backfill builds on recorded results: use --rerun.")
            words = old_ledger(node, known, there)
            self._start_over(words, newer)
            if self._used and not run.plan:
                self.lost = LedgerOld(node, known, there, "Run the same command again: it recomputes the key.")
                run.fall_short(self.lost)
                raise self.lost
            return words

    def _start_over(self, words: str, remembered: Mapping[str, int]) -> None:
        run, history = self._run, self._run.history
        opened = history.begun_with is not None
        history.start_over(words, remembered)
        if opened and not run.plan:
            checkpoints.mark_begun(run.state, run.pipeline, run.key, run.generation)
            history.begin(history.begun_with or {})
        run.warn(words)
        for outcome in [each for each in run.outcomes if each.state == "would reuse"]:
            run.plan_to(outcome.node, outcome.kind, words, outcome.fingerprint)
