"""Reports, laws, conventions and rates that are wrong: one line that names file and place, and never a belief."""

import contextlib
import faulthandler
import json
from collections.abc import Callable, Collection, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import empty, nn

from graphflops import Law, Report, UsageError, analyze
from graphflops.analysis.rates import Rate
from graphflops.analysis.scaling.atoms import Atom
from graphflops.analysis.scaling.law_json import dumps
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.quantities import Quantity
from graphflops.analysis.scaling.ranges import SizeRange
from graphflops.cli import main
from graphflops.core.costs import Work
from graphflops.core.entries import PHASES, Entry, Formula, PhaseWork, Unknown
from graphflops.report.conventions import CONVENTIONS, STANDARD, Convention, convention_named
from graphflops.report.json_format import as_dict
from graphflops.report.parts import Costs, ModelInfo, Notes, Versions

WRONG: dict[str, Any] = {
    "null": None,
    "true": True,
    "minus": -5,
    "a half": 2.5,
    "a whole float": 5.0,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "long": 10**200,
    "text": "x",
    "a list": [[]],
    "a table": {"": {}},
}
BOMBS = {
    "lists": "[" * 200_000,
    "closed lists": "[" * 50_000 + "]" * 50_000,
    "tables": '{"a":' * 100_000,
    "empty": "",
    "null": "null",
    "a number": "17",
    "text": '"text"',
    "a list": "[]",
    "two documents": "{} {}",
    "a comment": "{} // no",
    "single quotes": "{'schema': 'x'}",
    "trailing comma": '{"schema": "x",}',
    "a schema twice": '{"schema": "x", "schema": "y"}',
    "a schema of the future": '{"schema": "graphflops.report/99"}',
    "a schema that is a list": '{"schema": []}',
    "a number of 5,000 digits": '{"schema": ' + "9" * 5_000 + "}",
    "a huge exponent": '{"schema": 1e999999999}',
}
BYTES = {
    "binary": bytes(range(256)),
    "UTF-16": '{"schema": "graphflops.report/2"}'.encode("utf-16"),
    "Latin-1": '{"schema": "é"}'.encode("latin-1"),
    "zeros": bytes(1000),
}


@pytest.fixture(autouse=True)
def nothing_hangs() -> Iterator[None]:
    """Arithmetic in C hears no signals: the process ends itself."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def whole_report() -> dict[str, Any]:
    """A report with something in every field."""
    work = {"forward": Work(2, 3), "dgrad": Work(1)}
    formula = Formula("macs = x₀", {"x": "macs = x₀"}, {"x₀": 2}, {"a": Formula("0", {}, {})}, "x₀", "x₀")
    call = Entry(
        *("call", "blocks.0", "mm", "aten.mm", "a", "model.py:3", work, "mm", "a product", formula, 6, 24),
        {"x": (2, 3)}, ((2, 3),), ("training",), {"forward": Work(1)}, "float32", "1/2",
        {"full": PhaseWork(work, {}), "lower": PhaseWork({}, {}), "upper": PhaseWork(work, {"forward": Work(1)})},
    )  # fmt: skip
    update = Entry(
        *("update", "head", "head.weight", "optimizer.sgd", "", "", {"optimizer": Work(0, 4)}, "sgd", "a step"),
        Formula("elementwise = 4", {}, {}),
    )
    unknown = Unknown("f", "my.f", "head", "model.py:4", ("float32(2)",), ("float32(2)",), "no rule", 2, 8)
    versions = Versions("0.1.0", "2.8.0", {"rules/linear.py": "0123456789abcdef"})
    modules = {"": "Net", "blocks": "ModuleList", "blocks.0": "Block", "head": "Linear"}
    report = Report(
        ModelInfo(
            *("Net", {"x": "float32(2)"}, {"head.weight": 4}, frozenset(["head.weight"])),
            *(modules, frozenset(modules), "sgd", {"head": "float32[2]"}),
        ),
        Costs((call, update), (unknown,), {"blocks.0": Rate("1/2")}, {"blocks.0": Fraction(1, 2)}, versions),
        CONVENTIONS["fvcore"],
        Notes(("a warning",), ("run",), ("assumed",)),
    )
    data: dict[str, Any] = json.loads(json.dumps(as_dict(report)))
    return data


def whole_law() -> dict[str, Any]:
    """A law with something in every field."""
    polynomial = Polynomial({((Atom("N"), 2), (Atom("N", 2, 1), 1)): Fraction(1), (): Fraction(3)})
    law = Law(
        *("Net", {"N": SizeRange(2, 4, 64)}, {Quantity("a", "a", "mm", "forward", "macs"): polynomial}, STANDARD),
        *(5, ({"N": 8},), ("N = 3: odd",), ("my.f",)),
    )
    data: dict[str, Any] = json.loads(dumps(law))
    return data


Keys = tuple[Any, ...]
ALIKE = {*PHASES, "backward", "total", *("blocks", "head"), *("least", "most", "full"), "zero", "unknown", "counted"}


def leaves(data: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every place in a file, and what is there."""
    if keys and keys != ("schema",):
        yield keys, data
    for key, inner in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from leaves(inner, (*keys, key))


def named(keys: Keys) -> str:
    """The place as a message names it."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" if key else '[""]' for key in keys)
    return text.removeprefix(".")


def changed(data: Any, keys: Keys, value: Any) -> Any:
    """The file with another value in one place."""
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return data


def places(make_data: Callable[[], dict[str, Any]]) -> list[Any]:
    """One place of each kind in a file: all phases are alike, and all members of a list."""
    by_kind: dict[Keys, tuple[Keys, Any]] = {}
    for keys, value in leaves(make_data()):
        by_kind.setdefault(tuple(0 if isinstance(key, int) or key in ALIKE else key for key in keys), (keys, value))
    return [pytest.param(keys, value, id=named(keys)) for keys, value in by_kind.values()]


def wrongs(value: Any, right: Collection[str]) -> Iterator[Any]:
    """Values that cannot stand where this one does: of another type, or out of range."""
    for name, wrong in WRONG.items():
        ranges = name in ("minus", "long", "a list", "a table")
        if name not in right and wrong != value and (ranges or type(wrong) is not type(value)):
            yield wrong


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The message of the command about a file: one line, with exit code 1, and nothing else printed or written."""

    def message(content: Any, name: str = "given.json", *command: str) -> str:
        file = tmp_path / name
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content))
        assert main([*(command or ("show",)), str(file)]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        assert len(printed.err) < 1000
        assert name in printed.err
        assert [file.name for file in tmp_path.iterdir()] == [name]
        return printed.err

    return message


class TestReports:
    def test_the_whole_one_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "r.json").write_text(json.dumps(whole_report()))
        report = Report.from_json(tmp_path / "r.json")
        assert json.loads(json.dumps(as_dict(report))) == whole_report()

    RIGHT: ClassVar[dict[str, set[str]]] = {
        "optimizer": {"null", "text"},
        "x₀": {"minus"},
        "outputs": {"a list"},
        "component_breakdown": {"a table"},
    }

    @pytest.mark.parametrize(("keys", "value"), places(whole_report))
    def test_a_field_of_another_type_or_out_of_range(self, keys: Keys, value: Any, tmp_path: Path) -> None:
        file, right = tmp_path / "given.json", self.RIGHT.get(str(keys[-1]), set())
        for wrong in wrongs(value, right):
            file.write_text(json.dumps(changed(whole_report(), keys, wrong)))
            with pytest.raises(UsageError) as raised:
                Report.from_json(file)
            assert f"given.json is not a complete report: {named(keys)}" in str(raised.value)
            assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(
        "keys",
        [
            *(("convention",), ("model",), ("modules",), ("called",), ("entries",), ("unknown",), ("trainable",)),
            *(("entries", 0, field) for field in ("kind", "path", "op", "target", "work", "rule", "formula")),
            *(("unknown", 0, "why"), ("convention", "weights"), ("entries", 0, "formula", "forward")),
        ],
        ids=named,
    )
    def test_a_field_that_is_missing(self, keys: Keys, refused: Callable[..., str]) -> None:
        data = inner = whole_report()
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        assert f"{named(keys)} is missing" in refused(data)

    @pytest.mark.parametrize(
        ("keys", "wrong", "message"),
        [
            (("entries", 0, "work", "sideways"), {"macs": 1}, "work.sideways is"),
            (("entries", 0, "work", "forward", "mcs"), 1, "work.forward.mcs is not a known key"),
            (("entries", 0, "kind"), "cal", "entries[0].kind is 'cal'"),
            (("entries", 0, "colour"), 1, "entries[0].colour is not a known key"),
            (("entries", 0, "ranges", "middle"), {}, "ranges.middle"),
            (("entries", 0, "target"), "", "entries[0].target is empty"),
            (("entries", 1, "work"), {"forward": {}}, "entries[1].work belongs to an update"),
            (("entries", 0, "outputs"), [[1] * 65], "outputs[0] has 65 members"),
            (("entries", 0, "path"), "a." * 5_000, "entries[0].path is 'a.a."),
            (("entries", 0, "operands", "x"), [2**64], "operands.x[0]"),
            (("entries", 0, "rule"), "x" * 200_000, "entries[0].rule is a text of 200,000"),
            (("entries", 0, "rule"), "\ud800", "not valid Unicode"),
            (("modules",), {"head": "Linear"}, "modules has no module"),
            (("trainable",), ["tail.weight"], "trainable names 'tail.weight'"),
            (("called",), ["tail"], "called names 'tail'"),
            (("rates", "blocks.0"), ["1e999999999"], "rates.blocks.0[0] is '1e999999999'"),
            (("rates", "blocks.0"), ["1/0"], "rates.blocks.0[0]"),
            (("rates", "blocks.0"), ["-1/2"], "rates.blocks.0[0]"),
            (("rates", "blocks.0"), ["3", "2", "1"], "rates.blocks.0 is not a rate"),
            (("rates", "blocks.0"), ["9" * 5_000], "rates.blocks.0[0]"),
            (("routed", "blocks.0"), "1e999999999", "routed.blocks.0"),
            (("routed", "blocks.0"), "3/2", "more than 1"),
            (("convention", "weights", "mcs"), 1, "convention.weights.mcs"),
            (("convention", "weights", "macs"), -1, "convention.weights.macs"),
            (("convention", "counts", 0, "count"), "macs +", "convention.counts[0].count"),
            (("convention", "counts", 0, "count"), "-5", "a count is not negative"),
            (("convention", "phases"), ["forward", "forward"], "convention.phases[1] is a duplicate"),
            (("convention", "causal"), "sparse", "convention.causal"),
            (("convention", "formula"), "6ND", "convention.formula"),
            (("colour",), 1, "colour is not a known key"),
        ],
        ids=lambda case: str(case)[:50],
    )
    def test_values_that_there_are_not(self, keys: Keys, wrong: Any, message: str, refused: Callable[..., str]) -> None:
        assert message in refused(changed(whole_report(), keys, wrong))

    @pytest.mark.parametrize("field", ["entries", "modules", "model"])
    def test_a_field_that_is_there_twice(self, field: str, refused: Callable[..., str]) -> None:
        text = json.dumps(whole_report())
        assert f"{field} is a duplicate key" in refused(text[:-1] + f', "{field}": []' + "}")

    def test_a_count_that_is_there_twice(self, refused: Callable[..., str]) -> None:
        text = json.dumps(whole_report()).replace('"forward": {"macs": 2', '"forward": {"macs": 1, "macs": 2', 1)
        assert "entries[0].work.forward.macs is a duplicate key" in refused(text)

    def test_parts_of_parts_of_parts(self, refused: Callable[..., str]) -> None:
        deep: dict[str, Any] = {"forward": "0", "grads": {}, "sizes": {}, "parts": {}}
        for _ in range(200):
            deep = {**deep, "parts": {"a": deep}}
        assert "nested too deeply" in refused(changed(whole_report(), ("entries", 0, "formula"), deep))

    @pytest.mark.parametrize("share", range(5, 100, 5))
    def test_a_file_that_ends_too_early(self, share: int, refused: Callable[..., str]) -> None:
        text = json.dumps(whole_report())
        assert "given.json" in refused(text[: len(text) * share // 100])

    @pytest.mark.parametrize("command", [("show",), ("explain",), ("explain", "--as", "fvcore")], ids=" ".join)
    def test_every_command_that_reads_one(self, command: tuple[str, ...], refused: Callable[..., str]) -> None:
        data = changed(whole_report(), ("entries", 0, "elements"), -5)
        assert "entries[0].elements is -5, not an integer ≥ 0" in refused(data, "given.json", *command)

    def test_a_comparison_of_two(self, tmp_path: Path, refused: Callable[..., str]) -> None:
        data = changed(whole_report(), ("entries", 0, "elements"), -5)
        file = str(tmp_path / "given.json")
        assert "entries[0].elements is -5" in refused(data, "given.json", "compare", file)


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("read", [Report.from_json, Law.from_json], ids=["report", "law"])
def test_files_that_are_neither_a_report_nor_a_law(text: str, read: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "given.json").write_text(text)
    with pytest.raises(UsageError, match=r"given\.json"):
        read(tmp_path / "given.json")


@pytest.mark.parametrize("content", BYTES.values(), ids=BYTES)
@pytest.mark.parametrize("command", [("show",), ("explain",)], ids=" ".join)
def test_values_that_are_no_text(content: bytes, command: tuple[str, ...], refused: Callable[..., str]) -> None:
    assert "is not JSON" in refused(content, "given.json", *command)


@pytest.mark.parametrize("read", [Report.from_json, Law.from_json, lambda path: convention_named(Path(path))])
@pytest.mark.parametrize("path", ["/dev/zero", "/", "nowhere.json", "a\0b", "x" * 300, "/dev/null/x"])
def test_a_path_that_leads_to_no_file(path: str, read: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphflops.core.codec.MAX_JSON_BYTES", 1 << 20)
    with pytest.raises(UsageError):
        read(path)


class TestLaws:
    def test_the_whole_one_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "law.json").write_text(json.dumps(whole_law()))
        assert json.loads(dumps(Law.from_json(tmp_path / "law.json"))) == whole_law()

    RIGHT: ClassVar[dict[str, set[str]]] = {"coefficient": {"minus"}, "most": {"null"}, "laws": {"a list"}}

    @pytest.mark.parametrize(("keys", "value"), places(whole_law))
    def test_a_field_of_another_type_or_out_of_range(self, keys: Keys, value: Any, tmp_path: Path) -> None:
        file, right = tmp_path / "law.json", self.RIGHT.get(str(keys[-1]), set())
        for wrong in wrongs(value, right):
            file.write_text(json.dumps(changed(whole_law(), keys, wrong)))
            with pytest.raises(UsageError, match=r"law\.json is not a complete law: ") as raised:
                Law.from_json(file)
            assert named(keys) in str(raised.value)

    @pytest.mark.parametrize(
        ("keys", "wrong", "message"),
        [
            (("sizes", "N", "of"), 0, "sizes.N.of is 0"),
            (("sizes", "N", "at"), 3, "sizes.N is wrong: multiples"),
            (("sizes", "2N"), {"of": 1, "at": 1}, "sizes.2N is '2N', not the name"),
            (("laws", 0, 0, "powers"), [["M", 1]], "laws[0] contains 'M'"),
            (("laws", 0, 0, "powers"), [["N", 0]], "laws[0][0].powers[0][1] is 0"),
            (("laws", 0, 0, "powers"), [["N", -1]], "laws[0][0].powers[0][1] is -1"),
            (("laws", 0, 0, "powers"), [["N", 1.5]], "laws[0][0].powers[0][1] is 1.5"),
            (("laws", 0, 0, "powers"), [["N", 10**10]], "laws[0][0].powers[0][1] is 10000000000"),
            (("laws", 0, 0, "powers"), [["N", 1, 0, 0]], "powers[0][2] is 0"),
            (("laws", 0, 0, "powers"), [["N", 1], ["N", 1]], "the same factor twice"),
            (("laws", 0, 0, "powers"), [["N", 16], ["N", 16, 2, 0]], "degree above 16"),
            (("laws", 0, 0, "powers"), [["N", 1, 2]], "powers[0] is"),
            (("laws", 0, 0, "coefficient"), "1e999999999", "laws[0][0].coefficient is '1e999999999'"),
            (("laws", 0, 0, "coefficient"), "1/0", "laws[0][0].coefficient"),
            (("laws", 0, 0, "coefficient"), "1/7", "laws[0] is"),
            (("laws", 0, 0, "coefficient"), -(10**9), "laws[0] is"),
            (("laws", 0), [{"powers": [], "coefficient": 1}] * 2, "laws[0] has the same powers twice"),
            (("terms", 0, 5), 1, "terms[0][5] is 1, and there are 1 laws"),
            (("terms", 0, 5), -1, "terms[0][5] is -1"),
            (("terms", 0, 3), "sideways", "terms[0][3] is 'sideways'"),
            (("terms", 0, 4), "mcs", "terms[0][4] is 'mcs'"),
            (("terms", 0, 4), "elements", "terms[0][4] is 'elements'"),
            (("terms",), whole_law()["terms"] * 2, "terms[1] occurs twice"),
            (("checked",), [{"M": 1}], "checked[0] has not the sizes"),
            (("traces",), "x", "traces is 'x'"),
        ],
        ids=lambda case: str(case)[:50],
    )
    def test_values_that_there_are_not(self, keys: Keys, wrong: Any, message: str, tmp_path: Path) -> None:
        (tmp_path / "law.json").write_text(json.dumps(changed(whole_law(), keys, wrong)))
        with pytest.raises(UsageError, match=r"law\.json is not a complete law: ") as raised:
            Law.from_json(tmp_path / "law.json")
        assert message in str(raised.value)


COUNTED = 'about = "x"\nweights = {}\n[[counts]]\nwhy = "y"\ncount = '
CONVENTION_FILES = {
    "nested lists": "x = " + "[" * 100_000,
    "nested tables": "x = " + "{a=" * 30_000,
    "long keys": "a." * 40_000 + "b = 1",
    "too long": "# no\n" * 100_000,
    "twice": 'about = "x"\nabout = "y"\nweights = {}',
    "NaN": 'about = "x"\nweights = { macs = nan }',
    "infinity": 'about = "x"\nweights = { macs = inf }',
    "negative": 'about = "x"\nweights = { macs = -2 }',
    "fraction": 'about = "x"\nweights = { macs = 2.0 }',
    "truth": 'about = "x"\nweights = { macs = true }',
    "hexadecimal": 'about = "x"\nweights = { macs = 0x' + "f" * 6_000 + " }",
    "decimal": 'about = "x"\nweights = { macs = ' + "9" * 6_000 + " }",
    "misspelt": 'about = "x"\nweights = { mcs = 2 }',
    "a date": "about = 1979-05-27\nweights = {}",
    "weights as a list": 'about = "x"\nweights = [1]',
    "no weights": 'about = "x"',
    "phases as text": 'about = "x"\nweights = {}\nphases = "forward"',
    "a phase of lists": 'about = "x"\nweights = {}\nphases = [["forward"]]',
    "counts as text": 'about = "x"\nweights = {}\ncounts = "1"',
    "counts of numbers": 'about = "x"\nweights = {}\ncounts = [1]',
    "operators as text": COUNTED + '"1"\noperators = "linear"',
    "operators of numbers": COUNTED + '"1"\noperators = [1]',
    "a count that is a number": COUNTED + "1",
    "a count that is negative": COUNTED + '"-5"',
    "a count that is a shape": COUNTED + '"1 if 1 else macs[0]"\nmodules = [1]',
    "a key beside": COUNTED + '"1"\ncolour = "red"',
}
COUNTS = {
    "minus": "-" * 1_900 + "1",
    "many minuses": "-" * 30_000 + "1",
    "a chain": "1" + "+1" * 900,
    "a long chain": "1" + "+1" * 30_000,
    "brackets": "(" * 900 + "1" + ")" * 900,
    "a shape many times": "numel(out*99999999)",
    "two shapes": "numel(out + out)",
    "a number many times a shape": "numel(99999999 * out)",
    "a long number": "9" * 1_500,
    "a long hexadecimal number": "0x" + "f" * 1_500,
    "a product of long numbers": "*".join(["9" * 90] * 15),
    "a power": "10**10**10",
    "a shift": "1 << 99999999",
    "a call": "__import__('os').system('true')",
    "an attribute": "out.__class__",
    "a comprehension": "[x for x in out]",
    "a lambda": "(lambda: 1)()",
    "a walrus": "(x := 1)",
    "an f-string": "f'{out}'",
    "text": "'a' * 9",
    "a float": "1.5",
    "a truth": "True",
    "an ellipsis": "...",
    "a star": "numel(*out)",
    "a keyword": "numel(x=out)",
    "no name": "has(1)",
    "an unknown name": "numel(nothing)",
    "an axis beyond": "out[99]",
    "a negative number": "0 - numel(out)",
    "nothing": "",
    "a zero character": "1\\u0000",
    "a division by zero": "macs // 0",
    "the root of a negative number": "root(0 - macs)",
}


class TestConventions:
    @pytest.mark.parametrize("text", CONVENTION_FILES.values(), ids=CONVENTION_FILES)
    def test_a_file_that_is_wrong(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text(text)
        with pytest.raises(UsageError, match=r"mine\.toml") as raised:
            convention_named(tmp_path / "mine.toml")
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 600

    @pytest.mark.parametrize("content", BYTES.values(), ids=BYTES)
    def test_a_file_that_is_no_text(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_bytes(content)
        with pytest.raises(UsageError, match=r"mine\.toml"):
            convention_named(tmp_path / "mine.toml")

    @pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)
    def test_a_count_that_is_none(self, count: str, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text(f'{COUNTED}"{count}"')
        with pytest.raises(UsageError, match="mine") as raised:
            print(LINEAR.under(tmp_path / "mine.toml").forward)
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 600

    @pytest.mark.parametrize(
        "changes",
        [
            {"weights": {"mcs": 2}},
            {"weights": {"macs": -2}},
            {"weights": {"macs": float("nan")}},
            {"weights": {"macs": float("inf")}},
            {"weights": {"macs": 2.0}},
            {"weights": {"macs": True}},
            {"weights": {1: 2}},
            {"weights": [("macs", 2)]},
            {"weights": None},
            {"phases": ("sideways",)},
            {"phases": "forward"},
            {"causal": "sparse"},
            {"formula": "6ND"},
            {"counts": ("1",)},
            {"counts": "1"},
            {"unit": 5},
            {"name": None},
        ],
        ids=str,
    )
    def test_one_that_is_made_in_python(self, changes: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match=f"^convention .*{next(iter(changes))}"):
            Convention(**{"name": "mine", "about": "x", "weights": {"macs": 2}, **changes})

    @pytest.mark.parametrize("name", [3, None, {}, ("standard",), b"standard", "standrd", ""])
    def test_what_names_none(self, name: Any) -> None:
        with pytest.raises(UsageError, match="there is no convention"):
            convention_named(name)


LINEAR = analyze(nn.Linear(3, 4), (empty(2, 3),))
RATES = {
    "a huge exponent": "1e999999999",
    "a tiny exponent": "1e-999999999",
    "a long number": "9" * 5_000,
    "a long hexadecimal number": "0x" + "f" * 1_900,
    "a long product": "*".join(["9" * 90] * 20),
    "a long denominator": "1/" + "/".join(["9" * 90] * 20),
    "minuses": "-" * 1_900 + "1",
    "many minuses": "-" * 30_000 + "1",
    "a chain": "0" + "+0" * 900,
    "brackets": "(" * 300 + "1" + ")" * 300,
    "a power": "1/10**10**10",
    "a division by zero": "1/0",
    "a division of numbers": "1//0",
    "more than always": "2",
    "negative": "-1/2",
    "falling": "0.8..0.3",
    "four numbers": "0.1..0.2..0.3..0.4",
    "nothing": "",
    "dots": "..",
    "NaN": "nan",
    "a call": "__import__('os').system('true')",
    "text": "'a'",
    "a truth": "True",
    "a complex number": "1j",
    "an average of nothing": "avg_layers_executed=",
    "an average of too many": "avg_layers_executed=5",
}


class TestRates:
    @pytest.mark.parametrize("text", RATES.values(), ids=RATES)
    def test_text_that_is_none(self, text: str) -> None:
        with pytest.raises(UsageError) as raised:
            analyze(nn.Linear(3, 4), (empty(2, 3),), rates={"": text})
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 600

    @pytest.mark.parametrize(
        "number",
        [
            *(None, True, float("nan"), float("inf"), 1j, "x", "1e401", "1e-401", "1/0", "9" * 5_000, b"1", [1]),
            *(10**5_000, Fraction(1, 10**5_000), -1, "-0.5", "1_", "½"),
        ],
        ids=lambda case: str(type(case)),
    )
    def test_a_number_that_is_none(self, number: Any) -> None:
        with pytest.raises(UsageError) as raised:
            Rate(number)
        assert len(str(raised.value)) < 600

    def test_a_number_is_parsed_exactly(self) -> None:
        assert Rate("1e-300").expected == Fraction(1, 10**300)
        assert Rate(0.1).expected == Fraction(1, 10)


class TestLaterUse:
    """A report that was read is one that can be asked anything: the answer is a number or one line."""

    STRANGE: ClassVar[tuple[tuple[Keys, Any], ...]] = (
        (("entries", 0, "target"), "aten"),
        (("entries", 0, "target"), "scaled_dot_product_attention"),
        (("entries", 0, "target"), "aten.scaled_dot_product_attention"),
        (("entries", 0, "target"), "a.SparseMoE"),
        (("entries", 0, "target"), "."),
        (("entries", 0, "target"), "aten.linear"),
        (("entries", 0, "outputs"), []),
        (("entries", 0, "operands"), {}),
        (("entries", 0, "path"), "not.there"),
        (("entries", 0, "path"), ".."),
        (("entries", 0, "work"), {}),
        (("entries", 0, "work", "forward", "macs"), 10**100),
        (("entries", 0, "elements"), 10**100),
        (("entries", 0, "part"), "experts"),
        (("entries",), []),
        (("unknown",), []),
        (("parameters", "head.weight"), 0),
        (("inputs",), {}),
    )

    @pytest.mark.parametrize(("keys", "value"), STRANGE, ids=lambda case: str(case)[:50])
    def test_is_answered(self, keys: Keys, value: Any, tmp_path: Path) -> None:
        (tmp_path / "r.json").write_text(json.dumps(changed(whole_report(), keys, value)))
        report = Report.from_json(tmp_path / "r.json")
        questions: list[Callable[[Report], Any]] = [
            str,
            lambda case: case.explain(),
            lambda case: case.explain("head"),
            *(lambda case, phase=phase: case.by_module_and_operator(phase) for phase in PHASES),
            lambda case: (case.by_component(), case.by_dtype(), case.uncalled_modules(), case.active_parameters),
            lambda case: (case.at_full_rate.total, case.bounds(), case.causal_useful, case.coverage),
            lambda case: case.to_json(tmp_path / "again.json"),
            *(lambda case, name=name: str(case.diff(name)) for name in CONVENTIONS),
        ]
        for ask in questions:
            for variant in (report, report.under("standard")):
                with contextlib.suppress(UsageError):
                    ask(variant)
        for name in CONVENTIONS:
            with contextlib.suppress(UsageError):
                str(report.under(name))
