"""Who hears what."""

from __future__ import annotations

import asyncio

from darkroom.serve.events import Events


def test_who_waits_for_the_end_is_woken_by_no_step_and_has_no_preview_made() -> None:
    async def heard() -> list[str]:
        events = Events()
        listener = events.listening("a", kinds=("job",))
        assert not events.heard("preview", "a")
        for kind, job in (("progress", "a"), ("preview", "a"), ("job", "b"), ("job", "a")):
            events.tell(kind, job, {})  # type: ignore[arg-type]
        everything = events.listening()
        assert events.heard("preview", "a")
        events.drop(everything)
        await asyncio.sleep(0.01)
        return [event.kind for event in (listener.queue.get_nowait(),) if event is not None and listener.queue.empty()]

    assert asyncio.run(heard()) == ["job"]
