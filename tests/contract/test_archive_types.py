"""Rows of every type that the three databases have come back from the archive byte by byte as they were."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nightcrew import Policy
from nightcrew.archives.frame import Frame, packed, unpacked
from nightcrew.databases.returns import Returns

WEEK = timedelta(days=7)
# Among them are those that mean something to JSON, to COPY, or to what makes one of the other.
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30) | st.text(
    st.sampled_from("""\\\\\\"",[]nullu0041.\n\r\t\b\f\v\x01\x1f\x7f'{} N"""), max_size=30
)
_BYTES = st.binary(max_size=30)
# A row has dozens of values: to look for a smaller one that fails, too, takes longer than to read it.
_SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
_EXAMPLES = settings(phases=[Phase.generate], max_examples=40, deadline=None, suppress_health_check=_SLOW)


def _one(*literals):
    return st.sampled_from(literals)


def _times(first, last):
    return st.datetimes(first, last).map(lambda moment: moment.isoformat(sep=" "))


_MOMENTS = _times(datetime(1, 1, 1), datetime(9999, 12, 31))  # noqa: DTZ001 - the column says which zone

# Each type as it is declared, and literals of it as texts (NULL is always among the values).
POSTGRESQL = {
    "smallint": st.integers(-(2**15), 2**15 - 1).map(str),
    "integer": st.integers(-(2**31), 2**31 - 1).map(str),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False).map(str) | _one("NaN", "1e-1000", "-9.0e1000"),
    "numeric(20, 5)": st.decimals(-(10**14), 10**14, places=5).map(str),
    "real": st.floats(width=32).map(str),
    "double precision": st.floats().map(str),
    "money": st.decimals(-(10**10), 10**10, places=2).map(str),
    "text": _TEXT,
    "character varying(40)": _TEXT,
    "character(40)": _TEXT,
    "bpchar": _TEXT.map(lambda text: f"{text}  "),
    '"char"': _one("a", "", "é"),
    "name": _TEXT,
    "bytea": _BYTES.map(lambda data: f"\\x{data.hex()}"),
    "boolean": _one("true", "false"),
    "date": _one("2024-02-29", "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31"),
    "time": st.times().map(str),
    "time with time zone": st.times().map(lambda time: f"{time}+05:30"),
    "timestamp": _MOMENTS | _one("infinity", "0044-03-15 12:00:00 BC"),
    "timestamp with time zone": _MOMENTS.map(lambda moment: f"{moment}+00") | _one("-infinity"),
    "timestamp(3) with time zone": _MOMENTS.map(lambda moment: f"{moment}+03"),
    "interval": _one("1 year 2 mons -3 days +04:05:06.789", "-1 mon +1 day -00:00:00.000001", "178000000 years"),
    "uuid": st.uuids().map(str),
    "json": _one('{"b": 1,\n "a" : [1.50, 1e3], "b": null}', '"\\u2028 \\"x\\" \\\\"', "null", " 1 "),
    "jsonb": _one('{"b": 1, "a": [1.50, 100000000000000000000.1]}', '"é\\n"', "null", "{}"),
    "xml": _one("<a>b &amp; c</a>", "text only <b/>"),
    "inet": _one("192.168.0.1", "10.0.0.0/8", "::1", "fe80::1/64"),
    "cidr": _one("10.0.0.0/8", "2001:db8::/32"),
    "macaddr": _one("08:00:2b:01:02:03"),
    "macaddr8": _one("08:00:2b:01:02:03:04:05"),
    "bit(5)": _one("10101", "00000"),
    "bit varying": _one("", "1", "0101010101"),
    "point": _one("(0.1,-2e300)", "(NaN,Infinity)"),
    "line": _one("{1,-2,0.3}"),
    "lseg": _one("[(1,2),(3,4.5)]"),
    "box": _one("(3,4),(1,2)"),
    "path": _one("((0,0),(1,1),(2,0))", "[(0,0),(0.1,0.2)]"),
    "polygon": _one("((0,0),(1,1),(2,0))"),
    "circle": _one("<(0.1,2),3.3>"),
    "int4range": _one("[1,5)", "empty", "(,)"),
    "tstzrange": _one('["2024-01-01 00:00:00.5+00",)', "empty"),
    "nummultirange": _one("{[1.5,2],(3,4)}", "{}"),
    "tsvector": _one("'a b':1A 'c''d':2,3"),
    "tsquery": _one("'a' & !'b' | 'c':*"),
    "integer[]": _one("{1,NULL,-3}", "{}", "[0:1]={7,8}", "{{1,2},{3,4}}"),
    "text[]": _one('{"a,b","c\\"d",NULL,"NULL",""," é\\\\"}'),
    "timestamp with time zone[]": _one('{"2024-02-29 23:59:59.999999+00",infinity}'),
    "jsonb[]": _one('{"{\\"a\\": [1, 2]}",NULL}'),
    "bytea[]": _one('{"\\\\x00ff",NULL}'),
    "mood": _one("happy", "so-so, or 'less'", ""),
    "mood[]": _one("{happy,NULL}"),
    "positive": _one("1", "99"),
    "pair": _one('(1,"a ""b"", c\n")', "(,)"),
    "oid": _one("0", "4294967295"),
    "pg_lsn": _one("16/B374D848"),
    "bit(1)[]": _one("{1,0}"),
}
MYSQL = {
    "tinyint": _one("-128", "127", "0"),
    "tinyint(1)": _one("0", "1", "5"),
    "smallint": _one("-32768", "32767"),
    "mediumint unsigned": _one("0", "16777215"),
    "int": st.integers(-(2**31), 2**31 - 1).map(str),
    "int(8) unsigned zerofill": _one("0", "42", "4294967295"),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "bigint unsigned": st.integers(0, 2**64 - 1).map(str),
    "decimal(65,30)": st.decimals(-(10**30), 10**30, places=30).map(str),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False)
    .filter(lambda x: x == 0 or abs(x) > 1e-37)
    .map(str),
    "double": st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x == 0 or abs(x) > 1e-307).map(str),
    "bit(1)": _one(b"\x00", b"\x01"),
    "bit(64)": st.binary(min_size=8, max_size=8),
    "char(40)": _TEXT,
    "varchar(40)": _TEXT,
    "varchar(60) character set latin1": st.text(st.characters(codec="latin-1", exclude_characters="\0"), max_size=30),
    "text": _TEXT,
    "longtext": _TEXT,
    "binary(30)": _BYTES,
    "varbinary(30)": _BYTES,
    "blob": _BYTES,
    "longblob": _BYTES,
    "date": _one("2024-02-29", "1000-01-01", "9999-12-31", "0000-00-00"),
    "datetime": _one("2024-02-29 23:59:59", "0000-00-00 00:00:00"),
    "datetime(6)": _times(datetime(1000, 1, 1), datetime(9999, 12, 31)),  # noqa: DTZ001
    "timestamp(6) null": _times(datetime(1971, 1, 1), datetime(2037, 12, 31)),  # noqa: DTZ001
    "time": _one("-838:59:59", "00:00:00", "838:59:59"),
    "time(6)": _one("-00:00:00.000001", "12:34:56.789012"),
    "year": _one("1901", "2155", "0000"),
    "json": _one('{"b": 1, "a": [1.50, "é\\n"]}', "null", "[]"),
    "enum('happy','so, or \\'less\\'')": _one("happy", "so, or 'less'"),
    "set('a','b','c')": _one("", "a", "a,c"),
    "point": st.binary(min_size=2, max_size=2).map(
        lambda data: b"\0\0\0\0\1\1\0\0\0" + b"\0\0\0\0\0\0" + data[:1] + b"\x40" * 9
    ),
}
MARIADB = {"uuid": st.uuids().map(str), "inet6": _one("::1", "2001:db8::ff00:42:8329"), "inet4": _one("10.0.0.1")}
SQLITE = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | _TEXT | _BYTES


class Shuttle:
    """A table whose rows go to the archive and come back."""

    def __init__(self, yard, columns, computed="", reading=None):
        self.yard, self.columns = yard, columns
        declared = ", ".join(f"c{place} {kind}" for place, kind in enumerate(columns))
        yard.run(f"CREATE TABLE things (id {{number}} PRIMARY KEY, left_at {{time}} NOT NULL, {declared}{computed})")
        yard.run("CREATE INDEX things_left ON things (left_at)")
        self.reading, self.returns = reading, Returns(yard.link)
        self.selection = yard.select(Policy("things", "left_at", archive=WEEK))

    def fly(self, rows, marks):
        """Let rows leave and come back, and compare what the database says they are."""
        with self.yard.link.transaction() as connection:
            connection.exec_driver_sql("DELETE FROM things")
            for number, row in enumerate(rows):
                names = ", ".join(f"c{place}" for place in range(len(row)))
                mark = "?" if self.yard.kind == "sqlite" else "%s"
                statement = (
                    f"INSERT INTO things (id, left_at, {names}) VALUES ({number}, '2020-01-01 00:00:00', {marks(mark)})"
                )
                connection.exec_driver_sql(statement, tuple(row))
        before, copies = self.read(), []
        for taken in self.yard.batches(self.selection, 50):
            copies += taken.copies
        assert not self.read()
        frame = unpacked(packed(Frame("run", "job", tuple(copies))))
        with self.returns.restoring() as connection:
            for copy in frame.copies:
                assert not self.returns.facts(connection, copy, range(len(copy.rows)), (), held=True).conflicts
                self.returns.put_back(connection, [copy])
        assert self.read() == before
        with self.returns.looking() as connection:  # and each is known again as what it was
            for copy in frame.copies:
                same = self.returns.facts(connection, copy, range(len(copy.rows)), (), held=False).same
                assert len(same) == len(copy.rows)

    def read(self):
        with self.yard.link.transaction(writes=False) as connection:
            return connection.exec_driver_sql(self.reading).all()


def test_every_type_of_postgresql(postgresql_yard):
    yard = postgresql_yard
    yard.run(
        "CREATE TYPE mood AS ENUM ('happy', 'so-so, or ''less''', '')",
        "CREATE DOMAIN positive AS integer CHECK (value > 0)",
        "CREATE TYPE pair AS (number integer, word text)",
    )
    computed = ", twice integer GENERATED ALWAYS AS (id * 2) STORED, counted integer GENERATED ALWAYS AS IDENTITY"
    reading = "SELECT encode(record_send(t), 'hex') FROM things AS t ORDER BY id"
    shuttle = Shuttle(yard, POSTGRESQL, computed, reading)
    kinds = [*POSTGRESQL]

    @_EXAMPLES
    @given(st.lists(st.tuples(*(st.none() | each for each in POSTGRESQL.values())), min_size=1, max_size=4))
    def flies(rows):
        shuttle.fly(rows, lambda mark: ", ".join(f"CAST(CAST({mark} AS text) AS {kind})" for kind in kinds))

    flies()


def test_every_type_of_mysql(mysql_yard):
    with mysql_yard.link.transaction() as connection:
        kinds = MYSQL | (MARIADB if connection.dialect.is_mariadb else {})

    def exact(place, kind):
        if kind.startswith(("float", "double")):
            return f"c{place} + 0e0"
        return (
            f"HEX(CONVERT(c{place} USING utf8mb4))" if kind.startswith(("date", "time", "year")) else f"HEX(c{place})"
        )

    columns = ", ".join(exact(place, kind) for place, kind in enumerate(kinds))
    texts = ", ".join(
        f"CAST(c{place} AS CHAR)" for place, kind in enumerate(kinds) if not kind.startswith(("bi", "point"))
    )
    computed = ", twice INT AS (id * 2) VIRTUAL, thrice INT AS (id * 3) STORED"
    reading = f"SELECT id, left_at, twice, thrice, {columns}, {texts} FROM things ORDER BY id"
    shuttle = Shuttle(mysql_yard, kinds, computed, reading)

    @_EXAMPLES
    @given(st.lists(st.tuples(*(st.none() | each for each in kinds.values())), min_size=1, max_size=4))
    def flies(rows):
        with mysql_yard.link.transaction() as connection:
            connection.exec_driver_sql("SET SESSION sql_mode = 'ANSI_QUOTES,ALLOW_INVALID_DATES'")
        shuttle.fly(rows, lambda mark: ", ".join([mark] * len(kinds)))

    flies()


def test_every_kind_of_value_in_every_column_of_sqlite(sqlite_yard):
    columns = ["INTEGER", "REAL", "TEXT", "BLOB", "NUMERIC", "", "DATETIME", "BOOLEAN"]
    kinds = ", ".join(f"typeof(c{place}), quote(c{place})" for place in range(len(columns)))
    computed = ", twice INTEGER AS (id * 2) VIRTUAL, thrice INTEGER AS (id * 3) STORED"
    shuttle = Shuttle(sqlite_yard, columns, computed, f"SELECT id, twice, thrice, {kinds} FROM things ORDER BY id")

    @_EXAMPLES
    @given(st.lists(st.tuples(*[SQLITE] * len(columns)), min_size=1, max_size=4))
    def flies(rows):
        shuttle.fly(rows, lambda mark: ", ".join([mark] * len(columns)))

    flies()


@pytest.mark.parametrize("rule", ["GENERATED ALWAYS AS IDENTITY", "GENERATED BY DEFAULT AS IDENTITY", "serial"])
def test_sequences_go_on_behind_what_came_back(postgresql_yard, rule):
    yard = postgresql_yard
    kind = "serial" if rule == "serial" else f"integer {rule}"
    yard.run(f"CREATE TABLE things (id {kind} PRIMARY KEY, left_at timestamptz)", "CREATE INDEX ON things (left_at)")
    yard.run("INSERT INTO things (left_at) SELECT '2020-01-01' FROM generate_series(1, 5)")
    copies = [
        copy
        for taken in yard.batches(yard.select(Policy("things", "left_at", archive=WEEK)), 50)
        for copy in taken.copies
    ]
    yard.run("ALTER SEQUENCE things_id_seq RESTART")
    returns = Returns(yard.link)
    with returns.restoring() as connection:
        returns.put_back(connection, copies)
    yard.run("INSERT INTO things (left_at) VALUES (NULL)")
    assert yard.ids("things") == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("yard_of", ["mysql_yard", "sqlite_yard"])
def test_what_counts_up_goes_on_behind_what_came_back(yard_of, request):
    yard = request.getfixturevalue(yard_of)
    counted = "INT AUTO_INCREMENT PRIMARY KEY" if yard.kind == "mysql" else "INTEGER PRIMARY KEY AUTOINCREMENT"
    yard.run(f"CREATE TABLE things (id {counted}, left_at {{time}})", "CREATE INDEX things_left ON things (left_at)")
    yard.fill("things", *[{"left_at": timedelta(days=900)}] * 5)
    selection = yard.select(Policy("things", "left_at", archive=WEEK))
    copies = [copy for taken in yard.batches(selection, 50) for copy in taken.copies]
    returns = Returns(yard.link)
    with returns.restoring() as connection:
        returns.put_back(connection, copies)
    yard.fill("things", {"left_at": timedelta(days=1)})
    assert yard.ids("things") == [1, 2, 3, 4, 5, 6]


def test_a_chain_and_a_ring_of_references_come_back(yard):
    """Rows that refer to each other round and round, and a long chain of answers, in whatever order they left."""
    number, time = "{number}", "{time}"
    yard.run(
        f"CREATE TABLE users (id {number} PRIMARY KEY, left_at {time} NOT NULL)",
        "CREATE INDEX users_left ON users (left_at)",
        (
            f"CREATE TABLE answers (id {number} PRIMARY KEY, user_id {number} NOT NULL, above {number},"
            " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,"
            " FOREIGN KEY (above) REFERENCES answers (id) ON DELETE CASCADE)"
        ),
        "CREATE INDEX answers_above ON answers (above)",
        "CREATE INDEX answers_user ON answers (user_id)",
    )
    yard.fill("users", {"id": 1, "left_at": timedelta(days=900)})
    for each in range(1, 30):
        yard.fill("answers", {"id": each, "user_id": 1, "above": each - 1 or None})
    yard.run("UPDATE answers SET above = 10 WHERE id = 1")
    rule = Policy("users", "left_at", archive=WEEK, erase=True)
    copies = [copy for taken in yard.batches(yard.select(rule), 50) for copy in taken.copies]
    assert not yard.ids("answers")
    returns = Returns(yard.link)
    with returns.restoring() as connection:
        returns.put_back(connection, copies)
    with yard.link.transaction(writes=False) as connection:
        above = dict(map(tuple, connection.execute(sa.text("SELECT id, above FROM answers")).all()))
    assert above == {each: each - 1 or 10 for each in range(1, 30)}


def test_a_row_of_megabytes_comes_back(server_yard):
    yard, kind = server_yard, {"postgresql": "bytea", "mysql": "LONGBLOB"}
    shuttle = Shuttle(yard, [kind[yard.kind]], reading="SELECT id, c0 FROM things ORDER BY id")
    data = bytes(range(256)) * (8 << 12)  # so that every byte is in it, 8 MiB long
    shuttle.fly([(data[: 7 << 20],), (data,)] if yard.kind == "postgresql" else [(data[: 6 << 20],)], lambda mark: mark)
