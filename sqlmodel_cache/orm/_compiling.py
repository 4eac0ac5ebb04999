"""The private names of SQLAlchemy's compiler that this library touches: what a SELECT renders.

A result depends on just what stands in its SQL. So a SELECT is compiled once more, by a compiler
that notes each table, column and function it writes, and every kind of element that it meets: the
ORM's own additions (joins, criteria of single-table inheritance) are in it, and what is not known
is noticed. Checked on 2.0.58 and 2.1.9, as in `_sqlalchemy`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import cache
from itertools import islice
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, Result, Table, exc
from sqlalchemy.engine import ChunkedIteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.visitors import iterate

# Kinds of elements of which it is known what they depend on: their parts, and nothing else.
_KINDS: Final = frozenset({
    "alias", "binary", "bindparam", "case", "cast", "clauselist", "collation", "column",
    "compound_select", "cte", "expression_clauselist", "false", "function", "funcfilter",
    "grouping", "ilike_case_insensitive_operand", "join", "label", "label_reference", "null",
    "over", "scalarselect", "select", "select_statement_grouping", "subquery", "table",
    "textual_label_reference", "true", "tuple", "type_coerce", "typeclause", "unary",
    "withingroup",
})  # fmt: skip
_OPERATORS: Final = (
    "_binary", "_unary_operator", "_unary_modifier", "_unary", "_op_expr", "_expression_clauselist"
)  # fmt: skip
_UNKNOWN_OPERATORS: Final = ("custom_op_binary", "custom_op_unary_operator", "match_op_binary")
_FUNCTIONS: Final = frozenset({
    "abs", "avg", "ceil", "char_length", "coalesce", "concat", "count", "dense_rank",
    "first_value", "floor", "lag", "last_value", "lead", "length", "lower", "ltrim", "max", "min",
    "nullif", "rank", "replace", "round", "row_number", "rtrim", "sum", "trim", "upper",
})  # fmt: skip

# What a Select may have that is no part of this.
_MORE: Final = {
    "_for_update_arg": "it takes locks",
    "_prefixes": "it has a prefix",
    "_suffixes": "it has a suffix",
    "_hints": "it has hints",
    "_statement_hints": "it has hints",
    "_independent_ctes": "it has WITH clauses of its own",
    "_with_context_options": "options of somebody else's compile it",
    "_pre_columns_clause": "it has a syntax extension",
    "_post_select_clause": "it has a syntax extension",
    "_post_criteria_clause": "it has a syntax extension",
    "_post_body_clause": "it has a syntax extension",
    "_params": "it has parameters of its own",
}

Place = tuple[Table, str]  # a column of a table, by its name


class Entity(NamedTuple):
    """One element of the select list; `unique` says how `Result.unique()` compares its values."""

    label: str
    extra: tuple[Any, ...]
    type: Any
    mapper: Any
    unique: tuple[bool, bool, bool]


class Rendered:
    """What a SELECT writes into its SQL.

    Attributes:
        why: why it cannot be told what its result depends on; None if it can.
        answers: it could be told by whoever knows.
        columns: how often each column is used, beside the select list of entities.
        tables: how often each table stands in a FROM; `single`: those that are there plainly.
        outer: some join is an outer one.
    """

    def __init__(self) -> None:
        self.why: str | None = None
        self.columns: Counter[Place] = Counter()
        self.listed: Counter[Place] = Counter()
        self.tables: Counter[Table] = Counter()
        self.single: set[Table] = set()
        self.outer = False
        self.compiled: Any = None
        self.answers = True

    def refuse(self, why: str) -> None:
        """Note a reason; the first one counts."""
        self.why = self.why or why

    @property
    def text(self) -> str:
        """The SQL."""
        return str(self.compiled.string)

    def entities(self) -> list[Entity]:
        """Return the elements of the select list, as a load's result names them."""
        return [
            Entity(
                each._label_name,
                each._extra_entities,
                each.type,
                None if not each.supports_single_entity else each.mapper,
                (each.use_id_for_hash, each._non_hashable_value, each._null_column_type),
            )
            for each in self.compiled.compile_state._entities
        ]

    def types(self) -> dict[str, str]:
        """Return the types of the parameters, with all arguments, by their names in the SQL."""
        return {
            str(name): f"{bind.type!r} {bind.type._static_cache_key}"
            for bind, name in self.compiled.bind_names.items()
        }

    def name_of(self, bind: Any) -> str | None:
        """Return the name in the SQL of a parameter of the statement."""
        for known, name in self.compiled.bind_names.items():
            if known is bind or known.key == bind.key:
                return str(name)
        return None

    def values(self, key: Any, params: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the parameters by their names in the SQL, as they are sent for this `key`.

        Raises sqlalchemy.exc.InvalidRequestError where one is missing.
        """
        values: dict[str, Any] = self.compiled.construct_params(
            params, extracted_parameters=key.bindparams, escape_names=False
        )
        return values


def cache_key_of(statement: Any) -> Any:
    """Return SQLAlchemy's own key of a statement (`key`, `bindparams`), None if it has none."""
    return statement._generate_cache_key()


def loader_options_of(statement: Any) -> Sequence[Any]:
    """Return what `options()` was given."""
    options: Sequence[Any] = statement._with_options
    return options


def plain(column: Any) -> Place | None:
    """Return the table and name of a plain column of a table, None for anything else."""
    if not isinstance(column, Column):
        return None
    bare: Any = column._deannotate()
    table = bare.table
    return (_bare(table), bare.name) if isinstance(table, Table) else None


def _bare(table: Any) -> Table:
    found: Table = table._deannotate()
    return found


def render(statement: Any, dialect: Any, key: Any) -> Rendered:
    """Compile a SELECT for `dialect` and return what it renders."""
    found = Rendered()
    try:
        found.compiled = _recorder(dialect.statement_compiler)(
            dialect, statement, cache_key=key, _noted=found
        )
    except (exc.SQLAlchemyError, NotImplementedError) as error:
        found.refuse(f"it does not compile ({type(error).__name__})")
        found.answers = False
        return found
    for element in iterate(found.compiled.compile_state.statement):
        if hasattr(element, "_compiler_dispatcher"):  # what @compiles made of it is not visited
            found.refuse(f"somebody compiles {type(element).__name__} by himself")
    return found


@cache
def _recorder(compiler: Any) -> Any:
    """Return a subclass of a dialect's compiler that notes what it renders."""

    class Recorder(compiler):  # type: ignore[misc]
        def __init__(self, *args: Any, _noted: Rendered, **kwargs: Any) -> None:
            self.noted = _noted
            self.listing: Any = None
            super().__init__(*args, **kwargs)

        def __getattribute__(self, name: str) -> Any:
            if name.startswith("visit_"):
                _judge(self.noted, name[6:])
            return super().__getattribute__(name)

        def visit_select(self, select_stmt: Any, *args: Any, **kwargs: Any) -> Any:
            for name, why in _MORE.items():
                said = getattr(select_stmt, name, None)
                if said is not None and not (isinstance(said, Sized) and not len(said)):
                    self.noted.refuse(why)
                    self.noted.answers = False
            return super().visit_select(select_stmt, *args, **kwargs)

        def visit_label(self, label: Any, add_to_result_map: Any = None, **kwargs: Any) -> Any:
            if add_to_result_map is not None:
                self.listing = label.element
            return super().visit_label(label, add_to_result_map=add_to_result_map, **kwargs)

        def visit_column(self, column: Any, add_to_result_map: Any = None, **kwargs: Any) -> Any:
            listed = add_to_result_map is not None or column is self.listing
            self.listing = None
            if column.is_literal and (listed or not _is_constant(column.name)):
                self.noted.refuse("it has a column that is a text")
            for place in _places(self.noted, column):
                (self.noted.listed if listed else self.noted.columns)[place] += 1
            return super().visit_column(column, add_to_result_map=add_to_result_map, **kwargs)

        def visit_table(self, table: Any, asfrom: bool = False, **kwargs: Any) -> Any:
            if asfrom and isinstance(table, Table):
                bare = _bare(table)
                self.noted.tables[bare] += 1
                if len(self.stack) == 1 and kwargs.get("enclosing_alias") is None:
                    self.noted.single.add(bare)
            elif asfrom:
                self.noted.refuse("it selects from what is no Table")
            return super().visit_table(table, asfrom=asfrom, **kwargs)

        def visit_join(self, join: Any, *args: Any, **kwargs: Any) -> Any:
            self.noted.outer = self.noted.outer or join.isouter or join.full
            return super().visit_join(join, *args, **kwargs)

        def visit_function(self, func: Any, *args: Any, **kwargs: Any) -> Any:
            if func.name.lower() not in _FUNCTIONS or func.packagenames:
                self.noted.refuse(f"the function {func.name}() may depend on more than rows")
            return super().visit_function(func, *args, **kwargs)

        def visit_cast(self, cast: Any, *args: Any, **kwargs: Any) -> Any:
            if any(getattr(each.type, "timezone", False) for each in (cast, cast.clause)):
                self.noted.refuse("a cast depends on the connection's time zone")
            return super().visit_cast(cast, *args, **kwargs)

    return Recorder


def _judge(noted: Rendered, kind: str) -> None:
    if kind in _KINDS or kind.endswith("_func"):  # of functions the name is judged
        return
    if kind.endswith(_OPERATORS) and kind not in _UNKNOWN_OPERATORS:
        return
    noted.refuse(f"it has an element of kind {kind!r}")


def _places(noted: Rendered, column: ColumnClause[Any]) -> Iterator[Place]:
    """Yield the columns of tables that a column stands for, also through subqueries."""
    for base in () if column.is_literal else column.base_columns:
        place = plain(base)
        if place is not None:
            yield place
        elif isinstance(base, ColumnClause):
            noted.refuse("it has a column that is of no Table")


def _is_constant(text: str) -> bool:
    """Tell whether a literal column is the * of count(*) and EXISTS, or a number."""
    return text == "*" or text.replace(".", "", 1).isdecimal()


# -- results -------------------------------------------------------------------------------------


def rows_metadata(entities: Sequence[Entity]) -> Any:
    """Return what a result of rows with these elements knows of them."""

    def filters(result: Any = None) -> list[Any]:
        if result is not None and result._yield_per:
            raise exc.InvalidRequestError(
                "Can't use the ORM yield_per feature in conjunction with unique()"
            )
        return [_uniqueness(each) for each in entities]

    given: dict[str, Any] = {"_create_unique_filters": filters}  # 2.1
    if "_unique_filters" in SimpleResultMetaData.__slots__:  # 2.0
        given = {"_unique_filters": filters()}
    labels, extra = [each.label for each in entities], [each.extra for each in entities]
    return SimpleResultMetaData(labels, extra, **given)


def _uniqueness(entity: Entity) -> Callable[[Any], Any] | None:
    by_id, unhashable, uncertain = entity.unique
    if by_id:
        return id
    if not (unhashable or uncertain):
        return None

    def refuse(value: Any) -> int:
        if uncertain:
            try:
                return hash(value)
            except TypeError:
                pass
        raise exc.InvalidRequestError(
            f"Can't apply uniqueness to row tuple containing value of type {entity.type!r};"
            " it is not hashable"
        )

    return refuse


def rows_result(metadata: Any, rows: Iterable[Any], *, filtered: bool) -> Result[Any]:
    """Return the result that a load returns that found these tuples."""
    left = iter(rows)

    def chunks(size: int | None) -> Iterator[list[Any]]:
        while chunk := list(islice(left, size)):
            yield chunk

    result: Result[Any] = ChunkedIteratorResult(metadata, chunks)
    result._attributes = result._attributes.union({"filtered": filtered, "is_single_entity": False})
    return result
