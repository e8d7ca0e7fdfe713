"""What a job does, in words."""

from functools import partial

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.deed import deed


def rebuild(index, run):
    """Rebuild the search index.

    It takes a while.
    """


def test_a_function_is_named_and_says_what_it_does():
    job = Job("rebuild", every("1 day"), function=partial(rebuild, "people"))
    assert deed(job) == f"calls {__name__}.rebuild: Rebuild the search index"


def test_one_that_says_nothing_is_named_all_the_same():
    assert deed(Job("rebuild", every("1 day"), function=lambda run: 0)).startswith(f"calls {__name__}.")


def test_a_job_of_nightcrews_own_says_what_it_does_and_not_where_that_is_written(tmp_path):
    blobs = {"uploads": {"url": tmp_path.as_uri(), "columns": ["users.avatar"], "orphans": "report"}}
    crew = Nightcrew("sqlite://", settings=Settings(), blobs=blobs)
    assert {deed(job) for job in crew.jobs.values()} == {
        "settles what is owed to the stores: removes each key that no row holds any more",
        "looks for blobs that no row names, and for rows whose blob is missing",
    }
