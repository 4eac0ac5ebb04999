"""The private names of SQLAlchemy's compiler that this library touches: what a SELECT renders.

A result depends on just what stands in its SQL. So a SELECT is compiled once more, by a compiler
that notes each table, column and function it writes, and every kind of element that it meets: the
ORM's own additions (joins, criteria of single-table inheritance) are in it, and what is not known
is noticed. Checked on 2.0.58 and 2.1.9, as in `_sqlalchemy`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    CTE,
    Alias,
    Column,
    CompoundSelect,
    FromClause,
    ScalarSelect,
    Select,
    SelectBase,
    Subquery,
    Table,
    exc,
)
from sqlalchemy.orm import FromStatement
from sqlalchemy.orm.context import _MapperEntity
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.selectable import SelectStatementGrouping
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
    """One element of the select list.

    `selected` is the mapper or alias that it makes instances of, `path` their load path; both are
    None for a column, which is `column`. `unique` says how `Result.unique()` compares its values.
    """

    label: Any
    extra: tuple[Any, ...]
    type: Any
    selected: Any = None
    path: Any = None
    column: Any = None
    unique: tuple[bool, bool, bool] = (False, False, False)


class Rendered:
    """What a SELECT writes into its SQL.

    Attributes:
        why: why it cannot be told what its result depends on; None if it can.
        answers: it could be told by whoever knows.
        columns: how often each column is used outside of the select list.
        listed: how often in it, where it is no part of an instance.
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
        state = self.compiled.compile_state
        if not hasattr(state, "_entities"):  # a union of columns, which is Core's
            columns = self.compiled._result_columns
            return [Entity(each.keyname, each.objects, each.type) for each in columns]
        return [
            Entity(
                each._label_name,
                each._extra_entities,
                each.type,
                each.entity_zero if isinstance(each, _MapperEntity) else None,
                getattr(each, "path", None),
                getattr(each, "column", None),
                (each.use_id_for_hash, each._non_hashable_value, each._null_column_type),
            )
            for each in state._entities
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


def why_other_rows(statement: Any, selected: Any) -> str | None:
    """Return why what a statement selects may be no rows of a mapper's table; None if it is.

    `selected` is an element's mapper or alias.
    """
    mapper = selected.mapper
    if isinstance(statement, FromStatement):
        if not _selects_rows(statement.element, mapper):
            return "it makes instances of what is no plain select() of them"
        if len(statement._raw_columns) > 1:
            return "it makes several instances of each row of another statement"
    if not selected.is_aliased_class:
        return None
    of = selected.selectable
    others = {mapper, *mapper.with_polymorphic_mappers} ^ {*selected.with_polymorphic_mappers}
    if others - {mapper} or selected._adapt_on_names:
        return "it selects an alias that has other columns than its model"
    if type(of) is Alias and of.element is mapper.local_table is mapper.persist_selectable:
        return None
    if type(of) in (Subquery, CTE) and _selects_rows(of.element, mapper):
        return None
    return "it selects an alias of something else than a table, or than a plain select()"


def _selects_rows(statement: Any, mapper: Any) -> bool:
    """Tell whether a statement is a select() of a mapper's instances, or joins such by UNION."""
    if isinstance(statement, SelectStatementGrouping):
        return _selects_rows(statement.element, mapper)
    if isinstance(statement, CompoundSelect):
        return all(_selects_rows(each, mapper) for each in statement.selects)
    if not isinstance(statement, Select) or statement._with_options:
        return False
    first, *rest = statement._raw_columns
    return (
        not rest
        and isinstance(first, FromClause)
        and first._annotations.get("parententity") is mapper
    )


def places_of(column: Any) -> Iterator[Place]:
    """Yield the columns of tables that an element of a select list is made of.

    Not those of a SELECT in it, which counts them itself.
    """
    pending = [column]
    while pending:
        each = pending.pop()
        if isinstance(each, ColumnClause):
            yield from filter(None, map(plain, () if each.is_literal else each.base_columns))
        elif not isinstance(each, SelectBase | ScalarSelect):
            pending.extend(each.get_children())


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
    entities = found.entities()
    if any(each.selected is not None for each in entities):
        columns = [each.column for each in entities if each.column is not None]
        found.listed = Counter(place for each in columns for place in places_of(each))
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
            _judge_clauses(self.noted, select_stmt)
            return super().visit_select(select_stmt, *args, **kwargs)

        def visit_compound_select(self, cs: Any, *args: Any, **kwargs: Any) -> Any:
            _judge_clauses(self.noted, cs)
            return super().visit_compound_select(cs, *args, **kwargs)

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


def _judge_clauses(noted: Rendered, statement: Any) -> None:
    for name, why in _MORE.items():
        said = getattr(statement, name, None)
        if said is not None and not (isinstance(said, Sized) and not len(said)):
            noted.refuse(why)
            noted.answers = False


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


def table_of(dml: Any) -> Any:
    """Return what a DML changes: of a bulk write to a joined class, one of its tables in turn."""
    name = "_emit_insert_table" if dml.is_insert else "_emit_update_table"
    return dml._annotations.get(name, dml.table)


def ctes_of(compiled: Any) -> list[Any]:
    """Return the elements of the common table expressions in a compiled statement."""
    return [cte.element for cte in (getattr(compiled, "ctes", None) or ())]
