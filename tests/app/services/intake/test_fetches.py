from datetime import UTC, datetime, timedelta
from typing import Any

from app.db.models import Upload
from app.domain.fetching import Known
from app.services import tasks
from app.services.intake import fetches


class Anything:
    """Has every file."""

    def check(self, url: str) -> str:
        return url

    def fetch(self, *_: Any) -> Known:
        raise NotImplementedError


def create(world: Any, url: str) -> tuple[Any, str]:
    world.context.sources["http"] = Anything()
    task, _ = tasks.create_task(world.context, "constant", inputs={"file": url})
    return task.id, task.uploads[0].id


def test_of_many_who_want_a_file_one_has_it_until_the_claim_runs_out(any_world: Any, together: Any) -> None:
    context = any_world.context
    _, upload_id = create(any_world, "http://a.test/a")
    claims = together([lambda: fetches.claim(context, upload_id)] * 8)
    (first,) = [claim for claim in claims if claim is not None]
    assert fetches.hold(context, first, Known(5, 9, '"1"', "a.laz"))
    with context.unit_of_work() as work:
        upload = work.session.get(Upload, upload_id)
        upload.due_at = datetime.now(UTC) - timedelta(seconds=1)
        work.commit()
    second = fetches.claim(context, upload_id)
    assert second is not None
    assert second.known == Known(5, 9, '"1"', "a.laz")
    assert not fetches.hold(context, first, Known(7))
    assert fetches.hold(context, second, Known(7))


def test_the_longest_due_comes_first_and_who_has_enough_is_passed_over(any_world: Any) -> None:
    context = any_world.context
    names = ["http://a.test/1", "http://b.test/1", "http://a.test/2"]
    ids = [create(any_world, url)[1] for url in names]
    later = datetime.now(UTC) + timedelta(seconds=9)

    def found(**conditions: Any) -> list[str]:
        return [due.upload_id for due in fetches.due(context, later, limit=9, **conditions)]

    assert found() == ids
    assert found(but_not=["a.test"]) == ids[1:2]
    assert found(under_way=ids[:2]) == ids[2:]
    assert found(not_for=[""]) == []
    assert fetches.wanted(context, [*ids, "x"]) == set(ids)
    assert fetches.wanted(context, []) == set()
